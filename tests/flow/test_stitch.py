"""Tiles joined: the oracle is the whole image; labels are compared up to renumbering."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label
from skimage.segmentation import find_boundaries, relabel_sequential

from aiod.flow.source import Box, Pixels
from aiod.flow.tiles.stitch import compact, join, match, number
from aiod.flow.tiling import Plan

Labels = NDArray[np.int64]


def agreement(found: Pixels, truth: Pixels) -> float:
    """F1 at an intersection over union of 0.9: there matches are one to one by themselves."""
    both = (found > 0) & (truth > 0)
    pairs, common = np.unique(
        np.stack([found[both], truth[both]]).astype(np.int64), axis=1, return_counts=True
    )
    sizes = [
        dict(zip(*np.unique(a[a > 0], return_counts=True), strict=True)) for a in (found, truth)
    ]
    matched = sum(
        int(n >= 0.9 * (sizes[0][a] + sizes[1][b] - n))
        for a, b, n in zip(*pairs, common, strict=True)
    )
    total = len(sizes[0]) + len(sizes[1])
    return 2 * matched / total if total else 1.0


def same_labels(found: Pixels, truth: Pixels) -> bool:
    """Whether two label images are the same up to renumbering."""
    if not np.array_equal(found > 0, truth > 0):
        return False
    pairs = np.unique(np.stack([found[found > 0], truth[found > 0]]).astype(np.int64), axis=1)
    return bool(len(set(pairs[0])) == len(set(pairs[1])) == pairs.shape[1])


def tiled(model: Callable[[Box], Pixels], plan: Plan) -> Pixels:
    """The joined labels of a model that is shown one outer box after the other."""
    result, total = join(plan, [model(tile.outer) for tile in plan])
    assert np.array_equal(np.unique(result[result > 0]), np.arange(1, total + 1))
    return result


def own_numbers(truth: Pixels) -> Callable[[Box], Pixels]:
    """A perfect model: sees the true objects of its box, and numbers them by itself."""

    def model(box: Box) -> Pixels:
        seen = truth[box.slices]
        return np.asarray(relabel_sequential(seen.astype(np.int64))[0])

    return model


def dense_cells(shape: tuple[int, ...], number: int, seed: int = 0) -> Labels:
    """Touching cells that fill the image: every pixel belongs to the nearest of random points."""
    points = np.random.default_rng(seed).uniform(0, shape, (number, len(shape)))
    marks = np.zeros(shape, np.int64)
    marks[tuple(points.astype(int).T)] = np.arange(1, number + 1)
    nearest = ndimage.distance_transform_edt(
        marks == 0, return_distances=False, return_indices=True
    )
    return np.asarray(marks[tuple(nearest)])


@given(st.integers(0, 2**32 - 1), st.integers(7, 60), st.integers(7, 60), st.integers(2, 16))
@settings(max_examples=60, deadline=None)
def test_a_model_that_depends_on_its_halo_alone_gives_the_labels_of_the_whole_image(
    seed: int, rows: int, columns: int, halo: int
) -> None:
    random = np.random.default_rng(seed)
    shape = tuple(random.integers(1, 130, 2).tolist())
    foreground = ndimage.gaussian_filter(random.random(shape), 1.5) > 0.5
    whole = label(foreground, connectivity=2)
    found = tiled(
        lambda box: label(foreground[box.slices], connectivity=2),
        Plan(shape, (rows, columns), (halo, halo)),
    )
    assert same_labels(found, whole)


@given(st.integers(0, 2**32 - 1), st.integers(5, 20), st.integers(1, 6))
@settings(max_examples=15, deadline=None)
def test_the_same_in_stacks(seed: int, side: int, halo: int) -> None:
    random = np.random.default_rng(seed)
    shape = tuple(random.integers(1, 36, 3).tolist())
    foreground = ndimage.gaussian_filter(random.random(shape), 1.2) > 0.51
    whole = label(foreground, connectivity=3)
    found = tiled(
        lambda box: label(foreground[box.slices], connectivity=3),
        Plan(shape, (side,) * 3, (halo,) * 3),
    )
    assert same_labels(found, whole)


@pytest.mark.parametrize("halo", [1, 2, 5, 40])
@pytest.mark.parametrize("tile", [(64, 64), (37, 111), (1000, 17)])
def test_dense_touching_cells_are_neither_joined_nor_cut(tile: tuple[int, int], halo: int) -> None:
    truth = dense_cells((400, 300), 500)
    found = tiled(own_numbers(truth), Plan(truth.shape, tile, (halo, halo)))
    assert same_labels(found, truth)
    assert agreement(found, truth) == 1.0


def wrong_far_out(truth: Pixels, plan: Plan, how: str, seed: int) -> Callable[[Box], Pixels]:
    """A model that is right in the core and the inner half of the halo, and wrong further out."""
    cores = {tile.outer: tile.core for tile in plan}
    near = tuple(-(-halo // 2) for halo in plan.halo)

    def model(box: Box) -> Pixels:
        random = np.random.default_rng((seed, *box.start))
        seen = own_numbers(truth)(box)
        far = np.ones(box.shape, bool)
        far[cores[box].grown(near, plan.shape).seen_from(box.start).slices] = False
        wrong = {
            "dropped": np.zeros_like(seen),
            "merged": np.full_like(seen, random.integers(1, seen.max() + 1)),
            "swapped": random.permutation(int(seen.max()) + 1)[seen],
            "moved": np.roll(seen, random.integers(-5, 6, seen.ndim), tuple(range(seen.ndim))),
            "noise": random.integers(0, seen.max() + 5, seen.shape),
        }[how]
        return np.where(far, wrong, seen)

    return model


@given(
    st.sampled_from(["dropped", "merged", "swapped", "moved", "noise"]),
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(9, 70), st.integers(9, 70)),
    st.tuples(st.integers(2, 24), st.integers(2, 24)),
)
@settings(max_examples=80, deadline=None)
def test_what_a_model_says_in_the_outer_half_of_its_halo_does_no_harm(
    how: str, seed: int, tile: tuple[int, int], halo: tuple[int, int]
) -> None:
    truth = dense_cells((150, 140), 120, seed)
    plan = Plan(truth.shape, tile, halo)
    found = tiled(wrong_far_out(truth, plan, how, seed), plan)
    assert same_labels(found, truth)


@pytest.mark.parametrize("how", ["dropped", "merged", "swapped", "moved", "noise"])
def test_the_outer_half_of_halos_does_no_harm_in_stacks(how: str) -> None:
    truth = dense_cells((30, 60, 60), 150)
    plan = Plan(truth.shape, (10, 20, 25), (3, 8, 5))
    assert same_labels(tiled(wrong_far_out(truth, plan, how, 1), plan), truth)


@given(st.integers(0, 2**32 - 1), st.integers(20, 70), st.integers(4, 24))
@settings(max_examples=40, deadline=None)
def test_outlines_that_tiles_see_differently_never_join_two_cells(
    seed: int, tile: int, halo: int
) -> None:
    truth = dense_cells((150, 140), 60, seed)
    outlines = find_boundaries(truth, mode="thick")

    def model(box: Box) -> Pixels:
        random = np.random.default_rng((seed, *box.start))
        lost = outlines[box.slices] & (random.random(box.shape) < 0.5)
        return np.where(lost, 0, own_numbers(truth)(box))

    found = tiled(model, Plan(truth.shape, (tile, tile), (halo, halo)))
    pairs = np.unique(np.stack([found[found > 0], truth[found > 0]]), axis=1)
    assert len(np.unique(pairs[0])) == pairs.shape[1]


def test_dense_touching_cells_in_a_stack() -> None:
    truth = dense_cells((40, 90, 80), 300)
    found = tiled(own_numbers(truth), Plan(truth.shape, (16, 32, 32), (4, 8, 8)))
    assert same_labels(found, truth)


def test_elongated_and_huge_objects_stay_one() -> None:
    rows, columns = np.mgrid[:500, :500]
    radius = np.hypot(rows - 250, columns - 250)
    truth = np.zeros((500, 500), np.int64)
    truth[radius < 240] = 1  # larger than any tile
    truth[radius < 200] = 0
    truth[radius < 180] = 2
    truth[radius < 90] = 3  # in the hole of it
    truth[np.abs(rows - columns) < 3] = 4  # a filament from corner to corner
    truth[248:252, :] = 5
    found = tiled(own_numbers(truth), Plan(truth.shape, (48, 48), (8, 8)))
    whole = label(truth, connectivity=2, background=0)
    assert found.max() < 5 * 4  # what the lines cut into pieces may be pieces, no more than those
    assert agreement(found, whole) == 1.0 or same_labels(found, truth)


def test_a_u_whose_bend_lies_in_another_tile_is_one_object() -> None:
    truth = np.zeros((64, 64), np.int64)
    truth[5:60, 10:14] = truth[5:60, 50:54] = 1
    truth[56:60, 10:54] = 1
    found = tiled(own_numbers(truth), Plan(truth.shape, (16, 16), (4, 4)))
    assert same_labels(found, truth)


def test_a_spiral_through_all_tiles_is_one_object() -> None:
    angle = np.linspace(0, 12 * np.pi, 40_000)
    truth = np.zeros((300, 300), np.int64)
    truth[
        (150 + 3.5 * angle * np.sin(angle)).astype(int),
        (150 + 3.5 * angle * np.cos(angle)).astype(int),
    ] = 1
    truth = ndimage.binary_dilation(truth, iterations=2).astype(np.int64)
    assert label(truth).max() == 1
    found = tiled(lambda box: label(truth[box.slices]), Plan(truth.shape, (50, 50), (6, 6)))
    assert same_labels(found, truth)


def test_empty_tiles_and_one_pixel_edges() -> None:
    truth = np.zeros((129, 65), np.int64)
    truth[62:67, 30:40] = 1
    truth[128, 60:65] = 2  # in a tile one pixel high
    truth[100:120, 64] = 3  # in a tile one pixel wide
    found = tiled(own_numbers(truth), Plan(truth.shape, (32, 32), (8, 8)))
    assert same_labels(found, truth)
    nothing = tiled(own_numbers(np.zeros((129, 65), np.int64)), Plan((129, 65), (32, 32), (8, 8)))
    assert nothing.max() == 0


def test_a_hundred_and_fifty_thousand_cells_keep_their_labels() -> None:
    side = 10
    rows, columns = np.mgrid[:3873, :3873]
    truth = (rows // side) * 388 + columns // side + 1
    assert len(np.unique(truth)) == 388 * 388 > 150_000
    found = tiled(own_numbers(truth), Plan(truth.shape, (512, 512), (16, 16)))
    assert found.max() == 388 * 388
    assert found.dtype == np.uint32
    assert same_labels(found, truth)


def test_cells_that_touch_at_a_seam_are_two() -> None:
    left, right = Plan((10, 20), (10, 10), (4, 4))
    truth = np.ones((10, 20), np.int64)
    truth[:, 10:] = 2
    found, total = join(
        Plan((10, 20), (10, 10), (4, 4)), [truth[t.outer.slices] for t in (left, right)]
    )
    assert total == 2
    assert same_labels(found, truth)


def test_of_two_objects_in_one_view_that_are_one_in_the_other_the_larger_is_joined() -> None:
    one = np.zeros((10, 10), np.int64)
    one[:, :7], one[:, 7:] = 1, 2
    other = np.ones((10, 10), np.int64)
    assert match(one, other).tolist() == [[1, 1]]


def test_objects_that_hardly_overlap_are_not_joined() -> None:
    one = np.zeros((10, 20), np.int64)
    other = one.copy()
    one[:, :11], other[:, 9:] = 1, 1
    assert match(one, other).tolist() == []


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from(["u1", "u2", "i8"]))
def test_a_match_depends_on_the_pixels_alone_not_on_the_numbers(
    seed: int, most: int, dtype: str
) -> None:
    rng = np.random.default_rng(seed)
    one = dense_cells((12, 40), most, seed) * (rng.random((12, 40)) < 0.9)
    other = np.where(rng.random(one.shape) < 0.9, one, 0)
    names = rng.permutation(20_000)[: most + 1]  # too many for a table of the strip
    names[0] = 0
    found = match(one.astype(dtype), other.astype(dtype))
    renamed = match(names[one], names[other])
    assert sorted(map(tuple, names[found].tolist())) == sorted(map(tuple, renamed.tolist()))


def test_pieces_are_compared_where_labels_leave_something_open() -> None:
    arms = np.zeros((20, 20), np.int64)
    arms[:, 2:8], arms[:, 12:16] = 1, 1  # of a U that bends elsewhere
    apart = np.where(arms > 0, 1, 0)
    apart[:, 12:16] *= 2
    assert match(arms, apart).tolist() == [[1, 1], [1, 2]]
    assert match(apart, arms).tolist() == [[1, 1], [2, 1]]


def test_a_thin_arm_is_compared_too() -> None:
    one = np.zeros((10, 24), np.int64)
    one[:, :9], one[:, 12:13], one[:, 15:] = 1, 1, 2  # the thin one belongs to the left
    other = np.where(one > 0, one, 0)
    other[:, 12:13] = 2  # and here to the right
    assert match(one, other).tolist() == [[1, 1], [1, 2], [2, 2]]


def test_numbers_do_not_depend_on_the_order_of_joining() -> None:
    pairs = [
        (0, 1, np.array([[1, 2], [3, 1]])),
        (1, 2, np.array([[2, 1]])),
        (0, 2, np.array([[2, 2]])),
    ]
    one = number([3, 2, 3], pairs)
    other = number([3, 2, 3], reversed(pairs))
    tables = [numbering.table(tile).tolist() for numbering in (one, other) for tile in range(3)]
    assert tables[:3] == tables[3:] == [[0, 1, 2, 3], [0, 3, 1], [0, 1, 2, 4]]
    assert one.total == 4


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5), st.integers(0, 3), st.integers(1, 5)))
)
def test_numbering_is_a_partition_without_gaps(rows: list[tuple[int, int, int, int]]) -> None:
    counts = [5, 5, 5, 5]
    rows = [(a, x, b, y) for a, x, b, y in rows if a != b]
    numbering = number(counts, [(a, b, np.array([[x, y]])) for a, x, b, y in rows])
    numbers = {(t, n): int(numbering.table(t)[n]) for t in range(4) for n in range(1, 6)}
    assert set(numbers.values()) == set(range(1, numbering.total + 1))
    assert all(numbers[a, x] == numbers[b, y] for a, x, b, y in rows)
    graph: dict[tuple[int, int], set[tuple[int, int]]] = {node: {node} for node in numbers}
    for a, x, b, y in rows:
        joined = graph[a, x] | graph[b, y]
        for node in joined:
            graph[node] = joined
    assert numbering.total == len({frozenset(group) for group in graph.values()})


def test_more_objects_than_32_bits_hold_get_64() -> None:
    numbering = number([2**31, 2**31], [])
    assert numbering.total == 2**32
    assert numbering.dtype == np.uint64
    assert number([2**31, 2**31 - 1], []).dtype == np.uint32


def test_only_objects_that_reach_into_the_core_are_numbered() -> None:
    view = np.array([[9, 0, 4, 4], [0, 0, 4, 2**31]])
    labels, count = compact(view, Box((0, 2), (2, 4)))
    assert count == 2
    assert labels.tolist() == [[0, 0, 1, 1], [0, 0, 1, 2]]
