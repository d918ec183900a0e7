"""Cellpose 3.1 from a lab's checkpoint to labels: found, loaded, surveyed, cut, joined, right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cells import make_cells
from numpy.typing import NDArray
from scoring import f1, labels_of, save, seconds_of

from aiod.errors import AiodError
from aiod.flow.record import read_record
from aiod.flow.request import Request
from aiod.flow.results.labels import open_labels
from aiod.flow.run import Done, run
from aiod.registry import load
from aiod.registry.layers import SHIPPED

pytest_plugins = ["training"]

EPOCHS = "24"
TWO_CHANNELS = {"segment_channel": 1, "nucleus_channel": 2}
Image = NDArray[Any]


@pytest.fixture(scope="session")
def checkpoint(train: Callable[..., Path]) -> Path:
    return train("cellpose", "synthetic", EPOCHS)


@pytest.fixture
def go(tmp_path: Path) -> Callable[..., Done]:
    def go(model: str, image: Path, out: str, **options: Any) -> Done:
        request = Request(model=model, inputs=[image], out=tmp_path / out, device="cpu", **options)
        return run(request, load())

    return go


def scene() -> tuple[Image, Image]:
    """900 x 1100 pixels that the network never saw; in a corner of 520 x 520 lies no cell."""
    image, truth = make_cells(1001, (900, 1100))
    empty, _ = make_cells(1002, (520, 520), diameter=10_000.0)
    reaching = np.isin(truth, truth[:520, :520])
    truth[reaching] = 0
    image[:, reaching | (truth < 0)] = np.median(empty)
    image[:, :520, :520] = empty
    return image, truth


def test_cells_never_seen_are_found_in_tiles_as_in_the_whole(
    checkpoint: Path,
    lab: Callable[..., Path],
    go: Callable[..., Done],
    tmp_path: Path,
    tell: Callable[[str], None],
) -> None:
    lab("cellpose", "synthetic", "CYX", checkpoint)
    image, truth = scene()
    path = save(tmp_path / "scene.ome.tif", image, "CYX")
    tiled = go("cellpose/synthetic", path, "tiled", params=TWO_CHANNELS, tile=(512,))
    whole = go("cellpose/synthetic", path, "whole", params=TWO_CHANNELS, tile=(2048,))
    (made,), (once,) = tiled.record.images, whole.record.images
    assert made.plan is not None
    assert once.plan is not None
    assert (made.plan.tiles, once.plan.tiles) == (6, 1)
    labels, single = labels_of(tiled), labels_of(whole)
    right, alike = f1(labels, truth), f1(labels, single, 0.9)
    tell(
        f"cellpose CYX, {truth.max()} cells on 900 x 1100: F1 at IoU 0.5 {right:.3f} in 6 tiles, "
        f"{f1(single, truth):.3f} in one; the two agree with F1 {alike:.3f} at IoU 0.9; "
        f"{seconds_of(tiled)}"
    )
    assert right >= 0.97
    assert f1(single, truth) >= 0.97
    assert alike >= 0.97
    # Where nothing is, no noise is stretched to the brightness of cells.
    assert not labels[40:480, 40:480].any()
    # Both were given the same brightness: that of the whole image.
    assert made.survey == once.survey
    percentiles = [np.percentile(channel, [1, 99]) for channel in image]
    assert np.allclose(np.array(made.survey["lowhigh"]), percentiles)
    assert tiled.record.model.weights is not None
    assert tiled.record.model.weights.sha256 is not None
    assert "cellpose==3.1.1.2" in tiled.record.environment.packages


def test_one_channel_and_another_size_of_cells(
    checkpoint: Path,
    lab: Callable[..., Path],
    go: Callable[..., Done],
    tmp_path: Path,
    tell: Callable[[str], None],
) -> None:
    lab("cellpose", "plane", "YX", checkpoint)
    image, truth = make_cells(1003, (600, 600), diameter=60.0)
    path = save(tmp_path / "large.tif", image[0], "YX")
    done = go("cellpose/plane", path, "out", params={"diameter": 50}, tile=(320,))
    right = f1(labels_of(done), truth)
    tell(f"cellpose YX, {truth.max()} cells of twice the size with diameter=50: F1 {right:.3f}")
    assert right >= 0.95
    (made,) = done.record.images
    assert made.plan is not None
    assert made.plan.halo == (75, 75)  # one and a half diameters, as was asked for


def test_a_stack_in_3d(
    checkpoint: Path,
    lab: Callable[..., Path],
    go: Callable[..., Done],
    tmp_path: Path,
    tell: Callable[[str], None],
) -> None:
    shipped = json.loads((SHIPPED.manifests / "cellpose.json").read_text("utf-8"))
    params = shipped["versions"]["cyto3 in 3D"]["tasks"]["cyto"]["params"]
    lab("cellpose", "solid", "CZYX", checkpoint, params=params)
    image, truth = make_cells(1004, (40, 100, 200))
    path = save(tmp_path / "stack.ome.tif", image, "CZYX")
    given = {"segment_channel": 1}
    done = go("cellpose/solid", path, "solid", params=given, tile=(40, 100, 100))
    planes = {**given, "do_3D": False, "stitch_threshold": 0.3}
    joined = go("cellpose/solid", path, "joined", params=planes, tile=(40, 100, 200))
    figures = [f1(labels_of(each), truth) for each in (done, joined)]
    tell(
        f"cellpose CZYX, {truth.max()} cells in 40 x 100 x 200: F1 {figures[0]:.3f} from three "
        f"directions in two tiles, {figures[1]:.3f} from planes joined by their overlap; "
        f"{seconds_of(done)}"
    )
    assert min(figures) >= 0.85


def test_weights_that_are_none_are_said_to_be(
    lab: Callable[..., Path],
    go: Callable[..., Done],
    tmp_path: Path,
    environment: Callable[..., Any],
) -> None:
    path = save(tmp_path / "small.tif", make_cells(1005, (64, 64))[0][0], "YX")
    wrong = tmp_path / "linear.pth"
    script = "import sys, torch; torch.save(torch.nn.Linear(2, 3).state_dict(), sys.argv[1])"
    subprocess.run([environment("cellpose").python, "-c", script, wrong], check=True)
    lab("cellpose", "linear", "YX", wrong)
    (tmp_path / "text.pth").write_text("not a checkpoint")
    lab("cellpose", "text", "YX", tmp_path / "text.pth")
    with pytest.raises(AiodError, match="no checkpoint of a Cellpose 1-3 network"):
        go("cellpose/linear", path, "linear")
    with pytest.raises(AiodError, match="no Cellpose checkpoint that PyTorch reads"):
        go("cellpose/text", path, "text")


def test_the_command_line(checkpoint: Path, lab: Callable[..., Path], tmp_path: Path) -> None:
    lab("cellpose", "synthetic", "CYX", checkpoint)
    image, truth = make_cells(1006, (256, 256))
    path = save(tmp_path / "cells.ome.tif", image, "CYX")
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("aiod"), "run", "cellpose/synthetic", path),
            *("-o", tmp_path / "out", "--param", "segment_channel=1"),
        ],
        capture_output=True,
        text=True,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stderr
    (made,) = read_record(tmp_path / "out").images
    found = open_labels(tmp_path / "out" / str(made.labels)).source
    assert made.objects
    assert abs(made.objects - truth.max()) <= 0.05 * truth.max()
    assert found.shape[-2:] == (256, 256)
