"""Labels in the format that a name asks for: each is read again and holds the same."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from shapely.geometry import shape

from aiod.errors import AiodError, UsageError
from aiod.flow.results.formats import FORMATS, write_labels
from aiod.flow.results.labels import open_labels
from aiod.flow.source import Box, Source


@pytest.fixture
def labels() -> NDArray[Any]:
    found = np.zeros((2, 3, 40, 1100), np.uint32)
    found[0, 0, 5:10, 1020:1030] = 3
    found[1, 1:, 20:30, 5:9] = 70_000
    return found


def source(pixels: NDArray[Any], axes: str = "TZYX") -> Source:
    size = {"Z": 2.0, "Y": 0.5, "X": 0.5}
    return Source(axes, pixels.shape, pixels.dtype, lambda box: pixels[box.slices], size)


@pytest.mark.parametrize("file", ["labels.tif", "labels.TIFF", "labels.ome.zarr"])
def test_pixels_and_their_size_are_read_again(
    tmp_path: Path, labels: NDArray[Any], file: str
) -> None:
    write_labels(source(labels), tmp_path / file, name="my nuclei (2)")
    found = open_labels(tmp_path / file).source
    np.testing.assert_array_equal(found.read(Box.whole(found.shape)), labels)
    assert found.axes == "TZYX"
    assert found.pixel_size == {"Z": 2.0, "Y": 0.5, "X": 0.5}


def test_objects_are_listed_with_what_the_image_says_of_them(
    tmp_path: Path, labels: NDArray[Any]
) -> None:
    image = source(labels.astype(np.float32) * 2)
    write_labels(source(labels), tmp_path / "a.csv", name="nuclei", image=image)
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["id"] for row in rows] == ["3", "70000"]
    assert float(rows[1]["volume_um3"]) == 80 * 0.5
    assert [float(row["mean_intensity"]) for row in rows] == [6, 140_000]
    assert rows[0]["sample"] == "nuclei"


def test_polygons_are_the_objects(tmp_path: Path, labels: NDArray[Any]) -> None:
    write_labels(source(labels), tmp_path / "a.geojson")
    features = json.loads((tmp_path / "a.geojson").read_text())["features"]
    assert [shape(feature["geometry"]).area for feature in features] == [50, 40, 40]


def test_another_ending_is_told_which_there_are(tmp_path: Path, labels: NDArray[Any]) -> None:
    with pytest.raises(UsageError, match=r"labels\.jpg") as caught:
        write_labels(source(labels), tmp_path / "labels.jpg")
    assert all(ending in str(caught.value.hint) for ending in FORMATS)
    assert not list(tmp_path.iterdir())


def test_labels_that_are_there_already_are_not_replaced(
    tmp_path: Path, labels: NDArray[Any]
) -> None:
    write_labels(source(labels), tmp_path / "a.ome.zarr", name="nuclei")
    with pytest.raises(AiodError, match="already"):
        write_labels(source(labels), tmp_path / "a.ome.zarr", name="nuclei")
    write_labels(source(labels), tmp_path / "a.ome.zarr", name="cells")
    assert open_labels(tmp_path / "a.ome.zarr", name="nuclei").name == "nuclei"
