"""What objects of two label images have in common: which lie over which, by how many pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aiod.flow.refine.frames import Numbers, source_of
from aiod.flow.results.overlaps import overlaps
from aiod.flow.source import Box, Pixels


@dataclass(frozen=True, slots=True)
class Common:
    """Row k says that object ours[k] and object theirs[k] have pixels[k] in common.

    `sizes` and `their_sizes` hold the pixels of every object at its number.
    """

    ours: Numbers
    theirs: Numbers
    pixels: Numbers
    sizes: Numbers
    their_sizes: Numbers

    @property
    def iou(self) -> Numbers:
        """Intersection over union of each row."""
        union = self.sizes[self.ours] + self.their_sizes[self.theirs] - self.pixels
        found: Numbers = self.pixels / union
        return found


def common(one: Pixels, other: Pixels) -> Common:
    """The overlaps of two label images of the same shape, numbered 1…n without gaps."""
    pairs = overlaps(source_of(one), source_of(other), Box.whole(one.shape), map)
    ours, theirs = pairs.ours.astype(np.int64), pairs.theirs.astype(np.int64)
    sizes = (np.bincount(side, pairs.pixels).astype(np.int64) for side in (ours, theirs))
    both = (ours > 0) & (theirs > 0)
    return Common(ours[both], theirs[both], pairs.pixels[both], *sizes)
