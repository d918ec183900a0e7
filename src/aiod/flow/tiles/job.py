"""What a worker does for an image: run the model on a tile, compare tiles, write labels.

A :class:`Job` is a plain value that says all of it, so that it can be sent to another machine. The
functions here are the tasks that an engine hands out: each may be done twice, by any worker, and
leaves its result in a file.
"""

from __future__ import annotations

import itertools
import math
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import zarr

from aiod.errors import AiodError
from aiod.flow.fit import Fit, chosen, model_view
from aiod.flow.images.image import open_image
from aiod.flow.models.workers import ModelError, Prediction, Worker, WorkerSpec
from aiod.flow.results.multiscale import Kind
from aiod.flow.results.pyramid import Look, write_box
from aiod.flow.source import Box, Pixels, Source
from aiod.flow.steps.chain import Prepared, apply
from aiod.flow.steps.resample import rescaled
from aiod.flow.tiles.blocks import Block, BlockStore
from aiod.flow.tiles.engine import Stopped, model_of
from aiod.flow.tiles.stitch import Numbering, Pairs, compact, join, match_tiles
from aiod.flow.tiling import Plan, Tile
from aiod.words import counted

_SMALLEST = 32
"""A tile's core is not cut below this many pixels an axis, however little memory there is."""
_MOST_PARTS = 64
_TOGETHER = 16
_BYTES_TOGETHER = 1 << 25
"""Tiles in one request to the model, and the shared memory for their pixels and labels."""
_BYTES_A_LABEL = 8
_HANDS = threading.Semaphore(max(1, (os.cpu_count() or 1) // 2))
"""Threads that number, keep and compare labels at a time. For small tiles that is many short calls,
each of which wants the interpreter: four threads on two cores took half as long again as one."""

T = TypeVar("T")
Join = tuple[int, int, Pairs]
"""Two tiles, numbered over all frames, and the pairs of their labels that are one object."""


@dataclass(frozen=True, slots=True)
class Opening:
    """How a file is opened: by its own metadata, or by what the user says of it."""

    path: Path
    fingerprint: str
    axes: str | None = None
    pixel_size: tuple[tuple[str, float], ...] | None = None

    def source(self) -> Source:
        return _opened(self)


@lru_cache(maxsize=16)
def _opened(opening: Opening) -> Source:
    size = dict(opening.pixel_size) if opening.pixel_size is not None else None
    image = open_image(
        opening.path, axes=opening.axes, pixel_size=size, fingerprint=opening.fingerprint
    )
    return image.source


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Job:
    """One image through one model, cut into tiles.

    `plan` cuts one frame; frames are numbered in raster order of the axes `fit.loops`. `name` is
    what messages call the image.
    """

    name: str
    opening: Opening
    fit: Fit
    prepared: Prepared
    plan: Plan
    kind: Kind
    worker: WorkerSpec
    params: Mapping[str, Any]
    survey: Mapping[str, Any]
    folder: Path
    attempts: int = 2

    @property
    def store(self) -> BlockStore:
        return BlockStore(self.folder, self.plan, self.kind == "instance")

    @property
    def source(self) -> Source:
        """What the model sees, over all frames: after the steps, in model pixels."""
        return seen_by_model(chosen(self.opening.source(), self.fit), self.prepared, self.fit)

    @property
    def arguments(self) -> dict[str, Any]:
        """The keywords of the runner's `predict`."""
        return {**self.params, **self.survey}

    @property
    def factors(self) -> dict[str, float]:
        """Axis -> how many pixels that the model sees each pixel of the image became."""
        return {**self.prepared.factors, **self.fit.factors}

    def frames(self, source: Source) -> Frames:
        return Frames(source.axes, source.shape, self.fit.loops)


_ONE_BY_ONE: weakref.WeakSet[Job] = weakref.WeakSet()
"""Jobs whose model has failed on several tiles at once."""


def seen_by_model(source: Source, prepared: Prepared, fit: Fit) -> Source:
    """The chosen channels after the steps, at the model's pixel size where that is asked for."""
    factors = {axis: wanted / prepared.factors[axis] for axis, wanted in fit.factors.items()}
    return rescaled(apply(source, prepared), factors)


@dataclass(frozen=True, slots=True)
class Frames:
    """The frames of an image: one for each position along the axes that are looped over."""

    axes: str
    shape: tuple[int, ...]
    loops: str

    @property
    def counts(self) -> tuple[int, ...]:
        return tuple(n for axis, n in zip(self.axes, self.shape, strict=True) if axis in self.loops)

    def __len__(self) -> int:
        return math.prod(self.counts)

    def box(self, frame: int, spatial: Box, *, without: str = "") -> Box:
        """A box of one frame as a box of the whole image, its channels all.

        `without` names axes to leave out, as labels do with C.
        """
        position = iter(np.unravel_index(frame, self.counts) if self.counts else ())
        ranges = iter(zip(spatial.start, spatial.stop, strict=True))
        parts = []
        for axis, size in zip(self.axes, self.shape, strict=True):
            if axis in self.loops:
                at = int(next(position))
                part = (at, at + 1)
            else:
                part = (0, size) if axis not in "ZYX" else next(ranges)
            if axis not in without:
                parts.append(part)
        return Box(tuple(a for a, _ in parts), tuple(b for _, b in parts))


class TileError(AiodError):
    """A tile that the model gave no answer for; the others are not touched by it."""


class Place(NamedTuple):
    """One tile of one frame of a job."""

    frame: int
    tile: int


@dataclass(frozen=True, slots=True)
class Finished:
    """A tile that is done, and what it shares with the neighbours that were done before it."""

    block: Block
    joins: tuple[Join, ...] = ()


def run_tiles(job: Job, places: Sequence[Place]) -> list[Finished | Exception]:
    """Run the model on tiles; their labels go to the job's store.

    A tile that is done already is only compared with its neighbours. A place has an error where no
    attempt succeeds: a TileError, which names image, tile and cause, or a ModelError of kind "load"
    when the model cannot be loaded at all.
    """
    job.store.look()
    results: list[Finished | Exception] = []
    number = _together(job, len(places))
    try:
        for start in range(0, len(places), number):
            results += _run_group(job, places[start : start + number])
    except Stopped:
        raise
    except Exception as error:  # noqa: BLE001 -- of no tile alone: the caller's
        return [*results, *[error] * (len(places) - len(results))]
    return results


def _together(job: Job, places: int) -> int:
    """How many tiles to ask the model for at once: groups of one size, bounded by their bytes."""
    source = job.source
    channels = source.sizes["C"] if "C" in job.fit.axes else 1
    largest = math.prod(job.plan.largest) * (channels * source.dtype.itemsize + _BYTES_A_LABEL)
    most = max(1, min(_TOGETHER, _BYTES_TOGETHER // largest))
    return -(-places // -(-places // most))


def _predicted_together(job: Job, places: Sequence[Place]) -> dict[Place, Prediction]:
    """What the model says of tiles in one request, which saves quick models half of their time.

    Nothing where one of them fails: each is then asked for by itself, and told of, and the job's
    tiles are asked for one by one from then on.
    """
    wanted = [place for place in places if not job.store.has(*place)]
    if len(wanted) < 2 or job in _ONE_BY_ONE:
        return {}
    source = job.source
    try:
        images = [read_frame(job, source, p.frame, job.plan[p.tile].outer) for p in wanted]
        with model_of(job.worker) as worker:
            try:
                found = worker.predict_each(images, axes=job.fit.axes, params=job.arguments)
            except BaseException:
                worker.close()  # whatever state it is in, the next one starts anew
                raise
    except Stopped:
        raise
    except Exception:  # noqa: BLE001 -- it comes again, from the tile whose it is
        _ONE_BY_ONE.add(job)
        return {}
    return dict(zip(wanted, found, strict=True))


def _run_group(job: Job, places: Sequence[Place]) -> list[Finished | Exception]:
    """Tiles that the model is asked for together if it may be."""
    found = _predicted_together(job, places)
    blocks = _saved(job, {place: (_block_of(each), each.labels) for place, each in found.items()})
    results: list[Finished | Exception] = []
    for place in places:
        try:
            block = blocks.get(place) or _run_tile(job, place)
            with _HANDS:
                joins = tuple(_joins(job, place)) if block.count else ()
            results.append(Finished(block, joins))
        except TileError as error:
            # Without the frames of its traceback, which hold the pixels.
            error.__context__ = None
            results.append(error.with_traceback(None))
    return results


def _run_tile(job: Job, place: Place) -> Block:
    """One tile by itself, unless it is done already."""
    known = job.store.known(*place)
    return known or _saved(job, {place: _labelled(job, place, job.plan[place.tile])})[place]


def _saved(job: Job, found: Mapping[Place, tuple[Block, Pixels]]) -> dict[Place, Block]:
    """Keep what the model said of tiles.

    A tile is saved before it looks for its neighbours, and so are they: of two that end at the same
    time one sees the other, or both do, which does no harm.
    """
    kept = []
    with _HANDS:
        for place, (block, labels) in found.items():
            if job.kind == "instance":
                labels, count = compact(labels, job.plan[place.tile].inner)
                block = replace(block, count=count)
            kept.append((place, block, labels))
        if kept:
            job.store.save(kept)
            job.store.look()
    return {place: block for place, block, _ in kept}


def _block_of(found: Prediction) -> Block:
    return Block(0, found.seconds, 1, found.messages, found.memory)


def _joins(job: Job, place: Place) -> Iterator[Join]:
    """What a tile shares with each neighbour that is done; tiles are numbered over all frames."""
    plan, store = job.plan, job.store
    first = place.frame * len(plan)
    tile, view = plan[place.tile], store.labels(*place)
    for other in plan.around(tile):
        other_view = store.labels_if_known(place.frame, other.index)
        if other_view is not None:
            pairs = match_tiles(plan, tile, view, other, other_view)
            if len(pairs):
                yield first + tile.index, first + other.index, pairs


def _labelled(job: Job, place: Place, tile: Tile) -> tuple[Block, Pixels]:
    """What the model says of a tile, in its outer box."""
    image = read_frame(job, job.source, place.frame, tile.outer)
    try:
        found = predicted(job, image)
        return _block_of(found), found.labels
    except ModelError as error:
        if error.kind == "load":
            raise
        if error.kind != "memory":
            raise _tile_error(job, place, error) from None
        try:
            labels, seconds, parts = _predict_in_parts(job, image, error)
        except ModelError as again:
            raise _tile_error(job, place, again) from None
    note = f"too large for the memory: done in {counted(parts, 'part')}"
    return Block(0, seconds, parts, (note,)), labels


def read_frame(job: Job, source: Source, frame: int, spatial: Box) -> Pixels:
    """A box of one frame as the axes that the model states."""
    pixels = source.read(job.frames(source).box(frame, spatial))
    return model_view(pixels, source.axes, job.fit)


def predicted(job: Job, image: Pixels) -> Prediction:
    """What the model says of a piece of an image, in one piece. Raises ModelError."""

    def ask(worker: Worker) -> Prediction:
        return worker.predict(image, axes=job.fit.axes, params=job.arguments)

    return ask_model(job.worker, job.attempts, ask)


def ask_model(spec: WorkerSpec, attempts: int, ask: Callable[[Worker], T]) -> T:
    """What a model answers at the first attempt that succeeds; each has a fresh process.

    Raises ModelError: of kind "load" where the model cannot be loaded, however that shows, so that
    it is not tried with every tile; of kind "memory" at once, for smaller tiles.
    """
    for attempt in itertools.count(1):
        loaded = False
        try:
            with model_of(spec) as worker:
                try:
                    worker.load()
                    loaded = True
                    return ask(worker)
                except ModelError:
                    worker.close()  # whatever state it is in, the next one starts anew
                    raise
        except ModelError as error:
            if not loaded and attempt >= attempts:
                raise error.of_kind("load") from error
            if error.kind == "load" or (loaded and error.kind == "memory") or attempt >= attempts:
                raise
    raise AssertionError("unreachable")


def _predict_in_parts(job: Job, image: Pixels, error: ModelError) -> tuple[Pixels, float, int]:
    """A tile too large for the memory, as smaller tiles that are joined like all others."""
    at = {axis: i for i, axis in enumerate(job.fit.axes)}
    shape = tuple(image.shape[at[axis]] for axis in job.fit.spatial)
    core = shape
    while True:
        longest = max(range(len(core)), key=lambda i: core[i])
        core = tuple(-(-n // 2) if i == longest else n for i, n in enumerate(core))
        plan = Plan(shape, core, tuple(map(min, job.plan.halo, core)))
        if core[longest] < _SMALLEST or len(plan) > _MOST_PARTS:
            raise error
        try:
            seconds = 0.0
            views = []
            for part in plan:
                ranges = dict(zip(job.fit.spatial, part.outer.slices, strict=True))
                piece = image[tuple(ranges.get(axis, slice(None)) for axis in job.fit.axes)]
                found = predicted(job, np.ascontiguousarray(piece))
                views.append(found.labels)
                seconds += found.seconds
        except ModelError as again:
            if again.kind != "memory":
                raise
            error = again
            continue
        if job.kind == "instance":
            return join(plan, views)[0], seconds, len(plan)
        whole = np.zeros(shape, np.uint32)
        for part, view in zip(plan, views, strict=True):
            whole[part.core.slices] = view[part.inner.slices]
        return whole, seconds, len(plan)


def _tile_error(job: Job, place: Place, error: ModelError) -> TileError:
    core = job.plan[place.tile].core
    ranges = zip(job.fit.spatial, core.start, core.stop, strict=True)
    where = ", ".join(f"{axis} {a}–{b}" for axis, a, b in ranges)
    several = len(job.frames(job.source)) > 1
    frame = f" of frame {place.frame + 1}" if several else ""
    return TileError(
        f"{job.name}, tile {place.tile + 1}{frame} ({where}): {error.what}",
        details=list(error.details),
        hint=error.hint,
    )


class Piece(NamedTuple):
    """A block of whole tiles of one frame: its box there, and those of its tiles that are done."""

    frame: int
    box: Box
    tiles: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """The tiles of a job on their way into an array of labels, numbered over the image.

    `numbering` is None for classes (semantic); `table` numbers once more, after linking planes;
    `look` is told of what was written.
    """

    job: Job
    frames: Frames
    array: zarr.Array[Any]
    numbering: Numbering | None
    table: Pixels | None = None
    look: Look | None = None

    def __call__(self, piece: Piece) -> tuple[tuple[int, ...], bytes] | None:
        """Write the cores of a block. Raises AiodError where a tile's file is gone or damaged."""
        plan, store = self.job.plan, self.job.store
        store.look()
        pixels = np.zeros(piece.box.shape, self.array.dtype)
        for tile in map(plan.__getitem__, piece.tiles):
            core = store.labels(piece.frame, tile.index)[tile.inner.slices]
            if self.numbering is not None:
                table = self.numbering.table(piece.frame * len(plan) + tile.index)
                core = (table if self.table is None else self.table[table]).take(core)
            pixels[tile.core.seen_from(piece.box.start).slices] = core
        box = self.frames.box(piece.frame, piece.box, without="C")
        pixels = pixels.reshape(box.shape)
        write_box(self.array, box, pixels)
        return None if self.look is None else self.look(box, pixels)


def places_of(job: Job, frames: Frames) -> Iterator[Place]:
    """Every tile of every frame."""
    for frame in range(len(frames)):
        for tile in range(len(job.plan)):
            yield Place(frame, tile)
