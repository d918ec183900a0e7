"""Joining the labels of tiles: what two neighbours both saw of an object makes it one object.

Each tile's labels are numbered by themselves. Two neighbours both looked at the strip along their
seam; two labels are the same object if there each overlaps the other most (a mutual best match, the
intersection over the union being at least `LEAST_OVERLAP`). Cells that merely touch are never
joined: they do not overlap. An object larger than a tile is joined from neighbour to neighbour.

Where that leaves an overlap unexplained, pieces are compared in place of labels: the pixels of one
label that hang together. The two arms of a U are one label in the tile that holds its bend and two
in the next, and each of the two is one object with it.

Only that half of a halo is compared that lies nearer to the core: further out a tile lacks context.
Host memory grows with the number of objects at seams, not with that of all objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiod.flow.source import Box, Pixels
from aiod.flow.tiling import Plan, Tile

LEAST_OVERLAP = 0.25
"""Intersection over union, within the shared strip, below which two pieces are not one object."""

Pairs = NDArray[np.int64]
_NO_PAIRS: Pairs = np.empty((0, 2), np.int64)
_NONE: NDArray[np.int64] = np.empty(0, np.int64)
_NOISE = 0.05
"""What an outline may lie elsewhere in another view, as a part of the smaller of two things."""
_FEW = 4
"""Up to so many numbers for each pixel they are counted in a table, past that by sorting."""


def shared_strip(one: Tile, other: Tile, plan: Plan) -> Box:
    """Where two neighbours are compared: both see it, at most half a halo away from their cores."""
    near = tuple(-(-halo // 2) for halo in plan.halo)
    return one.core.grown(near, plan.shape).within(other.core.grown(near, plan.shape))


def compact(labels: Pixels, inner: Box) -> tuple[Pixels, int]:
    """Number labels anew: those that reach into `inner` are 1…n, in their order, and n.

    The others, which only the halo shows, are left out: no pixel of theirs is in the result, which
    is of the smallest type of integer that holds n.

    >>> compact(np.array([[7, 0, 9, 9, 4]]), Box((0, 1), (1, 4)))
    (array([[0, 0, 1, 1, 0]], dtype=uint8), 1)
    """
    largest = int(labels.max(initial=0))
    if largest > max(4 * labels.size, 1 << 16):  # few labels, huge numbers
        _, places = np.unique(labels, return_inverse=True)
        zero = 0 if (labels == 0).any() else 1
        labels, largest = places.reshape(labels.shape) + zero, int(places.max()) + zero
    labels = labels.astype(np.intp)  # what numpy looks things up by
    seen = np.zeros(largest + 1, bool)
    row = labels[inner.slices].ravel()
    seen[row[:-1][row[1:] != row[:-1]]] = True  # where one ends: few places
    seen[row[-1:]] = True
    seen[0] = False
    count = int(np.count_nonzero(seen))
    table = np.cumsum(seen, dtype=np.min_scalar_type(count))
    table[~seen] = 0
    return table.take(labels), count


def match(one: Pixels, other: Pixels) -> Pairs:
    """Pairs of labels, a row each, that are one object in two views of the same strip.

    Both arrays have the shape of the strip; 0 is background, and the largest number is no more than
    a few times the pixels of a tile, as `compact` leaves it.

    >>> match(np.array([[1, 1, 1, 0, 2]]), np.array([[5, 5, 5, 0, 0]])).tolist()
    [[1, 5]]
    """
    largest, others_largest = int(one.max(initial=0)), int(other.max(initial=0))
    if not largest or not others_largest:
        return _NO_PAIRS
    pairs, explained = _matched(_whole(one, largest), _whole(other, others_largest))
    return pairs if explained else _matched(_pieces(one), _pieces(other))[0]


_Things = tuple[NDArray[Any], NDArray[np.int64]]
"""A view in which things are numbered from 1, and the label of each (0 of thing 0)."""


def _whole(labels: Pixels, largest: int) -> _Things:
    """Labels as things; where they are small numbers they stand for themselves."""
    if largest**2 <= _FEW * labels.size:
        return labels, np.arange(largest + 1)
    there = np.bincount(labels.ravel()) > 0
    there[0] = True
    return (np.cumsum(there) - 1).take(labels), np.flatnonzero(there)


def _pieces(labels: Pixels) -> _Things:
    """The connected pieces of labels as things."""
    from skimage.measure import label

    pieces = label(labels, background=0, connectivity=labels.ndim)
    names = np.zeros(int(pieces.max()) + 1, np.int64)
    names[pieces.ravel()] = labels.ravel()
    return pieces, names


def _matched(one: _Things, other: _Things) -> tuple[Pairs, bool]:
    """Pairs of labels of things that match, and whether that explains all overlaps but noise.

    An overlap is larger than noise where it is at least `_NOISE` of the smaller of two things.
    """
    (things, names), (other_things, other_names) = one, other
    stride = len(other_names)
    keys, counts = _counted(
        (things.astype(np.int64) * stride + other_things).ravel(), len(names) * stride
    )
    a, b = np.divmod(keys, stride)
    sizes = np.bincount(a, counts, len(names))
    other_sizes = np.bincount(b, counts, stride)
    both = (a > 0) & (b > 0)
    a, b, counts = a[both], b[both], counts[both]
    chosen = mutual_best(a, b, counts, sizes, other_sizes)
    larger = counts >= _NOISE * np.minimum(sizes[a], other_sizes[b])
    explained = int(np.count_nonzero(larger)) == len(chosen)  # all that are chosen are
    pairs = zip(names[a[chosen]].tolist(), other_names[b[chosen]].tolist(), strict=True)
    return np.array(sorted(set(pairs)), np.int64).reshape(-1, 2), explained


def _counted(keys: NDArray[np.int64], limit: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The sorted unique keys, all below `limit`, and how often each occurs."""
    if limit > _FEW * keys.size:
        return np.unique(keys, return_counts=True)
    counts = np.bincount(keys)
    found = np.flatnonzero(counts)
    return found, counts[found]


def mutual_best(
    a: Pairs,
    b: Pairs,
    counts: NDArray[np.int64],
    sizes_a: NDArray[Any],
    sizes_b: NDArray[Any],
    *,
    least: float = LEAST_OVERLAP,
) -> NDArray[np.intp]:
    """Which rows of a contingency table are mutual best matches, of an overlap of at least `least`.

    Row k says that thing a[k] and thing b[k] have counts[k] pixels in common; sizes_a and sizes_b
    hold the pixels of every thing. Of equal overlaps the lower numbers win.
    """
    upwards = np.lexsort((b, a, -counts))[::-1]  # by overlap, the largest last
    best_of_a, best_of_b = np.empty(len(sizes_a), np.intp), np.empty(len(sizes_b), np.intp)
    best_of_a[a[upwards]] = best_of_b[b[upwards]] = upwards  # of several the last stays
    rows = np.arange(len(counts))
    chosen = np.flatnonzero((best_of_a[a] == rows) & (best_of_b[b] == rows))
    union = sizes_a[a[chosen]] + sizes_b[b[chosen]] - counts[chosen]
    matching: NDArray[np.intp] = chosen[counts[chosen] >= least * union]
    return matching


def merged(pairs: Pairs) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Nodes that are one with smaller ones, in rising order, and the smallest of each one's set.

    A row of `pairs` says that two nodes are one; so are those that a chain of rows connects.

    >>> merged(np.array([[2, 5], [7, 5], [3, 4]]))
    (array([4, 5, 7]), array([3, 2, 2]))
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    nodes, ends = np.unique(pairs, return_inverse=True)
    edges = ends.reshape(-1, 2).T
    graph = coo_array((np.ones(edges.shape[1], bool), edges), shape=(nodes.size, nodes.size))
    sets = connected_components(graph, directed=False)[1]
    smallest = nodes[np.unique(sets, return_index=True)[1][sets]]  # nodes are in rising order
    gone = smallest != nodes
    return nodes[gone], smallest[gone]


@dataclass(frozen=True, slots=True)
class Numbering:
    """From each tile's own labels to 1…`total` over the image, without gaps.

    The labels of all tiles in a row are nodes, those of tile i from `starts[i]` + 1 to
    `starts[i + 1]`. `gone` holds, in rising order, the nodes that are one with a smaller node, and
    `becomes` their numbers; the others are numbered by the way.
    """

    starts: NDArray[np.int64]
    gone: NDArray[np.int64]
    becomes: NDArray[np.int64]

    @property
    def total(self) -> int:
        return int(self.starts[-1]) - len(self.gone)

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """uint32, or uint64 where that is too small."""
        return np.dtype(np.uint32 if self.total < 2**32 else np.uint64)

    def count(self, tile: int) -> int:
        """How many labels a tile has."""
        return int(self.starts[tile + 1] - self.starts[tile])

    def table(self, tile: int) -> Pixels:
        """The lookup table of a tile: image label for each of its labels, 0 for 0."""
        start, stop = self.starts[tile : tile + 2]
        nodes = np.arange(start, stop + 1)
        first, last = np.searchsorted(self.gone, [start + 1, stop + 1])
        here = self.gone[first:last]
        table: Pixels = nodes - first - np.searchsorted(here, nodes)
        table[here - start] = self.becomes[first:last]
        table[0] = 0
        return table.astype(self.dtype)


def number(counts: Sequence[int], joins: Iterable[tuple[int, int, Pairs]]) -> Numbering:
    """Number the objects of all tiles.

    `counts[i]` is how many labels tile i has; `joins` gives two tiles and the pairs of their
    labels that are one object. The result does not depend on the order of `joins`: an object is
    numbered by its first tile, and there by its label.
    """
    starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    rows = [pairs + starts[[one, other]] for one, other, pairs in joins if pairs.size]
    gone, smallest = merged(np.concatenate(rows) if rows else _NO_PAIRS)
    return Numbering(starts, gone, smallest - np.searchsorted(gone, smallest))


def join(plan: Plan, views: Sequence[Pixels]) -> tuple[Pixels, int]:
    """The whole image's labels from what each tile of the plan saw in its outer box.

    For a part of an image that fits into memory; the engine does the same from files.
    """
    blocks = []
    counts = []
    for tile, view in zip(plan, views, strict=True):
        block, count = compact(view, tile.inner)
        blocks.append(block)
        counts.append(count)
    numbering = number(counts, joins_of(plan, blocks))
    result = np.zeros(plan.shape, numbering.dtype)
    for tile, block in zip(plan, blocks, strict=True):
        result[tile.core.slices] = numbering.table(tile.index)[block[tile.inner.slices]]
    return result, numbering.total


def joins_of(plan: Plan, blocks: Sequence[Pixels]) -> Iterable[tuple[int, int, Pairs]]:
    """Every pair of neighbours with the labels they share, from compacted views."""
    for tile in plan:
        for other in plan.after(tile):
            yield (
                tile.index,
                other.index,
                match_tiles(plan, tile, blocks[tile.index], other, blocks[other.index]),
            )


def match_tiles(plan: Plan, one: Tile, view: Pixels, other: Tile, other_view: Pixels) -> Pairs:
    """The labels that two neighbours share, from their compacted views of their outer boxes."""
    strip = shared_strip(one, other, plan)
    if strip.empty:
        return _NO_PAIRS
    return match(
        view[strip.seen_from(one.outer.start).slices],
        other_view[strip.seen_from(other.outer.start).slices],
    )
