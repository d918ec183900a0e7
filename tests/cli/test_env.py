"""aiod env as a person runs it: list, build, clean."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from terminal import fails, works

from families import family

MakeLayer = Callable[..., Path]
RUNNER = f"""# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy=={np.__version__}"]
# ///
def load(weights, *, config, device): ...
def predict(model, image, *, axes, size=1): ...
"""


@pytest.fixture
def lab(make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lab's layer with one family and its runner."""
    layer = make_layer("lab", family())
    (layer / "runners").mkdir()
    (layer / "runners" / "toy.py").write_text(RUNNER)
    monkeypatch.setenv("AIOD_REGISTRIES", str(layer))
    return layer


def listed() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(works("env", "list", "--json"))["environments"]
    return found


def test_an_environment_is_built_listed_and_cleaned(lab: Path, tmp_path: Path) -> None:
    assert "0 environments, 0 B" in works("env", "list")
    told = works("env", "build", "toy/v1", "toy")
    folder = tmp_path / "cache" / "environments"
    assert told.startswith("toy: 2 packages, ")
    assert told.count("\n") == 1
    assert str(folder) in told

    (item,) = listed()
    assert (item["family"], item["state"], item["used"]) == ("toy", "ready", True)
    assert f"numpy=={np.__version__}" in item["packages"]
    assert Path(item["python"]).exists()
    assert item["size"] > 1_000_000
    table = works("env", "list")
    assert item["digest"] in table
    assert "unused" not in table

    (lab / "runners" / "toy.py").write_text(RUNNER.replace("==", ">"))
    assert "ready, unused" in works("env", "list")
    assert listed()[0]["used"] is False
    assert "freed" in works("env", "clean", "--unused", "--yes")
    assert listed() == []
    assert works("env", "clean", "--all", "--yes") == "Nothing to clean.\n"


def test_broken_environments_are_cleaned_and_good_ones_only_when_named(
    lab: Path, tmp_path: Path
) -> None:
    works("env", "build", "toy")
    (good,) = listed()
    broken = tmp_path / "cache" / "environments" / "toy-0123456789abcdef"
    broken.mkdir()
    (broken / "junk").write_text("half a download")
    assert sorted(item["state"] for item in listed()) == ["broken", "ready"]
    assert "toy: broken" in works("env", "clean", stdin="y\n")
    assert listed() == [good]
    assert "There is no environment of tiy." in fails("env", "clean", "tiy")
    assert "Stopped" in fails("env", "clean", "toy", stdin="n\n", code=130)
    assert listed() == [good]
    works("env", "clean", "toy", "--yes")
    assert listed() == []


def test_every_family_is_tried_and_each_failure_is_told(lab: Path) -> None:
    (lab / "runners" / "odd.py").write_text(RUNNER.replace('"numpy', '"no numpy'))
    (lab / "runners" / "bare.py").write_text("def load(): ...\n")
    told = fails("env", "build", "odd", "bare", "toy")
    assert f"{lab / 'runners' / 'odd.py'}:3: " in told
    assert f"{lab / 'runners' / 'bare.py'}:1: the runner has no header" in told
    assert [item["family"] for item in listed()] == ["toy"]
    assert "Passed over" in fails("env", "list", code=0)


def test_building_again_and_json(lab: Path) -> None:
    first = json.loads(works("env", "build", "toy", "--json"))["environments"][0]
    junk = Path(first["path"]) / "junk"
    junk.write_text("")
    again = json.loads(works("env", "build", "toy", "--json"))
    assert again["environments"][0]["date"] == first["date"]
    assert again["failed"] == []
    assert junk.exists()
    works("env", "build", "toy", "--again")
    assert not junk.exists()


def test_what_cannot_be_built_is_told(lab: Path) -> None:
    assert "Which models?" in fails("env", "build")
    told = fails("env", "build", "toi")
    assert "No layer has a runner for toi" in told
    assert "did you mean toy?" in told
    assert '"toy" has no version "v2"' in fails("env", "build", "toy/v2")


def test_help_has_an_example() -> None:
    for command in ((), ("list",), ("build",), ("clean",)):
        assert "Example" in works("env", *command, "--help")
