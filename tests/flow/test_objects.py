"""Objects measured box by box are those of the whole image, as scikit-image measures them."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.measure import regionprops

from aiod.flow.results.objects import Objects, measure_objects
from aiod.flow.source import Box, Source
from aiod.flow.tiling import Plan

Array = NDArray[Any]


def source_of(array: Array, axes: str, **pixel_size: float) -> Source:
    return Source(axes, array.shape, array.dtype, lambda box: array[box.slices], pixel_size)


def blobs(shape: tuple[int, ...], seed: int = 0, most: int = 12) -> Array:
    """Random boxes that overlap and lie in pieces: harder than any cell."""
    random = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint32)
    for number in random.permutation(most) + 1:
        start = [random.integers(0, n) for n in shape]
        labels[tuple(slice(a, a + random.integers(1, 9)) for a in start)] = number
    return labels


def assert_is_what_regionprops_finds(found: Objects, labels: Array, image: Array | None) -> None:
    light = None if image is None else np.moveaxis(image, 0, -1)
    expected = regionprops(labels.astype(np.int64), light)
    d = labels.ndim
    assert found.ids.tolist() == [p.label for p in expected]
    assert found.count.tolist() == [p.area for p in expected]
    assert found.start.tolist() == [list(p.bbox[:d]) for p in expected]
    assert found.stop.tolist() == [list(p.bbox[d:]) for p in expected]
    np.testing.assert_allclose(
        found.centroid, np.reshape([p.centroid for p in expected], (-1, d)), rtol=1e-14
    )
    if image is not None:
        np.testing.assert_allclose(
            np.stack(list(found.means.values()), axis=1),
            np.reshape([p.intensity_mean for p in expected], (-1, len(image))),
            rtol=1e-14,
        )


@given(
    seed=st.integers(0, 10_000),
    shape=st.one_of(st.tuples(*[st.integers(1, 30)] * 2), st.tuples(*[st.integers(2, 14)] * 3)),
    tile=st.integers(1, 17),
)
@settings(deadline=None)
def test_whatever_the_tiles_the_measures_are_those_of_the_whole(
    seed: int, shape: tuple[int, ...], tile: int
) -> None:
    labels = blobs(shape, seed)
    image = np.random.default_rng(seed).integers(0, 65536, (2, *shape)).astype(np.uint16)
    axes = "ZYX"[-len(shape) :]
    plan = Plan(shape, (tile,) * len(shape), (2,) * len(shape))
    found = measure_objects(
        source_of(labels, axes), source_of(image, f"C{axes}"), boxes=[t.core for t in plan]
    )
    assert_is_what_regionprops_finds(found, labels, image)


def test_where_the_channel_axis_lies_between_others() -> None:
    labels = blobs((2, 3, 12, 10))
    image = np.random.default_rng(1).integers(0, 255, (2, 2, 3, 12, 10)).astype(np.uint8)
    found = measure_objects(source_of(labels, "TZYX"), source_of(image, "TCZYX"))
    for t in range(2):
        one = np.flatnonzero(found.frames["T"] == t)
        expected = regionprops(labels[t].astype(np.int64), np.moveaxis(image[t], 0, -1))
        assert found.ids[one].tolist() == [p.label for p in expected]
        np.testing.assert_allclose(
            found.means["intensity_2"][one], [p.intensity_mean[1] for p in expected]
        )


def test_planes_that_are_apart_have_objects_of_their_own() -> None:
    labels = np.zeros((3, 6, 6), np.uint32)
    labels[:, 1:3, 1:4] = 5
    found = measure_objects(source_of(labels, "ZYX"), planes_apart=True)
    assert found.axes == "YX"
    assert found.frames["Z"].tolist() == [0, 1, 2]
    assert found.ids.tolist() == [5, 5, 5]
    assert found.count.tolist() == [6, 6, 6]
    assert list(found.columns())[:3] == ["id", "z", "area_px"]


def test_one_plane_has_areas_and_no_volumes() -> None:
    found = measure_objects(source_of(blobs((1, 1, 9, 9)), "TZYX", Z=2.0, Y=0.5, X=0.5))
    assert list(found.columns())[:4] == ["id", "t", "z", "area_um2"]


def test_columns_are_in_physical_units_where_they_are_known() -> None:
    labels = np.zeros((2, 4, 5), np.uint32)
    labels[:, 1:3, 2:5] = 9
    known = measure_objects(source_of(labels, "ZYX", Z=2.0, Y=0.5, X=0.5)).columns()
    assert {name: column.tolist() for name, column in known.items()} == {
        "id": [9],
        "volume_um3": [6.0],
        "centroid_z_um": [1.0],
        "centroid_y_um": [0.75],
        "centroid_x_um": [1.5],
        "bbox_min_z_um": [0.0],
        "bbox_min_y_um": [0.5],
        "bbox_min_x_um": [1.0],
        "bbox_max_z_um": [4.0],
        "bbox_max_y_um": [1.5],
        "bbox_max_x_um": [2.5],
    }
    half = measure_objects(source_of(labels, "ZYX", Y=0.5, X=0.5)).columns()
    assert list(half)[1:4] == ["volume_px", "centroid_z_px", "centroid_y_um"]


def test_two_channels_of_one_name_stay_two_columns() -> None:
    labels, image = blobs((8, 8)), np.ones((3, 8, 8), np.float32)
    found = measure_objects(
        source_of(labels, "YX"), source_of(image, "CYX"), channels=("DAPI", "DAPI", "")
    )
    assert list(found.means) == ["intensity_DAPI", "intensity_DAPI_2", "intensity_3"]


def test_no_objects_are_an_empty_table() -> None:
    labels, image = np.zeros((1, 9, 9), np.uint32), np.ones((1, 9, 9))
    found = measure_objects(source_of(labels, "TYX"), source_of(image, "TYX"))
    assert len(found) == 0
    assert all(len(column) == 0 for column in found.columns().values())


def test_an_image_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        measure_objects(source_of(blobs((8, 8)), "YX"), source_of(np.ones((8, 9)), "YX"))


@pytest.mark.parametrize("number", [2**31 + 5, 2**40])
def test_ids_may_be_as_large_as_the_labels_allow(number: int) -> None:
    labels = np.zeros((5, 5), np.uint64)
    labels[1, 1:4] = number
    labels[3, 3] = number - 1
    found = measure_objects(source_of(labels, "YX"))
    assert found.ids.tolist() == [number - 1, number]
    assert found.count.tolist() == [1, 3]
    filled = measure_objects(source_of(labels[1:2, 1:4], "YX"))
    assert filled.ids.tolist() == [number]


def test_boxes_may_be_measured_in_parallel() -> None:
    labels = blobs((40, 50), most=60)
    with ThreadPoolExecutor(2) as pool:
        boxes = [tile.core for tile in Plan((40, 50), (7, 9), (0, 0))]
        found = measure_objects(source_of(labels, "YX"), boxes=boxes, mapper=pool.map)
    assert_is_what_regionprops_finds(found, labels, None)


def test_a_hundred_and_fifty_thousand_objects() -> None:
    side = 388
    labels = np.kron(
        np.arange(1, side * side + 1, dtype=np.uint32).reshape(side, side),
        np.ones((5, 5), np.uint32),
    )
    found = measure_objects(source_of(labels, "YX"))
    assert len(found) == side * side > 150_000
    assert set(found.count.tolist()) == {25}
    assert found.centroid[-1].tolist() == [side * 5 - 3, side * 5 - 3]


def test_the_table_can_cross_to_another_process() -> None:
    found = measure_objects(source_of(blobs((9, 9)), "YX"))
    assert pickle.loads(pickle.dumps(found)).ids.tolist() == found.ids.tolist()


def test_a_box_is_read_once() -> None:
    labels, reads = blobs((20, 20)), []

    def read(box: Box) -> Array:
        reads.append(box)
        return labels[box.slices]

    boxes = [tile.core for tile in Plan((20, 20), (10, 10), (0, 0))]
    measure_objects(Source("YX", (20, 20), labels.dtype, read), boxes=boxes)
    assert reads == boxes
