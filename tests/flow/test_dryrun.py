"""A plan says what a run would have to bring first; that a run is as planned see `test_run`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from toylab import Image

from aiod.flow.dryrun import DryRun, plan_rows
from aiod.flow.models.environments import environment_for
from aiod.flow.request import Request
from aiod.registry import load

pytest_plugins = "labs"


@pytest.fixture
def plan(
    lab: Path, picture: tuple[Path, Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], DryRun]:
    monkeypatch.setenv("AIOD_CACHE", str(tmp_path / "cache"))  # as on a new machine
    return lambda model: plan_rows(Request(model=model, inputs=[picture[0]]), load([lab]))


def test_packages_are_missing_until_they_are_there(
    plan: Callable[[str], DryRun], lab: Path
) -> None:
    assert plan("toy/plane").missing == ("the packages of toy",)
    assert "First it brings the packages of toy." in plan("toy/plane").sentence
    environment_for(lab / "runners" / "toy.py")
    assert plan("toy/plane").missing == ()
    assert "First" not in plan("toy/plane").sentence


def test_weights_are_missing_with_their_size_until_they_are_there(
    plan: Callable[[str], DryRun],
) -> None:
    model = "stardist/2D_versatile_fluo/nuclei"
    (size,) = [each.size for each in load().locations_for(model)]
    assert size is not None
    found = plan(model)
    weights = f"the weights of {model} ({size / 1e6:.1f} MB)"
    assert found.missing == (weights, "the packages of stardist")
    assert f"First it brings {weights} and the packages of stardist." in found.sentence
    assert found.as_dict()["missing"] == found.missing


def test_weights_that_come_along_are_here(plan: Callable[[str], DryRun]) -> None:
    assert plan("unet/nuclei-mini/nuclei").missing == ("the packages of unet",)
