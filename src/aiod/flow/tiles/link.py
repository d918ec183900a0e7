"""From planes to solid objects: what overlaps most from one plane to the next is one object.

A 2D model knows nothing of the planes above and below. Here every plane's objects are compared
with the next plane's, over the whole plane and so independent of tiles: a mutual best match, whose
intersection over union is at least `stitch.LEAST_OVERLAP`, is one object.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiod.flow.source import Pixels
from aiod.flow.tiles.job import Frames, Job
from aiod.flow.tiles.stitch import Numbering, Pairs, mutual_best, number

Map = Callable[..., Iterable[Any]]


def link_planes(job: Job, frames: Frames, numbering: Numbering, *, mapper: Map = map) -> Pixels:
    """A table from the numbers of `numbering` to 1…n, in which linked objects have one number.

    Host memory is bounded by the number of objects. The image's loop axes must hold Z.
    """
    pairs = [
        _linked(list(mapper(partial(_overlaps, job, numbering, two), range(len(job.plan)))))
        for two in _neighbours(frames)
    ]
    return number([numbering.total], [(0, 0, each) for each in pairs]).table(0)


def _neighbours(frames: Frames) -> Iterable[tuple[int, int]]:
    """Numbers of frames that follow each other along Z."""
    loops = [axis for axis in frames.axes if axis in frames.loops]
    grid = np.arange(len(frames)).reshape(frames.counts)
    along = np.moveaxis(grid, loops.index("Z"), -1).reshape(-1, frames.counts[loops.index("Z")])
    for row in along.tolist():
        yield from itertools.pairwise(row)


def _overlaps(
    job: Job, numbering: Numbering, frames: tuple[int, int], tile: int
) -> tuple[NDArray[np.int64], ...]:
    """Rows (one, other, common) of a tile, and the pixels of each object of both frames there."""
    views = []
    job.store.look()
    for frame in frames:
        core = job.plan[tile].core
        view = np.zeros(core.shape, np.int64)
        place = frame * len(job.plan) + tile
        if numbering.count(place):
            table = numbering.table(place)
            labels = job.store.labels(frame, tile)[job.plan[tile].inner.slices]
            view = table[labels].astype(np.int64)
        views.append(view)
    one, other = views
    both = (one > 0) & (other > 0)
    rows, counts = np.unique(np.stack([one[both], other[both]]), axis=1, return_counts=True)
    sizes = [np.stack(np.unique(view[view > 0], return_counts=True)) for view in views]
    return np.vstack([rows, counts]), sizes[0], sizes[1]


def _linked(parts: Sequence[tuple[NDArray[np.int64], ...]]) -> Pairs:
    """Pairs of objects of two planes that are one, from what all tiles counted."""
    rows = np.concatenate([part[0] for part in parts], axis=1)
    if not rows.size:
        return np.empty((0, 2), np.int64)
    pairs, places = np.unique(rows[:2], axis=1, return_inverse=True)
    common = np.bincount(places.ravel(), rows[2]).astype(np.int64)
    names, indices, totals = [], [], []
    for side in (0, 1):
        sizes = np.concatenate([part[1 + side] for part in parts], axis=1)
        labels, where = np.unique(sizes[0], return_inverse=True)
        names.append(labels)
        totals.append(np.bincount(where.ravel(), sizes[1]).astype(np.int64))
        indices.append(np.searchsorted(labels, pairs[side]))
    best = mutual_best(indices[0], indices[1], common, totals[0], totals[1])
    return np.stack([names[side][indices[side][best]] for side in (0, 1)], axis=1)
