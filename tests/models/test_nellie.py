"""Nellie through aiod gives what its own steps give on files: planes and stacks, drawn and real."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from organelles_nellie import make_organelles
from scoring import f1, labels_of, save, seconds_of

from aiod.flow.models.environments import Environment
from aiod.flow.request import Request
from aiod.flow.run import Done, run
from aiod.registry import load

pytest_plugins = ["training"]

HERE = Path(__file__).parent
SAMPLE = "sample_data/yeast_3d_mitochondria.ome.tif"
"""A real image that comes with the package nellie."""
REAL = {"pixel_size": 0.0655, "z_step": 0.25}

Image = NDArray[Any]


@pytest.fixture(scope="session")
def nellie(environment: Callable[[str], Environment]) -> Environment:
    """Built before `lab` takes the network away."""
    return environment("nellie")


@pytest.fixture
def go(tmp_path: Path, lab: Callable[..., Path]) -> Callable[..., Done]:
    def go(model: str, image: Path, out: str, **options: Any) -> Done:
        request = Request(
            model=f"nellie/{model}/mito",
            inputs=[image],
            out=tmp_path / out,
            device="cpu",
            **options,
        )
        return run(request, load())

    return go


@pytest.fixture
def own(nellie: Environment, tmp_path: Path) -> Callable[..., Image]:
    """Labels that Nellie's own steps give."""

    def own(image: Image, pixel_size: float = 0.1, z_step: float = 0.2, otsu: int = 0) -> Image:
        files = [tmp_path / "image.npy", tmp_path / "own.npy"]
        np.save(files[0], image)
        words = [*map(str, files), str(pixel_size), str(z_step), str(otsu)]
        done = subprocess.run(
            [nellie.python, HERE / "oracle_nellie.py", *words], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-4000:]
        labels: Image = np.load(files[1])
        return labels

    return own


def test_planes_in_tiles_are_what_nellie_gives_for_the_whole(
    nellie: Environment,
    go: Callable[..., Done],
    own: Callable[..., Image],
    tmp_path: Path,
    tell: Callable[[str], None],
) -> None:
    image, truth = make_organelles(1001, (900, 1000))
    path = save(tmp_path / "plane.ome.tif", image, "YX")
    sizes = {"Y": 0.1, "X": 0.1}
    tiled = go("organelles", path, "tiled", tile=(512,), pixel_size=sizes)
    narrow = go("organelles", path, "narrow", tile=(256,), halo=(64,), pixel_size=sizes)
    labels, close = labels_of(tiled), labels_of(narrow)
    right, single = f1(labels, truth), own(image)
    same, alike = f1(labels, single, 0.99), f1(close, single, 0.9)
    tell(
        f"nellie YX, {truth.max()} organelles on 900 x 1000: F1 at IoU 0.5 {right:.3f} in 4 tiles "
        f"that see the whole, which agree with Nellie's own steps with F1 {same:.3f} at IoU 0.99; "
        f"in 16 tiles with a halo of 64 pixels F1 {alike:.3f} at IoU 0.9; {seconds_of(tiled)}"
    )
    (made,) = tiled.record.images
    assert made.plan is not None
    assert (made.plan.tiles, made.plan.halo) == (4, (900, 1000))
    assert right >= 0.95
    assert same == 1
    assert ((labels > 0) == (single > 0)).all()
    assert alike >= 0.95
    assert not [p for p in nellie.packages if re.match(r"(napari|pyqt|pyside|qtpy)", p.lower())]


def test_what_is_empty_stays_empty_and_otsu_is_that_of_the_whole(
    nellie: Environment,
    go: Callable[..., Done],
    own: Callable[..., Image],
    tmp_path: Path,
    tell: Callable[[str], None],
) -> None:
    image, _ = make_organelles(1002, (600, 800))
    random = np.random.default_rng(1002)
    image[:, 300:] = random.poisson(20, (600, 500)) * 20  # as the background of the drawing
    path = save(tmp_path / "half.ome.tif", image, "YX")
    small = {"tile": (200,), "halo": (64,), "pixel_size": {"Y": 0.1, "X": 0.1}}
    labels, single = labels_of(go("organelles", path, "half", **small)), own(image)
    noise = len(np.unique(labels[:, 320:])) - 1
    alike = f1(labels, single, 0.9)
    params = {"otsu_thresh_intensity": True}
    chosen = go("organelles", path, "otsu", params=params, tile=(1024,), pixel_size={"X": 0.1})
    same = f1(labels_of(chosen), own(image, otsu=1), 0.99)
    tell(
        f"nellie YX, half of 600 x 800 empty: {noise} pieces of noise in 12 tiles with a halo of "
        f"64 pixels, F1 {alike:.3f} with Nellie's own steps on the whole at IoU 0.9; with Otsu's "
        f"threshold F1 {same:.3f} at IoU 0.99"
    )
    assert noise == 0
    assert alike >= 0.95
    assert same == 1
    (made,) = chosen.record.images
    assert 2000 < float(np.array(made.survey["otsu"])) < 4000
    flat = save(tmp_path / "flat.ome.tif", np.full((64, 64), 7, np.uint16), "YX")
    assert labels_of(go("organelles", flat, "flat")).max() == 0


def test_stacks_drawn_and_real(
    nellie: Environment,
    go: Callable[..., Done],
    own: Callable[..., Image],
    tmp_path: Path,
    tell: Callable[[str], None],
) -> None:
    image, truth = make_organelles(1003, (24, 128, 160))
    path = save(tmp_path / "stack.ome.tif", image, "ZYX")
    sizes = {"Z": 0.2, "Y": 0.1, "X": 0.1}
    whole = go("organelles-3d", path, "whole", pixel_size=sizes)
    tiled = go("organelles-3d", path, "tiled", tile=(24, 64, 80), halo=(24, 32, 32))
    labels = labels_of(whole)
    same = f1(labels, own(image), 0.99)
    right, alike = f1(labels, truth), f1(labels_of(tiled), labels, 0.9)
    real = tifffile.imread(next(nellie.python.parents[1].rglob(SAMPLE)), key=range(17))
    path = save(tmp_path / "yeast.ome.tif", real, "ZYX")
    sizes = {"Z": REAL["z_step"], "Y": REAL["pixel_size"], "X": REAL["pixel_size"]}
    native = go("organelles-3d", path, "native", pixel_size=sizes, rescale=False, params=dict(REAL))
    zoomed = go("organelles-3d", path, "zoomed", pixel_size=sizes)
    yeast = labels_of(native)
    exact = f1(yeast, own(real, **REAL), 0.99)
    both = [labels > 0 for labels in (yeast, labels_of(zoomed))]
    dice = 2 * (both[0] & both[1]).sum() / (both[0].sum() + both[1].sum())
    tell(
        f"nellie ZYX, {truth.max()} organelles in 24 x 128 x 160: F1 {right:.3f}, with Nellie's "
        f"own steps {same:.3f} at IoU 0.99, in 4 tiles {alike:.3f} at IoU 0.9; real mitochondria "
        f"of yeast in 17 x 192 x 279: {yeast.max()} pieces, with Nellie's own steps F1 "
        f"{exact:.3f} at IoU 0.99, Dice {dice:.3f} with those at 0.2 x 0.1 x 0.1 micrometres; "
        f"{seconds_of(native)}"
    )
    assert same == exact == 1
    assert right >= 0.6
    assert alike >= 0.9
    assert dice >= 0.6


def test_radii_that_cannot_be_are_said_to_be(
    nellie: Environment, go: Callable[..., Done], tmp_path: Path
) -> None:
    path = save(tmp_path / "small.ome.tif", make_organelles(1004, (64, 64))[0], "YX")
    (made,) = go("organelles", path, "turned", params={"min_radius_um": 2.0}).record.images
    assert made.status == "failed"
    assert "the radii are 2 and 1 micrometres" in str(made.error)
