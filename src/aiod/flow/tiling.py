"""Cutting an image into tiles: a plan is a value, made before anything is read.

    +---------------------- image ----+
    |  +------ outer ------+          |
    |  |  halo             |          |
    |  |   +-- core --+    |          |
    |  |   |          |    |          |
    |  |   +----------+    |          |
    |  |             halo  |          |
    |  +-------------------+          |
    +---------------------------------+

The cores cover the image without gap or overlap. The model sees a tile's `outer` box, of which
only the core goes into the result; what two neighbours both saw in their halos joins their labels
(see `stitch`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from aiod.flow.source import Box


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile: its number in the plan, its place in the grid, what it owns and what it sees."""

    index: int
    place: tuple[int, ...]
    core: Box
    outer: Box

    @property
    def inner(self) -> Box:
        """The core, counted from the corner of `outer`."""
        return self.core.seen_from(self.outer.start)


@dataclass(frozen=True, slots=True)
class Plan:
    """Tiles over an array of `shape`: cores of `tile` pixels (less at the far edges) with `halo`.

    >>> plan = Plan(shape=(5, 8), tile=(4, 4), halo=(1, 1))
    >>> plan.grid, len(plan)
    ((2, 2), 4)
    >>> plan[3].core, plan[3].outer
    (Box(start=(4, 4), stop=(5, 8)), Box(start=(3, 3), stop=(5, 8)))
    """

    shape: tuple[int, ...]
    tile: tuple[int, ...]
    halo: tuple[int, ...]

    def __post_init__(self) -> None:
        if not len(self.shape) == len(self.tile) == len(self.halo):
            raise ValueError(f"one number an axis is needed: {self}")
        if min(self.shape) < 1 or min(self.tile) < 1 or min(self.halo) < 0:
            raise ValueError(f"sizes must be positive: {self}")

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of tiles along each axis."""
        return tuple(-(-n // t) for n, t in zip(self.shape, self.tile, strict=True))

    @property
    def largest(self) -> tuple[int, ...]:
        """The shape of the largest `outer` box."""
        return tuple(
            min(n, t + 2 * h) for n, t, h in zip(self.shape, self.tile, self.halo, strict=True)
        )

    def __len__(self) -> int:
        return math.prod(self.grid)

    def __iter__(self) -> Iterator[Tile]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, index: int) -> Tile:
        if not 0 <= index < len(self):
            raise IndexError(index)
        place, rest = [], index
        for count in reversed(self.grid):
            rest, position = divmod(rest, count)
            place.append(position)
        return self._at(tuple(reversed(place)))

    def after(self, tile: Tile) -> Iterator[Tile]:
        """The neighbours of a tile that come later in the plan: so every pair is met once."""
        return (other for other in self.around(tile) if other.index > tile.index)

    def around(self, tile: Tile) -> Iterator[Tile]:
        """The neighbours of a tile, across faces, edges and corners.

        Only those whose outer boxes meet are given: without a halo there are none.
        """
        for step in itertools.product((-1, 0, 1), repeat=len(self.grid)):
            place = tuple(p + s for p, s in zip(tile.place, step, strict=True))
            inside = all(0 <= p < n for p, n in zip(place, self.grid, strict=True))
            if any(step) and inside:
                other = self._at(place)
                if not tile.outer.within(other.outer).empty:
                    yield other

    def _at(self, place: tuple[int, ...]) -> Tile:
        start = tuple(p * t for p, t in zip(place, self.tile, strict=True))
        stop = tuple(min(s + t, n) for s, t, n in zip(start, self.tile, self.shape, strict=True))
        core = Box(start, stop)
        index = 0
        for position, count in zip(place, self.grid, strict=True):
            index = index * count + position
        return Tile(index, place, core, core.grown(self.halo, self.shape))
