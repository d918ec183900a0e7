"""The process that works for a window: it does what it is asked for and tells how far it has come.

    python -m aiod.flow.host

A window that computes is frozen; this process is not its window's, and with all it starts it steps
back where the window needs a processor. It can be stopped at any time, ends with the window, and
keeps the model loaded from one look to the next. What is asked and what is told are the messages of
`protocol`, on stdin and stdout, one request at a time::

    {"id": 1, "do": "plan", "request": {…}}                        -> plan
    {"id": 2, "do": "preview", "request": {…}, "region": {"X": [0, 512]}}
                                            -> (prepared, preview)…, done
    {"id": 3, "do": "run", "request": {…}}                         -> tile…, done
    {"do": "stop"}                                                 -> stopped

On the way come `note` and `step`; what cannot be done ends with `failed`.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from aiod.errors import AiodError
from aiod.flow import protocol
from aiod.flow.models.workers import WorkerSpec
from aiod.flow.source import Pixels
from aiod.flow.tiles.arrival import Arrival, thinned, thinned_shape, thinning
from aiod.flow.tiles.engine import Engine, KeptEngine, Stopped
from aiod.progress import Step

_SECONDS_BETWEEN_STEPS = 0.1
_SECONDS_TO_END = 10.0
_NICENESS = 10


def main() -> None:
    """Serve the process at the other end of stdin and stdout until it is gone."""
    _step_back()
    told = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no message
    Host(sys.stdin.buffer, told).serve()


def _step_back() -> None:
    """Leave the processor to whoever else needs it, as do all that this process starts."""
    if not hasattr(os, "nice"):
        return  # Windows, where whoever starts a process says so
    os.nice(_NICENESS)
    if os.getsid(0) == os.getpid():  # of a session of its own, of which Linux sees first
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(_NICENESS))


class Host:
    """Does one request after the other; `stop` ends the one under way."""

    def __init__(self, asked: BinaryIO, told: BinaryIO) -> None:
        from aiod.flow.measure import Memory

        self._asked, self._told = asked, told
        self._telling = threading.Lock()
        self._waiting: queue.SimpleQueue[Mapping[str, Any] | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._engine: Engine | None = None
        self._engines = KeptEngine()
        self._memory = Memory()
        self._steps: dict[str, float] = {}
        self._id: Any = None

    def serve(self) -> None:
        threading.Thread(target=self._listen, daemon=True).start()
        with self._engines, tempfile.TemporaryDirectory(prefix="aiod-preview-") as previews:
            work: dict[str, Callable[[Mapping[str, Any]], None]] = {
                "plan": self._plan,
                "preview": lambda said: self._preview(said, Path(previews)),
                "run": self._run,
            }
            while (said := self._waiting.get()) is not None:
                self._do(work, said)

    def _do(
        self, work: Mapping[str, Callable[[Mapping[str, Any]], None]], said: Mapping[str, Any]
    ) -> None:
        self._id = said.get("id")
        self._steps.clear()
        try:
            work[said["do"]](said)
        except Stopped:
            self._tell("stopped")
        except AiodError as error:
            self._tell("failed", what=error.what, details=list(error.details), hint=error.hint)
        except Exception as error:  # noqa: BLE001 -- whoever asked is told of it
            details = traceback.format_exception(error)
            what = f"{type(error).__name__}: {error}"
            self._tell("failed", what=what, details=details, hint=None, defect=True)

    def _listen(self) -> None:
        """Take in what is asked; the end of it ends the work."""
        with contextlib.suppress(ValueError, OSError):
            while (message := protocol.read(self._asked)) is not None:
                if message.said.get("do") == "stop":
                    self._halt()
                else:
                    self._stop.clear()
                    self._waiting.put(message.said)
        self._waiting.put(None)
        self._halt()
        time.sleep(_SECONDS_TO_END)
        if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)  # with an installer at work, say
        os._exit(1)

    def _halt(self) -> None:
        self._stop.set()
        engine = self._engine
        if engine is not None:
            engine.stop()

    def _plan(self, said: Mapping[str, Any]) -> None:
        from aiod.flow.dryrun import plan_rows
        from aiod.registry import load

        plan = plan_rows(protocol.request_from_json(said["request"]), load())
        self._tell("plan", plan=plan.as_dict(), sentence=plan.sentence)

    def _preview(self, said: Mapping[str, Any], folder: Path) -> None:
        from aiod.flow.preview import preview
        from aiod.registry import load

        region = {axis: (int(a), int(b)) for axis, (a, b) in said["region"].items()}
        for seen in preview(
            protocol.request_from_json(said["request"]),
            load(),
            region,
            folder,
            progress=self._progress,
            tell=self._note,
            engines=self._lent,
            measuring=self._memory,
        ):
            if seen.prepared is not None:
                self._tell(
                    "prepared",
                    seen.prepared.pixels,
                    set=seen.set,
                    axes=seen.prepared.axes,
                    start=seen.prepared.start,
                    step=seen.prepared.step,
                )
            self._tell(
                "preview",
                seen.labels,
                set=seen.set,
                axes=seen.axes,
                start=seen.box.start,
                objects=seen.objects,
                seconds=seen.seconds,
            )
        self._tell("done")

    def _run(self, said: Mapping[str, Any]) -> None:
        from aiod.flow.run import run
        from aiod.registry import load

        done = run(
            protocol.request_from_json(said["request"]),
            load(),
            progress=self._progress,
            tell=self._note,
            watch=self._arrived,
            engines=self._lent,
            command=tuple(said.get("command", ())),
        )
        self._tell(
            "done",
            folder=str(done.folder.absolute()),
            samples=done.samples,
            record=done.record.model_dump(mode="json"),
        )

    @contextlib.contextmanager
    def _lent(self, workers: int, spec: WorkerSpec, *, models: int = 1) -> Iterator[Engine]:
        """The kept engine, which a stop ends."""
        with self._engines(workers, spec, models=models) as engine:
            self._engine = engine
            try:
                if self._stop.is_set():
                    raise Stopped
                yield engine
            finally:
                self._engine = None

    def _progress(self, step: Step) -> None:
        if self._stop.is_set():
            raise Stopped
        now = time.monotonic()
        ended = step.total is not None and step.done >= step.total
        if ended or now - self._steps.get(step.what, 0.0) >= _SECONDS_BETWEEN_STEPS:
            self._steps[step.what] = now
            self._tell("step", what=step.what, done=step.done, total=step.total, unit=step.unit)

    def _note(self, sentence: str) -> None:
        self._tell("note", text=sentence)

    def _arrived(self, arrival: Arrival) -> None:
        thin = thinning(arrival.shape)
        start, labels = thinned(arrival.labels(), arrival.box.start, thin)
        self._tell(
            "tile",
            labels,
            sample=arrival.sample,
            set=arrival.set,
            axes=arrival.axes,
            whole=thinned_shape(arrival.shape, thin),
            start=start,
            thin=thin,
            factors=arrival.factors,
        )

    def _tell(self, event: str, pixels: Pixels | None = None, /, **said: Any) -> None:
        with self._telling:
            protocol.write(self._told, {"id": self._id, "event": event, **said}, pixels)


if __name__ == "__main__":
    main()
