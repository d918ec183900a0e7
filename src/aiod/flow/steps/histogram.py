"""How often each value occurs in the whole image, counted box by box.

Integers are counted exactly, a value each. Floats are counted in two passes: the first finds the
smallest and the largest value, the second rounds every value to the nearest of `BINS` evenly
spaced ones from the one to the other, both included. So a percentile of floats is off by at most
half of a 65,535th of their range, and the minimum and the maximum are exact. Integers with more
than `MOST_VALUES` distinct values, which only 32 and 64 bits can have, are counted as floats are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiod.errors import AiodError
from aiod.flow.source import Box, Pixels, Source
from aiod.progress import Progress, Step, silent

Map = Callable[..., Iterable[Any]]
"""`map`, or anything that is called like it, such as the map of a pool of threads."""

BINS = 1 << 16
MOST_VALUES = 1 << 24
_SIDE = 2048
_PIXELS = 1 << 22
_CHANNELS = 4
_MERGE_AT = 1 << 20

Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False, slots=True)
class Histogram:
    """The values of one channel, rising and each once, and how many pixels have each.

    `values` has the image's dtype (float64 where it was binned), `counts` is int64. Pixels that are
    not finite numbers (NaN, infinities) are not among them: `uncounted` says how many there are.

    >>> histogram = Histogram(np.array([1, 2, 9]), np.array([2, 1, 1]))
    >>> histogram.percentile(50), histogram.mean
    (1, 3.25)
    """

    values: Pixels
    counts: Counts
    uncounted: int = 0

    @property
    def total(self) -> int:
        """Number of pixels counted."""
        return int(self.counts.sum())

    @property
    def minimum(self) -> float:
        """The smallest value; an int of integers. Raises AiodError where nothing was counted."""
        return self._value(0)

    @property
    def maximum(self) -> float:
        """The largest value; an int of integers. Raises AiodError where nothing was counted."""
        return self._value(-1)

    @property
    def mean(self) -> float:
        """Raises AiodError where nothing was counted."""
        self._check()
        return float(np.average(self.values.astype(np.float64), weights=self.counts))

    @property
    def std(self) -> float:
        """The standard deviation of the pixels. Raises AiodError where nothing was counted."""
        away = self.values.astype(np.float64) - self.mean
        return math.sqrt(float(np.average(away * away, weights=self.counts)))

    def percentile(self, q: float) -> float:
        """The smallest value that at least `q` percent of the pixels do not exceed.

        What `numpy.percentile(…, method="inverted_cdf")` gives. Raises AiodError where nothing was
        counted, ValueError for a `q` outside 0…100.
        """
        if not 0 <= q <= 100:
            raise ValueError(f"a percentile lies between 0 and 100: {q}")
        self._check()
        rank = max(1, math.ceil(self.total * (q / 100)))
        place = int(np.searchsorted(np.cumsum(self.counts), rank))
        return self._value(place)

    def _value(self, place: int) -> float:
        self._check()
        value: float = self.values[place].item()
        return value

    def _check(self) -> None:
        if not len(self.values):
            raise AiodError(
                "The image has no pixel that is a finite number.",
                hint="look at the image: a channel of it holds nothing but NaN or infinities",
            )


def histograms(
    source: Source, *, mapper: Map = map, progress: Progress = silent
) -> tuple[Histogram, ...]:
    """The histogram of each channel (of the one channel without a C axis), over all else.

    The source is read box by box, once for integers and twice for floats; what `mapper` works on at
    once is up to it, and its order does not matter. Raises what `source.read` raises.
    """
    if source.dtype.kind == "f":
        return _binned(source, mapper, progress)
    parts: list[list[tuple[Pixels, Counts]]] = [[] for _ in range(channels_of(source))]
    for found in _over(_CountIntegers(source), source, mapper, progress):
        for channel, values, counts in found:
            part = parts[channel]
            part.append((values, counts))
            if sum(len(values) for values, _ in part[1:]) > max(_MERGE_AT, len(part[0][0])):
                part[:] = [_merged(part)]
                if len(part[0][0]) > MOST_VALUES:
                    return _binned(source, mapper, progress)
    merged = [_merged(part) for part in parts]
    if any(len(values) > MOST_VALUES for values, _ in merged):
        return _binned(source, mapper, progress)
    return tuple(Histogram(values, counts) for values, counts in merged)


def extremes(
    source: Source, *, mapper: Map = map, progress: Progress = silent
) -> tuple[tuple[float, float], ...]:
    """The smallest and the largest finite value of each channel; (0, 0) where there is none."""
    return tuple(
        (0, 0) if low is None else (low, high)
        for low, high, _ in _extremes(source, mapper, progress)
    )


def channels_of(source: Source) -> int:
    """How many channels a source has: 1 without a C axis."""
    return source.sizes.get("C", 1)


def blocks_of(source: Source) -> Iterator[Box]:
    """Boxes of at most a few million pixels that cover a source without gap or overlap.

    Each lies in one time point and holds up to four channels and, where planes are small, several.
    """
    budget = _PIXELS
    steps: dict[str, int] = {"T": 1}
    for axis, most in (("C", _CHANNELS), ("X", _SIDE), ("Y", _SIDE), ("Z", _SIDE)):
        steps[axis] = max(1, min(source.sizes.get(axis, 1), most, budget))
        budget //= steps[axis]
    step = [steps[axis] for axis in source.axes]
    for corner in itertools.product(
        *(range(0, size, width) for size, width in zip(source.shape, step, strict=True))
    ):
        stop = (
            min(start + width, size)
            for start, width, size in zip(corner, step, source.shape, strict=True)
        )
        yield Box(corner, tuple(stop))


def _over(
    function: Callable[[Box], Any], source: Source, mapper: Map, progress: Progress
) -> Iterator[Any]:
    boxes = list(blocks_of(source))
    for done, found in enumerate(mapper(function, boxes), start=1):
        yield found
        progress(Step("measuring the whole image", done, len(boxes), "boxes"))


def _by_channel(source: Source, box: Box) -> Iterator[tuple[int, Pixels]]:
    pixels = np.asarray(source.read(box))
    if "C" not in source.axes:
        yield 0, pixels.reshape(-1)
        return
    axis = source.axes.index("C")
    for offset in range(pixels.shape[axis]):
        yield box.start[axis] + offset, pixels.take(offset, axis=axis).reshape(-1)


@dataclass(frozen=True, slots=True)
class _CountIntegers:
    source: Source

    def __call__(self, box: Box) -> list[tuple[int, Pixels, Counts]]:
        return [(c, *_counted(pixels)) for c, pixels in _by_channel(self.source, box)]


def _counted(pixels: Pixels) -> tuple[Pixels, Counts]:
    if pixels.dtype == bool:
        pixels = pixels.view(np.uint8)
    if pixels.dtype.itemsize > 2:
        values, counts = np.unique(pixels, return_counts=True)
        return values, counts.astype(np.int64)
    low = int(pixels.min())
    counts = np.bincount(pixels.astype(np.int64) - low)
    places = np.flatnonzero(counts)
    return (places + low).astype(pixels.dtype), counts[places].astype(np.int64)


def _merged(parts: Sequence[tuple[Pixels, Counts]]) -> tuple[Pixels, Counts]:
    values, places = np.unique(np.concatenate([part[0] for part in parts]), return_inverse=True)
    counts = np.zeros(len(values), np.int64)
    np.add.at(counts, places, np.concatenate([part[1] for part in parts]))
    return values, counts


@dataclass(frozen=True, slots=True)
class _FindExtremes:
    source: Source

    def __call__(self, box: Box) -> list[tuple[int, Any, Any, int]]:
        found = []
        for channel, pixels in _by_channel(self.source, box):
            kept = pixels[np.isfinite(pixels)] if pixels.dtype.kind == "f" else pixels
            low, high = (kept.min().item(), kept.max().item()) if kept.size else (None, None)
            found.append((channel, low, high, pixels.size - kept.size))
        return found


def _extremes(source: Source, mapper: Map, progress: Progress) -> list[tuple[Any, Any, int]]:
    lows: list[list[Any]] = [[] for _ in range(channels_of(source))]
    highs: list[list[Any]] = [[] for _ in lows]
    missing = [0] * len(lows)
    for found in _over(_FindExtremes(source), source, mapper, progress):
        for channel, low, high, left_out in found:
            missing[channel] += left_out
            if low is not None:
                lows[channel] = [min([low, *lows[channel]])]
                highs[channel] = [max([high, *highs[channel]])]
    return [
        (low[0], high[0], left_out) if low else (None, None, left_out)
        for low, high, left_out in zip(lows, highs, missing, strict=True)
    ]


def unknown_pixels(source: Source, *, mapper: Map = map, progress: Progress = silent) -> int:
    """How many pixels of all channels are NaN or infinite, which integers never are."""
    if source.dtype.kind != "f":
        return 0
    return sum(left_out for _, _, left_out in _extremes(source, mapper, progress))


@dataclass(frozen=True, slots=True)
class _CountFloats:
    source: Source
    extremes: tuple[tuple[Any, Any, int], ...]

    def __call__(self, box: Box) -> list[tuple[int, Counts]]:
        found = []
        for channel, pixels in _by_channel(self.source, box):
            low, high, _ = self.extremes[channel]
            if low is None:
                continue
            kept = pixels[np.isfinite(pixels)].astype(np.float64)
            # Halved, because the range of the largest floats is more than a float can hold.
            span = high / 2 - low / 2
            places = np.rint((kept / 2 - low / 2) * ((BINS - 1) / span)) if span else kept * 0
            found.append((channel, np.bincount(places.astype(np.int64), minlength=BINS)))
        return found


def _binned(source: Source, mapper: Map, progress: Progress) -> tuple[Histogram, ...]:
    ends = tuple(_extremes(source, mapper, progress))
    counts = np.zeros((len(ends), BINS), np.int64)
    for found in _over(_CountFloats(source, ends), source, mapper, progress):
        for channel, count in found:
            counts[channel] += count
    return tuple(_of_bins(*end, count) for end, count in zip(ends, counts, strict=True))


def _of_bins(low: Any, high: Any, left_out: int, counts: Counts) -> Histogram:
    if low is None:
        return Histogram(np.empty(0), np.empty(0, np.int64), left_out)
    part = np.arange(BINS) / (BINS - 1)
    levels = low * (1 - part) + high * part
    places = np.flatnonzero(counts)
    return Histogram(*_merged([(levels[places], counts[places])]), left_out)
