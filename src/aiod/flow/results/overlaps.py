"""Two label images laid over each other: how many pixels have which number here and there.

Both are read block by block. A table of pairs is as large as there are objects that touch, whatever
the size of the images: 150,000 objects on 8192 x 8192 pixels take about a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiod.errors import AiodError
from aiod.flow.source import Box, Pixels, Source
from aiod.words import counted

_BLOCK = {"T": 1, "Z": 16, "Y": 1024, "X": 1024}
_MERGE_AFTER = 4_000_000  # rows of a table of overlaps, before rows of the same pair become one
_AXES_OF = {2: "YX", 3: "ZYX", 4: "TZYX"}

Map = Callable[..., Iterable[Any]]
Numbers = NDArray[Any]


class EvaluationError(AiodError):
    """Two label images that cannot be compared."""


# --- reading --------------------------------------------------------------------------------------


def comparable(labels: Source | Pixels, truth: Source | Pixels) -> tuple[Source, Source]:
    """Both as sources of the same shape, without axes of one pixel.

    Where they name their axes differently (a plain TIFF says little) those of the labels hold.
    Raises EvaluationError.
    """
    ours, theirs = _squeezed(_source(labels, "labels")), _squeezed(_source(truth, "truth"))
    if ours.shape != theirs.shape:
        raise EvaluationError(
            "The labels and the truth differ in size.",
            details=[f"labels: {_words(ours)}", f"truth:  {_words(theirs)}"],
            hint="compare labels with the truth of the same image",
        )
    if 0 in ours.shape:
        raise EvaluationError("The labels hold no pixels.", hint="give labels of an image")
    return ours, theirs


def _words(source: Source) -> str:
    return f"{' × '.join(map(str, source.shape))} pixels (axes {source.axes})"


def _source(labels: Source | Pixels, name: str) -> Source:
    if isinstance(labels, Source):
        source = labels
    elif labels.ndim in _AXES_OF:
        read = partial(_part, labels)
        source = Source(_AXES_OF[labels.ndim], labels.shape, labels.dtype, read)
    else:
        raise EvaluationError(
            f"The {name} has {counted(labels.ndim, 'axis', 'axes')}.",
            hint="give two axes (YX), three (ZYX) or four (TZYX)",
        )
    if source.dtype.kind not in "ui":
        raise EvaluationError(
            f"The {name} holds numbers of the type {source.dtype}, and labels are whole numbers.",
            hint="give the labels, not the image",
        )
    return source


def _part(array: Pixels, box: Box) -> Pixels:
    return array[box.slices]


def _squeezed(source: Source) -> Source:
    kept = [i for i, n in enumerate(source.shape) if n > 1 or source.axes[i] in "YX"]
    if len(kept) == len(source.shape):
        return source
    axes = "".join(source.axes[i] for i in kept)
    shape = tuple(source.shape[i] for i in kept)
    read = partial(_read_squeezed, source, tuple(kept))
    return Source(axes, shape, source.dtype, read, source.pixel_size)


def _read_squeezed(source: Source, kept: tuple[int, ...], box: Box) -> Pixels:
    start, stop = [0] * len(source.shape), [1] * len(source.shape)
    for i, a, b in zip(kept, box.start, box.stop, strict=True):
        start[i], stop[i] = a, b
    return source.read(Box(tuple(start), tuple(stop))).reshape(box.shape)


def frames(source: Source) -> Iterator[Box]:
    """A box for each time point."""
    whole = Box.whole(source.shape)
    if "T" not in source.axes:
        yield whole
        return
    for time in range(source.sizes["T"]):
        yield Box((time, *whole.start[1:]), (time + 1, *whole.stop[1:]))


def blocks(axes: str, within: Box) -> Iterator[Box]:
    """Boxes that cover another, small enough to hold in memory."""
    sizes = [_BLOCK[axis] for axis in axes]
    ranges = [range(*span) for span in zip(within.start, within.stop, sizes, strict=True)]
    for start in product(*ranges):
        yield Box(start, tuple(map(sum, zip(start, sizes, strict=True)))).within(within)


# --- overlaps -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pairs:
    """How many pixels have which number here and there; each pair once, sorted."""

    ours: Numbers
    theirs: Numbers
    pixels: Numbers

    def of(self, chosen: Numbers) -> Pairs:
        return Pairs(self.ours[chosen], self.theirs[chosen], self.pixels[chosen])


def overlaps(labels: Source, truth: Source, frame: Box, mapper: Map) -> Pairs:
    """The pairs within a box, such as a time point. Raises EvaluationError."""
    tables: list[Pairs] = []
    for table in mapper(partial(_pairs_in, labels, truth), blocks(labels.axes, frame)):
        tables.append(table)
        if len(tables) > 1 and sum(item.pixels.size for item in tables) > _MERGE_AFTER:
            tables = [merged(tables)]
    return merged(tables)


def _pairs_in(labels: Source, truth: Source, box: Box) -> Pairs:
    """The pairs of one block. Pixels in a row are mostly alike: runs are sorted, not pixels."""
    ours, theirs = _checked(labels, box, "labels"), _checked(truth, box, "truth")
    change = np.flatnonzero((ours[1:] != ours[:-1]) | (theirs[1:] != theirs[:-1])) + 1
    starts = np.concatenate([[0], change])
    lengths = np.diff(starts, append=ours.size)
    return merged([Pairs(ours[starts], theirs[starts], lengths)])


def _checked(source: Source, box: Box, name: str) -> Numbers:
    pixels = source.read(box).ravel()
    if source.dtype.kind == "i" and pixels.min(initial=0) < 0:
        raise EvaluationError(
            f"The {name} holds the number {pixels.min()}, and labels are 0 or more.",
            hint="give labels of which 0 is the background",
        )
    return pixels.astype(np.uint64, copy=False)


def merged(tables: list[Pairs]) -> Pairs:
    """One table of several, each pair once."""
    ours = np.concatenate([table.ours for table in tables])
    theirs = np.concatenate([table.theirs for table in tables])
    pixels = np.concatenate([table.pixels for table in tables])
    order = np.lexsort((theirs, ours))
    ours, theirs, pixels = ours[order], theirs[order], pixels[order]
    new = np.concatenate([[True], (ours[1:] != ours[:-1]) | (theirs[1:] != theirs[:-1])])
    starts = np.flatnonzero(new)
    return Pairs(ours[starts], theirs[starts], np.add.reduceat(pixels, starts))


def totals(numbers: Numbers, pixels: Numbers) -> tuple[Numbers, Numbers]:
    """Each number once, sorted, with the sum of its pixels."""
    values, which = np.unique(numbers, return_inverse=True)
    sums = np.zeros(values.size, np.int64)
    np.add.at(sums, which, pixels)
    return values, sums
