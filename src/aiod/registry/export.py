"""Writing the registry in the formats of others."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pydantic import AnyUrl, TypeAdapter, ValidationError

from aiod.errors import UsageError
from aiod.files import write_atomically
from aiod.registry.flatten import flattened
from aiod.words import listing

if TYPE_CHECKING:
    from aiod.registry.catalogue import Registry

# What aiod-registry 0.2 knows; it refuses every other key and task.
_AIOD_TASKS = ("mito", "er", "ne", "everything", "nuclei", "cyto", "drop", "boundaries")
_AIOD_PARAMETER = (
    "name",
    "arg_name",
    "value",
    "default",
    "dtype",
    "tooltip",
    "param_type",
    "channel_start",
    "channel_start_label",
)
_ANY_URL: TypeAdapter[Any] = TypeAdapter(AnyUrl | None)
_AIOD_AUTHOR = ("name", "affiliation", "email", "url", "github", "orcid")


@dataclass(frozen=True, slots=True)
class Exported:
    """The files written, and a sentence for each thing that the other format cannot say."""

    files: tuple[Path, ...]
    left_out: tuple[str, ...]


def export(registry: Registry, folder: Path, format: str = "aiod") -> Exported:  # noqa: A002
    """Write every family to `folder`, one file each.

    Raises UsageError for an unknown format, and for a folder of the registry itself, whose
    manifests hold more than another format can say.
    """
    refuse_layer(registry, folder)
    if format not in FORMATS:
        raise UsageError(f'There is no format "{format}".', hint=f"one of {listing(FORMATS)}")
    return FORMATS[format](registry, folder)


def refuse_layer(registry: Registry, folder: Path) -> None:
    """Raise UsageError for a folder in or around which a layer of the registry lies."""
    target = os.path.realpath(folder)
    for layer in registry.layers:
        source = os.path.realpath(layer.folder)
        if target in (source, str(Path(source, "manifests"))):
            raise UsageError(
                f"{folder} is the layer {layer.name}: its manifests would be overwritten.",
                hint="choose another folder",
            )


def _export_aiod(registry: Registry, folder: Path) -> Exported:
    files: list[Path] = []
    left_out: list[str] = []
    for name in registry.families:
        models = []
        for model in registry.family(name).models:
            if not model.needs_weights:
                left_out.append(f"{model.id}: it needs no weights, which the format cannot say")
            elif model.task not in _AIOD_TASKS:
                left_out.append(f'{model.id}: the format has no task "{model.task}"')
            else:
                models.append(model)
        if models:
            document, unsaid = _as_aiod(flattened(registry, name, models))
            left_out += [f"{name}: {sentence}" for sentence in unsaid]
            path = folder / f"{name}.json"
            # The package opens files in the encoding of its machine, whatever that is: ASCII.
            write_atomically(path, json.dumps(document, indent=2) + "\n")
            files.append(path)
    return Exported(tuple(files), tuple(left_out))


FORMATS: Mapping[str, Callable[[Registry, Path], Exported]] = {"aiod": _export_aiod}


def _as_aiod(document: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A manifest for aiod-registry, and what it could not be told."""
    unsaid: dict[str, None] = {}
    written = _given(
        {
            "name": document["name"],
            "short_name": document["short_name"],
            "usage_guide": document.get("usage_guide"),
            "metadata": _metadata(document["metadata"], unsaid),
            "versions": {
                name: _given(
                    {
                        "slug": version["slug"],
                        "axes": version.get("axes"),
                        "tasks": {
                            task: _task(entry, unsaid) for task, entry in version["tasks"].items()
                        },
                    }
                )
                for name, version in document["versions"].items()
            },
            "params": _parameters(document.get("params")),
        }
    )
    return written, list(unsaid)


def _task(entry: dict[str, Any], unsaid: dict[str, None]) -> dict[str, Any]:
    metadata = entry.get("metadata")
    return _given(
        {
            "locations": [
                _picked(item, ("location", "config_path")) for item in entry["locations"]
            ],
            "params": _parameters(entry.get("params")),
            "metadata": _metadata(metadata, unsaid) if metadata else None,
        }
    )


def _parameters(params: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    if params is None:
        return None
    return [{"value": item["value"], **_picked(item, _AIOD_PARAMETER)} for item in params]


def _metadata(metadata: dict[str, Any], unsaid: dict[str, None]) -> dict[str, Any]:
    pubs = []
    for pub in metadata.get("pubs") or ():
        doi = pub.get("doi")
        url = _url(pub.get("url"), unsaid) or (f"https://doi.org/{quote(doi)}" if doi else None)
        if url is None:
            unsaid[f'"{pub["title"]}": the format has no publication without a URL'] = None
            continue
        pubs.append(
            _given(
                {
                    "title": pub["title"],
                    "info": pub.get("info") or "Publication",
                    "url": url,
                    "year": pub.get("year"),
                    "doi": doi,
                    "authors": _authors(pub.get("authors"), unsaid),
                }
            )
        )
    return _given(
        {
            "description": metadata["description"],
            "authors": _authors(metadata.get("authors"), unsaid),
            "pubs": pubs or None,
            "url": _url(metadata.get("url"), unsaid),
            "repo": _url(metadata.get("repo"), unsaid),
        }
    )


def _authors(
    authors: list[dict[str, Any]] | None, unsaid: dict[str, None]
) -> list[dict[str, Any]] | None:
    if not authors:
        return None
    return [
        {
            "affiliation": "",
            **_picked({**author, "url": _url(author.get("url"), unsaid)}, _AIOD_AUTHOR),
        }
        for author in authors
    ]


def _url(url: str | None, unsaid: dict[str, None]) -> str | None:
    """A URL that aiod-registry's own check accepts; the few that only ours does are left out."""
    try:
        _ANY_URL.validate_python(url)
    except ValidationError:
        unsaid[f"{url}: not a URL in the format's eyes"] = None
        return None
    return url


def _picked(item: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: item[key] for key in keys if item.get(key) is not None}


def _given(item: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in item.items() if value is not None}
