"""aiod import as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from terminal import Terminal, fails, works

from packages import folder_of, latest, zip_of


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return zip_of(tmp_path / "otter.zip", latest())


def test_a_model_is_shown_and_written_when_agreed_to(package: Path, tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    with Terminal("import", "bioimageio", "--to", lab, package) as terminal:
        shown = terminal.wait_for("Write ", 60)
        assert "Channel 1 is taken for the foreground, channel 2 for boundaries." in shown
        assert "Its tags say that it segments nuclei" in shown
        assert not (lab / "manifests").exists()
        terminal.type("y")
        assert terminal.finish() == 0
    assert "test bioimageio/calm-otter" in terminal.seen.replace("\n", "")
    assert works("validate", lab / "manifests" / "bioimageio.json")
    shown = works("--registry", lab, "show", "bioimageio/calm-otter")
    assert "Finds nuclei." in shown


def test_nothing_is_asked_where_everything_is_given(package: Path, tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    words = ("import", "bioimageio", "--to", lab, "--task", "cyto", "--version", "Mine", package)
    planned = json.loads(works(*words, "--dry-run", "--json"))
    assert planned["written"] is False
    assert not lab.exists()
    done = json.loads(works(*words, "--yes", "--json"))
    assert done["model"] == "bioimageio/mine"
    assert done["written"] is True
    assert all(Path(file).is_file() for file in done["files"])
    listed = json.loads(works("--registry", lab, "list", "--task", "cyto", "--json"))
    assert "bioimageio/mine/cyto" in {item["id"] for item in listed}


def test_what_is_wrong_is_one_sentence(package: Path, tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    assert "Nothing was written" in fails("import", "bioimageio", "--to", lab, package, stdin="n\n")
    assert "no such file" in fails("import", "bioimageio", "--to", lab, "gone.zip")
    keras = latest()
    keras["weights"] = {
        "keras_hdf5": {"source": "w.h5", "sha256": "0" * 64, "tensorflow_version": "2.10"}
    }
    told = fails("import", "bioimageio", "--to", lab, folder_of(tmp_path / "keras", keras))
    assert "it has weights as keras_hdf5" in told
    assert "Next:" in told
    assert "is no layer" in fails("import", "bioimageio", package, cwd=tmp_path)


def test_help_shows_an_example() -> None:
    assert "aiod import bioimageio --to" in works("import", "bioimageio", "--help")
    assert "bioimageio" in works("import", "--help")
