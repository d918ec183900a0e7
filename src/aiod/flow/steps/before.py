"""What may be done to an image before a model sees it: one function a step, its signature its form.

Rules for all of them, so that a part of an image gives the same as the part of the whole image:

- Statistics (of `clahe`, `normalise` and its kin) are those of the whole image, of each channel
  over all time points, never of the pixels at hand.
- What lies past the image's border is the image mirrored there, its last pixel repeated ("reflect"
  in scipy's words; `clahe` does not repeat it, as in scikit-image).
- Every pixel is computed by the same operations in the same order wherever it lies.
- A radius is in pixels and the same along Z, Y and X. A disk is all that is no further away.
- Integers stay what they are, rounded to the nearest; floats are float32. `normalise` and `clahe`
  give float32 in 0…1, `to_uint8` and `to_uint16` what their names say.

How a step gets its pixels, its statistics and the place where they lie is told in `chain`.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np

from aiod.flow.source import Box, Pixels, Source
from aiod.flow.steps.calls import Bounds, StepCall, Value, parse_call
from aiod.flow.steps.equalise import equalised, regions_for
from aiod.flow.steps.histogram import Map, extremes, histograms
from aiod.progress import Progress

Statistics = tuple[Mapping[str, float], ...]
"""What a step wants to know of the whole image: names and numbers, one mapping a channel."""

_TRUNCATE = 4.0  # standard deviations after which a gaussian ends, scipy's own default


@dataclass(frozen=True, slots=True)
class Seen:
    """What a step that asks for it is told besides its pixels, of the spatial axes alone.

    The pixels begin at `start` of an image of `shape`; what is wanted back is `box`, no more.
    """

    start: tuple[int, ...]
    box: Box
    shape: tuple[int, ...]
    statistics: Mapping[str, float]


def median(
    pixels: Pixels,
    *,
    radius: Annotated[int, Bounds(1, 50), "pixels; all within this distance count"] = 2,
) -> Pixels:
    """The median over a disk (a ball in 3D): takes away speckles, keeps edges."""
    from scipy import ndimage

    return like(
        ndimage.median_filter(pixels, footprint=disk(radius, pixels.ndim), mode="reflect"), pixels
    )


def mean(
    pixels: Pixels,
    *,
    radius: Annotated[int, Bounds(1, 200), "pixels; all within this distance count"] = 2,
) -> Pixels:
    """The mean over a disk (a ball in 3D)."""
    from scipy import ndimage

    # The disk is a stack of rows; rows of the same length are summed once. Sums of integers are
    # exact, and those of floats come about in the same order at every pixel (running sums do not).
    rows: dict[int, list[tuple[int, ...]]] = defaultdict(list)
    for offset in itertools.product(range(-radius, radius + 1), repeat=pixels.ndim - 1):
        rest = radius**2 - sum(step**2 for step in offset)
        if rest >= 0:
            rows[math.isqrt(rest)].append(offset)
    wide = np.pad(pixels, [(radius, radius)] * (pixels.ndim - 1) + [(0, 0)], mode="symmetric")
    total = np.zeros(pixels.shape)
    for half, offsets in rows.items():
        line = ndimage.correlate1d(
            wide, np.ones(2 * half + 1), axis=-1, output=np.float64, mode="reflect"
        )
        for offset in offsets:
            total += line[
                tuple(
                    slice(radius + step, radius + step + size)
                    for step, size in zip(offset, pixels.shape[:-1], strict=True)
                )
            ]
    count = sum((2 * half + 1) * len(offsets) for half, offsets in rows.items())
    return like(total / count, pixels)


def gaussian(
    pixels: Pixels,
    *,
    sigma: Annotated[float, Bounds(above=0, maximum=200), "pixels, the standard deviation"] = 1.0,
) -> Pixels:
    """A gaussian blur, cut off after four standard deviations."""
    from scipy import ndimage

    blurred = ndimage.gaussian_filter(
        pixels, sigma, output=np.float64, mode="reflect", truncate=_TRUNCATE
    )
    return like(blurred, pixels)


def subtract_background(
    pixels: Pixels,
    *,
    radius: Annotated[int, Bounds(1, 500), "pixels; more than that of the largest object"] = 25,
) -> Pixels:
    """A white top-hat: the image less its opening by a square (a cube in 3D) of 2 radius + 1.

    What is narrower than the square along any axis stays and stands on zero. Of signed integers,
    differences too large for them become their largest number.
    """
    from scipy import ndimage

    size = 2 * radius + 1
    eroded = ndimage.minimum_filter(pixels, size=size, mode="reflect")
    background = ndimage.maximum_filter(eroded, size=size, mode="reflect")
    if pixels.dtype.kind == "f":
        return like(pixels.astype(np.float64) - background, pixels)
    unsigned = np.dtype(
        f"u{pixels.dtype.itemsize}"
    )  # holds every difference, which is not negative
    difference = pixels.astype(unsigned) - background.astype(unsigned)
    saturated: Pixels = np.minimum(difference, np.iinfo(pixels.dtype).max)
    return saturated.astype(pixels.dtype)


def normalise(
    pixels: Pixels,
    seen: Seen,
    *,
    low: Annotated[float, Bounds(0, 100), "percentile of the whole image that becomes 0"] = 1.0,
    high: Annotated[float, Bounds(0, 100), "percentile of the whole image that becomes 1"] = 99.8,
) -> Pixels:
    """Brightness between two percentiles stretched to 0…1; what is outside becomes 0 or 1.

    Where both percentiles are the same brightness, what is brighter becomes 1 and the rest 0.
    """
    del low, high  # known by now as brightnesses
    bottom, top = seen.statistics["low"], seen.statistics["high"]
    if top <= bottom:
        return (pixels > bottom).astype(np.float32)
    stretched = (pixels.astype(np.float64) - bottom) / (float(top) - bottom)
    return np.clip(stretched, 0, 1).astype(np.float32)


def to_uint8(
    pixels: Pixels,
    seen: Seen,
    *,
    low: Annotated[float, Bounds(0, 100), "percentile of the whole image that becomes 0"] = 0.0,
    high: Annotated[
        float, Bounds(0, 100), "percentile of the whole image that becomes 255"
    ] = 100.0,
) -> Pixels:
    """Brightness between two percentiles as whole numbers 0…255, for models that take 8 bits."""
    whole: Pixels = np.rint(255 * normalise(pixels, seen, low=low, high=high)).astype(np.uint8)
    return whole


def to_uint16(
    pixels: Pixels,
    seen: Seen,
    *,
    low: Annotated[float, Bounds(0, 100), "percentile of the whole image that becomes 0"] = 0.0,
    high: Annotated[float, Bounds(0, 100), "percentile of the whole image that becomes 65535"] = (
        100.0
    ),
) -> Pixels:
    """Brightness between two percentiles as whole numbers 0…65535, for models of 16 bits."""
    whole: Pixels = np.rint(65535 * normalise(pixels, seen, low=low, high=high)).astype(np.uint16)
    return whole


def clahe(
    pixels: Pixels,
    seen: Seen,
    *,
    kernel_size: Annotated[int, Bounds(2, 4096), "pixels, the side of a contextual region"] = 64,
    clip_limit: Annotated[
        float, Bounds(1, 256), "the steepest slope, as in ImageJ and OpenCV; 1 changes least"
    ] = 5.0,
) -> Pixels:
    """Contrast-limited adaptive histogram equalisation; float32 in 0…1.

    The regions lie on a grid that begins at the image's corner; none is larger than the image.
    A clip limit of n stands for `clip_limit=n / 256` in scikit-image's `equalize_adapthist`, whose
    result this is but for its last stretching to exactly 0…1.
    """
    return equalised(
        pixels,
        start=seen.start,
        box=seen.box,
        shape=seen.shape,
        kernel_size=kernel_size,
        clip_limit=clip_limit,
        minimum=seen.statistics["minimum"],
        maximum=seen.statistics["maximum"],
    )


def downsample(
    pixels: Pixels,
    *,
    factor: Annotated[int, Bounds(1, 64), "how many pixels become one, along Y and X"] = 2,
    z_factor: Annotated[int, Bounds(1, 64), "how many planes become one"] = 1,
) -> Pixels:
    """The mean of each block of pixels. Blocks at the far edges are the mean of what there is."""
    factors = (1,) * (pixels.ndim - 3) + (z_factor, factor, factor)[-pixels.ndim :]
    total = pixels.astype(np.float64)
    count = np.ones((1,) * pixels.ndim)
    for axis, size in enumerate(factors):
        if size > 1:
            total, here = _block_sums(total, axis, size)
            count = count * here
    return like(total / count, pixels)


def _block_sums(values: Pixels, axis: int, size: int) -> tuple[Pixels, Pixels]:
    """Sums over blocks of `size` along an axis, and how many pixels each block has.

    Added up one after the other, so that every block goes the same way wherever it lies.
    """
    lines = np.moveaxis(values, axis, 0)
    blocks = -(-len(lines) // size)
    total = np.zeros((blocks, *lines.shape[1:]))
    for offset in range(size):
        part = lines[offset::size]
        total[: len(part)] += part
    here = np.full(blocks, size)
    here[-1] = len(lines) - (blocks - 1) * size
    form = [-1 if other == axis else 1 for other in range(values.ndim)]
    return np.moveaxis(total, 0, axis), here.reshape(form)


def disk(radius: int, ndim: int) -> Pixels:
    """All offsets of at most `radius`: a disk in 2D, a ball in 3D, as a boolean array."""
    away = np.ogrid[(slice(-radius, radius + 1),) * ndim]
    return np.asarray(sum(step**2 for step in away) <= radius**2)


def like(values: Pixels, pixels: Pixels) -> Pixels:
    """Results in the dtype that a step gives for these pixels: integers rounded, or float32."""
    if pixels.dtype.kind == "f":
        return to_float32(values)
    if values.dtype == pixels.dtype:
        return values
    limits = np.iinfo(pixels.dtype)
    # The largest float that is not more than the largest integer, which 64 bits have no float for.
    top = np.nextafter(float(limits.max) + 1, 0) if pixels.dtype.itemsize == 8 else limits.max
    return np.clip(np.rint(values), limits.min, top).astype(pixels.dtype)


def to_float32(values: Pixels) -> Pixels:
    """Floats as float32; those too large for it become its largest number."""
    if values.dtype.itemsize > 4:
        values = np.clip(values, *_FLOAT32)
    return values.astype(np.float32)


_FLOAT32 = (float(np.finfo(np.float32).min), float(np.finfo(np.float32).max))


@dataclass(frozen=True, slots=True)
class Step:
    """How a step's function is used.

    `needs` says, from the box that is wanted (spatial axes) and the image's shape, which box the
    function must be given; it may reach past the image, which is then mirrored as `border` says.
    A function gives as many pixels as it got, unless it is `informed`: then it is also given
    :class:`Seen` and gives the box that is wanted. `measure` takes what the step must know of the
    whole image. `gives` is the dtype of the result where it is not that of the image (see above).
    `factors` says by how much Z, Y and X shrink; a step that has it is given whole blocks.
    `check` says what is wrong with parameters that are right one by one.
    """

    function: Callable[..., Pixels]
    needs: Callable[..., Box] = lambda box, shape, **params: box  # noqa: ARG005
    border: Literal["reflect", "mirror"] = "reflect"
    informed: bool = False
    measure: Callable[..., Statistics] | None = None
    gives: str | None = None
    factors: Callable[..., dict[str, int]] | None = None
    check: Callable[..., str | None] | None = None


def _around(margin: Callable[..., int]) -> Callable[..., Box]:
    """The need of a step that looks `margin` pixels around each pixel."""

    def needs(box: Box, shape: tuple[int, ...], **params: Any) -> Box:
        del shape  # past the border it is mirrored
        reach = margin(**params)
        return Box(tuple(a - reach for a in box.start), tuple(b + reach for b in box.stop))

    return needs


def _percentiles(
    source: Source, mapper: Map, progress: Progress, *, low: float, high: float
) -> Statistics:
    return tuple(
        {"low": histogram.percentile(low), "high": histogram.percentile(high)}
        for histogram in histograms(source, mapper=mapper, progress=progress)
    )


def _extremes(source: Source, mapper: Map, progress: Progress, **_: Value) -> Statistics:
    return tuple(
        {"minimum": low, "maximum": high}
        for low, high in extremes(source, mapper=mapper, progress=progress)
    )


def _stretching(function: Callable[..., Pixels], gives: str) -> Step:
    """A step that stretches the brightness between two percentiles `low` and `high`."""
    return Step(
        function,
        informed=True,
        measure=_percentiles,
        gives=gives,
        check=lambda *, low, high: (
            None if low < high else f"low ({low}) must be below high ({high})"
        ),
    )


STEPS: dict[str, Step] = {
    "clahe": Step(
        clahe,
        needs=lambda box, shape, *, kernel_size, **_: regions_for(box, shape, kernel_size),
        border="mirror",
        informed=True,
        measure=_extremes,
        gives="float32",
    ),
    "downsample": Step(
        downsample,
        factors=lambda *, factor, z_factor: {"Z": z_factor, "Y": factor, "X": factor},
    ),
    "gaussian": Step(gaussian, needs=_around(lambda *, sigma: int(_TRUNCATE * sigma + 0.5))),
    "mean": Step(mean, needs=_around(lambda *, radius: radius)),
    "median": Step(median, needs=_around(lambda *, radius: radius)),
    "normalise": _stretching(normalise, "float32"),
    "subtract_background": Step(subtract_background, needs=_around(lambda *, radius: 2 * radius)),
    "to_uint16": _stretching(to_uint16, "uint16"),
    "to_uint8": _stretching(to_uint8, "uint8"),
}
"""The steps there are, by the names they are called with."""


def parse_step(text: str) -> StepCall:
    """A step as it is written on a command line, such as `clahe:clip_limit=5,kernel_size=64`.

    Raises UsageError, which says what was expected and lists the valid names.
    """
    return parse_call(text, STEPS)
