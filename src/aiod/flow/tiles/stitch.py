"""Joining the labels of tiles: what two neighbours both saw of an object makes it one object.

Each tile's labels are numbered by themselves. Two neighbours both looked at the strip along their
seam; there each label is taken as the pieces of it that hang together, and two pieces are the same
object if each overlaps the other most (a mutual best match, the intersection over the union being
at least `LEAST_OVERLAP`). Cells that merely touch are never joined: their pieces do not overlap.
An object larger than a tile is joined from neighbour to neighbour. Pieces rather than labels,
because the two arms of a U are one label in the tile that holds its bend and two in the next.

Only that half of a halo is compared that lies nearer to the core: further out a tile lacks context.
Host memory grows with the number of objects at seams, not with that of all objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiod.flow.source import Box, Pixels
from aiod.flow.tiling import Plan, Tile

LEAST_OVERLAP = 0.25
"""Intersection over union, within the shared strip, below which two pieces are not one object."""

Pairs = NDArray[np.int64]
_NO_PAIRS: Pairs = np.empty((0, 2), np.int64)
_NONE: NDArray[np.int64] = np.empty(0, np.int64)

Node = tuple[int, int]
"""An object as one tile knows it: the tile's number and the label there."""


def shared_strip(one: Tile, other: Tile, plan: Plan) -> Box:
    """Where two neighbours are compared: both see it, at most half a halo away from their cores."""
    near = tuple(-(-halo // 2) for halo in plan.halo)
    return one.core.grown(near, plan.shape).within(other.core.grown(near, plan.shape))


def compact(labels: Pixels, inner: Box) -> tuple[NDArray[np.uint32], int]:
    """Number labels anew: those that reach into `inner` are 1…n, in their order, and n.

    The others, which only the halo shows, are left out: no pixel of theirs is in the result.

    >>> compact(np.array([[7, 0, 9, 9, 4]]), Box((0, 1), (1, 4)))
    (array([[0, 0, 1, 1, 0]], dtype=uint32), 1)
    """
    largest = int(labels.max(initial=0))
    if largest > max(4 * labels.size, 1 << 16):  # few labels, huge numbers
        _, places = np.unique(labels, return_inverse=True)
        zero = 0 if (labels == 0).any() else 1
        labels, largest = places.reshape(labels.shape) + zero, int(places.max()) + zero
    seen = np.zeros(largest + 1, bool)
    seen[labels[inner.slices]] = True
    seen[0] = False
    table = np.cumsum(seen, dtype=np.uint32)
    table[~seen] = 0
    return table[labels], int(seen.sum())


def match(one: Pixels, other: Pixels) -> Pairs:
    """Pairs of labels, a row each, that are one object in two views of the same strip.

    Both arrays have the shape of the strip; 0 is background.

    >>> match(np.array([[1, 1, 1, 0, 2]]), np.array([[5, 5, 5, 0, 0]])).tolist()
    [[1, 5]]
    """
    if not one.any() or not other.any():
        return _NO_PAIRS
    pieces_one, names_one = _pieces(one)
    pieces_other, names_other = _pieces(other)
    both = (pieces_one > 0) & (pieces_other > 0)
    stride = len(names_other)
    keys, counts = np.unique(
        pieces_one[both].astype(np.int64) * stride + pieces_other[both], return_counts=True
    )
    a, b = np.divmod(keys, stride)
    sizes_one = np.bincount(pieces_one.ravel(), minlength=len(names_one))
    sizes_other = np.bincount(pieces_other.ravel(), minlength=stride)
    chosen = mutual_best(a, b, counts, sizes_one, sizes_other)
    return np.unique(np.stack([names_one[a[chosen]], names_other[b[chosen]]], axis=1), axis=0)


def mutual_best(
    a: Pairs,
    b: Pairs,
    counts: NDArray[np.int64],
    sizes_a: NDArray[np.int64],
    sizes_b: NDArray[np.int64],
) -> NDArray[np.intp]:
    """Which rows of a contingency table are mutual best matches of at least `LEAST_OVERLAP`.

    Row k says that thing a[k] and thing b[k] have counts[k] pixels in common; sizes_a and sizes_b
    hold the pixels of every thing. Of equal overlaps the lower numbers win.
    """
    order = np.lexsort((b, a, -counts))  # by overlap, the largest first
    best_of_a = order[np.unique(a[order], return_index=True)[1]]
    best_of_b = order[np.unique(b[order], return_index=True)[1]]
    chosen = np.intersect1d(best_of_a, best_of_b)
    union = sizes_a[a[chosen]] + sizes_b[b[chosen]] - counts[chosen]
    return chosen[counts[chosen] >= LEAST_OVERLAP * union]


def _pieces(labels: Pixels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The connected pieces of labels, numbered from 1, and the label of each (0 of piece 0)."""
    from skimage.measure import label

    pieces = label(labels, background=0, connectivity=labels.ndim)
    names = np.zeros(int(pieces.max()) + 1, np.int64)
    names[pieces.ravel()] = labels.ravel()
    return pieces, names


class Union:
    """Which nodes are one: a union-find that knows only the nodes it was told of.

    The representative of a set is its smallest node, whatever the order of joining.
    """

    def __init__(self) -> None:
        self._parent: dict[Node, Node] = {}

    def join(self, one: Node, other: Node) -> None:
        """Say that two nodes are one object."""
        low, high = sorted((self.find(one), self.find(other)))
        self._parent[high] = low
        self._parent.setdefault(low, low)

    def find(self, node: Node) -> Node:
        """The representative of a node's set."""
        root = node
        while (parent := self._parent.get(root, root)) != root:
            root = parent
        while (parent := self._parent.get(node, node)) != root:  # shorten the way for the next
            self._parent[node] = root
            node = parent
        return root

    def merged(self) -> dict[Node, Node]:
        """Every node that is not its own representative -> its representative."""
        found = ((node, self.find(node)) for node in list(self._parent))
        return {node: root for node, root in found if node != root}


@dataclass(frozen=True, slots=True)
class Numbering:
    """From each tile's own labels to 1…`total` over the image, without gaps.

    `bases[i]` is the last number given before tile i. `merged[i]` holds, for the labels of tile i
    that an earlier tile has numbered, the labels in rising order and their numbers.
    """

    counts: tuple[int, ...]
    bases: tuple[int, ...]
    merged: Mapping[int, tuple[NDArray[np.int64], NDArray[np.int64]]]
    total: int

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """uint32, or uint64 where that is too small."""
        return np.dtype(np.uint32 if self.total < 2**32 else np.uint64)

    def table(self, tile: int) -> Pixels:
        """The lookup table of a tile: image label for each of its labels, 0 for 0."""
        fresh = np.ones(self.counts[tile] + 1, np.int64)
        fresh[0] = 0
        labels, numbers = self.merged.get(tile, (_NONE, _NONE))
        fresh[labels] = 0
        table = np.cumsum(fresh) + self.bases[tile]
        table[0] = 0
        table[labels] = numbers
        return table.astype(self.dtype)


def number(counts: Sequence[int], joins: Iterable[tuple[int, int, Pairs]]) -> Numbering:
    """Number the objects of all tiles.

    `counts[i]` is how many labels tile i has; `joins` gives two tiles and the pairs of their
    labels that are one object. The result does not depend on the order of `joins`: an object is
    numbered by its first tile, and there by its label.
    """
    union = Union()
    for one, other, pairs in joins:
        for a, b in pairs.tolist():
            union.join((one, a), (other, b))
    later: dict[int, list[tuple[int, Node]]] = {}
    for (tile, label), root in union.merged().items():
        later.setdefault(tile, []).append((label, root))
    bases: list[int] = []
    gone: dict[int, NDArray[np.int64]] = {}
    merged: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
    total = 0
    for tile, count in enumerate(counts):
        bases.append(total)
        rows = sorted(later.get(tile, ()))
        if rows:
            labels = gone[tile] = np.array([label for label, _ in rows], np.int64)
            numbers = [
                bases[first] + label - int(np.searchsorted(gone.get(first, _NONE), label))
                for _, (first, label) in rows
            ]
            merged[tile] = (labels, np.array(numbers, np.int64))
        total += count - len(rows)
    return Numbering(tuple(counts), tuple(bases), merged, total)


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
