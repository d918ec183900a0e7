"""pull, cache and check-links as a person runs them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from terminal import AIOD, Terminal, aiod, fails, works

from aiod.registry import load
from aiod.registry.pull import is_here
from families import family
from people import umask
from server import Server, file, redirect, status

MakeLayer = Callable[..., Path]
DATA = os.urandom(100_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture
def lab(
    server: Server, make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Path:
    """A lab's layer with tasks of its own, so that no shipped model is among "all for a task"."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as content:
        content.writestr("weights_best.h5", b"zipped")
    first = {
        "location": server.put("/first.pth", DATA),
        "config_path": server.put("/first.json", b"{}"),
        "sha256": SHA256,
    }
    second = {"location": server.put("/second.zip", archive.getvalue())}
    private = {"location": str(tmp_path / "private" / "model.pth")}
    versions = {
        name: {"axes": "YX", "tasks": {"toys": {"locations": [entry]}}}
        for name, entry in (("first", first), ("second", second), ("private", private))
    }
    document = family(versions=versions)
    document["metadata"]["pubs"] = [{"title": "On toys"}]  # no DOI: nobody asks doi.org
    layer = make_layer("lab", document)
    (layer / "manifests" / "tasks.json").write_text('{"toys": "Toys"}')
    monkeypatch.setenv("AIOD_REGISTRIES", str(layer))
    return layer


def cached() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(works("cache", "list", "--json"))["files"]
    return found


def weights_of(model: str) -> Path:
    return Path(json.loads(works("pull", model, "--json"))["models"][0]["path"])


def as_an_ordinary_user(*words: str) -> subprocess.CompletedProcess[str]:
    """A command for which permission bits hold, even if root runs the tests."""
    prefix = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner"]
    if os.geteuid() != 0:
        prefix = []
    return subprocess.run([*prefix, AIOD, *words], capture_output=True, text=True, timeout=60)


def test_a_model_that_nobody_here_can_reach_is_hidden_and_all_shows_why(
    lab: Path, tmp_path: Path
) -> None:
    listed = works("list", "--task", "toys")
    assert "toy/first" in listed
    assert "toy/private" not in listed
    assert "1 model not reachable from here: `aiod list --all`." in listed
    everything = works("list", "--task", "toys", "--all")
    path = tmp_path / "private" / "model.pth"
    assert f"toy/private/toys is not reachable: {path}: no such file or directory" in everything
    path.parent.mkdir()
    path.write_bytes(DATA)
    assert "toy/private" in works("list", "--task", "toys")


def test_pull_brings_models_and_says_where_they_are(server: Server, lab: Path) -> None:
    said = works("pull", "toy/first", "toy/second")
    assert "2 models here, 2 downloaded now." in said
    assert "2 models here, 0 downloaded now." in works("pull", "--task", "toys")
    assert server.counts == {"/first.pth": 1, "/first.json": 1, "/second.zip": 1}


def test_pull_tells_scripts_what_it_brought(server: Server, lab: Path) -> None:
    told = json.loads(works("pull", "toy/first", "--json"))
    (model,) = told["models"]
    assert told["failed"] == []
    assert sorted(model) == ["config", "fresh", "id", "path", "sha256", "size", "source"]
    assert Path(model["path"]).read_bytes() == DATA
    assert Path(model["config"]).read_bytes() == b"{}"
    assert (model["id"], model["sha256"]) == ("toy/first/toys", SHA256)


def test_a_second_pull_says_that_it_waits_for_the_first(server: Server, lab: Path) -> None:
    """In a terminal and in the log of a cluster's job, once, and the bars go on."""
    server.put("/first.pth", file(DATA, pause_at=50_000, pause=3.0))
    waits = "waiting for another process's download of first.pth"
    with Terminal("pull", "toy/first") as first:
        server.wait_for("/first.pth")
        with Terminal("pull", "toy/first") as second:
            job = aiod("pull", "toy/first")
            second.wait_for("1 model here, 0 downloaded now.")
            assert second.seen.count(waits) == 1
        assert first.finish() == 0
        assert waits not in first.seen
    assert job.stderr.splitlines().count(waits) == 1
    assert "0 downloaded now." in job.stdout


def test_pull_without_a_model_asks_which(lab: Path) -> None:
    assert "Which models?" in fails("pull")
    assert 'did you mean "toys"?' in fails("pull", "--task", "toy")
    assert "toy/first" in fails("pull", "toy/frist")


def test_a_failure_is_told_and_the_rest_is_brought(server: Server, lab: Path) -> None:
    server.put("/first.pth", status(404))
    done = aiod("pull", "toy/first", "toy/second", "toy/private")
    assert done.returncode == 1
    assert "1 model here, 1 downloaded now." in done.stdout
    assert f"{server.url('/first.pth')}: the server says 404 Not Found" in done.stderr
    assert "no such file or directory" in done.stderr
    assert "Next: " in done.stderr
    told = json.loads(aiod("pull", "toy/first", "toy/second", "--json").stdout)
    assert [len(told["models"]), len(told["failed"])] == [1, 1]


def test_a_changed_file_is_refused_until_it_is_accepted(server: Server, lab: Path) -> None:
    old = weights_of("toy/second")
    works("cache", "clean", "--all", "--yes")
    assert not old.exists()
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as content:
        content.writestr("weights_best.h5", b"other")
    server.put("/second.zip", other.getvalue())
    said = fails("pull", "toy/second")
    assert "has changed since it was first downloaded" in said
    assert "--accept-changed" in said
    works("pull", "toy/second", "--accept-changed")
    assert (weights_of("toy/second") / "weights_best.h5").read_bytes() == b"other"


def test_two_commands_at_once_download_once(server: Server, lab: Path) -> None:
    server.put("/first.pth", file(DATA, pause_at=50_000, pause=1.0))
    running = [
        subprocess.Popen(
            [AIOD, "pull", "toy/first"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60) for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    assert server.counts["/first.pth"] == 1


def test_offline_says_what_is_missing_and_how_to_bring_it(server: Server, lab: Path) -> None:
    works("pull", "toy/first")
    server.asked.clear()
    works("pull", "toy/first", AIOD_OFFLINE="1")
    said = fails("pull", "toy/second", AIOD_OFFLINE="1")
    assert "not in the cache, and AIOD_OFFLINE forbids the network" in said
    assert "aiod pull --to FOLDER toy/second/toys" in said
    assert "AIOD_OFFLINE" in fails("check-links", "toy", AIOD_OFFLINE="1")
    assert not server.asked


def test_a_mirror_is_used_where_there_is_no_network(
    server: Server, lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = tmp_path / "media disk"
    assert "2 models here" in works("pull", "--task", "toys", "--to", mirror)
    last = works("pull", "--task", "toys", "--to", mirror).splitlines()[-1]
    assert last == f"Without a network: AIOD_REGISTRIES='{mirror}' AIOD_OFFLINE=1 aiod list"
    works("validate", mirror)
    server.close()
    lab.rename(tmp_path / "far away")
    monkeypatch.setenv("AIOD_REGISTRIES", str(mirror))
    monkeypatch.setenv("AIOD_OFFLINE", "1")
    monkeypatch.setenv("AIOD_CACHE", str(tmp_path / "empty"))
    assert "toy/first" in works("list", "--task", "toys")
    told = json.loads(works("pull", "--task", "toys", "--json"))
    first, second = (Path(model["path"]) for model in told["models"])
    assert first.read_bytes() == DATA
    assert (second / "weights_best.h5").read_bytes() == b"zipped"


def test_pull_all_takes_what_it_can_get(
    server: Server, lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every shipped model is asked for too: here through a proxy that refuses them all."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, server.url(""))
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    done = aiod("pull", "--all", "--to", tmp_path / "mirror")
    assert done.returncode == 1
    without = sum(is_here(model) for model in load() if model.family != "toy")
    assert f"{without + 2} models here" in done.stdout
    assert "cannot be had from any of their locations" in done.stderr
    assert "Traceback" not in done.stderr
    listed = [path.name for path in (tmp_path / "mirror" / "manifests").iterdir()]
    assert sorted(listed) == [
        "classical.json",
        "nellie.json",
        "tasks.json",
        "toy.json",
        "unet.json",
    ]
    works("validate", tmp_path / "mirror")


def test_a_cache_that_may_only_be_read(server: Server, lab: Path, tmp_path: Path) -> None:
    works("pull", "toy/second")
    root = tmp_path / "cache"
    paths = [root, *root.rglob("*")]
    for path in paths:
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        held, lacking = (as_an_ordinary_user("pull", f"toy/{name}") for name in ("second", "first"))
    finally:
        for path in paths:
            path.chmod(path.stat().st_mode | 0o200)
    assert held.returncode == 0, held.stderr
    assert "1 model here, 0 downloaded now." in held.stdout
    assert lacking.returncode == 1
    assert f"The cache {root} cannot be written: permission denied" in lacking.stderr
    assert "set AIOD_CACHE to a folder of your own" in lacking.stderr


def test_the_first_command_of_a_careful_user_still_makes_a_cache_for_the_group(
    lab: Path, tmp_path: Path
) -> None:
    with umask(0o077):
        works("list")
        works("pull", "toy/first")
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o750
    path = weights_of("toy/first")
    for part in (path, *path.parents):
        if part == tmp_path / "cache":
            break
        assert stat.S_IMODE(part.stat().st_mode) & 0o044 == 0o044


def test_the_cache_lists_what_it_holds(server: Server, lab: Path, tmp_path: Path) -> None:
    assert f"0 files, 0 B, in {tmp_path}/cache" in works("cache", "list")
    works("pull", "toy/first")
    said = works("cache", "list")
    for words in ("first.pth", "first.json", "100.0 kB", "2 files"):
        assert words in said
    told = json.loads(works("cache", "list", "--json"))
    assert told["folder"] == str(tmp_path / "cache")
    item = next(item for item in told["files"] if item["path"].endswith(".pth"))
    assert sorted(item) == ["family", "path", "problem", "record"]
    assert sorted(item["record"]) == ["date", "modified_ns", "sha256", "size", "url"]
    assert item["record"]["url"] == server.url("/first.pth")


def test_damage_is_found_and_mended(lab: Path) -> None:
    works("pull", "toy/first", "toy/second")
    assert "3 files checked, 0 with a problem." in works("cache", "verify")
    path = weights_of("toy/first")
    modified = path.stat().st_mtime_ns
    path.write_bytes(DATA[:-1] + bytes([DATA[-1] ^ 1]))
    os.utime(path, ns=(modified, modified))
    done = aiod("cache", "verify")
    assert done.returncode == 1
    assert f"instead of {SHA256}" in done.stdout
    assert "aiod cache clean --damaged" in done.stdout
    told = json.loads(aiod("cache", "verify", "--json").stdout)
    assert [bool(item["problem"]) for item in told].count(True) == 1
    assert "first.pth" in works("cache", "clean", "--damaged", "--yes")
    assert not path.exists()
    assert weights_of("toy/first").read_bytes() == DATA


def test_hostile_records_are_no_traceback(lab: Path) -> None:
    works("pull", "toy/first")
    note = weights_of("toy/first").with_name("first.pth.json")
    record = json.loads(note.read_text())
    hostile: Any
    for hostile in ({**record, "size": 10**400}, {**record, "date": "\x1b[31m"}, [], None):
        note.write_text(json.dumps(hostile))
        said = works("cache", "list")
        assert "first.pth" in said
        assert "\x1b" not in said
        aiod("cache", "verify", "--json")
    note.write_bytes(b"\xff\xfe{")
    assert "Traceback" not in aiod("cache", "verify").stderr
    works("pull", "toy/first", AIOD_OFFLINE="1")  # the manifest knows its hash
    works("cache", "clean", "--damaged", "--yes")


def test_clean_takes_what_is_named(lab: Path, tmp_path: Path) -> None:
    works("pull", "toy/first", "toy/second")
    assert "first.json" in works("cache", "clean", "toy/first", "--yes")
    assert [Path(item["path"]).name for item in cached()] == ["second.zip"]
    works("cache", "clean", "--all", "--yes")
    assert cached() == []
    assert list((tmp_path / "cache" / "weights").glob("*/*")) == []
    assert works("cache", "clean", "--all") == "Nothing to clean.\n"


def test_clean_asks_first(lab: Path) -> None:
    works("pull", "toy/first")
    assert "Stopped." in fails("cache", "clean", "--all", code=130, stdin="n\n")
    assert len(cached()) == 2
    works("cache", "clean", "--all", stdin="y\n")
    assert cached() == []


def test_clean_takes_what_no_model_names_any_more(server: Server, lab: Path) -> None:
    works("pull", "toy/first", "toy/second")
    manifest = lab / "manifests" / "toy.json"
    document = json.loads(manifest.read_text())
    del document["versions"]["first"]
    manifest.write_text(json.dumps(document))
    said = works("cache", "clean", "--unused", "--yes")
    assert "first.pth" in said
    assert "first.json" in said
    assert [Path(item["path"]).name for item in cached()] == ["second.zip"]


def test_clean_takes_leftovers_and_nothing_that_is_being_brought(
    server: Server, lab: Path, tmp_path: Path
) -> None:
    works("pull", "toy/second")
    left = weights_of("toy/second").with_name("second.zip.part")
    left.write_bytes(b"half")
    server.put("/first.pth", file(DATA, pause_at=50_000, pause=3.0))
    with subprocess.Popen([AIOD, "pull", "toy/first"], stdout=subprocess.DEVNULL) as running:
        server.wait_for("/first.pth")
        assert "1 leftover" in works("cache", "clean", "--yes")
        assert not left.exists()
        assert running.wait(60) == 0
    assert weights_of("toy/first").read_bytes() == DATA


def test_what_cannot_be_cleaned_is_a_sentence(lab: Path) -> None:
    path = weights_of("toy/first")
    path.parent.chmod(0o555)
    try:
        done = as_an_ordinary_user("cache", "clean", "--all", "--yes")
    finally:
        path.parent.chmod(0o755)
    assert done.returncode == 1
    assert f"{path} cannot be removed: permission denied." in done.stderr
    assert "Traceback" not in done.stderr


def test_check_links_tells_of_each_url(server: Server, lab: Path) -> None:
    server.put("/moved.pth", DATA)
    server.put("/first.pth", redirect("/moved.pth", 301))
    said = works("check-links", "toy", "--seconds", "5")
    assert f"{server.url('/first.pth')}: for good, to {server.url('/moved.pth')}" in said
    assert "3 links checked, 0 with a problem." in said
    server.put("/first.json", status(404))
    server.put("/second.zip", status(500))
    done = aiod("check-links", "toy", "--json", "--seconds", "5")
    assert done.returncode == 1
    told = {item["url"]: item for item in json.loads(done.stdout)}
    assert {url: item["state"] for url, item in told.items()} == {
        server.url("/first.pth"): "moved",
        server.url("/first.json"): "gone",
        server.url("/second.zip"): "failed",
    }
    for item in told.values():
        assert sorted(item) == ["good", "kind", "note", "state", "url", "used_by"]
    assert told[server.url("/first.pth")]["used_by"] == ["toy/first/toys"]


def test_check_links_compares_hashes_on_demand(server: Server, lab: Path) -> None:
    server.put("/first.pth", b"something else")
    works("check-links", "toy/first", "--seconds", "5")
    done = aiod("check-links", "toy/first", "--hash", "--seconds", "5")
    assert done.returncode == 1
    assert "hash differs" in done.stdout
    assert cached() == []


def test_check_links_of_an_unknown_model_is_a_sentence(lab: Path) -> None:
    assert "did you mean toy?" in fails("check-links", "tyo")
    assert "toy/first" in fails("check-links", "toy/frist")
