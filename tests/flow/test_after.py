"""Steps on labels: the same as on the whole label image, however it is cut into tiles."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage import data, segmentation
from skimage.measure import label

from aiod.errors import AiodError, UsageError
from aiod.flow.source import Box, Pixels, Source
from aiod.flow.steps.after import AFTER, apply_after, parse_after
from aiod.flow.steps.calls import form_of
from aiod.flow.tiling import Plan

Labels = NDArray[np.int64]


def source_of(labels: Pixels, axes: str, pixel_size: dict[str, float] | None = None) -> Source:
    return Source(
        axes, labels.shape, labels.dtype, lambda box: labels[box.slices], pixel_size or {}
    )


def after(
    labels: Pixels,
    *steps: str,
    tile: tuple[int, ...] | None = None,
    axes: str | None = None,
    spatial: str | None = None,
    pixel_size: dict[str, float] | None = None,
) -> Pixels:
    """The result of steps on a label image, tile by tile, each pixel written exactly once."""
    axes = axes or "ZYX"[-labels.ndim :]
    spatial = spatial or axes
    shape = labels.shape[-len(spatial) :]
    result = np.zeros(labels.shape, np.uint64)
    written = np.zeros(labels.shape, int)

    def write(box: Box, pixels: Pixels) -> None:
        assert pixels.shape == box.shape
        assert pixels.dtype == np.uint32
        result[box.slices] = pixels
        written[box.slices] += 1

    count = apply_after(
        source_of(labels, axes, pixel_size),
        [parse_after(step) for step in steps],
        spatial=spatial,
        plan=Plan(shape, tile or shape, (0,) * len(shape)),
        write=write,
    )
    assert (written == 1).all()
    assert count == result.max()
    return result


def numbered(labels: Pixels) -> Labels:
    """1…N in the order of first pixels."""
    values, first = np.unique(labels, return_index=True)
    order = [value for _, value in sorted(zip(first, values, strict=True)) if value]
    result = np.zeros(labels.shape, np.int64)
    for number, value in enumerate(order, start=1):
        result[labels == value] = number
    return result


def ways(labels: Pixels, closed: int) -> tuple[int, Labels]:
    """Pieces of what can be walked when an object is closed: over faces, or within one object."""
    places = np.arange(labels.size).reshape(labels.shape)
    one, other = [], []
    for step in itertools.product((-1, 0, 1), repeat=labels.ndim):
        near = tuple(
            slice(max(0, -s), n - max(0, s)) for s, n in zip(step, labels.shape, strict=True)
        )
        far = tuple(
            slice(max(0, s), n - max(0, -s)) for s, n in zip(step, labels.shape, strict=True)
        )
        a, b = labels[near], labels[far]
        open_ = (a != closed) & (b != closed)
        if sum(map(abs, step)) > 1:
            open_ &= (a == b) & (a > 0)
        one.append(places[near][open_])
        other.append(places[far][open_])
    rows, columns = np.concatenate(one), np.concatenate(other)
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(labels.size, labels.size))
    count, parts = connected_components(graph, directed=False)
    return count, parts.reshape(labels.shape)


def enclosed_by(labels: Pixels, value: int) -> NDArray[np.bool_]:
    """The background that an object encloses."""
    _, parts = ways(labels, value)
    edge = np.ones(labels.shape, bool)
    edge[tuple(slice(1, -1) if n > 1 else slice(None) for n in labels.shape)] = False
    if max(labels.shape) == 1:
        edge[:] = True
    reached = np.isin(parts, parts[edge & (labels != value)])
    return np.asarray((labels == 0) & ~reached)


def filled(labels: Pixels) -> Pixels:
    """Every object's enclosed background, the innermost object's last."""
    result = labels.copy()
    areas = {v: enclosed_by(labels, v) for v in np.unique(labels) if v}
    for value, area in sorted(areas.items(), key=lambda item: -int(item[1].sum())):
        result[area] = value
    return result


def pieces(labels: Pixels) -> Pixels:
    return np.asarray(label(labels, background=0, connectivity=labels.ndim))


def voted(labels: Pixels, radius: int) -> Pixels:
    away = np.stack(
        np.meshgrid(*[np.arange(-radius, radius + 1)] * labels.ndim, indexing="ij"), axis=-1
    ).reshape(-1, labels.ndim)
    away = away[(away**2).sum(axis=1) <= radius**2]
    wide = np.pad(labels, radius, mode="symmetric")
    result = labels.copy()
    for place in np.ndindex(labels.shape):
        votes = wide[tuple((away + radius + np.array(place)).T)]
        values, counts = np.unique(votes, return_counts=True)
        winner = values[counts.argmax()]
        if 2 * counts.max() > len(away) and (winner == 0 or labels[place] == 0):
            result[place] = winner
    for value in np.setdiff1d(labels[labels > 0], result):
        result[labels == value] = value
    return result


def blobs(shape: tuple[int, ...], objects: int) -> st.SearchStrategy[Pixels]:
    return hnp.arrays(np.uint16, shape, elements=st.sampled_from([0, 0, *range(objects + 1)]))


@st.composite
def images(draw: st.DrawFn) -> tuple[Pixels, tuple[int, ...]]:
    """A small label image, 2D or 3D, and a size of tile."""
    ndim = draw(st.sampled_from([2, 2, 3]))
    most = 12 if ndim == 2 else 6
    shape = tuple(draw(st.integers(1, most)) for _ in range(ndim))
    labels = draw(blobs(shape, draw(st.integers(1, 4))))
    if draw(st.booleans()):
        labels = labels.repeat(2, axis=-1).repeat(2, axis=-2)
    tile = tuple(draw(st.integers(-(-size // 4), size)) for size in labels.shape)
    return labels, tile


@given(images().filter(lambda case: sum(size > 1 for size in case[0].shape) > 1))
@settings(deadline=None, max_examples=100)
def test_holes_are_what_cannot_be_reached_from_the_border(
    case: tuple[Pixels, tuple[int, ...]],
) -> None:
    labels, tile = case
    np.testing.assert_array_equal(after(labels, "fill_holes", tile=tile), numbered(filled(labels)))


@given(images())
@settings(deadline=None, max_examples=60)
def test_components_are_those_of_scikit_image(case: tuple[Pixels, tuple[int, ...]]) -> None:
    labels, tile = case
    np.testing.assert_array_equal(after(labels, "components", tile=tile), numbered(pieces(labels)))


@given(images(), st.integers(1, 3))
@settings(deadline=None, max_examples=40)
def test_smoothing_is_the_majority_around_each_pixel(
    case: tuple[Pixels, tuple[int, ...]], radius: int
) -> None:
    labels, tile = case
    found = after(labels, f"smooth:{radius}", tile=tile)
    np.testing.assert_array_equal(found, numbered(voted(labels, radius)))


@given(
    images(),
    st.lists(
        st.sampled_from(
            ["fill_holes", "components", "smooth:1", "min_size:3", "max_size:9", "clear_border"]
        ),
        max_size=4,
    ),
)
@settings(deadline=None, max_examples=60)
def test_any_plan_gives_the_same_labels_and_the_same_numbers(
    case: tuple[Pixels, tuple[int, ...]], steps: list[str]
) -> None:
    labels, tile = case
    np.testing.assert_array_equal(after(labels, *steps, tile=tile), after(labels, *steps))


def test_a_hole_is_filled_as_scipy_fills_it_on_real_outlines() -> None:
    coins = ndimage.binary_opening(data.coins() > 130)
    labels = pieces(coins.astype(np.int32))
    expected = labels.copy()
    for value in range(1, labels.max() + 1):
        expected[ndimage.binary_fill_holes(labels == value) & (labels == 0)] = value
    assert (expected != labels).any()
    np.testing.assert_array_equal(after(labels, "fill_holes", tile=(50, 64)), numbered(expected))


def test_the_innermost_of_nested_rings_has_the_hole_and_islands_stay() -> None:
    away = np.hypot(*np.ogrid[-20:21, -20:21])
    labels = np.zeros((41, 41), np.int32)
    labels[(away > 15) & (away < 19)] = 7
    labels[(away > 7) & (away < 10)] = 3
    labels[away < 3] = 9
    found = after(labels, "fill_holes", tile=(8, 8))
    inside = np.select([away < 3, away < 10, away < 19], [3, 2, 1], 0)
    np.testing.assert_array_equal(found, inside)


def test_a_ring_larger_than_many_tiles_is_filled_where_it_is_not_seen() -> None:
    labels = np.zeros((64, 64), np.uint32)
    labels[2:62, 2:62] = 5
    labels[4:60, 4:60] = 0
    assert (after(labels, "fill_holes", tile=(8, 8))[2:62, 2:62] == 1).all()


def test_two_pieces_on_a_line_enclose_nothing() -> None:
    labels = np.array([[1, 0, 1]], np.uint8)
    np.testing.assert_array_equal(after(labels, "fill_holes"), labels)


def test_what_an_object_and_the_border_enclose_is_open() -> None:
    labels = np.zeros((6, 6), np.uint32)
    labels[3, :] = 1
    assert after(labels, "fill_holes", tile=(2, 2)).sum() == 6


def test_sizes_count_the_whole_object_and_not_its_part_of_a_tile() -> None:
    labels = np.zeros((10, 40), np.uint32)
    labels[4, 2:38] = 9  # 36 pixels over ten tiles
    labels[7, 2:6] = 4
    assert np.unique(after(labels, "min_size:36", tile=(5, 4))).tolist() == [0, 1]
    assert after(labels, "min_size:37", tile=(5, 4)).max() == 0
    kept = after(labels, "max_size:35", tile=(5, 4))
    np.testing.assert_array_equal(kept > 0, labels == 4)


def test_sizes_in_micrometres_need_the_pixel_size() -> None:
    labels = np.zeros((8, 8), np.uint32)
    labels[1:3, 1:3], labels[5:8, 5:8] = 1, 2
    size = {"Y": 0.5, "X": 0.5}
    found = after(labels, "min_size:size=2,unit=um", tile=(3, 3), pixel_size=size)
    np.testing.assert_array_equal(found > 0, labels == 2)
    stack = np.stack([labels, labels])
    found = after(stack, "min_size:size=4,unit=um", pixel_size={**size, "Z": 1.0})
    np.testing.assert_array_equal(found > 0, stack == 2)
    with pytest.raises(UsageError, match=r"(?s)µm.*along Y, X.*--pixel-size"):
        after(labels, "min_size:size=2,unit=um")


@given(images().filter(lambda case: min(case[0].shape) > 1))
@settings(deadline=None, max_examples=40)
def test_clear_border_is_that_of_scikit_image(case: tuple[Pixels, tuple[int, ...]]) -> None:
    labels, tile = pieces(case[0]), case[1]
    expected = segmentation.clear_border(labels)
    found = after(labels, "clear_border:z=true", tile=tile)
    np.testing.assert_array_equal(found, numbered(expected))


def test_objects_on_the_first_plane_stay_unless_asked_for() -> None:
    labels = np.zeros((3, 9, 9), np.uint32)
    labels[0, 3:6, 3:6] = 1
    assert after(labels, "clear_border").max() == 1
    assert after(labels, "clear_border:z=yes").max() == 0


def test_a_thin_object_is_not_smoothed_away() -> None:
    labels = np.zeros((20, 20), np.uint32)
    labels[4, 2:18] = 1
    labels[10:18, 4:16] = 2
    found = after(labels, "smooth:3", tile=(7, 7))
    np.testing.assert_array_equal(found == 1, labels == 1)
    assert (found == 2).sum() > 80


def test_smoothing_takes_a_spur_and_fills_a_notch() -> None:
    labels = np.zeros((30, 30), np.uint32)
    labels[8:22, 8:22] = 1
    labels[2:8, 15] = 1
    labels[21:22, 12] = 0
    found = after(labels, "smooth:2", tile=(16, 16))
    assert found[2:7, 15].sum() == 0
    assert found[21, 12] == 1


def test_touching_objects_take_nothing_from_each_other() -> None:
    rng = np.random.default_rng(0)
    edge = 32 + rng.integers(-3, 4, 64)
    labels = np.where(np.arange(64) < edge[:, np.newaxis], 1, 2).astype(np.uint32)
    np.testing.assert_array_equal(after(labels, "smooth:4", tile=(20, 20)), labels)


def test_frames_and_planes_are_each_by_themselves() -> None:
    labels = np.zeros((2, 3, 8, 8), np.uint16)
    labels[0, :, 2:5, 2:5] = 7
    labels[1, 1, 2:7, 2:7] = 7
    labels[1, 1, 4, 4] = 0
    flat = after(labels, "fill_holes", axes="TZYX", spatial="YX", tile=(3, 3))
    assert flat.max() == 4
    assert flat[1, 1, 4, 4] == 4
    solid = after(labels, "fill_holes", axes="TZYX", spatial="ZYX", tile=(1, 4, 4))
    assert solid.max() == 2
    assert solid[1, 1, 4, 4] == 0  # open to the planes above and below
    assert (solid[0, :, 2:5, 2:5] == 1).all()


def test_labels_of_any_size_are_numbered_without_gaps() -> None:
    labels = np.zeros((5, 6), np.uint64)
    labels[0, 3], labels[2, 1], labels[4, 5] = 2**62, 5, 10**15
    found = after(labels, tile=(2, 4))
    np.testing.assert_array_equal(found, numbered(labels))
    assert after(np.zeros((3, 3), np.uint8), *AFTER_ALL).max() == 0


AFTER_ALL = ("fill_holes", "components", "smooth", "min_size:1", "max_size:9", "clear_border")


@pytest.mark.parametrize("value", [-1, 2**63 + 1])
def test_what_is_no_label_is_refused(value: int) -> None:
    labels = np.full((3, 3), value, np.int64 if value < 0 else np.uint64)
    with pytest.raises(AiodError, match="Labels of"):
        after(labels)


def test_a_parallel_map_gives_the_same() -> None:
    rng = np.random.default_rng(3)
    labels = pieces(ndimage.gaussian_filter(rng.random((90, 90)), 2) > 0.5)
    result = np.zeros(labels.shape, np.uint32)
    with ThreadPoolExecutor(4) as pool:
        count = apply_after(
            source_of(labels, "YX"),
            [parse_after(step) for step in ("fill_holes", "smooth:1", "components")],
            spatial="YX",
            plan=Plan(labels.shape, (32, 20), (0, 0)),
            write=lambda box, pixels: result.__setitem__(box.slices, pixels),
            mapper=pool.map,
        )
    np.testing.assert_array_equal(result, after(labels, "fill_holes", "smooth:1", "components"))
    assert count == result.max()


def test_nothing_is_left_in_the_folder_for_temporary_files(tmp_path: Path) -> None:
    labels = pieces(data.binary_blobs(64, rng=1).astype(np.uint8))
    seen: list[int] = []
    apply_after(
        source_of(labels, "YX"),
        [parse_after("components")],
        spatial="YX",
        plan=Plan(labels.shape, (32, 32), (0, 0)),
        write=lambda box, pixels: seen.append(len(list(tmp_path.iterdir()))),
        scratch=tmp_path,
    )
    assert seen == [1] * 4
    assert not list(tmp_path.iterdir())


FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from aiod.errors import AiodError
from aiod.flow.steps.after import apply_after, parse_after
from aiod.flow.source import Source
from aiod.flow.tiling import Plan
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), -1))
labels = np.random.default_rng(0).integers(0, 99, (100, 100))
source = Source("YX", labels.shape, labels.dtype, lambda box: labels[box.slices])
try:
    apply_after(source, [parse_after("components")], spatial="YX",
        plan=Plan((100, 100), (100, 100), (0, 0)), write=print, scratch=Path(sys.argv[2]))
except AiodError as error:
    print(error)
"""


@pytest.mark.parametrize(("limit", "folder"), [(10, "."), (2000, "."), (10**6, "missing")])
def test_a_full_disk_is_a_sentence(limit: int, folder: str, tmp_path: Path) -> None:
    scratch = tmp_path / folder
    found = subprocess.run(
        [sys.executable, "-c", FULL, str(limit), str(scratch)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"cannot keep what they are at in {scratch}" in found.stdout
    assert not list(tmp_path.iterdir())


def test_the_steps_are_known_by_their_names_and_forms() -> None:
    assert sorted(AFTER) == [
        "clear_border", "components", "fill_holes", "max_size", "min_size", "smooth"
    ]  # fmt: skip
    assert str(parse_after("min_size:50")) == "min_size:size=50,unit=px"
    for step in AFTER.values():
        assert all(entry.text for entry in form_of(step.function))
    with pytest.raises(UsageError, match="size: must be given"):
        parse_after("min_size")
    with pytest.raises(UsageError, match="expected px or um"):
        parse_after("max_size:size=3,unit=mm")
    with pytest.raises(UsageError, match="smooth"):
        parse_after("smoth")


@pytest.mark.parametrize("steps", [("min_size:20", "clear_border"), ("fill_holes", "components")])
def test_a_hundred_and_fifty_thousand_objects_take_seconds(steps: tuple[str, ...]) -> None:
    side, cell = 4096, 10  # 167,281 touching cells, some with a hole
    rows = np.arange(side) // cell
    across = -(-side // cell)
    labels = (rows[:, np.newaxis] * across + rows + 1).astype(np.uint32)
    labels[::cell] = 0
    labels[3::cell, 5::cell] = 0
    started = time.monotonic()
    found = after(labels, *steps, tile=(1024, 1024))
    assert found.max() > 150_000
    assert time.monotonic() - started < 60
