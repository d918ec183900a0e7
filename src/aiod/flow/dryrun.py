"""What a run would do: tiles, sizes and memory, from manifests and headers alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from aiod.flow.models.environments import is_built
from aiod.flow.request import Ready, Request, Settled, StepSet, look, plan_of, settle
from aiod.flow.source import Source
from aiod.flow.speed import Speed, recall
from aiod.flow.tiles.job import Frames
from aiod.flow.tiling import Plan
from aiod.registry import Registry
from aiod.registry.pull import is_here
from aiod.words import byte_size, counted, duration, listing

_STEP_BYTES = 4
_COPIES = 3
"""Arrays of a tile that are in memory at a time: read, in the worker, and the labels."""


@dataclass(frozen=True, slots=True)
class Row:
    """The plan of one label image. `memory` is bytes a worker, without the model itself.

    `seconds` is about how long the model will take, all workers together; None where no run or
    preview has shown yet how fast it is here.
    """

    sample: str
    set: str
    shape: str
    tiles: int
    tile: str
    halo: str
    memory: int
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class DryRun:
    """Every row of a run's plan, what to know before it, and what cannot be done.

    `missing` is what the run has to bring to this machine first.
    """

    model: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    errors: tuple[str, ...]
    missing: tuple[str, ...] = ()

    @property
    def seconds(self) -> float | None:
        """About how long the model will take; None where it is not known of all rows."""
        known = [row.seconds for row in self.rows if row.seconds is not None]
        return sum(known) if known and len(known) == len(self.rows) else None

    @property
    def sentence(self) -> str:
        tiles = sum(row.tiles for row in self.rows)
        images = counted(len({row.sample for row in self.rows}), "image")
        sets = len({row.set for row in self.rows})
        each = f", {counted(sets, 'set')} of steps each" if sets > 1 else ""
        took = self.seconds
        time = f" About {duration(took)}, as fast as it was here last." if took is not None else ""
        first = f" First it brings {listing(self.missing, 'and')}." if self.missing else ""
        return (
            f"{self.model} on {images}{each}: {counted(tiles, 'tile')}.{time}{first} "
            "The model sees a tile with its halo, the margin around it."
        )

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "seconds": self.seconds}


def plan_rows(request: Request, registry: Registry) -> DryRun:
    """The plan of a request. Raises AiodError where nothing of it can be done."""
    settled = settle(request, registry)
    ready, refused = look(settled)
    if not ready and len(refused) == 1:
        raise refused[0].error
    speed = recall(settled)
    rows = [_row(settled, each, steps, speed) for each in ready for steps in settled.sets]
    notes = [*settled.notes]
    for each in ready:
        told = (*each.image.warnings, *each.fit.notes)
        notes += [f"{each.sample.name}: {note}" for note in told]
    errors = tuple(f"{each.sample.name}: {each.error}" for each in refused)
    missing = tuple(_missing(settled, registry))
    return DryRun(settled.model.id, tuple(rows), tuple(notes), errors, missing)


def _missing(settled: Settled, registry: Registry) -> Iterator[str]:
    """What is not on this machine yet."""
    model = settled.model
    if not is_here(model):
        sizes = (location.size for location in registry.locations_for(model))
        size = next((size for size in sizes if size), None)
        yield f"the weights of {model.id}" + (f" ({byte_size(size)})" if size else "")
    if not is_built(settled.runner):
        yield f"the packages of {model.family}"


def _row(settled: Settled, ready: Ready, steps: StepSet, speed: Speed | None) -> Row:
    plan = plan_of(settled, ready, steps)
    source = ready.source
    frames = len(Frames(source.axes, source.shape, ready.fit.loops))
    seconds = None
    if speed is not None:
        workers = settled.profile.worker_count(speed.device, settled.request.workers)
        tiles = len(plan) * frames  # more workers than tiles do not help
        seconds = round(speed.of(plan.pixels * frames, min(workers, tiles)), 3)
    return Row(
        sample=ready.sample.name,
        set=steps.name,
        shape=f"{ready.image.source.axes} {_by(ready.image.source.shape)}",
        tiles=len(plan) * frames,
        tile=_by(plan.tile),
        halo=_by(plan.halo),
        memory=tile_bytes(plan, source),
        seconds=seconds,
    )


def tile_bytes(plan: Plan, source: Source) -> int:
    """Memory that one tile takes in a worker, in bytes, without the model and what it computes."""
    pixels = math.prod(plan.largest)
    image = pixels * source.sizes.get("C", 1) * max(source.dtype.itemsize, _STEP_BYTES)
    return _COPIES * (image + pixels * _STEP_BYTES)


def _by(sizes: tuple[int, ...]) -> str:
    return " × ".join(f"{size:,}" for size in sizes)
