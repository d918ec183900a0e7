"""A process that works for a window, as the window sees it (see `host`)."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from aiod.errors import AiodError
from aiod.files import reason
from aiod.flow import protocol
from aiod.flow.protocol import Message

_SECONDS_TO_END = 12.0
_SHOWN_OF_LOG = 4000
_TEMPORARY = ("TMPDIR", "TEMP", "TMP")
"""Variables that name the folder for temporary files, on Linux and macOS and on Windows."""
_LESS_URGENT: int = getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0)
"""What Windows is told of it; elsewhere the process does it by itself."""

Outbox = queue.SimpleQueue[Mapping[str, Any] | None]
"""What is to be sent to a process; None is the end."""


class Hosted:
    """The process, from when it is first asked for something until `close`.

    It works in `folder`, where relative paths begin. `hear` gets each message of it, from a thread
    of this object; where the process is lost it gets the event "lost" with its last words, and the
    next `ask` starts another one.
    """

    def __init__(self, hear: Callable[[Message], object], *, folder: Path | None = None) -> None:
        self._hear, self._folder = hear, folder
        self._process: subprocess.Popen[bytes] | None = None
        self._outbox: Outbox = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closing = False

    @property
    def pid(self) -> int | None:
        """The process's number while it runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def ask(self, said: Mapping[str, Any]) -> int | None:
        """Send a request; returns at once, with the number of the process that is asked.

        Raises AiodError where the process cannot be started.
        """
        with self._lock:
            if self._closing:
                return None
            if self._process is None or self._process.poll() is not None:
                try:
                    self._start()
                except OSError as error:
                    raise AiodError(
                        f"The process that does the work cannot be started: {reason(error)}.",
                        hint="close other programs and make room on the disk, then try again",
                    ) from error
            assert self._process is not None
            self._outbox.put(said)
            return self._process.pid

    def stop(self) -> None:
        """Have what is under way end; what it finished is kept."""
        with self._lock:
            self._outbox.put({"do": "stop"})

    def kill(self) -> None:
        """End the process with all it started, at once; it is told of as lost."""
        with self._lock:
            process = self._process
        if process is not None:
            _kill(process)

    def close(self) -> None:
        """End the process with all it started, within seconds; nothing is told any more."""
        with self._lock:
            self._closing = True
            process = self._process
        if process is None:
            return
        self._outbox.put(None)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_SECONDS_TO_END)
        _kill(process)  # and what it left, such as an installer at work
        process.wait()

    def _start(self) -> None:
        # Both outlive the process: somebody may want to read its last words, and what it or its
        # models leave in the folder, as when they are killed, has to go.
        with contextlib.ExitStack() as made:
            log = made.enter_context(tempfile.TemporaryFile(prefix="aiod-host-"))
            scratch = tempfile.TemporaryDirectory(prefix="aiod-host-", ignore_cleanup_errors=True)
            made.callback(scratch.cleanup)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "aiod.flow.host"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self._folder,
                env={**os.environ, **dict.fromkeys(_TEMPORARY, scratch.name)},
                start_new_session=True,
                creationflags=_LESS_URGENT,
            )
            made.pop_all()
        self._outbox = queue.SimpleQueue()
        assert self._process.stdin is not None
        writing = (self._process.stdin, self._outbox)
        threading.Thread(target=_write, args=writing, daemon=True).start()
        reading = (self._process, log, scratch)
        threading.Thread(target=self._read, args=reading, daemon=True).start()

    def _read(
        self,
        process: subprocess.Popen[bytes],
        log: IO[bytes],
        scratch: tempfile.TemporaryDirectory[str],
    ) -> None:
        assert process.stdout is not None
        with process.stdout as told, contextlib.suppress(ValueError, KeyError, TypeError):
            while (message := protocol.read(told)) is not None:
                if not self._closing:
                    self._hear(message)
        process.wait()
        if not self._closing:
            log.seek(0, 2)
            log.seek(max(0, log.tell() - _SHOWN_OF_LOG))
            words = log.read().decode("utf-8", "replace")
            lost = {"event": "lost", "pid": process.pid, "code": process.returncode}
            self._hear(Message({**lost, "words": words}))
        log.close()
        scratch.cleanup()


def _write(stdin: IO[bytes], outbox: Outbox) -> None:
    """Send what is to be said: a pipe takes little at a time, and a window may not wait for it."""
    with contextlib.suppress(OSError), stdin:  # lost: who reads from it tells of that
        while (said := outbox.get()) is not None:
            protocol.write(stdin, said)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and its group: what it started, such as an installer, may not outlive it."""
    with contextlib.suppress(OSError):
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
