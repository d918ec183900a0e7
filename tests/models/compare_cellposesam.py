"""What Cellpose-SAM itself gives, beside what the runner gives; runs in the family's environment.

`PYTHON compare_cellposesam.py RUNNER CHECKPOINT IMAGE LABELS` calls Cellpose's own `eval` on the
whole IMAGE (.npy, CYX) with the full network and leaves its labels in LABELS (.npy). Then it takes
the attention blocks out, which makes the network hundreds of times faster, and prints, as JSON, the
share of pixels in which the runner and `eval` agree for stacks, planes, channels and diameters.
"""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from cellpose.models import CellposeModel
from cells import make_cells
from numpy.typing import NDArray

Image = NDArray[Any]


def compare(runner: ModuleType, model: CellposeModel) -> dict[str, Any]:
    stack, truth = make_cells(1011, (16, 32, 40), diameter=14)
    plane, _ = make_cells(1012, (160, 200), diameter=16)
    large, whole = make_cells(1013, (240, 300), diameter=48)

    def run(image: Image, axes: str, **keywords: Any) -> Image:
        labels: Image = runner.predict(model, image, axes=axes, **keywords)
        assert labels.dtype == np.uint32
        return labels

    def own(image: Image, **keywords: Any) -> Image:
        labels: Image = model.eval(image, channel_axis=0, max_size_fraction=1.0, **keywords)[0]
        return labels

    solid = own(stack, z_axis=1, do_3D=True)
    thin = own(stack[:, ::2], z_axis=1, do_3D=True, anisotropy=2.0)
    joined = own(stack, z_axis=1, stitch_threshold=0.3)
    alone = run(stack, "CZYX")
    same = {
        "solid": (run(stack, "CZYX", do_3D=True), solid),
        "anisotropic": (run(stack[:, ::2], "CZYX", do_3D=True, anisotropy=2.0), thin),
        "joined": (run(stack, "CZYX", stitch_threshold=0.3), joined),
        "turned": (
            run(stack.transpose(3, 0, 1, 2), "XCZY", stitch_threshold=0.3).transpose(1, 2, 0),
            joined,
        ),
        "planes": (alone[3], own(stack[:, 3], normalize={"lowhigh": _ranges(stack)})),
        "channels": (run(plane, "CYX"), own(plane)),
        "second": (run(plane, "CYX", segment_channel=2), own(plane[1:])),
        "one": (run(plane[0].T, "XY").T, own(plane[:1])),
        "zoomed": (run(large, "CYX", diameter=90), own(large, diameter=90)),
        "rough": (
            run(large, "CYX", diameter=90, resample=False),
            own(large, diameter=90, resample=False),
        ),
    }
    return {
        "same": {name: _agreeing(*pair) for name, pair in same.items()},
        "cells": [truth.max(), solid.max(), whole.max(), same["zoomed"][0].max()],
        "unique": not set(np.unique(alone[3])) & set(np.unique(alone[4])) - {0},
        "apart": _agreeing(same["channels"][0], own(plane[::-1])),
        "narrow": [
            run(plane[:, :1], "CYX").max(),
            run(stack[:, :1], "CZYX", do_3D=True).max(),
            run(stack[:, :, :1], "CZYX", do_3D=True).max(),
        ],
        "errors": [
            _error(run, np.zeros((4, 8, 8)), "CYX"),
            _error(run, plane, "CYX", segment_channel=3),
            _error(run, plane, "CYX", do_3D=True),
            _error(run, plane, "TYX"),
        ],
    }


def _ranges(image: Image) -> Image:
    """The 1st and 99th percentile of each channel."""
    return np.array([np.percentile(channel, [1, 99]) for channel in image])


def _agreeing(first: Image, second: Image) -> float:
    """The share of pixels that are in the same object, whatever its number, or in none."""
    numbers = first.astype(np.int64) * (int(second.max()) + 1) + second
    pairs, counts = np.unique(numbers, return_counts=True)
    left, right = np.divmod(pairs, int(second.max()) + 1)
    order = np.argsort(-counts)
    used: tuple[set[int], set[int]] = (set(), set())
    agreeing = 0
    for a, b, count in zip(left[order], right[order], counts[order], strict=True):
        if (a == 0) == (b == 0) and a not in used[0] and b not in used[1]:
            used[0].add(a)
            used[1].add(b)
            agreeing += int(count)
    return agreeing / first.size


def _error(run: Any, *words: Any, **keywords: Any) -> str:
    try:
        run(*words, **keywords)
    except ValueError as error:
        return str(error)
    return ""


def main(script: str, checkpoint: str, image: str, labels: str) -> None:
    spec = importlib.util.spec_from_file_location("runner", script)
    assert spec is not None
    assert spec.loader is not None
    runner = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(runner)
    model = CellposeModel(
        pretrained_model=checkpoint, device=torch.device("cpu"), use_bfloat16=False
    )
    np.save(labels, model.eval(np.load(image), channel_axis=0, max_size_fraction=1.0)[0])
    model.net.encoder.blocks = model.net.encoder.blocks[:0]
    found = compare(runner, model)
    sys.stdout.write("\n" + json.dumps(found, default=lambda value: value.item()) + "\n")


if __name__ == "__main__":
    main(*(str(Path(word).resolve()) for word in sys.argv[1:5]))
