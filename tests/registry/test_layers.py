"""Layers: which folders are read, in which order, and what a bad one does to the rest."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from aiod.errors import ManifestError
from aiod.registry import load
from aiod.registry.layers import SHIPPED, find_layers
from families import family

MakeLayer = Callable[..., Path]


def _names() -> list[str]:
    return [layer.name for layer in load().layers]


def test_the_shipped_layer_comes_first_then_config_file_environment_and_named_ones(
    tmp_path: Path, make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("institute", "lab", "mine"):
        make_layer(name)
    (tmp_path / "config.toml").write_text('registries = ["institute"]')
    monkeypatch.setenv("AIOD_REGISTRIES", str(tmp_path / "lab"))
    layers = load([tmp_path / "mine"]).layers
    assert layers[0] == SHIPPED
    assert [layer.name for layer in layers] == ["aiod", "institute", "lab", "mine"]


def test_aiod_registries_is_a_path_list(
    make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [str(make_layer("one")), str(make_layer("two"))]
    monkeypatch.setenv("AIOD_REGISTRIES", os.pathsep.join(folders))
    assert _names() == ["aiod", "one", "two"]


def test_a_folder_named_twice_counts_once_where_it_is_named_last(
    make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = make_layer("one"), make_layer("two")
    monkeypatch.setenv("AIOD_REGISTRIES", os.pathsep.join([str(one), str(two), f"{one}/"]))
    assert _names() == ["aiod", "two", "one"]


def test_naming_the_shipped_folder_changes_nothing() -> None:
    assert find_layers([SHIPPED.folder]) == (SHIPPED,)


def test_a_layer_named_like_another_goes_by_its_whole_path(make_layer: MakeLayer) -> None:
    first, second = make_layer("a/lab"), make_layer("b/lab")
    aiod = make_layer("c/aiod")
    names = [layer.name for layer in load([first, second, aiod]).layers]
    assert names == ["aiod", "lab", str(second), str(aiod)]


def test_a_layer_named_by_dots_goes_by_its_folders_name(
    make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(make_layer("lab") / "manifests")
    assert find_layers([".."])[1].name == "lab"


def test_a_missing_folder_of_the_settings_is_reported_and_the_rest_works(
    tmp_path: Path, make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = make_layer("lab", family())
    monkeypatch.setenv("AIOD_REGISTRIES", os.pathsep.join([str(tmp_path / "gone"), str(lab)]))
    registry = load()
    assert "toy/v1" in registry
    assert "cellpose/cyto3" in registry
    (problem,) = registry.problems
    assert problem.file == str(tmp_path / "gone")
    assert "does not exist" in problem.sentence


def test_a_folder_named_explicitly_that_is_no_layer_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="does not exist"):
        load([tmp_path / "gone"])
    with pytest.raises(ManifestError, match="has no folder manifests/") as caught:
        load([tmp_path])
    assert caught.value.hint == "a layer is a folder with manifests/*.json"


def test_a_folder_that_is_the_manifests_itself_is_told_apart(make_layer: MakeLayer) -> None:
    lab = make_layer("lab", family())
    with pytest.raises(ManifestError) as caught:
        load([lab / "manifests"])
    assert "name the folder above it" in str(caught.value)


def test_a_file_where_a_folder_is_named_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "lab").write_text("")
    with pytest.raises(ManifestError, match="cannot be read: not a directory"):
        load([tmp_path / "lab"])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"name": NaN}',
        b'{"name": "Bad"}',
        b"[" * 100_000,
        b'{"name": "Bad", "versions": {"v": {"tasks": {"Nuclei": {"location": "x"}}}}}',
    ],
)
def test_a_bad_file_in_a_layer_is_reported_and_the_rest_works(
    make_layer: MakeLayer, content: bytes
) -> None:
    lab = make_layer("lab", family())
    bad = lab / "manifests" / "bad.json"
    bad.write_bytes(content)
    registry = load([lab])
    assert "toy/v1/nuclei" in registry
    assert {problem.file for problem in registry.problems} == {str(bad)}
    assert all(problem.severity == "error" for problem in registry.problems)


def test_a_folder_and_a_dangling_link_called_json_are_reported(make_layer: MakeLayer) -> None:
    lab = make_layer("lab", family())
    (lab / "manifests" / "folder.json").mkdir()
    (lab / "manifests" / "link.json").symlink_to(lab / "nowhere.json")
    registry = load([lab])
    assert "toy/v1" in registry
    assert {Path(problem.file).name: problem.code for problem in registry.problems} == {
        "folder.json": "unreadable",
        "link.json": "unreadable",
    }


def test_files_that_are_no_manifests_are_left_alone(make_layer: MakeLayer) -> None:
    lab = make_layer("lab", family())
    (lab / "manifests" / "notes.txt").write_text("{")
    (lab / "manifests" / ".hidden.json").write_text("{")
    assert load([lab]).problems == ()


def test_of_two_files_with_one_short_name_the_first_counts_and_the_other_is_reported(
    make_layer: MakeLayer,
) -> None:
    lab = make_layer("lab")
    (lab / "manifests" / "a.json").write_text(json.dumps(family(name="Toy")))
    (lab / "manifests" / "b.json").write_text(json.dumps(family(name="toy", short_name="toy")))
    registry = load([lab])
    assert registry.family("toy").name == "Toy"
    (problem,) = registry.problems
    assert (problem.code, Path(problem.file).name) == ("duplicate-family", "b.json")
    assert 'the short_name "toy", which a.json has' in problem.sentence


def test_a_layer_brings_tasks_of_its_own(make_layer: MakeLayer) -> None:
    toy = family()
    toy["versions"]["v1"]["tasks"]["wing"] = {"location": "https://example.org/wing.pth"}
    lab = make_layer("lab", toy)
    assert "toy/v1/wing" not in load([lab])
    (lab / "manifests" / "tasks.json").write_text('{"wing": "Wing discs"}')
    registry = load([lab])
    assert registry.problems == ()
    assert registry.tasks["wing"] == "Wing discs"
    assert list(registry.tasks)[-1] == "wing"
    assert [model.id for model in registry.filter(task="wing")] == ["toy/v1/wing"]


@pytest.mark.parametrize("text", ["[]", "{", '{"Wing": "Wing"}', '{"wing": 1}', '{"wing": " "}'])
def test_a_bad_list_of_tasks_is_reported_and_the_rest_works(
    make_layer: MakeLayer, text: str
) -> None:
    lab = make_layer("lab", family())
    (lab / "manifests" / "tasks.json").write_text(text)
    registry = load([lab])
    assert "toy/v1" in registry
    assert [problem.code for problem in registry.problems] == ["tasks"]


def test_the_layers_of_a_registry_can_be_shown(make_layer: MakeLayer) -> None:
    assert "from aiod and lab>" in repr(load([make_layer("lab")]))


def test_a_circle_of_links_is_a_layer_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    monkeypatch.setenv("AIOD_REGISTRIES", str(tmp_path / "loop"))
    registry = load()
    assert "cellpose/cyto3" in registry
    assert [Path(problem.file).name for problem in registry.problems] == ["loop"]
