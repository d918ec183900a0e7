"""Labels in memory, as napari draws them soon: those of large planes are to be a pyramid.

Napari converts and draws all of a plane, but of a pyramid no more than the window has pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from aiod.flow.source import Pixels
from aiod.flow.tiles.arrival import thinned, thinned_shape

_COARSEST = 1 << 20
"""Pixels of a plane of the last level of a pyramid."""


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """Labels, and of a pyramid every second, fourth, … pixel of Y and X."""

    finest: Pixels
    coarser: tuple[Pixels, ...]

    @classmethod
    def empty(cls, shape: tuple[int, ...], *, pyramid: bool) -> Levels:
        """No labels, of a shape."""
        shapes = _shapes(shape) if pyramid else []
        return cls(np.zeros(shape, np.uint32), tuple(np.zeros(each, np.uint32) for each in shapes))

    @classmethod
    def of(cls, labels: Pixels, *, pyramid: bool) -> Levels:
        """These labels."""
        shapes = _shapes(labels.shape) if pyramid else []
        coarser = (labels[..., :: 2**n, :: 2**n] for n, _ in enumerate(shapes, 1))
        # For other orders than C napari compiles anew how it draws them.
        return cls(np.ascontiguousarray(labels), tuple(map(np.ascontiguousarray, coarser)))

    @property
    def pyramid(self) -> bool:
        """Whether there are levels beside the finest."""
        return bool(self.coarser)

    @property
    def data(self) -> Any:
        """What a layer is given: an array, or the list of arrays of a pyramid."""
        return [self.finest, *self.coarser] if self.pyramid else self.finest

    def write(self, labels: Pixels, start: tuple[int, ...]) -> None:
        """Put labels where they start, in all levels."""
        for depth, level in enumerate((self.finest, *self.coarser)):
            at, part = thinned(labels, start, 2**depth)
            level[tuple(slice(a, a + n) for a, n in zip(at, part.shape, strict=True))] = part

    def touch(self) -> None:
        """Have the memory of all pixels made ready, for which the first to write else waits."""
        for level in (self.finest, *self.coarser):
            one_of_each_page = level.reshape(-1)[:: 4096 // level.itemsize]
            np.bitwise_or(one_of_each_page, 0, one_of_each_page)


def _shapes(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The shapes of the levels that follow the finest, of which there is one at least."""
    found = [tuple(thinned_shape(shape, 2))]
    while math.prod(found[-1][-2:]) > _COARSEST:
        found.append(tuple(thinned_shape(shape, 2 ** (len(found) + 1))))
    return found
