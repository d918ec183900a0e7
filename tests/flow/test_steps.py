"""Each step on a whole image, beside scipy and scikit-image."""

from __future__ import annotations

import doctest
import inspect
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage import data
from skimage.exposure import equalize_adapthist, rescale_intensity
from skimage.measure import block_reduce
from skimage.morphology import ball
from skimage.morphology import disk as skimage_disk

from aiod.errors import UsageError
from aiod.flow.source import Box, Pixels, Source
from aiod.flow.steps import equalise
from aiod.flow.steps.before import (
    STEPS,
    disk,
    downsample,
    mean,
    median,
    parse_step,
    subtract_background,
)
from aiod.flow.steps.before import gaussian as gaussian_step
from aiod.flow.steps.calls import form_of
from aiod.flow.steps.chain import apply, measure_steps

INTEGERS = ("uint8", "uint16", "int16", "int32", "uint64", "int64")


def after(pixels: Pixels, *steps: str, axes: str | None = None, spatial: str = "YX") -> Pixels:
    """The whole image after steps."""
    source = Source(
        axes or "ZYX"[-pixels.ndim :], pixels.shape, pixels.dtype, lambda box: pixels[box.slices]
    )
    calls = [parse_step(step) for step in steps]
    prepared = apply(source, measure_steps(source, calls, spatial=spatial))
    result = prepared.read(Box.whole(prepared.shape))
    assert (result.dtype, result.shape) == (prepared.dtype, prepared.shape)
    return result


@st.composite
def images(draw: st.DrawFn, *dtypes: str) -> Pixels:
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=3, max_side=9))
    dtype = draw(st.sampled_from(dtypes or (*INTEGERS, "float32")))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    if dtype == "float32":
        return (rng.random(shape) * 100 - 20).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def rounded(values: Pixels, pixels: Pixels) -> Pixels:
    if pixels.dtype.kind == "f":
        return values.astype(np.float32)
    limits = np.iinfo(pixels.dtype)
    clipped = [min(max(int(v), limits.min), limits.max) for v in np.rint(values).ravel()]
    return np.array(clipped, pixels.dtype).reshape(pixels.shape)


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(equalise).failed == 0


@pytest.mark.parametrize("name", sorted(STEPS))
def test_every_step_has_words_and_every_parameter_a_default_and_words(name: str) -> None:
    function = STEPS[name].function
    assert inspect.getdoc(function)
    for entry in form_of(function):
        assert entry.text
        assert entry.default is not None
        assert entry.bounds.maximum is not None
        assert entry.bounds.wrong(float(entry.default)) is None


def test_a_disk_is_that_of_scikit_image() -> None:
    for radius in (1, 2, 5):
        np.testing.assert_array_equal(disk(radius, 2), skimage_disk(radius))
        np.testing.assert_array_equal(disk(radius, 3), ball(radius))


@given(images("uint8", "uint16", "int16", "float32"), st.integers(1, 4))
@settings(deadline=None)
def test_median_is_that_of_scipy_over_a_disk(pixels: Pixels, radius: int) -> None:
    expected = ndimage.median_filter(pixels, footprint=disk(radius, pixels.ndim), mode="reflect")
    np.testing.assert_array_equal(median(pixels, radius=radius), expected)


@given(images("uint8", "uint16", "int16", "int32", "float32"), st.integers(1, 4))
@settings(deadline=None)
def test_mean_is_a_convolution_with_a_disk(pixels: Pixels, radius: int) -> None:
    weights = disk(radius, pixels.ndim).astype(float)
    expected = ndimage.convolve(pixels.astype(float), weights, mode="reflect") / weights.sum()
    found = mean(pixels, radius=radius)
    assert found.dtype == pixels.dtype
    np.testing.assert_allclose(found, rounded(expected, pixels), rtol=1e-5, atol=1e-4)


@given(images("uint8", "uint16", "int16", "int32", "float32"), st.floats(0.3, 3))
@settings(deadline=None)
def test_gaussian_is_that_of_scipy(pixels: Pixels, sigma: float) -> None:
    expected = ndimage.gaussian_filter(pixels.astype(float), sigma, mode="reflect")
    found = gaussian_step(pixels, sigma=sigma)
    assert found.dtype == pixels.dtype
    np.testing.assert_array_equal(found, rounded(expected, pixels))


@given(images("uint8", "uint16", "uint64"), st.integers(1, 4))
@settings(deadline=None)
def test_the_background_is_what_a_white_top_hat_takes_away(pixels: Pixels, radius: int) -> None:
    found = subtract_background(pixels, radius=radius)
    expected = ndimage.white_tophat(pixels, size=2 * radius + 1, mode="reflect")
    np.testing.assert_array_equal(found, expected)


@given(images("int16", "int32", "float32"), st.integers(1, 4))
@settings(deadline=None)
def test_differences_too_large_for_signed_integers_are_their_largest(
    pixels: Pixels, radius: int
) -> None:
    found = subtract_background(pixels, radius=radius)
    assert found.dtype == pixels.dtype
    wide = ndimage.white_tophat(pixels.astype(float), size=2 * radius + 1, mode="reflect")
    np.testing.assert_array_equal(found, rounded(wide, pixels))


@given(images(), st.integers(1, 4), st.integers(1, 3))
@settings(deadline=None)
def test_downsampling_is_the_mean_of_what_there_is_of_each_block(
    pixels: Pixels, factor: int, z_factor: int
) -> None:
    found = downsample(pixels, factor=factor, z_factor=z_factor)
    blocks = (z_factor, factor, factor)[-pixels.ndim :]
    assert found.shape == tuple(-(-n // b) for n, b in zip(pixels.shape, blocks, strict=True))
    for place in np.ndindex(found.shape):
        block = pixels[tuple(slice(i * b, (i + 1) * b) for i, b in zip(place, blocks, strict=True))]
        exact = Fraction(sum(Fraction(v) for v in block.ravel().tolist()), block.size)
        largest = max(abs(float(v)) for v in block.ravel())
        half = largest * 1e-6 if pixels.dtype.kind == "f" else 0.5 + largest * 1e-14
        assert abs(Fraction(found[place].item()) - exact) <= half


def test_whole_blocks_are_those_of_scikit_image() -> None:
    pixels = data.camera()
    expected = np.rint(block_reduce(pixels, (4, 4), np.mean)).astype(np.uint8)
    np.testing.assert_array_equal(downsample(pixels, factor=4), expected)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_normalised_brightness_lies_between_the_percentiles_of_the_whole(dtype: str) -> None:
    pixels = np.random.default_rng(0).integers(-100 if dtype == "int16" else 0, 200, (60, 70))
    pixels = pixels.astype(dtype)
    low, high = np.percentile(pixels, [1, 99.8], method="inverted_cdf").astype(float)
    expected = np.clip((pixels.astype(float) - low) / (high - low), 0, 1)
    found = after(pixels, "normalise")
    np.testing.assert_allclose(found, expected, atol=1e-6 if dtype != "float32" else 2e-5)
    assert found.dtype == np.float32
    assert (found.min(), found.max()) == (0, 1)


@pytest.mark.parametrize(("step", "most"), [("to_uint8", 255), ("to_uint16", 65535)])
def test_brightness_as_whole_numbers_is_that_of_scikit_image(step: str, most: int) -> None:
    pixels = np.random.default_rng(0).normal(9000, 2000, (60, 70)).astype(np.uint16)
    found = after(pixels, step)
    stretched = rescale_intensity(pixels.astype(float), out_range=(0, most))
    assert found.dtype == f"uint{most.bit_length()}"
    assert np.abs(found - stretched).max() <= 0.5 + most * 1e-6
    low, high = np.percentile(pixels, [10, 90], method="inverted_cdf").astype(float)
    found = after(pixels, f"{step}:low=10,high=90")
    np.testing.assert_array_equal(found == 0, pixels <= low + (high - low) / most / 2)


def test_an_image_of_few_bright_pixels_is_not_divided_by_zero() -> None:
    pixels = np.zeros((50, 50), np.uint16)
    assert after(pixels, "normalise").max() == 0
    pixels[3, 4] = 9
    np.testing.assert_array_equal(after(pixels, "normalise:low=1,high=50"), pixels > 0)
    assert np.isfinite(after(pixels, "clahe")).all()
    assert np.isfinite(after(pixels * 0, "clahe")).all()


@pytest.mark.parametrize(
    ("kernel", "limit", "shape"),
    [
        (64, 5, (200, 230)),
        (31, 2.5, (100, 90)),
        (16, 1, (64, 64)),
        (50, 256, (120, 51)),
        (7, 3, (7, 40)),
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_clahe_is_that_of_scikit_image_but_for_its_last_stretch(
    kernel: int, limit: float, shape: tuple[int, int], dtype: str
) -> None:
    rng = np.random.default_rng(kernel)
    pixels = ndimage.gaussian_filter(rng.random(shape), 3)
    pixels = ((pixels - pixels.min()) / np.ptp(pixels) * np.iinfo(dtype).max).astype(dtype)
    found = after(pixels, f"clahe:kernel_size={kernel},clip_limit={limit}")
    assert found.dtype == np.float32
    assert 0 <= found.min() <= found.max() <= 1
    stretched = (found - found.min()) / np.ptp(found)
    expected = equalize_adapthist(pixels, kernel_size=kernel, clip_limit=limit / 256)
    np.testing.assert_allclose(stretched, expected, atol=2e-4)


def test_clahe_of_a_stack_is_that_of_scikit_image() -> None:
    blurred = ndimage.gaussian_filter(np.random.default_rng(0).random((16, 64, 70)), 2)
    pixels = ((blurred - blurred.min()) / np.ptp(blurred) * 4000).astype(np.uint16)
    found = after(pixels, "clahe:kernel_size=24,clip_limit=4", spatial="ZYX")
    stretched = (found - found.min()) / np.ptp(found)
    expected = equalize_adapthist(pixels, kernel_size=(16, 24, 24), clip_limit=4 / 256)
    np.testing.assert_allclose(stretched, expected, atol=2e-4)


@pytest.mark.parametrize("step", sorted(STEPS))
@pytest.mark.parametrize("dtype", ["bool", "float16", "float32", "float64"])
def test_no_nan_and_no_infinity_comes_out(step: str, dtype: str) -> None:
    pixels = (np.random.default_rng(0).random((40, 44)) * 100).astype(dtype)
    if dtype != "bool":
        pixels[3, 4], pixels[9, 9], pixels[20, 30] = np.nan, np.inf, -np.inf
    if dtype == "float64":
        pixels[1, 1], pixels[2, 2] = 1e300, -1e300
    found = after(pixels, step)
    assert np.isfinite(found).all()
    assert found.dtype in (np.float32, np.uint8, np.uint16)


def test_what_is_no_number_counts_as_zero() -> None:
    pixels = np.array([[np.nan, 5.0], [np.inf, 7.0]])
    np.testing.assert_array_equal(after(pixels), np.array([[0, 5], [0, 7]], np.float32))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("normalise:low=60,high=40", "low .* must be below high"),
        ("clahe:clip_limit=0.01", "at least 1"),
        ("clahe:kernel=3", r"there is kernel_size and clip_limit"),
        ("gaussian:sigma=1e9", "at most 200"),
        ("equalise", "clahe, downsample, gaussian"),
    ],
)
def test_mistakes_are_sentences(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=f"(?s){said}"):
        parse_step(text)


def test_the_example_of_the_command_line_is_right() -> None:
    assert str(parse_step("clahe:clip_limit=5")) == "clahe:kernel_size=64,clip_limit=5"
    assert str(parse_step("downsample:factor=2")) == "downsample:factor=2,z_factor=1"
