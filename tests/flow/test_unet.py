"""The family `unet`: every kind of answer becomes the objects that it was made from.

Most networks here are one Identity, so that the image given is the network's answer.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
import tifffile
from numpy.typing import NDArray
from onnx import TensorProto, helper
from scipy import ndimage

import aiod
from aiod.flow.results.evaluate import evaluate_instances
from aiod.registry import load

Array = NDArray[Any]

PACKAGE = Path(aiod.__file__).parent
SAMPLES = PACKAGE / "samples"
REGISTRY = load()


def imported() -> ModuleType:
    """The runner, as a model's worker imports it."""
    spec = importlib.util.spec_from_file_location("unet", PACKAGE / "runners" / "unet.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["unet"] = module
    spec.loader.exec_module(module)
    return module


runner = imported()


def network(folder: Path, dimensions: int = 4, scale: float = 1.0, **config: Any) -> Any:
    """A network that multiplies its input, with a config: loaded by the runner."""
    shape = [f"d{axis}" for axis in range(dimensions)]
    graph = helper.make_graph(
        [helper.make_node("Mul", ["image", "scale"], ["answer"])],
        "scales",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, shape)],
        [helper.make_tensor("scale", TensorProto.FLOAT, [], [scale])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, folder / "network.onnx")
    (folder / "config.json").write_text(json.dumps(config))
    return runner.load(
        str(folder / "network.onnx"), config=str(folder / "config.json"), device="cpu"
    )


def cells(shape: tuple[int, ...], radius: float, seed: int = 0) -> Array:
    """Discs (balls) that touch: each pixel near a centre belongs to the nearest one."""
    random = np.random.default_rng(seed)
    grid = [np.arange(radius, n, 1.8 * radius) for n in shape]
    centres = np.array(list(itertools.product(*grid)))
    centres = centres + random.uniform(-0.15 * radius, 0.15 * radius, centres.shape)
    places = np.indices(shape).reshape(len(shape), -1).T
    away = np.linalg.norm(places[:, None] - centres[None], axis=2)
    labels: Array = np.where(away.min(1) < radius, away.argmin(1) + 1, 0).reshape(shape)
    return labels


def depth_of(labels: Array) -> Array:
    """How deep in its object each pixel lies, from 0 to 1."""
    depth = np.zeros(labels.shape)
    for number in np.unique(labels[labels > 0]):
        inside = labels == number
        away = ndimage.distance_transform_edt(np.pad(inside, 1))
        away = away[(slice(1, -1),) * labels.ndim]
        depth[inside] = (away / away.max())[inside]
    return depth


def agree(labels: Array, truth: Array, *, iou: float = 0.8) -> bool:
    """Whether every object has its partner."""
    found = evaluate_instances(labels, truth)
    matching = next(m for m in found.matchings if m.iou == iou)
    return matching.extra == matching.missed == 0 and matching.matched > 5


DISTANCE = {"kind": "distance", "foreground": 0, "distance": 1}


@pytest.mark.parametrize("axes", ["YX", "ZYX"])
def test_distances_become_the_objects_they_were_measured_in(tmp_path: Path, axes: str) -> None:
    truth = cells((90, 120) if axes == "YX" else (36, 56, 56), 11)
    answer = np.stack([truth > 0, depth_of(truth)]).astype("float32")
    model = network(tmp_path, 2 + len(axes), axes="NC" + axes, output=DISTANCE)
    assert agree(runner.predict(model, answer, axes="C" + axes), truth)


def test_boundaries_keep_objects_apart(tmp_path: Path) -> None:
    truth = cells((90, 120), 12)
    inner = np.zeros_like(truth)
    for number in np.unique(truth[truth > 0]):
        inner[ndimage.binary_erosion(truth == number, iterations=2)] = number
    answer = np.stack([truth == 0, inner > 0, (truth > 0) & (inner == 0)]).astype("float32")
    output = {"kind": "boundary", "inside": 1, "boundary": 2}
    model = network(tmp_path, output=output)
    labels = runner.predict(model, answer, axes="CYX")
    assert agree(labels, truth, iou=0.9)
    assert ((labels > 0) == (truth > 0)).all()  # outlines belong to objects


@pytest.mark.parametrize("axes", ["YX", "ZYX"])
def test_flows_lead_to_one_place_an_object(tmp_path: Path, axes: str) -> None:
    truth = cells((90, 120) if axes == "YX" else (36, 56, 56), 11)
    flow = np.zeros((len(axes), *truth.shape), "float32")
    for number in np.unique(truth[truth > 0]):
        inside = truth == number
        places = np.array(np.nonzero(inside))
        way = places.mean(1, keepdims=True) - places
        flow[:, inside] = way / np.maximum(np.linalg.norm(way, axis=0), 1)
    answer = np.concatenate([(truth > 0)[None], flow]).astype("float32")
    output = {"kind": "flow", "foreground": 0, "flow": list(range(1, 1 + len(axes)))}
    model = network(tmp_path, 2 + len(axes), axes="NC" + axes, output=output)
    assert agree(runner.predict(model, answer, axes="C" + axes), truth, iou=0.95)


def test_one_channel_is_a_mask_several_are_classes(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    answer = random.random((3, 20, 30), np.float32)
    model = network(tmp_path)
    labels = runner.predict(model, answer, axes="CYX")
    np.testing.assert_array_equal(labels, answer.argmax(0))
    mask = runner.predict(model, answer[0], axes="YX", threshold=0.7)
    np.testing.assert_array_equal(mask, answer[0] > 0.7)
    model = network(tmp_path, output={"kind": "semantic", "activation": "sigmoid"})
    mask = runner.predict(model, 6 * answer[0] - 3, axes="YX", threshold=0.5)
    np.testing.assert_array_equal(mask, answer[0] > 0.5)


def test_axes_come_in_any_order(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    image = random.random((7, 20, 30, 3), np.float32)  # ZXYC
    model = network(tmp_path, 5, axes="NZYXC", output={"kind": "semantic"})
    labels = runner.predict(model, image, axes="ZXYC")
    np.testing.assert_array_equal(labels, image.argmax(-1))
    model = network(tmp_path, 2, axes="YX", output={"kind": "semantic"})
    labels = runner.predict(model, image[0, ..., 0], axes="XY")
    np.testing.assert_array_equal(labels, image[0, ..., 0] > 0.5)


def test_sides_are_filled_up_and_cut_off_again(tmp_path: Path) -> None:
    image = np.random.default_rng(3).random((3, 41), np.float32)
    model = network(tmp_path, multiple=[16, 8], output={"kind": "semantic"})
    np.testing.assert_array_equal(runner.predict(model, image, axes="YX"), image > 0.5)


@pytest.mark.parametrize(
    ("normalisation", "low", "high"),
    [
        ({"kind": "percentiles", "low": 10, "high": 90}, np.percentile, (10, 90)),
        ({"kind": "mean_std"}, None, None),
        ({"kind": "fixed", "mean": [100.0], "std": [50.0]}, 100.0, 150.0),
        ({"kind": "none"}, 0.0, 1.0),
    ],
)
def test_brightness_is_that_of_the_whole_image(
    tmp_path: Path, normalisation: dict[str, Any], low: Any, high: Any
) -> None:
    """A part of an image gets what the whole image's statistics say, not its own."""
    whole = np.random.default_rng(4).gamma(2, 100, (200, 300)).astype(np.uint16)
    if low is np.percentile:
        low, high = np.percentile(whole, high)
    elif low is None:
        low, high = whole.mean(), whole.mean() + whole.std()
    model = network(tmp_path, normalisation=normalisation)
    values, counts = np.unique(whole, return_counts=True)
    found = runner.survey([{"values": values, "counts": counts}], model=model)
    part = whole[50:90, 60:120]
    for threshold in (0.2, 0.9):
        labels = runner.predict(model, part, axes="YX", threshold=threshold, **found)
        np.testing.assert_array_equal(labels, (part - low) / (high - low) > threshold)
    alone = runner.predict(model, whole, axes="YX", threshold=0.2)
    np.testing.assert_array_equal(alone[50:90, 60:120], (part - low) / (high - low) > 0.2)


def test_a_flat_image_and_one_of_nan_give_nothing(tmp_path: Path) -> None:
    normalisation = {"kind": "percentiles", "low": 1, "high": 99.8}
    model = network(tmp_path, normalisation=normalisation, output={"kind": "semantic"})
    for image in (np.full((30, 40), 7, np.uint8), np.full((30, 40), np.nan, np.float32)):
        values = np.unique(image[np.isfinite(image)])
        counts = np.full(values.shape, image.size)
        found = runner.survey([{"values": values, "counts": counts}], model=model)
        assert not runner.predict(model, image, axes="YX", **found).any()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ([1], "no JSON object"),
        ({"axis": "NCYX"}, "the config has axis"),
        ({"axes": "NCYYX"}, "the config's axes are 'NCYYX'"),
        ({"axes": "NCTX"}, "the config's axes are"),
        ({"multiple": 0}, "the config's multiple is 0"),
        ({"multiple": [8]}, "one for each of YX"),
        ({"normalisation": {"kind": "log"}}, "of kind 'log'; expected percentiles"),
        ({"normalisation": "none"}, "normalisation is of kind None"),
        ({"normalisation": {"kind": "none", "low": 1}}, "of kind none has low"),
        ({"output": {"kind": "distance"}}, "says no distance and no foreground"),
        ({"output": {"kind": "semantic", "activation": "tanh"}}, "activation is 'tanh'"),
        ({"output": {**DISTANCE, "distance": 7}}, "names channel 7 as distance; .* 2 channels"),
        ({"output": {"kind": "semantic", "axes": "CYX"}}, "expected the axes CYX"),
    ],
)
def test_a_wrong_config_is_told_in_words(tmp_path: Path, config: Any, words: str) -> None:
    def run() -> None:
        model = network(tmp_path)
        (tmp_path / "config.json").write_text(json.dumps(config))
        path = str(tmp_path / "config.json")
        model = runner.load(str(tmp_path / "network.onnx"), config=path, device="cpu")
        runner.predict(model, np.ones((2, 8, 8), np.float32), axes="CYX")

    with pytest.raises(ValueError, match=words.replace("'", ".")):
        run()


def test_what_the_network_does_not_take_is_told(tmp_path: Path) -> None:
    model = network(tmp_path, 2, axes="YX")
    with pytest.raises(ValueError, match="takes one channel, the image has 2"):
        runner.predict(model, np.ones((2, 8, 8)), axes="CYX")
    with pytest.raises(ValueError, match="with the axes YX, not ZYX"):
        runner.predict(model, np.ones((2, 8, 8)), axes="ZYX")
    with pytest.raises(ValueError, match="cannot use cuda:0 here"):
        runner.load(str(tmp_path / "network.onnx"), config=None, device="cuda:0")


# --- nuclei-mini ----------------------------------------------------------------------------------


def mini() -> Any:
    (location,) = REGISTRY.locations_for("unet/nuclei-mini/nuclei")
    assert location.weights.path is not None
    assert location.config is not None
    return runner.load(str(location.weights.path), config=str(location.config.path), device="cpu")


@pytest.fixture(scope="module")
def sample() -> tuple[Array, Array]:
    """Fluorescent nuclei of the 2018 Data Science Bowl and their outlines drawn by hand."""
    image = tifffile.imread(SAMPLES / "nuclei_2d.ome.tif")
    return image, tifffile.imread(SAMPLES / "nuclei_2d_truth.ome.tif")


def test_real_nuclei_are_found_with_nothing_set(sample: tuple[Array, Array]) -> None:
    image, truth = sample
    params = REGISTRY.default_config("unet/nuclei-mini/nuclei")
    del params["diameter"]  # the host's
    found = evaluate_instances(runner.predict(mini(), image, axes="YX", **params), truth)
    assert found.matchings[0].f1 >= 0.9
    assert found.matchings[5].f1 >= 0.8  # IoU 0.75


def test_it_comes_along_and_is_small() -> None:
    (location,) = REGISTRY.locations_for("unet/nuclei-mini/nuclei")
    assert location.weights.path is not None
    assert PACKAGE in location.weights.path.parents
    assert location.weights.path.stat().st_size < 1_000_000


def test_brightness_and_offset_change_nothing(sample: tuple[Array, Array]) -> None:
    image, _ = sample
    model = mini()
    labels = runner.predict(model, image, axes="YX")
    others = runner.predict(model, image.astype(np.float64) * 37.5 - 1234, axes="YX")
    assert ((labels > 0) == (others > 0)).mean() > 0.9999


def test_a_tile_gives_what_the_whole_image_gives(sample: tuple[Array, Array]) -> None:
    """Within the manifest's halo, where tiles start at multiples of what the network pools by."""
    image, _ = sample
    halo = REGISTRY.metadata_for("unet/nuclei-mini/nuclei").halo
    assert isinstance(halo, int)
    values, counts = np.unique(image, return_counts=True)
    model = mini()
    found = runner.survey([{"values": values, "counts": counts}], model=model)
    whole = runner.predict(model, image, axes="YX", **found)
    start = 64
    part = runner.predict(model, image[start:, start:], axes="YX", **found)
    inside = (slice(start + halo, None),) * 2
    same = whole[inside] > 0
    np.testing.assert_array_equal(same, part[halo:, halo:] > 0)
    assert evaluate_instances(part[halo:, halo:], whole[inside]).matchings[-2].f1 == 1.0
