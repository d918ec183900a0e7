"""Many small records in few files: each process appends to one of its own and reads those of all.

A file for each record would be dear where there are many: the file systems of clusters count them,
and ext4 looks longest for room right after as many were removed, as between the images of a batch.

A record is a line, `frame tile bytes`, and so many bytes. Half a record at the end of a file is
none yet, and nothing is read past a line that is no such line.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from aiod.errors import AiodError
from aiod.files import open_regular, reason

SUFFIX = ".tiles"
_LINE = re.compile(rb"(\d{1,12}) (\d{1,12}) (\d{1,12})\n")
_MAX_LINE = 64

Key = tuple[int, int]
"""Numbers of a frame and of a tile."""


class Record(NamedTuple):
    """Where a record lies; no other ever lies there, as the files have names of their own."""

    path: Path
    start: int
    size: int

    def read(self) -> bytes:
        """Its content. Raises AiodError where the file is gone or may not be read."""
        with open_regular(self.path) as stream:
            stream.seek(self.start)
            return stream.read(self.size)


class Journal:
    """The records of a folder, as of the last `look`, and those that this process appended.

    May be used by several threads. Memory: about 400 bytes a record.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._records: dict[Key, tuple[Record, ...]] = {}
        self._ends: dict[Path, int] = {}
        self._own: Path | None = None
        self._lock = threading.Lock()

    def __contains__(self, key: Key) -> bool:
        return key in self._records

    def __iter__(self) -> Iterator[Key]:
        """What there are records of, in order."""
        with self._lock:
            return iter(sorted(self._records))

    def records(self, key: Key) -> tuple[Record, ...]:
        """Where the records of a tile lie: several where it was done twice, the newest last."""
        return self._records.get(key, ())

    def look(self) -> None:
        """Take note of what was appended or removed since, by whomever. Raises AiodError."""
        with self._lock:
            try:
                found = {Path(e.path) for e in os.scandir(self.folder) if e.name.endswith(SUFFIX)}
            except FileNotFoundError:
                found = set()
            except OSError as error:
                raise AiodError(f"{self.folder} cannot be read: {reason(error)}.") from error
            if gone := self._ends.keys() - found:
                self._forget(gone)
            for path in sorted(found - {self._own}):
                self._look_into(path)

    def append(self, records: Sequence[tuple[Key, bytes]]) -> None:
        """Add records to this process's file, at once. Raises OSError: then none was added."""
        lines = [b"%d %d %d\n" % (*key, len(content)) for key, content in records]
        with self._lock:
            parts = zip(lines, (content for _, content in records), strict=True)
            start = self._write(b"".join(itertools.chain.from_iterable(parts)))
            assert self._own is not None
            for line, (key, content) in zip(lines, records, strict=True):
                start += len(line)
                self._add(key, Record(self._own, start, len(content)))
                start += len(content)
            self._ends[self._own] = start

    def _write(self, content: bytes) -> int:
        """Where the content begins in this process's file."""
        if self._own is not None:
            try:
                # Not "a", which would make a file of that name where another process removed it.
                with self._own.open("r+b") as stream:
                    start = stream.seek(0, os.SEEK_END)
                    stream.write(content)
                    return start
            except FileNotFoundError:
                self._forget({self._own})
            except OSError:  # half of it may be there, which a new file lets alone
                path, self._own = self._own, None
                with contextlib.suppress(OSError):
                    os.truncate(path, self._ends[path])
                raise
        path = self.folder / f"{os.getpid()}-{os.urandom(6).hex()}{SUFFIX}"
        try:
            with path.open("xb") as stream:
                stream.write(content)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        self._own = path
        return 0

    def _look_into(self, path: Path) -> None:
        try:
            with open_regular(path) as stream:
                end = self._ends.setdefault(path, 0)
                size = os.fstat(stream.fileno()).st_size
                while end < size:
                    stream.seek(end)
                    line = stream.readline(_MAX_LINE)
                    words = _LINE.fullmatch(line)
                    if not words:
                        return
                    frame, tile, length = map(int, words.groups())
                    start, end = end + len(line), end + len(line) + length
                    if end > size:
                        return
                    self._add((frame, tile), Record(path, start, length))
                    self._ends[path] = end
        except AiodError as error:
            if not isinstance(error.__cause__, FileNotFoundError):  # removed a moment ago
                raise

    def _add(self, key: Key, record: Record) -> None:
        self._records[key] = (*self._records.get(key, ()), record)

    def _forget(self, gone: Iterable[Path]) -> None:
        gone = set(gone)
        for path in gone:
            self._ends.pop(path, None)
        if self._own in gone:
            self._own = None
        left = {
            key: tuple(record for record in records if record.path not in gone)
            for key, records in self._records.items()
        }
        self._records = {key: records for key, records in left.items() if records}
