"""Refining labels in memory: scikit-image and brute force are the judges, rules hold for all."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from skimage import morphology, segmentation

import aiod
from aiod.errors import UsageError
from aiod.flow.refine.edit import keep, merge, remove, split
from aiod.flow.refine.operations import OPERATIONS, operate
from aiod.flow.refine.shape import close, dilate, erode, open_
from aiod.flow.steps.calls import form_of

Array = NDArray[Any]
SAMPLES = Path(aiod.__file__).parent / "samples"

small = hnp.arrays(
    np.uint16,
    hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=7),
    elements=st.sampled_from([0, 0, 0, 2, 5, 9]),
)
radii = st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0])


@pytest.fixture(scope="module")
def nuclei() -> Array:
    return np.asarray(tifffile.imread(SAMPLES / "nuclei_2d_truth.ome.tif"))


@pytest.fixture(scope="module")
def stack() -> Array:
    return np.asarray(tifffile.imread(SAMPLES / "nuclei_3d_truth.ome.tif"))[..., :60, :60]


def ball(radius: float, axes: int) -> Array:
    reach = np.arange(-math.floor(radius), math.floor(radius) + 1)
    places = np.meshgrid(*[reach] * axes, indexing="ij")
    return np.sqrt(sum(np.square(place) for place in places)) <= radius


# --- shapes ---------------------------------------------------------------------------------------


@given(small, radii)
def test_background_goes_to_the_nearest_object_and_of_equals_to_the_lowest(
    labels: Array, radius: float
) -> None:
    expected = labels.copy()
    objects = np.argwhere(labels > 0)
    for place in np.argwhere(labels == 0):
        far = np.sqrt(np.square(objects - place).sum(axis=1))
        if len(far) and far.min() <= radius:
            nearest = objects[far == far.min()]
            expected[tuple(place)] = labels[tuple(nearest.T)].min()
    found = dilate(labels, radius=radius)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == labels.dtype


@pytest.mark.parametrize("radius", [1.0, 3.0, 7.5])
def test_real_objects_dilate_as_scikit_image_expands_them(nuclei: Array, radius: float) -> None:
    ours, theirs = dilate(nuclei, radius=radius), segmentation.expand_labels(nuclei, radius)
    np.testing.assert_array_equal(ours > 0, theirs > 0)
    assert np.mean(ours != theirs) < 1e-3  # pixels as near to two objects


@given(small, radii)
def test_each_object_erodes_and_opens_by_itself(labels: Array, radius: float) -> None:
    footprint = ball(radius, labels.ndim)
    for function, oracle in ((erode, morphology.erosion), (open_, morphology.opening)):
        expected = np.zeros_like(labels)
        for number in np.unique(labels[labels > 0]):
            expected[oracle(labels == number, footprint, mode="ignore")] = number
        np.testing.assert_array_equal(function(labels, radius=radius), expected)


@given(small, radii)
def test_each_object_closes_by_itself_over_background_that_has_no_end(
    labels: Array, radius: float
) -> None:
    margin = 2 * math.ceil(radius) + 1
    inner = (slice(margin, -margin),) * labels.ndim
    footprint = ball(radius, labels.ndim)
    found = close(labels, radius=radius)
    np.testing.assert_array_equal(found[labels > 0], labels[labels > 0])
    claims = np.zeros(labels.shape, int)
    for number in np.unique(labels[labels > 0]):
        closed = morphology.closing(np.pad(labels == number, margin), footprint)[inner]
        assert closed[found == number].all()
        claims += closed & (labels == 0)
    np.testing.assert_array_equal(found[labels == 0] > 0, claims[labels == 0] > 0)


@pytest.mark.parametrize("name", ["dilate", "close", "fill_holes"])
@given(labels=small)
@settings(max_examples=40)
def test_what_grows_takes_background_only(name: str, labels: Array) -> None:
    found = operate(name, labels, axes="ZYX"[-labels.ndim :])
    np.testing.assert_array_equal(found[labels > 0], labels[labels > 0])


@pytest.mark.parametrize("name", ["erode", "open"])
@given(labels=small)
@settings(max_examples=40)
def test_what_shrinks_leaves_background(name: str, labels: Array) -> None:
    found = operate(name, labels, axes="ZYX"[-labels.ndim :])
    np.testing.assert_array_equal(found[found > 0], labels[found > 0])


@given(small, radii)
@settings(max_examples=40)
def test_opening_twice_is_opening_once(labels: Array, radius: float) -> None:
    once = open_(labels, radius=radius)
    np.testing.assert_array_equal(open_(once, radius=radius), once)


def test_a_radius_in_micrometres_is_that_many_pixels_of_each_axis(stack: Array) -> None:
    same = {"Z": 0.1, "Y": 0.1, "X": 0.1}
    np.testing.assert_array_equal(
        erode(stack, same, radius=0.3, unit="um"), erode(stack, radius=3.0)
    )
    one = np.zeros((9, 9, 9), np.uint8)
    one[4, 4, 4] = 1
    grown = dilate(one, {"Z": 2.0, "Y": 0.5, "X": 1.0}, radius=2.0, unit="um")
    spans = [np.ptp(places) for places in np.nonzero(grown)]
    assert spans == [2, 8, 4]


def test_a_radius_in_micrometres_needs_the_pixel_size() -> None:
    labels, size = np.ones((3, 3), int), {"X": 1.0}
    with pytest.raises(UsageError, match="not known along Y"):
        dilate(labels, size, radius=1.0, unit="um")
    with pytest.raises(UsageError, match="not known along Y") as caught:
        operate("min_size", labels, axes="YX", pixel_size=size, size=1.0, unit="um")
    assert "layer" in str(caught.value.hint)


# --- the operations -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_has_a_form_with_values_and_a_sentence(name: str) -> None:
    function = OPERATIONS[name].function
    assert (function.__doc__ or "").partition("\n\n")[0].endswith(".")
    assert all(entry.text for entry in form_of(function))


@pytest.mark.parametrize("name", ["fill_holes", "smooth", "clear_border"])
def test_objects_keep_their_numbers_in_the_steps_that_follow_a_model(
    nuclei: Array, name: str
) -> None:
    numbers = np.random.default_rng(0).permutation(int(nuclei.max()) + 1).astype(np.int32)
    numbers = np.where(np.arange(len(numbers)) == 0, 0, numbers + 1)  # no object is background
    labels = np.where(nuclei > 0, numbers[nuclei], 0)
    found = operate(name, labels, axes="YX")
    before = operate(name, nuclei, axes="YX")
    np.testing.assert_array_equal(found, np.where(before > 0, numbers[before], 0))
    there = set(np.unique(found))
    assert there <= set(np.unique(labels))
    overlap = np.unique(found[(found > 0) & (labels > 0)])
    assert there - {0} == set(overlap)


def test_the_first_piece_of_an_object_keeps_its_number() -> None:
    labels = np.array([[5, 0, 5, 2, 0, 2, 0, 5]], np.uint8)
    found = operate("components", labels, axes="YX")
    np.testing.assert_array_equal(found, [[5, 0, 6, 2, 0, 7, 0, 8]])
    assert found.dtype == np.uint8


def test_new_numbers_that_do_not_fit_widen_the_type() -> None:
    labels = np.array([[255, 0, 255]], np.uint8)
    found = operate("components", labels, axes="YX")
    np.testing.assert_array_equal(found, [[255, 0, 256]])


def test_time_points_are_taken_by_themselves() -> None:
    movie = np.zeros((2, 1, 5), int)
    movie[0, 0, 2] = movie[1, 0, :3] = 7
    found = operate("dilate", movie, axes="TYX", radius=1)
    np.testing.assert_array_equal(found[:, 0], [[0, 7, 7, 7, 0], [7, 7, 7, 7, 0]])


@given(hnp.arrays(np.int64, (2, 3, 4), elements=st.sampled_from([0, 3, 8, 2**40])))
def test_relabelled_objects_are_one_to_n_in_all_time_points(labels: Array) -> None:
    found = operate("relabel", labels, axes="TYX")
    expected = segmentation.relabel_sequential(
        np.unique(labels, return_inverse=True)[1].reshape(labels.shape) + int((labels > 0).all())
    )[0]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(operate("relabel", found, axes="TYX"), found)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.ones((3, 3)), "whole numbers"),
        (np.ones((2, 2, 2, 2), int), "4 axes"),
        (np.ones((0, 3), int), "no pixels"),
        (np.array([[-3, 1]]), "number -3"),
    ],
)
def test_what_is_no_labels_is_said_in_a_sentence(labels: Array, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        operate("dilate", labels, axes="YX")


def test_an_unknown_operation_is_told_of_the_others() -> None:
    with pytest.raises(UsageError, match="link_planes"):
        operate("blow_up", np.ones((3, 3), int), axes="YX")


# --- linking --------------------------------------------------------------------------------------


def test_planes_that_overlap_are_one_object(stack: Array) -> None:
    """Planes labelled one by one, with numbers that say nothing, are the solid objects again."""
    stack = stack[3:6]  # where no object begins beside another or ends
    apart = np.stack([np.where(plane > 0, plane + 100 * z, 0) for z, plane in enumerate(stack)])
    found = operate("link_planes", apart, axes="ZYX", overlap=0.05)
    pairs = set(zip(stack.ravel().tolist(), found.ravel().tolist(), strict=True))
    assert len(pairs) == len({one for one, _ in pairs}) == len({other for _, other in pairs})


def test_planes_that_overlap_too_little_stay_apart() -> None:
    labels = np.array([[[1, 1, 1, 0]], [[0, 0, 1, 1]]])
    np.testing.assert_array_equal(
        operate("link_planes", labels, axes="ZYX", overlap=0.25), [[[1, 1, 1, 0]], [[0, 0, 1, 1]]]
    )
    np.testing.assert_array_equal(
        operate("link_planes", labels, axes="ZYX", overlap=0.3), [[[1, 1, 1, 0]], [[0, 0, 2, 2]]]
    )


def test_a_single_plane_cannot_be_linked() -> None:
    with pytest.raises(UsageError, match="no planes"):
        operate("link_planes", np.ones((3, 3), int), axes="YX")


# --- edits ----------------------------------------------------------------------------------------


@given(small, st.sets(st.sampled_from([2, 5, 9]), min_size=1))
def test_what_is_removed_and_what_is_kept_are_the_labels(labels: Array, ids: set[int]) -> None:
    there = ids & set(np.unique(labels).tolist())
    if there != ids:
        with pytest.raises(UsageError, match="no object"):
            remove(labels, ids)
        return
    kept, rest = keep(labels, ids), remove(labels, ids)
    np.testing.assert_array_equal(kept, np.where(np.isin(labels, list(ids)), labels, 0))
    np.testing.assert_array_equal(kept + rest, labels)


@given(small)
def test_merging_changes_no_other_object_and_no_background(labels: Array) -> None:
    there = [number for number in (2, 5, 9) if number in labels]
    if len(there) < 2:
        with pytest.raises(UsageError):
            merge(labels, there)
        return
    found = merge(labels, there[-2:])
    np.testing.assert_array_equal(found, np.where(labels == there[-1], there[-2], labels))


@pytest.mark.parametrize("by", ["shape", "nearest"])
def test_two_cells_that_touch_are_split_at_the_neck(by: Any) -> None:
    y, x = np.ogrid[:40, :70]
    left, right = np.hypot(y - 20, x - 22) < 15, np.hypot(y - 20, x - 46) < 15
    labels = np.where(left | right, 4, 0).astype(np.uint8)
    labels[0, :3] = 9
    found = split(labels, np.array([[20.2, 21.6], [20, 47], [1, 60]]), by=by)
    assert set(np.unique(found)) == {0, 4, 9, 10}
    np.testing.assert_array_equal(found > 0, labels > 0)
    assert found[20, 22] == 4
    assert found[20, 46] == 10
    cut = np.nonzero(np.diff((found[20] == 10).astype(int)))[0]
    assert abs(int(cut[0]) - 34) <= 1
    np.testing.assert_array_equal(found == 9, labels == 9)


@given(small, st.lists(st.tuples(*[st.integers(-1, 7)] * 3), max_size=6), st.booleans())
def test_splitting_keeps_what_is_an_object_and_gives_each_point_a_piece(
    labels: Array, points: list[tuple[int, ...]], nearest: bool
) -> None:
    places = np.array(points, float).reshape(-1, 3)[:, -labels.ndim :]
    inside = {
        tuple(int(i) for i in place)
        for place in places
        if all(0 <= i < n for i, n in zip(place, labels.shape, strict=True))
    }
    owners = [int(labels[place]) for place in inside if labels[place]]
    shared = {number for number in owners if owners.count(number) > 1}
    by: Any = "nearest" if nearest else "shape"
    if not shared:
        with pytest.raises(UsageError, match="nothing to split"):
            split(labels, places, by=by)
        return
    found = split(labels, places, by=by)
    np.testing.assert_array_equal(found > 0, labels > 0)
    untouched = ~np.isin(labels, list(shared))
    np.testing.assert_array_equal(found[untouched], labels[untouched])
    for number, other in itertools.combinations([p for p in inside if labels[p] in shared], 2):
        assert found[number] != found[other]
    for piece in np.unique(found[found > 0]):
        assert len(np.unique(labels[found == piece])) == 1


def test_numbers_of_pieces_are_new_in_the_order_of_the_points() -> None:
    labels = np.full((1, 9), 3, np.uint8)
    found = split(labels, np.array([[0, 8], [0, 0], [0, 4]]), by="nearest")
    assert found[0, [8, 0, 4]].tolist() == [3, 4, 5]
