"""Plans of tiles: pure values with the properties that joining relies on."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiod.flow.source import Box
from aiod.flow.tiling import Plan


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    axes = draw(st.integers(1, 3))
    numbers = st.integers(1, {1: 60, 2: 16, 3: 7}[axes])
    return Plan(
        tuple(draw(numbers) for _ in range(axes)),
        tuple(draw(numbers) for _ in range(axes)),
        tuple(draw(st.integers(0, 12)) for _ in range(axes)),
    )


@given(plans())
def test_cores_cover_every_pixel_once(plan: Plan) -> None:
    times = np.zeros(plan.shape, int)
    for tile in plan:
        times[tile.core.slices] += 1
    assert (times == 1).all()


@given(plans())
def test_an_outer_box_is_the_core_with_its_halo_as_far_as_the_image_goes(plan: Plan) -> None:
    for tile in plan:
        for axis, halo in enumerate(plan.halo):
            start, stop = tile.core.start[axis], tile.core.stop[axis]
            assert tile.outer.start[axis] == max(0, start - halo)
            assert tile.outer.stop[axis] == min(plan.shape[axis], stop + halo)
        assert tile.inner.shape == tile.core.shape
        assert all(a <= b for a, b in zip(tile.outer.shape, plan.largest, strict=True))


@given(plans())
def test_a_tile_is_found_by_its_number(plan: Plan) -> None:
    tiles = list(plan)
    assert [tile.index for tile in tiles] == list(range(len(plan)))
    assert len({tile.place for tile in tiles}) == len(plan)


@given(plans())
def test_every_two_neighbours_that_see_the_same_pixels_meet_once(plan: Plan) -> None:
    met = [(tile.index, other.index) for tile in plan for other in plan.after(tile)]
    expected = {
        (one.index, other.index)
        for one in plan
        for other in plan
        if one.index < other.index
        and max(abs(a - b) for a, b in zip(one.place, other.place, strict=True)) == 1
        and not one.outer.within(other.outer).empty
    }
    assert len(met) == len(set(met))
    assert set(met) == expected


@given(plans(), st.integers(1, 40), st.integers(1, 500))
def test_blocks_are_whole_tiles_and_cover_every_one_once(plan: Plan, side: int, most: int) -> None:
    blocks = plan.in_blocks(side, most)
    met = [tile.index for block in blocks for tile in plan.inside(block.core)]
    assert sorted(met) == list(range(len(plan)))
    for block in blocks:
        for tile in plan.inside(block.core):
            assert tile.core.within(block.core) == tile.core
    if blocks.tile != plan.tile and len(blocks) > 1:
        assert max(blocks.tile[-2:]) <= max(side, *plan.tile[-2:])
        assert math.prod(blocks.tile) <= max(most, math.prod(plan.tile))


@given(plans())
def test_a_box_meets_the_tiles_it_shares_pixels_with(plan: Plan) -> None:
    for tile in plan:
        inside = [other.index for other in plan.inside(tile.outer)]
        meet = [other.index for other in plan if not other.core.within(tile.outer).empty]
        assert inside == meet


@pytest.mark.parametrize(
    ("shape", "tile", "halo"),
    [((0, 5), (1, 1), (0, 0)), ((5, 5), (0, 1), (0, 0)), ((5,), (1,), (-1,)), ((5,), (1, 1), (0,))],
)
def test_a_plan_that_cannot_be_is_refused(
    shape: tuple[int, ...], tile: tuple[int, ...], halo: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"needed|positive"):
        Plan(shape, tile, halo)


def test_there_is_no_tile_past_the_last() -> None:
    with pytest.raises(IndexError):
        Plan((4, 4), (2, 2), (0, 0))[4]


def test_boxes_that_do_not_meet_have_nothing_in_common() -> None:
    assert Box((0, 0), (2, 2)).within(Box((5, 1), (7, 3))).empty
    assert not Box((0, 0), (2, 2)).within(Box((1, 1), (7, 3))).empty
