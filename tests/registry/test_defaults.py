"""Which model runs for a task when nobody names one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aiod.errors import ManifestError
from aiod.registry import load
from aiod.registry.defaults import default_models
from aiod.registry.layers import SHIPPED, Layer
from aiod.registry.pull import is_here
from aiod.registry.validate import validate
from families import family

MakeLayer = Callable[..., Path]


def write(layer: Path, text: str) -> Path:
    path = layer / "manifests" / "defaults.json"
    path.write_text(text)
    return path


def test_the_shipped_defaults_need_no_download() -> None:
    registry = load()
    defaults = default_models([SHIPPED])
    assert {"nuclei", "cyto", "mito"} <= set(defaults)
    for task, model_id in defaults.items():
        model = registry.get(model_id)
        assert model.id == model_id
        assert model.task == task
        assert is_here(model)


def test_a_later_layer_wins_line_by_line(make_layer: MakeLayer) -> None:
    lab = make_layer("lab", family())
    write(lab, '{"nuclei": "toy/v1/nuclei"}')
    registry = load([lab])
    assert registry.problems == ()
    defaults = default_models(registry.layers)
    assert defaults["nuclei"] == "toy/v1/nuclei"
    assert defaults["mito"] == default_models([SHIPPED])["mito"]
    with pytest.raises(TypeError):
        defaults["nuclei"] = "other"  # type: ignore[index]


def test_a_layer_without_the_file_changes_nothing(make_layer: MakeLayer) -> None:
    lab = Layer("lab", make_layer("lab", family()))
    assert default_models([SHIPPED, lab]) == default_models([SHIPPED])


@pytest.mark.parametrize("text", ["", "[]", "{", '{"nuclei": 1}', '{"nuclei": " "}', '{"a": {}}'])
def test_a_file_that_makes_no_sense_is_said(make_layer: MakeLayer, text: str) -> None:
    path = write(make_layer("lab", family()), text)
    with pytest.raises(ManifestError, match=r"defaults\.json"):
        default_models([Layer("lab", path.parents[1])])
    assert [problem.severity for problem in validate([path]).problems] == ["error"]


@pytest.mark.parametrize(
    ("line", "code", "found", "hint"),
    [
        ('"nuclie": "toy/v1"', "unknown-task", '"nuclie"', 'did you mean "nuclei"?'),
        ('"nuclei": "toi/v1"', "unknown-model", "no model family", "did you mean toy?"),
        ('"nuclei": "toy/v2"', "unknown-model", 'no version "v2"', "`aiod list`"),
        ('"cyto": "toy/v1"', "default", "toy/v1/nuclei, a model for nuclei", ""),
    ],
)
def test_unknown_tasks_and_models_are_said_at_their_line(
    make_layer: MakeLayer, line: str, code: str, found: str, hint: str
) -> None:
    path = write(make_layer("lab", family()), "{\n  " + line + "\n}\n")
    (problem,) = validate([path]).problems
    assert (problem.severity, problem.code, problem.line) == ("error", code, 2)
    assert found in problem.found
    assert hint in (problem.hint or "")


def test_a_default_may_name_a_shipped_model_or_a_task_of_the_layer(make_layer: MakeLayer) -> None:
    toy = family()
    toy["versions"]["v1"]["tasks"]["wing"] = {"location": "https://example.org/wing.pth"}
    lab = make_layer("lab", toy)
    (lab / "manifests" / "tasks.json").write_text('{"wing": "Wing discs"}')
    path = write(lab, '{"wing": "toy/v1/wing", "nuclei": "cellpose/nuclei"}')
    assert validate([path]).problems == ()
