"""The index: a second start reads no manifest, and nothing stale or strange is ever believed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiod.registry import load
from aiod.registry.entries import read_entry
from aiod.registry.index import index_layer, signature_of
from aiod.registry.layers import Layer
from aiod.registry.tasks import TASK_NAMES
from families import family

MakeLayer = Callable[..., Path]

_OPENED = """
import sys
opened = []
sys.addaudithook(
    lambda event, args: opened.append(str(args[0])) if event == "open" else None
)
from aiod.registry import load
registry = load(sys.argv[1:])
ids = [model.id for model in registry.filter(text="toy")]
manifests = [file for file in opened if file.endswith(".json") and "tasks" not in file]
print(ids, len(manifests), "pydantic" in sys.modules)
"""


def _age(lab: Path) -> None:
    """Wait until a layer is old enough for an index to trust it, which cannot be faked."""
    newest = max(path.stat().st_ctime_ns for path in (lab / "manifests").iterdir())
    time.sleep(max(0.0, 2.05 - (time.time_ns() - newest) / 1e9))


def _plain(lab: Path) -> list[tuple[str, str | None, bytes]]:
    """The entries of a layer without what depends on times."""
    return [
        (entry.path.name, entry.family, entry.body)
        for entry in index_layer(Layer("lab", lab), TASK_NAMES)
    ]


def _fresh(lab: Path) -> list[tuple[str, str | None, bytes]]:
    """The same, read from the manifests themselves."""
    entries = [
        read_entry(str(path), signature_of(path.stat()), TASK_NAMES)
        for path in sorted((lab / "manifests").glob("*.json"))
    ]
    return [(entry.path.name, entry.family, entry.body) for entry in entries]


def _indexes(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "indexes").glob("*.jsonl"))


@pytest.fixture(scope="module")
def old_layers(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Layers of two families that all grow old at once."""
    folders = [tmp_path_factory.mktemp("lab") for _ in range(16)]
    for folder in folders:
        (folder / "manifests").mkdir()
        for document in (family(), family("Toybox")):
            path = folder / "manifests" / f"{document['short_name']}.json"
            path.write_text(json.dumps(document))
    return folders


@pytest.fixture
def lab(old_layers: list[Path]) -> Path:
    """A layer of the test's own that has been there for a while, and its index."""
    folder = old_layers.pop()
    _age(folder)
    load([folder])
    return folder


def _say(lab: Path) -> str:
    command = [sys.executable, "-c", _OPENED, str(lab)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_second_start_opens_no_manifest_and_imports_no_pydantic(lab: Path) -> None:
    ids = ["toy/v1/nuclei", "toybox/v1/nuclei"]
    assert _say(lab) == f"{ids} 0 False"


def test_a_changed_an_added_and_a_removed_file_are_noticed(lab: Path) -> None:
    toy = lab / "manifests" / "toy.json"
    toy.write_text(json.dumps(family(name="Toy 2", short_name="toy")))
    (lab / "manifests" / "toybox.json").unlink()
    (lab / "manifests" / "kit.json").write_text(json.dumps(family("Kit")))
    registry = load([lab])
    assert registry.family("toy").name == "Toy 2"
    assert registry.families[-2:] == ("kit", "toy")


def test_a_file_of_the_same_size_and_time_is_noticed_too(lab: Path) -> None:
    path = lab / "manifests" / "toy.json"
    status = path.stat()
    path.write_text(path.read_text().replace("segments toys", "segments dogs"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert load([lab]).get("toy/v1").description == "Toy segments dogs."


def test_a_file_put_in_place_of_another_is_noticed(lab: Path) -> None:
    path = lab / "manifests" / "toy.json"
    other = path.with_name("other")
    other.write_text(path.read_text().replace("segments toys", "segments dogs"))
    os.utime(other, ns=(0, path.stat().st_mtime_ns))
    other.replace(path)
    assert load([lab]).get("toy/v1").description == "Toy segments dogs."


def test_a_file_written_just_before_the_index_is_read_again(
    make_layer: MakeLayer, tmp_path: Path
) -> None:
    lab = make_layer("lab", family())
    load([lab])
    assert _indexes(tmp_path)
    assert _say(lab).endswith("1 True")


def test_a_task_that_a_layer_brings_makes_the_index_stale(make_layer: MakeLayer) -> None:
    document = family()
    document["versions"]["v1"]["tasks"]["wing"] = {"location": "https://example.org/w"}
    lab = make_layer("lab", document)
    _age(lab)
    assert [problem.code for problem in load([lab]).problems] == ["unknown-task"]
    (lab / "manifests" / "tasks.json").write_text('{"wing": "Wings"}')
    assert load([lab]).problems == ()


def test_a_problem_is_remembered_as_it_was_found(lab: Path) -> None:
    bad = lab / "manifests" / "bad.json"
    bad.write_text('{"name": "Bad"}')
    first = load([lab]).problems
    _age(lab)
    assert load([lab]).problems == first == load([lab]).problems
    assert {Path(problem.file).name for problem in first} == {"bad.json"}


def test_a_file_that_could_not_be_read_is_tried_again(lab: Path) -> None:
    link = lab / "manifests" / "link.json"
    link.symlink_to(lab / "elsewhere.json")
    assert [problem.code for problem in load([lab]).problems] == ["unreadable"]
    (lab / "elsewhere.json").write_text(json.dumps(family("Kit")))
    assert "kit/v1" in load([lab])


def _spoil(content: bytes) -> list[bytes]:
    """Ways in which a file can be damaged or made up."""
    check, head, *rows = content.split(b"\n")
    context, written, listed = json.loads(head)
    other = json.dumps([["other", *context[1:]], written, listed]).encode()
    lies = json.dumps([context, written, [[row[0], *row[1:5], []] for row in listed]]).encode()
    return [
        b"",
        b"\n",
        b"\xff\xfe\n\xff",
        b"[" * 100_000,
        content[:-7],
        content + b"\n{}",
        content.replace(b"segments toys", b"segments dogs"),
        b"\n".join([check, other, *rows]),
        b"\n".join([check, lies, *rows]),
        b"\n".join([check, head]),
        b"null\nnull",
    ]


def test_an_index_that_is_damaged_or_made_up_is_not_believed(lab: Path, tmp_path: Path) -> None:
    expected = [(model.id, model.description) for model in load([lab])]
    for store in _indexes(tmp_path):
        content = store.read_bytes()
        for spoiled in _spoil(content):
            store.write_bytes(spoiled)
            registry = load([lab])
            assert [(model.id, model.description) for model in registry] == expected
            assert registry.problems == ()


def test_any_flipped_byte_is_noticed(lab: Path, tmp_path: Path) -> None:
    expected = _plain(lab)
    dice = random.Random(2)
    for store in _indexes(tmp_path):
        content = bytearray(store.read_bytes())
        for _ in range(20):
            spoiled = bytearray(content)
            spoiled[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
            store.write_bytes(spoiled)
            assert _plain(lab) == expected


def test_an_index_of_other_rules_is_not_believed(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiod.registry.index._FORMAT", -1)
    assert [model.id for model in load([lab]).filter(text="toy")] == [
        "toy/v1/nuclei",
        "toybox/v1/nuclei",
    ]


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can do it")
def test_the_index_of_another_user_is_not_believed(lab: Path, tmp_path: Path) -> None:
    for store in _indexes(tmp_path):
        os.chown(store, 12345, -1)
    assert _say(lab).endswith("True")  # read again, and kept as this user's own
    assert _say(lab).endswith("False")


@pytest.mark.parametrize("kind", ["file", "folder", "loop"])
def test_a_cache_that_cannot_be_written_only_costs_time(
    make_layer: MakeLayer, tmp_path: Path, kind: str
) -> None:
    lab = make_layer("lab", family())
    cache = tmp_path / "cache"
    if kind == "file":
        cache.write_text("")
    elif kind == "loop":
        cache.symlink_to(cache)
    else:
        load([lab])
        for store in _indexes(tmp_path):
            store.unlink()
            store.mkdir()
    for _ in range(2):
        assert "toy/v1" in load([lab])


def test_a_path_that_is_no_unicode_is_indexed_too(make_layer: MakeLayer) -> None:
    document = family()
    document["versions"]["v1"]["tasks"]["nuclei"] = {"location": "/weights/\udce9.pth"}
    lab = make_layer("lab", document)
    (model,) = load([lab]).family("toy").models
    assert [str(place) for place in model.locations] == ["/weights/\udce9.pth"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_in_place_of_an_index_or_a_manifest_is_not_waited_for(
    lab: Path, tmp_path: Path
) -> None:
    for store in _indexes(tmp_path):
        store.unlink()
        os.mkfifo(store)
    os.mkfifo(lab / "manifests" / "pipe.json")
    registry = load([lab])
    assert "toy/v1" in registry
    assert [problem.code for problem in registry.problems] == ["unreadable"]


_WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.one_of(
            st.builds(
                lambda words, keywords: family(
                    metadata={"description": words, "keywords": keywords}
                ),
                _WORDS,
                st.lists(_WORDS, max_size=2),
            ),
            st.just({"name": "Toy"}),
            _WORDS,
        ),
        max_size=4,
    )
)
def test_what_is_indexed_is_what_the_manifests_say(tmp_path: Path, documents: list[Any]) -> None:
    folder = tmp_path / "lab" / "manifests"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.json"):
        old.unlink()
    for index, document in enumerate(documents):
        (folder / f"{index}.json").write_text(json.dumps(document), encoding="utf-8")
    lab = tmp_path / "lab"
    first = _plain(lab)
    assert first == _fresh(lab)
    assert _plain(lab) == first
