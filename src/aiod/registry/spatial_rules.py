"""Rules for lists with one number for each spatial axis: `halo` and `pixel_size`.

Like all rules they read the document as it was parsed and pass over wrong types.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiod.registry.jsontext import Path
from aiod.registry.problems import Finding
from aiod.words import listing, shown

_FIELDS = frozenset({"halo", "pixel_size"})


def broken_lists(metadata: Any, axes: Any, path: Path) -> Iterator[Finding]:
    """The lists of a version or task at `path` that do not fit its axes."""
    if not isinstance(axes, str):
        return
    spatial = _spatial(axes)
    for field, numbers, below in _lists(metadata):
        if len(numbers) != len(spatial):
            yield Finding(
                (*path, "metadata", *below),
                "spatial-axes",
                f"{len(numbers)} numbers for the {len(spatial)} spatial axes of {shown(axes)}",
                f"{field} with one number for each of {listing(spatial, 'and')}",
            )


def broken_inheritance(document: dict[str, Any]) -> Iterator[Finding]:
    """The lists of a family that do not fit the axes of versions which inherit them."""
    versions = document.get("versions")
    for field, numbers, below in _lists(document.get("metadata")):
        wrong = [
            f"{shown(name)} ({version['axes']})"
            for name, version in (versions.items() if isinstance(versions, dict) else ())
            if _inherits(version, field) and len(numbers) != len(_spatial(version["axes"]))
        ]
        if wrong:
            yield Finding(
                ("metadata", *below),
                "spatial-axes",
                f"{len(numbers)} numbers, inherited by {listing(wrong, 'and')}",
                f"{field} with one number for each spatial axis of every version",
                f"write one number for all axes, or {field} in the metadata of each version",
            )


def _inherits(version: Any, field: str) -> bool:
    """Whether a version has axes, and a task that takes `field` from the family."""
    if not isinstance(version, dict) or not isinstance(version.get("axes"), str):
        return False
    tasks = version.get("tasks")
    return not _gives(version, field) and not all(
        _gives(entry, field) for entry in (tasks.values() if isinstance(tasks, dict) else ())
    )


def _gives(table: Any, field: str) -> bool:
    metadata = table.get("metadata") if isinstance(table, dict) else None
    return isinstance(metadata, dict) and metadata.get(field) is not None


def _spatial(axes: str) -> list[str]:
    return [axis for axis in axes if axis in "ZYX"]


def _lists(metadata: Any) -> Iterator[tuple[str, list[Any], Path]]:
    """The field, the numbers and their path inside the metadata, of each list there is."""
    if not isinstance(metadata, dict) or _FIELDS.isdisjoint(metadata):
        return
    size = metadata.get("pixel_size")
    values: tuple[tuple[str, Any, Path], ...] = (
        ("halo", metadata.get("halo"), ("halo",)),
        (
            "pixel_size",
            size.get("value") if isinstance(size, dict) else None,
            ("pixel_size", "value"),
        ),
    )
    yield from (item for item in values if isinstance(item[1], list))
