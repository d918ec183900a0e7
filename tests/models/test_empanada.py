"""empanada from a network that was trained here to labels, as it finds them itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uv
from organelles_empanada import make_organelles
from scoring import f1, labels_of, save, seconds_of

from aiod.errors import AiodError
from aiod.flow.models.environments import Environment
from aiod.flow.request import Request
from aiod.flow.run import Done, run
from aiod.registry import load
from aiod.registry.layers import SHIPPED

pytest_plugins = ["training"]

HERE = Path(__file__).parent
LIBRARY = "empanada-napari==1.2.4"  # it holds the package empanada
IMPORTED = ["dask", "joblib", "networkx", "numba", "opencv-python-headless", "scikit-image"]
IMPORTED += ["tqdm", "zarr"]
IN_THE_ENVIRONMENT = "numpy\nscipy\ntorch\n"
SMALL = {"min_size": 200, "min_extent": 4}

# Files that are no network of empanada: arrays alone, pickled Python, other programs.
BROKEN = """
import sys, torch

class Liar(torch.nn.Module):
    def forward(self, x, render_steps: int = 2, interpolate_ins: bool = True):
        return {"sem_logits": x, "ctr_hmp": x, "offsets": x}

class Lost(torch.nn.Module):
    def forward(self, x, render_steps: int = 2, interpolate_ins: bool = True):
        small = x[..., ::4, ::4] / 0
        return {"sem_logits": x, "ctr_hmp": small, "offsets": torch.cat([small, small], 1)}

torch.save(torch.nn.Linear(2, 3).state_dict(), sys.argv[1])
torch.save(torch.nn.Linear(2, 3), sys.argv[2])
for path, module in zip(sys.argv[3:], (torch.nn.Linear(2, 3), Liar(), Lost())):
    torch.jit.script(module).save(path)
"""


@pytest.fixture(scope="session")
def library(
    environment: Callable[[str], Environment], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., str]:
    """Run a script of this folder where empanada itself is beside the family's environment."""
    python = environment("empanada").python
    beside = tmp_path_factory.mktemp("library")
    excluded = beside / "excluded.txt"
    excluded.write_text(IN_THE_ENVIRONMENT, "utf-8")
    install = [uv.find_uv_bin(), "pip", "install", "--quiet", "--target", str(beside)]
    install += ["--python", str(python)]
    subprocess.run([*install, "--excludes", str(excluded), *IMPORTED], check=True)
    subprocess.run([*install, "--no-deps", LIBRARY], check=True)

    def run_script(name: str, *words: str | Path) -> str:
        world = {**os.environ, "PYTHONPATH": str(beside), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [python, "-W", "ignore", HERE / name, *words],
            env=world,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout

    return run_script


@pytest.fixture(scope="session")
def trained(
    library: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """The exported network, and the line that its training printed."""
    made = tmp_path_factory.mktemp("weights") / "Small_v1.pth"
    return made, library("train_empanada.py", made).strip().splitlines()[-1]


@pytest.fixture
def go(tmp_path: Path) -> Callable[..., Done]:
    def go(model: str, image: Path, out: str, **options: Any) -> Done:
        request = Request(model=model, inputs=[image], out=tmp_path / out, device="cpu", **options)
        return run(request, load())

    return go


def test_planes_in_tiles_as_in_the_whole_and_as_empanada_finds_them(
    trained: tuple[Path, str],
    library: Callable[..., str],
    lab: Callable[..., Path],
    go: Callable[..., Done],
    tmp_path: Path,
    tell: Callable[[str], None],
) -> None:
    network, line = trained
    tell(line)
    lab("empanada", "small", "YX", network)
    image, truth = make_organelles(1001, (400, 520))
    path = save(tmp_path / "plane.ome.tif", image, "YX")
    tiled = go("empanada/small", path, "tiled", tile=(208,))
    whole = go("empanada/small", path, "whole", tile=(1024,))
    np.save(tmp_path / "image.npy", image)
    answer = library(
        "oracle_empanada.py",
        SHIPPED.runners / "empanada.py",
        network,
        tmp_path / "image.npy",
        tmp_path / "own.npy",
    )
    labels, single, own = labels_of(tiled), labels_of(whole), np.load(tmp_path / "own.npy")
    right, alike, same = f1(labels, truth), f1(labels, single, 0.9), f1(single, own, 0.9)
    found = json.loads(answer.strip().splitlines()[-1])
    tell(
        f"empanada YX, {truth.max()} organelles on 400 x 520: F1 at IoU 0.5 {right:.3f} in 6 "
        f"tiles, {f1(single, truth):.3f} in one; the two agree with F1 {alike:.3f} at IoU 0.9, the "
        f"whole and empanada's own engine with {same:.3f}; {seconds_of(tiled)}"
    )
    shares = found["same"]
    nearly = {name: shares.pop(name) for name in ("smoothed", "halved")}
    tell(
        f"empanada: in {len(shares)} comparisons the runner and empanada 1.2.4 agree in "
        f"{min(shares.values()):.4f} of the pixels at least; in {nearly['smoothed']:.4f} with a "
        f"median of three slices, in {nearly['halved']:.4f} with downsampling"
    )
    (made,) = tiled.record.images
    assert made.plan is not None
    assert (made.plan.tiles, made.plan.halo) == (6, (128, 128))
    assert made.survey["brightness"] == [0, 255]
    assert min(right, f1(single, truth)) >= 0.75
    assert alike >= 0.85
    assert same >= 0.99
    assert min(shares.values()) >= 0.999, found
    # It takes medians of medians, and rounds a smaller image to whole numbers.
    assert min(nearly.values()) >= 0.98, found
    assert all(theirs >= 3 for _, theirs in found["objects"].values()), found


def test_other_numbers_than_eight_bits_and_settings(
    trained: tuple[Path, str], lab: Callable[..., Path], go: Callable[..., Done], tmp_path: Path
) -> None:
    lab("empanada", "small", "YX", trained[0])
    image, truth = make_organelles(1002, (200, 240))
    path = save(tmp_path / "plane.ome.tif", image, "YX")
    once = labels_of(go("empanada/small", path, "once"))
    deep = save(tmp_path / "deep.ome.tif", image.astype(np.uint16) * 40 + 3000, "YX")
    other = go("empanada/small", deep, "deep")
    (made,) = other.record.images
    ends = [3000 + 40 * float(v) for v in np.percentile(image, (0.01, 99.99), method="nearest")]
    assert made.survey["brightness"] == pytest.approx(ends, abs=40)
    assert f1(labels_of(other), truth) >= f1(once, truth) - 0.1

    def with_(name: str, **params: Any) -> Any:
        return labels_of(go("empanada/small", path, name, params=params))

    strict = with_("strict", conf_threshold=0.95, min_distance=25)
    assert 0 < (strict > 0).sum() < (once > 0).sum()
    assert strict.max() < once.max()
    fused = with_("fused", semantic_only=True)
    assert ((fused > 0) == (once > 0)).mean() > 0.99
    assert fused.max() < once.max()
    fine = with_("fine", fine_boundaries=True, min_distance=11, fill_holes_in_segmentation=True)
    assert f1(fine, truth) >= f1(once, truth) - 0.1
    assert (fine[once > 0] > 0).all()
    (made,) = go("empanada/small", path, "narrow", tile=(7, 240), halo=(0,)).record.images
    assert made.status == "done"


def test_a_stack_in_one_direction_and_in_three(
    trained: tuple[Path, str],
    lab: Callable[..., Path],
    go: Callable[..., Done],
    tmp_path: Path,
    tell: Callable[[str], None],
) -> None:
    shipped = load().params_for("empanada/mitonet_v1_3d/mito")
    params = [item.model_dump(exclude_none=True) for item in shipped]
    lab("empanada", "solid", "ZYX", trained[0], params=params)
    lab("empanada", "small", "YX", trained[0])
    shape = (48, 80, 112)
    image, truth = make_organelles(1003, shape, apart=True)
    path = save(tmp_path / "stack.ome.tif", image, "ZYX")
    three = {"plane": "All", **SMALL}
    tracked = go("empanada/solid", path, "tracked", tile=shape, params=SMALL)
    whole = go("empanada/solid", path, "whole", tile=shape, params=three)
    tiled = go("empanada/solid", path, "tiled", tile=(48, 80, 56), halo=(0, 0, 32), params=three)
    linked = go("empanada/small", path, "linked", tile=(128,))
    alike = f1(labels_of(tiled), labels_of(whole), 0.9)
    right = {
        name: f1(labels_of(done), truth)
        for name, done in (("XY", tracked), ("whole", whole), ("tiled", tiled), ("2D", linked))
    }
    tell(
        f"empanada ZYX, {len(np.unique(truth)) - 1} organelles in 48 x 80 x 112: F1 at IoU 0.5 "
        f"{right['whole']:.3f} from three directions, {right['tiled']:.3f} in two tiles, the two "
        f"agree with F1 {alike:.3f} at IoU 0.9; {right['XY']:.3f} from one direction, "
        f"{right['2D']:.3f} from planes joined by their overlap; {seconds_of(tiled)}"
    )
    assert min(right["XY"], right["whole"], right["tiled"]) >= 0.7
    assert alike >= 0.8

    small = save(tmp_path / "small.ome.tif", image[:32, :64, :64], "ZYX")

    def with_(name: str, **changes: Any) -> Any:
        return labels_of(go("empanada/solid", small, name, params={**three, **changes}))

    most, usual = with_("most", pixel_vote_thr=1), with_("usual")
    least = with_("least", pixel_vote_thr=3)
    assert 0 < (least > 0).sum() < (usual > 0).sum() < (most > 0).sum()
    thinner = with_("thinner", label_erosion=1)
    assert 0 < (thinner > 0).sum() < (usual > 0).sum()
    fused = with_("fused", semantic_only=True, min_size=4000)
    assert 0 < np.bincount(fused.ravel())[1:].min() >= 4000


def test_wrong_files_and_images_are_said_to_be(
    trained: tuple[Path, str],
    environment: Callable[[str], Environment],
    lab: Callable[..., Path],
    go: Callable[..., Done],
    tmp_path: Path,
) -> None:
    path = save(tmp_path / "small.tif", make_organelles(1004, (64, 64))[0], "YX")
    names = ("arrays", "pickled", "other", "liar", "lost")
    files = [tmp_path / f"{name}.pth" for name in names]
    script = tmp_path / "broken.py"  # TorchScript reads the source of what it compiles
    script.write_text(BROKEN, "utf-8")
    subprocess.run([environment("empanada").python, "-W", "ignore", script, *files], check=True)
    sentences = ["no TorchScript file", "no TorchScript file", "no network with PointRend"]
    for file, sentence in zip(files[:3], sentences, strict=True):
        lab("empanada", file.stem, "YX", file)
        with pytest.raises(AiodError, match=sentence):
            go(f"empanada/{file.stem}", path, file.stem)
    sentences = ["answers (1, 1, 64, 64) as ctr_hmp where", "that are not finite"]
    for file, sentence in zip(files[3:], sentences, strict=True):
        lab("empanada", file.stem, "YX", file)
        (made,) = go(f"empanada/{file.stem}", path, file.stem).record.images
        assert made.status == "failed"
        assert sentence in str(made.error)
    # As empanada exports it: a network, a quantized one, and their config.
    config = "norms: {mean: 0.5, std: 0.15}\npadding_factor: 128\nlabels: [1]\n"
    for name, old, new, words in (
        ("norms", "0.15", "15", "has std 15; expected a number between 0 and 1"),
        ("padding", "128", "100000", "has padding_factor 100000; expected a multiple of 16"),
        ("code", "[1]", "!!python/name:os.system", "no YAML that can be read safely"),
        ("fitting", "", "", ""),
    ):
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(trained[0], folder / "Small_v1.pth")
        (folder / "Small_v1_quantized.pth").write_bytes(b"")
        (folder / "Small_v1.yaml").write_text(config.replace(old, new), "utf-8")
        lab("empanada", name, "YX", folder)
        if not words:
            (made,) = go(f"empanada/{name}", path, name).record.images
            assert made.status == "done"
            continue
        with pytest.raises(AiodError, match=words):
            go(f"empanada/{name}", path, name)
