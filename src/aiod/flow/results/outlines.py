"""Objects' outlines along the edges of pixels: polygons that give back exactly the mask.

An edge lies between a pixel of an object and one that is not of it, and runs clockwise around the
pixel as one sees it on a screen, where y points down:

    (0,0) ---> (1,0)          directions   0: +x   1: +y   2: -x   3: -y
      ^   pixel   |
      |           v           so rings around objects have a positive area by the shoelace
    (0,1) <--- (1,1)          formula, and rings around holes a negative one

Where two pixels of an object touch at a corner only, the edges stay with their pixel, so that the
parts of an object are those that share edges; a ring that meets itself at such a corner is split
there. All polygons are therefore valid as OGC Simple Features (ISO 19125) wants them: rings do
not cross or repeat a point, though a hole may touch its ring at a point.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiod.flow.source import Pixels

Ring = list[tuple[int, int]]
"""Corners (x, y), the first one again at the end."""

Polygon = list[Ring]
"""The ring around the outside, then those around the holes."""

_STEP_X = np.array([1, 0, -1, 0])
_STEP_Y = np.array([0, 1, 0, -1])


@dataclass(frozen=True, slots=True)
class Edges:
    """Edges of pixels: of which object, where they start (pixels of the image), which way."""

    ids: NDArray[np.int64]
    x: NDArray[np.int64]
    y: NDArray[np.int64]
    direction: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    def chosen(self, which: NDArray[Any]) -> Edges:
        """Those edges that a mask or an array of places selects."""
        return Edges(self.ids[which], self.x[which], self.y[which], self.direction[which])


def joined(parts: list[Edges]) -> Edges:
    """All edges of the parts."""
    columns = zip(*((p.ids, p.x, p.y, p.direction) for p in parts), strict=True)
    return Edges(*(np.concatenate(column) for column in columns))


def edges_of(pixels: Pixels, *, y: int = 0, x: int = 0) -> Edges:
    """The edges of all objects in the inner pixels of a 2D array that has a margin of one pixel.

    The margin holds what lies around (0 outside the image) and has no edges itself. `y` and `x`
    are the place of the first inner pixel.
    """
    inner = pixels[1:-1, 1:-1]
    around = (pixels[:-2, 1:-1], pixels[1:-1, 2:], pixels[2:, 1:-1], pixels[1:-1, :-2])
    parts = []
    for direction, other in enumerate(around):
        rows, columns = np.nonzero((inner != 0) & (inner != other))
        parts.append(
            Edges(
                inner[rows, columns].astype(np.int64),
                columns + x + (direction in (1, 2)),
                rows + y + (direction in (2, 3)),
                np.full(len(rows), direction),
            )
        )
    return joined(parts)


def polygons_of(edges: Edges) -> Iterator[tuple[int, list[Polygon]]]:
    """Each object with its polygons, in the order of ids; the edges of an object must be whole.

    >>> edges = edges_of(np.pad(np.array([[0, 7], [0, 0]]), 1))
    >>> list(polygons_of(edges))
    [(7, [[[(1, 0), (2, 0), (2, 1), (1, 1), (1, 0)]]])]
    """
    if len(edges) == 0:
        return
    edges = edges.chosen(np.lexsort((edges.direction, edges.x, edges.y, edges.ids)))
    following = _following(edges)
    corner = edges.direction != edges.direction[_inverse(following)]
    first = np.flatnonzero(np.diff(edges.ids, prepend=-1))
    last = np.append(first[1:], len(edges))
    links, turns = following.tolist(), corner.tolist()
    x, y = edges.x.tolist(), edges.y.tolist()
    seen = bytearray(len(edges))
    for number, begin, end in zip(
        edges.ids[first].tolist(), first.tolist(), last.tolist(), strict=True
    ):
        rings: list[Ring] = []
        for start in range(begin, end):
            if turns[start] and not seen[start]:
                ring, edge = [], start
                while not seen[edge]:
                    seen[edge] = 1
                    if turns[edge]:
                        ring.append((x[edge], y[edge]))
                    edge = links[edge]
                rings += _split(ring)
        yield number, _nested(rings)


def _following(edges: Edges) -> NDArray[np.int64]:
    """For each edge the one that follows it in its ring; the edges are sorted as their keys are."""
    left, top = edges.x.min(), edges.y.min()
    width, height = edges.x.max() - left + 2, edges.y.max() - top + 2
    ids = np.unique(edges.ids, return_inverse=True)[1]

    def keys(x: NDArray[np.int64], y: NDArray[np.int64], way: NDArray[np.int64]) -> Any:
        return ((ids * height + y - top) * width + x - left) * 4 + way

    known = keys(edges.x, edges.y, edges.direction)
    x = edges.x + _STEP_X[edges.direction]
    y = edges.y + _STEP_Y[edges.direction]
    following = np.full(len(edges), -1)
    # Around the pixel first: where two pixels touch at a corner, the edge stays with its own.
    for turn in (1, 0, -1):
        wanted = keys(x, y, (edges.direction + turn) % 4)
        at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        following = np.where((following < 0) & (known[at] == wanted), at, following)
    return following


def _inverse(order: NDArray[np.int64]) -> NDArray[np.int64]:
    inverse = np.empty_like(order)
    inverse[order] = np.arange(len(order))
    return inverse


def _split(corners: Ring) -> list[Ring]:
    """Rings that meet no point twice, of one that may; each closed."""
    if len(set(corners)) == len(corners):
        return [[*corners, corners[0]]]
    rings: list[Ring] = []
    path: Ring = []
    places: dict[tuple[int, int], int] = {}
    for corner in corners:
        if corner in places:
            at = places[corner]
            rings.append([*path[at:], corner])
            for left in path[at:]:
                del places[left]
            del path[at:]
        places[corner] = len(path)
        path.append(corner)
    return [*rings, [*path, path[0]]]


def _nested(rings: list[Ring]) -> list[Polygon]:
    """Each hole put into the smallest ring that has it inside."""
    areas = [_area(ring) for ring in rings]
    outer = sorted((abs(a), n) for n, a in enumerate(areas) if a > 0)
    polygons: dict[int, Polygon] = {n: [rings[n]] for n in sorted(n for _, n in outer)}
    for hole, area in zip(rings, areas, strict=True):
        if area < 0:
            owner = (
                outer[0][1]
                if len(outer) == 1
                else next(n for _, n in outer if _holds(rings[n], _beside(hole)))
            )
            polygons[owner].append(hole)
    return list(polygons.values())


def _area(ring: Ring) -> int:
    """Twice the area, positive around an object and negative around a hole."""
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in itertools.pairwise(ring))


def _beside(hole: Ring) -> tuple[float, float]:
    """The middle of a pixel of the object beside the first edge of a hole's ring."""
    (x0, y0), (x1, y1) = hole[:2]
    along_x, along_y = (x1 > x0) - (x1 < x0), (y1 > y0) - (y1 < y0)
    return x0 + (along_x - along_y) / 2, y0 + (along_y + along_x) / 2


def _holds(ring: Ring, point: tuple[float, float]) -> bool:
    """Whether a point is inside a ring: a ray to the right meets upright sides an odd number of
    times. The point lies in the middle of a pixel, so on no side."""
    x, y = point
    return (
        sum(
            x0 > x and min(y0, y1) < y < max(y0, y1)
            for (x0, y0), (x1, y1) in itertools.pairwise(ring)
            if x0 == x1
        )
        % 2
        == 1
    )
