"""What runs inside a model's environment: the functions of its runner, behind Appose.

The host starts this file with the environment's Python and never imports it. It may use the
standard library, numpy and appose, and whatever Python a runner asks for runs it. Its parts::

    main thread      the model: it loads, surveys and predicts here, one job after the other
    Appose's threads one for each request; puts a job into the queue and waits for its answer

Nothing that a model prints, reads, warns of or leaves behind reaches the protocol: that has
private copies of file descriptors 0 and 1, and the model's own lead to nothing and to stderr.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import faulthandler
import importlib.util
import inspect
import json
import math
import os
import queue
import re
import shutil
import signal
import sys
import threading
import time
import traceback
import types
import warnings
from multiprocessing import resource_tracker, shared_memory
from pathlib import Path
from typing import Any

import numpy as np

_MAX_MESSAGE = 2000
_MAX_TRACEBACK = 20_000
_MAX_ANSWER = 1_000_000
_MAX_WARNINGS = 20
_ALIGNED = 64
_SECONDS_TO_LEAVE = 3.0
_NOT_FOR_USERS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ImportWarning)
_MEMORY_TYPES = ("OutOfMemoryError", "ResourceExhaustedError")
_MEMORY_WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory", "alloc_failed")

jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
_state: dict[str, Any] = {}
_blocks: dict[str, shared_memory.SharedMemory] = {}
_warned: dict[str, None] = {}


class Refused(Exception):
    """An answer of the model that the protocol has no place for."""


# --- requests --------------------------------------------------------------------------------


def ask(request: dict[str, Any]) -> dict[str, Any]:
    """Have the main thread do a request, and wait for its answer; called in Appose's threads."""
    answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    jobs.put((request, answers))
    return answers.get()


def serve() -> None:
    """Do one request after the other until the host is gone; called in the main thread."""
    while True:
        job = jobs.get()
        if job is None:
            return
        request, answers = job
        answer = handle(request)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # the model closed it, or put what it liked there
                stream.flush()
        answers.put(answer)


def handle(request: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request; whatever goes wrong is an answer too, under the key `failure`."""
    # Ends the process even where the model hangs without letting Python run, and tells where.
    faulthandler.dump_traceback_later(request["seconds"], exit=True, file=_state["log"])
    try:
        answer = _ACTIONS[request["action"]](request)
    except Refused as error:
        answer = {"failure": "answer", "message": str(error)}
    except SystemExit as error:
        answer = {"failure": "exit", "message": repr(error.code)[:_MAX_MESSAGE]}
    except BaseException as error:  # noqa: BLE001 -- the model's, told to the host
        answer = _failure(error)
    finally:
        faulthandler.cancel_dump_traceback_later()
    answer["warnings"] = list(_warned)
    _warned.clear()
    return answer


def _load(request: dict[str, Any]) -> dict[str, Any]:
    runner = _import(request["runner"])
    _state["runner"] = runner
    started = time.perf_counter()
    _state["model"] = runner.load(
        request["weights"], config=request["config"], device=request["device"]
    )
    return {"seconds": time.perf_counter() - started}


def _import(path: str) -> types.ModuleType:
    """The runner as a module, without a word written beside it."""
    spec = importlib.util.spec_from_file_location("aiod_runner", path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["aiod_runner"] = module
    code = compile(Path(path).read_text(encoding="utf-8"), path, "exec")
    exec(code, module.__dict__)  # noqa: S102 -- running it is what this process is for
    return module


def _survey(request: dict[str, Any]) -> dict[str, Any]:
    survey = getattr(_state["runner"], "survey", None)
    if survey is None:
        return {"found": {}}
    arrays = [_array(item).copy() for item in request["arrays"]]
    statistics = [{"values": arrays[i], "counts": arrays[i + 1]} for i in range(0, len(arrays), 2)]
    found = survey(statistics, **_for(survey, {**request["params"], "model": _state["model"]}))
    if found is None:
        return {"found": {}}
    if not isinstance(found, dict):
        raise Refused(f"survey returned {kind_of(found)} where a dict of plain values is expected")
    values = {str(name): _plain(value, f'"{name}"') for name, value in found.items()}
    if len(json.dumps(values)) > _MAX_ANSWER:
        raise Refused(f"survey returned more than {_MAX_ANSWER:,} characters")
    return {"found": values}


def _predict(request: dict[str, Any]) -> dict[str, Any]:
    """Run the model on each of the request's arrays, which share axes and params."""
    runner = _state["runner"]
    params = dict(request["params"])
    survey = getattr(runner, "survey", None)
    if survey is not None:  # a keyword that only survey takes is none of predict's
        taken = _keywords(runner.predict)
        for name in _for(survey, params):
            if taken is not None and name not in taken:
                del params[name]
    answers, told, end = [], [], 0
    for item, shape in zip(request["arrays"], map(tuple, request["shapes"]), strict=True):
        # A copy: the model may change its image and keep it, the block is needed for the next.
        image = _array(item).copy()
        started = time.perf_counter()
        answer = runner.predict(_state["model"], image, axes=request["axes"], **params)
        seconds = time.perf_counter() - started
        del image
        if isinstance(answer, (tuple, list)) and len(answer) == 2:
            answer = resolve(answer[0], answer[1], shape)
        words = {"seconds": seconds, "warnings": list(_warned), **_described(answer)}
        told.append(words)
        _warned.clear()
        if words["kind"] == "array" and words["shape"] == list(shape) and words["whole"]:
            answers.append(_kept(answer, end))
            end += _aligned(answer)
    found = {"tiles": told, "memory": _peak(), "bytes": 0}
    if len(answers) < len(told) or end <= _room():  # one is no labels: for the host to judge
        return found
    _state["answers"] = [np.array(answer) for answer in answers]  # out of the block, which goes
    return {**found, "bytes": end}


def _check(request: dict[str, Any]) -> dict[str, Any]:
    """Have the runner compare the model with tensors of its own, if it can."""
    check = getattr(_state["runner"], "check", None)
    if check is None:
        return {"found": None}
    files = {"input": request["input"], "expected": request["expected"]}
    found = check(_state["model"], **_for(check, {**request["params"], **files}))
    if not (
        isinstance(found, dict)
        and isinstance(found.get("passed"), bool)
        and isinstance(found.get("told"), str)
    ):
        raise Refused(
            f"check returned {kind_of(found)} where a dict with passed (true or false) and told "
            "(a sentence) is expected"
        )
    return {"found": {"passed": found["passed"], "told": found["told"][:_MAX_MESSAGE]}}


def _fetch(_: dict[str, Any]) -> dict[str, Any]:
    """Put answers that were too large for the block of before into the block of now."""
    end = 0
    for answer in _state.pop("answers"):
        _kept(answer, end)
        end += _aligned(answer)
    return {}


def _attach(request: dict[str, Any]) -> dict[str, Any]:
    """Take a block of shared memory into use, in place of the one with the same role."""
    role, name = request["role"], request["name"]
    old = _blocks.pop(role, None)
    if old is not None:
        old.close()
    if sys.version_info >= (3, 13):
        _blocks[role] = shared_memory.SharedMemory(name, track=False)
    else:
        # Until 3.13 whoever attaches registers as if it owned the block, and removes it at its
        # end: https://github.com/python/cpython/issues/82300
        register = resource_tracker.register
        resource_tracker.register = lambda *_: None
        try:
            _blocks[role] = shared_memory.SharedMemory(name)
        finally:
            resource_tracker.register = register
    return {}


_ACTIONS = {
    "load": _load,
    "survey": _survey,
    "predict": _predict,
    "check": _check,
    "fetch": _fetch,
    "attach": _attach,
}


# --- arrays and values -----------------------------------------------------------------------


def _peak() -> int | None:
    """Bytes of memory that this process had at most; None where the system does not tell."""
    if "status" in _state:  # Linux, where the other figure begins with the host's own
        with contextlib.suppress(OSError):  # the model may have closed it
            found = re.search(rb"^VmHWM:\s*(\d+) kB", os.pread(_state["status"], 8192, 0), re.M)
            return int(found[1]) * 1024 if found else None
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None


def _array(item: dict[str, Any], role: str = "in") -> Any:
    return np.ndarray(tuple(item["shape"]), item["dtype"], _blocks[role].buf, offset=item["offset"])


def _described(answer: Any) -> dict[str, Any]:
    if not isinstance(answer, np.ndarray):
        return {"kind": kind_of(answer)}
    dtype = answer.dtype.newbyteorder("=")
    whole = dtype.kind in "iub"
    return {"kind": "array", "dtype": str(dtype), "whole": whole, "shape": list(answer.shape)}


def _kept(answer: Any, offset: int) -> Any:
    """An array where the model cannot write its next one: in the block, if there is room for it."""
    if offset + answer.nbytes > _room():
        return np.array(answer)
    dtype = answer.dtype.newbyteorder("=")
    place = _array({"shape": answer.shape, "dtype": dtype, "offset": offset}, "out")
    np.copyto(place, answer)
    return place


def _room() -> int:
    """Bytes in the block for answers."""
    return int(_blocks["out"].size) if "out" in _blocks else 0


def _aligned(answer: Any) -> int:
    """Bytes that an array takes in a block."""
    return -(-int(answer.nbytes) // _ALIGNED) * _ALIGNED


def resolve(masks: Any, scores: Any, shape: tuple[int, ...]) -> Any:
    """Labels of masks that may overlap: a pixel belongs to the mask with the highest score.

    Of equal scores the smaller mask wins, and of equally large ones the earlier. `masks` is a
    boolean array (n, \\*shape), `scores` has n finite numbers; mask i becomes label i + 1.
    """
    if not isinstance(masks, np.ndarray):
        raise Refused(f"predict returned a pair that starts with {kind_of(masks)}, not with masks")
    numbers = np.asarray(scores)
    if masks.dtype != bool or masks.shape[1:] != shape:
        raise Refused(
            f"predict returned masks of shape {masks.shape} and dtype {masks.dtype} where"
            f" {('n', *shape)} and bool are expected"
        )
    if numbers.shape != masks.shape[:1] or numbers.dtype.kind not in "iuf":
        raise Refused(
            f"predict returned {masks.shape[0]} masks with scores of shape {numbers.shape} and"
            f" dtype {numbers.dtype} where one number a mask is expected"
        )
    if not np.isfinite(numbers).all():
        raise Refused("predict returned a score that is not finite")
    sizes = [int(np.count_nonzero(mask)) for mask in masks]
    # The winner is painted last.
    order = sorted(range(len(masks)), key=lambda i: (numbers[i], -sizes[i], -i))
    labels = np.zeros(shape, np.uint32)
    for index in order:
        labels[masks[index]] = index + 1
    return labels


def kind_of(value: Any) -> str:
    """What a value is, in words: "a list", "None", "a torch.Tensor"."""
    if value is None:
        return "None"
    kind = type(value)
    module = "" if kind.__module__ == "builtins" else kind.__module__.partition(".")[0] + "."
    return f"a {module}{kind.__name__}"


def _plain(value: Any, where: str) -> Any:
    """A value as JSON has it. Raises Refused, which names the place."""
    if isinstance(value, np.generic):
        value = value.item()
    elif isinstance(value, np.ndarray) and value.size <= _MAX_ANSWER // 2:
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        raise Refused(f"survey returned {value} under {where} where a finite number is expected")
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item, where) for item in value]
    if isinstance(value, dict):
        return {str(name): _plain(item, where) for name, item in value.items()}
    raise Refused(f"survey returned {kind_of(value)} under {where}; plain values are expected")


def _keywords(function: Any) -> set[str] | None:
    """The keywords that a function takes by name; None where it takes any."""
    parameters = inspect.signature(function).parameters.values()
    if any(item.kind is item.VAR_KEYWORD for item in parameters):
        return None
    return {item.name for item in parameters if item.kind is not item.VAR_POSITIONAL}


def _for(function: Any, params: dict[str, Any]) -> dict[str, Any]:
    taken = _keywords(function)
    return {name: value for name, value in params.items() if taken is None or name in taken}


# --- what goes wrong -------------------------------------------------------------------------


def _failure(error: BaseException) -> dict[str, Any]:
    try:
        text = str(error)
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except BaseException:  # noqa: BLE001 -- an exception that cannot even be told
        text, trace = "", ""
    is_memory = _is_memory(error, text)
    line = _line_in_runner(error)
    traceback.clear_frames(error.__traceback__)  # they hold the tile, and what was made of it
    if is_memory and "torch" in sys.modules:
        try:
            sys.modules["torch"].cuda.empty_cache()
        except Exception as second:  # noqa: BLE001 -- memory is only freed as far as it goes
            trace += f"\nThe memory of the GPU could not be freed: {second}"
    return {
        "failure": "memory" if is_memory else "raised",
        "type": type(error).__name__,
        "message": text[:_MAX_MESSAGE],
        "traceback": trace[-_MAX_TRACEBACK:],
        "line": line,
    }


def _line_in_runner(error: BaseException) -> int | None:
    """The last line of the runner's own that an exception came through."""
    there = getattr(sys.modules.get("aiod_runner"), "__spec__", None)
    walked = traceback.walk_tb(error.__traceback__)
    lines = [n for frame, n in walked if there and frame.f_code.co_filename == there.origin]
    return lines[-1] if lines else None


def _is_memory(error: BaseException | None, text: str) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ in _MEMORY_TYPES:
        return True
    return isinstance(error, (RuntimeError, OSError)) and any(
        words in text.lower() for words in _MEMORY_WORDS
    )


def _warn(
    message: Any, category: Any, filename: str, lineno: int, _: Any = None, line: Any = None
) -> None:
    """Keep the first warnings of a request for the host, and print each as Python does."""
    text = " ".join(str(message).split())[:300]
    if len(_warned) < _MAX_WARNINGS and not issubclass(category, _NOT_FOR_USERS):
        _warned[text] = None
    with contextlib.suppress(Exception):
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))


# --- the process -----------------------------------------------------------------------------


def _take_the_streams() -> None:
    """Keep the protocol on private descriptors; the model's 0 is empty and its 1 is stderr."""
    from appose import python_worker

    hears = os.fdopen(os.dup(0), encoding="utf-8")
    speaks = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    one_at_a_time = threading.Lock()

    def hear() -> str:
        try:
            line = hears.readline()
        except OSError:  # the model has closed it
            line = ""
        if not line:
            _leave()
            raise EOFError
        return line

    def speak(*words: Any, file: Any = None, flush: bool = False) -> None:
        if file is not None:
            builtins.print(*words, file=file, flush=flush)
            return
        try:
            with one_at_a_time:
                speaks.write(" ".join(map(str, words)) + "\n")
                speaks.flush()
        except OSError:  # nobody will ever hear of this process again
            _take_along()
            os._exit(1)

    # Names of a module come before the builtin ones, for that module alone.
    python_worker.input = hear
    python_worker.print = speak
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]


def _take_the_process() -> None:
    """Be out of reach of the host's terminal, and at its end take everything along."""
    if hasattr(os, "setsid"):
        os.setsid()
        if os.nice(0) > 0:
            threading.Thread(target=_step_back, name="aiod-nice", daemon=True).start()
    atexit.register(_take_along)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()

    def watch() -> None:
        # Its end of the pipe may live on in a process that the host had forked.
        while os.getppid() == parent:
            time.sleep(1)
        _leave()

    threading.Thread(target=watch, name="aiod-parent", daemon=True).start()


def _step_back() -> None:
    """Be as nice as the host also as a session, of which Linux sees first who gets a processor."""
    for _ in range(20):
        try:
            Path("/proc/self/autogroup").write_text(str(os.nice(0)))
        except BlockingIOError:  # it takes one such wish in a tenth of a second, whose ever it is
            time.sleep(0.1 + os.getpid() % 50 / 250)
        except OSError:
            return
        else:
            return


def _leave() -> None:
    """The host is gone or has no more work: end soon, whatever the model is doing."""

    def end() -> None:
        time.sleep(_SECONDS_TO_LEAVE)
        _take_along()
        os._exit(1)

    threading.Thread(target=end, name="aiod-end", daemon=True).start()
    jobs.put(None)


def _take_along() -> None:
    """Remove the folder this process works in, and end what the model has started."""
    shutil.rmtree(os.environ.get("AIOD_SCRATCH", ""), ignore_errors=True)
    if hasattr(os, "killpg"):
        with contextlib.suppress(ValueError):  # not in the main thread: it ends with the others
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(0, signal.SIGTERM)


def main() -> None:
    """Start Appose's worker with the streams and the process in order."""
    own = str(Path(__file__).parent)  # before Python 3.11 modules are looked for there first
    sys.path[:] = [place for place in sys.path if place not in ("", own)]
    _take_the_process()
    _take_the_streams()
    _state["log"] = os.dup(2)  # the model may close its own
    with contextlib.suppress(OSError):  # opened once: a number that a model closed is taken anew
        _state["status"] = os.open("/proc/self/status", os.O_RDONLY)
    faulthandler.enable(file=_state["log"])
    warnings.showwarning = _warn  # type: ignore[assignment]  # its fifth is never a name
    from appose import python_worker

    python_worker.main()


if __name__ == "__main__":
    main()
