"""PanSeg from networks that were trained here to labels: tissue, nuclei, stacks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uv
from cells import make_cells
from scoring import f1, labels_of, save, seconds_of
from tissue_panseg import make_tissue

from aiod.errors import AiodError
from aiod.flow.models.environments import Environment
from aiod.flow.request import Request
from aiod.flow.run import Done, run
from aiod.registry import load

pytest_plugins = ["training"]

ORACLE = ["pytorch3dunet==1.9.6", "scikit-image==0.26.0", "lazy-loader==0.6", "packaging"]
"""The authors' own networks, and what it takes to import them."""


@pytest.fixture(scope="session")
def tissue(train: Callable[..., Path]) -> Path:
    return train("panseg", "tissue", "tissue")


@pytest.fixture(scope="session")
def nuclei(train: Callable[..., Path]) -> Path:
    return train("panseg", "nuclei", "nuclei")


@pytest.fixture(scope="session")
def solid(train: Callable[..., Path]) -> Path:
    return train("panseg", "solid", "solid")


@pytest.fixture
def go(tmp_path: Path) -> Callable[..., Done]:
    def go(model: str, image: Path, out: str, **options: Any) -> Done:
        request = Request(model=model, inputs=[image], out=tmp_path / out, device="cpu", **options)
        return run(request, load())

    return go


def test_the_networks_are_those_of_pytorch_3dunet(
    environment: Callable[[str], Environment],
    tmp_path: Path,
    tell: Callable[[str], None],
) -> None:
    """Their checkpoint, loaded by the runner, gives what their own network gives."""
    built = environment("panseg")
    beside = tmp_path / "oracle"
    install = [uv.find_uv_bin(), "pip", "install", "--quiet", "--no-deps", "--target", str(beside)]
    subprocess.run([*install, "--python", str(built.python), *ORACLE], check=True)
    done = subprocess.run(
        [built.python, Path(__file__).with_name("oracle_panseg.py")],
        env={**os.environ, "PYTHONPATH": str(beside), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    tell(
        f"panseg: {len(found)} networks of five classes and pytorch-3dunet 1.9.6 differ by "
        f"{max(found):.1g} at most"
    )
    assert max(found) < 1e-5


def test_tissue_in_tiles_and_whole(
    tissue: Path,
    lab: Callable[..., Path],
    go: Callable[..., Done],
    tmp_path: Path,
    tell: Callable[[str], None],
) -> None:
    lab("panseg", "tissue", "YX", tissue)
    image, truth = make_tissue(1001, (700, 900))
    path = save(tmp_path / "tissue.tif", image, "YX")
    tiled = go("panseg/tissue", path, "tiled", tile=(384,))
    whole = go("panseg/tissue", path, "whole", tile=(2048,))
    labels, single = labels_of(tiled), labels_of(whole)
    right, alike = f1(labels, truth), f1(labels, single, 0.9)
    tell(
        f"panseg YX, {truth.max()} cells of a tissue on 700 x 900: F1 at IoU 0.5 {right:.3f} in 6 "
        f"tiles, {f1(single, truth):.3f} in one; the two agree with F1 {alike:.3f} at IoU 0.9; "
        f"{seconds_of(tiled)}"
    )
    (made,) = tiled.record.images
    assert made.plan is not None
    assert (made.plan.tiles, made.plan.halo) == (6, (48, 48))
    assert made.survey["mean_std"] == pytest.approx([image.mean(), image.std()])
    assert (labels > 0).all()  # everything is a cell
    assert right >= 0.9
    assert alike >= 0.97
    for rule in ("multicut", "mutex_watershed", "max"):
        params = {"gasp_linkage_criteria": rule}
        other = go("panseg/tissue", path, rule, tile=(2048,), params=params)
        assert f1(labels_of(other), single) >= 0.95
    fused = go("panseg/tissue", path, "fused", tile=(2048,), params={"gasp_post_minsize": 1500})
    assert labels_of(fused).max() < 0.5 * single.max()


def test_nuclei_have_background_and_a_config_may_lie_elsewhere(
    nuclei: Path,
    lab: Callable[..., Path],
    go: Callable[..., Done],
    tmp_path: Path,
    tell: Callable[[str], None],
) -> None:
    alone = shutil.copy(nuclei / "best_checkpoint.pytorch", tmp_path / "nuclei.pytorch")
    config = shutil.copy(nuclei / "config_train.yml", tmp_path / "nuclei.yml")
    described = [{"location": str(alone), "config_path": str(config)}]
    lab("panseg", "told", "YX", Path(alone), locations=described)
    lab("panseg", "alone", "YX", Path(alone))
    image, truth = make_cells(1002, (600, 700))
    path = save(tmp_path / "nuclei.ome.tif", image[0], "YX")
    tiled = labels_of(go("panseg/told", path, "tiled", tile=(320,)))
    whole = labels_of(go("panseg/told", path, "whole", tile=(2048,)))
    right, alike = f1(tiled, truth), f1(tiled, whole, 0.9)
    covered = (tiled[truth == 0] == 0).mean()
    tell(
        f"panseg YX, {truth.max()} nuclei on 600 x 700: F1 {right:.3f} in 6 tiles, "
        f"{f1(whole, truth):.3f} in one; the two agree with F1 {alike:.3f} at IoU 0.9; "
        f"{covered:.0%} of the background is background"
    )
    assert right >= 0.85
    assert alike >= 0.95
    assert covered >= 0.9
    # A UNet2D with the usual settings is known by its arrays too.
    read = labels_of(go("panseg/alone", path, "read", tile=(2048,)))
    assert (read == whole).all()
    params = {"foreground_threshold": 0.9}
    strict = labels_of(go("panseg/told", path, "strict", tile=(2048,), params=params))
    assert 0 < (strict > 0).sum() < (whole > 0).sum()


def test_a_stack(
    solid: Path,
    lab: Callable[..., Path],
    go: Callable[..., Done],
    tmp_path: Path,
    tell: Callable[[str], None],
) -> None:
    lab("panseg", "solid", "ZYX", solid)
    image, truth = make_tissue(1003, (48, 96, 160), diameter=20)
    path = save(tmp_path / "stack.ome.tif", image, "ZYX")
    thin = {"ws_sigma_weights": 1.0}  # cells are small: what is smoothed more is fused
    tiled = go("panseg/solid", path, "tiled", tile=(48, 96, 80), halo=(32,), params=thin)
    whole = go("panseg/solid", path, "whole", tile=(48, 96, 160), params=thin)
    stacked = {**thin, "ws_stacked": True}
    planes = go("panseg/solid", path, "planes", tile=(48, 96, 160), params=stacked)
    right, alike = f1(labels_of(tiled), truth), f1(labels_of(tiled), labels_of(whole), 0.9)
    tell(
        f"panseg ZYX, {truth.max()} cells of a tissue in 48 x 96 x 160: F1 {right:.3f} in 2 tiles, "
        f"{f1(labels_of(whole), truth):.3f} in one, {f1(labels_of(planes), truth):.3f} with a "
        f"watershed in each plane; tiles and one agree with F1 {alike:.3f} at IoU 0.9; "
        f"{seconds_of(tiled)}"
    )
    assert right >= 0.7
    assert alike >= 0.9


def test_wrong_weights_and_images_are_said_to_be(
    tissue: Path, lab: Callable[..., Path], go: Callable[..., Done], tmp_path: Path
) -> None:
    path = save(tmp_path / "small.tif", make_tissue(1005, (64, 64))[0], "YX")
    config = (tissue / "config_train.yml").read_text("utf-8")

    def variant(name: str, old: str, new: str) -> str:
        folder = tmp_path / name
        shutil.copytree(tissue, folder)
        (folder / "config_train.yml").write_text(config.replace(old, new), "utf-8")
        lab("panseg", name, "YX", folder)
        return f"panseg/{name}"

    for name, old, new, words in (
        ("unknown", "UNet2D", "UNet4D", r"class 'UNet4D'; known are UNet2D, UNet3D, Residual"),
        ("wider", "- 64", "- 128", r"arrays are missing or of another shape"),
        ("softmax", "final_sigmoid: true", "final_sigmoid: false", r"no probabilities of borders"),
        (
            "code",
            "trainer:",
            "trainer: !!python/name:os.system",
            r"no YAML that can be read safely",
        ),
    ):
        with pytest.raises(AiodError, match=words):
            go(variant(name, old, new), path, name)
    (tmp_path / "empty").mkdir()
    lab("panseg", "empty", "YX", tmp_path / "empty")
    with pytest.raises(AiodError, match=r"0 files \*\.pytorch where one was expected"):
        go("panseg/empty", path, "empty")
    lab("panseg", "turned", "ZYX", tissue)
    stack = save(tmp_path / "stack.ome.tif", make_tissue(1006, (8, 40, 40))[0], "ZYX")
    (made,) = go("panseg/turned", stack, "turned").record.images
    assert made.status == "failed"
    assert "takes images with the axes YX, not ZYX" in str(made.error)
