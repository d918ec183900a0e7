"""What empanada itself gives, beside what the runner gives; runs where both can be imported.

`PYTHON oracle_empanada.py RUNNER NETWORK IMAGE LABELS` has empanada's own engine do the plane IMAGE
(.npy) and leaves its labels in LABELS (.npy). Then it prints, as JSON, the share of pixels in which
the runner and empanada agree, up to the numbers of objects, for planes, stacks and directions.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from empanada.data import VolumeDataset  # type: ignore[import-not-found]
from empanada.inference import filters, patterns, rle  # type: ignore[import-not-found]
from empanada.inference.engines import (  # type: ignore[import-not-found]
    PanopticDeepLabRenderEngine,
    PanopticDeepLabRenderEngine3d,
)
from empanada.inference.tracker import InstanceTracker  # type: ignore[import-not-found]
from numpy.typing import NDArray
from organelles_empanada import make_organelles

Pixels = NDArray[Any]

MEAN, STD = 0.57571, 0.12765
MOST = 100_000  # objects of a class
LEAST = {"min_size": 60, "min_extent": 3}
VIEWS = {"xy": 0, "xz": 1, "yz": 2}


class Library:
    """empanada's engines as its napari plugin calls them, without windows and processes."""

    def __init__(self, network: str) -> None:
        self.network = torch.jit.load(network)

    def plane(self, image: Pixels, scale: int = 1, **options: Any) -> Pixels:
        engine = PanopticDeepLabRenderEngine(
            self.network, thing_list=[1], label_divisor=MOST, **_usual(options)
        )
        (item,) = VolumeDataset(image[None], 0, _prepared, scale)
        found = engine(item["image"][None], item["size"], upsampling=scale)
        return np.asarray(rle.connected_components(found.squeeze().numpy().astype(np.int32)))

    def view(self, stack: Pixels, name: str, median: int = 1) -> Any:
        """The tracker of one direction."""
        engine = PanopticDeepLabRenderEngine3d(
            self.network,
            thing_list=[1],
            label_divisor=MOST,
            median_kernel_size=median,
            **_usual({}),
        )
        found = [
            engine(item["image"][None], item["size"], 1)
            for item in VolumeDataset(stack, VIEWS[name], _prepared)
        ]
        found = [item for item in found if item is not None] + engine.end(1)
        matchers = patterns.create_matchers([1], MOST, 0.25, 0.25)
        planes = [
            patterns.apply_matchers(
                rle.pan_seg_to_rle_seg(item.squeeze().numpy(), [1], MOST, [1]), matchers
            )
            for item in found
        ]
        tracker = InstanceTracker(1, MOST, stack.shape, name)
        for index, plane in patterns.backward_matching(planes, matchers, len(planes)):
            patterns.update_trackers(plane, index, [tracker])
        patterns.finish_tracking([tracker])
        return _filtered(tracker)

    def joined(self, trackers: Sequence[Any], votes: int = 2, one_view: bool = False) -> Pixels:
        return _filled(
            _filtered(patterns.create_instance_consensus(trackers, votes, 0.75, one_view))
        )


def _usual(options: Mapping[str, Any]) -> dict[str, Any]:
    usual = {"nms_threshold": 0.1, "nms_kernel": 3, "confidence_thr": 0.5, "padding_factor": 16}
    return {**usual, "coarse_boundaries": True, **options}


def _prepared(image: Pixels) -> dict[str, Any]:
    pixels = (image.astype(np.float32) - MEAN * 255) / (STD * 255)
    return {"image": torch.from_numpy(pixels.astype(np.float32))[None]}


def _filtered(tracker: Any) -> Any:
    filters.remove_small_objects(tracker, LEAST["min_size"])
    filters.remove_pancakes(tracker, LEAST["min_extent"])
    return tracker


def _filled(tracker: Any) -> Pixels:
    volume = np.zeros(tracker.shape3d, np.int32)
    numbered = enumerate(tracker.instances.values(), start=1)
    patterns.fill_volume(volume, dict(numbered))
    return volume


def _tracker(labels: Pixels) -> Any:
    """A tracker with these objects."""
    tracker = InstanceTracker(1, MOST, labels.shape, "xy")
    tracker.instances = rle.pan_seg_to_rle_seg(labels, [0], MOST, [])[0]
    return tracker


def disturbed(random: np.random.Generator, truth: Pixels) -> Pixels:
    """The objects, of which some are missed, some cut in two and some fused with the next."""
    labels = truth.copy()
    last = int(truth.max())
    for number in range(1, last + 1):
        chance = random.random()
        places = np.nonzero(labels == number)
        if chance < 0.15:
            labels[places] = 0
        elif chance < 0.35:
            half = places[1] > np.median(places[1])
            labels[tuple(axis[half] for axis in places)] = last + number
        elif chance < 0.5 and number > 1:
            labels[places] = number - 1
    return labels


def agreeing(first: Pixels, second: Pixels) -> float:
    """The share of pixels whose object is the same, whatever its number; or that have none."""
    rows, columns = int(first.max()) + 1, int(second.max()) + 1
    codes = first.ravel().astype(np.int64) * columns + second.ravel()
    shared = np.bincount(codes, minlength=rows * columns).reshape(rows, columns)
    alike = int(shared[0, 0])
    shared[0], shared[:, 0] = 0, 0
    for row in range(1, rows):
        column = int(shared[row].argmax())
        if int(shared[:, column].argmax()) == row:
            alike += int(shared[row, column])
    return alike / first.size


def compare(runner: ModuleType, network: str) -> dict[str, Any]:
    own, model = Library(network), runner.load(network, config=None, device="cpu")
    image, _ = make_organelles(2001, (150, 170))
    large, _ = make_organelles(2002, (240, 260), diameter=60)
    stack, _ = make_organelles(2003, (26, 50, 61), diameter=24, apart=True)
    _, crowd = make_organelles(2004, (40, 90, 110), diameter=20)

    def run(pixels: Pixels, axes: str = "YX", **settings: Any) -> Pixels:
        labels: Pixels = runner.predict(model, pixels, axes=axes, **settings)
        assert labels.dtype == np.uint32
        return labels

    def solid(plane: str, **settings: Any) -> Pixels:
        return run(stack, "ZYX", plane=plane, **{"median_slices": 1, **LEAST, **settings})

    plane = own.plane(image)
    views = [own.view(stack, name) for name in VIEWS]
    same = {
        "plane": (run(image), plane),
        "turned": (run(image.T, "XY").T, plane),
        "fine": (run(image, fine_boundaries=True), own.plane(image, coarse_boundaries=False)),
        "halved": (run(large, downsampling=2), own.plane(large, scale=2)),
        "settings": (
            run(image, conf_threshold=0.8, center_threshold=0.3, min_distance=4),
            own.plane(image, confidence_thr=0.8, nms_threshold=0.3, nms_kernel=4),
        ),
        "smoothed": (solid("XY", median_slices=3), _filled(own.view(stack, "xy", 3))),
        "both": (solid("All"), own.joined(views)),
        "any": (solid("All", pixel_vote_thr=1), own.joined(views, 1)),
        "all": (solid("All", pixel_vote_thr=3), own.joined(views, 3)),
    }
    for name, view in zip(VIEWS, views, strict=True):
        same[name] = (solid(name.upper()), _filled(view))
    for votes, one_view in ((2, False), (1, False), (1, True), (3, False)):
        random = np.random.default_rng(7)
        three = [runner._pieces(disturbed(random, crowd)) for _ in VIEWS]
        found = runner._large(
            runner._consensus(three, votes, one_view), runner.Solid(1, 60, 3, 0, 0)
        )
        theirs = own.joined([_tracker(item) for item in three], votes, one_view)
        same[f"vote of {votes}{' or alone' if one_view else ''}"] = (found, theirs)
    return {
        "same": {name: agreeing(*pair) for name, pair in same.items()},
        "objects": {name: [len(np.unique(x)) - 1 for x in pair] for name, pair in same.items()},
    }


def main(script: str, network: str, image: str, labels: str) -> None:
    torch.set_num_threads(1)
    spec = importlib.util.spec_from_file_location("runner", script)
    assert spec is not None
    assert spec.loader is not None
    runner = importlib.util.module_from_spec(spec)
    sys.modules["runner"] = runner
    spec.loader.exec_module(runner)
    np.save(labels, Library(network).plane(np.load(image)))
    sys.stdout.write("\n" + json.dumps(compare(runner, network)) + "\n")


if __name__ == "__main__":
    main(*(str(Path(word).resolve()) for word in sys.argv[1:5]))
