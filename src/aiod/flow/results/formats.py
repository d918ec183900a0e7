"""Labels in the format that a file's name asks for."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from aiod.errors import UsageError
from aiod.flow.results.export import write_csv, write_geojson, write_tiff
from aiod.flow.results.labels import create_labels, finish_labels
from aiod.flow.results.objects import measure_objects
from aiod.flow.results.pyramid import write_box
from aiod.flow.source import Box, Source
from aiod.flow.tiling import Plan
from aiod.words import listing, shown

_BLOCK = 1024


def write_labels(
    labels: Source, path: Path, *, name: str = "labels", image: Source | None = None
) -> None:
    """Write labels whole or not at all, in the format that the end of `path` names.

    `.tif` is an OME-TIFF and `.zarr` an OME-Zarr that holds the labels called `name`; `.geojson`
    and `.csv` list the objects, with the mean of the pixels of `image` (of the same axes and sizes,
    C may come on top) where there is one. `labels` has axes of TZYX and unsigned integers.

    Raises UsageError for another end, which lists those there are, AiodError where the file cannot
    be written or an OME-Zarr has such labels already.
    """
    writers = [write for ending, write in FORMATS.items() if path.name.lower().endswith(ending)]
    if not writers:
        raise UsageError(
            f"{shown(path.name)} does not say in which format labels are to be saved.",
            hint=f"let the name end in {listing(FORMATS)}",
        )
    writers[0](labels, path, name, image)


def _tiff(labels: Source, path: Path, name: str, image: Source | None) -> None:  # noqa: ARG001
    most = max(int(labels.read(box).max(initial=0)) for box in _boxes(labels, (_BLOCK, _BLOCK)))
    write_tiff(labels, path, most=most)


def _zarr(labels: Source, path: Path, name: str, image: Source | None) -> None:  # noqa: ARG001
    slug = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:100] or "labels"
    level = create_labels(
        path,
        name=slug,
        axes=labels.axes,
        shape=labels.shape,
        dtype=labels.dtype,
        pixel_size=labels.pixel_size,
    )
    for box in _boxes(labels, level.chunks):
        write_box(level, box, labels.read(box))
    finish_labels(path, slug)


def _geojson(labels: Source, path: Path, name: str, image: Source | None) -> None:
    write_geojson(labels, measure_objects(labels, image), path, sample=name)


def _csv(labels: Source, path: Path, name: str, image: Source | None) -> None:
    write_csv(measure_objects(labels, image), path, sample=name)


def _boxes(labels: Source, block: tuple[int, ...]) -> list[Box]:
    """Boxes that cover labels, of a block in the last axes and of one plane in the others."""
    tile = (*(1,) * (len(labels.shape) - len(block)), *block)
    return [found.core for found in Plan(labels.shape, tile, (0,) * len(tile))]


FORMATS: dict[str, Callable[[Source, Path, str, Source | None], None]] = {
    ".tif": _tiff,
    ".tiff": _tiff,
    ".zarr": _zarr,
    ".geojson": _geojson,
    ".csv": _csv,
}
"""How labels are written, by the end of the file's name."""
