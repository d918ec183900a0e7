"""Histograms of the whole image, counted box by box."""

from __future__ import annotations

import doctest
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aiod.errors import AiodError
from aiod.flow.source import Pixels, Source
from aiod.flow.steps import histogram
from aiod.flow.steps.histogram import BINS, Histogram, blocks_of, extremes, histograms
from aiod.progress import Step

INTEGERS = st.sampled_from(["uint8", "int8", "uint16", "int16", "uint32", "int32", "int64"])


def source_of(pixels: Pixels, axes: str) -> Source:
    return Source(axes, pixels.shape, pixels.dtype, lambda box: pixels[box.slices])


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(histogram).failed == 0


@given(
    INTEGERS.flatmap(lambda name: hnp.arrays(name, hnp.array_shapes(min_dims=2, max_dims=3))),
    st.floats(0, 100),
)
@settings(deadline=None)
def test_integers_are_counted_exactly(pixels: Pixels, q: float) -> None:
    (found,) = histograms(source_of(pixels, "ZYX"[-pixels.ndim :]))
    values, counts = np.unique(pixels, return_counts=True)
    np.testing.assert_array_equal(found.values, values)
    np.testing.assert_array_equal(found.counts, counts)
    assert found.values.dtype == pixels.dtype
    assert found.percentile(q) == np.percentile(pixels, q, method="inverted_cdf")
    assert (found.minimum, found.maximum) == (pixels.min(), pixels.max())
    assert found.total == pixels.size


@given(hnp.arrays(np.uint8, st.integers(1, 40)))
@settings(deadline=None)
def test_mean_and_deviation_are_those_of_the_pixels(pixels: Pixels) -> None:
    (found,) = histograms(source_of(pixels[np.newaxis], "YX"))
    assert found.mean == pytest.approx(pixels.mean())
    assert found.std == pytest.approx(pixels.std(), abs=1e-9)


@given(
    hnp.arrays(
        st.sampled_from(["float32", "float64"]),
        hnp.array_shapes(min_dims=2, max_dims=2),
        elements=st.floats(-(2.0**99), 2.0**99, width=32)
        | st.sampled_from([np.nan, np.inf, -np.inf]),
    ),
    st.floats(0, 100),
)
@settings(deadline=None)
def test_floats_are_off_by_half_a_bin_at_most(pixels: Pixels, q: float) -> None:
    (found,) = histograms(source_of(pixels, "YX"))
    finite = pixels[np.isfinite(pixels)].astype(np.float64)
    assert found.uncounted == pixels.size - finite.size
    assert found.total == finite.size
    if not finite.size:
        with pytest.raises(AiodError, match="no pixel that is a finite number"):
            found.percentile(q)
        return
    low, high = finite.min(), finite.max()
    assert (found.minimum, found.maximum) == (low, high)
    assert (np.diff(found.values) > 0).all()
    exact = np.percentile(finite, q, method="inverted_cdf")
    assert abs(found.percentile(q) - exact) <= (high - low) / (BINS - 1) * 0.5001


def test_the_largest_floats_and_the_smallest_ranges_are_counted() -> None:
    wide = np.array([[-1.7e308, 0, 1.7e308]])
    assert histograms(source_of(wide, "YX"))[0].percentile(50) == pytest.approx(0, abs=1e304)
    close = np.array([[1.0, np.nextafter(1.0, 2)]])
    (found,) = histograms(source_of(close, "YX"))
    assert found.counts.tolist() == [1, 1]
    flat = np.full((3, 3), 7.5, np.float32)
    assert histograms(source_of(flat, "YX"))[0].values.tolist() == [7.5]


def test_each_channel_has_its_own_over_all_time_points_and_planes() -> None:
    pixels = np.random.default_rng(0).integers(0, 999, (3, 6, 2, 40, 50)).astype(np.uint16)
    found = histograms(source_of(pixels, "TCZYX"))
    assert len(found) == 6
    for channel, each in enumerate(found):
        values, counts = np.unique(pixels[:, channel], return_counts=True)
        np.testing.assert_array_equal(each.values, values)
        np.testing.assert_array_equal(each.counts, counts)
    ends = extremes(source_of(pixels, "TCZYX"))
    assert ends == tuple((h.minimum, h.maximum) for h in found)


@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ("YX", (5000, 300)),
        ("ZYX", (70, 900, 800)),
        ("TCZYX", (2, 6, 3, 5, 2100)),
        ("CYX", (3, 2049, 9)),
    ],
)
def test_blocks_cover_every_pixel_once_and_are_small(axes: str, shape: tuple[int, ...]) -> None:
    covered = np.zeros(shape, np.uint8)
    source = source_of(covered, axes)
    for box in blocks_of(source):
        covered[box.slices] += 1
        assert np.prod(box.shape) <= 1 << 22
        assert "T" not in axes or box.shape[0] == 1
    assert (covered == 1).all()


def test_a_parallel_map_and_its_order_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histogram, "_SIDE", 16)
    for dtype in ("uint8", "uint32", "float32"):
        pixels = (np.random.default_rng(1).random((2, 100, 90)) * 1000).astype(dtype)
        source = source_of(pixels, "TYX")
        (whole,) = histograms(source)
        with ThreadPoolExecutor(3) as pool:
            (parallel,) = histograms(source, mapper=pool.map)
        (backward,) = histograms(
            source, mapper=lambda function, boxes: map(function, list(boxes)[::-1])
        )
        for other in (parallel, backward):
            np.testing.assert_array_equal(whole.values, other.values)
            np.testing.assert_array_equal(whole.counts, other.counts)


def test_integers_with_too_many_values_are_binned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histogram, "MOST_VALUES", 100)
    pixels = np.arange(10_000, dtype=np.uint32).reshape(100, 100) * 1000
    (found,) = histograms(source_of(pixels, "YX"))
    assert found.total == 10_000
    assert found.values.dtype == np.float64
    assert found.percentile(50) == pytest.approx(np.percentile(pixels, 50), abs=1000)


def test_boolean_images_are_zeros_and_ones() -> None:
    (found,) = histograms(source_of(np.array([[True, False, True]]), "YX"))
    assert (found.values.tolist(), found.counts.tolist()) == ([0, 1], [1, 2])


def test_progress_is_told_box_by_box() -> None:
    told: list[Step] = []
    histograms(source_of(np.zeros((3, 4, 4), np.uint8), "TYX"), progress=told.append)
    assert [(step.done, step.total, step.unit) for step in told] == [
        (1, 3, "boxes"), (2, 3, "boxes"), (3, 3, "boxes")
    ]  # fmt: skip


def test_a_percentile_is_between_0_and_100() -> None:
    with pytest.raises(ValueError, match="between 0 and 100"):
        Histogram(np.array([1]), np.array([1])).percentile(101)


def test_an_image_without_a_number_has_extremes_of_zero() -> None:
    assert extremes(source_of(np.full((2, 2), np.nan), "YX")) == ((0, 0),)
