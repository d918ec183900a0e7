"""One URL, one file: whatever a server does, the file is right, or there is a sentence."""

from __future__ import annotations

import contextlib
import gc
import gzip
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiod.progress import Step
from aiod.registry import servers
from aiod.registry.download import Download
from aiod.registry.servers import DownloadError, asked
from people import IN_A_WORLD_OF_ITS_OWN, names
from server import (
    Act,
    Server,
    by_method,
    drip,
    endless,
    file,
    in_turn,
    raw,
    redirect,
    silent,
    status,
    truncated,
    zipped,
)

DATA = os.urandom(1_000_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


def bring(
    url: str,
    folder: Path,
    *,
    sha256: str | None = None,
    size: int | None = None,
    seconds: float = 5.0,
) -> Path:
    target = folder / "x.pth"
    Download(url, folder / "x.pth.part", sha256, size, read_seconds=seconds).to(target)
    return target


def why_not(
    url: str,
    folder: Path,
    *,
    sha256: str | None = None,
    size: int | None = None,
    seconds: float = 5.0,
) -> str:
    """The reason for which there is no file; and there is none."""
    with pytest.raises(DownloadError) as caught:
        bring(url, folder, sha256=sha256, size=size, seconds=seconds)
    assert not (folder / "x.pth").exists()
    return caught.value.what


def begun(folder: Path, data: bytes, tag: str) -> None:
    """An interrupted download."""
    (folder / "x.pth.part").write_bytes(data)
    (folder / "x.pth.part.tag").write_text(tag)


def test_a_file_arrives_whole_and_nothing_else_is_left(server: Server, tmp_path: Path) -> None:
    url = server.put("/x.pth", DATA)
    assert bring(url, tmp_path, sha256=SHA256, size=len(DATA)).read_bytes() == DATA
    assert names(tmp_path) == ["x.pth"]
    assert server.counts == {"/x.pth": 1}


def test_progress_is_told_and_whoever_listens_can_stop(server: Server, tmp_path: Path) -> None:
    url = server.put("/x.pth", DATA)
    steps: list[Step] = []
    Download(url, tmp_path / "part", progress=steps.append, label="x").to(tmp_path / "x.pth")
    assert steps[-1] == Step("x", len(DATA), len(DATA))
    assert [step.done for step in steps] == sorted(step.done for step in steps)

    def stop(step: Step) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Download(url, tmp_path / "part", progress=stop).to(tmp_path / "y.pth")
    assert names(tmp_path) == ["part", "part.tag", "x.pth"]


def test_a_wrong_hash_leaves_nothing(server: Server, tmp_path: Path) -> None:
    url = server.put("/x.pth", DATA)
    assert (
        why_not(url, tmp_path, sha256="0" * 64) == f"its sha256 is {SHA256} instead of {'0' * 64}"
    )
    assert names(tmp_path) == []


@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1, 0])
def test_a_wrong_size_leaves_nothing(size: int, server: Server, tmp_path: Path) -> None:
    why = why_not(server.put("/x.pth", DATA), tmp_path, size=size)
    assert "bytes" in why
    assert f"{size:,}" in why
    assert names(tmp_path) == []


def test_a_redirect_is_followed(server: Server, tmp_path: Path) -> None:
    server.put("/x.pth", DATA)
    server.put("/there", redirect("/x.pth", 307))
    url = server.put("/here", redirect(server.url("/there"), 301))
    assert bring(url, tmp_path).read_bytes() == DATA


def test_a_download_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    url = server.put("/x.pth", in_turn(file(DATA, pause_at=700_000), file(DATA)))
    assert why_not(url, tmp_path, seconds=0.3) == "the server stopped answering"
    part = (tmp_path / "x.pth.part").read_bytes()
    assert part
    assert DATA.startswith(part)
    assert bring(url, tmp_path).read_bytes() == DATA
    assert [item.headers.get("range") for item in server.asked] == [None, f"bytes={len(part)}-"]
    assert names(tmp_path) == ["x.pth"]


def test_a_connection_that_breaks_is_continued_at_once(server: Server, tmp_path: Path) -> None:
    tag = f'"{hashlib.md5(DATA).hexdigest()}"'
    broken = truncated(DATA[:700_000], len(DATA), tag=tag)
    url = server.put("/x.pth", in_turn(broken, file(DATA)))
    assert bring(url, tmp_path).read_bytes() == DATA
    first, second = (item.headers.get("range") for item in server.asked)
    assert first is None
    assert second is not None


def test_what_has_changed_on_the_server_is_not_continued(server: Server, tmp_path: Path) -> None:
    new = os.urandom(900_000)
    url = server.put("/x.pth", in_turn(file(DATA, pause_at=700_000), file(new)))
    why_not(url, tmp_path, seconds=0.3)
    assert bring(url, tmp_path).read_bytes() == new


@pytest.mark.parametrize("tag", [None, 'W/"weak"', '"with \x7f control"'])
def test_without_a_strong_tag_a_download_begins_anew(
    tag: str | None, server: Server, tmp_path: Path
) -> None:
    slow = file(DATA, tag=tag, pause_at=700_000)
    url = server.put("/x.pth", in_turn(slow, file(DATA, tag=tag)))
    why_not(url, tmp_path, seconds=0.3)
    assert bring(url, tmp_path).read_bytes() == DATA
    assert "range" not in server.asked[-1].headers


def test_a_part_that_is_already_the_whole_is_no_dead_end(server: Server, tmp_path: Path) -> None:
    url = server.put("/x.pth", file(DATA, tag='"1"'))
    begun(tmp_path, DATA, '"\\"1\\""')
    assert bring(url, tmp_path, sha256=SHA256).read_bytes() == DATA
    begun(tmp_path, DATA + b"more", '"\\"1\\""')
    (tmp_path / "x.pth").unlink()
    assert bring(url, tmp_path).read_bytes() == DATA


@pytest.mark.parametrize(
    "range_", ["bytes 0-999999/1000000", "bytes 5-999999/1000000", "", "nonsense"]
)
def test_a_part_other_than_the_one_asked_for_is_not_glued_on(
    range_: str, server: Server, tmp_path: Path
) -> None:
    def lies(request: object) -> None:
        status(206, Content_Range=range_, ETag='"1"')(request)  # type: ignore[arg-type]

    url = server.put("/x.pth", in_turn(lies, file(DATA, tag='"1"')))
    begun(tmp_path, DATA[:1000], '"\\"1\\""')
    assert bring(url, tmp_path).read_bytes() == DATA


def test_compressed_data_is_unpacked_and_never_continued(server: Server, tmp_path: Path) -> None:
    slow = file(gzip.compress(DATA), pause_at=700_000, headers={"Content-Encoding": "gzip"})
    url = server.put("/x.pth", in_turn(slow, zipped(DATA)))
    assert why_not(url, tmp_path, seconds=0.5)
    assert (tmp_path / "x.pth.part").exists()
    assert not (tmp_path / "x.pth.part.tag").exists()
    assert bring(url, tmp_path, sha256=SHA256, size=len(DATA)).read_bytes() == DATA
    assert "range" not in server.asked[-1].headers


@pytest.mark.parametrize(
    "note", ["", "{", '"tag with \\u00e9"', "5", '"\\"a\\r\\nX: y\\""', "[" * 500]
)
def test_a_spoilt_note_of_a_part_only_costs_time(note: str, server: Server, tmp_path: Path) -> None:
    url = server.put("/x.pth", DATA)
    begun(tmp_path, b"spoilt", note)
    assert bring(url, tmp_path).read_bytes() == DATA


def test_links_and_pipes_in_a_shared_cache_are_not_written_through(
    server: Server, tmp_path: Path
) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    mine = tmp_path / "mine.txt"
    mine.write_text("precious")
    url = server.put("/x.pth", DATA)
    for name in ("x.pth.part", "x.pth.part.tag", "x.pth"):
        (folder / name).symlink_to(mine)
    (folder / "x.pth").unlink()
    with contextlib.suppress(OSError):
        bring(url, folder)
    assert mine.read_text() == "precious"
    assert not mine.stat().st_mode & 0o022
    shutil.rmtree(folder)
    folder.mkdir()
    os.mkfifo(folder / "x.pth.part")
    os.mkfifo(folder / "x.pth.part.tag")
    with contextlib.suppress(OSError):
        bring(url, folder)


@pytest.fixture
def _sockets_of_odd_answers() -> Iterator[None]:
    """urllib3 leaves the socket of an answer that it cannot read to the garbage collector."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


@pytest.mark.usefixtures("_sockets_of_odd_answers")
@pytest.mark.parametrize(
    ("act", "why"),
    [
        (status(404), "the server says 404 Not Found"),
        (status(410), "the server says 410 Gone"),
        (status(403), "the server says 403 Forbidden"),
        (status(500), "the server says 500 Internal Server Error"),
        (status(799), "the server says 799"),
        (status(204), "the server says 204 No Content"),
        (status(304), "the server says 304 Not Modified"),
        (status(206), "the server says 206 Partial Content"),
        (redirect("/x.pth"), "it redirects in circles"),
        (redirect("ftp://127.0.0.1/x"), "a redirect to something other than a website"),
        (redirect("file:///etc/passwd"), "a redirect to something other than a website"),
        (redirect("http://[::bad"), "not a URL that can be fetched"),
        (redirect("http://127.0.0.1:99999/"), "not a URL that can be fetched"),
        (truncated(b"few", 1000), "the connection broke before the end"),
        (zipped(DATA), None),
        (raw(b""), "the server cannot be reached"),
        (raw(b"\0\xff" * 500), None),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\nx"), "an answer that makes no sense"),
        (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n"), None),
        (raw(b"HTTP/1.1 302 Found\r\nLocation: \xff\xfe\r\n\r\n"), None),
        (raw(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n"), None),
        (
            raw(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope"),
            "its data cannot be decoded",
        ),
    ],
)
def test_a_server_that_gives_no_file_is_a_sentence(
    act: Act, why: str | None, server: Server, tmp_path: Path
) -> None:
    found = why_not(server.put("/x.pth", act), tmp_path, sha256="0" * 64, seconds=2)
    assert found == why if why else found
    assert "Traceback" not in found
    assert "object at 0x" not in found


@pytest.mark.usefixtures("_sockets_of_odd_answers")
def test_a_length_of_thousands_of_digits_is_no_crash(server: Server, tmp_path: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n"
    with contextlib.suppress(DownloadError):
        bring(server.put("/x.pth", raw(head + b"weights")), tmp_path, seconds=1)


def test_a_server_that_falters_once_is_asked_again(server: Server, tmp_path: Path) -> None:
    url = server.put("/x.pth", in_turn(status(503), file(DATA)))
    assert bring(url, tmp_path).read_bytes() == DATA


def test_a_server_that_says_no_is_not_asked_again(server: Server, tmp_path: Path) -> None:
    why_not(server.put("/x.pth", status(404)), tmp_path)
    assert server.counts == {"/x.pth": 1}


def test_a_silent_server_is_given_up(server: Server, tmp_path: Path) -> None:
    begin = time.monotonic()
    why = why_not(server.put("/x.pth", silent()), tmp_path, seconds=0.3)
    assert why == "the server stopped answering"
    assert time.monotonic() - begin < 5


@pytest.fixture
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is slow for others shows within half a second."""
    monkeypatch.setattr(servers, "SLOW_SECONDS", 0.5)
    monkeypatch.setattr(servers, "ANSWER_SECONDS", 0.5)


TOO_SLOW = "it sends less than 1,000 bytes a second, over 0.5 s and more"
HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.usefixtures("_hasty", "_sockets_of_odd_answers")
@pytest.mark.parametrize(
    ("head", "why"),
    [
        (HEAD + b"Content-Length: 1000000\r\n\r\n", TOO_SLOW),
        (HEAD + b"\r\n", TOO_SLOW),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n40000\r\n", TOO_SLOW),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n40000;", TOO_SLOW),
        (HEAD + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x08\0\0\0\0\0\0", TOO_SLOW),
        (HEAD + b"X: ", "no answer within 0.5 s"),
        (b"HTTP/1.1 200 ", "no answer within 0.5 s"),
        (b"", "no answer within 0.5 s"),
    ],
)
def test_a_server_that_sends_a_byte_now_and_then_is_given_up(
    head: bytes, why: str, server: Server, tmp_path: Path
) -> None:
    begin = time.monotonic()
    assert why_not(server.put("/x.pth", drip(head)), tmp_path) == why
    assert time.monotonic() - begin < 5


@pytest.mark.usefixtures("_hasty")
def test_what_a_slow_server_sent_is_kept_for_the_next_attempt(
    server: Server, tmp_path: Path
) -> None:
    tag = b'ETag: "v1"\r\n'
    slow = drip(HEAD + tag + b"Content-Length: 1000000\r\n\r\n" + DATA[:400_000], byte=b"")
    url = server.put("/x.pth", in_turn(slow, file(DATA, tag='"v1"')))
    assert why_not(url, tmp_path) == TOO_SLOW
    assert bring(url, tmp_path).read_bytes() == DATA
    assert [item.headers.get("range") for item in server.asked] == [None, "bytes=400000-"]


@pytest.mark.usefixtures("_hasty")
def test_a_server_is_not_slow_while_we_are(server: Server, tmp_path: Path) -> None:
    """Not the time counts that a disk or a person takes, only that in which we wait."""
    url = server.put("/x.pth", DATA)
    Download(url, tmp_path / "part", progress=lambda _: time.sleep(0.1)).to(tmp_path / "x.pth")
    assert (tmp_path / "x.pth").read_bytes() == DATA


def test_a_connection_that_is_refused_and_one_that_is_never_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/x.pth"
        assert why_not(url, tmp_path) == "the server cannot be reached"


@pytest.mark.skipif(sys.platform != "linux", reason="how a full queue behaves is the system's own")
def test_a_connection_that_never_comes_about(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # nobody accepts them, and there is no room for more
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}/x.pth"
        assert why_not(url, tmp_path, seconds=0.5) == "no connection in time"


def test_an_endless_body_ends_where_the_manifest_says(server: Server, tmp_path: Path) -> None:
    why = why_not(server.put("/x.pth", endless()), tmp_path, size=1_000_000)
    assert why == "more than the 1,000,000 bytes that were expected"
    assert names(tmp_path) == []


def test_a_file_that_does_not_fit_is_not_begun(server: Server, tmp_path: Path) -> None:
    url = server.put("/x.pth", DATA)
    assert "free on the disk" in why_not(url, tmp_path, size=10**18)
    url = server.put("/y.pth", truncated(b"few", 10**17))
    assert "free on the disk" in why_not(url, tmp_path)
    assert not (tmp_path / "x.pth.part").exists()


SMALL_DISK = """
import os, subprocess, sys
from pathlib import Path
from aiod.registry.download import Download
from aiod.registry.servers import DownloadError
disk, url = sys.argv[1:]
if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=330m", "none", disk]).returncode:
    sys.exit(77)
try:
    Download(url, Path(disk) / "part").to(Path(disk) / "x.pth")
except DownloadError as error:
    print(error)
print(os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize > 150_000_000)
"""


@pytest.mark.skipif(not shutil.which("unshare"), reason="a small disk is made with Linux's tmpfs")
def test_an_endless_body_never_fills_the_disk(server: Server, tmp_path: Path) -> None:
    url = server.put("/x.pth", endless(b"\0" * 4_000_000))
    made = subprocess.run(
        [*IN_A_WORLD_OF_ITS_OWN, sys.executable, "-c", SMALL_DISK, str(tmp_path), url],
        capture_output=True,
        text=True,
        timeout=60,
    )
    if made.returncode == 77 or "unshare" in made.stderr:
        pytest.skip(f"no small disk can be mounted here: {made.stderr}")
    assert "free on the disk" in made.stdout, made.stderr
    assert made.stdout.endswith("True\n")


def test_a_login_page_is_not_taken_for_weights(server: Server, tmp_path: Path) -> None:
    page = file(b"<html>Log in", headers={"Content-Type": "text/html; charset=utf-8"})
    url = server.put("/x.pth", page)
    assert why_not(url, tmp_path).startswith("a web page instead of a file")
    assert bring(url, tmp_path, size=len(b"<html>Log in")).exists()  # the manifest knows better


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1, with its key, that only these tests trust."""
    if not shutil.which("openssl"):
        pytest.skip("a certificate is made with openssl")
    folder = tmp_path_factory.mktemp("certificate")
    words = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        " -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem"
    )
    made = subprocess.run(
        ["openssl", *words.split()],
        cwd=folder,
        capture_output=True,
    )
    assert made.returncode == 0, made.stderr
    both = folder / "both.pem"
    both.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    return both


def test_a_redirect_from_https_to_http_is_refused(
    certificate: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    plain = server.put("/x.pth", DATA)
    with Server(certificate) as secure:
        assert bring(secure.put("/x.pth", DATA), tmp_path).read_bytes() == DATA
        (tmp_path / "x.pth").unlink()
        why = why_not(secure.put("/away", redirect(plain)), tmp_path, sha256=SHA256)
        assert why == f"a redirect from https to unencrypted http ({plain})"
        there_and_back = redirect(secure.url("/away"))
        why = why_not(server.put("/up", there_and_back), tmp_path)
        assert why.startswith("a redirect from https to unencrypted http")
        server.put("/fine", redirect(secure.url("/x.pth")))
        assert bring(server.url("/fine"), tmp_path).read_bytes() == DATA


@pytest.mark.usefixtures("_hasty")
def test_over_https_a_dripping_server_is_given_up_too(
    certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with Server(certificate) as secure:
        url = secure.put("/x.pth", drip(HEAD + b"Content-Length: 1000000\r\n\r\n"))
        assert why_not(url, tmp_path) == TOO_SLOW
        assert not (tmp_path / "x.pth.part").read_bytes().strip(b"x")


def test_a_certificate_that_nobody_knows_is_not_trusted(certificate: Path, tmp_path: Path) -> None:
    with Server(certificate) as secure:
        why = why_not(secure.put("/x.pth", DATA), tmp_path)
    assert why == "its certificate cannot be trusted"


def test_no_password_of_the_user_is_sent_to_anybody(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = tmp_path / "netrc"
    secrets.write_text("machine 127.0.0.1 login me password secret\n")
    secrets.chmod(0o600)
    monkeypatch.setenv("NETRC", str(secrets))
    server.put("/x.pth", DATA)
    bring(server.put("/here", redirect("/x.pth")), tmp_path)
    with asked(server.url("/here"), method="HEAD"):
        pass
    assert len(server.asked) == 4
    assert not [item for item in server.asked if "authorization" in item.headers]


def test_a_server_that_knows_no_head_can_still_be_asked(server: Server) -> None:
    url = server.put("/x", by_method(HEAD=status(405), GET=file(DATA)))
    with asked(url, method="HEAD") as answer:
        assert answer.status_code == 405
    with asked(url) as answer:
        assert answer.headers["Content-Length"] == str(len(DATA))


@pytest.mark.usefixtures("_sockets_of_odd_answers")
@settings(
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.binary(max_size=200))
def test_whatever_a_server_answers_is_a_file_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, answer: bytes
) -> None:
    folder = tmp_path_factory.mktemp("any")
    with Server() as running:
        url = running.put("/x.pth", raw(b"HTTP/1.1 " + answer))
        with contextlib.suppress(DownloadError):
            bring(url, folder, seconds=2)
