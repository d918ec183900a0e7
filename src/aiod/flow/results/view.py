"""Looking at a run in napari: the image, lazily, and its labels on top."""

from __future__ import annotations

import contextlib
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from aiod.errors import AiodError, UsageError
from aiod.flow.images.image import Image, open_image
from aiod.flow.record import ImageRecord, read_record
from aiod.flow.results.labels import Labels, open_labels, smaller_levels
from aiod.flow.source import Box, Pixels, Source
from aiod.words import listing

_BLOCK = 1024
_MOST_OF_A_PLANE = 1 << 24
"""Pixels of a plane that napari may read and draw at once; of a larger one it gets the pyramid."""


def view_run(path: Path, sample: str | None = None) -> None:
    """Open napari on one image of a run; returns when its window is closed.

    Raises UsageError where napari is not installed or there is no such image.
    """
    record = read_record(path)
    folder = path if path.is_dir() else path.parent
    images = shown_images(record.images, sample)
    try:
        import napari
        import napari.qt  # which napari alone can do without, and a window cannot

        viewer = napari.Viewer(title=f"aiod: {images[0].sample}")
    except ImportError as error:  # napari itself, or the window system it needs
        picture = images[0].outputs.get("overlay")
        raise UsageError(
            "napari is not installed here, so there is no window to open.",
            details=[f"a picture of the result: {folder / picture}"] if picture else None,
            hint='pip install "napari[all]"',
        ) from error
    for layer in layers_of(images, folder):
        getattr(viewer, f"add_{layer.pop('kind')}")(**layer)
    napari.run()


def shown_images(images: tuple[ImageRecord, ...], sample: str | None) -> list[ImageRecord]:
    """The label images of one sample: the one that is named, or the only one.

    Raises UsageError, which lists the samples.
    """
    with_labels = [image for image in images if image.labels]
    names = list(dict.fromkeys(image.sample for image in with_labels))
    if not names:
        raise UsageError("The run has no labels to look at.")
    if sample is None and len(names) > 1:
        raise UsageError("The run has several images.", hint=f"--sample {listing(names)}")
    if sample is not None and sample not in names:
        raise UsageError(f'The run has no image "{sample}".', hint=f"one of {listing(names)}")
    return [image for image in with_labels if image.sample == (sample or names[0])]


def layers_of(images: list[ImageRecord], folder: Path) -> list[dict[str, Any]]:
    """What napari is to show: `kind` (image, labels) and the keywords of `add_<kind>`."""
    layers: list[dict[str, Any]] = []
    first = images[0]
    try:
        image = open_image(first.path)
    except AiodError:
        image = None  # it was moved since; its labels can be looked at all the same
    if image is not None:
        layers.append(_image_layer(image, first.sample))
    for each in images:
        opened = open_labels(folder / str(each.labels))
        levels = lazy_levels(opened)
        several = len(levels) > 1
        data = {"data": levels if several else levels[0], "multiscale": several}
        layers.append({"kind": "labels", "name": each.set} | data | _place(opened.source))
    return layers


def is_large(shape: tuple[int, ...]) -> bool:
    """Whether the planes of labels are more than napari may draw at once."""
    return math.prod(shape[-2:]) > _MOST_OF_A_PLANE


def lazy_levels(labels: Labels) -> list[Any]:
    """Labels as a lazy array, followed by the smaller ones of their pyramid if planes are large."""
    levels = [labels.source]
    if is_large(labels.source.shape):
        with contextlib.suppress(AiodError):  # the first can be looked at without the others
            levels += smaller_levels(labels)
    return [lazy(level) for level in levels]


def lazy(source: Source) -> Any:
    """A dask array that reads blocks of a source when they are looked at."""
    import dask.array

    size = {"Y": _BLOCK, "X": _BLOCK}
    chunks = tuple(min(n, size.get(axis, 1)) for axis, n in source.sizes.items())
    blocks = dask.array.core.normalize_chunks(chunks, source.shape)
    return dask.array.map_blocks(
        partial(_block, source), chunks=blocks, dtype=source.dtype, meta=np.empty(0, source.dtype)
    )


def _image_layer(image: Image, name: str) -> dict[str, Any]:
    source = image.source
    layer: dict[str, Any] = {"kind": "image", "data": lazy(source), "name": name} | _place(source)
    at = source.axes.find("C")
    if image.rgb:
        import dask.array

        layer |= {"data": dask.array.moveaxis(layer["data"], at, -1), "rgb": True}
    elif at >= 0:
        names = [each or f"{name} {index + 1}" for index, each in enumerate(image.channel_names)]
        layer |= {"channel_axis": at, "name": names}
    return layer


def _place(source: Source) -> dict[str, Any]:
    """How the axes but C lie in napari, which tells time from depth by their names."""
    axes = source.axes.replace("C", "")
    return {
        "scale": [source.pixel_size.get(axis, 1.0) for axis in axes],
        "units": ["micrometer" if axis in source.pixel_size else "pixel" for axis in axes],
        "axis_labels": list(axes.lower()),
    }


def _block(source: Source, block_info: Any = None) -> Pixels:
    ranges = block_info[None]["array-location"]
    return source.read(Box(tuple(a for a, _ in ranges), tuple(b for _, b in ranges)))
