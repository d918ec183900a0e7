"""Segment Anything 2 from a checkpoint that Meta's own code wrote to labels."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uv
from discs_sam import make_discs
from scoring import f1, labels_of, save, seconds_of

from aiod.errors import AiodError
from aiod.flow.models.inside import resolve
from aiod.flow.request import Request
from aiod.flow.run import Done, run
from aiod.registry import load
from aiod.registry.layers import SHIPPED

pytest_plugins = ["training"]

HERE = Path(__file__).parent
ORACLE = [
    "sam2==1.1.0",  # uploaded by another, but its modules are Meta's, byte for byte
    "hydra-core==1.3.2",
    "omegaconf==2.3.0",
    "antlr4-python3-runtime==4.9.3",
    "iopath==0.1.10",
    "portalocker==3.2.0",
    "pyyaml==6.0.3",
    "packaging==26.4",
]

# An array missing, an object where arrays were expected, and another network.
BROKEN = """
import sys, torch
state = torch.load(sys.argv[1], weights_only=True)["model"]
del state["sam_mask_decoder.iou_token.weight"]
torch.save({"model": state}, sys.argv[2])
torch.save(torch.nn.Linear(2, 3), sys.argv[3])
torch.save({"image_encoder.trunk.pos_embed": torch.zeros(1, 4, 4, 8)}, sys.argv[4])
"""

CASES: dict[str, dict[str, Any]] = {
    "plain": {"points_per_side": 6},
    "refined": {
        "points_per_side": 2,
        "use_m2m": True,
        "multimask_output": False,
        "pred_iou_thresh": 0.0,
        "stability_score_thresh": 0.2,
        "stability_score_offset": 2.0,
        "box_nms_thresh": 0.3,
    },
}


@pytest.fixture(scope="session")
def meta(
    environment: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., None]:
    """Run `meta_sam2.py` where torchvision is, with sam2 beside."""
    python, beside = environment("cellposesam").python, tmp_path_factory.mktemp("oracle")
    install = [uv.find_uv_bin(), "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*install, "--target", str(beside), "--python", str(python), *ORACLE],
        env={**os.environ, "SAM2_BUILD_CUDA": "0"},
        check=True,
    )

    def go(*words: str | Path) -> None:
        _run(python, HERE / "meta_sam2.py", *words, PYTHONPATH=str(beside))

    return go


@pytest.fixture(scope="session")
def python(environment: Callable[..., Any]) -> Path:
    """The environment's Python, built before `lab` takes the network away."""
    found: Path = environment("sam2").python
    return found


@pytest.fixture(scope="session")
def checkpoint(meta: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("weights") / "by_hand.pt"
    meta("make", made)
    return made


@pytest.fixture
def go(tmp_path: Path) -> Callable[..., Done]:
    def go(image: Path, out: str, model: str = "sam2/by_hand", **options: Any) -> Done:
        request = Request(model=model, inputs=[image], out=tmp_path / out, device="cpu", **options)
        return run(request, load())

    return go


def _run(python: Path, *words: str | Path, **variables: str) -> None:
    done = subprocess.run(
        [python, *words], env={**os.environ, **variables}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]


def test_masks_are_those_of_its_own_generator(
    meta: Callable[..., None],
    checkpoint: Path,
    python: Path,
    tmp_path: Path,
    tell: Callable[[str], None],
) -> None:
    image, _ = make_discs(1, (200, 200))
    low, high = np.percentile(image, [1, 99.8])
    grey = (((image - low) / (high - low)).clip(0, 1) * 255).round().astype(np.uint8)
    seen, keywords = tmp_path / "image.npy", tmp_path / "keywords.json"
    np.save(seen, np.dstack([grey] * 3))
    counts = []
    for case, chosen in CASES.items():
        keywords.write_text(json.dumps(chosen), "utf-8")
        theirs, ours = tmp_path / f"{case}.npz", tmp_path / f"{case}.npy"
        meta("masks", checkpoint, seen, keywords, theirs)
        runner = SHIPPED.runners / "sam2.py"
        _run(python, HERE / "compare_sam2.py", runner, checkpoint, seen, keywords, ours)
        told, found = np.load(theirs), np.load(ours)
        expected = resolve(told["masks"], told["scores"], grey.shape)
        same = f1(found, expected, 0.99)
        counts.append(f"{case}: {len(told['masks'])} masks, F1 at IoU 0.99 {same:.3f}")
        assert len(told["masks"]) >= 2
        assert same == 1.0
    tell("sam2, the runner and SAM2AutomaticMaskGenerator; " + "; ".join(counts))


def test_discs_in_tiles_and_whole(
    checkpoint: Path,
    python: Path,
    lab: Callable[..., Path],
    go: Callable[..., Done],
    tmp_path: Path,
    tell: Callable[[str], None],
) -> None:
    lab("sam2", "by_hand", "YX", checkpoint)
    image, truth = make_discs(2, (200, 300))
    path = save(tmp_path / "discs.ome.tif", image, "YX")
    tiled = go(path, "tiled", tile=(200, 150), halo=(36,), params={"points_per_side": 10})
    whole = go(path, "whole", tile=(2048,), params={"points_per_side": 12})
    labels, single = labels_of(tiled), labels_of(whole)
    right, alike = f1(labels, truth), f1(labels, single, 0.8)
    tell(
        f"sam2 YX, {truth.max()} discs on 200 x 300: F1 at IoU 0.5 {right:.3f} in 2 tiles, "
        f"{f1(single, truth):.3f} in one; the two agree with F1 {alike:.3f} at IoU 0.8; "
        f"{seconds_of(tiled)}"
    )
    (made,), (once,) = tiled.record.images, whole.record.images
    assert made.plan is not None
    assert made.plan.tiles == 2
    assert made.survey == once.survey
    assert made.survey["lowhigh"] == pytest.approx(np.percentile(image, [1, 99.8]))
    assert min(right, f1(single, truth)) >= 0.9
    assert alike >= 0.9


def test_weights_that_are_none_are_said_to_be(
    checkpoint: Path,
    python: Path,
    lab: Callable[..., Path],
    go: Callable[..., Done],
    tmp_path: Path,
) -> None:
    path = save(tmp_path / "small.tif", make_discs(3, (100, 100))[0], "YX")
    files = [tmp_path / f"{name}.pt" for name in ("missing", "module", "other", "text")]
    _run(python, "-c", BROKEN, checkpoint, *files[:3])
    files[3].write_text("not a checkpoint")
    sentences = (
        "1 of [0-9]+ arrays are missing or of another shape, 0 are unknown",
        "beside arrays it holds pickled Python objects",
        "no checkpoint of Segment Anything 2",
        "no checkpoint that PyTorch reads",
    )
    for file, sentence in zip(files, sentences, strict=True):
        lab("sam2", file.stem, "YX", file)
        with pytest.raises(AiodError, match=sentence):
            go(path, file.stem, f"sam2/{file.stem}")
