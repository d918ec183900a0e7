"""Where pixels come from: boxes in an image, and whatever can be read box by box."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import le, sub
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[Any]

AXES = "TCZYX"
"""The axes of the field in the order in which everything here keeps them."""


@dataclass(frozen=True, slots=True)
class Box:
    """A box of pixels, one range an axis: `start` is inside, `stop` is the first outside.

    >>> Box((0, 2), (4, 6)).grown((1, 1), (10, 7))
    Box(start=(0, 1), stop=(5, 7))
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]

    @classmethod
    def whole(cls, shape: tuple[int, ...]) -> Box:
        """All of an array of this shape."""
        return cls((0,) * len(shape), tuple(shape))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(map(sub, self.stop, self.start))

    @property
    def slices(self) -> tuple[slice, ...]:
        return tuple(map(slice, self.start, self.stop))

    @property
    def empty(self) -> bool:
        return any(map(le, self.stop, self.start))

    def grown(self, margin: tuple[int, ...], shape: tuple[int, ...]) -> Box:
        """This box with `margin` pixels more on each side, as far as an array of `shape` goes."""
        start = tuple(max(0, a - m) for a, m in zip(self.start, margin, strict=True))
        stop = tuple(min(n, b + m) for b, m, n in zip(self.stop, margin, shape, strict=True))
        return Box(start, stop)

    def within(self, other: Box) -> Box:
        """The part that both have; `empty` where they have none."""
        start = tuple(map(max, self.start, other.start))
        return Box(start, tuple(map(max, start, map(min, self.stop, other.stop))))

    def seen_from(self, origin: tuple[int, ...]) -> Box:
        """The same box where `origin` is counted as zero."""
        return Box(tuple(map(sub, self.start, origin)), tuple(map(sub, self.stop, origin)))


@dataclass(frozen=True, slots=True)
class Source:
    """Pixels that are read box by box, never whole where the format allows it.

    `axes` are letters of TCZYX in that order, one for each number of `shape`; Y and X are among
    them. `read` gives a box as an array of `dtype` and of the box's shape. `pixel_size` holds
    micrometres for those of Z, Y and X whose size is known. It may be called by several threads.
    """

    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[Box], Pixels]
    pixel_size: Mapping[str, float] = field(default_factory=dict)

    @property
    def sizes(self) -> dict[str, int]:
        """Axis -> number of pixels (planes, channels, time points)."""
        return dict(zip(self.axes, self.shape, strict=True))
