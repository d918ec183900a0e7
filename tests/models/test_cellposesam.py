"""Cellpose-SAM from a lab's checkpoint to labels, as Cellpose itself gives them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cells import make_cells
from numpy.typing import NDArray
from scoring import f1, labels_of, save, seconds_of

from aiod.errors import AiodError
from aiod.flow.request import Request
from aiod.flow.run import Done, run
from aiod.registry import load
from aiod.registry.layers import SHIPPED

pytest_plugins = ["training"]

HERE = Path(__file__).parent
Image = NDArray[Any]

# Arrays of the right shapes without their numbers, but for what is said to be wrong.
BROKEN = """
import sys, torch
from cellpose.vit import CPSAM
with torch.device("meta"):
    shapes = {name: value.shape for name, value in CPSAM().state_dict().items()}
missing = {name: torch.zeros(1).expand(shape) for name, shape in shapes.items()}
del missing["encoder.blocks.7.attn.qkv.weight"]
torch.save({**missing, "out.bias": torch.zeros(3)}, sys.argv[1])
torch.save(torch.nn.Linear(2, 3), sys.argv[2])
"""


@pytest.fixture(scope="session")
def checkpoint(train: Callable[..., Path]) -> Path:
    return train("cellposesam", "by_hand")


@pytest.fixture(scope="session")
def python(environment: Callable[..., Any]) -> Path:
    """The environment's Python, built before `lab` takes the network away."""
    found: Path = environment("cellposesam").python
    return found


@pytest.fixture
def go(tmp_path: Path) -> Callable[..., Done]:
    def go(model: str, image: Path, out: str, **options: Any) -> Done:
        request = Request(model=model, inputs=[image], out=tmp_path / out, device="cpu", **options)
        return run(request, load())

    return go


def compared(python: Path, *words: str | Path) -> dict[str, Any]:
    """What `compare_cellposesam.py` finds."""
    done = subprocess.run(
        [python, HERE / "compare_cellposesam.py", SHIPPED.runners / "cellposesam.py", *words],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def test_cells_are_found_in_tiles_as_in_the_whole_and_as_cellpose_finds_them(
    checkpoint: Path,
    lab: Callable[..., Path],
    go: Callable[..., Done],
    tmp_path: Path,
    tell: Callable[[str], None],
    python: Path,
) -> None:
    lab("cellposesam", "by_hand", "CYX", checkpoint)
    image, truth = make_cells(1010, (240, 400), diameter=16)
    path = save(tmp_path / "scene.ome.tif", image, "CYX")
    whole = go("cellposesam/by_hand", path, "whole")
    tiled = go("cellposesam/by_hand", path, "tiled", tile=(240, 200))
    np.save(tmp_path / "image.npy", image)
    found = compared(python, checkpoint, tmp_path / "image.npy", tmp_path / "own.npy")
    labels, single, own = labels_of(tiled), labels_of(whole), np.load(tmp_path / "own.npy")
    right, alike, same = f1(labels, truth), f1(labels, single, 0.9), f1(single, own, 0.9)
    stack, solid, large, zoomed = found["cells"]
    tell(
        f"cellposesam CYX, {truth.max()} cells on 240 x 400: F1 at IoU 0.5 {right:.3f} in 2 tiles, "
        f"{f1(single, truth):.3f} in one; the two agree with F1 {alike:.3f} at IoU 0.9, the whole "
        f"and Cellpose's own eval with {same:.3f}; {seconds_of(tiled)}; without attention: "
        f"{solid} of {stack} cells in 16 x 32 x 40, {zoomed} of {large} with a diameter, pixels as "
        f"in eval {min(found['same'].values()):.4f} at least"
    )
    (made,), (once,) = tiled.record.images, whole.record.images
    assert made.plan is not None
    assert once.plan is not None
    assert (made.plan.tiles, once.plan.tiles) == (2, 1)
    assert labels.shape == single.shape == truth.shape
    assert min(right, f1(single, truth)) >= 0.9
    assert alike >= 0.97
    assert same >= 0.99
    assert made.survey == once.survey
    percentiles = [np.percentile(channel, [1, 99]) for channel in image]
    assert np.allclose(np.array(made.survey["lowhigh"]), percentiles)
    assert "cellpose==4.2.1.1" in tiled.record.environment.packages
    # What the full network would take hours for.
    assert min(found["same"].values()) >= 0.999
    assert found["unique"]
    assert found["apart"] < 0.99  # the order of channels is the image's
    assert found["narrow"][0] == found["narrow"][2] == 0
    assert abs(solid - stack) <= 0.3 * stack
    assert abs(zoomed - large) <= 0.2 * large
    sentences = ("3 channels at most", "channel 3 was asked for", "needs a stack", "takes the axes")
    for error, sentence in zip(found["errors"], sentences, strict=True):
        assert sentence in error


def test_weights_that_are_none_are_said_to_be(
    lab: Callable[..., Path],
    go: Callable[..., Done],
    tmp_path: Path,
    python: Path,
) -> None:
    path = save(tmp_path / "small.tif", make_cells(1014, (64, 64))[0][0], "YX")
    files = [tmp_path / f"{name}.pth" for name in ("missing", "module", "text")]
    subprocess.run([python, "-c", BROKEN, *files[:2]], check=True)
    files[2].write_text("not a checkpoint")
    sentences = (
        "2 of its 350 arrays are missing or of another shape",
        "beside arrays it holds pickled Python objects",
        "no checkpoint in the format that PyTorch writes",
    )
    for file, sentence in zip(files, sentences, strict=True):
        lab("cellposesam", file.stem, "YX", file)
        with pytest.raises(AiodError, match=sentence):
            go(f"cellposesam/{file.stem}", path, file.stem)
