"""Label images as objects: numbers without gaps, and a table of what steps ask of each object.

Everything is read tile by tile, each tile in one frame (a position along the axes that a step does
not act on); what is kept for the whole image is a few numbers an object.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from aiod.errors import AiodError
from aiod.files import reason
from aiod.flow.source import Box, Pixels, Source
from aiod.flow.steps.histogram import Map
from aiod.flow.tiling import Plan

Integers = NDArray[np.int64]
_DENSE = 1 << 16

LATERAL_BORDER, AXIAL_BORDER = 1, 2
"""Flags of an object that touches the image's border along Y or X, and along Z."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Label images of `shape` in frames of `axes`, its last ones, each cut by the same `plan`."""

    shape: tuple[int, ...]
    axes: str
    plan: Plan

    @property
    def lead(self) -> tuple[int, ...]:
        """The sizes of the axes that are looped over."""
        return self.shape[: len(self.shape) - len(self.axes)]

    @property
    def places(self) -> int:
        """Number of tiles in all frames; they are counted frame by frame."""
        return math.prod(self.lead) * len(self.plan)

    def core(self, place: int) -> Box:
        """The core of a tile, in all axes."""
        frame, tile = divmod(place, len(self.plan))
        return self.box(frame, self.plan[tile].core)

    def box(self, frame: int, spatial: Box) -> Box:
        """A box of one frame, in all axes."""
        at = tuple(int(i) for i in np.unravel_index(frame, self.lead)) if self.lead else ()
        return Box(at + spatial.start, tuple(i + 1 for i in at) + spatial.stop)

    def frame(self, box: Box) -> int:
        """The frame in which a box lies."""
        at = box.start[: len(self.lead)]
        return int(np.ravel_multi_index(at, self.lead)) if self.lead else 0

    def read(self, source: Source, box: Box) -> Pixels:
        """The pixels of a box of one frame, of that frame's axes."""
        return np.asarray(source.read(box)).reshape(box.shape[len(self.lead) :])

    def parts(self, box: Box) -> Iterator[tuple[int, Box]]:
        """The tiles that a box of one frame meets, each with the part of the box in its core."""
        lead = len(self.lead)
        spatial = Box(box.start[lead:], box.stop[lead:])
        frame = self.frame(box)
        ranges = zip(spatial.start, spatial.stop, self.plan.tile, strict=True)
        for place in itertools.product(*(range(a // t, (b - 1) // t + 1) for a, b, t in ranges)):
            tile = int(np.ravel_multi_index(place, self.plan.grid))
            part = self.plan[tile].core.within(spatial)
            yield frame * len(self.plan) + tile, self.box(frame, part)


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """The objects of a label image while steps are at work on them.

    `labels` gives their numbers, each of one frame only, 0 for background. The arrays hold, at an
    object's number, how many pixels it has, its first pixel in raster order over the whole image,
    and the borders it touches; entry 0 is nothing. An object is a label in one frame.
    """

    labels: Source
    sizes: Integers
    first: Integers
    borders: NDArray[np.uint8]
    cut: Cut
    scratch: Path
    mapper: Map

    def __len__(self) -> int:
        return len(self.sizes) - 1

    def kept(self, keep: NDArray[np.bool_]) -> Objects:
        """Only the objects for which `keep` (without an entry for background) is true."""
        if keep.all():
            return self
        chosen = np.concatenate([[True], keep])
        table = np.where(chosen, np.cumsum(chosen) - 1, 0)
        return replace(
            self,
            labels=renumbered(self.labels, table),
            sizes=self.sizes[chosen],
            first=self.first[chosen],
            borders=self.borders[chosen],
        )

    def in_order(self) -> Objects:
        """The same objects, numbered in the order of their first pixels."""
        order = np.concatenate([[0], 1 + np.argsort(self.first[1:], kind="stable")])
        table = np.empty(len(order), np.int64)
        table[order] = np.arange(len(order))
        return replace(
            self,
            labels=renumbered(self.labels, table),
            sizes=self.sizes[order],
            first=self.first[order],
            borders=self.borders[order],
        )

    def each_tile(self, function: partial[Any]) -> Iterator[Any]:
        """What a function gives for the number of each tile, in order."""
        yield from self.mapper(function, range(self.cut.places))

    def array(self, name: str) -> zarr.Array[Any]:
        """A new array on disk for something about each pixel, a chunk a tile."""
        cut, number = self.cut, len(list(self.scratch.iterdir()))
        with space_in(self.scratch):
            return zarr.create_array(
                self.scratch / f"{number}-{name}",
                shape=cut.shape,
                chunks=(1,) * len(cut.lead)
                + tuple(min(t, n) for t, n in zip(cut.plan.tile, cut.plan.shape, strict=True)),
                dtype=dtype_for(max(len(self), math.prod(cut.plan.tile)) + 1),
            )


@contextlib.contextmanager
def space_in(folder: Path) -> Iterator[None]:
    """Says in a sentence that there is no room on disk."""
    try:
        yield
    except OSError as error:
        raise AiodError(
            f"Steps on labels cannot keep what they are at in {folder}: {reason(error)}.",
            hint="free some space there, or name another folder for temporary files in TMPDIR",
        ) from error


def keep(array: zarr.Array[Any], box: Box, pixels: Pixels) -> None:
    """Write a tile of an array of ours. Raises AiodError (a full disk, …)."""
    with space_in(Path(str(array.store_path).removeprefix("file://"))):
        array[box.slices] = pixels.reshape(box.shape)


def read_array(array: zarr.Array[Any], box: Box) -> Pixels:
    """A box of an array of ours."""
    return np.asarray(array[box.slices])


@dataclass(frozen=True, slots=True)
class _Renumbered:
    source: Source
    table: Pixels

    def __call__(self, box: Box) -> Pixels:
        found: Pixels = self.table[self.source.read(box)]
        return found


def renumbered(source: Source, table: Integers) -> Source:
    """Numbers looked up in a table."""
    before = source.read
    if isinstance(before, _Renumbered):
        source, table = before.source, table[before.table]
    numbers = table.astype(dtype_for(len(table)))
    return replace(source, dtype=numbers.dtype, read=_Renumbered(source, numbers))


def dtype_for(count: int) -> np.dtype[np.unsignedinteger[Any]]:
    """uint32, or uint64 where that cannot hold `count` different numbers."""
    return np.dtype(np.uint32 if count <= 2**32 else np.uint64)


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """The labels of one tile: how many pixels, the first pixel, the borders touched."""

    labels: Integers
    sizes: Integers
    first: Integers
    borders: NDArray[np.uint8]


def tally(cut: Cut, box: Box, labels: Pixels) -> Tally:
    """Count the labels (not 0) of a box of one frame, given as pixels of that frame's axes."""
    flat = labels.reshape(-1)
    low, high = int(flat.min()), int(flat.max())
    if low < 0 or high > np.iinfo(np.int64).max:
        raise AiodError(
            f"Labels of {low if low < 0 else high} are none: they count from 0 to less than 2^63."
        )
    if high - low < max(4 * flat.size, _DENSE):
        close = (flat - flat.dtype.type(low)).astype(np.intp)
        counts = np.bincount(close)
        first = np.zeros(len(counts), np.intp)
        first[close[::-1]] = np.arange(flat.size)[
            ::-1
        ]  # of equal places the last one written stays
        places = np.flatnonzero(counts)
        names, counts, first = places + low, counts[places], first[places]
    else:
        names, first, counts = np.unique(flat, return_index=True, return_counts=True)
    borders = np.zeros(len(names), np.uint8)
    for flag, face in _faces(cut, box, labels):
        borders[np.searchsorted(names, np.unique(face).astype(names.dtype))] |= flag
    at = np.unravel_index(first, box.shape)
    whole = np.ravel_multi_index(
        tuple(i + start for i, start in zip(at, box.start, strict=True)), cut.shape
    )
    real = names > 0
    return Tally(
        names[real].astype(np.int64),
        counts[real].astype(np.int64),
        whole[real].astype(np.int64),
        borders[real],
    )


def _faces(cut: Cut, box: Box, labels: Pixels) -> Iterator[tuple[int, Pixels]]:
    """The pixels of a box at each border of the image; an axis of one pixel has no border."""
    lead = len(cut.lead)
    for axis, (name, size) in enumerate(zip(cut.axes, cut.plan.shape, strict=True)):
        flag = AXIAL_BORDER if name == "Z" else LATERAL_BORDER
        if size > 1 and box.start[lead + axis] == 0:
            yield flag, labels.take(0, axis)
        if size > 1 and box.stop[lead + axis] == size:
            yield flag, labels.take(-1, axis)


def together(
    names: Integers, sizes: Integers, first: Integers, borders: NDArray[np.uint8], count: int
) -> tuple[Integers, Integers, NDArray[np.uint8]]:
    """Sizes, first pixels and borders of the things 0…count - 1, from parts of them."""
    size = np.zeros(count, np.int64)
    earliest = np.full(count, np.iinfo(np.int64).max)
    touched = np.zeros(count, np.uint8)
    np.add.at(size, names, sizes)
    np.minimum.at(earliest, names, first)
    np.bitwise_or.at(touched, names, borders)
    return size, earliest, touched


def _tally_of(cut: Cut, labels: Source, place: int) -> Tally:
    box = cut.core(place)
    return tally(cut, box, cut.read(labels, box))


def objects_of(labels: Source, cut: Cut, scratch: Path, mapper: Map) -> Objects:
    """The objects of a label image, numbered by their first pixels. Reads it once, by tiles.

    Labels may be any integers that are not negative; the same label in two frames is two objects.
    """
    tallies = list(mapper(partial(_tally_of, cut, labels), range(cut.places)))
    frames = np.repeat(
        np.arange(len(tallies)) // len(cut.plan), [len(found.labels) for found in tallies]
    )
    names = _joined([found.labels for found in tallies])
    order = np.lexsort((names, frames))
    frames, names = frames[order], names[order]
    new = np.ones(len(names), bool)
    new[1:] = (frames[1:] != frames[:-1]) | (names[1:] != names[:-1])
    sizes, first, borders = together(
        np.cumsum(new) - 1,
        _joined([found.sizes for found in tallies])[order],
        _joined([found.first for found in tallies])[order],
        np.concatenate([found.borders for found in tallies])[order],
        int(new.sum()),
    )
    frames, names = frames[new], names[new]
    starts = np.searchsorted(frames, np.arange(math.prod(cut.lead) + 1))
    numbered = replace(labels, dtype=np.dtype(np.int64), read=_Numbered(labels, cut, names, starts))
    none: Integers = np.zeros(1, np.int64)
    return Objects(
        numbered,
        np.concatenate([none, sizes]),
        np.concatenate([none, first]),
        np.concatenate([none.astype(np.uint8), borders]),
        cut,
        scratch,
        mapper,
    ).in_order()


def _joined(parts: Sequence[Integers]) -> Integers:
    return np.concatenate([np.empty(0, np.int64), *parts])


@dataclass(frozen=True, slots=True)
class _Numbered:
    """Labels of each frame as numbers that are unique over all frames: their places in `names`.

    Those of frame f are names[starts[f]:starts[f + 1]], rising.
    """

    source: Source
    cut: Cut
    names: Integers
    starts: Integers

    def __call__(self, box: Box) -> Pixels:
        labels = np.asarray(self.source.read(box))
        frame = self.cut.frame(box)
        start, stop = int(self.starts[frame]), int(self.starts[frame + 1])
        names = self.names[start:stop]
        if not len(names):
            return np.zeros(labels.shape, np.int64)
        if names[-1] < max(4 * labels.size, _DENSE):
            table = np.zeros(int(names[-1]) + 1, np.int64)
            table[names] = np.arange(start + 1, stop + 1)
            found: Pixels = table[labels]
            return found
        places = np.searchsorted(names, labels.astype(np.int64)) + start + 1
        return np.where(labels > 0, places, 0)
