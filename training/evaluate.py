"""How well a network finds nuclei: F1 on a part of mnfinder's images, or on any image with truth.

    python training/evaluate.py nuclei-mini.onnx --wheel mnfinder-1.2.3-py3-none-any.whl
    python training/evaluate.py nuclei-mini.onnx --images nuclei_2d.ome.tif nuclei_2d_truth.ome.tif

`--sweep` chose the settings: by the mean of the figures on the validation images, which are few and
sparse, and on drawn ones that were not trained on, both as they are and zoomed by their diameter.
The test images say how good the settings are; nothing is changed for them. Needs aiod-hub and what
the runner of `unet` needs.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import real
import synthetic
import tifffile
from numpy.typing import NDArray
from skimage.transform import rescale, resize

import aiod
from aiod.flow.results.evaluate import Matching, evaluate_instances

RUNNER = Path(aiod.__file__).with_name("runners") / "unet.py"
IOUS = (0.5, 0.75)
SWEEP = {
    "diameter": (18.0, 20.0, 22.0, 24.0, 28.0),
    "threshold": (0.4, 0.5),
    "split": (0.15, 0.2, 0.22, 0.25, 0.3, 0.4),
}
CHOSEN = {"diameter": 20.0, "threshold": 0.5, "split": 0.22, "min_diameter": 6.0}
"""What the sweep chose, and the manifest says: `diameter` are the pixels of a usual nucleus as the
network sees it, to which an image is zoomed whose own nuclei are known; the others are given to it.
"""
DRAWN = 12
"""Drawn images that settings are tried on; their seeds are none of the training's."""

Truth = tuple[str, NDArray[Any], NDArray[np.int32]]


def main() -> None:
    """The command of this module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("network", type=Path, help="the .onnx file, its config beside it")
    parser.add_argument("--wheel", type=Path, help="the wheel of mnfinder 1.2.3")
    parser.add_argument("--images", type=Path, nargs=2, metavar=("IMAGE", "TRUTH"))
    parser.add_argument(
        "--zoom", action="store_true", help="as with a diameter: that of the truth, its median"
    )
    parser.add_argument("--sweep", action="store_true", help="try settings, on other images")
    given = parser.parse_args()
    runner = _runner()
    model = runner.load(
        str(given.network), config=str(given.network.with_suffix(".json")), device="cpu"
    )
    if given.sweep:
        _sweep(runner, model, given.wheel)
        return
    images = list(_pair(*given.images) if given.images else real.read(given.wheel, "test-data"))
    scores = [list(_scores(runner, model, one, CHOSEN, zoom=given.zoom)) for one in images]
    for (name, *_), found in zip(images, scores, strict=True):
        print(name, *(f"{each.f1:.3f}" for each in found))
    print(
        ", ".join(
            f"F1 at IoU {iou}: {f1:.3f}" for iou, f1 in zip(IOUS, _pooled(scores), strict=True)
        )
    )


def _sweep(runner: Any, model: Any, wheel: Path) -> None:
    """Print, for each choice of settings, F1 at both IoU on each group of images, and the mean."""
    taken: list[Truth] = list(real.read(wheel, "validation-data"))
    drawn = [("", *synthetic.draw(np.random.default_rng((1, n)))) for n in range(DRAWN)]
    groups = [(images, zoom) for images in (taken, drawn) for zoom in (False, True)]
    for values in itertools.product(*SWEEP.values()):
        settings = {**CHOSEN, **dict(zip(SWEEP, values, strict=True))}
        figures: list[float] = []
        for images, zoom in groups:
            figures += _pooled(
                [list(_scores(runner, model, one, settings, zoom=zoom)) for one in images]
            )
        told = " ".join(f"{f1:.3f}" for f1 in figures)
        print(f"{settings}: {told}, mean {np.mean(figures):.4f}", flush=True)


def _runner() -> Any:
    spec = importlib.util.spec_from_file_location("unet_runner", RUNNER)
    assert spec is not None
    assert spec.loader is not None
    runner = importlib.util.module_from_spec(spec)
    sys.modules["unet_runner"] = runner
    spec.loader.exec_module(runner)
    return runner


def _pair(image: Path, truth: Path) -> Iterable[Truth]:
    yield image.name, tifffile.imread(image), tifffile.imread(truth).astype(np.int32)


def _scores(
    runner: Any, model: Any, one: Truth, settings: dict[str, float], *, zoom: bool = False
) -> Iterator[Matching]:
    _, image, truth = one
    given = dict(settings)
    factor = given.pop("diameter") / np.sqrt(np.median(np.bincount(truth.ravel())[1:]) * 4 / np.pi)
    seen = rescale(image, factor, anti_aliasing=factor < 1) if zoom else image
    labels = runner.predict(model, seen, axes="YX", **given)
    if zoom:
        labels = resize(labels, truth.shape, order=0, anti_aliasing=False)
    found = evaluate_instances(labels, truth)
    yield from (each for each in found.matchings if each.iou in IOUS)


def _pooled(scores: list[list[Matching]]) -> list[float]:
    """F1 at each IoU over the objects of all images."""
    found = []
    for matchings in zip(*scores, strict=True):
        matched, extra, missed = (
            sum(getattr(m, name) for m in matchings) for name in ("matched", "extra", "missed")
        )
        found.append(2 * matched / max(1, 2 * matched + extra + missed))
    return found


if __name__ == "__main__":
    main()
