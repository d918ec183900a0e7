"""A web server on loopback that does to a client whatever servers do, by path."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

# No test waits longer for something that never comes.
PATIENCE = 20.0

Act = Callable[["Request"], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came in."""

    method: str
    path: str
    headers: dict[str, str]


class Request(BaseHTTPRequestHandler):
    """One request, answered by what `Server.paths` has for its path, else with 404."""

    protocol_version = "HTTP/1.1"
    timeout = PATIENCE

    def do_GET(self) -> None:
        home = self.server
        assert isinstance(home, _Listener)
        headers = {name.lower(): value for name, value in self.headers.items()}
        home.owner.note(Asked(self.command, self.path, headers))
        self.close_connection = True
        with contextlib.suppress(OSError):  # the client has gone
            home.owner.paths.get(self.path, status(404))(self)

    do_HEAD = do_GET  # noqa: N815

    def start(self, code: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.flush()

    def give(self, data: bytes) -> None:
        if self.command != "HEAD":
            self.wfile.write(data)
            self.wfile.flush()

    def rest(self, seconds: float) -> None:
        """Be silent for a while, or until the server is closed."""
        self.closing.wait(seconds)

    @property
    def closing(self) -> threading.Event:
        home = self.server
        assert isinstance(home, _Listener)
        return home.owner.closing

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


class _Listener(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    request_queue_size = 64
    owner: Server

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no error here."""


class Server:
    """``with Server() as server: server.paths["/x"] = file(b"...")``; counts what was asked."""

    def __init__(self, certificate: Path | None = None) -> None:
        self.paths: dict[str, Act] = {}
        self.asked: list[Asked] = []
        self.closing = threading.Event()
        self._changed = threading.Condition()
        self._listener = _Listener(("127.0.0.1", 0), Request)
        self._listener.owner = self
        self._scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._listener.socket = context.wrap_socket(self._listener.socket, server_side=True)
            self._scheme = "https"
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.02,))

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop answering; later requests are refused."""
        if self.closing.is_set():
            return
        self.closing.set()
        self._listener.shutdown()
        self._listener.server_close()
        self._thread.join()

    def url(self, path: str) -> str:
        return f"{self._scheme}://127.0.0.1:{self._listener.server_address[1]}{path}"

    def put(self, path: str, act: Act | bytes) -> str:
        """Behave like `act` (or have this file) at `path`; its URL."""
        self.paths[path] = file(act) if isinstance(act, bytes) else act
        return self.url(path)

    def note(self, asked: Asked) -> None:
        with self._changed:
            self.asked.append(asked)
            self._changed.notify_all()

    @property
    def counts(self) -> Counter[str]:
        return Counter(item.path for item in self.asked)

    def wait_for(self, path: str, count: int = 1) -> None:
        """Until `path` has been asked for `count` times."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.counts[path] >= count, PATIENCE), path


def file(
    data: bytes,
    *,
    tag: str | None = "",
    pause_at: int | None = None,
    pause: float = PATIENCE,
    headers: dict[str, str] | None = None,
) -> Act:
    """A file with length, entity tag (by content unless given) and ranges.

    `pause_at` is after how many bytes of the whole file a body stops for `pause` seconds.
    """
    etag = f'"{hashlib.md5(data).hexdigest()}"' if tag == "" else tag

    def act(request: Request) -> None:
        begin = 0
        wanted = request.headers.get("Range")
        if wanted and etag and request.headers.get("If-Range", etag) == etag:
            begin = int(wanted.removeprefix("bytes=").rstrip("-"))
        if begin and begin >= len(data):
            request.start(416, {"Content-Range": f"bytes */{len(data)}", "Content-Length": "0"})
            return
        given = {"Content-Length": str(len(data) - begin), **(headers or {})}
        if etag:
            given["ETag"] = etag
        if begin:
            given["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        request.start(206 if begin else 200, given)
        if pause_at is not None and begin < pause_at < len(data):
            request.give(data[begin:pause_at])
            request.rest(pause)
            begin = pause_at
        request.give(data[begin:])

    return act


def status(code: int, **headers: str) -> Act:
    """No file, but this status."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda request: request.start(code, {"Content-Length": "0", **named})


def redirect(target: str, code: int = 302, **headers: str) -> Act:
    return status(code, Location=target, **headers)


def in_turn(*acts: Act) -> Act:
    """The first request gets the first behaviour, and so on; the last one stays."""
    left = list(acts)
    return lambda request: (left.pop(0) if len(left) > 1 else left[0])(request)


def by_method(**acts: Act) -> Act:
    return lambda request: acts[request.command](request)


def silent(seconds: float = PATIENCE) -> Act:
    """No answer at all."""
    return lambda request: request.rest(seconds)


def late(seconds: float, act: Act) -> Act:
    def wait(request: Request) -> None:
        request.rest(seconds)
        act(request)

    return wait


def drip(head: bytes, *, byte: bytes = b"x", every: float = 0.05) -> Act:
    """These bytes, then one more (or none) now and then, as long as the client stays."""

    def act(request: Request) -> None:
        request.wfile.write(head)
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and not request.closing.is_set():
            request.wfile.write(byte)
            request.wfile.flush()
            request.rest(every)

    return act


def truncated(data: bytes, promised: int, *, tag: str | None = None) -> Act:
    """Less than it said."""

    def act(request: Request) -> None:
        request.start(200, {"Content-Length": str(promised), **({"ETag": tag} if tag else {})})
        request.give(data)

    return act


def endless(piece: bytes = b"\0" * 65536) -> Act:
    """A body without length and without end, until the client has had enough."""

    def act(request: Request) -> None:
        request.start(200, {})
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and request.command != "HEAD":
            request.give(piece)

    return act


def zipped(data: bytes, *, tag: str = '"zipped"') -> Act:
    """A body that is compressed on the way, though nobody asked for it."""
    body = gzip.compress(data)
    return file(body, tag=tag, headers={"Content-Encoding": "gzip"})


def raw(answer: bytes) -> Act:
    """Exactly these bytes, HTTP or not."""

    def act(request: Request) -> None:
        request.wfile.write(answer)
        request.wfile.flush()

    return act
