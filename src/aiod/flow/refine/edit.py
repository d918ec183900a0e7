"""Objects changed one by one: those that were picked, and those that points lie in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree
from skimage.segmentation import watershed

from aiod.errors import UsageError
from aiod.flow.refine.frames import Numbers, checked, looked_up, numbered, spacing
from aiod.flow.source import Pixels
from aiod.words import counted, listing


def remove(labels: Pixels, ids: Iterable[int]) -> Pixels:
    """Labels (YX or ZYX) of which the objects with these numbers became background."""
    compacted, names = numbered(checked(labels))
    return looked_up(labels, compacted, np.where(_among(names, ids), 0, names))


def keep(labels: Pixels, ids: Iterable[int]) -> Pixels:
    """Labels (YX or ZYX) of which all but the objects with these numbers became background."""
    compacted, names = numbered(checked(labels))
    return looked_up(labels, compacted, np.where(_among(names, ids), names, 0))


def merge(labels: Pixels, ids: Iterable[int]) -> Pixels:
    """Labels (YX or ZYX) in which these objects are one, with the lowest of their numbers.

    What lies between them stays background. Raises UsageError for fewer than two objects.

    >>> merge(np.array([[3, 0, 5, 7]]), [5, 3]).tolist()
    [[3, 0, 3, 7]]
    """
    compacted, names = numbered(checked(labels))
    chosen = _among(names, ids)
    if chosen.sum() < 2:
        raise UsageError(
            f"Merging needs two objects, and {counted(int(chosen.sum()), 'object')} was picked.",
            hint="pick the objects that are one",
        )
    return looked_up(labels, compacted, np.where(chosen, names[chosen].min(), names))


def split(
    labels: Pixels,
    points: Numbers,
    pixel_size: Mapping[str, float] | None = None,
    *,
    by: Annotated[
        Literal["shape", "nearest"],
        "shape: a watershed, which cuts at the necks between points; nearest: each pixel goes to "
        "the nearest point",
    ] = "shape",
) -> Pixels:
    """Labels (YX or ZYX) in which each object with several points in it became one for each point.

    `points` (n, axes) are in pixels, whole numbers being the middle of a pixel; those that lie in
    no object, or alone in one, do nothing. Lengths are those of `pixel_size` where it is known for
    all axes. The piece of an object's first point keeps its number, the others get new ones above
    all that are there. Pieces that no point can reach within their object stay with its number.

    The watershed is of the distance to the outline (skimage.segmentation.watershed).
    Raises UsageError where no object has two points.
    """
    compacted, names = numbered(checked(labels))
    places = np.round(np.asarray(points, float).reshape(-1, labels.ndim)).astype(np.int64)
    places = places[np.all((places >= 0) & (places < labels.shape), axis=1)]
    _, first = np.unique(places, axis=0, return_index=True)
    places = places[np.sort(first)]
    owners = compacted[tuple(places.T)]
    shared, counts = np.unique(owners[owners > 0], return_counts=True)
    if not (counts > 1).any():
        raise UsageError(
            "No object has two points in it, so there is nothing to split.",
            details=[f"{counted(int((owners > 0).sum()), 'point')} in objects"],
            hint="put a point into each part of the object",
        )
    axes = "ZYX"[-labels.ndim :]
    known = set(axes) <= set(pixel_size or {})
    sampling = spacing(axes, pixel_size, "um" if known else "px")
    pieces = compacted.astype(np.int64)
    table = [*names.tolist()]
    most = table[-1]
    boxes = ndimage.find_objects(compacted)
    for number in shared[counts > 1].tolist():
        box = boxes[number - 1]
        corner = [side.start for side in box]
        seeds = places[owners == number] - corner
        mask = compacted[box] == number
        cut = _watershed if by == "shape" else _nearest
        found = cut(mask, seeds, sampling)
        news = found > 1
        pieces[box][news] = len(table) + found[news] - 2
        table += range(most + 1, most + len(seeds))
        most += len(seeds) - 1
    return looked_up(labels, pieces, np.array(table, np.uint64))


def _watershed(mask: Pixels, seeds: Numbers, sampling: tuple[float, ...]) -> Pixels:
    """Which seed, from 1, each pixel of a mask belongs to; 0 for those that none can reach."""
    inside = (slice(1, -1),) * mask.ndim
    distance = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=sampling)[inside]
    markers = np.zeros(mask.shape, np.int32)
    markers[tuple(seeds.T)] = np.arange(1, len(seeds) + 1)
    found: Pixels = watershed(-distance, markers, mask=mask, connectivity=mask.ndim)
    return found


def _nearest(mask: Pixels, seeds: Numbers, sampling: tuple[float, ...]) -> Pixels:
    found = np.zeros(mask.shape, np.int32)
    where = np.argwhere(mask)
    found[mask] = cKDTree(seeds * sampling).query(where * sampling)[1] + 1
    return found


def _among(names: Numbers, ids: Iterable[int]) -> Numbers:
    """Which names are among some numbers, never the background. Raises UsageError for none."""
    wanted = {int(number) for number in ids} - {0}
    chosen: Numbers = np.array([int(name) in wanted for name in names.tolist()], bool)
    if not wanted:
        raise UsageError(
            "No object was picked.", hint="pick one: the layer's tool Pick, then a click"
        )
    if missing := sorted(wanted - {int(name) for name in names.tolist()}):
        raise UsageError(
            f"There is no object {listing(map(str, missing[:10]), 'or')} here.",
            hint="pick objects of the layer and the time point that are shown",
        )
    return chosen
