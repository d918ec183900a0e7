"""Small pure helpers for names and sentences."""

from __future__ import annotations

import difflib
import json
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

# Characters that a terminal obeys instead of showing: C0 and C1 controls, and the marks that break
# or reorder text. Whatever comes from a manifest or a server passes through `printable` first.
_UNPRINTABLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    """`text` with control characters, reordering marks and lone surrogates written as ``\\uXXXX``.

    Tabs and line breaks stay.

    >>> printable("red \\x1b[31mtext")
    'red \\\\u001b[31mtext'
    """
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def shown(value: Any) -> str:
    """A value as it stands in a JSON file, shortened; of a list or an object only the kind.

    >>> shown("a"), shown(True), shown([1, 2])
    ('"a"', 'true', 'a list')
    """
    if isinstance(value, dict | list):
        kind = "object" if isinstance(value, dict) else "list"
        return f"an empty {kind}" if not value else "an object" if kind == "object" else "a list"
    if isinstance(value, str) and len(value) > 60:
        value = value[:57] + "…"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 70 else text[:67] + "…"


def nearest(word: str, candidates: Iterable[str], count: int = 1) -> list[str]:
    """The `count` candidates most like `word`, best first; letter case is no difference.

    >>> nearest("Nuclie", ["cyto", "nuclei"])
    ['nuclei']
    """
    return list(_nearest(word, tuple(candidates), count)) if len(word) <= 200 else []


@lru_cache(maxsize=1024)
def _nearest(word: str, candidates: tuple[str, ...], count: int) -> tuple[str, ...]:
    folded: dict[str, str] = {}
    for candidate in candidates:
        folded.setdefault(candidate.casefold(), candidate)
    close = difflib.get_close_matches(word.casefold(), folded, n=count, cutoff=0.6)
    return tuple(folded[match] for match in close)


def listing(words: Iterable[str], conjunction: str = "or") -> str:
    """Words as a person lists them.

    >>> listing(["a", "b", "c"])
    'a, b or c'
    """
    *rest, last = list(words) or ["nothing"]
    return f"{', '.join(rest)} {conjunction} {last}" if rest else last


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun.

    >>> counted(1, "model"), counted(3, "family", "families")
    ('1 model', '3 families')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def ordinal(number: int) -> str:
    """1 -> '1st', 2 -> '2nd', 11 -> '11th'."""
    suffix = (
        "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    )
    return f"{number}{suffix}"


def byte_size(count: int) -> str:
    """A number of bytes for people, in powers of 1000.

    >>> byte_size(26_600_000)
    '26.6 MB'
    """
    if count < 1000:
        return f"{count} B"
    size = float(count)
    for unit in ("kB", "MB", "GB", "TB"):
        size /= 1000
        if size < 999.95 or unit == "TB":
            break
    return f"{size:.1f} {unit}"


def duration(seconds: float) -> str:
    """A time for people who wait, in one unit.

    >>> [duration(seconds) for seconds in (0.3, 99, 100, 3 * 3600, 5e5)]
    ['1 s', '99 s', '2 min', '3 h', '6 days']
    """
    for unit, size, most in (("s", 1, 100), ("min", 60, 100), ("h", 3600, 72)):
        if seconds < most * size:
            return f"{max(1, round(seconds / size))} {unit}"
    return f"{round(seconds / 86400)} days"


def _ascii(name: str) -> str:
    if not name.isascii():
        name = name.replace("µ", "u").replace("μ", "u")  # U+00B5 and U+03BC, as in µm
        name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return name.lower()


def family_slug(name: str) -> str:
    """The `short_name` that a family's name stands for: a Python identifier, or ''.

    >>> family_slug("Cellpose-SAM")
    'cellpose_sam'
    """
    return re.sub(r"[^a-z0-9]+", "_", _ascii(name)).strip("_")


@lru_cache(maxsize=4096)  # each name is asked for by the rules, by the index and by lists
def version_slug(name: str) -> str:
    """The slug that a version's name stands for: safe as a file name on every system, or ''.

    >>> version_slug("MitoNet Mini v1")
    'mitonet_mini_v1'
    """
    slug = _UNSAFE.sub("_", _ascii(name)).strip("_.-")
    return "" if ".." in slug or RESERVED.match(slug) else slug


_UNSAFE = re.compile(r"[^a-z0-9._-]+")

# Device names that Windows refuses as file names, whatever the extension.
RESERVED = re.compile(r"(?i)^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?$")
