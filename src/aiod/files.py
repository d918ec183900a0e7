"""Reading what may be hostile, and writing whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from aiod.errors import AiodError


def read_text(path: Path, *, limit: int) -> str:
    """The UTF-8 text of `path`, which may hold at most `limit` bytes.

    Raises AiodError when the file is missing, unreadable, too large or not UTF-8.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(limit + 1)
    except OSError as error:
        raise AiodError(f"{path} cannot be read: {reason(error)}.") from error
    if len(raw) > limit:
        raise AiodError(f"{path} is larger than {limit:,} bytes, which no such file needs.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise AiodError(
            f"{path}:{line} is not UTF-8 text: byte {raw[error.start]:#04x} cannot be read.",
            hint="save the file again with the encoding UTF-8",
        ) from error


def write_atomically(path: Path, data: str | bytes, *, mode: int | None = None) -> None:
    """Write `data` to `path` so that a reader sees the old file or the new one, never half of one.

    `mode` sets the permission bits; without it an existing file keeps its own and a new one gets
    what the process's umask allows. Raises AiodError when the folder cannot be written.
    """
    raw = data.encode() if isinstance(data, str) else data
    target = path.resolve()  # a symlinked manifest stays a symlink
    temporary = target.with_name(f".{target.name[:100]}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        if mode is None and target.exists():
            mode = target.stat().st_mode & 0o777
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as stream:
                stream.write(raw)
                stream.flush()
                os.fsync(stream.fileno())
            if mode is not None:
                temporary.chmod(mode)
            temporary.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise AiodError(f"{path} cannot be written: {reason(error)}.") from error


def reason(error: OSError) -> str:
    """Why the operating system said no, without Python's decoration."""
    return (error.strerror or str(error) or type(error).__name__).lower()

