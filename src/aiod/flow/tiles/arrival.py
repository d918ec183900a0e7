"""Tiles as they are finished, for doors that show results before an image is whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aiod.flow.source import Box, Pixels
from aiod.flow.tiles.job import Job, Place


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
