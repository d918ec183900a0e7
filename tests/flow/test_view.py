"""What napari is given to show: the image, lazily, and labels that lie exactly on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from aiod.errors import UsageError
from aiod.flow.images.image import open_image
from aiod.flow.record import ImageRecord
from aiod.flow.results import view
from aiod.flow.results.labels import create_labels, finish_labels
from aiod.flow.results.view import layers_of, lazy, shown_images


def made(folder: Path, axes: str, shape: tuple[int, ...], name: str = "cells") -> ImageRecord:
    """An image on disk with labels, as a run leaves them."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 255, shape, np.uint8)
    path = folder / f"{name}.ome.tif"
    size = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(path, pixels, metadata={"axes": axes, **size}, ome=True)
    source = open_image(path).source
    flat = source.axes.replace("C", "")
    labels = create_labels(
        folder / f"{name}.ome.zarr",
        name="nuclei",
        axes=flat,
        shape=tuple(source.sizes[axis] for axis in flat),
        pixel_size=source.pixel_size,
    )
    labels[:] = random.integers(0, 9, labels.shape)
    finish_labels(folder / f"{name}.ome.zarr", "nuclei")
    where = f"{name}.ome.zarr/labels/nuclei"
    return ImageRecord(sample=name, set="nuclei", path=str(path), status="done", labels=where)


def shown(record: ImageRecord, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    image, labels = layers_of([record], folder)
    return image, labels


def test_labels_lie_on_their_image(tmp_path: Path) -> None:
    image, labels = shown(made(tmp_path, "YX", (1500, 40)), tmp_path)
    assert (image["kind"], labels["kind"]) == ("image", "labels")
    one_channel = np.take(image["data"], 0, axis=image["channel_axis"])
    assert one_channel.shape == labels["data"].shape
    assert image["scale"] == labels["scale"] == [1, 1, 0.5, 0.5]
    assert np.array_equal(
        np.squeeze(image["data"].compute()), tifffile.imread(tmp_path / "cells.ome.tif")
    )


def test_channels_are_layers_of_their_own(tmp_path: Path) -> None:
    image, labels = shown(made(tmp_path, "CYX", (3, 30, 40)), tmp_path)
    assert image["data"].shape[image["channel_axis"]] == 3
    assert len(image["name"]) == 3
    assert len(image["scale"]) == labels["data"].ndim


def test_an_image_that_was_moved_leaves_its_labels(tmp_path: Path) -> None:
    record = made(tmp_path, "YX", (30, 40))
    Path(record.path).unlink()
    (labels,) = layers_of([record], tmp_path)
    assert labels["kind"] == "labels"


def test_only_what_is_looked_at_is_read(tmp_path: Path) -> None:
    source = open_image(made(tmp_path, "YX", (3000, 3000)).path).source
    read = []

    def reading(box: Any) -> Any:
        read.append(box.shape)
        return source.read(box)

    from dataclasses import replace

    lazy(replace(source, read=reading))[..., :10, :10].compute()
    assert read == [(1, 1, 1, 1024, 1024)]


def test_of_large_planes_napari_gets_the_pyramid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = made(tmp_path, "TYX", (2, 700, 600))
    _, labels = shown(record, tmp_path)
    assert not labels["multiscale"]
    whole = labels["data"].compute()
    monkeypatch.setattr(view, "_MOST_OF_A_PLANE", 700 * 600 - 1)
    _, labels = shown(record, tmp_path)
    assert labels["multiscale"]
    for number, level in enumerate(labels["data"]):
        assert np.array_equal(level.compute(), whole[..., :: 2**number, :: 2**number])
    assert len(labels["data"]) == 3


def test_which_image_is_asked_where_there_are_several(tmp_path: Path) -> None:
    records = (made(tmp_path, "YX", (9, 9), "a"), made(tmp_path, "YX", (9, 9), "b"))
    assert [image.sample for image in shown_images(records, "b")] == ["b"]
    with pytest.raises(UsageError, match="--sample a or b"):
        shown_images(records, None)
    with pytest.raises(UsageError, match='no image "c"'):
        shown_images(records, "c")
    with pytest.raises(UsageError, match="no labels"):
        shown_images((), None)
