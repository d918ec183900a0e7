"""The command `aiod` as a person runs it: a real process, a real terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

AIOD = Path(sys.executable).with_name("aiod")
# Makes the terminal the one whose Ctrl-C reaches the process, then becomes `aiod`.
_IN_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def aiod(
    *words: str | Path, cwd: Path | None = None, stdin: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; `environment` is added to the test's own."""
    return subprocess.run(
        [str(AIOD), *map(str, words)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="surrogateescape",
        input=stdin,
        cwd=cwd,
        env={**os.environ, **environment},
        timeout=60,
        check=False,
    )


def fails(
    *words: str | Path, code: int = 1, cwd: Path | None = None, stdin: str = "", **environment: str
) -> str:
    """What a command that must fail says on stderr: a sentence, never a traceback."""
    done = aiod(*words, cwd=cwd, stdin=stdin, **environment)
    assert done.returncode == code, done
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr.strip()
    return done.stderr


def works(*words: str | Path, cwd: Path | None = None, stdin: str = "", **environment: str) -> str:
    """What a command that must work says on stdout."""
    done = aiod(*words, cwd=cwd, stdin=stdin, **environment)
    assert done.returncode == 0, done
    assert "Traceback" not in done.stderr
    return done.stdout


class Terminal:
    """A terminal with `aiod` running in it, driven as a person would: read, then type."""

    def __init__(self, *words: str | Path, columns: int = 100) -> None:
        self.seen = ""
        self._from = 0
        self.screen, terminal = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _IN_TERMINAL, str(AIOD), *map(str, words)],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
            env={**os.environ, "COLUMNS": str(columns), "TERM": "xterm"},
        )
        os.close(terminal)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.screen)  # which ends what still runs in it
        self.process.wait(30)

    def wait_for(self, words: str, seconds: float = 30) -> str:
        """Read until `words` appear after what was waited for last; what came until then."""
        until = time.monotonic() + seconds
        while words not in self.seen[self._from :]:
            left = until - time.monotonic()
            assert left > 0, f"{words!r} did not appear in:\n{self.seen}"
            if not self._read(left):
                assert words in self.seen[self._from :], f"{words!r} is not in:\n{self.seen}"
        start, self._from = self._from, self.seen.index(words, self._from) + len(words)
        return self.seen[start : self._from]

    def type(self, text: str) -> None:
        """Type a line and press Enter."""
        os.write(self.screen, text.encode() + b"\n")

    def press(self, key: bytes) -> None:
        """Press one key, such as Ctrl-D."""
        os.write(self.screen, key)

    def interrupt(self) -> None:
        """Press Ctrl-C as a person would, again where nothing comes of it.

        Python misses one that comes between its prompt and its waiting for a key: readline's
        `select` then sleeps with the signal already noted.
        """
        for _ in range(10):
            self.press(b"\x03")
            until = time.monotonic() + 3
            while self._read(max(0.0, until - time.monotonic())):
                pass
            if self.process.poll() is not None:
                return

    def finish(self, seconds: float = 30) -> int:
        """Read to the end; the exit code."""
        until = time.monotonic() + seconds
        while self._read(max(0.0, until - time.monotonic())):
            pass
        return self.process.wait(30)

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self.screen], [], [], seconds)
        try:
            data = os.read(self.screen, 65536) if ready else b""
        except OSError:  # Linux says so when the other end is closed
            data = b""
        self.seen += plain(data.decode(errors="replace").replace("\r\n", "\n"))
        return bool(data)


def plain(text: str) -> str:
    """Text without colours."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
