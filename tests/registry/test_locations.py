"""Locations: what their text means, and which of them this user can reach."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiod.registry import Model, Registry, load
from aiod.registry.locations import Place, resolve, why_unreachable
from families import family
from people import IN_A_WORLD_OF_ITS_OWN, an_ordinary_user, names

MakeLayer = Callable[..., Path]


def toy(*locations: str | dict[str, Any]) -> dict[str, Any]:
    entries = [{"location": item} if isinstance(item, str) else item for item in locations]
    return family(versions={"v1": {"axes": "YX", "tasks": {"nuclei": {"locations": entries}}}})


def loaded(layer: Path) -> tuple[Registry, Model]:
    registry = load([layer])
    assert not registry.problems
    return registry, registry.get("toy/v1/nuclei")


def test_an_https_url_is_reachable_without_asking_anybody() -> None:
    place = resolve("https://does-not-exist.invalid/weights.pth", "/lab/manifests")
    assert place.url == "https://does-not-exist.invalid/weights.pth"
    assert why_unreachable(place) is None


@pytest.mark.parametrize("scheme", ["https", "http", "HTTPS", "Http"])
def test_the_scheme_of_a_url_is_known_in_any_letter_case(scheme: str) -> None:
    assert resolve(f"{scheme}://a.org/x", "/lab").url == f"{scheme}://a.org/x"


@pytest.mark.parametrize("name", ["http", "https", "file"])
def test_a_file_may_be_called_like_a_scheme(name: str) -> None:
    assert resolve(name, "/lab/manifests").file == f"/lab/manifests/{name}"


def test_a_relative_path_is_relative_to_its_manifest(
    make_layer: MakeLayer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = make_layer("lab", toy("../weights/x.pth"))
    (layer / "weights").mkdir()
    (layer / "weights" / "x.pth").write_bytes(b"weights")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    _, model = loaded(layer)
    assert model.locations[0].path == layer / "weights" / "x.pth"
    assert model.reachable


@pytest.mark.parametrize(
    "text", ["$(touch x)", "`touch x`", "~", "~root/x", "$HOME", "${HOME}/x", "%HOME%", "*", "x;y"]
)
def test_nothing_in_a_location_is_expanded_or_executed(
    text: str, make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = make_layer("lab", toy(text))
    monkeypatch.chdir(layer / "manifests")
    _, model = loaded(layer)
    assert model.locations[0].path == layer / "manifests" / text
    assert not model.reachable
    assert names(layer / "manifests") == ["toy.json"]
    (layer / "manifests" / text).parent.mkdir(exist_ok=True)
    (layer / "manifests" / text).write_bytes(b"a file that is really called so")
    assert model.reachable


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///data/my%20weights.pth", "/data/my weights.pth"),
        ("file://localhost/data/x", "/data/x"),
        ("FILE:///data/x", "/data/x"),
        ("file:///data/100%25", "/data/100%"),
    ],
)
def test_a_file_url_is_a_path(url: str, path: str) -> None:
    assert resolve(url, "/lab").file == path


def test_a_file_url_with_a_space_can_be_reached(tmp_path: Path) -> None:
    (tmp_path / "my weights.pth").write_bytes(b"weights")
    place = resolve(f"file://{tmp_path}/my%20weights.pth", "/elsewhere")
    assert why_unreachable(place) is None


def test_a_folder_is_reachable(tmp_path: Path) -> None:
    assert why_unreachable(resolve(".", tmp_path)) is None


def test_a_readable_file_is_reachable_and_one_that_is_not_there_is_not(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    assert why_unreachable(resolve("x", tmp_path)) is None
    assert why_unreachable(resolve("y", tmp_path)) == f"{tmp_path}/y: no such file or directory"


def test_what_this_user_may_not_read_is_unreachable(tmp_path: Path) -> None:
    secret = tmp_path / "secret.pth"
    secret.write_bytes(b"weights")
    secret.chmod(0)
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "x.pth").write_bytes(b"weights")
    closed.chmod(0)
    try:
        with an_ordinary_user():
            for path in (secret, closed, closed / "x.pth"):
                assert why_unreachable(Place("", file=str(path))) == f"{path}: permission denied"
    finally:
        closed.chmod(0o700)


@pytest.mark.parametrize("loop", [False, True])
def test_a_link_that_leads_nowhere_is_unreachable(loop: bool, tmp_path: Path) -> None:
    (tmp_path / "x").symlink_to("x" if loop else "gone")
    reason = "too many levels of symbolic links" if loop else "no such file or directory"
    assert why_unreachable(resolve("x", tmp_path)) == f"{tmp_path}/x: {reason}"


def test_an_empty_text_is_unreachable() -> None:
    for text in ("", " "):
        assert why_unreachable(resolve(text, "/")) == "an empty location"
    assert why_unreachable(Place("", file="\0")) == "\0: not a path"


def test_a_pipe_and_a_device_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    neighbour = tmp_path / "weights.pth"
    neighbour.write_bytes(b"weights")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        assert why_unreachable(Place("", file=str(path))) == f"{path}: neither a file nor a folder"
    assert why_unreachable(Place("", file=str(neighbour))) is None


DEAD_DISK = """
import ctypes, os, sys, time
from aiod.registry import locations
disk, neighbour = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
fuse = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={fuse},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
if libc.mount(b"dead", disk.encode(), b"fuse", 0, options.encode()):
    print("no dead disk here:", os.strerror(ctypes.get_errno()))
    os._exit(77)
begin = time.monotonic()
for name in ("a.pth", "b.pth", "c.pth"):
    print(locations.why_unreachable(locations.resolve(name, disk)))
print(locations.why_unreachable(locations.resolve(neighbour, "/")))
print("quick" if time.monotonic() - begin < 10 else "slow", flush=True)
os._exit(0)
"""


@pytest.mark.skipif(
    not (Path("/dev/fuse").exists() and shutil.which("unshare")),
    reason="a disk that never answers is made with Linux's FUSE",
)
def test_a_disk_that_does_not_answer_is_waited_for_once(tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(b"weights")
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        [*IN_A_WORLD_OF_ITS_OWN, sys.executable, "-c", DEAD_DISK, str(disk), __file__],
        capture_output=True,
        text=True,
        timeout=30,
    )
    if made.returncode != 0:
        pytest.skip(f"no dead disk can be mounted here: {made.stdout or made.stderr}")
    assert made.stdout.splitlines() == [
        *(f"{disk}/{name}.pth: its disk does not answer" for name in "abc"),
        "None",
        "quick",
    ]


def test_many_can_ask_at_once(tmp_path: Path) -> None:
    answers: list[str | None] = []
    place = resolve("x", tmp_path)
    (tmp_path / "x").write_bytes(b"weights")
    threads = [
        threading.Thread(target=lambda: answers.append(why_unreachable(place))) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [None] * 20


def test_a_model_with_one_reachable_location_is_reachable(
    make_layer: MakeLayer, tmp_path: Path
) -> None:
    (tmp_path / "here").write_bytes(b"weights")
    _, model = loaded(make_layer("lab", toy("/gone", str(tmp_path / "here"), "/gone/too")))
    assert model.reachable


def test_a_model_without_a_reachable_location_tells_every_reason(make_layer: MakeLayer) -> None:
    registry, model = loaded(make_layer("lab", toy("/gone/a", "/gone/b")))
    assert not model.reachable
    assert model.why_unreachable() == (
        "/gone/a: no such file or directory; /gone/b: no such file or directory"
    )
    assert model in registry.filter(reachable=False)
    assert model not in registry.filter(reachable=True)
    assert model in list(registry)


def test_a_model_becomes_reachable_when_its_file_appears(
    make_layer: MakeLayer, tmp_path: Path
) -> None:
    _, model = loaded(make_layer("lab", toy(str(tmp_path / "x"))))
    assert not model.reachable
    (tmp_path / "x").write_bytes(b"weights")
    assert model.reachable


def test_an_algorithm_is_always_reachable(make_layer: MakeLayer) -> None:
    document = family(versions={"v1": {"axes": "YX", "tasks": {"nuclei": {"weights": False}}}})
    registry, model = loaded(make_layer("lab", document))
    assert model.reachable
    assert registry.locations_for(model) == ()


def test_locations_keep_their_order_and_what_is_known_of_them(make_layer: MakeLayer) -> None:
    sha256 = "a" * 64
    first = {"location": "x.pth", "config_path": "x.yaml", "sha256": sha256, "size": 7}
    layer = make_layer("lab", toy(first, "https://a.org/x.pth"))
    registry, model = loaded(layer)
    here, there = registry.locations_for(model)
    assert (here.weights.path, here.sha256, here.size) == (layer / "manifests/x.pth", sha256, 7)
    assert here.config is not None
    assert here.config.path == layer / "manifests" / "x.yaml"
    assert (there.weights.url, there.config, there.sha256) == ("https://a.org/x.pth", None, None)
    assert here.layer == "lab"


@given(st.text(max_size=60))
def test_any_text_is_a_place_and_reachable_or_not(text: str) -> None:
    place = resolve(text, "/no-such-folder/manifests")
    assert (place.url is None) != (place.file is None)
    why = why_unreachable(place)
    assert why is None or why.startswith((str(place), "an empty"))
