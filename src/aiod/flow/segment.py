"""One image through one model: statistics, tiles, labels, and what is made of the labels.

What is finished is kept on disk under a key that names all it depends on, and is not done again,
by this process or by the next.

    <run>/cells.ome.zarr/labels/nuclei        the labels
    <run>/.aiod/cells/nuclei/tiles/           finished tiles, until the labels are whole
    <run>/.aiod/cells/nuclei/image.json       what was done, with its key: the image is finished
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from aiod.errors import AiodError
from aiod.files import read_text, write_atomically
from aiod.flow.models.workers import WorkerSpec
from aiod.flow.record import ImageRecord, PlanRecord, canonical_digest, within
from aiod.flow.request import Ready, Settled, StepSet, plan_of
from aiod.flow.results.labels import (
    chunks_for,
    create_labels,
    finish_labels,
    labels_digest,
    open_labels,
)
from aiod.flow.steps.chain import measure_steps
from aiod.flow.steps.histogram import Histogram, histograms
from aiod.flow.tiles.assemble import finish, join_tiles, temporary_array
from aiod.flow.tiles.engine import Engine, model_of
from aiod.flow.tiles.job import Finished, Job, Place, TileError, places_of, run_tile
from aiod.progress import Progress, Step
from aiod.words import counted

HIDDEN = ".aiod"
_RECORD = "image.json"
SPATIAL: tuple[Literal["Z", "Y", "X"], ...] = ("Z", "Y", "X")
_KEY = "key"
_MAX_RECORD_BYTES = 50_000_000
_SHOWN_FAILURES = 5


@dataclass(frozen=True, slots=True)
class Running:
    """What the images of a run share. `key` names all that determines masks but the image."""

    settled: Settled
    engine: Engine
    worker: WorkerSpec
    folder: Path
    key: str
    progress: Progress


def segment(running: Running, ready: Ready, steps: StepSet) -> ImageRecord:
    """Labels of one image by one set of steps, with the outputs that were asked for.

    A tile that the model fails on stays background: the record is then "unfinished", and the same
    request tries that tile again. Raises AiodError when nothing can be done, Stopped when the run
    is stopped.
    """
    settled = running.settled
    work = _work(running.folder, ready, steps)
    record = finished_image(running.folder, running.key, ready, steps)
    if record is None or (settled.request.certify and record.certificate is None):
        started = time.monotonic()
        record = _masks(running, ready, steps, work)
        record = record.model_copy(update={"seconds": round(time.monotonic() - started, 3)})
    # What comes after the tiles is imported after them, so that the first comes soon.
    from aiod.flow.outputs import write_outputs

    record = write_outputs(
        record,
        ready,
        running.folder,
        settled.request.exports,
        planes_apart="Z" in ready.fit.loops and not settled.request.link_z,
        mapper=running.engine.map,
    )
    kept = {"key": _key(running.key, ready, steps), "record": record.model_dump(mode="json")}
    write_atomically(work / _RECORD, json.dumps(kept))
    return record


def finished_image(folder: Path, key: str, ready: Ready, steps: StepSet) -> ImageRecord | None:
    """What an earlier call of `segment` left of the same image with the same settings."""
    try:
        text = read_text(_work(folder, ready, steps) / _RECORD, limit=_MAX_RECORD_BYTES)
        kept = json.loads(text)
        if kept["key"] != _key(key, ready, steps):
            return None
        record = ImageRecord.model_validate_json(json.dumps(kept["record"]))
    except (AiodError, ValidationError, ValueError, KeyError, TypeError, RecursionError):
        return None
    there = record.labels is not None and (folder / record.labels / "zarr.json").is_file()
    return record if record.status == "done" and there else None


def _masks(running: Running, ready: Ready, steps: StepSet, work: Path) -> ImageRecord:
    """Run the tiles that are not finished, join them, and write the labels."""
    mapper = running.engine.map
    job = _job(running, ready, steps, work)
    _keep_tiles_of(job, canonical_digest({"key": _key(running.key, ready, steps)}))
    tiles, failures = _run_tiles(running, job)
    image, plan = ready.image.source, job.plan
    target, objects, certificate = _labels(running, ready, steps, job, tiles)
    if not failures:
        shutil.rmtree(job.folder, ignore_errors=True)
    shutil.rmtree(work / "scratch", ignore_errors=True)
    warnings = [*ready.image.warnings, *ready.fit.notes, *_remarks(tiles)]
    return ImageRecord(
        sample=ready.sample.name,
        set=steps.name,
        path=str(ready.sample.path.absolute()),
        status="unfinished" if failures else "done",
        error=_told(failures, len(tiles)) if failures else None,
        fingerprint=ready.image.fingerprint,
        axes=image.axes,
        shape=image.shape,
        dtype=str(image.dtype),
        channels=ready.channel_names,
        pixel_size={axis: image.pixel_size[axis] for axis in SPATIAL if axis in image.pixel_size},
        plan=PlanRecord(
            axes=ready.fit.spatial,
            shape=plan.shape,
            tile=plan.tile,
            halo=plan.halo,
            tiles=len(plan),
            frames=len(job.frames(job.source)),
        ),
        survey=dict(job.survey),
        labels=within(target, running.folder),
        labels_digest=labels_digest(open_labels(target).source, mapper=mapper),
        objects=objects,
        certificate=certificate,
        predict_seconds=round(sum(tile.block.seconds for tile in tiles.values()), 3),
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _job(running: Running, ready: Ready, steps: StepSet, work: Path) -> Job:
    """Take from the whole image what steps and model need of it, and cut it into tiles."""
    settled, mapper = running.settled, running.engine.map
    prepared = measure_steps(
        ready.source,
        steps.before,
        spatial=ready.fit.spatial,
        mapper=mapper,
        progress=running.progress,
    )
    job = Job(
        name=ready.sample.name,
        opening=ready.opening,
        fit=ready.fit,
        prepared=prepared,
        plan=plan_of(settled, ready, steps),
        kind=settled.kind,
        worker=running.worker,
        params=settled.arguments.all,
        survey={},
        folder=work / "tiles",
        attempts=settled.profile.attempts,
    )
    if not settled.surveys:
        return job
    found = histograms(job.source, mapper=mapper, progress=running.progress)
    survey = partial(_survey, running.worker, found)
    return replace(job, survey=next(iter(running.engine.map(survey, [job.params]))))


def _survey(
    spec: WorkerSpec, found: Sequence[Histogram], params: Mapping[str, Any]
) -> dict[str, Any]:
    with model_of(spec) as worker:
        return worker.survey(found, params)


def _run_tiles(running: Running, job: Job) -> tuple[dict[Place, Finished], list[TileError]]:
    """Every tile that can be had, and an error for each that cannot; raises if there is none."""
    frames = job.frames(job.source)
    tiles: dict[Place, Finished] = {}
    failures: list[TileError] = []
    total = len(frames) * len(job.plan)
    running.progress(Step(job.name, 0, total, "tiles"))
    for place, found in running.engine.unordered(partial(run_tile, job), places_of(job, frames)):
        if isinstance(found, Finished):
            tiles[place] = found
        elif isinstance(found, TileError):
            failures.append(found)
        else:
            raise found
        running.progress(Step(job.name, len(tiles) + len(failures), total, "tiles"))
    if failures and not tiles:
        raise failures[0]
    return tiles, failures


def _labels(
    running: Running, ready: Ready, steps: StepSet, job: Job, tiles: Mapping[Place, Finished]
) -> tuple[Path, int | None, dict[str, Any] | None]:
    """Write the labels of an image; where they lie, how many objects, and the certificate."""
    settled, mapper = running.settled, running.engine.map
    image = ready.image.source
    axes = image.axes.replace("C", "")
    shape = tuple(image.sizes[axis] for axis in axes)
    seen = job.source
    tile = dict(zip(ready.fit.spatial, job.plan.tile, strict=True))
    direct = not steps.after and all(seen.sizes[axis] == image.sizes[axis] for axis in axes)
    folder = running.folder / f"{ready.sample.name}.ome.zarr"
    shutil.rmtree(folder / "labels" / steps.name, ignore_errors=True)

    def final(shape: tuple[int, ...], dtype: Any) -> Any:
        return create_labels(
            folder,
            name=steps.name,
            axes=axes,
            shape=shape,
            dtype=dtype,
            chunks=chunks_for(
                axes, shape, tuple(tile.get(axis, 1) for axis in axes) if direct else None
            ),
            pixel_size=image.pixel_size,
            source=str(ready.sample.path.absolute()),
            kind=job.kind,
            about={"model": settled.model.id},
        )

    scratch = job.folder.parent / "scratch"
    store = final if direct else temporary_array(scratch, "joined", tile, axes)
    joined = join_tiles(job, tiles, store, link_z=settled.request.link_z, mapper=mapper)
    certificate = None
    if settled.request.certify:
        from aiod.flow.tiles.certify import certify

        certificate = certify(job, joined.labels, settled.request.certify, mapper)
    objects = joined.objects
    if not direct:
        objects = finish(
            joined,
            final(shape, joined.dtype),
            spatial="ZYX" if settled.request.link_z and "Z" in axes else ready.fit.spatial,
            factors=job.factors,
            after=steps.after,
            scratch=temporary_array(scratch, "enlarged", tile, axes),
            pixel_size=image.pixel_size,
            mapper=mapper,
        )
    return finish_labels(folder, steps.name, mapper=mapper), objects, certificate


def _keep_tiles_of(job: Job, key: str) -> None:
    """Make the folder of finished tiles; those of another image or other settings go."""
    mark = job.folder / _KEY
    try:
        same = read_text(mark, limit=1000) == key
    except AiodError:
        same = False
    if not same:
        shutil.rmtree(job.folder, ignore_errors=True)
        write_atomically(mark, key)


def _work(folder: Path, ready: Ready, steps: StepSet) -> Path:
    return folder / HIDDEN / ready.sample.name / steps.name


def _key(key: str, ready: Ready, steps: StepSet) -> str:
    """A digest of all that determines the masks of an image."""
    size = ready.image.source.pixel_size
    return canonical_digest(
        {
            "run": key,
            "set": steps.name,
            "fingerprint": ready.image.fingerprint,
            "axes": ready.image.source.axes,
            "channels": list(ready.fit.channels or ()),
            "gray": ready.fit.gray,
            "pixel_size": dict(size),
        }
    )


def _remarks(tiles: Mapping[Place, Finished]) -> list[str]:
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


def _told(failures: Sequence[TileError], done: int) -> str:
    """A report of the tiles that failed: image, tile and cause of each of the first."""
    lines = [str(failure).replace("\n", "\n  ") for failure in failures[:_SHOWN_FAILURES]]
    more = len(failures) - len(lines)
    rest = [f"… and {counted(more, 'more tile')}"] if more else []
    head = f"{counted(len(failures), 'tile')} of {len(failures) + done} failed and are background:"
    return "\n  ".join([head, *lines, *rest])
