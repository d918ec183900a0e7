"""The process of a model: started in its environment, asked, timed, and ended whatever happens.

::

    host                                    environment of the model
    Process.ask -- request, JSON lines -->  inside.ask      (Appose's threads)
                                              | queue
                                            inside.serve    (main thread: the model)
                <-- answer, JSON lines ---    |
    Blocks      <== pixels, shared memory ==> |
    Tail        <-- all that it prints ----   stderr
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import weakref
from collections.abc import Iterable, Mapping
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any, Literal

import numpy as np
from appose.service import Service, TaskStatus
from numpy.typing import NDArray

from aiod.registry.settings import offline

_INSIDE = Path(__file__).with_name("inside.py")
_TAIL_BYTES = 64_000
_SECONDS_TO_CLOSE = 3.0
_SECONDS_TO_DIE = 5.0
_SECONDS_OF_GRACE = 1.0  # the process ends itself first, and tells where it hung
_SECONDS_TO_DRAIN = 1.0
_ALIGNED = 64
"""Bytes; arrays in shared memory begin at multiples of it, on both sides."""
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
_MEMORY_WORDS = re.compile(
    r"std::bad_alloc|MemoryError|cannot allocate memory|out of memory|oom-kill", re.IGNORECASE
)


class Tail:
    """The last bytes of what a process prints, however much that is."""

    def __init__(self, limit: int = _TAIL_BYTES) -> None:
        self.position = 0
        self._limit = limit
        self._kept = bytearray()
        self._lock = threading.Lock()

    def add(self, data: bytes) -> None:
        with self._lock:
            self.position += len(data)
            self._kept += data
            if len(self._kept) > 2 * self._limit:
                del self._kept[: -self._limit]

    def since(self, position: int) -> str:
        """What was printed after `position`, as far as it is kept."""
        with self._lock:
            count = min(self.position - position, len(self._kept), self._limit)
            return bytes(self._kept[len(self._kept) - count :]).decode(errors="replace")


class Ended(Exception):
    """The process has ended, or was ended, before it answered. `why` is ended, hung or memory."""

    def __init__(self, why: Literal["ended", "hung", "memory"], code: int | None):
        super().__init__(why, code)
        self.why = why
        self.code = code

    @property
    def words(self) -> str:
        """How it ended: "ended with exit code 3", "was killed by SIGSEGV"."""
        if self.code is None:
            return "ended"
        if self.code >= 0:
            return f"ended with exit code {self.code}"
        try:
            return f"was killed by {signal.Signals(-self.code).name}"
        except ValueError:
            return f"was killed by signal {-self.code}"


class Lost(Exception):
    """The process answers, but not as the protocol has it."""


class _Service(Service):  # type: ignore[misc]  # appose has no types
    """Appose's service, whose memory of what the worker prints is bounded."""

    def __init__(self, folder: str, variables: Mapping[str, str | None], *words: str) -> None:
        super().__init__(folder, dict(variables), *words)
        self.tail = Tail()

    def _stderr_loop(self) -> None:
        assert self._process is not None
        handle = self._process.stderr.fileno()
        while chunk := os.read(handle, 1 << 16):
            self.tail.add(chunk)

    @property
    def process(self) -> subprocess.Popen[str]:
        process = self._process
        assert isinstance(process, subprocess.Popen)
        return process

    def drain(self) -> None:
        """Wait until all that an ended process printed has been read."""
        if self._stderr_thread is not None:
            self._stderr_thread.join(_SECONDS_TO_DRAIN)

    def hang_up(self) -> None:
        """Close the pipes from an ended process, unless something it left behind holds them."""
        pairs = (
            (self._stdout_thread, self.process.stdout),
            (self._stderr_thread, self.process.stderr),
        )
        for thread, stream in pairs:
            if thread is not None and stream is not None:
                thread.join(_SECONDS_TO_DRAIN)
                if not thread.is_alive():
                    stream.close()


class Process:
    """A running worker. It ends with `close`, with this object, or with the host, even if killed.

    Raises OSError where it cannot be started.
    """

    def __init__(self, python: Path, threads: int) -> None:
        self._scratch = tempfile.mkdtemp(prefix="aiod-worker-")
        self._service = _Service(
            self._scratch, variables(threads, self._scratch), str(python), "-s", str(_INSIDE)
        )
        self._blocks: dict[str, shared_memory.SharedMemory] = {}
        self._end = weakref.finalize(self, _end, self._service, self._blocks, self._scratch)
        try:
            _start(self._service)
            self._service.task("import __main__\n__main__.serve()", queue="main").start()
        except BaseException:
            self._end()
            raise

    @property
    def pid(self) -> int:
        return self._service.process.pid

    @property
    def alive(self) -> bool:
        return bool(self._service.is_alive())

    @property
    def tail(self) -> Tail:
        tail = self._service.tail
        assert isinstance(tail, Tail)
        return tail

    def ask(self, request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """The answer to a request. Raises Ended or Lost; then the process must be closed."""
        done = threading.Event()
        killed_before = _oom_kills()
        task = self._service.task(
            "import __main__\n__main__.ask(request)", {"request": {**request, "seconds": seconds}}
        )

        def heard(event: Any) -> None:
            if event.response_type.is_terminal():
                done.set()

        task.listen(heard)
        started = time.monotonic()
        try:
            task.start()
        except (OSError, ValueError) as error:  # a broken pipe: it had ended before
            raise self._ended(started, seconds, killed_before) from error
        until = started + seconds + _SECONDS_OF_GRACE
        while not done.wait(min(0.25, max(0.0, until - time.monotonic()))):
            if not self.alive:
                if not done.wait(0.25):  # its last words may still be on the way
                    break
            elif time.monotonic() >= until:
                raise Ended("hung", None)
        if task.status is TaskStatus.COMPLETE:
            return dict(task.outputs)
        if task.status is TaskStatus.FAILED and self.alive:
            raise Lost(str(task.error))
        raise self._ended(started, seconds, killed_before)

    def _ended(self, started: float, seconds: float, killed_before: int) -> Ended:
        took = time.monotonic() - started
        process = self._service.process
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_SECONDS_TO_DIE)
        self._service.drain()
        code = process.returncode
        if took >= seconds:
            return Ended("hung", code)
        last = self.tail.since(self.tail.position - 4000)
        by_system = code == -getattr(signal, "SIGKILL", 9) and _oom_kills() > killed_before
        return Ended("memory" if by_system or _MEMORY_WORDS.search(last) else "ended", code)

    def put(self, arrays: Iterable[NDArray[Any]]) -> list[dict[str, Any]]:
        """Copy arrays into the block that the process reads; where they are. Raises OSError."""
        places: list[dict[str, Any]] = []
        offset = 0
        arrays = list(arrays)
        for array in arrays:
            dtype = str(array.dtype.newbyteorder("="))
            places.append({"shape": list(array.shape), "dtype": dtype, "offset": offset})
            offset += -(-array.nbytes // _ALIGNED) * _ALIGNED
        block = self.room("in", offset)
        for array, place in zip(arrays, places, strict=True):
            view = np.ndarray(array.shape, place["dtype"], block.buf, place["offset"])
            np.copyto(view, array)
        return places

    def take(self, shapes: Iterable[tuple[int, ...]], dtypes: Iterable[str]) -> list[NDArray[Any]]:
        """Copies of the arrays that the process has left in its block, one behind the other."""
        offsets, end = [], 0
        kinds = [
            (tuple(shape), np.dtype(dtype)) for shape, dtype in zip(shapes, dtypes, strict=True)
        ]
        for shape, dtype in kinds:
            offsets.append(end)
            end += -(-math.prod(shape) * dtype.itemsize // _ALIGNED) * _ALIGNED
        # In one piece, which the system gives memory to at once: a seventh of the time.
        copied = np.ndarray(end, np.uint8, self._blocks["out"].buf).copy()
        return [np.ndarray(*kind, copied.data, at) for kind, at in zip(kinds, offsets, strict=True)]

    def room(self, role: str, size: int) -> shared_memory.SharedMemory:
        """A block of at least `size` bytes that both sides hold; it has no name any more.

        Without a name it vanishes with the two processes, however they end. Raises OSError
        where the memory is not to be had.
        """
        block = self._blocks.get(role)
        if block is not None and block.size >= size:
            return block
        new = shared_memory.SharedMemory(create=True, size=max(size, 1 << 16))
        try:
            _reserve(new)
            request = {"action": "attach", "role": role, "name": new.name}
            answer = self.ask(request, _SECONDS_TO_DIE)
            if "failure" in answer:
                raise OSError(errno.ENOMEM, str(answer["message"]))
        except BaseException:
            new.close()
            raise
        finally:
            new.unlink()
        if block is not None:
            block.close()
        self._blocks[role] = new
        return new

    def close(self) -> None:
        """End the process and give its memory back; nothing happens the second time."""
        self._end()

    def kill(self) -> None:
        """End the process and all that it has started, at once."""
        _kill(self._service)
        self._end()


def variables(threads: int, scratch: str) -> dict[str, str | None]:
    """What the environment variables of a worker differ in from the host's; None takes one away."""
    ours = ("PYTHON", "UV_", "PIP_", "CONDA_", "VIRTUAL_ENV")
    changed: dict[str, str | None] = {name: None for name in os.environ if name.startswith(ours)}
    changed |= dict.fromkeys(_THREADS, str(threads))
    changed |= {
        "PYTHONNOUSERSITE": "1",
        "PYTHONSAFEPATH": "1",
        "PYTHONHASHSEED": "0",  # the same run again goes the same way
        "PYTHONUTF8": "1",
        "AIOD_SCRATCH": scratch,
    }
    if offline():
        changed |= dict.fromkeys(("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"), "1")
    return changed


def _start(service: _Service) -> None:
    """Start a service from a daemon thread: its own threads inherit that, and end with the host."""
    raised: list[BaseException] = []

    def start() -> None:
        try:
            service.start()
        except BaseException as error:  # noqa: BLE001 -- raised again where it belongs
            raised.append(error)

    thread = threading.Thread(target=start, daemon=True)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


def _end(service: _Service, blocks: dict[str, shared_memory.SharedMemory], scratch: str) -> None:
    if service._process is not None:
        with contextlib.suppress(OSError, ValueError):
            service.process.stdin.close()  # type: ignore[union-attr]  # it is a pipe
        try:
            service.process.wait(_SECONDS_TO_CLOSE)
        except subprocess.TimeoutExpired:
            _kill(service)
        service.drain()
        service.hang_up()
    for block in blocks.values():
        block.close()
    blocks.clear()
    shutil.rmtree(scratch, ignore_errors=True)


def _kill(service: _Service) -> None:
    """End a process and what it has started, which outlives it where it ended by itself."""
    process = service.process
    if os.name != "nt":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    elif process.poll() is None:
        subprocess.run(  # noqa: S603
            ["taskkill", "/F", "/T", "/PID", str(process.pid)],  # noqa: S607
            capture_output=True,
            check=False,
        )
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.kill()
        process.wait(_SECONDS_TO_DIE)


def _reserve(block: shared_memory.SharedMemory) -> None:
    """Have the system set the memory aside now; else a full /dev/shm kills whoever writes."""
    handle = getattr(block, "_fd", -1)
    if hasattr(os, "posix_fallocate") and handle >= 0:
        os.posix_fallocate(handle, 0, block.size)


def _oom_kills() -> int:
    """How many processes Linux has killed for want of memory."""
    try:
        found = re.search(r"^oom_kill (\d+)$", Path("/proc/vmstat").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0
