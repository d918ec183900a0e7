"""The cache of weights: where a file of a URL belongs, what is known of it, who may read it.

::

    <cache>/weights/<family>/<key>/<file name>          the file as it was downloaded
                                  /<file name>.json     its record: URL, SHA-256, size, date
                                  /<file name>.part     a download that was interrupted
                                  /<file name>.content/ what an archive holds
    <cache>/hashes/<key>.json                           the hash of the first download of a URL
    <cache>/locks/<key>.lock                            held while a file is brought

``<key>`` is the start of the SHA-256 of the URL, so that no text of a manifest can leave the
cache. A cache may be shared: what is written can be read by the group, and written by it where
the group may write the cache folder itself. A cache that can only be read works as far as it goes.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import unquote

from aiod.errors import AiodError, CacheError
from aiod.files import read_text, reason, write_atomically
from aiod.progress import Progress, Step, silent
from aiod.registry.settings import cache_folder
from aiod.words import RESERVED

_MAX_RECORD_BYTES = 100_000
_MAX_FILE_BYTES = 1 << 60
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a downloaded file: SHA-256 (hexadecimal), bytes, UTC date, time on disk."""

    url: str
    sha256: str
    size: int
    date: str
    modified_ns: int = 0


def _key(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Slot:
    """The places in a cache that belong to one URL (or one archive on disk) of one family."""

    root: Path
    family: str
    source: str

    @property
    def key(self) -> str:
        return _key(self.source)

    @property
    def file(self) -> Path:
        return self.root / "weights" / self.family / self.key / file_name(self.source)

    @property
    def record_file(self) -> Path:
        return self.file.with_name(self.file.name + ".json")

    @property
    def part(self) -> Path:
        return self.file.with_name(self.file.name + ".part")

    @property
    def content(self) -> Path:
        return self.file.with_name(self.file.name + ".content")

    @property
    def first_hash_file(self) -> Path:
        return self.root / "hashes" / f"{self.key}.json"

    @property
    def lock_file(self) -> Path:
        return self.root / "locks" / f"{self.key}.lock"

    def record(self) -> Record | None:
        """The record of a file that is there whole; None where there is none to trust."""
        record = self.kept_record()
        if record is None:
            return None
        try:
            status = self.file.stat()
        except OSError:
            return None
        unchanged = (status.st_size, status.st_mtime_ns) == (record.size, record.modified_ns)
        return record if unchanged else None

    def kept_record(self) -> Record | None:
        """The record as it was written, whatever has become of the file."""
        return _read_record(self.record_file)

    def first_record(self) -> Record | None:
        """What the first download of this URL was; None before it."""
        return _read_record(self.first_hash_file)


@dataclass(frozen=True, slots=True)
class CachedFile:
    """One file of the cache. `problem` says what is wrong with it; None while it looks right."""

    family: str
    path: Path
    record: Record | None
    problem: str | None = None


def slot_for(family: str, source: str) -> Slot:
    """Where the file of a URL belongs in the cache in use."""
    return Slot(cache_folder(), family, source)


def file_name(source: str) -> str:
    """The last part of a URL's path, or of a path, made safe as a file name on every system.

    >>> file_name("https://example.org/a/../weights%20v1.pth?download=1")
    'weights_v1.pth'
    """
    path, is_url, rest = source.partition("://")
    if is_url:
        path = unquote(re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")[2])
    name = path.rpartition("/")[2]
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", name)[-100:].strip("._-") or "weights"
    return f"file_{safe}" if RESERVED.match(safe) else safe


def keep_record(slot: Slot, sha256: str) -> Record:
    """Note what was downloaded, and remember the first hash of a URL for good."""
    status = slot.file.stat()
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    record = Record(slot.source, sha256, status.st_size, now, status.st_mtime_ns)
    text = json.dumps(asdict(record), indent=2) + "\n"
    _write(slot.record_file, text, slot.root)
    if slot.first_record() is None:
        make_folder(slot.root, slot.first_hash_file.parent)
        _write(slot.first_hash_file, text, slot.root)
    return record


def _write(path: Path, text: str, root: Path) -> None:
    if path.is_symlink():  # whoever shares the cache does not choose what is written elsewhere
        path.unlink()
    write_atomically(path, text, mode=file_mode(root))


def sha256_of(path: Path, progress: Progress = silent) -> str:
    """The SHA-256 of a file, hexadecimal. Raises OSError."""
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            progress(Step(f"checking {path.name}", done, total))
    return digest.hexdigest()


def make_folder(root: Path, folder: Path) -> None:
    """Make `folder` below the cache's `root`, as open to the group as the root is.

    Raises CacheError where it cannot be made.
    """
    try:
        if not root.exists():
            root.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(PermissionError):  # another user has just made it
                root.chmod(root.stat().st_mode | 0o050)
        for part in [*reversed(folder.relative_to(root).parents), folder.relative_to(root)]:
            path = root / part
            if not path.exists():
                path.mkdir(exist_ok=True)
                with contextlib.suppress(PermissionError):
                    path.chmod(0o2775 if _group_writes(root) else 0o755)
    except OSError as error:
        raise CacheError(
            f"The cache {root} cannot be written: {reason(error)}.",
            hint="ask its owner to pull the model, or set AIOD_CACHE to a folder of your own",
        ) from error


def file_mode(root: Path) -> int:
    """Permission bits of files in a cache: for the group to write where it may write the root."""
    return 0o664 if _group_writes(root) else 0o644


@contextlib.contextmanager
def locked(slot: Slot, progress: Progress = silent) -> Iterator[None]:
    """Only one process at a time brings the file of a slot; `progress` hears if that is another.

    Raises CacheError.
    """

    def tell() -> None:
        what = f"waiting for another process's download of {slot.file.name}"
        progress(Step(what, 0, None, unit=""))

    make_folder(slot.root, slot.file.parent)
    with lock_named(slot.root, slot.source, tell):
        yield


@contextlib.contextmanager
def lock_named(root: Path, name: str, tell: Callable[[], None] | None = None) -> Iterator[None]:
    """Only one process at a time does what `name` stands for; `tell` is called before a wait.

    Raises CacheError.
    """
    from filelock import FileLock, Timeout

    file = root / "locks" / f"{_key(name)}.lock"
    make_folder(root, file.parent)
    lock = FileLock(file, mode=file_mode(root))
    try:
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=0)
        if not lock.is_locked:
            if tell is not None:
                tell()
            lock.acquire()
    except OSError as error:
        raise CacheError(
            f"The cache {root} cannot be written: {reason(error)}.",
            hint="ask its owner to pull the model, or set AIOD_CACHE to a folder of your own",
        ) from error
    try:
        yield
    finally:
        lock.release()


def cached_files(root: Path | None = None) -> list[CachedFile]:
    """Every downloaded file of a cache, by family and name, without reading the files.

    What was unpacked from an archive that lies elsewhere is an item without a record.
    """
    root = root or cache_folder()
    found = []
    for path in sorted((root / "weights").glob("*/*/*")):
        if _is_record(path):
            found.append(_judged(path))
        elif _is_content(path) and not _has_record(path.with_name(path.name[: -len(".content")])):
            found.append(CachedFile(path.parent.parent.name, path, None))
    return sorted(found, key=lambda item: (item.family, item.path.name))


def _judged(note: Path) -> CachedFile:
    path = note.with_name(note.name.removesuffix(".json"))
    record = _read_record(note)
    problem = None
    try:
        size = path.stat().st_size if path.is_file() else None
    except OSError as error:
        size, problem = 0, reason(error)
    if record is None:
        problem = "its record cannot be read"
    elif size is None:
        problem = "the file is gone"
    elif problem is None and size != record.size:
        problem = f"{size:,} bytes instead of {record.size:,}"
    return CachedFile(note.parent.parent.name, path, record, problem)


def _is_record(path: Path) -> bool:
    """Whether this is the record of a file; a file may be called ``something.json`` itself."""
    name = path.name
    return name.endswith(".json") and name[0] != "." and not _has_record(path)


def _has_record(path: Path) -> bool:
    return os.path.lexists(f"{os.fspath(path)}.json")


def _is_content(path: Path) -> bool:
    return path.name.endswith(".content") and path.name[0] != "." and path.is_dir()


def verify(item: CachedFile, progress: Progress = silent) -> CachedFile:
    """The same file, looked at closely: its hash is computed anew."""
    if item.problem or item.record is None:
        return item
    try:
        actual = sha256_of(item.path, progress)
    except OSError as error:
        return CachedFile(item.family, item.path, item.record, reason(error))
    if actual != item.record.sha256:
        problem = f"sha256 {actual} instead of {item.record.sha256}"
        return CachedFile(item.family, item.path, item.record, problem)
    return item


def leftovers(root: Path | None = None) -> list[Path]:
    """Parts of interrupted downloads and unpackings, and files without a record.

    What another process is just bringing is none.
    """
    root = root or cache_folder()
    found = []
    for path in sorted((root / "weights").glob("*/*/*")):
        known = _is_record(path) or _has_record(path) or _is_content(path)
        if not known and not _is_locked(root / "locks" / f"{path.parent.name}.lock"):
            found.append(path)
    return found


def _is_locked(lock_file: Path) -> bool:
    from filelock import FileLock, Timeout

    if not lock_file.exists():
        return False
    try:
        with FileLock(lock_file, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a cache of others, where nothing can be removed either
        return False


def remove(item: CachedFile | Path) -> int:
    """Take a cached file (with its record and content) or a leftover away; the bytes freed."""
    paths = [item]
    if isinstance(item, CachedFile):
        name = item.path.name
        paths = [item.path, *(item.path.with_name(name + end) for end in (".json", ".content"))]
    freed = 0
    for path in paths:
        assert isinstance(path, Path)
        freed += _size(path)
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise CacheError(f"{path} cannot be removed: {reason(error)}.") from error
    folder = item.path.parent if isinstance(item, CachedFile) else item.parent
    with contextlib.suppress(OSError):  # others keep files there
        folder.rmdir()
    return freed


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(file.lstat().st_size for file in path.rglob("*") if file.is_file())
    return path.lstat().st_size if path.exists() else 0


def _group_writes(root: Path) -> bool:
    return bool(root.stat().st_mode & 0o020)


def _read_record(path: Path) -> Record | None:
    try:
        record = Record(**json.loads(read_text(path, limit=_MAX_RECORD_BYTES)))
    except (AiodError, ValueError, TypeError, RecursionError):
        return None
    types = {"url": str, "sha256": str, "size": int, "date": str, "modified_ns": int}
    typed = all(type(getattr(record, name)) is kind for name, kind in types.items())
    likely = (
        typed
        and re.fullmatch(r"[0-9a-f]{64}", record.sha256)
        and 0 <= record.size < _MAX_FILE_BYTES
    )
    return record if likely else None


def free_bytes(folder: Path) -> int:
    """Free space of the disk that `folder` (or the nearest folder above it) lies on."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
