"""Reading boxes of a TIFF: only the rows, strips or tiles that a box needs.

tifffile finds the pages and decodes one piece at a time; which pieces a box needs, and whether they
lie inside the file at all, is decided here. Its zarr store does the first too, but reads what is
missing or cut off as zeros, takes whole strips of what is not compressed, decodes a plane of one
strip anew for each box, and keeps every file open.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from aiod.flow.images.raw import MAX_PIECE_BYTES, ImageError, damaged, only_image_errors
from aiod.flow.kept import Kept, kept
from aiod.flow.source import Box, Pixels
from aiod.words import byte_size

_BATCH_BYTES = 1 << 25
_MAX_PLANES = 1 << 24


@dataclass(frozen=True, slots=True)
class _Piece:
    """A strip or tile: its key, its place in the plane (it may reach over the far edges), its bytes
    in the file, or what they held if that is still kept, and how they are decoded.
    """

    key: tuple[object, int, int]
    box: Box
    data: bytes | None
    pixels: Pixels | None
    decode: Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Planes:
    """The planes of one image in a TIFF.

    `series` and `keyframe` are tifffile's. The array has `shape`, its first `split` axes number the
    planes, of which there are `count`; the others are those of a plane, `shaped` as TIFF has it
    (samples apart, depth, length, width, samples together) without some that are 1. `offset` is
    where all planes lie one after another, uncompressed. `dtype` has the file's byte order.

    May be used by several threads. A file is open only while bytes are read from it: a batch may
    have thousands of images.
    """

    path: Path
    series: Any
    keyframe: Any
    shape: tuple[int, ...]
    split: int
    count: int
    shaped: tuple[int, ...]
    offset: int | None
    dtype: np.dtype[Any]
    lock: threading.RLock = field(default_factory=threading.RLock)
    token: object = field(default_factory=object)

    @classmethod
    def of(cls, path: Path, series: Any, shape: tuple[int, ...]) -> Planes:
        """Where the planes of a series are whose array has this shape. Raises ImageError."""
        keyframe = series.keyframe
        if keyframe.dtype is None:
            raise ImageError(
                f"{path} cannot be opened: pixels of {keyframe.bitspersample} bits in the sample "
                f"format {keyframe.sampleformat} are not known."
            )
        shaped = tuple(int(n) for n in keyframe.shaped)
        if 0 in shaped or 0 in shape:
            raise ImageError(
                f"{path} holds no pixel: its size is {_times(shape)}.",
                hint="save or copy it again from where it came, or leave it out",
            )
        if series.transform is not None:
            raise ImageError(f"{path} cannot be opened: TIFFs of {series.kind} are not read here.")
        count = math.prod(shape) // math.prod(shaped)
        own = [n for n in shaped if n > 1]
        splits = [
            split
            for split in range(len(shape) + 1)
            if math.prod(shape[:split]) == count and [n for n in shape[split:] if n > 1] == own
        ]
        if not splits or count > _MAX_PLANES:
            raise damaged(path, "opened", f"{_times(shape)} pixels in planes of {_times(shaped)}")
        together = keyframe.is_final and not series.is_multifile
        return cls(
            path=path,
            series=series,
            keyframe=keyframe,
            shape=shape,
            split=splits[0],
            count=count,
            shaped=shaped,
            offset=series.dataoffset if together else None,
            dtype=np.dtype(keyframe.parent.byteorder + np.dtype(keyframe.dtype).str[1:]),
        )

    @property
    def nbytes(self) -> int:
        """Of one decoded plane."""
        return math.prod(self.shaped) * self.dtype.itemsize

    def check(self) -> None:
        """Raise ImageError where the first or last plane leaves its file, or a piece the memory."""
        if self.offset is not None:
            with self._open(self.keyframe) as handle:
                self._inside(handle, self.offset, self.nbytes * self.count)
            return
        piece = math.prod(self.keyframe.chunks) * self.dtype.itemsize
        if piece > MAX_PIECE_BYTES and not self.keyframe.is_final:
            raise ImageError(
                f"{self.path} cannot be read in parts: one compressed piece of it says that it "
                f"holds {byte_size(piece)}.",
                hint="if the file is whole, save it with tiles, as OME-TIFF or OME-Zarr",
            )
        for number in {0, self.count - 1}:
            page = self._page(number)
            if page is None:
                continue
            with self._open(page) as handle:
                offsets, counts = self._table(page)
                for offset, count in zip(offsets, counts, strict=False):
                    if count:
                        self._inside(handle, int(offset), int(count))
                start = self._plane_offset(page)
                if start is not None:
                    self._inside(handle, start, self.nbytes)
                _ = page.keyframe.decode  # made once, while nobody else is here

    def read(self, box: Box) -> Pixels:
        """The pixels of a box, as they lie in the file. Raises ImageError."""
        with only_image_errors(self.path, "read"):
            inner = self._inner(box)
            out = np.empty(box.shape, self.dtype)
            planes = out.reshape(-1, *inner.shape)
            lead = self.shape[: self.split]
            for place, index in enumerate(np.ndindex(*box.shape[: self.split])):
                there = [a + i for a, i in zip(box.start, index, strict=False)]
                number = int(np.ravel_multi_index(there, lead)) if lead else 0
                self._read_plane(number, inner, planes[place])
            return out

    def _inner(self, box: Box) -> Box:
        """The part of a box inside a plane, with those of the plane's axes that the array lacks."""
        own = zip(self.shape, box.start, box.stop, strict=True)
        ranges = iter([(a, b) for n, a, b in list(own)[self.split :] if n > 1])
        five = [next(ranges) if n > 1 else (0, 1) for n in self.shaped]
        return Box(tuple(a for a, _ in five), tuple(b for _, b in five))

    def _read_plane(self, number: int, box: Box, out: Pixels) -> None:
        if self.offset is not None:
            self._read_rows(self.keyframe, self.offset + number * self.nbytes, box, out)
            return
        with self._open(self.keyframe):  # once for all that is looked up
            page = self._page(number)
            start = self._plane_offset(page) if page is not None else None
            batches = self._batches(number, page, box) if page is not None else iter(())
            first = next(batches, []) if start is None else []
        if page is None:
            out[...] = 0
        elif start is not None:
            self._read_rows(page, start, box, out)
        else:
            for piece in itertools.chain(first, itertools.chain.from_iterable(batches)):
                self._paste(page, piece, box, out)

    # Uncompressed planes

    def _plane_offset(self, page: Any) -> int | None:
        """Where a plane begins that lies in the file as it does in memory."""
        if not page.keyframe.is_final:
            return None
        offsets, counts = self._table(page)
        if page is not page.keyframe:  # whose own pieces tifffile has looked at
            ends = map(int.__add__, map(int, offsets), map(int, counts))
            if any(end != offset for end, offset in zip(ends, offsets[1:], strict=False)):
                return None
        return int(offsets[0]) if offsets[0] > 0 else None

    def _read_rows(self, page: Any, start: int, box: Box, out: Pixels) -> None:
        _, depth, length, width, samples = self.shaped
        rows, columns = box.shape[2], box.shape[3]
        pixel = samples * self.dtype.itemsize
        # One read of whole rows is quicker than many of their parts, where it is not much more.
        whole = columns * 4 >= width or rows * width * pixel <= 1 << 16
        left, step = (0, width) if whole else (box.start[3], columns)
        block = np.empty((rows, step, samples), self.dtype)
        inside = slice(box.start[3] - left, box.stop[3] - left), slice(box.start[4], box.stop[4])
        with Path(page.parent.filehandle.path).open("rb", buffering=0) as stream:
            for place in np.ndindex(*box.shape[:2]):
                sample, z = (a + i for a, i in zip(box.start, place, strict=False))
                row = (sample * depth + z) * length + box.start[2]
                if whole:
                    self._fill(stream, start + row * width * pixel, block)
                else:
                    for i in range(rows):
                        self._fill(stream, start + ((row + i) * width + left) * pixel, block[i])
                out[place] = block[:, *inside]

    def _fill(self, stream: BinaryIO, position: int, array: Pixels) -> None:
        stream.seek(position)
        view = array.reshape(-1).view(np.uint8).data
        done = 0
        while done < len(view):
            count = stream.readinto(view[done:])  # type: ignore[attr-defined]
            if not count:
                raise damaged(self.path, "read", "the file ends in the middle of a plane")
            done += count

    # Planes of strips or tiles

    def _batches(self, number: int, page: Any, box: Box) -> Iterator[list[_Piece]]:
        """The pieces of a plane that a box needs, some at a time, read from the file."""
        wanted = self._meeting(page.keyframe, box)
        shelf = self._shelf(page.keyframe)
        while wanted:
            batch: list[_Piece] = []
            total = 0
            with self._open(page) as handle:
                offsets, counts = self._table(page)
                decode = _decoder(page)
                while wanted and total < _BATCH_BYTES:
                    index, place = wanted.pop()
                    key = (self.token, number, index)
                    pixels, data = shelf.get(key), None
                    offset, count = int(offsets[index]), int(counts[index])
                    if pixels is None and offset and count:
                        self._inside(handle, offset, count)
                        handle.seek(offset)
                        data = handle.read(count)
                        total += count
                    batch.append(_Piece(key, place, data, pixels, decode))
            yield batch

    def _meeting(self, keyframe: Any, box: Box) -> list[tuple[int, Box]]:
        """The numbers and places of the pieces that meet a box, the last first."""
        grid, size = self._grid(keyframe)
        first = (a // n for a, n in zip(box.start, size, strict=True))
        last = (-(-b // n) for b, n in zip(box.stop, size, strict=True))
        found = []
        for place in itertools.product(*map(range, first, last)):
            index = 0
            for position, count in zip(place, grid, strict=True):
                index = index * count + position
            corner = tuple(i * n for i, n in zip(place, size, strict=True))
            found.append((index, Box(corner, tuple(map(sum, zip(corner, size, strict=True))))))
        return found[::-1]

    def _grid(self, keyframe: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Pieces along each axis of a plane, and the pixels of one."""
        if keyframe.is_tiled:
            size = (keyframe.tiledepth, keyframe.tilelength, keyframe.tilewidth)
        else:
            size = (1, min(keyframe.rowsperstrip, self.shaped[2]), self.shaped[3])
        piece = (1, *(int(n) for n in size), self.shaped[4])
        return tuple(-(-n // p) for n, p in zip(self.shaped, piece, strict=True)), piece

    def _shelf(self, keyframe: Any) -> Kept:
        return kept(math.prod(self._grid(keyframe)[1]) * self.dtype.itemsize)

    def _paste(self, page: Any, piece: _Piece, box: Box, out: Pixels) -> None:
        """Decode a piece and put its part of a box in its place."""
        part = piece.box.within(box)
        target = out[part.seen_from(box.start).slices]
        if piece.pixels is None and piece.data is None:
            target[...] = page.keyframe.nodata
            return
        pixels = piece.pixels
        if pixels is None:
            shelf = self._shelf(page.keyframe)
            pixels = shelf.made(piece.key, lambda: self._decode(piece))
        target[...] = pixels[None][part.seen_from(piece.box.start).slices]

    def _decode(self, piece: _Piece) -> Pixels:
        index = piece.key[2]
        pixels: Pixels | None = piece.decode(piece.data, index, _fullsize=False)[0]
        if pixels is None:
            raise damaged(self.path, "read", f"nothing in piece {index}")
        return pixels

    # The file

    def _page(self, number: int) -> Any:
        with self._open(self.keyframe):
            return self.series[number]

    @contextlib.contextmanager
    def _open(self, page: Any) -> Iterator[Any]:
        """The handle of a page's file, open; no other thread has it meanwhile."""
        handle = page.parent.filehandle
        with self.lock:
            closed = handle.closed
            if closed:
                handle.open()
            try:
                yield handle
            finally:
                if closed:
                    handle.close()

    def _table(self, page: Any) -> tuple[Sequence[int], Sequence[int]]:
        """Offsets and byte counts of a page's pieces, as many as there must be."""
        grid, _ = self._grid(page.keyframe)
        expected = math.prod(grid)
        offsets, counts = page.dataoffsets, page.databytecounts
        if min(len(offsets), len(counts)) < expected:
            raise damaged(
                self.path, "read", f"a plane of {expected:,} pieces names {len(offsets):,}"
            )
        return offsets, counts

    def _inside(self, handle: Any, offset: int, count: int) -> None:
        if offset + count > handle.size:
            raise damaged(
                self.path,
                "read",
                f"pixels up to byte {offset + count:,} in a file of {handle.size:,} bytes",
            )


def _decoder(page: Any) -> Callable[..., Any]:
    """tifffile's decoder of a plane's pieces, made while the file is open: it may read from it."""
    tables = {"jpegtables": page.jpegtables, "jpegheader": page.keyframe.jpegheader}
    there = {name: table for name, table in tables.items() if table is not None}
    return partial(page.keyframe.decode, **there)


def _times(shape: tuple[int, ...]) -> str:
    return " × ".join(f"{n:,}" for n in shape)
