"""Does a model do here what its manifest promises? What `aiod test` shows.

The model's own test, or the sample image for its axes, goes through a run like any other: once in
one piece, and once in tiles. Each :class:`Check` is a sentence that holds, fails, or could not be
asked for want of something to compare with. A test may also be a pair of tensors of the network
itself (.npy), which the runner's `check` compares; the image is then made of the first.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile

from aiod.errors import AiodError
from aiod.flow.images.image import open_image
from aiod.flow.models.devices import choose_device
from aiod.flow.models.environments import environment_for, runner_for
from aiod.flow.models.workers import Worker, WorkerSpec
from aiod.flow.profiles import find_profile
from aiod.flow.record import ImageRecord
from aiod.flow.request import Request
from aiod.flow.results.evaluate import evaluate_instances, evaluate_semantic
from aiod.flow.results.labels import Labels, open_labels
from aiod.flow.run import run
from aiod.progress import Progress, silent
from aiod.registry import Model, Registry
from aiod.registry.layers import SHIPPED
from aiod.registry.locations import Expectation, Place
from aiod.registry.pull import fetch, pull
from aiod.words import byte_size, counted

TOLERANCE = 0.1
"""How far a result may be off where the manifest does not say: see `ModelTest.tolerance`."""
AGREEMENT = 0.95
"""F1 at IoU 0.9 of tiled and whole labels (Dice of classes) from which they count as the same."""
_SAMPLES = {"YXC": "tissue_rgb.jpg", "ZYX": "nuclei_3d.ome.tif", "YX": "nuclei_2d.ome.tif"}
_IOU = {0.5: 0, 0.9: 8}
_MAX_TENSOR_BYTES = 2_000_000_000
_OF_IMAGES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")

State = Literal["passed", "failed", "not checked"]


@dataclass(frozen=True, slots=True)
class Check:
    """One promise: what it is about, whether it is kept, and what was found."""

    about: Literal["weights", "environment", "image", "labels", "result", "tiles"]
    state: State
    told: str


@dataclass(frozen=True, slots=True)
class Trial:
    """What a model did. `seconds` are those inside the model for the whole image, `memory` what
    its process had at most, in bytes; None where it did not come that far."""

    model: str
    checks: tuple[Check, ...]
    seconds: float | None
    memory: int | None

    @property
    def passed(self) -> bool:
        return all(check.state != "failed" for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}


def try_model(
    model: Model, registry: Registry, *, device: str = "auto", progress: Progress = silent
) -> Trial:
    """Run a model on its test, and say of each promise whether it is kept; never raises for it."""
    checks: list[Check] = []
    seconds = memory = None
    with tempfile.TemporaryDirectory(prefix="aiod-test-") as folder:
        steps = _Trying(model, registry, device, Path(folder), progress)
        about: Any = "weights"
        try:
            checks.append(Check(about, "passed", steps.weights()))
            about = "environment"
            checks.append(Check(about, "passed", steps.environment()))
            tensors = steps.tensors()
            if tensors is not None:
                about = "result"
                checks.append(steps.network(tensors))
            about = "image"
            image = steps.image()
            about = "labels"
            whole = steps.labels(image, tiled=False)
            seconds, memory = whole.record.predict_seconds, whole.record.memory
            checks.append(Check(about, "passed", whole.told))
            if tensors is None:
                about = "result"
                checks.append(steps.result(whole.labels))
            about = "tiles"
            tiled = steps.labels(image, tiled=True)
            checks.append(_agreement(whole, tiled))
        except AiodError as error:
            checks.append(Check(about, "failed", str(error)))
    return Trial(model.id, tuple(checks), seconds, memory)


@dataclass(frozen=True, slots=True)
class _Result:
    record: ImageRecord
    labels: Labels

    @property
    def told(self) -> str:
        sizes = self.labels.source.sizes.items()
        shape = " × ".join(f"{axis} {n:,}" for axis, n in sizes if n > 1 or axis in "YX")
        what = "classes" if self.record.objects is None else counted(self.record.objects, "object")
        return f"{what} on {shape}, {self.labels.source.dtype}"


@dataclass(frozen=True, slots=True)
class _Trying:
    """The steps of a trial. Each raises AiodError where it fails."""

    model: Model
    registry: Registry
    device: str
    folder: Path
    progress: Progress

    def weights(self) -> str:
        found = pull(self.registry, self.model, progress=self.progress)
        if found.path is None:
            return "none needed"
        size = f"{byte_size(found.size)}, " if found.size else ""
        return f"{size}{'the hash of the manifest' if found.sha256 else 'no hash to compare with'}"

    def environment(self) -> str:
        started = time.monotonic()
        runner = runner_for(self.model.family, self.registry.layers)
        found = environment_for(runner, progress=self.progress)
        seconds = time.monotonic() - started
        return f"{counted(len(found.packages), 'package')}, ready after {seconds:.0f} s"

    def tensors(self) -> Expectation | None:
        """The model's test where it consists of tensors of the network."""
        test = self.registry.test_for(self.model)
        return test if test is not None and _is_tensor(test.input) else None

    def network(self, test: Expectation) -> Check:
        """The network's answer to a tensor, as the runner compares it."""
        if isinstance(test.expected, int):
            return Check("result", "not checked", "a number of objects is no answer to a tensor")
        runner = runner_for(self.model.family, self.registry.layers)
        environment = environment_for(runner, progress=self.progress)
        weights = pull(self.registry, self.model, progress=self.progress)
        profile = find_profile("local", self.registry.layers)
        spec = WorkerSpec(
            python=environment.python,
            runner=runner,
            weights=weights.path,
            config=weights.config,
            device=choose_device(self.device, environment),
            threads=profile.threads(1),
            load_seconds=profile.load_seconds,
            predict_seconds=profile.predict_seconds,
        )
        given, expected = (
            fetch(place, self.model.family, progress=self.progress)
            for place in (test.input, test.expected)
        )
        with Worker(spec) as worker:
            found = worker.check(given, expected, self.registry.default_config(self.model))
        if found is None:
            return Check("result", "not checked", "its runner cannot compare tensors")
        passed, told = found
        return Check("result", "passed" if passed else "failed", told)

    def image(self) -> Path:
        """The test's own input, else the sample for the axes of the model."""
        axes = self.model.axes or "YX"
        test = self.registry.test_for(self.model)
        if test is not None:
            given = fetch(test.input, self.model.family, progress=self.progress)
            if not _is_tensor(test.input):
                return given
            made = _as_image(given, axes, self.folder / "test_input.ome.tif")
            if made is not None:
                return made
        name = _SAMPLES["YXC" if axes == "YXC" else "ZYX" if "Z" in axes else "YX"]
        return SHIPPED.folder / "samples" / name

    def labels(self, image: Path, *, tiled: bool) -> _Result:
        axes = self.model.axes or "YX"
        sizes = open_image(image).source.sizes
        spatial = [sizes.get(axis, 1) for axis in "ZYX" if axis in axes]
        tile = tuple(_half(n) if tiled else n for n in spatial)
        # At the model's pixel size an image may be larger than it is: one tile is then not one.
        request = Request(
            model=self.model.id,
            inputs=[image],
            out=self.folder / ("tiled" if tiled else "whole"),
            tile=tile if tiled else tuple(_MANY_TIMES * n for n in tile),
            device=self.device,
            workers=1,
        )
        done = run(request, self.registry, progress=self.progress)
        (record,) = done.record.images
        if record.status != "done" or record.labels is None:
            raise AiodError(record.error or "The image was not finished.")
        return _Result(record, open_labels(done.folder / record.labels))

    def result(self, labels: Labels) -> Check:
        """The labels beside those, or the number, that the manifest says are right."""
        test = self.registry.test_for(self.model)
        if test is None:
            return Check("result", "not checked", "the manifest names no test")
        tolerance = TOLERANCE if test.tolerance is None else test.tolerance
        if isinstance(test.expected, int):
            found = _count(labels)
            off = abs(found - test.expected) / max(1, test.expected)
            told = f"{counted(found, 'object')}, {test.expected:,} expected"
        else:
            truth = open_labels(fetch(test.expected, self.model.family, progress=self.progress))
            likeness, told = _likeness(labels, truth, iou=0.5)
            off = 1 - likeness
        return Check(
            "result",
            "passed" if off <= tolerance else "failed",
            f"{told} (may be off by {tolerance:g})",
        )


_MANY_TIMES = 64


def _is_tensor(place: Place) -> bool:
    """Whether a file of a test is an array of the network; servers may have a word behind it."""
    path = str(place).partition("?")[0].lower().removesuffix("/content")
    return path.endswith(".npy")


def _as_image(path: Path, axes: str, target: Path) -> Path | None:
    """A tensor as an image with these axes: without a batch, or what else has but one entry.

    None where that is not possible.
    """
    if path.stat().st_size > _MAX_TENSOR_BYTES:
        return None
    try:
        pixels = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError):  # its head may say what it likes
        return None
    while pixels.ndim > len(axes) and 1 in pixels.shape:
        pixels = pixels.squeeze(pixels.shape.index(1))
    sizes = dict(zip(axes, pixels.shape, strict=False))
    if pixels.ndim != len(axes) or pixels.dtype.kind not in "biuf" or sizes.get("Z", 2) == 1:
        return None
    if str(pixels.dtype) not in _OF_IMAGES:
        pixels = pixels.astype(np.float32)
    order = [axis for axis in "TZCYX" if axis in axes]
    ordered = pixels.transpose([axes.index(axis) for axis in order])
    named = {"axes": "".join(order)}
    tifffile.imwrite(target, ordered, ome=True, metadata=named, photometric="minisblack")
    return target


def _half(size: int) -> int:
    """About half of a side, so that there are several tiles; networks like multiples of 16."""
    return max(1, min(size, -(-size // 32) * 16))


def _count(labels: Labels) -> int:
    scores = evaluate_instances(labels.source, labels.source)
    return scores.objects


def _likeness(labels: Labels, others: Labels, *, iou: float) -> tuple[float, str]:
    """How much two label images are alike, from 0 to 1, and in words."""
    if labels.kind == "semantic":
        scores = evaluate_semantic(labels.source, others.source)
        dice = min((score.dice for score in scores), default=1.0)
        return dice, f"Dice {dice:.3f}"
    found = evaluate_instances(labels.source, others.source)
    if found.objects == found.true_objects == 0:
        return 1.0, "no object in either"
    f1 = found.matchings[_IOU[iou]].f1
    return f1, f"F1 {f1:.3f} at IoU {iou}"


def _agreement(whole: _Result, tiled: _Result) -> Check:
    plan = tiled.record.plan
    tiles = counted(plan.tiles * plan.frames if plan else 0, "tile")
    if whole.record.labels_digest == tiled.record.labels_digest:
        return Check("tiles", "passed", f"the same pixels in {tiles}")
    likeness, told = _likeness(tiled.labels, whole.labels, iou=0.9)
    state: State = "passed" if likeness >= AGREEMENT else "failed"
    return Check("tiles", state, f"{told} of {tiles} and the whole")
