"""Segment Anything from checkpoints that Meta's own code wrote to labels."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
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

# An array too many, one of another shape, and an object where arrays were expected.
BROKEN = """
import sys, torch
state = torch.load(sys.argv[1], weights_only=True)
del state["mask_decoder.iou_token.weight"]
torch.save({"model_state": {"sam." + name: value for name, value in state.items()}}, sys.argv[2])
torch.save(torch.nn.Linear(2, 3), sys.argv[3])
torch.save({"image_encoder.pos_embed": torch.zeros(1, 4, 4, 8)}, sys.argv[4])
"""

CASES: dict[str, dict[str, Any]] = {
    "plain": {"points_per_side": 10},
    "crops": {
        "points_per_side": 10,
        "crop_n_layers": 1,
        "crop_n_points_downscale_factor": 2,
        "crop_overlap_ratio": 0.3,
    },
    "all": {
        "points_per_side": 8,
        "pred_iou_thresh": 0.0,
        "stability_score_thresh": 0.2,
        "stability_score_offset": 2.0,
        "box_nms_thresh": 0.3,
        "min_mask_region_area": 60,
    },
}


@pytest.fixture(scope="session")
def meta(environment: Callable[..., Any]) -> Callable[..., None]:
    """Run `meta_sam.py` where segment-anything is."""
    python = environment("cellposesam").python

    def go(*words: str | Path) -> None:
        _run(python, HERE / "meta_sam.py", *words)

    return go


@pytest.fixture(scope="session")
def python(environment: Callable[..., Any]) -> Path:
    """The environment's Python, built before `lab` takes the network away."""
    found: Path = environment("sam").python
    return found


@pytest.fixture(scope="session")
def checkpoint(meta: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("weights") / "by_hand.pth"
    meta("make", made)
    return made


@pytest.fixture
def go(tmp_path: Path) -> Callable[..., Done]:
    def go(image: Path, out: str, model: str = "sam/by_hand", **options: Any) -> Done:
        request = Request(model=model, inputs=[image], out=tmp_path / out, device="cpu", **options)
        return run(request, load())

    return go


def _run(python: Path, *words: str | Path) -> str:
    done = subprocess.run([python, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def test_a_vit_b_is_the_network_of_segment_anything(
    meta: Callable[..., None], python: Path, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    weights, answers = tmp_path / "vit_b.pth", tmp_path / "answers.npz"
    meta("random", weights, answers)
    said = _run(
        python, HERE / "compare_sam.py", "network", SHIPPED.runners / "sam.py", weights, answers
    )
    logits, scores, size = json.loads(said.splitlines()[-1])
    tell(
        f"sam: a ViT-B with random weights, {weights.stat().st_size / 1e6:.0f} MB, and "
        f"segment-anything 1.0 differ by {logits:.1g} in logits of about {size:.1f}, by "
        f"{scores:.1g} in scores"
    )
    assert size > 0.1
    assert max(logits, scores) < 1e-3


def test_masks_are_those_of_its_own_generator(
    meta: Callable[..., None],
    checkpoint: Path,
    python: Path,
    tmp_path: Path,
    tell: Callable[[str], None],
) -> None:
    image, _ = make_discs(1, (200, 300))
    low, high = np.percentile(image, [1, 99.8])
    grey = (((image - low) / (high - low)).clip(0, 1) * 255).round().astype(np.uint8)
    seen, keywords = tmp_path / "image.npy", tmp_path / "keywords.json"
    np.save(seen, np.dstack([grey] * 3))
    counts = []
    for case, chosen in CASES.items():
        keywords.write_text(json.dumps(chosen), "utf-8")
        theirs, ours = tmp_path / f"{case}.npz", tmp_path / f"{case}.npy"
        meta("masks", checkpoint, seen, keywords, theirs)
        _run(
            python,
            HERE / "compare_sam.py",
            "labels",
            SHIPPED.runners / "sam.py",
            checkpoint,
            seen,
            keywords,
            ours,
        )
        told = np.load(theirs)
        expected = resolve(told["masks"], told["scores"], grey.shape)
        found = np.load(ours)
        same = f1(found, expected, 0.99)
        counts.append(f"{case}: {len(told['masks'])} masks, F1 at IoU 0.99 {same:.3f}")
        assert len(told["masks"]) >= 3
        assert same == 1.0
    tell("sam, the runner and SamAutomaticMaskGenerator; " + "; ".join(counts))


def test_discs_in_tiles_and_whole(
    checkpoint: Path,
    python: Path,
    lab: Callable[..., Path],
    go: Callable[..., Done],
    tmp_path: Path,
    tell: Callable[[str], None],
) -> None:
    lab("sam", "by_hand", "YX", checkpoint)
    image, truth = make_discs(2, (200, 300))
    path = save(tmp_path / "discs.ome.tif", image, "YX")
    points = {"points_per_side": 18}  # of which there are more in a tile
    tiled = go(path, "tiled", tile=(200, 150), halo=(36,), params={"points_per_side": 12})
    whole = go(path, "whole", tile=(2048,), params=points)
    labels, single = labels_of(tiled), labels_of(whole)
    right, alike = f1(labels, truth), f1(labels, single, 0.8)
    tell(
        f"sam YX, {truth.max()} discs on 200 x 300: F1 at IoU 0.5 {right:.3f} in 2 tiles, "
        f"{f1(single, truth):.3f} in one; the two agree with F1 {alike:.3f} at IoU 0.8; "
        f"{seconds_of(tiled)}"
    )
    (made,), (once,) = tiled.record.images, whole.record.images
    assert made.plan is not None
    assert made.plan.tiles == 2
    assert made.survey == once.survey
    assert made.survey["lowhigh"] == pytest.approx(np.percentile(image, [1, 99.8]))
    assert min(right, f1(single, truth)) >= 0.95
    assert alike >= 0.95
    sizes = np.bincount(single.ravel())[1:]
    most = int(np.median(sizes))
    large = go(path, "large", tile=(2048,), params={**points, "max_mask_region_area": most})
    assert labels_of(large).max() == (sizes < most).sum()


def test_weights_that_are_none_are_said_to_be(
    checkpoint: Path,
    python: Path,
    lab: Callable[..., Path],
    go: Callable[..., Done],
    tmp_path: Path,
) -> None:
    path = save(tmp_path / "small.tif", make_discs(3, (100, 100))[0], "YX")
    files = [tmp_path / f"{name}.pth" for name in ("missing", "module", "other", "text")]
    _run(python, "-c", BROKEN, checkpoint, *files[:3])
    files[3].write_text("not a checkpoint")
    sentences = (
        "1 of 1?[0-9][0-9] arrays are missing or of another shape, 0 are unknown",
        "beside arrays it holds pickled Python objects",
        "no checkpoint of Segment Anything",
        "no checkpoint that PyTorch reads",
    )
    for file, sentence in zip(files, sentences, strict=True):
        lab("sam", file.stem, "YX", file)
        with pytest.raises(AiodError, match=sentence):
            go(path, file.stem, f"sam/{file.stem}")
