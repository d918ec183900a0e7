"""Reading what may be hostile, and writing whole or not at all."""

from __future__ import annotations

import codecs
import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from aiod.errors import AiodError


def read_bytes(path: Path | str, *, limit: int) -> bytes:
    """The content of `path`, which may hold at most `limit` bytes.

    Raises AiodError when the file is missing, unreadable or too large.
    """
    with _opened(path) as (handle, status):
        parts = [os.read(handle, min(status.st_size, limit) + 1)]
        # One byte more than it has was asked for: a file that gave no more is at its end.
        while parts[-1] and (size := sum(map(len, parts))) != status.st_size and size <= limit:
            parts.append(os.read(handle, 1 << 20))
    raw = b"".join(parts)
    if len(raw) > limit:
        raise AiodError(f"{path} is larger than {limit:,} bytes, which no such file needs.")
    return raw


@contextlib.contextmanager
def open_regular(path: Path | str) -> Iterator[BinaryIO]:
    """A file to read parts of; raises AiodError where it is none or cannot be read."""
    with _opened(path) as (handle, _), os.fdopen(handle, "rb", closefd=False) as stream:
        yield stream


@contextlib.contextmanager
def _opened(path: Path | str) -> Iterator[tuple[int, os.stat_result]]:
    try:
        # Not blocking: a pipe that lies where a file is expected is refused instead of waited for.
        handle = os.open(
            path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        )
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise AiodError(f"{path} is not a file.")
            yield handle, status
        finally:
            os.close(handle)
    except OSError as error:
        raise AiodError(f"{path} cannot be read: {reason(error)}.") from error


_NO_TEXT = {
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "a TIFF"),
    b"\x89PNG": "a PNG",
    b"\xff\xd8\xff": "a JPEG",
    b"\x1f\x8b": "a gzip archive",
    b"PK\x03\x04": "a zip archive",
}
"""How files begin that people name in the place of a text."""


def read_text(path: Path | str, *, limit: int) -> str:
    """The UTF-8 text of `path`, which may hold at most `limit` bytes.

    Raises AiodError when the file is missing, unreadable, too large or not UTF-8.
    """
    raw = read_bytes(path, limit=limit)
    try:
        return raw.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        for beginning, kind in _NO_TEXT.items():
            if raw.startswith(beginning):
                raise AiodError(f"{path} is {kind}, and text is expected.") from error
        line = raw[: error.start].count(b"\n") + 1
        raise AiodError(
            f"{path}:{line} is not UTF-8 text: byte {raw[error.start]:#04x} cannot be read.",
            hint="save the file again with the encoding UTF-8",
        ) from error


def write_atomically(path: Path, data: str | Iterable[bytes], *, mode: int | None = None) -> None:
    """Write `data` to `path` so that a reader sees the old file or the new one, never half of one.

    `mode` sets the permission bits; without it an existing file keeps its own and a new one gets
    what the process's umask allows. Raises AiodError when the folder cannot be written.
    """
    parts = [data.encode()] if isinstance(data, str) else data
    target = Path(os.path.realpath(path))  # a symlinked manifest stays a symlink
    temporary = target.with_name(f".{target.name[:100]}.{os.getpid()}-{os.urandom(4).hex()}")
    try:
        if target.exists() and not target.is_file():
            raise AiodError(f"{path} is not a file, and is not replaced by one.")
        if mode is None and target.exists():
            mode = target.stat().st_mode & 0o777
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as stream:
                stream.writelines(parts)
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
