"""What a run would do: tiles, sizes and memory, from manifests and headers alone."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from aiod.flow.request import Ready, Request, Settled, StepSet, look, plan_of, settle
from aiod.flow.source import Source
from aiod.flow.tiles.job import Frames
from aiod.flow.tiling import Plan
from aiod.registry import Registry
from aiod.words import counted

_STEP_BYTES = 4
_COPIES = 3
"""Arrays of a tile that are in memory at a time: read, in the worker, and the labels."""


@dataclass(frozen=True, slots=True)
class Row:
    """The plan of one label image. `memory` is bytes a worker, without the model itself."""

    sample: str
    set: str
    shape: str
    tiles: int
    tile: str
    halo: str
    memory: int


@dataclass(frozen=True, slots=True)
class DryRun:
    """Every row of a run's plan, what to know before it, and what cannot be done."""

    model: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    errors: tuple[str, ...]

    @property
    def sentence(self) -> str:
        tiles = sum(row.tiles for row in self.rows)
        images = counted(len({row.sample for row in self.rows}), "image")
        sets = len({row.set for row in self.rows})
        each = f", {counted(sets, 'set')} of steps each" if sets > 1 else ""
        return (
            f"{self.model} on {images}{each}: {counted(tiles, 'tile')}. The model sees a tile with "
            "its halo, the margin around it."
        )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def plan_rows(request: Request, registry: Registry) -> DryRun:
    """The plan of a request. Raises AiodError where nothing of it can be done."""
    settled = settle(request, registry)
    ready, refused = look(settled)
    if not ready and len(refused) == 1:
        raise refused[0].error
    rows = [_row(settled, each, steps) for each in ready for steps in settled.sets]
    notes = [*settled.notes]
    for each in ready:
        told = (*each.image.warnings, *each.fit.notes)
        notes += [f"{each.sample.name}: {note}" for note in told]
    errors = tuple(f"{each.sample.name}: {each.error}" for each in refused)
    return DryRun(settled.model.id, tuple(rows), tuple(notes), errors)


def _row(settled: Settled, ready: Ready, steps: StepSet) -> Row:
    plan = plan_of(settled, ready, steps)
    source = ready.source
    frames = len(Frames(source.axes, source.shape, ready.fit.loops))
    return Row(
        sample=ready.sample.name,
        set=steps.name,
        shape=f"{ready.image.source.axes} {_by(ready.image.source.shape)}",
        tiles=len(plan) * frames,
        tile=_by(plan.tile),
        halo=_by(plan.halo),
        memory=tile_bytes(plan, source),
    )


def tile_bytes(plan: Plan, source: Source) -> int:
    """Memory that one tile takes in a worker, in bytes, without the model and what it computes."""
    pixels = math.prod(plan.largest)
    image = pixels * source.sizes.get("C", 1) * max(source.dtype.itemsize, _STEP_BYTES)
    return _COPIES * (image + pixels * _STEP_BYTES)


def _by(sizes: tuple[int, ...]) -> str:
    return " × ".join(f"{size:,}" for size in sizes)
