"""A run: a request in, a folder out, with labels, pictures, tables and the record of it all."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from aiod.errors import AiodError, UsageError
from aiod.files import reason, write_atomically
from aiod.flow.account import failed_record, key_of, run_record
from aiod.flow.models.devices import choose_device
from aiod.flow.models.environments import Environment, environment_for
from aiod.flow.models.workers import ModelError, WorkerSpec
from aiod.flow.record import (
    FILE_NAME,
    ImageRecord,
    RecordError,
    RepeatRecord,
    RunRecord,
    differences,
    read_record,
    sealed,
    write_record,
)
from aiod.flow.request import Ready, Refused, Request, Settled, look, plan_of, settle
from aiod.flow.segment import HIDDEN, Running, crops_in, finished_image, segment
from aiod.flow.tiles.arrival import Watch, unwatched
from aiod.flow.tiles.engine import Engine, Engines
from aiod.progress import Progress, Step, silent
from aiod.registry import Registry
from aiod.registry.pull import Weights, pull
from aiod.words import counted

OUT = Path("aiod-out")
"""Where runs go that name no folder: each into one of its own, named after model and settings."""
_LOCK = ".lock"
"""Its dot keeps it apart from the folders of images, whose names have none in front."""
_SHORT = 8
_SECONDS_BETWEEN_RECORDS = 2.0


@dataclass(frozen=True, slots=True)
class Done:
    """What a run came to: its folder, its record, and how many images were finished before.

    The record tells of all images of the folder, `samples` names those that were asked for now.
    """

    folder: Path
    record: RunRecord
    earlier: int
    samples: tuple[str, ...] = ()

    @property
    def images(self) -> tuple[ImageRecord, ...]:
        """Those that were asked for; the folder may hold others of the same settings."""
        return tuple(image for image in self.record.images if image.sample in self.samples)

    @property
    def failed(self) -> tuple[ImageRecord, ...]:
        return tuple(image for image in self.images if image.status != "done")


def _say_nothing(_: str) -> None:
    """What hears the sentences of a run where nobody listens."""


def run(
    request: Request,
    registry: Registry,
    *,
    progress: Progress = silent,
    tell: Callable[[str], object] = _say_nothing,
    watch: Watch = unwatched,
    engines: Engines = Engine,
    command: Sequence[str] = (),
    repeats: RepeatRecord | None = None,
) -> Done:
    """Do what a request asks for; what is finished already is not done again.

    `tell` gets the sentences that a user should read before it starts (licence, misfits), `watch`
    each tile once it is finished; `engines` give what works on them. An image that cannot be used
    or segmented is recorded with its reason, the others are done.
    Stopped by KeyboardInterrupt, the run continues with the next call of the same request.

    Raises AiodError when nothing at all can be done.
    """
    started = datetime.now(UTC).astimezone()
    clock = time.monotonic()
    settled = settle(request, registry)
    ready, refused = look(settled)
    if not ready and len(refused) == 1:
        raise refused[0].error
    for note in (*settled.notes, *_common_notes(ready)):
        tell(note)
    weights = pull(registry, settled.model, progress=progress)  # before gigabytes of packages
    environment = environment_for(settled.runner, progress=progress)
    device = choose_device(request.device, environment)
    record = run_record(
        settled,
        weights,
        environment,
        device,
        started=started,
        command=command,
        repeats=repeats,
    )
    key = key_of(record)
    folder = request.out or OUT / _folder_name(settled, key)
    with _own(folder):
        images = _others(folder, record, [*ready, *refused])
        images += [
            failed_record(each.sample, steps.name, request, each.error)
            for each in refused
            for steps in settled.sets
        ]
        finished = _finished(settled, ready, folder, key)
        images += itertools.chain.from_iterable(finished.values())
        told = _Told(folder, record, images, clock)
        waiting = [each for each in ready if each.sample.name not in finished]
        if waiting:
            workers = settled.profile.worker_count(device, request.workers)
            spec = worker_spec(settled, environment, weights, device, workers)
            tiles = sum(len(plan_of(settled, each, settled.sets[0])) for each in waiting)
            models = min(workers, tiles)
            with told.whatever_happens(), engines(workers, spec, models=models) as engine:
                running = Running(settled, engine, spec, folder, key, progress, watch)
                _segment_all(running, waiting, told.add)
        record = told.write()
        from aiod.flow.methods import bibtex_of, methods_of

        write_atomically(folder / "methods.md", methods_of(record, registry))
        write_atomically(folder / "citations.bib", bibtex_of(record, registry))
    earlier = sum(map(len, finished.values()))
    asked = (*(each.sample for each in ready), *(each.sample for each in refused))
    return Done(folder, record, earlier, tuple(sample.name for sample in asked))


@dataclass(slots=True)
class _Told:
    """The record of a run under way, in its folder; `clock` is when the run began."""

    folder: Path
    record: RunRecord
    images: list[ImageRecord]
    clock: float
    written: float = 0.0

    def add(self, image: ImageRecord) -> None:
        """One image more; of many small ones not each is worth writing all of the record again."""
        self.images.append(image)
        if time.monotonic() - self.written > _SECONDS_BETWEEN_RECORDS:
            self.write()

    @contextlib.contextmanager
    def whatever_happens(self) -> Iterator[None]:
        """Write the record, if there is anything to tell, where the work ends early."""
        try:
            yield
        except BaseException:
            if self.images:
                with contextlib.suppress(AiodError):  # what happened before matters more
                    self.write()
            raise

    def write(self) -> RunRecord:
        seconds = round(time.monotonic() - self.clock, 3)
        images = tuple(sorted(self.images, key=lambda image: (image.sample, image.set)))
        kept = sealed(self.record.model_copy(update={"images": images, "seconds": seconds}))
        write_record(kept, self.folder)
        self.written = time.monotonic()
        return kept


def _common_notes(ready: Sequence[Ready]) -> list[str]:
    """What to know of the images before they are segmented: each sentence once."""
    times = Counter(note for each in ready for note in dict.fromkeys(each.fit.notes))
    one = len(ready) == 1
    return [
        note if one else f"{note} ({counted(number, 'image')} of {len(ready)})"
        for note, number in times.items()
    ]


def _segment_all(
    running: Running, ready: Sequence[Ready], keep: Callable[[ImageRecord], object]
) -> None:
    """Every image, a few at a time so that small ones keep all workers busy; sets in turn.

    An image's error is its own, unless the model cannot be loaded at all.
    """
    sets = running.settled.sets
    total = len(ready) * len(sets)
    lock = threading.Lock()
    done = 0

    def one(each: Ready) -> None:
        nonlocal done
        for steps in sets:
            try:
                image = segment(running, each, steps)
            except AiodError as error:
                if isinstance(error, ModelError) and error.kind == "load":
                    raise
                image = failed_record(each.sample, steps.name, running.settled.request, error)
            except (OSError, MemoryError) as error:
                why = reason(error) if isinstance(error, OSError) else "there is too little memory"
                told = AiodError(
                    f"{each.sample.name} cannot be finished in {running.folder}: {why}.",
                    hint="the same command goes on where it was",
                )
                image = failed_record(each.sample, steps.name, running.settled.request, told)
            with lock:
                done += 1
                keep(image)
                running.progress(Step("images", done, total, "images"))

    if total > 1:
        running.progress(Step("images", 0, total, "images"))
    with ThreadPoolExecutor(running.engine.workers + 1) as pool:
        waiting = {pool.submit(one, each) for each in ready}
        try:
            while waiting:  # short waits, so that Ctrl-C is heard
                finished, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
                for future in finished:
                    future.result()
        except BaseException:
            running.engine.stop()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


@contextlib.contextmanager
def _own(folder: Path) -> Iterator[None]:
    """Hold a run folder for this process. Raises AiodError when another run uses it."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / HIDDEN / _LOCK)
    try:
        (folder / HIDDEN).mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UsageError(
            f"{folder} is in use by another run.", hint="wait for it, or choose another with -o"
        ) from error
    except OSError as error:
        raise AiodError(
            f"The run folder {folder} cannot be written: {reason(error)}.",
            hint="choose another with -o",
        ) from error
    try:
        yield
    finally:
        lock.release()


def _others(folder: Path, record: RunRecord, asked: Sequence[Ready | Refused]) -> list[ImageRecord]:
    """What the folder's record tells of images that are not asked for now: they stay in it.

    Raises UsageError when the folder holds a run of other settings, or the labels of another image
    by the name of one of those `asked` for.
    """
    if not (folder / FILE_NAME).exists():
        return []
    try:
        earlier = read_record(folder)
    except RecordError as error:
        raise UsageError(
            f"{folder} holds a run, of which nothing is known: {error.what}",
            details=list(error.details),
            hint="choose another folder with -o, or remove its run.json: what is finished is kept",
        ) from error
    if key_of(earlier) != key_of(record):
        raise UsageError(
            f"{folder} holds another run, of {earlier.model.id} with other settings or versions.",
            details=differences(earlier, record),
            hint="choose another folder with -o, or remove this one",
        )
    now = {each.sample.name: each for each in asked}
    kept = [
        image
        for image in earlier.images
        if image.labels is not None and (folder / image.labels / "zarr.json").is_file()
    ]
    for image in kept:
        same = now.get(image.sample)
        if isinstance(same, Ready) and not _may_be(same, image):
            raise UsageError(
                f"{folder} holds labels of another image called {image.sample}: {image.path}.",
                hint="choose another folder with -o, or name the images in a samplesheet",
            )
    return [image for image in kept if image.sample not in now]


def _may_be(ready: Ready, image: ImageRecord) -> bool:
    """Whether a record is of the same image, moved or changed, but not both."""
    path = str(ready.sample.path.absolute())
    return image.fingerprint == ready.image.fingerprint or image.path == path


def _finished(
    settled: Settled, ready: Sequence[Ready], folder: Path, key: str
) -> dict[str, list[ImageRecord]]:
    """Of each image that an earlier call finished, with all that is asked for now, its records."""
    finished = {}
    for each in ready:
        found = [finished_image(folder, key, each, steps) for steps in settled.sets]
        images = [it for it in found if it is not None and _has_all(it, settled.request)]
        if len(images) == len(found):
            finished[each.sample.name] = images
    return finished


def _has_all(image: ImageRecord, request: Request) -> bool:
    """Whether a finished image has what a request asks for beside its labels."""
    outputs = {"overlay", *request.exports} <= image.outputs.keys()
    return outputs and crops_in(image) >= request.certify


def worker_spec(
    settled: Settled, environment: Environment, weights: Weights, device: str, workers: int
) -> WorkerSpec:
    profile = settled.profile
    return WorkerSpec(
        python=environment.python,
        runner=settled.runner,
        weights=weights.path,
        config=weights.config,
        device=device,
        threads=profile.threads(workers),
        load_seconds=profile.load_seconds,
        predict_seconds=settled.request.timeout or profile.predict_seconds,
    )


def _folder_name(settled: Settled, key: str) -> str:
    return f"{settled.model.family}-{settled.model.slug}-{key.partition(':')[2][:_SHORT]}"
