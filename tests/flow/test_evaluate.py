"""How right labels are: the figures of StarDist, MONAI's distances, the definitions by hand."""

from __future__ import annotations

import math
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from scipy import ndimage
from skimage.metrics import hausdorff_distance
from skimage.segmentation import expand_labels

import aiod
from aiod.flow.results.evaluate import (
    THRESHOLDS,
    evaluate_instances,
    evaluate_semantic,
    partners,
)
from aiod.flow.results.overlaps import EvaluationError
from aiod.flow.source import Box, Source

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from stardist.matching import matching

Array = NDArray[Any]
SAMPLES = Path(aiod.__file__).parent / "samples"

small_labels = npst.arrays(np.int32, (6, 7), elements=st.integers(0, 5))


def source(array: Array, axes: str, **pixel_size: float) -> Source:
    return Source(axes, array.shape, array.dtype, lambda box: array[box.slices], pixel_size)


def check_against_stardist(labels: Array, truth: Array) -> None:
    ours = evaluate_instances(labels, truth)
    assert [item.iou for item in ours.matchings] == list(THRESHOLDS)
    for item in ours.matchings:
        theirs = matching(truth, labels, thresh=item.iou)
        assert (item.matched, item.extra, item.missed) == (theirs.tp, theirs.fp, theirs.fn)
        assert (ours.objects, ours.true_objects) == (theirs.n_pred, theirs.n_true)
        if item.empty:
            continue
        assert item.precision == pytest.approx(theirs.precision)
        assert item.recall == pytest.approx(theirs.recall)
        assert item.f1 == pytest.approx(theirs.f1)
        assert item.ap == pytest.approx(theirs.accuracy)
        # StarDist keeps overlaps as 32-bit floats.
        assert item.mean_iou == pytest.approx(theirs.mean_matched_score, abs=1e-6)
        assert item.pq == pytest.approx(theirs.panoptic_quality, abs=1e-6)


# --- objects --------------------------------------------------------------------------------------


@given(small_labels, small_labels)
@settings(max_examples=150, deadline=None)
def test_figures_are_those_of_stardist(labels: Array, truth: Array) -> None:
    check_against_stardist(labels, truth)


@given(small_labels, st.integers(0, 3), st.integers(0, 2))
@settings(max_examples=100, deadline=None)
def test_figures_of_labels_that_nearly_fit_are_those_of_stardist(
    truth: Array, axis: int, shift: int
) -> None:
    blocks = np.kron(truth, np.ones((3, 4), np.int32))
    check_against_stardist(np.roll(blocks, shift, axis % 2), blocks)


@given(npst.arrays(np.int32, (2, 2, 6, 7), elements=st.integers(0, 4)), st.sampled_from([0.5, 0.8]))
def test_partners_of_each_time_point_are_the_matched_and_all_others_are_extra_or_missed(
    pair: Array, iou: float
) -> None:
    labels, truth = pair[0][:, None], pair[1][:, None]
    times = partners(labels, truth, iou=iou)
    assert len(times) == 2
    for one, other, found in zip(labels, truth, times, strict=True):
        assert sorted([*found.ours, *found.extra]) == np.unique(one[one > 0]).tolist()
        assert sorted([*found.theirs, *found.missed]) == np.unique(other[other > 0]).tolist()
        for ours, theirs, value in zip(found.ours, found.theirs, found.iou, strict=True):
            both, either = (one == ours) & (other == theirs), (one == ours) | (other == theirs)
            assert value == both.sum() / either.sum() >= iou
        (matching,) = (item for item in evaluate_instances(one, other).matchings if item.iou == iou)
        assert (len(found.extra), len(found.missed)) == (matching.extra, matching.missed)


def test_partners_below_one_half_would_be_ambiguous() -> None:
    with pytest.raises(ValueError, match="several partners"):
        partners(np.ones((2, 2), int), np.ones((2, 2), int), iou=0.3)


@pytest.mark.parametrize("name", ["nuclei_2d", "nuclei_3d"])
@pytest.mark.parametrize("distance", [1, 2, 4])
def test_figures_of_real_masks_are_those_of_stardist(name: str, distance: int) -> None:
    truth = tifffile.imread(SAMPLES / f"{name}_truth.ome.tif").astype(np.int32)
    labels = expand_labels(truth, distance)
    labels[labels % 7 == 3] = 0
    labels[labels % 11 == 5] += 1  # two objects become one
    check_against_stardist(labels, truth)


def test_two_halves_are_one_match_and_one_extra() -> None:
    truth = np.array([[1, 1, 1, 1, 0, 2, 2]])
    labels = np.array([[5, 5, 6, 6, 0, 7, 7]])
    check_against_stardist(labels, truth)
    scores = evaluate_instances(labels, truth)
    assert (scores.matchings[0].matched, scores.matchings[0].extra) == (2, 1)
    check_against_stardist(truth, labels)


def test_a_worked_example() -> None:
    truth = np.zeros((10, 30), np.uint8)
    truth[:, 0:10], truth[:, 10:20], truth[:, 20:30] = 1, 2, 3
    labels = np.zeros_like(truth)
    labels[:, 0:10] = 9  # IoU 1
    labels[:, 10:17] = 8  # IoU 0.7
    labels[:, 26:30] = 7  # IoU 0.4
    scores = evaluate_instances(labels, truth)
    by_iou = {item.iou: item for item in scores.matchings}
    assert (by_iou[0.7].matched, by_iou[0.75].matched) == (2, 1)
    assert by_iou[0.5].precision == by_iou[0.5].recall == by_iou[0.5].f1 == pytest.approx(2 / 3)
    assert by_iou[0.5].ap == pytest.approx(2 / 4)
    assert scores.sq == pytest.approx(0.85)
    assert scores.rq == pytest.approx(2 / 3)
    assert scores.pq == pytest.approx(0.85 * 2 / 3)
    assert scores.mean_ap == pytest.approx((5 * 2 / 4 + 5 * 1 / 5) / 10)
    assert scores.mean_f1 == pytest.approx((5 * 2 / 3 + 5 * 1 / 3) / 10)


@given(small_labels)
def test_labels_fit_themselves_whatever_their_numbers(labels: Array) -> None:
    labels[0, 0] = 1
    other = np.where(labels > 0, 2**63 + labels.astype(np.uint64), 0).astype(np.uint64)
    scores = evaluate_instances(labels, other)
    assert scores.mean_ap == scores.pq == scores.mean_f1 == 1.0


def test_nothing_and_nothing_is_not_measured() -> None:
    scores = evaluate_instances(np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8))
    assert (scores.objects, scores.true_objects) == (0, 0)
    assert math.isnan(scores.mean_ap)
    assert math.isnan(scores.pq)


@pytest.mark.parametrize("swap", [False, True])
def test_nothing_and_something_is_nought(swap: bool) -> None:
    pair = [np.zeros((4, 4), np.uint8), np.eye(4, dtype=np.uint8)]
    scores = evaluate_instances(*(pair[::-1] if swap else pair))
    assert scores.mean_ap == scores.pq == scores.matchings[0].f1 == 0
    assert scores.matchings[0].precision == scores.matchings[0].recall == 0


def test_a_number_is_another_object_at_another_time() -> None:
    truth = np.zeros((2, 4, 4), np.uint8)
    truth[0, :2], truth[1, 2:] = 1, 1
    labels = truth.copy()
    labels[1] *= 2
    scores = evaluate_instances(source(labels, "TYX"), source(truth, "TYX"))
    assert (scores.objects, scores.true_objects, scores.mean_ap) == (2, 2, 1.0)
    volume = evaluate_instances(labels, truth)
    assert (volume.objects, volume.true_objects) == (2, 1)


def test_axes_of_one_pixel_and_names_of_axes_are_no_matter() -> None:
    labels = np.arange(24, dtype=np.uint16).reshape(1, 2, 3, 4)
    scores = evaluate_instances(source(labels, "TZYX"), source(labels[0], "TYX"))
    assert scores.mean_ap == 1.0


def test_images_larger_than_a_block_are_read_in_parts_and_by_several_threads() -> None:
    rng = np.random.default_rng(0)
    truth = expand_labels(ndimage.label(rng.random((2100, 1300)) > 0.999)[0], 8)
    labels = np.roll(truth, 1, axis=0)
    largest = [0]

    def read(box: Box) -> Array:
        part: Array = labels[box.slices]
        largest[0] = max(largest[0], part.size)
        return part

    parts = Source("YX", labels.shape, labels.dtype, read)
    with ThreadPoolExecutor(2) as pool:
        scores = evaluate_instances(parts, truth, mapper=pool.map)
    assert largest[0] <= 1024 * 1024
    theirs = matching(truth, labels, thresh=0.7)
    assert scores.matchings[4].matched == theirs.tp > 100
    assert scores.matchings[4].pq == pytest.approx(theirs.panoptic_quality, abs=1e-5)


def test_a_hundred_thousand_objects_are_a_matter_of_seconds() -> None:
    side, count = 12, 330
    square = np.zeros((side, side), np.uint32)
    square[1:-1, 1:-1] = 1
    numbers = np.arange(1, count * count + 1, dtype=np.uint32).reshape(count, count)
    truth = np.kron(numbers, square)
    labels = np.roll(truth, 1, axis=1)
    scores = evaluate_instances(labels, truth)
    assert scores.objects == scores.matchings[0].matched == count * count
    assert scores.sq == pytest.approx(90 / 110)


# --- classes --------------------------------------------------------------------------------------


def edges(mask: Array) -> Array:
    """As MONAI's `get_mask_edges`."""
    found: Array = mask ^ ndimage.binary_erosion(mask)
    return found


def surface_distances(mask: Array, other: Array, spacing: Any) -> Array:
    """As MONAI's `get_surface_distance`: by a distance transform of the whole image."""
    away = ndimage.distance_transform_edt(~edges(other), sampling=spacing)
    found: Array = away[edges(mask)]
    return found


@given(
    npst.arrays(np.uint8, (9, 8), elements=st.integers(0, 2)),
    npst.arrays(np.uint8, (9, 8), elements=st.integers(0, 2)),
)
@settings(deadline=None)
def test_classes_are_compared_as_the_definitions_say(labels: Array, truth: Array) -> None:
    for item in evaluate_semantic(labels, truth):
        ours, theirs = labels == item.number, truth == item.number
        both = (ours & theirs).sum()
        assert item.dice == pytest.approx(2 * both / (ours.sum() + theirs.sum()))
        assert item.iou == pytest.approx(both / (ours | theirs).sum())
        assert (item.pixels, item.true_pixels) == (ours.sum(), theirs.sum())
        if not ours.any() or not theirs.any():
            assert math.isnan(item.hausdorff)
            assert math.isnan(item.hausdorff_95)
            continue
        assert item.hausdorff == pytest.approx(hausdorff_distance(edges(ours), edges(theirs)))
        there, back = (surface_distances(*pair, 1) for pair in ((ours, theirs), (theirs, ours)))
        assert item.hausdorff_95 == pytest.approx(
            max(np.percentile(there, 95), np.percentile(back, 95))
        )
        assert item.unit == "pixels"


def test_distances_are_micrometres_where_the_pixel_size_is_known() -> None:
    rng = np.random.default_rng(0)
    truth = (ndimage.gaussian_filter(rng.normal(size=(12, 40, 50)), 2) > 0.02).astype(np.uint8)
    labels = ndimage.binary_dilation(truth).astype(np.uint8)
    size = {"Z": 2.0, "Y": 0.5, "X": 0.25}
    (item,) = evaluate_semantic(source(labels, "ZYX", **size), truth)
    assert item.unit == "µm"
    pairs = [(labels > 0, truth > 0), (truth > 0, labels > 0)]
    there, back = (surface_distances(*pair, [2.0, 0.5, 0.25]) for pair in pairs)
    assert item.hausdorff == pytest.approx(max(there.max(), back.max()))
    assert item.hausdorff_95 == pytest.approx(
        max(np.percentile(there, 95), np.percentile(back, 95))
    )
    (other,) = evaluate_semantic(labels, source(truth, "ZYX", **size))
    assert other == item
    (half_known,) = evaluate_semantic(source(labels, "ZYX", Y=0.5, X=0.25), truth)
    assert half_known.unit == "pixels"


def test_outlines_do_not_stop_at_blocks() -> None:
    truth = np.zeros((1100, 1100), np.uint8)
    truth[100:1090, 20:1080] = 1
    labels = np.zeros_like(truth)
    labels[100:1090, 20:1060] = 1
    (item,) = evaluate_semantic(labels, truth)
    assert item.hausdorff == 20
    assert evaluate_semantic(truth, truth)[0].hausdorff == 0


def test_distances_are_taken_within_a_time_point() -> None:
    truth = np.zeros((2, 20, 20), np.uint8)
    truth[0, 2, 2], truth[1, 15, 15] = 1, 1
    labels = truth.copy()
    labels[1] = np.roll(labels[1], 3, axis=1)
    (item,) = evaluate_semantic(source(labels, "TYX"), source(truth, "TYX"))
    assert item.hausdorff == 3
    labels[1] = 0
    (item,) = evaluate_semantic(source(labels, "TYX"), source(truth, "TYX"))
    assert math.isnan(item.hausdorff)
    assert item.dice == pytest.approx(2 / 3)


def test_no_class_at_all_is_nothing_to_measure() -> None:
    assert evaluate_semantic(np.zeros((3, 3), np.uint8), np.zeros((3, 3), np.uint8)) == ()


# --- what cannot be compared ----------------------------------------------------------------------


def refused(labels: Any, truth: Any, *, semantic: bool = False) -> str:
    evaluate: Any = evaluate_semantic if semantic else evaluate_instances
    with pytest.raises(EvaluationError) as caught:
        evaluate(labels, truth)
    assert caught.value.hint
    return str(caught.value)


ONE = np.ones((4, 5), np.uint8)


def test_another_size_is_said_with_both() -> None:
    words = refused(ONE, ONE.T)
    assert "4 × 5 pixels (axes YX)" in words
    assert "5 × 4 pixels (axes YX)" in words


@pytest.mark.parametrize("dtype", [np.float32, np.bool_, np.complex64])
def test_numbers_that_are_no_labels(dtype: Any) -> None:
    assert "whole numbers" in refused(ONE.astype(dtype), ONE)
    assert "truth" in refused(ONE, ONE.astype(dtype))


def test_negative_numbers_are_no_labels() -> None:
    assert "-1" in refused(-ONE.astype(np.int16), ONE)


def test_images_without_pixels_and_lines_are_no_images() -> None:
    assert "no pixels" in refused(ONE[:0], ONE[:0])
    assert "1 axis" in refused(ONE[0], ONE[0])


def test_objects_are_not_taken_for_classes() -> None:
    many = np.arange(400, dtype=np.uint16).reshape(20, 20)
    assert "look like objects" in refused(many, many, semantic=True)
