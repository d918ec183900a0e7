"""Tiles as they are finished, for doors that show results before an image is whole."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from aiod.flow.source import Box, Pixels
from aiod.flow.tiles.job import Job, Place

_MOST_HELD = 1 << 27
"""Pixels that a window is to hold while labels grow: of a larger image it gets every second, third,
… pixel of Y and X."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A finished tile of one label image: the labels `set` of the image `sample`.

    Its labels are its own, 1…n: those of neighbours are joined when all tiles are there.
    """

    sample: str
    set: str
    job: Job
    place: Place

    @property
    def axes(self) -> str:
        """The axes of the label image: those of TZYX that the image has."""
        return self.job.source.axes.replace("C", "")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the label image, in the pixels that the model sees."""
        source = self.job.source
        return tuple(n for axis, n in source.sizes.items() if axis != "C")

    @property
    def factors(self) -> dict[str, float]:
        """Axis -> how many pixels that the model sees each pixel of the image became."""
        return self.job.factors

    @property
    def box(self) -> Box:
        """The tile's core in the label image."""
        frames = self.job.frames(self.job.source)
        return frames.box(self.place.frame, self.job.plan[self.place.tile].core, without="C")

    def labels(self) -> Pixels:
        """Its labels, of the shape of `box`. Raises AiodError where they cannot be read."""
        inner = self.job.plan[self.place.tile].inner
        return self.job.store.labels(*self.place)[inner.slices].reshape(self.box.shape)


Watch = Callable[[Arrival], None]


def unwatched(arrival: Arrival) -> None:
    """The callback of whoever waits for the whole."""


def thinning(shape: tuple[int, ...]) -> int:
    """Every how-many-th pixel of Y and X of labels a window gets while they grow.

    >>> thinning((9000, 8000)), thinning((30_000, 20_000)), thinning((300, 1024, 1024))
    (1, 3, 2)
    """
    return max(1, math.ceil(math.sqrt(math.prod(shape) / _MOST_HELD)))


def thinned_shape(shape: tuple[int, ...], thin: int) -> list[int]:
    """Of what shape labels are of which a window gets every `thin`-th pixel of Y and X.

    >>> thinned_shape((3, 10, 11), 2)
    [3, 5, 6]
    """
    return [*shape[:-2], *(-(-n // thin) for n in shape[-2:])]


def thinned(labels: Pixels, start: tuple[int, ...], thin: int) -> tuple[list[int], Pixels]:
    """Of every `thin` pixels of Y and X of the whole the first; where they start there, and they.

    >>> import numpy as np
    >>> thinned(np.arange(10).reshape(2, 5), (3, 4), 2)
    ([2, 2], array([[5, 7, 9]]))
    """
    skipped = [-at % thin for at in start[-2:]]
    places = [(at + skip) // thin for at, skip in zip(start[-2:], skipped, strict=True)]
    return [*start[:-2], *places], labels[..., skipped[0] :: thin, skipped[1] :: thin]
