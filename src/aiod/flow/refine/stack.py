"""Objects of single planes made solid: what overlaps from one plane to the next is one object."""

from __future__ import annotations

import itertools
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from aiod.errors import UsageError
from aiod.flow.refine.common import common
from aiod.flow.refine.frames import checked, numbered
from aiod.flow.source import Pixels
from aiod.flow.steps.calls import Bounds
from aiod.flow.tiles.stitch import LEAST_OVERLAP, mutual_best, number


def link_planes(
    labels: Pixels,
    *,
    overlap: Annotated[
        float,
        Bounds(above=0, maximum=1),
        "intersection over union from which objects of two planes are one",
    ] = LEAST_OVERLAP,
) -> Pixels:
    """Objects of neighbouring planes that overlap most become one object.

    `labels` (ZYX) hold objects of single planes: the same number in two planes is two objects. Of
    each plane and the next, a mutual best match of at least `overlap` is one object, as when the
    pipeline links planes. The result is uint32 (uint64 where that is too small), 1…n in the order
    of planes and of numbers in them. Raises UsageError for labels without planes.

    >>> link_planes(np.array([[[7, 7, 0, 1]], [[3, 3, 0, 0]]])).tolist()
    [[[2, 2, 0, 1]], [[2, 2, 0, 0]]]
    """
    if checked(labels).ndim != 3:
        raise UsageError(
            "There are no planes to link: these labels have the axes YX.",
            hint="choose labels of a stack",
        )
    planes = [numbered(plane)[0] for plane in labels]
    joins = (
        (z, z + 1, _same(one, other, overlap))
        for z, (one, other) in enumerate(itertools.pairwise(planes))
    )
    numbering = number([int(plane.max()) for plane in planes], joins)
    return np.stack([numbering.table(z)[plane] for z, plane in enumerate(planes)])


def _same(one: Pixels, other: Pixels, overlap: float) -> NDArray[np.int64]:
    both = common(one, other)
    chosen = mutual_best(
        both.ours, both.theirs, both.pixels, both.sizes, both.their_sizes, least=overlap
    )
    return np.stack([both.ours[chosen], both.theirs[chosen]], axis=1)
