"""The written forms of identifiers in a manifest: URLs, DOIs, ORCID iDs, SPDX licences, axes.

Each check is a plain function that returns the text it was given or raises PydanticCustomError,
whose message says what is expected. The regular expressions are in the common subset of Rust's,
ECMAScript's and Python's, so that the JSON Schema repeats them to the letter.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Any
from urllib.parse import urlsplit

from pydantic_core import PydanticCustomError

from aiod.words import RESERVED, family_slug, listing, nearest, shown

SCHEMES = ("https", "http", "file")
URL = r"^https?://(\[[0-9A-Fa-f:.]+\]|[^\s\x00-\x1f\x7f/@?#\\:\[\]]+)(:[0-9]{1,5})?([/?#][^\s\x00-\x1f\x7f]*)?$"
DOI = r"^10\.[0-9]{4,9}/[^\s\x00-\x1f\x7f]+$"
ORCID = r"^[0-9]{4}-[0-9]{4}-[0-9]{4}-[0-9]{3}[0-9X]$"
SHA256 = r"^[0-9a-f]{64}$"
EMAIL = r"^[^@\s<>]+@[^@\s<>]+\.[^@\s<>]+$"
GITHUB = r"^[A-Za-z0-9](-?[A-Za-z0-9]){0,38}$"
FAMILY_SLUG = r"^[a-z][a-z0-9_]*$"
VERSION_SLUG = r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9_-])?$"
WORDS = r"[^\s]"
VERSION_NAME = r"^[^/\\\x00-\x1f\x7f]*[^\s/\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]*$"
ARG_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
AXES = r"^[TCZYX]{2,5}$"
AXES_ECMA = r"^(?=.*Y)(?=.*X)(?!.*(.).*\1)[TCZYX]{2,5}$"

# What an editor can tell of a location: no other scheme, no spaces around it. One letter before a
# colon is a Windows drive.
LOCATION_ECMA = r"^(https?://[^\s\x00-\x1f\x7f]+|[Ff][Ii][Ll][Ee]:.*[^\s]|(?![A-Za-z][A-Za-z0-9+.-]+:)[^\s](.*[^\s])?)$"

# Every pattern in words: what `aiod validate` says is expected.
IN_WORDS = {
    URL: "a whole URL without spaces that starts with https:// (or http://)",
    DOI: 'a bare DOI such as "10.1038/s41592-020-01018-x"',
    ORCID: 'a bare ORCID iD such as "0000-0002-1825-0097"',
    SHA256: "a SHA-256 hash: 64 hexadecimal digits, lower case",
    EMAIL: "an e-mail address",
    GITHUB: "a GitHub user name, without @ and URL",
    FAMILY_SLUG: "lower-case letters, digits and _ (first a letter), as it names the runner",
    VERSION_SLUG: "letters, digits, '.', '_' and '-', as it names folders",
    WORDS: "words",
    VERSION_NAME: "a name without slashes and control characters",
    ARG_NAME: "a Python argument name: letters, digits and _",
    AXES: "letters of TCZYX, upper case, Y and X among them",
}

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):")
_URL = re.compile(URL)
# The two common cases, seen at one glance: a web address, an absolute path.
_PLAIN_LOCATION = re.compile(URL + r"|^/[^\s\x00-\x1f\x7f]+$")


def check_location(text: str) -> str:
    """A URL of a known scheme, or a path. One letter before a colon is a Windows drive."""
    if _PLAIN_LOCATION.fullmatch(text):
        return text
    if not text.strip():
        raise PydanticCustomError("empty-location", "an empty text", {"expected": _LOCATION})
    if text != text.strip() or _CONTROL.search(text):
        found = "a control character in it" if _CONTROL.search(text) else "spaces around it"
        raise PydanticCustomError("location", "{found}", {"found": found, "expected": _LOCATION})
    match = _SCHEME.match(text)
    if match is None:
        return text
    scheme = match[1].lower()
    if scheme not in SCHEMES:
        close = nearest(scheme, SCHEMES)
        raise PydanticCustomError(
            "unknown-scheme",
            "{found}",
            {
                "found": f'the unknown scheme "{match[1]}:"',
                "expected": "https://, http://, file:// or a path",
                "hint": f"did you mean {close[0]}://?" if close else None,
            },
        )
    if scheme == "file":
        parts = urlsplit(text)
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise PydanticCustomError(
                "location",
                "a file URL that names no path of this machine",
                {"expected": "file:///absolute/path"},
            )
        return text
    return check_url(text)


_LOCATION = "a URL (https://…) or a path"


def check_url(text: str) -> str:
    """An http(s) URL with a host; no user or password, which would be published with it."""
    if not _URL.fullmatch(text):
        raise PydanticCustomError("url", "not a whole URL", {"expected": IN_WORDS[URL]})
    return text


def check_no_weights(value: bool) -> bool:
    """Only false says something: a model that has weights says where they lie."""
    if value:
        raise PydanticCustomError("choice", "says nothing", {"expected": "false, or no such field"})
    return value


@lru_cache(maxsize=512)  # there are 212 right answers
def check_axes(text: str) -> str:
    """Letters of TCZYX, no repeats, Y and X among them."""
    problem = None
    if not text or set(text) - set("TCZYX"):
        problem = "letters other than T, C, Z, Y and X" if text else "no axes"
    elif len(set(text)) != len(text):
        problem = "a repeated letter"
    elif missing := [axis for axis in "YX" if axis not in text]:
        problem = f"no {listing(missing, 'and no')}"
    if problem:
        upper = text.upper()
        mended = bool(upper) and not set(upper) - set("TCZYX") and len(set(upper)) == len(upper)
        raise PydanticCustomError(
            "axes",
            "{found}",
            {
                "found": problem,
                "expected": IN_WORDS[AXES] + ", each once",
                "hint": f'did you mean "{upper}"?' if mended and upper != text else None,
            },
        )
    return text


def check_orcid(text: str) -> str:
    """An ORCID iD with the right check digit (ISO 7064 MOD 11-2, as orcid.org documents it)."""
    if re.fullmatch(ORCID, text):
        total = 0
        for digit in text.replace("-", "")[:-1]:
            total = (total + int(digit)) * 2
        check = (12 - total % 11) % 11
        if text[-1] == ("X" if check == 10 else str(check)):
            return text
        raise PydanticCustomError(
            "orcid",
            "an ORCID iD whose check digit is wrong",
            {"expected": "the iD as orcid.org shows it", "hint": "compare each digit"},
        )
    bare = re.search(ORCID[1:-1], text)
    raise PydanticCustomError(
        "orcid",
        "not an ORCID iD",
        {"expected": IN_WORDS[ORCID], "hint": f'write "{bare[0]}"' if bare else None},
    )


def check_doi(text: str) -> str:
    """A bare DOI, without resolver and without `doi:`."""
    if re.fullmatch(DOI, text):
        return text
    bare = re.search(DOI[1:-1], text)
    raise PydanticCustomError(
        "doi",
        "not a bare DOI",
        {"expected": IN_WORDS[DOI], "hint": f'write "{bare[0]}"' if bare else None},
    )


def check_licence(text: str) -> str:
    """An SPDX licence expression, spelled as SPDX spells it (https://spdx.org/licenses)."""
    canonical = canonical_licence(text)
    if canonical == text:
        return text
    close = [canonical] if canonical else _licences_like(text)
    raise PydanticCustomError(
        "licence",
        "not an SPDX licence id",
        {
            "expected": "an id of spdx.org/licenses, or LicenseRef-… for a licence of its own",
            "hint": f"did you mean {listing(map(shown, close))}?" if close else None,
        },
    )


def canonical_licence(text: str) -> str | None:
    """The SPDX expression that `text` is but for letter case and spaces; None if it is none."""
    # Imported here: the list of licences is only needed where a manifest names one.
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    for spelled in (text, text.strip().replace(" ", "-")):
        try:
            return canonicalize_license_expression(spelled)
        except (InvalidLicenseExpression, RecursionError, ValueError):
            continue
    return None


# Licences of software and weights in this field: "BSD" is one of these before it is "0BSD".
_COMMON = ("MIT", "BSD-3-Clause", "BSD-2-Clause", "Apache-2.0", "GPL-3.0-or-later",
           "GPL-3.0-only", "LGPL-3.0-or-later", "AGPL-3.0-or-later", "MPL-2.0", "CC-BY-4.0",
           "CC-BY-SA-4.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "CC0-1.0")  # fmt: skip


def _licences_like(text: str) -> list[str]:
    words = text.strip().replace(" ", "-").casefold()
    begins = [name for name in _COMMON if words and name.casefold().startswith(words)]
    return begins[:3] or nearest(words, _COMMON, count=3) or nearest(words, _spdx_ids(), count=3)


@cache
def _spdx_ids() -> tuple[str, ...]:
    try:
        from packaging.licenses._spdx import LICENSES
    except ImportError:  # a private table: without it only the did-you-mean is lost
        return ()
    return tuple(entry["id"] for entry in LICENSES.values())


# Longer than any device's name and without dots: seen at one glance.
_PLAIN_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{4,}")


def check_version_slug(text: str) -> str:
    """A slug that names a folder on every system."""
    if _PLAIN_SLUG.fullmatch(text):
        return text
    if RESERVED.match(text):
        raise PydanticCustomError(
            "slug", "a name that Windows keeps for a device", {"expected": "another name"}
        )
    if not re.fullmatch(VERSION_SLUG, text) or ".." in text:
        raise PydanticCustomError(
            "slug", "not safe as the name of a folder", {"expected": IN_WORDS[VERSION_SLUG]}
        )
    return text


def mended(pattern: str, text: str) -> str | None:
    """What `text`, which does not match `pattern`, was probably meant to be."""
    if pattern == SHA256:
        right = text.strip().lower()
    elif pattern in (FAMILY_SLUG, ARG_NAME):
        right = family_slug(text)
    elif pattern == GITHUB:
        right = text.rstrip("/").rsplit("/", 1)[-1].lstrip("@")
    elif pattern == URL:
        right = f"https://{text}"
    else:
        return None
    return right if re.fullmatch(pattern, right) else None


def is_scalar(value: Any) -> bool:
    """Whether `value` is one of JSON's single values other than null."""
    return isinstance(value, str | int | float)  # a bool is an int
