"""aiod eval, as a person runs it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from terminal import fails, works

import aiod
from aiod.flow.results.labels import create_labels, finish_labels

TRUTH = Path(aiod.__file__).parent / "samples" / "nuclei_2d_truth.ome.tif"


@pytest.fixture
def truth() -> NDArray[Any]:
    found: NDArray[Any] = tifffile.imread(TRUTH)
    return found


def saved(path: Path, labels: NDArray[Any], **more: Any) -> Path:
    tifffile.imwrite(path, labels, **more)
    return path


def test_labels_that_are_the_truth(tmp_path: Path, truth: NDArray[Any]) -> None:
    out = works("eval", saved(tmp_path / "labels.tif", truth), TRUTH)
    assert "125 objects, 125 in the truth." in out
    assert "Mean AP over IoU 0.50…0.95: 1.000. At IoU 0.50: PQ 1.000 = SQ 1.000 × RQ 1.000." in out
    assert len([line for line in out.splitlines() if line.strip().startswith("0.")]) == 10


def test_figures_for_scripts_and_tables(tmp_path: Path, truth: NDArray[Any]) -> None:
    labels = np.where(truth > 100, 0, truth)
    table = tmp_path / "figures.csv"
    words = ("eval", saved(tmp_path / "labels.tif", labels), TRUTH, "--csv", table)
    found = json.loads(works(*words, "--json"))
    missed = len(np.unique(truth[truth > 100]))
    assert (found["kind"], found["objects"], found["true_objects"]) == (
        "instance",
        125 - missed,
        125,
    )
    assert found["mean_ap"] == pytest.approx((125 - missed) / 125)
    assert [row["iou"] for row in found["thresholds"]] == [
        round(0.5 + 0.05 * i, 2) for i in range(10)
    ]
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["iou"]) for row in rows] == [row["iou"] for row in found["thresholds"]]
    assert {int(row["missed"]) for row in rows} == {missed}
    assert f"Written: {table}" in works(*words)


def test_our_own_labels_say_that_they_are_classes_and_how_large_pixels_are(
    tmp_path: Path, truth: NDArray[Any]
) -> None:
    folder = tmp_path / "mito.ome.zarr"
    level = create_labels(
        folder,
        name="mito",
        axes="YX",
        shape=truth.shape,
        pixel_size={"Y": 0.5, "X": 0.5},
        kind="semantic",
    )
    level[:] = np.roll(truth > 0, 2, axis=1)
    finish_labels(folder, "mito")
    classes = saved(tmp_path / "truth.tif", (truth > 0).astype(np.uint8))
    out = works("eval", folder, classes)
    assert "Hausdorff (µm)" in out
    (found,) = json.loads(works("eval", folder, classes, "--json"))["classes"]
    assert found["number"] == 1
    assert 0.8 < found["dice"] < 1
    assert found["hausdorff_95"] == pytest.approx(1.0)
    assert "1 object, 1 in the truth" in works("eval", folder, classes, "--instances")


def test_classes_of_plain_files_are_asked_for(tmp_path: Path, truth: NDArray[Any]) -> None:
    labels = saved(tmp_path / "labels.tif", (truth > 0).astype(np.uint8))
    empty = saved(tmp_path / "empty.tif", np.zeros(truth.shape, np.uint8))
    table = tmp_path / "classes.csv"
    out = works("eval", labels, empty, "--semantic", "--csv", table)
    assert "where one of the images lacks the class" in out
    header, row = table.read_text(encoding="utf-8").splitlines()
    assert header.startswith("number,pixels,true_pixels,dice,iou,hausdorff,hausdorff_95,unit")
    assert row.endswith(",0,0.0,0.0,,,pixels")
    assert "nothing to measure" in works("eval", empty, empty, "--semantic")


def test_nothing_and_nothing_is_said(tmp_path: Path) -> None:
    empty = saved(tmp_path / "empty.tif", np.zeros((20, 30), np.uint8))
    assert "nothing to measure" in works("eval", empty, empty)
    assert json.loads(works("eval", empty, empty, "--json"))["mean_ap"] is None


def test_what_cannot_be_compared_is_a_sentence(tmp_path: Path, truth: NDArray[Any]) -> None:
    smaller = saved(tmp_path / "smaller.tif", truth[:100])
    assert "differ in size" in fails("eval", smaller, TRUTH)
    image = saved(tmp_path / "image.tif", truth.astype(np.float32))
    assert "whole numbers" in fails("eval", image, TRUTH)
    assert "look like objects" in fails(
        "eval",
        saved(tmp_path / "many.tif", np.arange(900, dtype=np.uint16).reshape(30, 30)),
        saved(tmp_path / "more.tif", np.arange(900, dtype=np.uint16).reshape(30, 30)),
        "--semantic",
    )
    assert "missing.tif" in fails("eval", tmp_path / "missing.tif", TRUTH)
    fails("eval", TRUTH, TRUTH, "--csv", tmp_path / "smaller.tif" / "figures.csv")
