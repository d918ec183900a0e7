"""A mirror: a folder that is a layer on a machine without a network."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiod.errors import CacheError, UsageError
from aiod.registry import load
from aiod.registry.mirror import mirror
from aiod.registry.pull import Weights, pull
from aiod.registry.validate import validate
from families import family
from people import an_ordinary_user, names
from server import Server

MakeLayer = Callable[..., Path]
OUT = "mirror"
RUNNER = """\
def load(weights, *, config, device):
    return weights


def predict(model, image, *, axes, size):
    return image
"""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


def version(**tasks: Any) -> dict[str, Any]:
    """A version; a task is a URL or an entry of `locations`."""
    return {
        "axes": "YX",
        "tasks": {
            task: {"locations": [{"location": at} if isinstance(at, str) else at]}
            for task, at in tasks.items()
        },
    }


def fill(layer: Path, folder: Path, *ids: str) -> list[Weights]:
    """Mirror models of a layer (all of its own unless named)."""
    registry = load([layer])
    models = [registry.get(item) for item in ids] or [
        model for model in registry if layer.name in model.layers
    ]
    brought, failed = mirror(registry, models, folder, seconds=5)
    assert not failed
    return brought


def errors_of(layer: Path) -> list[str]:
    return [str(item) for item in validate([layer]).problems if item.severity == "error"]


@pytest.fixture
def far_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Path], None]:
    """Become the cluster: an empty cache, no network, and of all layers only the mirror."""

    def travel(layer: Path) -> None:
        shutil.rmtree(layer)
        monkeypatch.setenv("AIOD_OFFLINE", "1")
        monkeypatch.setenv("AIOD_CACHE", str(tmp_path / "cache-of-the-cluster"))

    return travel


def test_a_mirror_is_a_layer_that_works_without_a_network(
    server: Server,
    make_layer: MakeLayer,
    tmp_path: Path,
    far_away: Callable[[Path], None],
) -> None:
    url = server.put("/x.pth", b"weights")
    config = server.put("/x.json", b"{}")
    layer = make_layer(
        "lab", family(versions={"v1": version(nuclei={"location": url, "config_path": config})})
    )
    (layer / "runners").mkdir()
    (layer / "runners" / "toy.py").write_text(RUNNER)
    fill(layer, tmp_path / OUT)
    assert errors_of(tmp_path / OUT) == []
    server.close()
    far_away(layer)
    registry = load([tmp_path / OUT])
    assert not registry.problems
    weights = pull(registry, "toy/v1/nuclei")
    assert weights.path is not None
    assert weights.config is not None
    assert weights.path.is_relative_to(tmp_path / OUT)
    assert weights.path.read_bytes() == b"weights"
    assert weights.config.read_bytes() == b"{}"
    assert not weights.fresh
    here, there = registry.locations_for("toy/v1/nuclei")
    assert (here.sha256, here.size) == (hashlib.sha256(b"weights").hexdigest(), 7)
    assert there.weights.url == url
    assert (tmp_path / OUT / "runners" / "toy.py").read_text() == RUNNER
    assert [item.arg_name for item in registry.params_for("toy/v1/nuclei")] == ["size"]


def test_a_mirror_may_be_moved(
    server: Server, make_layer: MakeLayer, tmp_path: Path, far_away: Callable[[Path], None]
) -> None:
    url = server.put("/x.pth", b"weights")
    layer = make_layer("lab", family(versions={"v1": version(nuclei=url)}))
    fill(layer, tmp_path / OUT)
    far_away(layer)
    (tmp_path / OUT).rename(tmp_path / "media")
    assert str(tmp_path) not in (tmp_path / "media" / "manifests" / "toy.json").read_text()
    assert pull(load([tmp_path / "media"]), "toy").path is not None


def test_a_second_call_adds_to_the_first(
    server: Server, make_layer: MakeLayer, tmp_path: Path
) -> None:
    urls = {name: server.put(f"/{name}.pth", name.encode()) for name in ("a", "b", "c")}
    layer = make_layer(
        "lab",
        family(
            "Toy",
            versions={
                "v1": version(nuclei=urls["a"], cyto=urls["b"]),
                "v2": version(nuclei=urls["c"]),
            },
        ),
        family("Other", versions={"v1": version(mito=urls["a"])}),
    )
    for wanted in ("toy/v1/nuclei", "toy/v1/cyto", "toy/v2/nuclei", "other/v1/mito"):
        fill(layer, tmp_path / OUT, wanted)
    first = {path: path.read_bytes() for path in (tmp_path / OUT).rglob("*") if path.is_file()}
    fill(layer, tmp_path / OUT)
    assert first == {p: p.read_bytes() for p in (tmp_path / OUT).rglob("*") if p.is_file()}
    server.close()
    registry = load([tmp_path / OUT])
    for model, data in (
        ("toy/v1/nuclei", b"a"),
        ("toy/v1/cyto", b"b"),
        ("toy/v2/nuclei", b"c"),
        ("other", b"a"),
    ):
        path = pull(registry, model).path
        assert path is not None
        assert path.read_bytes() == data


def test_tasks_of_a_lab_come_along_and_stay(
    server: Server, make_layer: MakeLayer, tmp_path: Path
) -> None:
    url = server.put("/x.pth", b"weights")
    for name, task in (("Toy", "toys"), ("Other", "others")):
        layer = make_layer(task, family(name, versions={"v1": version(**{task: url})}))
        (layer / "manifests" / "tasks.json").write_text(json.dumps({task: task.title()}))
        fill(layer, tmp_path / OUT)
    fill(layer, tmp_path / OUT)
    registry = load([tmp_path / OUT])
    assert not registry.problems
    assert {registry.get("toy").task, registry.get("other").task} == {"toys", "others"}


def test_two_files_of_one_name_do_not_meet(
    server: Server, make_layer: MakeLayer, tmp_path: Path
) -> None:
    tasks = {task: server.put(f"/{task}/model.pt", task.encode()) for task in ("nuclei", "cyto")}
    layer = make_layer("lab", family(versions={"v1": version(**tasks)}))
    fill(layer, tmp_path / OUT)
    fill(layer, tmp_path / OUT)
    server.close()
    for task in tasks:
        path = pull(load([tmp_path / OUT]), f"toy/v1/{task}").path
        assert path is not None
        assert path.read_bytes() == task.encode()
    assert names(tmp_path / OUT / "weights" / "toy" / "v1") == ["2_model.pt", "model.pt"]


def test_archives_and_folders_of_weights_come_along(
    server: Server, make_layer: MakeLayer, tmp_path: Path, far_away: Callable[[Path], None]
) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as content:
        content.writestr("weights_best.h5", b"zipped")
    url = server.put("/x.zip", (tmp_path / "x.zip").read_bytes())
    layer = make_layer("lab", family(versions={"v1": version(nuclei=url, cyto="../model#1.d")}))
    (layer / "model#1.d" / "deep").mkdir(parents=True)
    (layer / "model#1.d" / "deep" / "weights_best.h5").write_bytes(b"folder")
    fill(layer, tmp_path / OUT)
    fill(layer, tmp_path / OUT)
    far_away(layer)
    registry = load([tmp_path / OUT])
    zipped, folder = (pull(registry, f"toy/v1/{task}").path for task in ("nuclei", "cyto"))
    assert zipped is not None
    assert folder is not None
    assert (zipped / "weights_best.h5").read_bytes() == b"zipped"
    assert (folder / "deep" / "weights_best.h5").read_bytes() == b"folder"
    assert len(names(tmp_path / OUT / "weights" / "toy" / "v1")) == 2


def test_what_cannot_be_had_is_told_and_the_rest_comes(
    server: Server, make_layer: MakeLayer, tmp_path: Path
) -> None:
    good, bad = server.put("/x.pth", b"weights"), server.url("/404.pth")
    layer = make_layer("lab", family(versions={"v1": version(nuclei=good, cyto=bad)}))
    registry = load([layer])
    models = registry.family("toy").models
    brought, failed = mirror(registry, models, tmp_path / OUT, seconds=5)
    assert [item.model_id for item in brought] == ["toy/v1/nuclei"]
    assert ["404 Not Found" in str(error) for error in failed] == [True]
    assert [model.id for model in load([tmp_path / OUT]).family("toy").models] == ["toy/v1/nuclei"]


def test_an_algorithm_is_mirrored_as_one(make_layer: MakeLayer, tmp_path: Path) -> None:
    document = family(versions={"v1": {"axes": "YX", "tasks": {"nuclei": {"weights": False}}}})
    fill(make_layer("lab", document), tmp_path / OUT)
    assert not load([tmp_path / OUT]).get("toy").needs_weights
    assert not (tmp_path / OUT / "weights").exists()


def test_a_mirror_of_a_mirror(server: Server, make_layer: MakeLayer, tmp_path: Path) -> None:
    url = server.put("/x.pth", b"weights")
    fill(make_layer("lab", family(versions={"v1": version(nuclei=url)})), tmp_path / OUT)
    server.close()
    fill(tmp_path / OUT, tmp_path / "second")
    fill(tmp_path / OUT, tmp_path / OUT, "toy")  # into itself: nothing to do
    for folder in (OUT, "second"):
        assert pull(load([tmp_path / folder]), "toy").path is not None
        assert names(tmp_path / folder / "weights" / "toy" / "v1") == ["x.pth"]


def test_a_folder_of_somebody_else_is_left_alone(
    server: Server, make_layer: MakeLayer, tmp_path: Path
) -> None:
    url = server.put("/x.pth", b"weights")
    layer = make_layer("lab", family(versions={"v1": version(nuclei=url)}))
    theirs = tmp_path / OUT / "manifests" / "toy.json"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("{}")
    with pytest.raises(UsageError, match="manifests that would be overwritten"):
        fill(layer, tmp_path / OUT)
    assert theirs.read_text() == "{}"


def test_a_folder_that_cannot_be_written_is_a_sentence(
    server: Server, make_layer: MakeLayer, tmp_path: Path
) -> None:
    url = server.put("/x.pth", b"weights")
    layer = make_layer("lab", family(versions={"v1": version(nuclei=url)}))
    (tmp_path / OUT).mkdir()
    (tmp_path / OUT).chmod(0o555)
    with an_ordinary_user(), pytest.raises(CacheError, match="cannot be filled: permission denied"):
        fill(layer, tmp_path / OUT)
