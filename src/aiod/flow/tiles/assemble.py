"""Out of finished tiles: the labels of the whole image, in its own pixels, numbered 1…N.

    tiles -> joined -> (linked from plane to plane) -> (enlarged) -> (steps after) -> level 0

Each arrow reads and writes block by block; a stage that is not asked for is not there.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from aiod.flow.results.pyramid import WRITE_ALL, Seen, labels_source, look_at, write_box
from aiod.flow.source import Box, Source
from aiod.flow.steps.calls import StepCall
from aiod.flow.steps.resample import enlarged_labels
from aiod.flow.tiles.job import Finished, Frames, Job, Piece, Place, Written, places_of
from aiod.flow.tiles.layout import TILE
from aiod.flow.tiles.link import link_planes
from aiod.flow.tiles.stitch import number
from aiod.flow.tiling import Plan

Map = Callable[..., Iterable[Any]]

_BLOCK_SIDE = 1024
_BLOCK_PIXELS = 1 << 22


@dataclass(frozen=True, slots=True)
class Joined:
    """The joined tiles in the pixels that the model saw; `objects` is None for classes.

    `seen` is what the pyramid of `labels` needs to know of them, None where it has to look itself.
    """

    labels: Source
    objects: int | None
    dtype: np.dtype[Any]
    seen: Seen | None = None


def join_tiles(
    job: Job,
    tiles: Mapping[Place, Finished],
    store: Callable[[tuple[int, ...], np.dtype[Any]], zarr.Array[Any]],
    *,
    link_z: bool = False,
    final: bool = False,
    mapper: Map = map,
) -> Joined:
    """Number the objects of all tiles and write them to an array, which `store` makes.

    `store` gets shape and dtype; its chunks must not reach across `written_blocks`. Tiles that are
    not among `tiles` stay background. Where the array is the `final` one, its pyramid is begun.
    """
    frames = job.frames(job.source)
    axes = frames.axes.replace("C", "")
    shape = tuple(n for axis, n in zip(frames.axes, frames.shape, strict=True) if axis != "C")
    numbering, table, objects = None, None, None
    dtype: np.dtype[Any] = np.dtype(np.uint32)
    if job.kind == "instance":
        counts = [tiles[p].block.count if p in tiles else 0 for p in places_of(job, frames)]
        joins = itertools.chain.from_iterable(tile.joins for tile in tiles.values())
        numbering = number(counts, joins)
        objects, dtype = numbering.total, numbering.dtype
        if link_z and "Z" in frames.loops:
            table = link_planes(job, frames, numbering, mapper=mapper)
            objects = int(table.max(initial=0))
    array = store(shape, dtype)
    pieces = list(_pieces(job, frames, tiles))
    look = None
    if final and sum(len(piece.tiles) for piece in pieces) == len(frames) * len(job.plan):
        one = frames.box(0, written_blocks(job.plan)[0].core, without="C")
        look = look_at(array, axes, one.shape)
    seen = list(mapper(Written(job, frames, array, numbering, table, look), pieces))
    labels = labels_source(array, axes, job.source.pixel_size)
    return Joined(labels, objects, dtype, seen if look is not None else None)


def written_blocks(plan: Plan) -> Plan:
    """The blocks in which tiles are written: small ones together, in fewer and larger chunks."""
    return plan.in_blocks(_BLOCK_SIDE, _BLOCK_PIXELS)


def _pieces(job: Job, frames: Frames, tiles: Mapping[Place, Finished]) -> Iterator[Piece]:
    """Every block that has a finished tile."""
    for frame in range(len(frames)):
        for block in written_blocks(job.plan):
            inside = (tile.index for tile in job.plan.inside(block.core))
            done = tuple(index for index in inside if Place(frame, index) in tiles)
            if done:
                yield Piece(frame, block.core, done)


def finish(
    joined: Joined,
    array: zarr.Array[Any],
    *,
    spatial: str,
    factors: Mapping[str, float],
    after: Sequence[StepCall],
    scratch: Path,
    pixel_size: Mapping[str, float],
    mapper: Map = map,
) -> int | None:
    """Bring joined labels to the shape of `array`, do the steps `after`, and write them there.

    `factors` are those by which the model's grid came from the image's. What is in between lies in
    the folder `scratch`. Returns the number of objects; None for classes.
    """
    labels, axes = joined.labels, joined.labels.axes
    plan = whole_blocks(array, axes, spatial)
    objects = joined.objects
    if labels.shape != array.shape:
        large = enlarged_labels(labels, array.shape, factors)
        target = array
        if after:
            tile = dict(zip(axes, plan.tile, strict=True))
            target = temporary_array(scratch, "enlarged", tile, axes)(array.shape, joined.dtype)
        for _ in mapper(partial(_copy, large, target), plan):
            pass
        labels = labels_source(target, axes, pixel_size)
    if after:
        from aiod.flow.steps.after import apply_after

        frame = Plan(
            tuple(labels.sizes[axis] for axis in spatial),
            tuple(plan.tile[axes.index(axis)] for axis in spatial),
            (0,) * len(spatial),
        )
        objects = apply_after(
            labels,
            after,
            spatial=spatial,
            plan=frame,
            write=partial(_write, array),
            mapper=mapper,
            scratch=scratch,
        )
    return objects


def whole_blocks(array: zarr.Array[Any], axes: str, spatial: str) -> Plan:
    """Blocks of an array that hold whole chunks, each about as large as a tile."""
    sides = dict(zip(spatial, TILE[spatial], strict=True))
    size = tuple(
        min(n, chunk * max(1, sides.get(axis, 1) // chunk))
        for axis, n, chunk in zip(axes, array.shape, array.chunks, strict=True)
    )
    return Plan(array.shape, size, (0,) * len(size))


def temporary_array(
    folder: Path, name: str, tile: Mapping[str, int], axes: str
) -> Callable[[tuple[int, ...], np.dtype[Any]], zarr.Array[Any]]:
    """What makes an array that only this run needs, one chunk a tile."""

    def make(shape: tuple[int, ...], dtype: np.dtype[Any]) -> zarr.Array[Any]:
        sizes = zip(axes, shape, strict=True)
        chunks = tuple(min(n, tile.get(axis, 1)) for axis, n in sizes)
        return zarr.create_array(
            folder / name,
            shape=shape,
            dtype=dtype,
            chunks=chunks,
            fill_value=0,
            overwrite=True,
            config=WRITE_ALL,
        )

    return make


def _copy(labels: Source, array: zarr.Array[Any], tile: Any) -> None:
    _write(array, tile.core, labels.read(tile.core))


def _write(array: zarr.Array[Any], box: Box, pixels: Any) -> None:
    write_box(array, box, np.asarray(pixels))
