"""A look at a part of an image before all of it is done: what a run would give there.

The same tiles, cut, prepared and joined as by a run, but only those that meet the part. What is
taken from the whole image is taken from the whole image here too, and remembered, so that the next
look with another parameter only runs the model.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from operator import add
from pathlib import Path

import numpy as np

from aiod.errors import UsageError
from aiod.flow.account import key_of, run_record
from aiod.flow.measure import Measuring, measure
from aiod.flow.models.devices import choose_device
from aiod.flow.models.environments import environment_for
from aiod.flow.request import Ready, Request, StepSet, look, settle
from aiod.flow.run import worker_spec
from aiod.flow.segment import Running, job_of, keep_tiles_of, key_for, run_places
from aiod.flow.source import Box, Pixels, Source
from aiod.flow.steps.calls import StepCall
from aiod.flow.steps.resample import enlarged_labels
from aiod.flow.tiles.assemble import join_tiles, temporary_array, written_blocks
from aiod.flow.tiles.engine import Engine, Engines
from aiod.flow.tiles.job import Job, Place
from aiod.flow.tiles.stitch import compact
from aiod.flow.tiling import Plan
from aiod.progress import Progress, Step, silent
from aiod.registry import Registry
from aiod.registry.pull import pull

_BLOCK = {"Z": 32, "Y": 1024, "X": 1024}
_MOST_PREPARED = 1 << 28
"""Bytes of what the model sees, above which it is not shown."""

Region = Mapping[str, tuple[int, int]]
"""Axis -> first pixel and the first behind, in the image; all of the axes that are not named."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the model sees of a part, after the steps before it: `pixels` with `axes` of TCZYX.

    They begin at `start` in pixels of the image, of which each is `step` wide.
    """

    axes: str
    pixels: Pixels
    start: Mapping[str, float]
    step: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Preview:
    """The labels of a part: `box` in the image's `axes` (of TZYX), 1…n over that part.

    `set` is the set of steps that gave them, `seconds` how long the model took for it; `prepared`
    is None where no step changes the image, or where it is too much to be shown.
    """

    set: str
    axes: str
    box: Box
    labels: Pixels
    objects: int | None
    seconds: float
    prepared: Prepared | None = None


def preview(
    request: Request,
    registry: Registry,
    region: Region,
    folder: Path,
    *,
    progress: Progress = silent,
    tell: Callable[[str], object] = lambda _: None,
    engines: Engines = Engine,
    measuring: Measuring = measure,
) -> list[Preview]:
    """What a run of `request`, which names one image, gives in a region: one for each set of steps.

    They are the run's own labels there, but for their numbers; objects that reach out of the
    region's tiles are seen as far as those go, which steps on whole objects may tell. `folder`
    keeps finished tiles, so that a look to the side runs only those that are new.

    Raises AiodError, also where a tile of the region fails.
    """
    settled = settle(request, registry)
    ready, refused = look(settled)
    if refused:
        raise refused[0].error
    if len(ready) != 1:
        raise UsageError("A preview is of one image.", hint=f"{len(ready)} were given")
    (image,) = ready
    for note in (*settled.notes, *image.fit.notes):
        tell(note)
    weights = pull(registry, settled.model, progress=progress)
    environment = environment_for(settled.runner, progress=progress)
    device = choose_device(request.device, environment)
    workers = settled.profile.worker_count(device, request.workers)
    spec = worker_spec(settled, environment, weights, device, workers)
    now = datetime.now(UTC)
    record = run_record(
        settled, weights, environment, device, started=now, command=(), repeats=None
    )
    key = key_of(record)
    with engines(workers, spec) as engine:
        running = Running(settled, engine, spec, folder, key, progress, measure=measuring)
        seen = [_seen(running, image, steps, region) for steps in settled.sets]
    if any(
        each.prepared is None and steps.before
        for each, steps in zip(seen, settled.sets, strict=True)
    ):
        tell("What the model sees there is too large to be shown; only its labels are.")
    return seen


def _seen(running: Running, ready: Ready, steps: StepSet, region: Region) -> Preview:
    work = running.folder / ready.sample.name / steps.name
    job = job_of(running, ready, steps, work)
    keep_tiles_of(job, key_for(running.key, ready, steps))
    image = ready.image.source
    axes = image.axes.replace("C", "")
    shape = tuple(image.sizes[axis] for axis in axes)
    box = _box(axes, shape, region)
    places = list(_meeting(job, axes, box))
    tiles, failures = run_places(running, job, steps, places)
    if failures:
        raise failures[0]
    scratch = work / "scratch"
    block = dict(zip(ready.fit.spatial, written_blocks(job.plan).tile, strict=True))
    try:
        joined = join_tiles(
            job, tiles, temporary_array(scratch, "joined", block, axes), mapper=running.engine.map
        )
        labels = joined.labels
        if labels.shape != shape:
            labels = enlarged_labels(labels, shape, job.factors)
        if steps.after:
            labels = _after(
                labels, steps.after, ready.fit.spatial, _known(job, axes, shape, places)
            )
        pixels = labels.read(box)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    objects = None
    if steps.kind_after(job.kind) == "instance":
        pixels, objects = compact(pixels, Box.whole(box.shape))
    seconds = sum(tile.block.seconds for tile in tiles.values())
    prepared = _prepared(job, axes, box, running.progress) if steps.before else None
    return Preview(steps.name, axes, box, pixels, objects, seconds, prepared)


def _prepared(job: Job, axes: str, box: Box, progress: Progress) -> Prepared | None:
    """A box of the image as the model sees it, in whole pixels of what it sees."""
    source = job.source
    factors = {axis: job.factors.get(axis, 1.0) for axis in source.axes}
    ranges = dict(zip(axes, zip(box.start, box.stop, strict=True), strict=True))
    starts, stops = [], []
    for axis, n in source.sizes.items():
        start, stop = ranges.get(axis, (0, n))
        factor = factors[axis] if axis in ranges else 1.0
        starts.append(min(math.floor(start * factor), n - 1))
        stops.append(min(math.ceil(stop * factor), n))
    shape = Box(tuple(starts), tuple(stops)).shape
    if math.prod(shape) * source.dtype.itemsize > _MOST_PREPARED:
        return None
    pixels = np.empty(shape, source.dtype)
    blocks = tuple(min(n, _BLOCK.get(a, 1)) for a, n in zip(source.axes, shape, strict=True))
    plan = Plan(shape, blocks, (0,) * len(shape))
    for done, tile in enumerate(plan):
        progress(Step("what the model sees", done, len(plan), "blocks"))
        pixels[tile.core.slices] = _read_from(source.read, tuple(starts), tile.core)
    begin = {a: first / factors[a] for a, first in zip(source.axes, starts, strict=True)}
    return Prepared(source.axes, pixels, begin, {a: 1 / f for a, f in factors.items()})


def _box(axes: str, shape: tuple[int, ...], region: Region) -> Box:
    """A region as a box of the labels, as far as the image goes. Raises UsageError."""
    ranges = [region.get(axis, (0, n)) for axis, n in zip(axes, shape, strict=True)]
    box = Box(tuple(a for a, _ in ranges), tuple(b for _, b in ranges)).within(Box.whole(shape))
    if box.empty:
        raise UsageError("Nothing of the image is in view.", hint="move to where it is")
    return box


def _meeting(job: Job, axes: str, box: Box) -> Iterator[Place]:
    """The tiles that a box of the image meets, with a pixel around it for rounding."""
    frames = job.frames(job.source)
    seen = {}
    for axis, start, stop in zip(axes, box.start, box.stop, strict=True):
        factor = job.factors.get(axis, 1.0)
        margin = 0 if factor == 1 else 1
        seen[axis] = (math.floor(start * factor) - margin, math.ceil(stop * factor) + margin)
    ranges = [seen[axis] for axis in job.fit.spatial]
    spatial = Box(tuple(a for a, _ in ranges), tuple(b for _, b in ranges))
    spatial = spatial.within(Box.whole(job.plan.shape))
    loops = [axis for axis in axes if axis in job.fit.loops]
    for frame in range(len(frames)):
        position = np.unravel_index(frame, frames.counts) if loops else ()
        at = zip(loops, position, strict=True)
        if all(seen[axis][0] <= place < seen[axis][1] for axis, place in at):
            for tile in job.plan.inside(spatial):
                yield Place(frame, tile.index)


def _known(job: Job, axes: str, shape: tuple[int, ...], places: Sequence[Place]) -> Box:
    """The box of the image that tiles cover together."""
    frames = job.frames(job.source)
    boxes = [frames.box(p.frame, job.plan[p.tile].core, without="C") for p in places]
    factors = [job.factors.get(axis, 1.0) for axis in axes]
    starts = zip(*(box.start for box in boxes), strict=True)
    stops = zip(*(box.stop for box in boxes), strict=True)
    return Box(
        tuple(math.floor(min(each) / f) for each, f in zip(starts, factors, strict=True)),
        tuple(math.ceil(max(each) / f) for each, f in zip(stops, factors, strict=True)),
    ).within(Box.whole(shape))


def _after(labels: Source, calls: Sequence[StepCall], spatial: str, area: Box) -> Source:
    """Labels after steps that see only an area of them; background elsewhere."""
    from aiod.flow.steps.after import apply_after

    part = replace(labels, shape=area.shape, read=partial(_read_from, labels.read, area.start))
    shape = area.shape[-len(spatial) :]
    found = np.zeros(area.shape, np.uint64)

    def write(box: Box, pixels: Pixels) -> None:
        found[box.slices] = pixels

    blocks = tuple(min(n, _BLOCK[axis]) for axis, n in zip(spatial, shape, strict=True))
    apply_after(
        part, calls, spatial=spatial, plan=Plan(shape, blocks, (0,) * len(shape)), write=write
    )

    def read(box: Box) -> Pixels:
        return found[box.seen_from(area.start).slices]

    return replace(labels, dtype=found.dtype, read=read)


def _read_from(read: Callable[[Box], Pixels], origin: tuple[int, ...], box: Box) -> Pixels:
    moved = (tuple(map(add, edge, origin)) for edge in (box.start, box.stop))
    return read(Box(*moved))
