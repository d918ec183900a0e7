"""Trying a model: every promise that a toy breaks is the one that is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from toylab import blobs, pieces, save

from aiod.flow.trial import Trial, try_model
from aiod.registry import load

pytest_plugins = "labs"


def tried(lab: Path, version: str = "plane", test: Any = None, **values: Any) -> Trial:
    """A trial of the toy with this test in its manifest, and these defaults."""
    path = lab / "manifests" / "toy.json"
    manifest = json.loads(path.read_text())
    if test is not None:
        manifest["versions"][version]["metadata"]["test"] = test
    for parameter in manifest["params"]:
        parameter["value"] = values.get(parameter["name"], parameter["value"])
    path.write_text(json.dumps(manifest))
    registry = load([lab])
    return try_model(registry.get(f"toy/{version}/nuclei"), registry)


def states(trial: Trial) -> dict[str, str]:
    return {check.about: check.state for check in trial.checks}


def told(trial: Trial, about: str) -> str:
    return next(check.told for check in trial.checks if check.about == about)


KEPT = dict.fromkeys(("weights", "environment", "labels", "result", "tiles"), "passed")


@pytest.fixture
def example(lab: Path) -> tuple[str, str, int]:
    """An input and its labels, beside the manifests, and the number of objects."""
    image = blobs((150, 130))
    save(lab / "cells.ome.tif", image, "YX")
    right = pieces(image)
    tifffile.imwrite(lab / "right.tif", right.astype("uint16"))
    return "../cells.ome.tif", "../right.tif", int(right.max())


def test_a_model_that_keeps_its_promises(lab: Path, example: tuple[str, str, int]) -> None:
    image, right, count = example
    trial = tried(lab, test={"input": image, "expected": right, "tolerance": 0})
    assert states(trial) == KEPT
    assert trial.passed
    assert f"{count} objects on Y 150 × X 130, uint32" in told(trial, "labels")
    assert told(trial, "result") == "F1 1.000 at IoU 0.5 (may be off by 0)"
    assert told(trial, "tiles") == "the same pixels in 4 tiles"
    assert trial.seconds is not None
    assert trial.memory is not None
    assert 10e6 < trial.memory < 1e9


def test_a_number_of_objects_has_a_tolerance_too(lab: Path, example: tuple[str, str, int]) -> None:
    image, _, count = example
    near = tried(lab, test={"input": image, "expected": count + 1, "tolerance": 0.5})
    assert states(near) == KEPT
    far = tried(lab, test={"input": image, "expected": 2 * count})
    assert states(far) == {**KEPT, "result": "failed"}
    assert f"{count} objects, {2 * count} expected (may be off by 0.1)" in told(far, "result")


def test_another_result_than_the_manifest_promises(
    lab: Path, example: tuple[str, str, int]
) -> None:
    image, right, _ = example
    trial = tried(lab, test={"input": image, "expected": right}, threshold=180)
    assert states(trial) == {**KEPT, "result": "failed"}
    assert not trial.passed


def test_an_answer_that_depends_on_the_tile(lab: Path, example: tuple[str, str, int]) -> None:
    """This one gives overlapping masks, cut where its own tile has its middle."""
    image, *_ = example
    trial = tried(lab, test={"input": image, "expected": 2}, kind="masks")
    assert states(trial) == {**KEPT, "tiles": "failed"}
    assert "at IoU 0.9 of 4 tiles and the whole" in told(trial, "tiles")


def test_classes_and_models_without_a_test(lab: Path) -> None:
    """They see the sample for their axes."""
    trial = tried(lab, "classes", kind="semantic")
    assert states(trial) == {**KEPT, "result": "not checked"}
    assert trial.passed
    assert "classes on Y 512 × X 512" in told(trial, "labels")
    assert "Z 31 × Y 61 × X 57" in told(tried(lab, "stack", kind="instance"), "labels")
    assert "Y 300 × X 500" in told(tried(lab, "colour", kind="instance"), "labels")


def test_what_fails_is_told_and_ends_the_trial(lab: Path, example: tuple[str, str, int]) -> None:
    image, right, _ = example
    trial = tried(lab, test={"input": "../no.tif", "expected": right})
    assert states(trial) == {"weights": "passed", "environment": "passed", "image": "failed"}
    assert "no.tif" in told(trial, "image")
    trial = tried(lab, test={"input": image, "expected": right}, most=1)
    assert states(trial)["labels"] == "failed"
    assert "ran out of memory" in told(trial, "labels")
    (lab / "runners" / "toy.py").write_text("def load(weights, *, config, device): ...")
    assert "has no header" in told(tried(lab), "environment")


CHECK = """

def check(model, *, input, expected, threshold=100):
    same = bool(((np.load(input)[0, 0] > threshold) == np.load(expected)).all())
    return {"passed": same, "told": f"{same} above {threshold}"}
"""


def test_tensors_of_the_network_are_for_the_runner_to_compare(lab: Path) -> None:
    image = blobs((150, 130))
    np.save(lab / "given.npy", image[None, None])
    np.save(lab / "right.npy", image > 100)
    test = {"input": "../given.npy", "expected": "../right.npy"}
    without = tried(lab, test=test)
    assert states(without) == {**KEPT, "result": "not checked"}
    runner = lab / "runners" / "toy.py"
    runner.write_text(runner.read_text() + CHECK)
    good = tried(lab, test=test)
    assert states(good) == KEPT
    assert told(good, "result") == "True above 100"
    assert "Y 150 × X 130" in told(good, "labels")  # the tensor, as an image
    assert states(tried(lab, test=test, threshold=180)) == {**KEPT, "result": "failed"}
    runner.write_text(runner.read_text().replace('"passed": same', '"passed": 1'))
    assert "check returned a dict where" in told(tried(lab, test=test), "result")
    np.save(lab / "given.npy", np.array([print], object), allow_pickle=True)
    assert states(tried(lab, test=test))["result"] == "failed"
