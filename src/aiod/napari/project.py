"""All that a window says of a run, in a file that people can read, share and load again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from aiod.errors import UsageError
from aiod.files import read_text, write_atomically
from aiod.flow.protocol import request_from_json, request_to_json
from aiod.flow.request import Request

_MAX_BYTES = 1_000_000
_FORMAT = 1
_MOST_LAYERS = 1000


@dataclass(frozen=True, slots=True)
class Project:
    """A request, the names of the layers it is of (as channels `together`, or each), the cache.

    `cache` is the folder that was typed, or empty.
    """

    request: Request
    layers: Sequence[str] = ()
    together: bool = False
    cache: str = ""


def save_project(path: Path, project: Project) -> None:
    """Write a project. Raises AiodError."""
    request = request_to_json(project.request)
    document: dict[str, Any] = {"aiod project": _FORMAT, "layers": list(project.layers)}
    document["as channels"] = project.together
    if project.cache:
        document["cache"] = project.cache
    document["request"] = {k: value for k, value in request.items() if value not in (None, [])}
    write_atomically(path, yaml.safe_dump(document, sort_keys=False, allow_unicode=True))


def load_project(path: Path) -> Project:
    """The project of a file. Raises AiodError."""
    document = _document(path)
    if document.get("aiod project") != _FORMAT:
        raise UsageError(
            f"{path} is no project of aiod.", hint="choose a file that was saved by this plugin"
        )
    layers = document.get("layers", document.get("layer")) or []
    layers = [layers] if isinstance(layers, str) else layers  # as one layer was saved before
    if not isinstance(layers, list) or len(layers) > _MOST_LAYERS:
        raise UsageError(f"The project {path} cannot be used: its layers are no list of names.")
    cache = document.get("cache", "")
    if not isinstance(cache, str):
        raise UsageError(f"The project {path} cannot be used: its cache is no folder.")
    try:
        request = request_from_json(document.get("request"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "request"
        raise UsageError(f"The project {path} cannot be used: {where}: {first['msg']}.") from error
    together = document.get("as channels") is True
    return Project(request, [str(name) for name in layers], together=together, cache=cache)


def save_parameters(path: Path, values: Mapping[str, Any]) -> None:
    """Write parameters by their argument names. Raises AiodError."""
    write_atomically(path, yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True))


def load_parameters(path: Path) -> dict[str, Any]:
    """Parameters by their argument names. Raises AiodError."""
    return {str(key): value for key, value in _document(path).items()}


def _document(path: Path) -> dict[Any, Any]:
    try:
        document = yaml.safe_load(read_text(path, limit=_MAX_BYTES))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not YAML.", details=[str(error)[:300]]) from error
    if not isinstance(document, dict):
        raise UsageError(f"{path} holds no settings.", hint="choose a file that was saved here")
    return document
