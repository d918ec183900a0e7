"""Steps one after the other, read box by box: any box is that box of the whole image's result.

measure_steps(source, steps, spatial="YX")  ->  Prepared   plain values, the statistics in it
apply(source, prepared)                     ->  Source     the same in every process
prepare(source, steps, spatial="YX")        ->  Source     both at once
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from aiod.errors import AiodError, UsageError
from aiod.flow.source import AXES, Box, Pixels, Source
from aiod.flow.steps.before import STEPS, Seen, Statistics, Step, to_float32
from aiod.flow.steps.calls import StepCall, Value
from aiod.flow.steps.histogram import Map
from aiod.flow.steps.mirror import read_mirrored
from aiod.progress import Progress, silent


@dataclass(frozen=True, slots=True)
class Measured:
    """A step with all its parameters and what it knows of the whole image, a mapping a channel."""

    name: str
    params: Mapping[str, Value]
    statistics: Statistics = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """Steps as plain values: picklable, `dataclasses.asdict` gives JSON.

    `spatial` are the axes on which the steps act; planes, channels and time points that are not
    among them are each by themselves.
    """

    spatial: str
    steps: tuple[Measured, ...]

    @property
    def factors(self) -> dict[str, float]:
        """By how much Z, Y and X are scaled in all: 0.5 after a downsampling by 2."""
        scaled = {"Z": 1.0, "Y": 1.0, "X": 1.0}
        for step in self.steps:
            if (factors := STEPS[step.name].factors) is not None:
                for axis, factor in factors(**step.params).items():
                    scaled[axis] /= factor
        return scaled


def prepare(
    source: Source,
    steps: Sequence[StepCall],
    *,
    spatial: str,
    mapper: Map = map,
    progress: Progress = silent,
) -> Source:
    """The source after all the steps, lazily; see :func:`measure_steps` and :func:`apply`."""
    return apply(
        source, measure_steps(source, steps, spatial=spatial, mapper=mapper, progress=progress)
    )


def measure_steps(
    source: Source,
    steps: Sequence[StepCall],
    *,
    spatial: str,
    mapper: Map = map,
    progress: Progress = silent,
) -> Prepared:
    """Take the statistics that the steps need, each over the whole image as it is at that point.

    `spatial` is "YX" or "ZYX". Only steps that need statistics read the source (once; twice where
    it holds floats), box by box through `mapper`. Raises UsageError for a step that cannot be done
    to this image, AiodError for an image of complex numbers.
    """
    measured: list[Measured] = []
    current = _start(source, spatial)
    for call in steps:
        step = STEPS[call.name]
        if step.factors is not None:
            _check_axes(call, step.factors(**call.params), source)
        statistics: Statistics = ()
        if step.measure is not None:
            statistics = step.measure(current, mapper, progress, **call.params)
        measured.append(Measured(call.name, dict(call.params), statistics))
        current = _after(current, measured[-1], spatial)
    return Prepared(spatial, tuple(measured))


def apply(source: Source, prepared: Prepared) -> Source:
    """The source after measured steps. Reads nothing until it is read.

    Floats come out as float32, and what is no finite number (NaN, infinities) counts as 0 from the
    start: none reaches a step or a model. Boolean images come out as uint8.
    """
    current = _start(source, prepared.spatial)
    for measured in prepared.steps:
        current = _after(current, measured, prepared.spatial)
    return current


def _start(source: Source, spatial: str) -> Source:
    if spatial not in ("YX", "ZYX") or source.axes[-len(spatial) :] != spatial:
        raise ValueError(f"{spatial} are no axes to act on in an image of {source.axes}")
    if source.dtype.kind == "c":
        raise AiodError(
            f"The image holds complex numbers ({source.dtype}), which no step and no model takes.",
            hint="save its magnitude or its real part as an image of floats",
        )
    if source.dtype.kind not in "fb":
        return source
    dtype = np.dtype(np.float32 if source.dtype.kind == "f" else np.uint8)
    return replace(source, dtype=dtype, read=_Finite(source))


def _check_axes(call: StepCall, factors: Mapping[str, int], source: Source) -> None:
    for axis, factor in factors.items():
        if factor != 1 and axis not in source.axes:
            raise UsageError(
                f"The step {call} cannot be done: the image has no axis {axis}.",
                details=[f"its axes are {source.axes} (of {AXES})"],
            )


def _after(source: Source, measured: Measured, spatial: str) -> Source:
    step = STEPS[measured.name]
    if step.factors is not None:
        factors = step.factors(**measured.params)
        shape = tuple(-(-size // factors.get(axis, 1)) for axis, size in source.sizes.items())
        sizes = {axis: size * factors.get(axis, 1) for axis, size in source.pixel_size.items()}
        read = _Shrunk(source, measured, tuple(factors.get(axis, 1) for axis in source.axes))
        return replace(source, shape=shape, read=read, pixel_size=sizes)
    dtype = source.dtype if step.gives is None else np.dtype(step.gives)
    return replace(source, dtype=dtype, read=_Filtered(source, measured, len(spatial), dtype))


@dataclass(frozen=True, slots=True)
class _Finite:
    source: Source

    def __call__(self, box: Box) -> Pixels:
        pixels = np.asarray(self.source.read(box))
        if pixels.dtype.kind == "b":
            return pixels.astype(np.uint8)
        return to_float32(np.where(np.isfinite(pixels), pixels, pixels.dtype.type(0)))


@dataclass(frozen=True, slots=True)
class _Filtered:
    source: Source
    measured: Measured
    spatial: int
    dtype: np.dtype[Any]

    def __call__(self, box: Box) -> Pixels:
        step, params = STEPS[self.measured.name], self.measured.params
        lead = len(self.source.shape) - self.spatial
        wanted = Box(box.start[lead:], box.stop[lead:])
        shape = self.source.shape[lead:]
        needed = step.needs(wanted, shape, **params)
        given = Box(box.start[:lead] + needed.start, box.stop[:lead] + needed.stop)
        pixels = read_mirrored(self.source, given, step.border)
        result = np.empty(box.shape, self.dtype)
        for index in np.ndindex(box.shape[:lead]):
            if step.informed:
                seen = Seen(needed.start, wanted, shape, self._statistics(box, index))
                result[index] = step.function(pixels[index], seen, **params)
            else:
                part = step.function(pixels[index], **params)
                result[index] = part[wanted.seen_from(needed.start).slices]
        return result

    def _statistics(self, box: Box, index: tuple[int, ...]) -> Mapping[str, float]:
        if not self.measured.statistics:
            return {}
        axis = self.source.axes.find("C")
        channel = 0 if axis < 0 else box.start[axis] + index[axis]
        return self.measured.statistics[channel]


@dataclass(frozen=True, slots=True)
class _Shrunk:
    source: Source
    measured: Measured
    factors: tuple[int, ...]

    def __call__(self, box: Box) -> Pixels:
        step: Step = STEPS[self.measured.name]
        start = tuple(a * f for a, f in zip(box.start, self.factors, strict=True))
        stop = tuple(
            min(n, b * f) for b, f, n in zip(box.stop, self.factors, self.source.shape, strict=True)
        )
        pixels = np.asarray(self.source.read(Box(start, stop)))
        lead = len(box.shape) - (3 if "Z" in self.source.axes else 2)
        result = np.empty(box.shape, self.source.dtype)
        for index in np.ndindex(box.shape[:lead]):
            result[index] = step.function(pixels[index], **self.measured.params)
        return result
