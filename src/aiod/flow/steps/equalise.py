"""CLAHE of a box of an image, the same as that box of the whole image's.

    region 0    region 1    region 2        each region has its own mapping, from its histogram;
  |-----o-----|-----o-----|-----o-----|     between the centres (o) mappings are interpolated,
  image's corner                            before the first and after the last they are not

Algorithm: K. Zuiderveld, "Contrast Limited Adaptive Histogram Equalization", Graphics Gems IV
(1994); brightness levels, bins and the sharing out of what is clipped are those of scikit-image's
`equalize_adapthist`, so that results can be compared.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from aiod.flow.source import Box, Pixels

LEVELS = 1 << 14
BINS = 256
_PER_BIN = 1 + LEVELS // BINS


def kernel_for(shape: tuple[int, ...], kernel_size: int) -> tuple[int, ...]:
    """The sides of a region: `kernel_size`, but no more than the image has."""
    return tuple(min(kernel_size, size) for size in shape)


def regions_for(box: Box, shape: tuple[int, ...], kernel_size: int) -> Box:
    """All regions whose mappings a box of an image of `shape` needs; may reach past the far edges.

    >>> regions_for(Box((40,), (50,)), (100,), 16)
    Box(start=(32,), stop=(64,))
    """
    start, stop = [], []
    kernel = kernel_for(shape, kernel_size)
    for a, b, size, side in zip(box.start, box.stop, shape, kernel, strict=True):
        last = -(-size // side) - 1
        start.append(side * min(last, max(0, (a + side // 2) // side - 1)))
        stop.append(side * (min(last, (b - 1 + side // 2) // side) + 1))
    return Box(tuple(start), tuple(stop))


def equalised(
    pixels: Pixels,
    *,
    start: tuple[int, ...],
    box: Box,
    shape: tuple[int, ...],
    kernel_size: int,
    clip_limit: float,
    minimum: float,
    maximum: float,
) -> NDArray[np.float32]:
    """The box of the equalised image, in 0…1.

    `pixels` are those of :func:`regions_for`, beginning at `start`, mirrored past the image's far
    edges; `shape` is the image's, `minimum` and `maximum` are over the whole of it. `clip_limit` is
    how many times as often as the mean a brightness may count.
    """
    kernel = kernel_for(shape, kernel_size)
    grey = _grey(pixels, minimum, maximum)
    mappings, grid = _mappings(grey, kernel, clip_limit)
    grey = grey[box.seen_from(start).slices]
    sides = []  # along each axis: for the region before and the one after, its number and weight
    for axis, (a, b) in enumerate(zip(box.start, box.stop, strict=True)):
        side = kernel[axis]
        after, part = np.divmod(np.arange(a, b) + side // 2, side)
        first, weight = start[axis] // side, part / side
        form = [-1 if other == axis else 1 for other in range(grey.ndim)]
        regions = [np.clip(n - first, 0, grid[axis] - 1) for n in (after - 1, after)]
        sides.append(
            [
                (n.reshape(form), w.reshape(form))
                for n, w in zip(regions, (1 - weight, weight), strict=True)
            ]
        )
    result = np.zeros(grey.shape)
    for corner in itertools.product(*sides):
        region = np.zeros((1,) * grey.ndim, np.intp)
        weight = np.ones((1,) * grey.ndim)
        for (number, part), count in zip(corner, grid, strict=True):
            region = region * count + number
            weight = weight * part
        result += mappings[region, grey] * weight
    return (result / (LEVELS - 1)).astype(np.float32)


def _grey(pixels: Pixels, minimum: float, maximum: float) -> NDArray[np.uint8]:
    """The bin of each pixel."""
    span = float(maximum) - float(minimum)
    if span <= 0:
        return np.zeros(pixels.shape, np.uint8)
    levels = np.rint((pixels.astype(np.float64) - minimum) / span * (LEVELS - 1))
    return (levels.astype(np.int64) // _PER_BIN).astype(np.uint8)


def _mappings(
    grey: NDArray[np.uint8], kernel: tuple[int, ...], clip_limit: float
) -> tuple[NDArray[np.float64], tuple[int, ...]]:
    """The mapping of each region, of shape (regions, BINS), and how many there are an axis."""
    grid = tuple(size // side for size, side in zip(grey.shape, kernel, strict=True))
    area = math.prod(kernel)
    region = np.zeros((1,) * grey.ndim, np.int64)
    for axis, (count, side) in enumerate(zip(grid, kernel, strict=True)):
        form = [-1 if other == axis else 1 for other in range(grey.ndim)]
        region = region * count + np.repeat(np.arange(count), side).reshape(form)
    bins = (region * BINS + grey).ravel()
    counts = np.bincount(bins, minlength=math.prod(grid) * BINS).reshape(-1, BINS)
    clipped = _clipped(counts, max(1, int(clip_limit / BINS * area)))
    mapping = np.cumsum(clipped, axis=1) * ((LEVELS - 1) / area)
    return np.floor(np.minimum(mapping, LEVELS - 1)), grid


def _clipped(counts: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Histograms (a row each) of which no bin has more than `limit`: the rest is shared out."""
    counts = counts.copy()
    excess = np.maximum(counts - limit, 0).sum(axis=1)
    np.minimum(counts, limit, out=counts)
    share = (excess // BINS)[:, np.newaxis]
    low = counts < limit - share
    excess -= low.sum(axis=1) * share[:, 0]
    counts += low * share
    nearly = (counts >= limit - share) & (counts < limit)
    excess -= np.where(nearly, limit - counts, 0).sum(axis=1)
    counts[nearly] = limit
    bins = np.arange(BINS)
    # What is left goes one by one to bins below the limit, as evenly spread as it may be.
    index = 0
    while True:
        below = counts < limit
        rows = np.flatnonzero((excess > 0) & below.any(axis=1))
        if not len(rows):
            return counts
        stride = np.maximum(1, below[rows].sum(axis=1) // excess[rows])[:, np.newaxis]
        taken = below[rows] & (bins >= index) & ((bins - index) % stride == 0)
        counts[rows] += taken
        excess[rows] -= taken.sum(axis=1)
        index = (index + 1) % BINS
