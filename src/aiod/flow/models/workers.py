"""A model at work: loaded once in a process of its own, tile after tile, its answers checked."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from aiod.errors import AiodError
from aiod.files import reason
from aiod.flow.models.devices import choose_device as choose_device
from aiod.flow.models.process import Ended, Lost, Process

Kind = Literal["load", "raised", "crashed", "hung", "memory", "answer", "lost"]

_LINES_SHOWN = 5
_MAX_LINE = 300
_FRAME = re.compile(r"Traceback \(most|  |(Current t|T)hread 0x|Extension modules:")
_MAX_LABEL = 2**32 - 1
_HINT_OF = {
    "load": "`aiod env build {family} --again` builds its environment anew",
    "memory": "smaller tiles (--tile) need less memory",
}


class ModelError(AiodError):
    """What a model did wrong, so that a tile has no labels.

    `kind` is what went wrong: the model could not be loaded (load), raised an exception, took its
    process along (crashed), gave no answer in time (hung), found too little memory, returned what
    is no answer, or its process could not be talked to (lost). `log` is the end of what it
    printed, and the traceback of its exception.
    """

    def __init__(
        self,
        what: str,
        *,
        kind: Kind,
        log: str = "",
        details: list[str] | None = None,
        hint: str | None = None,
    ):
        super().__init__(what, details=details, hint=hint)
        self.kind = kind
        self.log = log

    def of_kind(self, kind: Kind) -> ModelError:
        """The same, told as another kind of trouble."""
        return ModelError(
            self.what, kind=kind, log=self.log, details=list(self.details), hint=self.hint
        )

    def __reduce__(self) -> tuple[Any, ...]:
        make = partial(
            type(self), kind=self.kind, log=self.log, details=list(self.details), hint=self.hint
        )
        return make, (self.what,)


class Counted(Protocol):
    """The exact histogram of one channel: sorted values and how often each occurs."""

    @property
    def values(self) -> NDArray[Any]: ...
    @property
    def counts(self) -> NDArray[Any]: ...


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """All that a worker needs to start. `predict_seconds` is the time-out of one tile."""

    python: Path
    runner: Path
    weights: Path | None
    config: Path | None
    device: str
    threads: int
    load_seconds: float
    predict_seconds: float

    @property
    def family(self) -> str:
        return self.runner.stem


@dataclass(frozen=True, slots=True)
class Prediction:
    """Labels (uint32, axes without C), seconds inside `predict`, the model's warnings.

    `memory` is what its process had at most until then, in bytes; 0 where that is not known.
    """

    labels: NDArray[np.uint32]
    seconds: float
    messages: tuple[str, ...]
    memory: int = 0


class Worker:
    """One process with one model, started and loaded when first asked, anew after it has ended.

    One caller at a time. A model that raises keeps its process; one that crashes, hangs or exits
    gets a fresh one with the next tile.
    """

    def __init__(self, spec: WorkerSpec) -> None:
        self.spec = spec
        self._process: Process | None = None
        self._mark = 0

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The id of the process, None while there is none."""
        return self._process.pid if self._process is not None else None

    def load(self) -> None:
        """Start the process and load the model, unless that is done. Raises ModelError."""
        if self._process is not None and self._process.alive:
            return
        self.close()
        spec = self.spec
        try:
            self._process = Process(spec.python, spec.threads)
        except (OSError, AssertionError) as error:
            why = reason(error) if isinstance(error, OSError) else "it ended at once"
            raise ModelError(
                f"The worker of {spec.family} cannot be started with {spec.python}: {why}.",
                kind="lost",
            ) from error
        request = {
            "action": "load",
            "runner": str(spec.runner.absolute()),
            "weights": spec.weights and str(spec.weights.absolute()),
            "config": spec.config and str(spec.config.absolute()),
            "device": spec.device,
        }
        try:
            self._ask(request, spec.load_seconds, "while it was loaded")
        except ModelError:
            self._drop()
            raise

    def survey(self, histograms: Sequence[Counted], params: Mapping[str, Any]) -> dict[str, Any]:
        """What the runner's `survey` finds in the histograms, one a channel; {} if it has none.

        Names -> plain JSON values. Raises ModelError.
        """
        self.load()
        arrays = [part for item in histograms for part in (item.values, item.counts)]
        request = {"action": "survey", "params": dict(params)}
        answer = self._send(request, arrays, "in the survey of the image")
        found = answer["found"]
        assert isinstance(found, dict)
        return found

    def check(
        self, given: Path, expected: Path, params: Mapping[str, Any]
    ) -> tuple[bool, str] | None:
        """Whether the runner's `check` is content with the model's answer to a tensor, and why.

        `given` and `expected` are files (.npy); None where the runner has no such function.
        Raises ModelError.
        """
        self.load()
        request = {
            "action": "check",
            "input": str(given.absolute()),
            "expected": str(expected.absolute()),
            "params": dict(params),
        }
        answer = self._ask(request, self.spec.predict_seconds, "in the check of its own test")
        found = answer["found"]
        return None if found is None else (bool(found["passed"]), str(found["told"]))

    def predict(self, image: NDArray[Any], *, axes: str, params: Mapping[str, Any]) -> Prediction:
        """Labels of one tile, whose axes are `axes`. Raises ModelError."""
        (found,) = self.predict_each([image], axes=axes, params=params)
        return found

    def predict_each(
        self, images: Sequence[NDArray[Any]], *, axes: str, params: Mapping[str, Any]
    ) -> list[Prediction]:
        """Labels of some tiles, one after the other, for the price of one request.

        Together they have the time of one tile. Raises ModelError where one of them fails: then
        none has labels.
        """
        shapes = [_without_channels(image, axes) for image in images]
        when = "on this tile" if len(images) == 1 else f"on these {len(images)} tiles"
        self.load()
        request = {
            "action": "predict",
            "axes": axes,
            "shapes": [list(shape) for shape in shapes],
            "params": dict(params),
        }
        answer = self._send(request, images, when)
        told = answer["tiles"]
        for words, shape in zip(told, shapes, strict=True):
            self._judge(words, shape)
        if answer["bytes"]:
            self._room("out", int(answer["bytes"]), when)
            self._ask({"action": "fetch"}, self.spec.predict_seconds, when)
        labels = self._at_work.take(shapes, [words["dtype"] for words in told])
        memory = int(answer["memory"] or 0)
        return [
            Prediction(
                self._checked(each), float(words["seconds"]), tuple(words["warnings"]), memory
            )
            for each, words in zip(labels, told, strict=True)
        ]

    def close(self) -> None:
        """End the process. The next call starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.close()

    @property
    def _at_work(self) -> Process:
        """The process. Raises ModelError where another thread has ended it in the meantime."""
        process = self._process
        if process is None:
            raise ModelError(f"The process of {self.spec.family} was ended.", kind="lost")
        return process

    def _drop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()

    def _send(
        self, request: dict[str, Any], arrays: Sequence[NDArray[Any]], when: str
    ) -> dict[str, Any]:
        try:
            places = self._at_work.put(arrays)
        except (OSError, Ended, Lost) as error:
            raise self._told(error, when) from error
        return self._ask({**request, "arrays": places}, self.spec.predict_seconds, when)

    def _room(self, role: str, size: int, when: str) -> None:
        try:
            self._at_work.room(role, size)
        except (OSError, Ended, Lost) as error:
            raise self._told(error, when) from error

    def _ask(self, request: dict[str, Any], seconds: float, when: str) -> dict[str, Any]:
        """An answer without `failure`. Raises ModelError; after a crash the process is gone."""
        process = self._at_work
        self._mark = process.tail.position
        try:
            answer = process.ask(request, seconds)
        except (Ended, Lost) as error:
            raise self._told(error, when, seconds) from error
        except BaseException:  # Ctrl-C: what the process does now is of no use to anybody
            self._drop()
            raise
        if "failure" in answer:
            raise self._failed(answer, request["action"] == "load", when)
        return answer

    def _told(self, error: Exception, when: str, seconds: float = 0.0) -> ModelError:
        """A process that is no more, or that cannot be used, in a sentence; it is dropped."""
        family = self.spec.family
        process = self._at_work
        self._drop()
        log = process.tail.since(self._mark)
        kind: Kind = "lost"
        if isinstance(error, OSError):
            kind = "memory"
            told = f"There is no shared memory for a tile of {family}: {reason(error)}."
        elif isinstance(error, Ended) and error.why == "hung":
            kind = "hung"
            told = f"{family} gave no answer within {seconds:g} s {when} and was stopped."
        elif isinstance(error, Ended):
            kind = "memory" if error.why == "memory" else "crashed"
            why = " for want of memory" if error.why == "memory" else ""
            told = f"The process of {family} {error.words}{why} {when}."
        else:
            told = f"The worker of {family} cannot be talked to {when}."
            log = f"{log}\n{error}"
        return self._error(told, kind, log, log)

    def _failed(self, answer: dict[str, Any], loading: bool, when: str) -> ModelError:
        """A failure that the process itself tells; it goes on, unless the model wants to exit."""
        family = self.spec.family
        time.sleep(0.02)  # what was printed comes by another way than the answer
        printed = self._at_work.tail.since(self._mark)
        log = printed + answer.get("traceback", "")
        message = " ".join(str(answer["message"]).split())
        failure = answer["failure"]
        if failure == "exit":
            self._drop()
            told = f"{family} ended its process with sys.exit({message}) {when}."
            return self._error(told, "crashed", log, printed)
        if failure == "answer":
            return self._error(f"{family}: {message}.", "answer", log, printed)
        raised = answer["type"] + (f": {message}" if message else "")
        if isinstance(answer.get("line"), int):  # for those who write it
            raised = f"{raised.removesuffix('.')} ({self.spec.runner.name}:{answer['line']})"
        raised = raised if raised.endswith((".", "!", "?")) else raised + "."
        if loading:
            wrong = self._error(f"{family} could not be loaded: {raised}", "load", log, printed)
            if answer["type"] == "NotImplementedError":  # no other environment mends that
                wrong.hint = None
            return wrong
        if failure == "memory":
            told = f"{family} ran out of memory {when}: {raised}"
            return self._error(told, "memory", log, printed)
        return self._error(f"{family} failed {when}: {raised}", "raised", log, printed)

    def _error(self, told: str, kind: Kind, log: str, printed: str) -> ModelError:
        hint = _HINT_OF.get(kind)
        return ModelError(
            told,
            kind=kind,
            log=log,
            details=_last_lines(printed),
            hint=hint and hint.format(family=self.spec.family),
        )

    def _judge(self, answer: dict[str, Any], shape: tuple[int, ...]) -> None:
        """Raise ModelError unless what the answer is said to be can be labels."""
        family = self.spec.family
        if answer["kind"] != "array":
            raise ModelError(
                f"{family} returned {answer['kind']} where a numpy array of labels is expected.",
                kind="answer",
            )
        found = tuple(answer["shape"])
        if found != shape:
            raise ModelError(
                f"{family} returned labels of shape {found} for a tile of shape {shape}.",
                kind="answer",
            )
        if not answer["whole"]:
            raise ModelError(
                f"{family} returned labels of dtype {answer['dtype']}; labels are whole numbers.",
                kind="answer",
                hint="in the runner, `labels.astype(np.int32)` if the numbers are whole",
            )

    def _checked(self, labels: NDArray[Any]) -> NDArray[np.uint32]:
        family = self.spec.family
        if labels.dtype.kind == "i" and labels.size and (low := int(labels.min())) < 0:
            raise ModelError(
                f"{family} returned a negative label, {low}; 0 is background, objects are 1, 2, ….",
                kind="answer",
            )
        if labels.dtype.itemsize > 4 and labels.size and (high := int(labels.max())) > _MAX_LABEL:
            raise ModelError(
                f"{family} returned the label {high}; labels are below 2**32.", kind="answer"
            )
        if labels.dtype.itemsize == 4:  # the same bits, now that none is negative
            return labels.view(np.uint32)
        return labels.astype(np.uint32)


def _without_channels(image: NDArray[Any], axes: str) -> tuple[int, ...]:
    return tuple(n for n, axis in zip(image.shape, axes, strict=True) if axis != "C")


def _last_lines(printed: str) -> list[str]:
    """The end of what a model printed, without the frames of tracebacks, which the log has."""
    lines = [line for line in printed.splitlines() if line.strip() and not _FRAME.match(line)]
    return [line[:_MAX_LINE] for line in lines[-_LINES_SHOWN:]]
