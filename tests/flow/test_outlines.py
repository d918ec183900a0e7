"""Polygons along the edges of pixels: valid, and exactly the mask again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from aiod.flow.results.outlines import Polygon, edges_of, joined, polygons_of

Array = NDArray[Any]


def outlines(labels: Array) -> dict[int, list[Polygon]]:
    return dict(polygons_of(edges_of(np.pad(labels, 1))))


def shape_of(polygons: list[Polygon]) -> Any:
    return shapely.MultiPolygon([(p[0], p[1:]) for p in polygons])


def rasterised(found: dict[int, list[Polygon]], shape: tuple[int, int]) -> Array:
    """The labels again, by what shapely says of the middle of every pixel."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    labels = np.zeros(shape, np.uint32)
    for number, polygons in found.items():
        labels[shapely.contains_xy(shape_of(polygons), x, y)] = number
    return labels


RING = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]])
CORNERS = np.array([[1, 0], [0, 1]])
TWO_HOLES_AT_A_CORNER = np.pad(np.array([[0, 1], [1, 0]]), 1, constant_values=1)
BAY = np.array([[1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 0]])
ISLAND = np.pad(np.pad(np.pad(np.array([[1]]), 1), 1, constant_values=1), 1)


@given(
    hnp.arrays(
        np.uint32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
        elements=st.integers(0, 3),
    )
)
@example(RING)
@example(CORNERS)
@example(TWO_HOLES_AT_A_CORNER)
@example(BAY)
@example(ISLAND)
@settings(deadline=None, max_examples=300)
def test_polygons_are_valid_and_give_back_the_mask(labels: Array) -> None:
    found = outlines(labels)
    assert list(found) == [n for n in np.unique(labels) if n]
    for number, polygons in found.items():
        shape = shape_of(polygons)
        assert shape.is_valid, shapely.is_valid_reason(shape)
        assert shape.area == np.sum(labels == number)
        for outer, *holes in polygons:
            assert shapely.LinearRing(outer).is_ccw  # as numbers go: y up
            assert all(not shapely.LinearRing(hole).is_ccw for hole in holes)
    np.testing.assert_array_equal(rasterised(found, labels.shape), labels)


def test_straight_sides_have_no_points_between_their_ends() -> None:
    assert outlines(np.full((40, 60), 3)) == {3: [[[(0, 0), (60, 0), (60, 40), (0, 40), (0, 0)]]]}


@pytest.mark.parametrize(
    ("labels", "parts", "holes"),
    [
        (RING, 1, 1),
        (CORNERS, 2, 0),
        (TWO_HOLES_AT_A_CORNER, 1, 2),
        (BAY, 1, 1),
        (ISLAND, 2, 1),
    ],
)
def test_parts_share_edges_and_holes_are_whole(labels: Array, parts: int, holes: int) -> None:
    (polygons,) = outlines(labels).values()
    assert len(polygons) == parts
    assert sum(len(polygon) - 1 for polygon in polygons) == holes


@given(cut_y=st.integers(1, 19), cut_x=st.integers(1, 19), seed=st.integers(0, 99))
@settings(deadline=None)
def test_edges_may_be_gathered_block_by_block(cut_y: int, cut_x: int, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 3, (20, 20)).repeat(2, 0).repeat(2, 1)
    padded = np.pad(labels, 1)
    parts = [
        edges_of(padded[y0 : y1 + 2, x0 : x1 + 2], y=y0, x=x0)
        for y0, y1 in ((0, 2 * cut_y), (2 * cut_y, 40))
        for x0, x1 in ((0, 2 * cut_x), (2 * cut_x, 40))
    ]
    assert dict(polygons_of(joined(parts))) == outlines(labels)


def test_no_objects_have_no_outlines() -> None:
    assert outlines(np.zeros((3, 4), np.uint32)) == {}
