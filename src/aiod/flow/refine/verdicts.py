"""Which objects are right, as something to look at: a number for each pixel of an object."""

from __future__ import annotations

import numpy as np

from aiod.flow.refine.frames import Numbers, numbered
from aiod.flow.results.evaluate import partners
from aiod.flow.source import Pixels

VERDICTS = {"matched": 1, "missed": 2, "extra": 3}
"""What stands in the pixels of an object, by what is said of it."""


def verdicts(
    labels: Pixels, truth: Pixels, *, axes: str, iou: float = 0.5
) -> tuple[Pixels, Pixels]:
    """The labels as matched or extra, the truth as matched or missed; uint8, 0 is background.

    Both have the same shape, of `axes` (YX or ZYX, perhaps T before them). Matches are those of
    :func:`aiod.flow.results.evaluate.partners`. Raises EvaluationError.

    >>> [each.tolist() for each in verdicts(
    ...     np.array([[5, 5, 0, 7]]), np.array([[2, 2, 4, 0]]), axes="YX")]
    [[[1, 1, 0, 3]], [[1, 1, 2, 0]]]
    """
    if axes.startswith("T"):
        frames = [
            verdicts(one, other, axes=axes[1:], iou=iou)
            for one, other in zip(labels, truth, strict=True)
        ]
        return np.stack([one for one, _ in frames]), np.stack([other for _, other in frames])
    (found,) = partners(labels, truth, iou=iou)
    return _painted(labels, found.ours, "extra"), _painted(truth, found.theirs, "missed")


def _painted(labels: Pixels, matched: Numbers, others: str) -> Pixels:
    compacted, names = numbered(labels)
    table = np.where(np.isin(names, matched), VERDICTS["matched"], VERDICTS[others])
    table[0] = 0
    return table.astype(np.uint8).take(compacted)
