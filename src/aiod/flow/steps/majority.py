"""Smooth outlines by the majority around each pixel."""

from __future__ import annotations

import numpy as np

from aiod.flow.source import Pixels
from aiod.flow.steps.before import disk


def smoothed(labels: Pixels, radius: int) -> Pixels:
    """Labels, without a margin of `radius`, after a vote of all within `radius` of each pixel.

    A pixel of an object becomes background where more than half of the votes are for background;
    a pixel of the background becomes that object's which more than half are for. So no object ever
    takes a pixel of another, and no two want the same one.
    """
    from scipy import ndimage

    core = (slice(radius, -radius),) * labels.ndim
    result = labels[core].copy()
    size = 2 * radius + 1
    mixed = ndimage.maximum_filter(labels, size)[core] != ndimage.minimum_filter(labels, size)[core]
    at = np.flatnonzero(mixed)
    if not len(at):
        return result
    flat = np.ascontiguousarray(labels).reshape(-1)
    middle = np.ravel_multi_index(
        tuple(i + radius for i in np.unravel_index(at, mixed.shape)), labels.shape
    )
    strides = np.array([int(np.prod(labels.shape[axis + 1 :])) for axis in range(labels.ndim)])
    offsets = ((np.argwhere(disk(radius, labels.ndim)) - radius) @ strides).tolist()
    # The majority vote of R. Boyer and J. Moore (1981): whoever has more than half of the votes is
    # still a candidate in the end; a second count says whether there is such a one.
    candidate = flat[middle]
    lead = np.zeros(len(at), np.int32)
    for offset in offsets:
        vote = flat[middle + offset]
        candidate = np.where(lead == 0, vote, candidate)
        lead += np.where(vote == candidate, 1, -1)
    votes = np.zeros(len(at), np.int32)
    for offset in offsets:
        votes += flat[middle + offset] == candidate
    now = flat[middle]
    changed = (2 * votes > len(offsets)) & ((candidate == 0) | (now == 0))
    result.reshape(-1)[at[changed]] = candidate[changed]
    return result
