"""Resampling: nothing moves, any box is that box of the whole, masks come back to the full grid."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from skimage import data
from skimage.transform import resize

from aiod.flow.source import Box, Pixels, Source
from aiod.flow.steps import mirror
from aiod.flow.steps.mirror import folded, read_mirrored
from aiod.flow.steps.resample import enlarged_labels, rescaled


def source_of(pixels: Pixels, axes: str, pixel_size: dict[str, float] | None = None) -> Source:
    return Source(
        axes, pixels.shape, pixels.dtype, lambda box: pixels[box.slices], pixel_size or {}
    )


def whole(source: Source) -> Pixels:
    return source.read(Box.whole(source.shape))


FACTORS = st.floats(0.11, 4) | st.sampled_from([0.25, 0.5, 1.0, 2.0, 3.0, 1 / 3])


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(mirror).failed == 0


@given(st.integers(1, 9), st.integers(0, 30), st.integers(0, 30))
@settings(deadline=None)
def test_mirrored_pixels_are_those_of_numpy(size: int, before: int, past: int) -> None:
    line = np.arange(size)
    for border, mode in (("reflect", "symmetric"), ("mirror", "reflect")):
        expected = np.pad(line, (before, past), mode=mode)  # type: ignore[call-overload]
        np.testing.assert_array_equal(folded(-before, size + past, size, border), expected)  # type: ignore[arg-type]


@given(st.integers(1, 6), st.integers(1, 6), st.integers(-9, 9), st.integers(1, 9))
@settings(deadline=None)
def test_a_box_past_the_border_reads_only_what_is_there(
    height: int, width: int, start: int, length: int
) -> None:
    pixels = np.arange(height * width).reshape(height, width)
    box = Box((start, -start), (start + length, length - start))
    expected = np.pad(pixels, 20, mode="symmetric")[
        start + 20 : start + length + 20, 20 - start : 20 + length - start
    ]
    np.testing.assert_array_equal(read_mirrored(source_of(pixels, "YX"), box), expected)


@given(st.data(), FACTORS, FACTORS, st.sampled_from(["uint8", "int16", "float32"]))
@settings(deadline=None, max_examples=150)
def test_any_box_is_that_box_of_the_whole(
    draw: st.DataObject, y: float, x: float, dtype: str
) -> None:
    shape = (2, draw.draw(st.integers(1, 30)), draw.draw(st.integers(1, 30)))
    pixels = (np.random.default_rng(0).random(shape) * 100).astype(dtype)
    small = rescaled(source_of(pixels, "CYX"), {"Y": y, "X": x})
    everything = whole(small)
    assert (everything.shape, everything.dtype) == (small.shape, small.dtype)
    start = tuple(draw.draw(st.integers(0, n - 1)) for n in small.shape)
    stop = tuple(draw.draw(st.integers(a + 1, n)) for a, n in zip(start, small.shape, strict=True))
    found = small.read(Box(start, stop))
    np.testing.assert_array_equal(found, everything[Box(start, stop).slices])


@pytest.mark.parametrize("factor", [0.125, 0.25, 0.5, 2.0, 4.0])
def test_it_is_the_resize_of_scikit_image(factor: float) -> None:
    pixels = data.camera()[:256, :200].astype(np.float32)
    found = whole(rescaled(source_of(pixels, "YX"), {"Y": factor, "X": factor}))
    shape = (int(256 * factor), int(200 * factor))
    expected = resize(
        pixels, shape, order=1, mode="symmetric", anti_aliasing=factor < 1, preserve_range=True
    )
    np.testing.assert_allclose(found[8:-8, 8:-8], expected[8:-8, 8:-8], atol=0.05)


def test_it_is_scipys_interpolation_at_the_centres_of_pixels() -> None:
    pixels = data.camera()[:60, :70].astype(np.float64)
    y, x = 0.7, 1.3
    found = whole(rescaled(source_of(pixels, "YX"), {"Y": y, "X": x}))
    blurred = ndimage.gaussian_filter1d(pixels, (1 / y - 1) / 2, axis=0, mode="reflect")
    places = np.meshgrid(
        (np.arange(42) + 0.5) / y - 0.5, (np.arange(91) + 0.5) / x - 0.5, indexing="ij"
    )
    expected = ndimage.map_coordinates(blurred, places, order=1, mode="reflect")
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@given(FACTORS)
@settings(deadline=None)
def test_a_pixel_shows_what_lies_at_its_centre(factor: float) -> None:
    ramp = np.tile(np.arange(200, dtype=np.float32), (3, 1))
    found = whole(rescaled(source_of(ramp, "YX"), {"X": factor}))[1]
    centres = (np.arange(len(found)) + 0.5) / factor - 0.5
    inside = (centres > 30) & (centres < 170)  # away from what is mirrored
    np.testing.assert_allclose(found[inside], centres[inside], atol=0.01)


def test_pixel_sizes_follow_and_other_axes_stay() -> None:
    source = source_of(np.zeros((3, 10, 20), np.uint16), "ZYX", {"Z": 1.0, "Y": 0.5, "X": 0.5})
    small = rescaled(source, {"Y": 0.5, "X": 0.25, "C": 0.1})
    assert small.shape == (3, 5, 5)
    assert small.pixel_size == {"Z": 1.0, "Y": 1.0, "X": 2.0}
    assert rescaled(source, {"Y": 1.0}) is source


def moved_by(factor: float, seed: int) -> NDArray[np.float64]:
    """How far a disc is moved by going to another size and coming back, in pixels of the larger."""
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(80, 120)), int(rng.integers(80, 120)))
    centre = rng.uniform(30, 50, 2)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    disc = ((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < 20**2).astype(np.float32)
    factors = {"Y": factor, "X": factor}
    small = rescaled(source_of(disc, "YX", {"Y": 1.0, "X": 1.0}), factors)
    found = (whole(small) > 0.5).astype(np.uint32)
    back = enlarged_labels(source_of(found, "YX", dict(small.pixel_size)), shape, factors)
    masks = whole(back)
    larger = max(1, 1 / factor)
    assert masks.dtype == np.uint32
    assert back.pixel_size == pytest.approx({"Y": 1.0, "X": 1.0})
    assert masks.sum() == pytest.approx(disc.sum(), rel=0.05 * larger)
    away = np.subtract(ndimage.center_of_mass(masks), ndimage.center_of_mass(disc))
    return np.asarray(away) / larger


@given(st.floats(0.2, 3), st.integers(0, 99))
@settings(max_examples=60)
def test_objects_come_back_to_where_they_were(factor: float, seed: int) -> None:
    assert abs(moved_by(factor, seed)).max() < 0.5  # the nearest pixel is no further than that


@pytest.mark.parametrize("factor", [0.25, 0.5, 0.71, 0.97, 1.3, 2.0])
def test_objects_drift_nowhere(factor: float) -> None:
    assert abs(np.mean([moved_by(factor, seed) for seed in range(50)], axis=0)).max() < 0.05


@given(st.data(), st.integers(1, 40), st.integers(1, 6))
@settings(deadline=None)
def test_labels_of_blocks_cover_their_blocks(draw: st.DataObject, size: int, factor: int) -> None:
    small = np.arange(1, -(-size // factor) + 1, dtype=np.uint32)[np.newaxis]
    large = enlarged_labels(source_of(small, "YX"), (1, size), {"X": 1 / factor})
    np.testing.assert_array_equal(whole(large)[0], np.arange(size) // factor + 1)
    start = draw.draw(st.integers(0, size - 1))
    np.testing.assert_array_equal(
        large.read(Box((0, start), (1, size)))[0], np.arange(start, size) // factor + 1
    )


def test_without_factors_they_are_those_of_the_shapes() -> None:
    labels = np.arange(12, dtype=np.uint16).reshape(3, 4)
    large = enlarged_labels(source_of(labels, "YX"), (6, 12))
    np.testing.assert_array_equal(whole(large), labels.repeat(2, axis=0).repeat(3, axis=1))
    np.testing.assert_array_equal(whole(enlarged_labels(source_of(labels, "YX"), (3, 4))), labels)


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_a_factor_is_a_positive_number(factor: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        rescaled(source_of(np.zeros((3, 3)), "YX"), {"Y": factor})
