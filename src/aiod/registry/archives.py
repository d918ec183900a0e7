"""Unpacking archives that may be hostile: nothing outside the folder, no links, bounded in size."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from aiod.errors import LocationError
from aiod.files import reason
from aiod.registry.cache import free_bytes
from aiod.words import byte_size

MAX_FILES = 100_000
MAX_DEPTH = 50
MAX_CONTENT_BYTES = 50_000_000_000
# Weights hardly compress; an archive that grows a thousandfold is a bomb.
MAX_GROWTH = 1000
_LEAST_LIMIT_BYTES = 100_000_000
_RESERVE_BYTES = 200_000_000  # left free on the disk
# A tar file keeps long names in blocks of their own, which are read at once.
_LONGEST_READ_BYTES = 1 << 22
_CHUNK_BYTES = 1 << 20

_ZIP = (".zip",)
_TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    folder: bool
    open: Callable[[], AbstractContextManager[IO[bytes]]]


def is_archive(name: str) -> bool:
    """Whether a file of this name is unpacked; PyTorch's own zips (.pth, .pt) are not."""
    return name.lower().endswith(_ZIP + _TAR)


def unpack(archive: Path, target: Path, *, mode: int = 0o644) -> None:
    """Unpack `archive` to the new folder `target`, whole or not at all.

    Raises LocationError for an archive that is broken, or that holds links, devices, passwords,
    paths leading elsewhere, or more than it may.
    """
    opened = _zip_members if archive.name.lower().endswith(_ZIP) else _tar_members
    folder = None
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        with opened(archive) as members:
            _write(archive, members, folder, _limit(archive, folder), mode)
        for path in (folder, *folder.rglob("*")):
            if path.is_dir():
                path.chmod(0o755 | (mode & 0o060))
        if target.exists():
            shutil.rmtree(target)
        folder.replace(target)
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        lzma.LZMAError,
        struct.error,
        EOFError,
        ArithmeticError,
        LookupError,
        MemoryError,
        NotImplementedError,
        ValueError,
        RuntimeError,
    ) as error:
        raise LocationError(
            f"The archive {archive.name} is broken: {str(error) or type(error).__name__}."
        ) from error
    except FileExistsError as error:
        raise LocationError(f"The archive {archive.name} holds one path twice.") from error
    except OSError as error:
        raise LocationError(f"{archive.name} cannot be unpacked: {reason(error)}.") from error
    finally:
        if folder is not None and folder.exists():
            shutil.rmtree(folder)


def _limit(archive: Path, folder: Path) -> int:
    """How many bytes an archive may unpack to."""
    likely = max(_LEAST_LIMIT_BYTES, MAX_GROWTH * archive.stat().st_size)
    return max(0, min(MAX_CONTENT_BYTES, likely, free_bytes(folder) - _RESERVE_BYTES))


def _write(archive: Path, members: Iterator[_Member], folder: Path, limit: int, mode: int) -> None:
    written = 0
    for count, member in enumerate(members):
        if count >= MAX_FILES:
            raise LocationError(f"The archive {archive.name} holds more than {MAX_FILES:,} files.")
        path = folder / _inside(archive, member.name)
        if member.folder:
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with member.open() as source, path.open("xb") as stream:
            while chunk := source.read(_CHUNK_BYTES):
                written += len(chunk)
                if written > limit:
                    raise LocationError(
                        f"The archive {archive.name} holds more than {byte_size(limit)}."
                    )
                stream.write(chunk)
        path.chmod(mode)


def _inside(archive: Path, name: str) -> PurePosixPath:
    """A member's name as a path that stays below the folder it is unpacked to."""
    path = PurePosixPath(name)
    if len(path.parts) > MAX_DEPTH:
        raise LocationError(
            f"The archive {archive.name} holds folders nested more than {MAX_DEPTH} deep."
        )
    outside = path.is_absolute() or ".." in path.parts
    if outside or not name or "\\" in name or ":" in name or "\0" in name:
        raise LocationError(
            f"The archive {archive.name} holds a path that leads outside: {name!r}."
        )
    return path


@contextmanager
def _zip_members(archive: Path) -> Iterator[Iterator[_Member]]:
    with zipfile.ZipFile(archive) as content:

        def members() -> Iterator[_Member]:
            for info in content.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise _not_a_file(archive, info.filename)
                if info.flag_bits & 1:
                    raise LocationError(f"The archive {archive.name} is locked by a password.")
                name = info.orig_filename.rstrip("/") if info.is_dir() else info.orig_filename
                yield _Member(name, info.is_dir(), lambda info=info: content.open(info))  # type: ignore[misc]

        yield members()


@contextmanager
def _tar_members(archive: Path) -> Iterator[Iterator[_Member]]:
    with (
        archive.open("rb") as file,
        _decompressed(file) as stream,
        tarfile.open(fileobj=_Wary(stream), mode="r:") as content,
    ):

        def members() -> Iterator[_Member]:
            for info in content:
                if not (info.isreg() or info.isdir()) or info.issparse():
                    raise _not_a_file(archive, info.name)
                yield _Member(info.name, info.isdir(), lambda info=info: _tar_file(content, info))  # type: ignore[misc]
            _read_to_end(stream)

        yield members()


def _decompressed(file: IO[bytes]) -> AbstractContextManager[IO[bytes]]:
    start = file.read(6)
    file.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.open(file))
    if start.startswith(b"BZh"):
        return cast("IO[bytes]", bz2.open(file))
    if start.startswith(b"\xfd7zXZ\0"):
        return cast("IO[bytes]", lzma.open(file))
    return file


def _read_to_end(stream: IO[bytes]) -> None:
    """Have the checksum compared that stands at the very end of compressed data."""
    left = _LEAST_LIMIT_BYTES
    while left > 0 and (data := stream.read(_CHUNK_BYTES)):
        left -= len(data)


class _Wary(io.RawIOBase):
    """A stream that refuses to give very much at once."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__()
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LONGEST_READ_BYTES:
            raise tarfile.ReadError(f"a name of {size:,} bytes")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


def _tar_file(content: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    stream = content.extractfile(info)
    if stream is None:
        raise tarfile.ReadError(f"{info.name} has no content")
    return stream


def _not_a_file(archive: Path, name: str) -> LocationError:
    return LocationError(f"The archive {archive.name} holds a link or a device: {name!r}.")
