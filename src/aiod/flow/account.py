"""What a run writes down of itself: all that determines it, and what went wrong or was odd."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from aiod.errors import AiodError
from aiod.flow.images.inputs import Sample
from aiod.flow.models.environments import Environment
from aiod.flow.record import (
    EnvironmentRecord,
    GivenRecord,
    HostRecord,
    ImageRecord,
    LicenceRecord,
    ModelRecord,
    ParametersRecord,
    RepeatRecord,
    RunRecord,
    SetRecord,
    StepRecord,
    WeightsRecord,
    request_digest,
)
from aiod.flow.request import Request, Settled, StepSet
from aiod.flow.tiles.job import Finished, Place, TileError
from aiod.registry.pull import Weights
from aiod.words import counted

_PACKAGES = (
    "aiod-hub",
    "appose",
    "distributed",
    "numpy",
    "scikit-image",
    "scipy",
    "tifffile",
    "zarr",
)
_SHOWN_FAILURES = 5


def run_record(
    settled: Settled,
    weights: Weights,
    environment: Environment,
    device: str,
    *,
    started: datetime,
    command: Sequence[str],
    repeats: RepeatRecord | None,
) -> RunRecord:
    """All that determines a run, with no image yet."""
    return RunRecord(
        aiod=importlib.metadata.version("aiod-hub"),
        command=tuple(command),
        started=started.isoformat(timespec="seconds"),
        model=_model_record(settled, weights),
        parameters=ParametersRecord(
            given=dict(settled.arguments.given), defaulted=dict(settled.arguments.defaulted)
        ),
        options=options_of(settled.request),
        sets=tuple(_set_record(steps) for steps in settled.sets),
        environment=_environment_record(environment),
        host=_host_record(),
        device=device,
        images=(),
        repeats=repeats,
        warnings=settled.notes,
    )


def key_of(record: RunRecord) -> str:
    """The digest of all that determines masks but the images."""
    return request_digest(record.model_copy(update={"images": ()}))


def options_of(request: Request) -> dict[str, Any]:
    """What of a request, beside model, parameters and steps, determines masks; as plain JSON."""
    return {
        "axes": request.axes,
        "pixel_size": dict(request.pixel_size) if request.pixel_size else None,
        "channels": list(request.channels),
        "rescale": request.rescale,
        "link_z": request.link_z,
        "tile": list(request.tile) if request.tile else None,
        "halo": list(request.halo) if request.halo else None,
    }


def given_of(sample: Sample, request: Request) -> GivenRecord:
    """What a samplesheet said of an image, else the options for all images."""
    return GivenRecord(
        axes=sample.axes or request.axes,
        channels=sample.channels or tuple(request.channels),
        pixel_size=dict(sample.pixel_size or request.pixel_size or {}),
        expected=dict(sample.expected or {}),
    )


def failed_record(sample: Sample, name: str, request: Request, error: AiodError) -> ImageRecord:
    """An image that could not be segmented."""
    return ImageRecord(
        sample=sample.name,
        set=name,
        path=str(sample.path.absolute()),
        status="failed",
        error=str(error),
        given=given_of(sample, request),
    )


def _model_record(settled: Settled, weights: Weights) -> ModelRecord:
    model, licence = settled.model, settled.metadata.license
    return ModelRecord(
        id=model.id,
        task=model.task,
        name=f"{model.family_name} {model.version}",
        layer=model.layers[0],
        manifest_sha256=settled.manifest_sha256,
        runner_sha256=settled.runner_sha256,
        weights=WeightsRecord(source=weights.source, sha256=weights.sha256, size=weights.size)
        if model.needs_weights
        else None,
        licence=LicenceRecord(
            code=licence.code if licence else None, weights=licence.weights if licence else None
        ),
    )


def _environment_record(environment: Environment) -> EnvironmentRecord:
    return EnvironmentRecord(
        family=environment.family,
        digest=environment.digest,
        python=environment.python_version,
        packages=environment.packages,
    )


def _host_record() -> HostRecord:
    return HostRecord(
        platform=platform.platform(),
        cpus=os.cpu_count() or 1,
        python=platform.python_version(),
        packages={name: importlib.metadata.version(name) for name in _PACKAGES},
    )


def _set_record(steps: StepSet) -> SetRecord:
    return SetRecord(
        name=steps.name,
        before=tuple(StepRecord(name=c.name, params=dict(c.params)) for c in steps.before),
        after=tuple(StepRecord(name=c.name, params=dict(c.params)) for c in steps.after),
    )


def remarks_on(tiles: Mapping[Place, Finished]) -> list[str]:
    """What the model said of tiles: each sentence once, with the number of tiles it concerns."""
    times: dict[str, int] = {}
    for tile in tiles.values():
        for note in dict.fromkeys(tile.block.notes):
            times[note] = times.get(note, 0) + 1
    total = len(tiles)
    return [
        note if total == 1 else f"{note} ({counted(number, 'tile')} of {total})"
        for note, number in times.items()
    ]


def report_of(failures: Sequence[TileError], done: int) -> str:
    """A report of the tiles that failed: image, tile and cause of each of the first."""
    lines = [str(failure).replace("\n", "\n  ") for failure in failures[:_SHOWN_FAILURES]]
    more = len(failures) - len(lines)
    rest = [f"… and {counted(more, 'more tile')}"] if more else []
    head = f"{counted(len(failures), 'tile')} of {len(failures) + done} failed and are background:"
    return "\n  ".join([head, *lines, *rest])
