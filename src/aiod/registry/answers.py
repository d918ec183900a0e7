"""Answers as people give them, in the form that a manifest wants."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from aiod.registry import forms
from aiod.registry.locations import Place, resolve
from aiod.registry.translation import say

_ASK_SECONDS = 15.0


def as_written(field: str, answer: str) -> str:
    """The same answer without what is around it: a DOI out of its URL, axes in upper case.

    >>> as_written("doi", "https://doi.org/10.1234/abc"), as_written("axes", "zyx")
    ('10.1234/abc', 'ZYX')
    """
    text = answer.strip()
    if field == "axes":
        return text.upper()
    if field in ("doi", "orcid"):
        bare = re.search((forms.DOI if field == "doi" else forms.ORCID)[1:-1], text)
        return bare[0] if bare else text
    if field in ("code", "weights"):
        return forms.canonical_licence(text) or text
    return text


def wrong_answer(model: type[BaseModel], field: str, value: Any) -> str | None:
    """What is wrong with a value for one field of the schema, in words; None if nothing is."""
    info: Any = model.model_fields[field]
    annotated: Any = Annotated[info.annotation, info]
    adapter: TypeAdapter[Any] = TypeAdapter(annotated)
    try:
        adapter.validate_python(value, strict=True)
    except ValidationError as error:
        return say(error.errors(include_url=False)[0])
    return None


def from_here(answer: str, layer: Path) -> str:
    """A path that was typed in the current folder, as it is written in a manifest of `layer`.

    Relative to the manifest if it lies in the layer, else absolute. A path that is right from the
    manifest already, a URL, and a path that is nowhere stay as they are.
    """
    manifests = layer / "manifests"
    place = resolve(answer, manifests)
    if place.path is None or Path(answer).is_absolute() or place.path.exists():
        return answer
    here = Path(answer).absolute()
    if not here.exists():
        return answer
    if here.is_relative_to(layer.absolute()):
        return Path(os.path.relpath(here, manifests.absolute())).as_posix()
    return str(here)


def why_silent(place: Place) -> str | None:
    """Why a server does not give the file of a URL; None for a path, and where it does."""
    from aiod.registry.links import Link, check
    from aiod.registry.settings import offline

    if place.url is None or offline():
        return None
    (answer,) = check([Link(place.url, "weights", ())], seconds=_ASK_SECONDS)
    return None if answer.good else f"{place.url}: {answer.note}"
