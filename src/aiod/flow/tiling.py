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
from functools import lru_cache
from operator import add, mul

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

    @property
    def pixels(self) -> int:
        """Pixels of all `outer` boxes together: what a model sees of the array.

        >>> Plan(shape=(5, 8), tile=(4, 4), halo=(1, 1)).pixels == (5 + 2) * (5 + 5)
        True
        """
        sides = zip(self.shape, self.tile, self.halo, self.grid, strict=True)
        return math.prod(
            sum(min(n, (p + 1) * t + h) - max(0, p * t - h) for p in range(count))
            for n, t, h, count in sides
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

    def inside(self, box: Box) -> Iterator[Tile]:
        """The tiles whose cores meet a box, in their order."""
        first = (a // t for a, t in zip(box.start, self.tile, strict=True))
        last = (-(-b // t) for b, t in zip(box.stop, self.tile, strict=True))
        return map(self._at, itertools.product(*map(range, first, last)))

    def in_blocks(self, side: int, most: int) -> Plan:
        """The same array in blocks of whole tiles: squares of them, up to `side` pixels wide.

        A block of several tiles has `most` pixels at most.

        >>> Plan((9000, 9000), (256, 256), (32, 32)).in_blocks(1024, 1 << 22).tile
        (1024, 1024)
        """
        times = max(1, min(side // t for t in self.tile[-2:]))
        while times > 1 and math.prod(self.tile) * times**2 > most:
            times -= 1
        size = (*self.tile[:-2], *(t * times for t in self.tile[-2:]))
        return Plan(self.shape, tuple(map(min, self.shape, size)), (0,) * len(size))

    def after(self, tile: Tile) -> Iterator[Tile]:
        """The neighbours of a tile that come later in the plan: so every pair is met once."""
        return (other for other in self.around(tile) if other.index > tile.index)

    def around(self, tile: Tile) -> Iterator[Tile]:
        """The neighbours of a tile, across faces, edges and corners.

        Only those whose outer boxes meet are given: without a halo there are none.
        """
        ranges = (
            range(max(0, p - 1), min(n, p + 2)) for p, n in zip(tile.place, self.grid, strict=True)
        )
        for place in itertools.product(*ranges):
            if place != tile.place:
                other = self._at(place)
                if not tile.outer.within(other.outer).empty:
                    yield other

    def _at(self, place: tuple[int, ...]) -> Tile:
        return _tile_at(self, place)


@lru_cache(maxsize=4096)
def _tile_at(plan: Plan, place: tuple[int, ...]) -> Tile:
    start = tuple(map(mul, place, plan.tile))
    core = Box(start, tuple(map(min, map(add, start, plan.tile), plan.shape)))
    index = 0
    for position, count in zip(place, plan.grid, strict=True):
        index = index * count + position
    return Tile(index, place, core, core.grown(plan.halo, plan.shape))
