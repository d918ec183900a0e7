"""Several label images of one image put together: all objects, those most agree on, differences.

Objects of two layers are the same where their intersection over union is at least `overlap`. Layers
are taken in order, the best matches first: an object is the same as one of the layers before, no
two of a layer as the same one, or it is new. It is compared with the first that was found of an
object. So objects of one layer are never merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np

from aiod.errors import UsageError
from aiod.flow.refine.common import common
from aiod.flow.refine.frames import Numbers, checked, numbered
from aiod.flow.source import Box, Pixels
from aiod.flow.steps.calls import Bounds
from aiod.flow.tiles.stitch import compact
from aiod.words import counted

Overlap = Annotated[
    float,
    Bounds(above=0, maximum=1),
    "intersection over union from which objects of two layers are the same",
]


def union(layers: Sequence[Pixels], *, overlap: Overlap = 0.5) -> Pixels:
    """All objects of all layers, each pixel that any of them has."""
    return vote(layers, votes=1, overlap=overlap)


def vote(
    layers: Sequence[Pixels],
    *,
    votes: Annotated[int, Bounds(minimum=1), "in how many layers a pixel is of the object"] = 2,
    overlap: Overlap = 0.5,
) -> Pixels:
    """The objects that several layers have: of each the pixels that so many layers give it.

    Layers are labels of the same shape, YX or ZYX; the result is uint32, 1…n without gaps in the
    order of the layers and of their numbers. A pixel that several objects have enough votes for
    goes to that with the most, of equals to the first. Raises UsageError.

    >>> one, two = np.array([[5, 5, 5, 0, 7]]), np.array([[0, 2, 2, 2, 0]])
    >>> vote([one, two], votes=2, overlap=0.5).tolist()
    [[0, 1, 1, 0, 0]]
    >>> union([one, two]).tolist()
    [[1, 1, 1, 1, 2]]
    """
    same = corresponding(layers, overlap=overlap)
    if votes > len(same):
        raise UsageError(
            f"{counted(votes, 'vote')} cannot be had from {counted(len(same), 'layer')}.",
            hint="choose more layers, or ask for fewer votes",
        )
    result = np.zeros(same[0].shape, np.uint32)
    most = np.zeros(same[0].shape, np.uint8)
    for layer in same:
        given = np.zeros(layer.shape, np.uint8)
        for other in same:
            given += layer == other
        better = (given > most) | ((given == most) & (layer < result))
        better &= (layer > 0) & (given >= votes)
        result[better] = layer[better]
        most[better] = given[better]
    return compact(result, Box.whole(result.shape))[0].astype(np.uint32)


def differences(layers: Sequence[Pixels], *, overlap: Overlap = 0.5) -> Pixels:
    """Where layers differ: an object in some of them only, or not the same object in all.

        0  all are background, or the same object
        1  an object in some layers, background in others
        2  objects in all layers, but not the same one

    Layers are labels of the same shape, YX or ZYX; the result is uint8. Raises UsageError.
    """
    same = corresponding(layers, overlap=overlap)
    differ = np.zeros(same[0].shape, bool)
    objects = same[0] > 0
    for layer in same[1:]:
        differ |= layer != same[0]
        objects &= layer > 0
    return np.where(differ, np.where(objects, 2, 1), 0).astype(np.uint8)


def corresponding(layers: Sequence[Pixels], *, overlap: float) -> list[Pixels]:
    """The layers with the same number, from 1, for objects that are the same; uint32."""
    if len(layers) < 2:
        raise UsageError(
            f"{counted(len(layers), 'layer')} cannot be compared.", hint="choose two layers or more"
        )
    shapes = {checked(layer).shape for layer in layers}
    if len(shapes) > 1:
        raise UsageError(
            "The layers differ in size.",
            details=[" × ".join(map(str, shape)) + " pixels" for shape in sorted(shapes)],
            hint="choose layers of the same image",
        )
    compacted = [numbered(layer)[0] for layer in layers]
    tables: list[Numbers] = []
    count = 0
    for layer in compacted:
        table = _joined(layer, list(zip(compacted, tables, strict=False)), overlap)
        new = np.flatnonzero(table[1:] == 0) + 1
        table[new] = np.arange(count + 1, count + len(new) + 1)
        count += len(new)
        tables.append(table)
    return [table.take(layer) for table, layer in zip(tables, compacted, strict=True)]


def _joined(layer: Pixels, earlier: Sequence[tuple[Pixels, Numbers]], overlap: float) -> Numbers:
    """For each object of a layer the number of the earlier one that it is, 0 where it is new.

    A number belongs to the first object that had it: with that one others are compared.
    """
    rows: list[tuple[float, int, int]] = []
    known = 0
    for other, table in earlier:
        both = common(layer, other)
        first = (table[both.theirs] > known) & (both.iou >= overlap)
        rows += zip(
            (-both.iou[first]).tolist(),
            table[both.theirs[first]].tolist(),
            both.ours[first].tolist(),
            strict=True,
        )
        known = max(known, int(table.max()))
    joined: Numbers = np.zeros(int(layer.max()) + 1, np.uint32)
    taken: set[int] = set()
    for _, number, ours in sorted(rows):
        if not joined[ours] and number not in taken:
            joined[ours] = number
            taken.add(number)
    return joined
