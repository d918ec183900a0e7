"""What to cite for a model, as APA, BibTeX or CSL-JSON.

Sources: the APA Publication Manual (7th edition) for references, the CSL-JSON schema of
citationstyles.org. A name is split at its last word, particles such as "van der" going with the
family name; a name written "Family, Given" is taken as it is. One word, or words of which one
says so (team, university, …), is an organisation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aiod.errors import AiodError, UsageError
from aiod.registry.merge import Model
from aiod.words import family_slug, listing

if TYPE_CHECKING:
    from aiod.registry.catalogue import Registry
    from aiod.registry.metadata import Author

_PARTICLES = frozenset(
    [
        "af",
        "al",
        "da",
        "de",
        "del",
        "della",
        "den",
        "der",
        "di",
        "do",
        "dos",
        "du",
        "la",
        "le",
        "ter",
        "van",
        "von",
        "zu",
        "zur",
    ]
)
_ORGANISATIONS = frozenset(
    [
        "association",
        "collaboration",
        "community",
        "consortium",
        "contributors",
        "developers",
        "foundation",
        "group",
        "initiative",
        "institute",
        "lab",
        "laboratory",
        "network",
        "organization",
        "project",
        "society",
        "team",
        "university",
    ]
)
# BibTeX counts braces, escaped or not, so a brace of the text must not appear as one.
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "{": r"\textbraceleft{}",
    "}": r"\textbraceright{}",
    **{mark: "\\" + mark for mark in "&%$#_"},
}


def citation(
    registry: Registry, models: Model | str | Sequence[Model | str], style: str = "apa"
) -> str:
    """The references of one or several models in one of STYLES, the most important first.

    What several models share is given once. A model without a publication is cited by its
    authors and its home page. Raises AiodError where the manifest names none of these.
    """
    if style not in STYLES:
        raise UsageError(f'There is no citation style "{style}".', hint=f"one of {listing(STYLES)}")
    chosen = [models] if isinstance(models, Model | str) else models
    found = [registry.get(item.id if isinstance(item, Model) else item) for item in chosen]
    return STYLES[style](references(registry, found))


def references(registry: Registry, models: Iterable[Model]) -> list[dict[str, Any]]:
    """The references of models as CSL-JSON items (citationstyles.org), each once."""
    items: list[dict[str, Any]] = []
    for model in models:
        items += [item for item in _references(registry, model) if item not in items]
    keys: set[str] = set()
    complete = []
    for item in items:
        key = _unique(_key(item), keys)
        keys.add(key)
        complete.append({"id": key, **{k: v for k, v in item.items() if v}})
    return complete


def _references(registry: Registry, model: Model) -> list[dict[str, Any]]:
    metadata = registry.metadata_for(model)
    items: list[dict[str, Any]] = [
        {
            "type": "article",
            "title": " ".join(pub.title.split()) or "Untitled",
            "author": _names(pub.authors),
            "issued": {"date-parts": [[pub.year]]} if pub.year else None,
            "DOI": pub.doi,
            "URL": pub.url or (f"https://doi.org/{pub.doi}" if pub.doi else None),
            "note": pub.info,
        }
        for pub in metadata.pubs or ()
    ]
    if not items:
        url = metadata.repo or metadata.url
        if url is None and not metadata.authors:
            raise AiodError(
                f"The manifest of {model.id} names nothing to cite.",
                hint="ask who made it, and add metadata.pubs or metadata.authors",
            )
        items.append(
            {
                "type": "software",
                "title": f"{model.family_name} ({model.version})",
                "author": _names(metadata.authors),
                "URL": url,
            }
        )
    return items


def _apa(items: list[dict[str, Any]]) -> str:
    return "\n\n".join(_apa_item(item) for item in items)


def _apa_item(item: Mapping[str, Any]) -> str:
    names = [_apa_name(name) for name in item.get("author", ())]
    if len(names) > 20:
        people = ", ".join(names[:19]) + ", … " + names[-1]
    elif len(names) > 1:
        people = ", ".join(names[:-1]) + f", & {names[-1]}"
    else:
        people = "".join(names)
    year = f"({_year(item) or 'n.d.'})"
    title = item["title"].rstrip(".")
    if item["type"] == "software":
        title += " [Computer software]"
    title += "" if title.endswith(("?", "!")) else "."
    where = f"https://doi.org/{item['DOI']}" if "DOI" in item else item.get("URL", "")
    head = f"{people} {year}. {title}" if people else f"{title} {year}."
    return f"{head} {where}".strip()


def _apa_name(name: Mapping[str, str]) -> str:
    if "literal" in name:
        return name["literal"]
    parts = re.split(r"\.?\s+|\.(?!-|$)", name["given"])
    initials = " ".join(
        "-".join(f"{p[0]}." for p in part.split("-") if p) for part in parts if part
    )
    return f"{name['family']}, {initials}"


def _bibtex(items: list[dict[str, Any]]) -> str:
    return "\n\n".join(_bibtex_item(item) for item in items)


def _bibtex_item(item: Mapping[str, Any]) -> str:
    authors = " and ".join(
        f"{{{_latex(name['literal'])}}}"
        if "literal" in name
        else f"{_latex(name['family'])}, {_latex(name['given'])}"
        for name in item.get("author", ())
    )
    fields = {
        "title": f"{{{_latex(item['title'])}}}",  # the inner braces keep its capitals
        "author": authors,
        "year": str(_year(item) or ""),
        "doi": _without_braces(item.get("DOI", "")),
        "url": _without_braces(item.get("URL", "")),
        "note": _latex(item.get("note", "")),
    }
    lines = [f"  {key} = {{{value}}}," for key, value in fields.items() if value]
    return "\n".join([f"@misc{{{item['id']},", *lines, "}"])


def _csl(items: list[dict[str, Any]]) -> str:
    return json.dumps(items, indent=2, ensure_ascii=False)


STYLES: Mapping[str, Callable[[list[dict[str, Any]]], str]] = {
    "apa": _apa,
    "bibtex": _bibtex,
    "csl": _csl,
}


def _names(authors: Iterable[Author] | None) -> list[dict[str, str]]:
    return [_name(author.name) for author in authors or () if author.name.strip()]


def _name(text: str) -> dict[str, str]:
    family, comma, given = (part.strip() for part in text.partition(","))
    if comma and given:
        return {"family": family, "given": given}
    words = text.split()
    if len(words) < 2 or not _ORGANISATIONS.isdisjoint(word.lower() for word in words):
        return {"literal": " ".join(words)}
    start = len(words) - 1
    while start > 1 and words[start - 1].lower() in _PARTICLES:
        start -= 1
    return {"family": " ".join(words[start:]), "given": " ".join(words[:start])}


def _year(item: Mapping[str, Any]) -> int | None:
    issued = item.get("issued")
    return issued["date-parts"][0][0] if issued else None


def _key(item: Mapping[str, Any]) -> str:
    first: Mapping[str, str] = next(iter(item.get("author", ())), {})
    who = family_slug(first.get("family", first.get("literal", ""))).replace("_", "")
    issued = item.get("issued")
    year = str(issued["date-parts"][0][0]) if issued else ""
    word = next((w for w in family_slug(item["title"]).split("_") if len(w) > 3), "")
    return f"{who}{year}{word}" or "reference"


def _unique(key: str, taken: set[str]) -> str:
    return next(
        name
        for name in (key, *(f"{key}{n}" for n in range(2, len(taken) + 3)))
        if name not in taken
    )


def _latex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))


def _without_braces(address: str) -> str:
    return address.replace("{", "%7B").replace("}", "%7D").replace("\\", "%5C")
