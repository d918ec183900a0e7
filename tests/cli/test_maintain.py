"""export and schema as commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from aiod_registry.utils import load_manifests
from jsonschema import Draft202012Validator
from terminal import aiod, fails, works

from aiod.registry import load
from aiod.registry.layers import SHIPPED
from families import family

MakeLayer = Callable[..., Path]


def test_export_writes_what_the_peer_loads(tmp_path: Path) -> None:
    out = tmp_path / "exported"
    assert works("export", "--format", "aiod", out) == f"10 manifests written to {out}.\n"
    peer = load_manifests(sorted(out.iterdir()))
    assert set(peer) == {model.family for model in load() if model.needs_weights}


def test_export_says_what_it_leaves_out(make_layer: MakeLayer, tmp_path: Path) -> None:
    document = family()
    document["versions"]["otsu"] = {"tasks": {"nuclei": {"weights": False}}}
    document["versions"]["v1"]["tasks"]["wing"] = {"location": "https://example.org/w"}
    lab = make_layer("lab", document)
    (lab / "manifests" / "tasks.json").write_text('{"wing": "Wings"}')
    done = aiod("--registry", lab, "export", tmp_path / "out")
    assert done.returncode == 0
    assert [line for line in done.stderr.splitlines() if " toy/" in line] == [
        'left out toy/v1/wing: the format has no task "wing"',
        "left out toy/otsu/nuclei: it needs no weights, which the format cannot say",
    ]
    peer = load_manifests([tmp_path / "out" / "toy.json"])
    assert list(peer["toy"].versions) == ["v1"]


def test_export_to_a_file_or_in_an_unknown_format_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert "is a file" in fails("export", tmp_path / "file", code=2)
    assert "'bioimageio' is not" in fails("export", tmp_path, "--format", "bioimageio", code=2)
    assert (tmp_path / "file").read_text() == "mine"


def test_schema_prints_what_is_shipped() -> None:
    assert works("schema") == (SHIPPED.folder / "schema.json").read_text(encoding="utf-8")


def test_schema_has_the_tasks_of_layers(make_layer: MakeLayer) -> None:
    document = family()
    document["versions"]["v1"]["tasks"] = {"wing": {"location": "https://example.org/w"}}
    lab = make_layer("lab", document)
    (lab / "manifests" / "tasks.json").write_text('{"wing": "Wings"}')
    ours = Draft202012Validator(json.loads(works("schema")))
    theirs = Draft202012Validator(json.loads(works("--registry", lab, "schema")))
    assert not ours.is_valid(document)
    assert theirs.is_valid(document)


@pytest.mark.parametrize("name", ["", "own.json"])
def test_schema_is_written_to_a_file_or_a_folder_and_checked_there(
    tmp_path: Path, name: str
) -> None:
    given = tmp_path / name
    target = tmp_path / (name or "schema.json")
    assert "is stale" in fails("schema", "--check", "--to", given)
    assert works("schema", "--to", given) == f"{target} written.\n"
    assert works("schema", "--check", "--to", given) == f"{target} is up to date.\n"
    target.write_text("{}")
    assert f"{target} is stale.\nNext: `aiod schema --to {target}`" in fails(
        "schema", "--check", "--to", given
    )
    assert target.read_text() == "{}"


def test_a_schema_that_is_no_text_is_stale(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_bytes(b"\xff\xfe")
    assert "is stale" in fails("schema", "--check", "--to", tmp_path)
