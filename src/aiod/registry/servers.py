"""Asking servers for URLs, without ever being held by one.

A time-out begins anew with every byte that comes. So an answer has a time in which it must begin,
and its body a least rate.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from http import HTTPStatus
from itertools import pairwise
from typing import TYPE_CHECKING

from aiod.errors import AiodError
from aiod.files import reason

if TYPE_CHECKING:
    import requests

CONNECT_SECONDS = 15.0
READ_SECONDS = 60.0  # between two pieces of data, not for the whole file
ANSWER_SECONDS = 180.0  # until an answer begins, with all its redirects
LEAST_BYTES_PER_SECOND = 1000  # else a server is given up
SLOW_SECONDS = 60.0  # in which that rate is an average
_LOOKS = 20  # at the rate, in that time
_CHUNK_BYTES = 1 << 18
_MAX_REDIRECTS = 10
_HEADERS = {"User-Agent": "aiod", "Accept-Encoding": "identity"}


class DownloadError(AiodError):
    """One URL did not give the file it should; `what` is the reason in a few words."""


@contextlib.contextmanager
def asked(
    url: str,
    *,
    method: str = "GET",
    seconds: float = READ_SECONDS,
    within: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> Iterator[requests.Response]:
    """A server's answer to a question about a URL, redirects followed, its body not read.

    `seconds` is how long the server may stay silent, `within` (else ANSWER_SECONDS) how long it
    may take in all until the answer's body begins.
    """
    with _session() as session:

        def ask() -> requests.Response:
            return session.request(
                method,
                url,
                headers={**_HEADERS, **(headers or {})},
                stream=True,
                allow_redirects=True,
                timeout=(min(CONNECT_SECONDS, seconds), seconds),
            )

        with _in_time(ask, ANSWER_SECONDS if within is None else within) as response:
            refuse_downgrade(response)
            yield response


def _in_time(ask: Callable[[], requests.Response], seconds: float) -> requests.Response:
    """The answer, or a DownloadError after so many seconds, however the server drags it out."""
    answer: Future[requests.Response] = Future()

    def wait() -> None:
        try:
            answer.set_result(ask())
        except Exception as error:  # noqa: BLE001 - it is raised where the answer is awaited
            answer.set_exception(error)

    threading.Thread(target=wait, daemon=True).start()
    try:
        return answer.result(seconds)
    except TimeoutError:
        answer.add_done_callback(_close)
        raise DownloadError(f"no answer within {max(0.0, round(seconds, 1)):g} s") from None


def _close(late: Future[requests.Response]) -> None:
    if late.exception() is None:
        late.result().close()


def pieces(response: requests.Response) -> Iterator[bytes]:
    """The body of an answer, each piece as soon as it has come.

    Raises DownloadError for a server that sends less than LEAST_BYTES_PER_SECOND, and urllib3's
    errors.
    """
    import urllib3

    watch = _Watch(response)
    threading.Thread(target=watch.run, daemon=True).start()
    try:
        while piece := watch.next_piece():
            yield piece
    except urllib3.exceptions.HTTPError:
        if not watch.slow:
            raise
    finally:
        watch.over.set()
    if watch.slow:
        raise DownloadError(
            f"it sends less than {LEAST_BYTES_PER_SECOND:,} bytes a second, "
            f"over {SLOW_SECONDS:g} s and more"
        )


class _Watch:
    """Looks now and then at how much has come, and cuts off a server that sends too little.

    Only the time is counted in which we wait for the server: not that of a slow disk, and hardly
    that in which this process is suspended.
    """

    def __init__(self, response: requests.Response) -> None:
        self.response = response
        self.over = threading.Event()
        self.slow = False
        self._waits = False
        self._done = 0

    def next_piece(self) -> bytes:
        self._waits = True
        piece: bytes = self.response.raw.read1(_CHUNK_BYTES, decode_content=True)
        self._waits = False
        self._done += len(piece)
        return b"" if self.slow else piece  # what follows a cut may be of another encryption

    def run(self) -> None:
        before = waited = 0
        while not self.over.wait(SLOW_SECONDS / _LOOKS):
            waited += self._waits
            if waited == _LOOKS:
                if self._done - before < LEAST_BYTES_PER_SECOND * SLOW_SECONDS:
                    self._cut()
                    return
                before, waited = self._done, 0

    def _cut(self) -> None:
        self.slow = True
        with contextlib.suppress(OSError, RuntimeError, ValueError):  # closed at this moment
            self.response.raw.shutdown()


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
    import urllib3

    response = getattr(error, "response", None)
    if isinstance(error, requests.HTTPError) and response is not None:
        return _status_in_words(response.status_code)
    for kind, words in (
        (requests.exceptions.ProxyError, "the proxy cannot be reached, or refuses"),
        (requests.exceptions.SSLError, "its certificate cannot be trusted"),
        (requests.exceptions.ConnectTimeout, "no connection in time"),
        (requests.exceptions.Timeout, "the server stopped answering"),
        (requests.exceptions.TooManyRedirects, "it redirects in circles"),
        (urllib3.exceptions.TimeoutError, "the server stopped answering"),
        (urllib3.exceptions.ProtocolError, "the connection broke before the end"),
        (urllib3.exceptions.DecodeError, "its data cannot be decoded"),
        (requests.exceptions.ConnectionError, "the server cannot be reached"),
        (requests.exceptions.InvalidHeader, "an answer that makes no sense"),
        (requests.exceptions.InvalidSchema, "a redirect to something other than a website"),
        (ValueError, "not a URL that can be fetched"),
    ):
        if isinstance(error, kind):
            return words
    return reason(error) if isinstance(error, OSError) and error.strerror else str(error)


def _status_in_words(status: int) -> str:
    with contextlib.suppress(ValueError):
        return f"the server says {status} {HTTPStatus(status).phrase}"
    return f"the server says {status}"


def is_encoded(response: requests.Response) -> bool:
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
