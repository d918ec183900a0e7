"""Bringing one URL to one file: resumable, bounded, checked, whole or not at all.

The flow - temporary file, hash, move - is pooch's; what streams the bytes is ours, so that a
server can neither fill the disk, nor stall for ever, nor lead from https to http, and so that an
interrupted download goes on where it was.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiod.errors import AiodError
from aiod.files import reason
from aiod.progress import Progress, Step, silent
from aiod.registry.cache import free_bytes
from aiod.words import byte_size

if TYPE_CHECKING:
    import requests

log = logging.getLogger(__name__)

CONNECT_SECONDS = 15.0
READ_SECONDS = 60.0  # between two pieces of data, not for the whole file
MAX_DOWNLOAD_BYTES = 100_000_000_000
_CHUNK_BYTES = 1 << 18
_ATTEMPTS = 3
_RESERVE_BYTES = 200_000_000  # left free on the disk
_HEADERS = {"User-Agent": "aiod", "Accept-Encoding": "identity"}


class DownloadError(AiodError):
    """One URL did not give the file it should; `what` is the reason in a few words."""


@dataclass(slots=True)
class Download:
    """How one URL is to be brought: `size` in bytes and `sha256` where they are known."""

    url: str
    part: Path
    sha256: str | None = None
    size: int | None = None
    progress: Progress = silent
    read_seconds: float = READ_SECONDS
    label: str = ""
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

        for attempt in range(self._attempts):
            last = attempt == self._attempts - 1
            try:
                self._stream(url)
                break
            except requests.exceptions.RequestException as error:
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
        import requests

        have, tag = self._resumable()
        headers = dict(_HEADERS)
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": tag}
        with requests.get(
            url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, self.read_seconds)
        ) as response:
            refuse_downgrade(response)
            response.raise_for_status()
            if response.status_code != HTTPStatus.PARTIAL_CONTENT:
                have = 0
            expected = _content_length(response)
            total = self.size if self.size is not None else (expected and have + expected)
            self._check_room(have + (expected or 0), have)
            tag = response.headers.get("ETag", "")
            if tag and not tag.startswith("W/"):
                self._note.write_text(json.dumps(tag))
            else:
                self._note.unlink(missing_ok=True)
            with self.part.open("ab" if have else "wb") as stream:
                done = have
                for chunk in response.iter_content(_CHUNK_BYTES):
                    done += len(chunk)
                    self._check_size(done)
                    stream.write(chunk)
                    self.progress(Step(self.label or url, done, total))
        if self.size is not None and done != self.size:
            self.part.unlink()
            raise DownloadError(f"{done:,} bytes instead of the {self.size:,} of the manifest")

    def _resumable(self) -> tuple[int, str]:
        try:
            tag = json.loads(self._note.read_text())
            size = self.part.stat().st_size
        except (OSError, ValueError):
            return 0, ""
        return (size, tag) if isinstance(tag, str) and tag.isprintable() else (0, "")

    def _check_size(self, done: int) -> None:
        limit = self.size if self.size is not None else MAX_DOWNLOAD_BYTES
        if done > limit:
            self.part.unlink(missing_ok=True)
            raise DownloadError(f"more than the {limit:,} bytes that were expected")

    def _check_room(self, whole: int, have: int) -> None:
        needed = max(self.size or 0, whole) - have
        free = free_bytes(self.part.parent) - _RESERVE_BYTES
        if needed > free:
            raise DownloadError(
                f"{byte_size(needed)} to download, {byte_size(max(0, free))} free on the disk"
            )


@contextlib.contextmanager
def asked(url: str, *, method: str = "GET", seconds: float = READ_SECONDS) -> Iterator[Any]:
    """A server's answer to a question about a URL, redirects followed, its body not read."""
    import requests

    with requests.Session() as session:
        session.max_redirects = 10
        with session.request(
            method,
            url,
            headers=_HEADERS,
            stream=True,
            allow_redirects=True,
            timeout=(min(CONNECT_SECONDS, seconds), seconds),
        ) as response:
            refuse_downgrade(response)
            yield response


def refuse_downgrade(response: requests.Response) -> None:
    """Raise DownloadError where a redirect leads from https to http."""
    urls = [step.url for step in (*response.history, response)]
    encrypted = [url.lower().startswith("https://") for url in urls]
    if any(before and not after for before, after in pairwise(encrypted)):
        raise DownloadError(f"a redirect from https to unencrypted http ({urls[-1]})")


def in_words(error: Exception) -> str:
    """Why a server did not give a file, in a few words."""
    import requests

    response = getattr(error, "response", None)
    if isinstance(error, requests.HTTPError) and response is not None:
        with contextlib.suppress(ValueError):
            phrase = HTTPStatus(response.status_code).phrase
            return f"the server says {response.status_code} {phrase}"
        return f"the server says {response.status_code}"
    for kind, words in (
        (requests.exceptions.SSLError, "its certificate cannot be trusted"),
        (requests.exceptions.ConnectTimeout, "no connection in time"),
        (requests.exceptions.Timeout, "the server stopped answering"),
        (requests.exceptions.TooManyRedirects, "it redirects in circles"),
        (requests.exceptions.ChunkedEncodingError, "the connection broke before the end"),
        (requests.exceptions.ConnectionError, "the server cannot be reached"),
        (requests.exceptions.InvalidURL, "not a URL that can be fetched"),
    ):
        if isinstance(error, kind):
            # urllib3 reports a stall in the middle of a body as a broken connection.
            stalled = "timed out" in str(error).lower()
            return "the server stopped answering" if stalled else words
    return reason(error) if isinstance(error, OSError) and error.strerror else str(error)


def _passing(error: Exception) -> bool:
    """Whether the same request may work a moment later."""
    import requests

    response = getattr(error, "response", None)
    if response is not None:
        return bool(response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR)
    return isinstance(error, requests.exceptions.ChunkedEncodingError)


def _content_length(response: requests.Response) -> int | None:
    value = response.headers.get("Content-Length", "")
    return int(value) if value.isascii() and value.isdigit() else None


def _wrong_hash(message: str, expected: str | None) -> str:
    found = [word for word in re.findall(r"\b[0-9a-f]{64}\b", message) if word != expected]
    return f"its sha256 is {found[0] if found else 'another'} instead of {expected}"
