"""Bringing one URL to one file: resumable, bounded, checked, whole or not at all.

The flow - temporary file, hash, move - is pooch's; what streams the bytes is ours, so that a
server can neither fill the disk, nor stay silent for ever, nor lead from https to http, and so
that an interrupted download goes on where it was.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from aiod.errors import AiodError
from aiod.files import read_text, reason
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
_STRIDE_BYTES = 64_000_000  # how often the free space is looked at
_MAX_REDIRECTS = 10
_STRONG_TAG = re.compile(r'"[\x21\x23-\x7e]{1,500}"')
_HEADERS = {"User-Agent": "aiod", "Accept-Encoding": "identity"}


class DownloadError(AiodError):
    """One URL did not give the file it should; `what` is the reason in a few words."""


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
        resumable = _STRONG_TAG.fullmatch(tag) and not _is_encoded(response)
        self._note.unlink(missing_ok=True)
        with self._opened(self.part, append=bool(have)) as stream:
            if resumable:
                with self._opened(self._note) as note:
                    note.write(json.dumps(tag).encode())
            done = have
            for chunk in response.iter_content(_CHUNK_BYTES):
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


@contextlib.contextmanager
def asked(
    url: str,
    *,
    method: str = "GET",
    seconds: float = READ_SECONDS,
    headers: Mapping[str, str] | None = None,
) -> Iterator[requests.Response]:
    """A server's answer to a question about a URL, redirects followed, its body not read."""
    with (
        _session() as session,
        session.request(
            method,
            url,
            headers={**_HEADERS, **(headers or {})},
            stream=True,
            allow_redirects=True,
            timeout=(min(CONNECT_SECONDS, seconds), seconds),
        ) as response,
    ):
        refuse_downgrade(response)
        yield response


def _session() -> requests.Session:
    """What asks servers: with the proxies of the environment, without a password of anybody.

    requests by itself sends those of ``~/.netrc`` to any host that a manifest or a redirect names.
    """
    import requests

    class Session(requests.Session):
        def rebuild_auth(self, *_: object, **__: object) -> None:
            """After a redirect there is no password to send either."""

    session = Session()
    session.auth = lambda request: request
    session.max_redirects = _MAX_REDIRECTS
    return session


def refuse_other_than_a_file(response: requests.Response, have: int = 0) -> None:
    """Raise unless an answer brings a file, or with `have` bytes here already its rest."""
    response.raise_for_status()
    if response.status_code != (HTTPStatus.PARTIAL_CONTENT if have else HTTPStatus.OK):
        raise DownloadError(_status_in_words(response.status_code))


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
        return _status_in_words(response.status_code)
    for kind, words in (
        (requests.exceptions.ProxyError, "the proxy cannot be reached, or refuses"),
        (requests.exceptions.SSLError, "its certificate cannot be trusted"),
        (requests.exceptions.ConnectTimeout, "no connection in time"),
        (requests.exceptions.Timeout, "the server stopped answering"),
        (requests.exceptions.TooManyRedirects, "it redirects in circles"),
        (requests.exceptions.ChunkedEncodingError, "the connection broke before the end"),
        (requests.exceptions.ContentDecodingError, "its data cannot be decoded"),
        (requests.exceptions.ConnectionError, "the server cannot be reached"),
        (requests.exceptions.InvalidHeader, "an answer that makes no sense"),
        (requests.exceptions.InvalidSchema, "a redirect to something other than a website"),
        (ValueError, "not a URL that can be fetched"),
    ):
        if isinstance(error, kind):
            # urllib3 reports a stall in the middle of a body as a broken connection.
            stalled = "read timed out" in str(error).lower()
            return "the server stopped answering" if stalled else words
    return reason(error) if isinstance(error, OSError) and error.strerror else str(error)


def _status_in_words(status: int) -> str:
    with contextlib.suppress(ValueError):
        return f"the server says {status} {HTTPStatus(status).phrase}"
    return f"the server says {status}"


def _passing(error: Exception) -> bool:
    """Whether the same request may work a moment later."""
    import requests

    response = getattr(error, "response", None)
    if response is not None:
        return bool(response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR)
    return isinstance(error, requests.exceptions.ChunkedEncodingError)


def _first_byte(response: requests.Response) -> int | None:
    """Where in the file the part begins that a server sends."""
    given = re.fullmatch(r"bytes ([0-9]{1,18})-.*", response.headers.get("Content-Range", ""))
    return int(given[1]) if given and not _is_encoded(response) else None


def _is_encoded(response: requests.Response) -> bool:
    return response.headers.get("Content-Encoding", "identity") != "identity"


def refuse_web_page(response: requests.Response, name: str) -> None:
    """Raise DownloadError for a page that comes instead of a file, as from a hotel's network."""
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind == "text/html" and not name.lower().endswith((".html", ".htm")):
        raise DownloadError("a web page instead of a file, as a network's log-in page would be")


def content_length(response: requests.Response) -> int | None:
    """How many bytes a server says that it will send; None where it does not."""
    value = response.headers.get("Content-Length", "")
    return int(value) if re.fullmatch(r"[0-9]{1,18}", value) else None


def _wrong_hash(message: str, expected: str | None) -> str:
    found = [word for word in re.findall(r"\b[0-9a-f]{64}\b", message) if word != expected]
    return f"its sha256 is {found[0] if found else 'another'} instead of {expected}"
