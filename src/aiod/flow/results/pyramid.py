"""The pixels of labels on disk: chunks, the pyramid, and the digest by which two are compared.

A block of the digest is looked at once: for its hash, and for what the next level takes of it. Who
writes whole blocks has that done while they are in memory (`Look`); else they are read again.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from aiod.flow.results.multiscale import axes_of, next_factors
from aiod.flow.source import Box, Pixels, Source

Map = Callable[..., Iterable[Any]]
"""`map`, or anything that is called like it, such as the map of a pool of threads."""

WRITE_ALL: Any = {"write_empty_chunks": True}
"""How zarr is to treat chunks of nothing but background; see `write_box`."""

_CODEC = ZstdCodec(level=3)
"""Labels come in runs of equal numbers, which shuffling their bytes hides: Blosc with zstd of the
same level makes nuclei half as large again and takes three times as long."""

SMALL = 256
"""The pyramid ends where the smaller of Y and X is this many pixels or fewer."""

_CHUNK = {"T": 1, "C": 1, "Z": 32, "Y": 256, "X": 256}
_FLAT_CHUNK = {"T": 1, "C": 1, "Z": 1, "Y": 1024, "X": 1024}
_DIGEST_BLOCK = {"T": 1, "C": 1, "Z": 16, "Y": 1024, "X": 1024}


def chunks_for(
    axes: str, shape: tuple[int, ...], tile: tuple[int, ...] | None = None
) -> tuple[int, ...]:
    """Sensible chunks for labels; with `tile`, such that every tile is a whole number of chunks.

    >>> chunks_for("YX", (5000, 300)), chunks_for("YX", (5000, 5000), tile=(768, 1000))
    ((1024, 300), (768, 1000))
    """
    sizes = dict(zip(axes, shape, strict=True))
    wanted = _CHUNK if sizes.get("Z", 1) > 1 else _FLAT_CHUNK
    return tuple(
        min(n, wanted[axis] if t >= n else _divisor(t, wanted[axis]))
        for axis, n, t in zip(axes, shape, tile or shape, strict=True)
    )


def write_box(array: zarr.Array[Any], box: Box, pixels: Pixels) -> None:
    """Write labels into an array that holds nothing there yet; chunks of background stay away.

    Zarr can do that too, but takes four times as long to compare a chunk as to compress it
    (3.1: `NDBuffer.all_equal`), so arrays are made with `WRITE_ALL` and the looking is done here.
    """
    grid = [
        range(a - a % n, b, n) for a, b, n in zip(box.start, box.stop, array.chunks, strict=True)
    ]
    for corner in product(*grid):
        stop = tuple(map(sum, zip(corner, array.chunks, strict=True)))
        part = Box(corner, stop).within(box)
        inside = pixels[part.seen_from(box.start).slices]
        if inside.any():
            array[part.slices] = inside.astype(array.dtype, copy=False)


def labels_source(level: zarr.Array[Any], axes: str, pixel_size: Mapping[str, float]) -> Source:
    """An array of labels as a Source; it can be pickled."""
    return Source(axes, level.shape, level.dtype, partial(_read, level), dict(pixel_size))


def labels_digest(source: Source, *, mapper: Map = map) -> str:
    """ "sha256:…" of labels: the same whatever their chunks, compression and width of integers.

    The hash is taken over one line of JSON with axes and shape, then over the sha256 of each block
    of 1 time point, 1 channel, 16 planes, 1024 rows and 1024 columns (less at the far edges) in
    raster order, whose pixels are unsigned little-endian numbers in raster order: of 32 bits, of 64
    where a block has a label that needs them.
    """
    hashed = mapper(partial(_hash, source), _blocks(source.shape, _digest_block(source.axes)))
    return _digest(source.axes, source.shape, hashed)


def new_levels(
    group: zarr.Group,
    axes: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    chunks: tuple[int, ...],
    pixel_size: Mapping[str, float],
) -> tuple[zarr.Array[Any], list[tuple[int, ...]]]:
    """The empty levels of a pyramid: the first, and every how-many-th pixel each takes of that.

    No chunk of a level reaches across what becomes of a block of the digest in the level below.
    """

    def make(number: int) -> zarr.Array[Any]:
        return group.create_array(
            str(number),
            shape=shape,
            dtype=dtype,
            chunks=chunks,
            compressors=_CODEC,
            dimension_names=list(axes.lower()),
            fill_value=0,
            config=WRITE_ALL,
        )

    first, steps = make(0), [(1,) * len(axes)]
    while min(shape[-2:]) > SMALL:
        factors = next_factors(axes, steps[-1], pixel_size)
        shape = tuple(-(-n // f) for n, f in zip(shape, factors, strict=True))
        most = (n // f for n, f in zip(_digest_block(axes), factors, strict=True))
        chunks = tuple(map(min, chunks_for(axes, shape), most))
        make(len(steps))
        steps.append(tuple(s * f for s, f in zip(steps[-1], factors, strict=True)))
    return first, steps


@dataclass(frozen=True, slots=True)
class Look:
    """Called with a block of the digest in a level: fills the next from it; its start, and hash."""

    level: zarr.Array[Any]
    above: zarr.Array[Any] | None

    def __call__(self, box: Box, pixels: Pixels | None = None) -> tuple[tuple[int, ...], bytes]:
        """`pixels` are those of the box, where they need not be read."""
        if pixels is None:
            pixels = _read(self.level, box)
        if self.above is not None:
            _shrink(self.level.shape, self.above, box, pixels)
        return box.start, _hash_of(pixels)


def look_at(first: zarr.Array[Any], axes: str, block: tuple[int, ...]) -> Look | None:
    """For who writes `block` by `block`: None where those are no blocks of the digest."""
    whole = tuple(map(min, first.shape, _digest_block(axes)))
    return (
        Look(first, _level(zarr.open_group(first.store, mode="r+"), 1)) if block == whole else None
    )


Seen = Iterable[tuple[tuple[int, ...], bytes]]
"""What `Look` gave of every block, in any order."""


def fill_pyramid(group: zarr.Group, *, seen: Seen | None = None, mapper: Map = map) -> str:
    """Fill the levels above the first of a label image; the digest of its labels.

    Each is every second pixel of the one before, never averaged: the mean of labels 2 and 4 would
    be the object 3. `mapper` may do the blocks in parallel; they need not be read for the second
    level and the digest (`labels_digest`) where they were `seen`.
    """
    attributes: dict[str, Any] = group.attrs.asdict()
    axes, _ = axes_of(attributes["ome"]["multiscales"][0])
    size = _digest_block(axes)
    first = first_level(group)
    if seen is None:
        seen = mapper(Look(first, _level(group, 1)), _blocks(first.shape, size))
    digest = _digest(axes, first.shape, (block for _, block in sorted(seen)))
    for number in itertools.count(1):
        below, above = _level(group, number), _level(group, number + 1)
        if below is None or above is None:
            break
        for _ in mapper(partial(_fill, below, above), _blocks(below.shape, size)):
            pass
    return digest


def _fill(below: zarr.Array[Any], above: zarr.Array[Any], box: Box) -> None:
    _shrink(below.shape, above, box, _read(below, box))


def _shrink(shape: tuple[int, ...], above: zarr.Array[Any], box: Box, pixels: Pixels) -> None:
    """Write what the level above takes of a box of the level below, which has `shape`."""
    # Halved or not: 1 pixel is its own half, and for more this is the factor.
    factors = [-(-n // m) for n, m in zip(shape, above.shape, strict=True)]
    taken = pixels[tuple(slice(None, None, f) for f in factors)]
    start = tuple(a // f for a, f in zip(box.start, factors, strict=True))
    write_box(above, Box(start, tuple(map(sum, zip(start, taken.shape, strict=True)))), taken)


def _level(group: zarr.Group, number: int) -> zarr.Array[Any] | None:
    level = group.get(str(number))
    return level if isinstance(level, zarr.Array) else None


def first_level(group: zarr.Group) -> zarr.Array[Any]:
    level = group["0"]
    assert isinstance(level, zarr.Array)
    return level


def _divisor(number: int, wanted: int) -> int:
    """The largest divisor up to `wanted`, or the next above where that one is tiny (for primes)."""
    divisors = [d for d in range(1, number + 1) if number % d == 0]
    below = max(d for d in divisors if d <= wanted)
    return below if 4 * below >= min(wanted, number) else min(d for d in divisors if d > wanted)


def _blocks(shape: tuple[int, ...], size: tuple[int, ...]) -> Iterator[Box]:
    """Boxes of `size` that cover an array of `shape` in raster order."""
    for start in product(*(range(0, n, s) for n, s in zip(shape, size, strict=True))):
        yield Box(start, tuple(min(a + s, n) for a, s, n in zip(start, size, shape, strict=True)))


def _read(level: zarr.Array[Any], box: Box) -> Pixels:
    return np.asarray(level[box.slices])


def _digest_block(axes: str) -> tuple[int, ...]:
    return tuple(_DIGEST_BLOCK[axis] for axis in axes)


def _digest(axes: str, shape: tuple[int, ...], hashed: Iterable[bytes]) -> str:
    total = hashlib.sha256(json.dumps({"axes": axes, "shape": list(shape)}).encode() + b"\n")
    for block in hashed:
        total.update(block)
    return f"sha256:{total.hexdigest()}"


def _hash(source: Source, box: Box) -> bytes:
    return _hash_of(source.read(box))


def _hash_of(pixels: Pixels) -> bytes:
    bits = "<u4" if int(pixels.max(initial=0)) < 1 << 32 else "<u8"
    pixels = pixels.astype(bits, order="C", copy=False)
    return hashlib.sha256(np.ascontiguousarray(pixels).data).digest()
