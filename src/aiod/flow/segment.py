"""One image through one model: statistics, tiles, labels, and what is made of the labels.

What is finished is kept on disk under a key that names all it depends on, and is not done again,
by this process or by the next.

    <run>/cells.ome.zarr/labels/nuclei        the labels
    <run>/.aiod/cells/nuclei/tiles/           finished tiles, until image.json is there
    <run>/.aiod/cells/nuclei/image.json       what was done, with its key: the image is finished
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from aiod.errors import AiodError
from aiod.files import read_text, reason, write_atomically
from aiod.flow.account import given_of, remarks_on, report_of
from aiod.flow.ahead import Ahead
from aiod.flow.images.image import ImageError, open_image
from aiod.flow.measure import Measuring, measure
from aiod.flow.models.workers import Worker, WorkerSpec
from aiod.flow.record import ImageRecord, PlanRecord, canonical_digest, within
from aiod.flow.request import Ready, Settled, StepSet, plan_of
from aiod.flow.results.labels import create_labels, finish_labels, open_labels
from aiod.flow.results.pyramid import chunks_for
from aiod.flow.source import Source
from aiod.flow.speed import remember
from aiod.flow.steps.histogram import Histogram, unknown_pixels
from aiod.flow.tiles.arrival import Arrival, Watch, unwatched
from aiod.flow.tiles.assemble import finish, join_tiles, temporary_array, written_blocks
from aiod.flow.tiles.engine import Engine
from aiod.flow.tiles.job import Finished, Job, Place, TileError, ask_model, places_of, run_tiles
from aiod.progress import Progress, Step

HIDDEN = ".aiod"
_TILES = "tiles"
_SCRATCH = "scratch"
_RECORD = "image.json"
SPATIAL: tuple[Literal["Z", "Y", "X"], ...] = ("Z", "Y", "X")
_KEY = "key"
_MAX_RECORD_BYTES = 50_000_000


@dataclass(frozen=True, slots=True)
class Running:
    """What the images of a run share. `key` names all that determines masks but the image."""

    settled: Settled
    engine: Engine
    worker: WorkerSpec
    folder: Path
    key: str
    progress: Progress
    watch: Watch = unwatched
    measure: Measuring = measure


def segment(running: Running, ready: Ready, steps: StepSet) -> ImageRecord:
    """Labels of one image by one set of steps, with the outputs that were asked for.

    A tile that the model fails on stays background: the record is then "unfinished", and the same
    request tries that tile again. Raises AiodError when nothing can be done, Stopped when the run
    is stopped.
    """
    settled = running.settled
    work = _work(running.folder, ready, steps)
    ahead = Ahead(ready.source, running.engine.map)
    record = finished_image(running.folder, running.key, ready, steps)
    if record is not None and crops_in(record) < settled.request.certify:
        record = _certified(running, ready, steps, record)
    if record is None:
        started = time.monotonic()
        record = _masks(running, ready, steps, work, ahead)
        record = record.model_copy(update={"seconds": round(time.monotonic() - started, 3)})
        _keep(running, ready, steps, record)
        shutil.rmtree(work / _SCRATCH, ignore_errors=True)
        if record.status == "done":  # and said to be: only now nobody needs the tiles again
            shutil.rmtree(work / _TILES, ignore_errors=True)
    # Not imported before the first tile, so that it comes soon: see `Ahead`.
    from aiod.flow.outputs import write_outputs

    record = write_outputs(
        record,
        ready,
        running.folder,
        settled.request.exports,
        planes_apart="Z" in ready.fit.loops and not settled.link_z,
        light=ahead.light(),
        mapper=running.engine.map,
    )
    _keep(running, ready, steps, record)
    return record


def crops_in(record: ImageRecord) -> int:
    """How many random crops were compared with the labels of an image."""
    crops = (record.certificate or {}).get("crops")
    return crops if isinstance(crops, int) else 0


def _certified(
    running: Running, ready: Ready, steps: StepSet, record: ImageRecord
) -> ImageRecord | None:
    """Finished labels with their certificate; None where they are not in the model's pixels."""
    job = job_of(running, ready, steps, _work(running.folder, ready, steps))
    if record.labels is None or not _is_direct(job, ready, steps):
        return None
    labels = open_labels(running.folder / record.labels).source
    return record.model_copy(update={"certificate": _certificate(running, job, labels)})


def _certificate(running: Running, job: Job, labels: Source) -> dict[str, Any]:
    from aiod.flow.tiles.certify import certify

    return certify(job, labels, running.settled.request.certify, running.engine.map)


def _is_direct(job: Job, ready: Ready, steps: StepSet) -> bool:
    """Whether the joined tiles are the labels of the image as they are."""
    seen, image = job.source.sizes, ready.image.source
    return not steps.after and all(
        seen[axis] == size for axis, size in image.sizes.items() if axis != "C"
    )


def _keep(running: Running, ready: Ready, steps: StepSet, record: ImageRecord) -> None:
    kept = {"key": _key(running.key, ready, steps), "record": record.model_dump(mode="json")}
    write_atomically(_work(running.folder, ready, steps) / _RECORD, json.dumps(kept))


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
    if record.status != "done" or not there:
        return None
    return record.model_copy(update={"path": str(ready.sample.path.absolute())})


def _masks(running: Running, ready: Ready, steps: StepSet, work: Path, ahead: Ahead) -> ImageRecord:
    """Run the tiles that are not finished, join them, and write the labels."""
    job = job_of(running, ready, steps, work)
    keep_tiles_of(job, key_for(running.key, ready, steps))
    try:
        tiles, failures = run_places(running, job, steps, begun=ahead.begin)
    except ImageError:  # damaged, or another one by now
        _check_unchanged(ready, job)
        raise
    _check_unchanged(ready, job)
    image, plan = ready.image.source, job.plan
    unknown = _unknown(running, ready)
    made = _labels(running, ready, steps, job, tiles)
    warnings = [
        *ready.image.warnings,
        *ready.fit.notes,
        *unknown,
        *remarks_on(tiles),
    ]
    return ImageRecord(
        sample=ready.sample.name,
        set=steps.name,
        path=str(ready.sample.path.absolute()),
        status="unfinished" if failures else "done",
        error=report_of(failures, len(tiles)) if failures else None,
        given=given_of(ready.sample, running.settled.request),
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
        labels=within(made.folder, running.folder),
        labels_digest=made.digest,
        objects=made.objects,
        certificate=made.certificate,
        predict_seconds=round(sum(tile.block.seconds for tile in tiles.values()), 3),
        memory=max((tile.block.memory for tile in tiles.values()), default=0) or None,
        warnings=tuple(dict.fromkeys(warnings)),
    )


def job_of(running: Running, ready: Ready, steps: StepSet, work: Path) -> Job:
    """Take from the whole image what steps and model need of it, and cut it into tiles."""
    settled, mapper = running.settled, running.engine.map
    measures = running.measure(
        ready,
        steps.before,
        surveys=settled.surveys,
        mapper=mapper,
        progress=running.progress,
    )
    job = Job(
        name=ready.sample.name,
        opening=ready.opening,
        fit=ready.fit,
        prepared=measures.prepared,
        plan=plan_of(settled, ready, steps),
        kind=settled.kind,
        worker=running.worker,
        params=settled.passed,
        survey={},
        folder=work / _TILES,
        attempts=settled.profile.attempts,
    )
    if not settled.surveys:
        return job
    ask = partial(_survey, measures.histograms)
    return replace(job, survey=next(iter(mapper(ask, [job]))))


def _survey(found: Sequence[Histogram], job: Job) -> dict[str, Any]:
    def ask(worker: Worker) -> dict[str, Any]:
        return worker.survey(found, job.params)

    return ask_model(job.worker, job.attempts, ask)


def run_places(
    running: Running,
    job: Job,
    steps: StepSet,
    places: Sequence[Place] | None = None,
    *,
    begun: Callable[[], object] = lambda: None,
) -> tuple[dict[Place, Finished], list[TileError]]:
    """Every tile that can be had, and an error for each that cannot; raises if there is none.

    `places` are all tiles of the image where they are not given; `begun` is called with the first.
    """
    if places is None:
        places = list(places_of(job, job.frames(job.source)))
    tiles: dict[Place, Finished] = {}
    failures: dict[Place, TileError] = {}
    total = len(places)
    running.progress(Step(job.name, 0, total, "tiles"))
    for place, found in running.engine.unordered(partial(run_tiles, job), places):
        if isinstance(found, Finished):
            tiles[place] = found
            running.watch(Arrival(job.name, steps.name, job, place))
        elif isinstance(found, TileError):
            failures[place] = found
        else:
            raise found
        running.progress(Step(job.name, len(tiles) + len(failures), total, "tiles"))
        if len(tiles) + len(failures) == 1:
            begun()
    in_order = [failures[place] for place in sorted(failures)]
    if failures and not tiles:
        raise in_order[0]
    remember(running.settled, running.worker.device, job.plan, tiles)
    return tiles, in_order


class _Made(NamedTuple):
    """Labels of an image: where they lie, their digest, and what is known of them."""

    folder: Path
    digest: str
    objects: int | None
    certificate: dict[str, Any] | None


def _labels(
    running: Running, ready: Ready, steps: StepSet, job: Job, tiles: Mapping[Place, Finished]
) -> _Made:
    """Write the labels of an image."""
    settled, mapper = running.settled, running.engine.map
    image = ready.image.source
    axes = image.axes.replace("C", "")
    shape = tuple(image.sizes[axis] for axis in axes)
    spatial = "ZYX" if settled.link_z and "Z" in axes else ready.fit.spatial
    block = dict(zip(ready.fit.spatial, written_blocks(job.plan).tile, strict=True))
    direct = _is_direct(job, ready, steps)
    # Several threads write: no chunk may belong to two blocks, nor to two frames.
    written = block if direct else {axis: image.sizes[axis] for axis in spatial}
    folder = running.folder / f"{ready.sample.name}.ome.zarr"
    _remove(folder / "labels" / steps.name)

    def final(shape: tuple[int, ...], dtype: Any) -> Any:
        return create_labels(
            folder,
            name=steps.name,
            axes=axes,
            shape=shape,
            dtype=dtype,
            chunks=chunks_for(axes, shape, tuple(written.get(axis, 1) for axis in axes)),
            pixel_size=image.pixel_size,
            source=str(ready.sample.path.absolute()),
            kind=steps.kind_after(job.kind),
            about={"model": settled.model.id},
        )

    scratch = job.folder.parent / _SCRATCH
    store = final if direct else temporary_array(scratch, "joined", block, axes)
    joined = join_tiles(job, tiles, store, link_z=settled.link_z, final=direct, mapper=mapper)
    certificate = None
    if settled.request.certify:
        certificate = _certificate(running, job, joined.labels)
    objects = joined.objects
    if not direct:
        objects = finish(
            joined,
            final(shape, joined.dtype),
            spatial=spatial,
            factors=job.factors,
            after=steps.after,
            scratch=scratch,
            pixel_size=image.pixel_size,
            mapper=mapper,
        )
    seen = joined.seen if direct else None
    target, digest = finish_labels(folder, steps.name, seen=seen, mapper=mapper)
    return _Made(target, digest, objects, certificate)


def keep_tiles_of(job: Job, key: str) -> None:
    """Make the folder of finished tiles for a key; those of another one go."""
    mark = job.folder / _KEY
    try:
        same = read_text(mark, limit=1000) == key
    except AiodError:
        same = False
    if not same or job.folder.is_symlink():
        _remove(job.folder)
        write_atomically(mark, key)


def _check_unchanged(ready: Ready, job: Job) -> None:
    """Raise AiodError when the image is not the one that was looked at; its tiles go then."""
    if open_image(ready.sample.path, axes=ready.opening.axes).fingerprint != (
        ready.image.fingerprint
    ):
        _remove(job.folder)
        raise AiodError(
            f"{ready.sample.path} was changed while it was segmented.",
            hint="the same command segments it as it is now",
        )


def _remove(path: Path) -> None:
    """Have a folder gone, or a link to one. Raises AiodError where anything of it stays."""
    try:
        path.unlink() if path.is_symlink() else shutil.rmtree(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise AiodError(
            f"{path}, of an earlier run, cannot be removed: {reason(error)}.",
            hint="remove it, or choose another folder with -o",
        ) from error


def _work(folder: Path, ready: Ready, steps: StepSet) -> Path:
    return folder / HIDDEN / ready.sample.name / steps.name


def key_for(key: str, ready: Ready, steps: StepSet) -> str:
    """What the tiles of an image are kept under, in a run of this key."""
    return canonical_digest({"key": _key(key, ready, steps)})


def _key(key: str, ready: Ready, steps: StepSet) -> str:
    """A digest of all that determines the masks of an image.

    Of the axes given: their order says which is which where the metadata do not.
    """
    size = ready.image.source.pixel_size
    return canonical_digest(
        {
            "run": key,
            "set": steps.name,
            "fingerprint": ready.image.fingerprint,
            "axes": ready.image.source.axes,
            "axes given": ready.opening.axes,
            "channels": list(ready.fit.channels or ()),
            "gray": ready.fit.gray,
            "pixel_size": dict(size),
        }
    )


def _unknown(running: Running, ready: Ready) -> list[str]:
    """What to say of pixels that are no numbers."""
    count = unknown_pixels(ready.source, mapper=running.engine.map, progress=running.progress)
    if not count:
        return []
    are = "pixel is" if count == 1 else "pixels are"
    return [f"{count:,} {are} NaN or infinite: the model saw 0 there."]
