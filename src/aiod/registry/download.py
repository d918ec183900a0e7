"""Bringing one URL to one file: resumable, bounded, checked, whole or not at all.

The flow - temporary file, hash, move - is pooch's; what streams the bytes is ours (and
`servers`), so that no server can fill the disk, and so that an interrupted download goes on where
it was.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import stat
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from aiod.errors import AiodError
from aiod.files import read_text
from aiod.progress import Progress, Step, silent
from aiod.registry.cache import free_bytes
from aiod.registry.servers import (
    READ_SECONDS,
    DownloadError,
    asked,
    content_length,
    in_words,
    is_encoded,
    pieces,
    refuse_other_than_a_file,
    refuse_web_page,
)
from aiod.words import byte_size

if TYPE_CHECKING:
    import requests

log = logging.getLogger(__name__)

MAX_DOWNLOAD_BYTES = 100_000_000_000
_ATTEMPTS = 3
_RESERVE_BYTES = 200_000_000  # left free on the disk
_STRIDE_BYTES = 64_000_000  # how often the free space is looked at
_STRONG_TAG = re.compile(r'"[\x21\x23-\x7e]{1,500}"')


@dataclass(slots=True)
class Download:
    """How one URL is to be brought: `size` in bytes and `sha256` where they are known.

    `part` is where an interrupted download waits for the next attempt, and `mode` its permission
    bits. `read_seconds` is how long the server may stay silent.
    """

    url: str
    part: Path
    sha256: str | None = None
    size: int | None = None
    progress: Progress = silent
    read_seconds: float = READ_SECONDS
    label: str = ""
    mode: int = 0o644
    _attempts: int = field(default=_ATTEMPTS, repr=False)

    def to(self, target: Path) -> None:
        """Bring the file to `target`. Raises DownloadError; OSError where a disk says no."""
        import pooch

        pooch.get_logger().setLevel(logging.ERROR)  # what happens is told by `progress`
        try:
            pooch.retrieve(
                self.url,
                known_hash=f"sha256:{self.sha256}" if self.sha256 else None,
                fname=target.name,
                path=target.parent,
                downloader=self,
            )
        except ValueError as error:  # pooch's word for a wrong hash
            raise DownloadError(_wrong_hash(str(error), self.sha256)) from error

    def __call__(self, url: str, output_file: Any, _pooch: object) -> None:
        """Pooch's protocol of a downloader."""
        import requests
        import urllib3

        for attempt in range(self._attempts):
            last = attempt == self._attempts - 1
            try:
                self._stream(url)
                break
            except (
                requests.exceptions.RequestException,
                urllib3.exceptions.HTTPError,
                ValueError,  # of a URL or a header that means nothing
            ) as error:
                log.debug("%s: %s", url, error)
                if last or not _passing(error):
                    raise DownloadError(in_words(error)) from error
        self.part.replace(output_file)
        self._note.unlink(missing_ok=True)

    @property
    def _note(self) -> Path:
        """Beside the part: which state of the URL (its entity tag) it is a part of."""
        return self.part.with_name(self.part.name + ".tag")

    def _stream(self, url: str) -> None:
        have, tag = self._resumable()
        wanted = {"Range": f"bytes={have}-", "If-Range": tag} if have else {}
        with asked(url, seconds=self.read_seconds, headers=wanted) as response:
            status = response.status_code
            fits = status == HTTPStatus.PARTIAL_CONTENT and _first_byte(response) == have
            if not have or status == HTTPStatus.OK or fits:
                self._receive(response, have if fits else 0)
                return
            if status not in (
                HTTPStatus.PARTIAL_CONTENT,
                HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            ):
                refuse_other_than_a_file(response)
        self._forget()  # what we have is no part of what the server has
        self._stream(url)

    def _receive(self, response: requests.Response, have: int) -> None:
        refuse_other_than_a_file(response, have)
        length = content_length(response)
        total = self.size if self.size is not None else (length and have + length)
        if self.size is None and self.sha256 is None:
            refuse_web_page(response, self.part.name.removesuffix(".part"))
        self._check_room(have + (length or 0), have)
        tag = response.headers.get("ETag", "")
        # Of compressed data a part cannot be continued: ranges count the bytes before unpacking.
        resumable = _STRONG_TAG.fullmatch(tag) and not is_encoded(response)
        self._note.unlink(missing_ok=True)
        with self._opened(self.part, append=bool(have)) as stream:
            if resumable:
                with self._opened(self._note) as note:
                    note.write(json.dumps(tag).encode())
            done = have
            for chunk in pieces(response):
                before, done = done, done + len(chunk)
                self._check_size(done)
                if before // _STRIDE_BYTES != done // _STRIDE_BYTES:
                    self._check_room(done + _STRIDE_BYTES, done)
                stream.write(chunk)
                self.progress(Step(self.label or self.url, done, total))
        if self.size is not None and done != self.size:
            self._forget()
            raise DownloadError(f"{done:,} bytes instead of the {self.size:,} of the manifest")

    def _opened(self, path: Path, *, append: bool = False) -> IO[bytes]:
        """`path` for writing: never through a link that another user of the cache put there."""
        flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else os.O_TRUNC)
        for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):
            flags |= getattr(os, name, 0)
        stream = open(os.open(path, flags, self.mode), "wb")  # noqa: PTH123, SIM115
        with contextlib.suppress(PermissionError):  # another user began it
            path.chmod(self.mode)
        return stream

    def _resumable(self) -> tuple[int, str]:
        """How many bytes are here, and of which state of the URL; a foreign part is taken away."""
        try:
            status = self.part.lstat()
            if not stat.S_ISREG(status.st_mode) or not os.access(self.part, os.W_OK):
                self._forget()
                return 0, ""
            tag = json.loads(read_text(self._note, limit=1000))
        except (AiodError, FileNotFoundError, ValueError):
            return 0, ""
        known = isinstance(tag, str) and _STRONG_TAG.fullmatch(tag)
        return (status.st_size, tag) if known else (0, "")

    def _forget(self) -> None:
        self.part.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def _check_size(self, done: int) -> None:
        limit = self.size if self.size is not None else MAX_DOWNLOAD_BYTES
        if done > limit:
            self._forget()
            raise DownloadError(f"more than the {limit:,} bytes that were expected")

    def _check_room(self, whole: int, have: int) -> None:
        needed = max(self.size or 0, whole) - have
        free = free_bytes(self.part.parent) - _RESERVE_BYTES
        if needed > free:
            raise DownloadError(
                f"{byte_size(needed)} to download, {byte_size(max(0, free))} free on the disk"
            )


def _passing(error: Exception) -> bool:
    """Whether the same request may work a moment later."""
    import urllib3

    response = getattr(error, "response", None)
    if response is not None:
        return bool(response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR)
    return isinstance(error, urllib3.exceptions.ProtocolError)


def _first_byte(response: requests.Response) -> int | None:
    """Where in the file the part begins that a server sends."""
    given = re.fullmatch(r"bytes ([0-9]{1,18})-.*", response.headers.get("Content-Range", ""))
    return int(given[1]) if given and not is_encoded(response) else None


def _wrong_hash(message: str, expected: str | None) -> str:
    found = [word for word in re.findall(r"\b[0-9a-f]{64}\b", message) if word != expected]
    return f"its sha256 is {found[0] if found else 'another'} instead of {expected}"
