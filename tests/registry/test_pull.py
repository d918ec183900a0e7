"""Pulling: weights arrive whole, checked, once, from the first location that works."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiod.errors import LocationError
from aiod.progress import Step
from aiod.registry import Registry, load, servers
from aiod.registry.cache import cached_files, leftovers, remove, slot_for
from aiod.registry.pull import Weights, pull
from families import family
from people import an_ordinary_user, names, umask
from server import PATIENCE, Server, drip, file, in_turn, late, redirect, silent, status, truncated

MakeLayer = Callable[..., Path]
DATA = os.urandom(1_000_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
MODEL = "toy/v1/nuclei"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture
def lab(make_layer: MakeLayer) -> Callable[..., Registry]:
    """The registry with a layer whose one model has these locations."""

    def loaded(*locations: str | dict[str, Any]) -> Registry:
        entries = [{"location": item} if isinstance(item, str) else item for item in locations]
        versions = {"v1": {"axes": "YX", "tasks": {"nuclei": {"locations": entries}}}}
        registry = load([make_layer("lab", family(versions=versions))])
        assert not registry.problems
        return registry

    return loaded


def entry(url: str, **known: Any) -> dict[str, Any]:
    return {"location": url, **known}


def bring(registry: Registry, **how: Any) -> Weights:
    return pull(registry, MODEL, **{"seconds": 5.0, **how})


def failed(registry: Registry, **how: Any) -> LocationError:
    with pytest.raises(LocationError) as caught:
        bring(registry, **how)
    assert caught.value.what == f"The weights of {MODEL} cannot be had from any of their locations."
    return caught.value


def a_zip(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as content:
        for name, data in members.items():
            content.writestr(name, data)
    return stream.getvalue()


def pulling(lab: Path, *, seconds: float = PATIENCE) -> subprocess.Popen[str]:
    """Another process that pulls the model of a layer."""
    program = (
        "import sys; from aiod.registry import load; from aiod.registry.pull import pull\n"
        f"weights = pull(load([sys.argv[1]]), {MODEL!r}, seconds={seconds})\n"
        "print(weights.path.read_bytes()[:4].hex(), weights.fresh)"
    )
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program, str(lab)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_weights_arrive_whole_and_stay(server: Server, lab: Callable[..., Registry]) -> None:
    url = server.put("/x.pth", DATA)
    registry = lab(entry(url, sha256=SHA256, size=len(DATA)))
    weights = bring(registry)
    assert weights.path is not None
    assert weights.path.read_bytes() == DATA
    assert (weights.sha256, weights.size, weights.source) == (SHA256, len(DATA), url)
    assert weights.fresh
    again = bring(registry)
    assert (again.path, again.fresh) == (weights.path, False)
    assert server.counts == {"/x.pth": 1}


def test_an_algorithm_needs_no_weights(make_layer: MakeLayer) -> None:
    document = family(versions={"v1": {"axes": "YX", "tasks": {"nuclei": {"weights": False}}}})
    weights = pull(load([make_layer("lab", document)]), MODEL)
    assert (weights.path, weights.source, weights.fresh) == (None, None, False)


def test_the_config_comes_along(server: Server, lab: Callable[..., Registry]) -> None:
    url = server.put("/x.pth", DATA)
    config = server.put("/x.json", b"{}")
    weights = bring(lab(entry(url, config_path=config)))
    assert weights.config is not None
    assert weights.config.read_bytes() == b"{}"
    assert server.counts == {"/x.pth": 1, "/x.json": 1}
    assert [item.problem for item in cached_files()] == [None, None]


def test_without_its_config_a_location_is_of_no_use(
    server: Server, lab: Callable[..., Registry]
) -> None:
    url = server.put("/x.pth", DATA)
    missing = server.url("/missing.json")
    error = failed(lab(entry(url, config_path=missing)))
    assert error.details == (f"{url}: its config {missing}: the server says 404 Not Found",)
    other = server.put("/y.pth", DATA)
    assert bring(lab(entry(url, config_path=missing), other)).source == other


def test_the_next_location_is_tried_and_the_last_error_lists_all(
    server: Server, lab: Callable[..., Registry], tmp_path: Path
) -> None:
    wrong = server.put("/wrong", b"something else")
    short = server.put("/short", b"few")
    bad = [
        entry(str(tmp_path / "gone.pth")),
        entry(server.url("/404")),
        entry(server.put("/500", status(500))),
        entry(wrong, sha256=SHA256),
        entry(short, size=len(DATA)),
        entry(server.put("/cut", truncated(b"few", 1000))),
        entry(server.put("/silent", silent())),
        entry(server.put("/circle", redirect("/circle"))),
    ]
    error = failed(lab(*bad), seconds=0.5)
    assert [
        line.removeprefix(f"{item['location']}: ")
        for line, item in zip(error.details, bad, strict=True)
    ] == [
        "no such file or directory",
        "the server says 404 Not Found",
        "the server says 500 Internal Server Error",
        f"its sha256 is {hashlib.sha256(b'something else').hexdigest()} instead of {SHA256}",
        f"3 bytes instead of the {len(DATA):,} of the manifest",
        "the connection broke before the end",
        "the server stopped answering",
        "it redirects in circles",
    ]
    assert error.hint == "`aiod check-links` tells which locations work from here"
    good = server.put("/good.pth", DATA)
    assert bring(lab(*bad, entry(good, sha256=SHA256)), seconds=0.5).source == good


def test_after_a_location_that_drips_the_next_is_tried(
    server: Server, lab: Callable[..., Registry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "SLOW_SECONDS", 0.5)
    slow = server.put("/slow.pth", drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"))
    assert failed(lab(slow)).details == (
        f"{slow}: it sends less than 1,000 bytes a second, over 0.5 s and more",
    )
    good = server.put("/x.pth", DATA)
    assert bring(lab(slow, good)).source == good


def test_a_readable_path_is_used_where_it_lies(
    server: Server, lab: Callable[..., Registry], tmp_path: Path
) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(DATA)
    url = server.put("/x.pth", DATA)
    weights = bring(lab(entry(str(path), sha256=SHA256, size=len(DATA)), url))
    assert (weights.path, weights.file, weights.fresh) == (path, path, False)
    assert not server.asked
    assert cached_files() == []


def test_the_hash_and_the_size_of_a_path_are_checked(
    lab: Callable[..., Registry], tmp_path: Path
) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(DATA)
    assert failed(lab(entry(str(path), sha256="0" * 64))).details == (
        f"{path}: its sha256 is {SHA256} instead of {'0' * 64}",
    )
    assert failed(lab(entry(str(path), size=5))).details == (
        f"{path}: 1,000,000 bytes instead of the 5 of the manifest",
    )
    assert "a folder" in failed(lab(entry(str(tmp_path), sha256=SHA256))).details[0]
    assert bring(lab(str(tmp_path))).path == tmp_path


def test_the_first_hash_is_remembered_and_a_change_is_an_error(
    server: Server, lab: Callable[..., Registry]
) -> None:
    url = server.put("/x.pth", DATA)
    registry = lab(url)
    first = bring(registry)
    for item in cached_files():
        remove(item)
    server.put("/x.pth", b"changed")
    (line,) = failed(registry).details
    changed = hashlib.sha256(b"changed").hexdigest()
    for said in ("has changed since", SHA256, "1,000,000 bytes", changed, "7 bytes", "--accept"):
        assert said in line
    assert cached_files() == []
    assert leftovers() == []
    accepted = bring(registry, accept_changed=True)
    assert first.path == accepted.path
    assert accepted.sha256 == changed
    for item in cached_files():
        remove(item)
    assert bring(registry).sha256 == changed  # which is now what is remembered


def test_a_remembered_hash_that_cannot_be_read_is_not_forgotten(
    server: Server, lab: Callable[..., Registry]
) -> None:
    registry = lab(server.put("/x.pth", DATA))
    bring(registry)
    for item in cached_files():
        remove(item)
    (spoilt,) = (slot_for("toy", "x").root / "hashes").iterdir()
    spoilt.write_text("{")
    server.put("/x.pth", b"changed")
    error = failed(registry)
    assert "the hash of its first download cannot be read" in error.details[0].lower()
    assert "remove that file" in str(error.hint)
    spoilt.unlink()
    assert bring(registry).fresh


def test_the_hash_of_the_manifest_goes_before_the_remembered_one(
    server: Server, lab: Callable[..., Registry]
) -> None:
    url = server.put("/x.pth", b"old")
    bring(lab(url))
    server.put("/x.pth", DATA)
    assert bring(lab(entry(url, sha256=SHA256))).sha256 == SHA256


def test_a_wrong_hash_in_a_manifest_loses_nothing(
    server: Server, lab: Callable[..., Registry]
) -> None:
    url = server.put("/x.pth", DATA)
    good = bring(lab(url))
    failed(lab(entry(url, sha256="0" * 64)))
    assert good.path is not None
    assert good.path.read_bytes() == DATA
    assert not bring(lab(url)).fresh


def test_a_copied_cache_is_as_good_as_the_first(
    server: Server, lab: Callable[..., Registry]
) -> None:
    """A copy has new times, so what it holds is compared by hash."""
    registry = lab(server.put("/x.pth", DATA))
    path = bring(registry).path
    assert path is not None
    os.utime(path, ns=(1, 1))
    assert not bring(registry).fresh
    path.write_bytes(b"spoilt")
    assert bring(registry).fresh
    assert path.read_bytes() == DATA


def test_a_file_put_into_the_cache_by_hand_is_taken_for_its_hash_only(
    server: Server, lab: Callable[..., Registry]
) -> None:
    url = server.put("/x.pth", DATA)
    slot = slot_for("toy", url)
    slot.file.parent.mkdir(parents=True)
    slot.file.write_bytes(DATA)
    assert not bring(lab(entry(url, sha256=SHA256))).fresh
    assert bring(lab(url)).fresh


def test_two_processes_download_once(
    server: Server, lab: Callable[..., Registry], tmp_path: Path
) -> None:
    server.put("/x.pth", file(DATA, pause_at=500_000, pause=1.0))
    registry = lab(server.url("/x.pth"))
    folder = registry.layers[-1].folder
    processes = [pulling(folder) for _ in range(3)]
    said = [process.communicate(timeout=60) for process in processes]
    assert [error for _, error in said] == [""] * 3
    assert sorted(out for out, _ in said) == [
        f"{DATA[:4].hex()} False\n",
        f"{DATA[:4].hex()} False\n",
        f"{DATA[:4].hex()} True\n",
    ]
    assert server.counts == {"/x.pth": 1}


def test_who_waits_for_another_process_is_told_once_and_for_which_file(
    server: Server, lab: Callable[..., Registry]
) -> None:
    registry = lab(server.put("/x.pth", file(DATA, pause_at=500_000, pause=1.0)))
    process = pulling(registry.layers[-1].folder)
    server.wait_for("/x.pth")
    steps: list[Step] = []
    assert not bring(registry, progress=steps.append).fresh
    assert steps == [Step("waiting for another process's download of x.pth", 0, None, unit="")]
    process.communicate(timeout=PATIENCE)


def test_who_need_not_wait_is_told_nothing_of_it(
    server: Server, lab: Callable[..., Registry]
) -> None:
    steps: list[Step] = []
    bring(lab(server.put("/x.zip", a_zip(weights=DATA))), progress=steps.append)
    assert {step.what for step in steps} == {"x.zip", "checking x.zip"}


def test_a_killed_download_leaves_no_file_and_is_continued(
    server: Server, lab: Callable[..., Registry]
) -> None:
    url = server.put("/x.pth", in_turn(file(DATA, pause_at=600_000), file(DATA)))
    registry = lab(url)
    slot = slot_for("toy", url)
    process = pulling(registry.layers[-1].folder)
    try:
        until = time.monotonic() + PATIENCE
        while not (slot.part.exists() and slot.part.stat().st_size) and time.monotonic() < until:
            assert not slot.file.exists()
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=PATIENCE)
    have = slot.part.stat().st_size
    assert 0 < have < len(DATA)
    assert not slot.file.exists()
    weights = bring(registry)
    assert weights.path is not None
    assert weights.path.read_bytes() == DATA
    assert server.asked[-1].headers["range"] == f"bytes={have}-"
    for path in leftovers():
        remove(path)
    assert names(slot.file.parent) == ["x.pth", "x.pth.json"]


def test_a_reader_never_sees_half_a_file(server: Server, lab: Callable[..., Registry]) -> None:
    url = server.put("/x.pth", file(DATA, pause_at=600_000, pause=0.5))
    process = pulling(lab(url).layers[-1].folder)
    slot = slot_for("toy", url)
    sizes = set()
    while process.poll() is None:
        if slot.file.exists():
            sizes.add(slot.file.stat().st_size)
    process.communicate(timeout=PATIENCE)
    assert sizes | {slot.file.stat().st_size} == {len(DATA)}


def test_a_read_only_cache_works_as_far_as_it_goes(
    server: Server, lab: Callable[..., Registry]
) -> None:
    here = server.put("/here.zip", a_zip(x=b"weights"))
    there = server.put("/there.pth", DATA)
    assert bring(lab(here)).path is not None
    root = slot_for("toy", here).root
    for folder in (root, *root.rglob("*")):
        folder.chmod(folder.stat().st_mode & ~0o222)
    try:
        with an_ordinary_user():
            weights = bring(lab(here))
            assert weights.path is not None
            assert not weights.fresh
            assert (weights.path / "x").read_bytes() == b"weights"
            error = failed(lab(there))
    finally:
        for folder in (root, *root.rglob("*")):
            folder.chmod(folder.stat().st_mode | 0o200)
    assert error.details == (f"{there}: The cache {root} cannot be written: permission denied",)
    assert "AIOD_CACHE" in str(error.hint)
    assert server.counts["/there.pth"] == 0


def test_all_that_a_pull_writes_can_be_read_by_the_group(
    server: Server, lab: Callable[..., Registry]
) -> None:
    url = server.put("/x.zip", a_zip(x=b"weights", **{"deep/y": b"y"}))
    config = server.put("/x.json", b"{}")
    with umask(0o077):
        bring(lab(entry(url, config_path=config)))
    root = slot_for("toy", url).root
    for path in (root / "weights", *(root / "weights").rglob("*"), *(root / "hashes").iterdir()):
        wanted = 0o055 if path.is_dir() else 0o044
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == wanted, path


def test_a_download_begun_by_one_of_the_group_is_ended_by_another(
    server: Server, lab: Callable[..., Registry]
) -> None:
    url = server.put("/x.pth", in_turn(file(DATA, pause_at=600_000), file(DATA)))
    root = slot_for("toy", url).root
    root.mkdir()
    root.chmod(0o2775)
    with umask(0o077):
        failed(lab(url), seconds=0.3)
    part = slot_for("toy", url).part
    for path in (part, part.with_name("x.pth.part.tag")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o664
    assert bring(lab(url)).fresh
    assert "range" in server.asked[-1].headers


def test_offline_asks_nobody_and_says_what_to_do(
    server: Server, lab: Callable[..., Registry], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here, there = server.put("/here.pth", DATA), server.put("/there.pth", DATA)
    bring(lab(here))
    server.asked.clear()
    monkeypatch.setenv("AIOD_OFFLINE", "1")
    assert not bring(lab(there, here)).fresh
    error = failed(lab(there))
    assert error.details == (f"{there}: not in the cache, and AIOD_OFFLINE forbids the network",)
    assert f"aiod pull --to FOLDER {MODEL}" in str(error.hint)
    assert "AIOD_REGISTRIES" in str(error.hint)
    (tmp_path / "x.pth").write_bytes(DATA)
    assert bring(lab(there, str(tmp_path / "x.pth"))).path == tmp_path / "x.pth"
    assert not server.asked


def test_an_archive_becomes_a_folder_once(server: Server, lab: Callable[..., Registry]) -> None:
    data = a_zip(**{"config.json": b"{}", "weights_best.h5": DATA})
    registry = lab(entry(server.put("/2D.zip", data), sha256=hashlib.sha256(data).hexdigest()))
    weights = bring(registry)
    assert weights.path is not None
    assert weights.file is not None
    assert weights.file.read_bytes() == data
    assert (weights.path / "weights_best.h5").read_bytes() == DATA
    before = (weights.path / "config.json").stat().st_ino
    assert bring(registry).path == weights.path
    assert (weights.path / "config.json").stat().st_ino == before


def test_the_zip_of_pytorch_stays_a_file(server: Server, lab: Callable[..., Registry]) -> None:
    data = a_zip(x=b"tensor")
    weights = bring(lab(server.put("/sam.pth", data)))
    assert weights.path == weights.file
    assert weights.path is not None
    assert weights.path.read_bytes() == data


def test_an_interrupted_unpacking_is_done_again(
    server: Server, lab: Callable[..., Registry]
) -> None:
    registry = lab(server.put("/x.zip", a_zip(x=b"weights", y=b"more")))
    path = bring(registry).path
    assert path is not None
    (path / ".aiod-unpacked").unlink()
    (path / "y").unlink()
    (path / "half").write_bytes(b"")
    assert bring(registry).path == path
    assert names(path) == [".aiod-unpacked", "x", "y"]


def test_an_archive_that_changes_is_unpacked_anew(
    lab: Callable[..., Registry], tmp_path: Path
) -> None:
    archive = tmp_path / "x.zip"
    archive.write_bytes(a_zip(x=b"old"))
    registry = lab(str(archive))
    path = bring(registry).path
    assert path is not None
    assert path.is_relative_to(tmp_path / "cache")
    archive.write_bytes(a_zip(x=b"newer"))
    assert bring(registry).path == path
    assert (path / "x").read_bytes() == b"newer"


@pytest.mark.parametrize("member", ["../evil", "/evil", ".aiod-unpacked/x"])
def test_a_hostile_archive_is_a_reason_like_others(
    member: str, server: Server, lab: Callable[..., Registry], tmp_path: Path
) -> None:
    evil = server.put("/evil.zip", a_zip(**{member: b"evil"}))
    (line,) = failed(lab(evil)).details
    assert line.startswith(f"{evil}: ")
    assert not list(tmp_path.rglob("evil"))
    good = server.put("/good.zip", a_zip(x=b"weights"))
    assert bring(lab(evil, good)).source == good


def test_a_slow_server_is_waited_for(server: Server, lab: Callable[..., Registry]) -> None:
    registry = lab(server.put("/x.pth", late(0.5, file(DATA))))
    assert bring(registry).fresh


def test_odd_urls_are_reasons_like_others(lab: Callable[..., Registry]) -> None:
    for url in ("http://[::::]/x", "http://127.0.0.1:99999/x", "http://a..b/x"):
        (line,) = failed(lab(url), seconds=1).details
        assert line.startswith(f"{url}: ")
