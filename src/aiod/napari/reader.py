"""Reads the run folders of aiod, and nothing else, as an image with its labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiod.errors import AiodError
from aiod.flow.record import FILE_NAME, read_record
from aiod.flow.results.view import layers_of, shown_images

LayerData = tuple[Any, dict[str, Any], str]


def reader_for(path: str | list[str]) -> Callable[[Any], list[LayerData]] | None:
    """What reads a run, None for everything else."""
    if isinstance(path, list):
        return None
    place = Path(path)
    if place.name != FILE_NAME and not (place / FILE_NAME).is_file():
        return None
    try:
        read_record(place)
    except AiodError:
        return None
    return _read


def _read(path: str) -> list[LayerData]:
    """The layers of every image of a run."""
    place = Path(path)
    record = read_record(place)
    folder = place if place.is_dir() else place.parent
    layers: list[LayerData] = []
    for sample in dict.fromkeys(image.sample for image in record.images if image.labels):
        for layer in layers_of(shown_images(record.images, sample), folder):
            kind, data = layer.pop("kind"), layer.pop("data")
            layers.append((data, layer, kind))
    return layers
