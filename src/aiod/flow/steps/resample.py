"""Other sizes of pixel, box by box: images resampled, masks brought back to the full grid.

Pixels are areas: output pixel i has its centre at (i + 0.5) / factor - 0.5 of the input, so that
nothing moves, whatever is resampled how often.

    factor 0.5     |  0  |  1  |  2  |       output
                   | 0| 1| 2| 3| 4| 5|       input
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from aiod.flow.source import Box, Pixels, Source
from aiod.flow.steps.before import like
from aiod.flow.steps.mirror import read_mirrored

_TRUNCATE = 4.0


def rescaled(source: Source, factors: Mapping[str, float]) -> Source:
    """A source resampled along some of Z, Y and X; a factor below 1 makes it smaller.

    Linear interpolation, after a gaussian of (1 / factor - 1) / 2 pixels where it shrinks (as
    scikit-image's `resize`); past the border the image is mirrored. Sizes are rounded, pixel sizes
    follow. Integers stay what they are, rounded; floats become float32. Any box is exactly that box
    of the whole result. Raises ValueError for a factor that is no positive number.
    """
    check_factors(factors)
    used = {axis: factors[axis] for axis in source.axes if factors.get(axis, 1) != 1}
    shape = tuple(
        max(1, math.floor(size * used.get(axis, 1) + 0.5)) for axis, size in source.sizes.items()
    )
    sizes = {axis: size / used.get(axis, 1) for axis, size in source.pixel_size.items()}
    dtype = np.dtype(np.float32) if source.dtype.kind == "f" else source.dtype
    return Source(source.axes, shape, dtype, _Resampled(source, used), sizes) if used else source


def enlarged_labels(
    labels: Source, shape: tuple[int, ...], factors: Mapping[str, float] | None = None
) -> Source:
    """Labels of a smaller (or larger) grid brought to one of `shape`: the nearest pixel's label.

    `factors` are those by which the labels' grid came about, such as `Prepared.factors`. Without
    them they are taken from the shapes, which is the same where no size had to be rounded.
    """
    if factors is None:
        sizes = zip(labels.axes, labels.shape, shape, strict=True)
        factors = {axis: small / large for axis, small, large in sizes}
    check_factors(factors)
    pixel_size = {axis: size * factors.get(axis, 1) for axis, size in labels.pixel_size.items()}
    read = _Enlarged(labels, tuple(factors.get(axis, 1) for axis in labels.axes))
    return replace(labels, shape=tuple(shape), read=read, pixel_size=pixel_size)


def check_factors(factors: Mapping[str, float]) -> None:
    """Raises ValueError for a factor that cannot be."""
    if wrong := {axis: f for axis, f in factors.items() if not (f > 0 and math.isfinite(f))}:
        raise ValueError(f"factors are positive numbers: {wrong}")


@dataclass(frozen=True, slots=True)
class _Resampled:
    source: Source
    factors: Mapping[str, float]

    def __call__(self, box: Box) -> Pixels:
        from scipy import ndimage

        start, stop, sampled = list(box.start), list(box.stop), []
        for axis, factor in self.factors.items():
            place = self.source.axes.index(axis)
            wide = max(0.0, (1 / factor - 1) / 2)
            at = (np.arange(box.start[place], box.stop[place]) + 0.5) / factor - 0.5
            left = np.floor(at).astype(np.int64)
            reach = int(_TRUNCATE * wide + 0.5)
            start[place], stop[place] = int(left[0]) - reach, int(left[-1]) + 2 + reach
            sampled.append((place, left - start[place], at - left, wide))
        pixels = read_mirrored(self.source, Box(tuple(start), tuple(stop)))
        result = pixels.astype(np.float64)
        for place, left, part, wide in sampled:
            if wide:
                result = ndimage.gaussian_filter1d(result, wide, axis=place, truncate=_TRUNCATE)
            part = part.reshape([-1 if axis == place else 1 for axis in range(result.ndim)])
            result = result.take(left, place) * (1 - part) + result.take(left + 1, place) * part
        return like(result, pixels)


@dataclass(frozen=True, slots=True)
class _Enlarged:
    labels: Source
    factors: tuple[float, ...]

    def __call__(self, box: Box) -> Pixels:
        places = [
            np.minimum((np.arange(a, b) + 0.5) * factor, size - 1).astype(np.int64)
            for a, b, factor, size in zip(
                box.start, box.stop, self.factors, self.labels.shape, strict=True
            )
        ]
        inside = Box(
            tuple(int(place[0]) for place in places), tuple(int(place[-1]) + 1 for place in places)
        )
        pixels = np.asarray(self.labels.read(inside))
        for axis, (place, first) in enumerate(zip(places, inside.start, strict=True)):
            pixels = pixels.take(place - first, axis=axis)
        return pixels
