"""StarDist from networks that were trained here to labels: planes, colours, stacks, archives."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cells import make_cells
from scoring import f1, labels_of, save, seconds_of

from aiod.errors import AiodError
from aiod.flow.models.environments import Environment
from aiod.flow.request import Request
from aiod.flow.run import Done, run
from aiod.registry import load

pytest_plugins = ["training"]

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def flat(train: Callable[..., Path]) -> Path:
    return train("stardist", "flat", "YX", "20")


@pytest.fixture(scope="session")
def coloured(train: Callable[..., Path]) -> Path:
    return train("stardist", "coloured", "YXC", "12")


@pytest.fixture(scope="session")
def solid(train: Callable[..., Path]) -> Path:
    return train("stardist", "solid", "ZYX", "12")


@pytest.fixture
def go(tmp_path: Path) -> Callable[..., Done]:
    def go(model: str, image: Path, out: str, **options: Any) -> Done:
        request = Request(model=model, inputs=[image], out=tmp_path / out, device="cpu", **options)
        return run(request, load())

    return go


def test_an_archive_with_a_folder_in_it_and_tiles_that_agree_with_the_whole(
    flat: Path,
    lab: Callable[..., Path],
    go: Callable[..., Done],
    tmp_path: Path,
    tell: Callable[[str], None],
) -> None:
    archive = shutil.make_archive(str(tmp_path / "flat"), "zip", flat.parent, flat.name)
    lab("stardist", "flat", "YX", Path(archive))
    image, truth = make_cells(1001, (900, 1100))
    path = save(tmp_path / "cells.tif", image[0], "YX")
    tiled = go("stardist/flat", path, "tiled", tile=(512,))
    whole = go("stardist/flat", path, "whole", tile=(2048,))
    labels, single = labels_of(tiled), labels_of(whole)
    right, alike = f1(labels, truth), f1(labels, single, 0.9)
    tell(
        f"stardist YX, {truth.max()} cells on 900 x 1100: F1 at IoU 0.5 {right:.3f} in 6 tiles, "
        f"{f1(single, truth):.3f} in one; the two agree with F1 {alike:.3f} at IoU 0.9; "
        f"{seconds_of(tiled)}"
    )
    (made,) = tiled.record.images
    assert made.plan is not None
    assert (made.plan.tiles, made.plan.halo) == (6, (128, 128))
    assert made.survey["black_white"] == pytest.approx(np.percentile(image[0], [1, 99.8]).tolist())
    assert right >= 0.93
    assert alike >= 0.99
    strict = go("stardist/flat", path, "strict", tile=(2048,), params={"prob_thresh": 0.95})
    assert labels_of(strict).max() < single.max()
    pieces = go("stardist/flat", path, "pieces", tile=(2048,), params={"n_tiles": (2, 2)})
    assert f1(labels_of(pieces), single, 0.9) >= 0.99


def test_colours_and_a_folder(
    coloured: Path,
    lab: Callable[..., Path],
    go: Callable[..., Done],
    tmp_path: Path,
    tell: Callable[[str], None],
) -> None:
    lab("stardist", "coloured", "YXC", coloured)
    image, truth = make_cells(1002, (400, 500))
    path = save(tmp_path / "colours.ome.tif", image[[0, 1, 0]], "CYX")
    right = f1(labels_of(go("stardist/coloured", path, "out", tile=(256,))), truth)
    tell(f"stardist YXC, {truth.max()} cells on 400 x 500: F1 {right:.3f} in 4 tiles")
    assert right >= 0.9
    (made,) = go("stardist/coloured", path, "two", channels=("1", "2")).record.images
    assert "takes 3 channels, the image has 2" in str(made.error)


def test_a_stack_gives_what_stardist_itself_finds_in_it(
    solid: Path,
    lab: Callable[..., Path],
    go: Callable[..., Done],
    environment: Callable[[str], Environment],
    tmp_path: Path,
    tell: Callable[[str], None],
) -> None:
    """Its training is short and does not repeat exactly: how right it is differs each time."""
    lab("stardist", "solid", "ZYX", solid)
    image, truth = make_cells(1003, (64, 96, 160), diameter=24.0)
    path = save(tmp_path / "stack.ome.tif", image[0], "ZYX")
    tiled = go("stardist/solid", path, "tiled", tile=(64, 96, 80), halo=(32,))
    whole = go("stardist/solid", path, "whole", tile=(64, 96, 160))
    np.save(tmp_path / "image.npy", image[0])
    subprocess.run(
        [
            environment("stardist").python,
            HERE / "oracle_stardist.py",
            solid,
            tmp_path / "image.npy",
            tmp_path / "labels.npy",
        ],
        check=True,
    )
    own = np.load(tmp_path / "labels.npy")
    same, alike = f1(labels_of(whole), own, 0.9), f1(labels_of(tiled), labels_of(whole), 0.9)
    right = f1(labels_of(tiled), truth)
    tell(
        f"stardist ZYX, {truth.max()} cells in 64 x 96 x 160: F1 {right:.3f} in 2 tiles, "
        f"{f1(labels_of(whole), truth):.3f} in one; at IoU 0.9 the two agree with F1 {alike:.3f}, "
        f"and the one with StarDist's own call with F1 {same:.3f}"
    )
    assert own.max() >= truth.max() / 3
    assert same >= 0.98
    assert alike >= 0.9


def test_folders_that_hold_no_network_are_said_to_be(
    flat: Path, lab: Callable[..., Path], go: Callable[..., Done], tmp_path: Path
) -> None:
    path = save(tmp_path / "small.tif", make_cells(1005, (64, 64))[0][0], "YX")
    (tmp_path / "empty").mkdir()
    lab("stardist", "empty", "YX", tmp_path / "empty")
    shutil.copytree(flat, tmp_path / "bare", ignore=shutil.ignore_patterns("*.h5"))
    lab("stardist", "bare", "YX", tmp_path / "bare")
    lab("stardist", "turned", "ZYX", flat)
    with pytest.raises(AiodError, match=r"0 files config\.json where one was expected"):
        go("stardist/empty", path, "empty")
    with pytest.raises(AiodError, match=r"no weights \(\*\.h5\) lie beside"):
        go("stardist/bare", path, "bare")
    stack = save(tmp_path / "stack.ome.tif", make_cells(1006, (8, 40, 40))[0][0], "ZYX")
    (made,) = go("stardist/turned", stack, "turned").record.images
    assert made.status == "failed"
    assert "takes images with the axes YX, not ZYX" in str(made.error)
