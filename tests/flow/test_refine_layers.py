"""Several label images put together, and objects chosen by what is measured of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from skimage.measure import regionprops
from skimage.segmentation import expand_labels

import aiod
from aiod.errors import UsageError
from aiod.flow.refine.combine import differences, union, vote
from aiod.flow.refine.operations import COMBINATIONS
from aiod.flow.refine.properties import PROPERTIES, measured
from aiod.flow.steps.calls import form_of

Array = NDArray[Any]
SAMPLES = Path(aiod.__file__).parent / "samples"

layers = hnp.arrays(np.uint8, (3, 4, 6), elements=st.sampled_from([0, 0, 1, 2, 3])).map(list)
overlaps = st.sampled_from([0.1, 0.5, 0.9])


@pytest.fixture(scope="module")
def nuclei() -> Array:
    return np.asarray(tifffile.imread(SAMPLES / "nuclei_2d_truth.ome.tif"))


# --- combining ------------------------------------------------------------------------------------


def one_to_one(one: Array, other: Array) -> bool:
    """Whether two label images are the same but for their numbers."""
    pairs = set(zip(one.ravel().tolist(), other.ravel().tolist(), strict=True))
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


@given(layers, overlaps)
def test_a_union_is_wherever_any_layer_has_an_object(found: list[Array], overlap: float) -> None:
    result = union(found, overlap=overlap)
    np.testing.assert_array_equal(result > 0, np.any(np.stack(found) > 0, axis=0))
    np.testing.assert_array_equal(np.unique(result[result > 0]), np.arange(1, result.max() + 1))


@given(layers, overlaps, st.integers(1, 3))
def test_a_pixel_with_enough_votes_is_an_object_in_so_many_layers(
    found: list[Array], overlap: float, votes: int
) -> None:
    result = vote(found, votes=votes, overlap=overlap)
    assert ((np.stack(found) > 0).sum(axis=0)[result > 0] >= votes).all()


@given(layers, overlaps)
def test_objects_of_one_layer_are_never_merged(found: list[Array], overlap: float) -> None:
    """What all layers have of an object is of one object in each of them."""
    result = vote(found, votes=3, overlap=overlap)
    for number in range(1, int(result.max()) + 1):
        for layer in found:
            assert len(np.unique(layer[result == number])) == 1


@pytest.mark.parametrize("votes", [1, 2, 3])
def test_layers_that_agree_are_what_they_agree_on(nuclei: Array, votes: int) -> None:
    other = np.where(nuclei > 0, nuclei.max() + 1 - nuclei, 0)
    assert one_to_one(vote([nuclei, other, nuclei], votes=votes), nuclei)
    assert not differences([nuclei, other, nuclei]).any()


def test_what_most_layers_have_outvotes_one_that_merged(nuclei: Array) -> None:
    merged = nuclei.copy()
    touching = expand_labels(nuclei, 2)
    merged[merged == 2] = 1
    merged[merged == 4] = 0
    assert touching.any()
    assert one_to_one(vote([merged, nuclei, nuclei], votes=2), nuclei)


def test_differences_say_of_what_kind_they_are() -> None:
    one = np.array([[1, 1, 1, 1, 0, 2, 2, 2, 2, 0, 4]])
    two = np.array([[5, 5, 5, 0, 0, 6, 6, 7, 7, 0, 0]])
    found = differences([one, two], overlap=0.5)
    np.testing.assert_array_equal(found, [[0, 0, 0, 1, 0, 0, 0, 2, 2, 0, 1]])


@pytest.mark.parametrize("name", COMBINATIONS)
def test_layers_that_do_not_fit_are_told_so(name: str) -> None:
    combine = COMBINATIONS[name]
    one = np.ones((3, 3), int)
    with pytest.raises(UsageError, match="1 layer"):
        combine([one])
    with pytest.raises(UsageError, match="differ in size"):
        combine([one, np.ones((3, 4), int)])
    assert all(entry.text for entry in form_of(combine))


def test_more_votes_than_layers_cannot_be_had() -> None:
    with pytest.raises(UsageError, match="3 votes"):
        vote([np.ones((3, 3), int)] * 2, votes=3)


# --- properties -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROPERTIES)
def test_properties_are_those_of_scikit_image(nuclei: Array, name: Any) -> None:
    image = np.random.default_rng(0).normal(size=nuclei.shape)
    found = measured(nuclei, {"Y": 0.5, "X": 0.5}, image, property=name)
    formulas: dict[str, Callable[[Any], float]] = {
        "size": lambda region: region.area,
        "diameter": lambda region: region.equivalent_diameter_area,
        "length": lambda region: region.axis_major_length,
        "elongation": lambda region: region.axis_major_length / region.axis_minor_length,
        "roundness": lambda region: 4 * math.pi * region.area / region.perimeter**2,
    }
    regions = regionprops(nuclei, image, spacing=(0.5, 0.5))
    formula = formulas.get(name, attrgetter(name))
    expected = [formula(region) for region in regions]
    np.testing.assert_allclose(found.values, expected)
    np.testing.assert_array_equal(found.ids, np.unique(nuclei[nuclei > 0]))


def test_units_are_those_of_the_pixel_size() -> None:
    labels = np.ones((2, 3, 4), np.uint8)
    size = {"Z": 2.0, "Y": 0.5, "X": 0.5}
    assert (measured(labels, size).values[0], measured(labels, size).unit) == (12.0, "µm³")
    assert (measured(labels, {"Y": 0.5}).values[0], measured(labels).unit) == (24.0, "px")
    assert measured(labels, size, property="length").unit == "µm"
    assert measured(labels, size, property="extent").unit == ""


def test_what_cannot_be_measured_is_neither_within_nor_outside() -> None:
    labels = np.zeros((9, 9), int)
    labels[0, 0], labels[3:8, 3:8] = 1, 2
    found = measured(labels, property="roundness")
    assert math.isnan(found.values[0])
    assert found.within(minimum=0, maximum=100).tolist() == [2]
    assert found.outside(minimum=50, maximum=100).tolist() == [2]


def test_no_object_has_no_property() -> None:
    assert len(measured(np.zeros((3, 3), int)).ids) == 0


@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        ((3, 3, 3), {"property": "elongation"}, "three dimensions"),
        ((3, 3), {"property": "intensity_mean"}, "needs an image"),
        ((3, 3), {"property": "intensity_mean", "image": np.ones((2, 2))}, "differ in size"),
        ((3, 3), {"property": "roundness", "pixel_size": {"Y": 1.0, "X": 2.0}}, "square pixels"),
    ],
)
def test_a_property_that_labels_do_not_have_is_said_in_a_sentence(
    shape: tuple[int, ...], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        measured(np.ones(shape, int), **options)
