"""Which pixels of a label image hang together, over the seams of all tiles.

    A A . B        a region is a piece of an object (its pixels joined by faces or corners)
    A . . B        or of the background (joined by faces): here A, B and the background between
    A A . B

Regions are found in each tile, then joined by what meets at seams. The host keeps a few numbers for
each region; where each pixel's region is told, lies on disk.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from aiod.flow.source import Box, Pixels, Source
from aiod.flow.steps.tables import (
    Cut,
    Integers,
    Objects,
    dtype_for,
    keep,
    read_array,
    tally,
    together,
)

_NO_PAIRS: Integers = np.empty((0, 2), np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Regions:
    """The regions of objects, and of the background where it was asked for.

    `objects` holds each region's object (0: background), `sizes`, `first` and `borders` are as in
    :class:`Objects`. `neighbours` are pairs of regions that share a face, each pair once.
    """

    objects: Integers
    sizes: Integers
    first: Integers
    borders: NDArray[np.uint8]
    neighbours: Integers
    _parts: Integers
    _nodes: _Nodes

    def labelled(self, labels: Source, table: Integers) -> Source:
        """A label image that shows for each pixel the entry of its region in a table."""
        of_parts = np.concatenate([[0], table[self._parts]])
        dtype = dtype_for(int(table.max(initial=0)) + 1)
        return replace(labels, dtype=dtype, read=_Shown(self._nodes, of_parts.astype(dtype)))


def regions_of(objects: Objects, *, background: bool) -> Regions:
    """Find the regions of all frames. Reads the labels once, and strips along the seams."""
    cut = objects.cut
    array = objects.array("regions")
    found = list(objects.each_tile(partial(_regions_in, cut, objects.labels, array, background)))
    names = np.concatenate([part.names for part in found])
    offsets = np.cumsum([0, *(len(part.names) for part in found)])
    nodes = _Nodes(cut, array, offsets)
    sides, corners = [_NO_PAIRS], [_NO_PAIRS]
    for at_faces, at_corners in objects.each_tile(partial(_at_seams, nodes)):
        sides.append(at_faces)
        corners.append(at_corners)
    across, corner = np.concatenate(sides), np.concatenate(corners)
    same = names[across[:, 0]] == names[across[:, 1]]
    touching = (names[corner[:, 0]] == names[corner[:, 1]]) & (names[corner[:, 0]] > 0)
    count, parts = _components(len(names), np.concatenate([across[same], corner[touching]]))
    inside = [part.neighbours + start for part, start in zip(found, offsets, strict=False)]
    meeting = np.sort(parts[np.concatenate([*inside, across[~same]])], axis=1)
    whose = np.zeros(count, np.int64)
    whose[parts] = names
    sizes, first, borders = together(
        parts,
        np.concatenate([part.sizes for part in found]),
        np.concatenate([part.first for part in found]),
        np.concatenate([part.borders for part in found]),
        count,
    )
    neighbours = np.unique(meeting, axis=0) if len(meeting) else _NO_PAIRS
    return Regions(whose, sizes, first, borders, neighbours, parts, nodes)


def _components(count: int, pairs: Integers) -> tuple[int, Integers]:
    """How many sets `count` things are when pairs of them are one, and the set of each."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(pairs), np.uint8)
    graph = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    number, parts = connected_components(graph, directed=False)
    return int(number), parts.astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """The regions of one tile, in the order of their numbers there (from 1)."""

    names: Integers
    sizes: Integers
    first: Integers
    borders: NDArray[np.uint8]
    neighbours: Integers


def _regions_in(
    cut: Cut, labels: Source, array: zarr.Array[Any], background: bool, place: int
) -> _Found:
    from scipy import ndimage
    from skimage.measure import label

    box = cut.core(place)
    pixels = cut.read(labels, box)
    regions = label(pixels, background=0, connectivity=pixels.ndim)
    neighbours = _NO_PAIRS
    if background:
        empty, _ = ndimage.label(pixels == 0)
        regions = np.where(pixels > 0, regions, empty + int(regions.max()))
        pairs = []
        for axis in range(pixels.ndim):
            lines = np.moveaxis(regions, axis, 0)
            pairs.append(_pairs(lines[:-1], lines[1:]))
        neighbours = np.unique(np.concatenate(pairs), axis=0) - 1
    keep(array, box, regions)
    counted = tally(cut, box, regions)
    names = np.zeros(int(regions.max()) + 1, np.int64)
    names[regions] = pixels
    return _Found(names[1:], counted.sizes, counted.first, counted.borders, neighbours)


def _pairs(one: Pixels, other: Pixels) -> Integers:
    """The different pairs of numbers of which neither is 0 at the same place of two arrays."""
    differ = (one != other) & (one > 0) & (other > 0)
    pairs = np.stack([one[differ], other[differ]], axis=1).astype(np.int64)
    if not len(pairs):
        return _NO_PAIRS
    pairs.sort(axis=1)
    stride = int(pairs.max()) + 1
    first, second = np.divmod(np.unique(pairs[:, 0] * stride + pairs[:, 1]), stride)
    return np.stack([first, second], axis=1)


@dataclass(frozen=True, slots=True)
class _Nodes:
    """The regions of all tiles, counted from 1 through all tiles; 0 where there is none."""

    cut: Cut
    array: zarr.Array[Any]
    offsets: Integers

    def read(self, box: Box) -> Integers:
        """The region at each pixel of a box of one frame."""
        nodes = np.zeros(box.shape, np.int64)
        for place, part in self.cut.parts(box):
            here = read_array(self.array, part).astype(np.int64)
            here[here > 0] += self.offsets[place]
            nodes[part.seen_from(box.start).slices] = here
        return nodes


@dataclass(frozen=True, slots=True)
class _Shown:
    nodes: _Nodes
    table: Pixels

    def __call__(self, box: Box) -> Pixels:
        found: Pixels = self.table[self.nodes.read(box)]
        return found


def _at_seams(nodes: _Nodes, place: int) -> tuple[Integers, Integers]:
    """Pairs of regions that meet where a tile ends: those that share a face, those at corners."""
    cut = nodes.cut
    frame, tile = divmod(place, len(cut.plan))
    core = cut.plan[tile].core
    faces, corners = [_NO_PAIRS], [_NO_PAIRS]
    for axis, end in enumerate(core.stop):
        if end == cut.plan.shape[axis]:
            continue
        wide = core.grown((1,) * len(core.start), cut.plan.shape)
        start, stop = list(wide.start), list(wide.stop)
        start[axis], stop[axis] = end - 1, end + 1
        box = cut.box(frame, Box(tuple(start), tuple(stop)))
        strip = np.moveaxis(nodes.read(box).reshape(box.shape[len(cut.lead) :]), axis, 0)
        for step in itertools.product((-1, 0, 1), repeat=strip.ndim - 1):
            here, there = _shifted(strip[0], strip[1], step)
            (corners if any(step) else faces).append(_pairs(here, there))
    return np.concatenate(faces) - 1, np.concatenate(corners) - 1


def _shifted(one: Pixels, other: Pixels, step: Sequence[int]) -> tuple[Pixels, Pixels]:
    """Views of two arrays: each pixel of `one`, and its neighbour `step` away in `other`."""
    near = tuple(slice(max(0, -s), n - max(0, s)) for s, n in zip(step, one.shape, strict=True))
    far = tuple(slice(max(0, s), n - max(0, -s)) for s, n in zip(step, one.shape, strict=True))
    return one[near], other[far]


def enclosing(regions: Regions) -> Integers:
    """For each region the innermost region of an object that encloses it; -1 where none does.

    A region encloses what cannot be reached from the image's border without going through it, from
    face to face or within one region. Such regions are the articulation points of the graph of
    neighbours, seen from outside; found in one walk (J. Hopcroft and R. Tarjan, "Algorithm 447",
    1973). The order of the walk makes no difference to what is found.
    """
    count = len(regions.objects)
    outside = count
    at_border = np.flatnonzero(regions.borders)
    ends = np.stack([np.full(len(at_border), outside), at_border], axis=1)
    pairs = np.concatenate([regions.neighbours, ends])
    pairs = np.concatenate([pairs, pairs[:, ::-1]])
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    starts = np.searchsorted(pairs[:, 0], np.arange(count + 2)).tolist()
    after: list[int] = pairs[:, 1].tolist()
    order, parent, low = _walk(outside, starts, after)
    seen = [0] * (count + 1)
    for number, node in enumerate(order):
        seen[node] = number
    isle: list[int] = regions.objects.tolist()
    gate = [-1] * (count + 1)  # the nearest region that all ways from outside go through
    host = np.full(count, -1, np.int64)
    for node in order[1:]:
        above = parent[node]
        gate[node] = above if low[node] >= seen[above] else gate[above]
        if gate[node] != outside:
            host[node] = gate[node] if isle[gate[node]] else host[gate[node]]
    return host


def _walk(root: int, starts: list[int], after: list[int]) -> tuple[list[int], list[int], list[int]]:
    """A depth-first walk: nodes in the order met, each one's parent, and the earliest node (by its
    place in that order) that is next to what was met from it on."""
    count = len(starts) - 1
    seen, parent, low = [-1] * count, [-1] * count, [0] * count
    rest = starts[:count]
    seen[root] = 0
    order, path = [root], [root]
    while path:
        node = path[-1]
        if rest[node] == starts[node + 1]:
            path.pop()
            if path:
                low[path[-1]] = min(low[path[-1]], low[node])
            continue
        other = after[rest[node]]
        rest[node] += 1
        if seen[other] < 0:
            seen[other] = low[other] = len(order)
            parent[other] = node
            order.append(other)
            path.append(other)
        else:
            low[node] = min(low[node], seen[other])
    return order, parent, low
