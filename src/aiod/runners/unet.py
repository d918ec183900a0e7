# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "appose==0.12.0",
#   "numpy==2.4.6",
#   "onnxruntime==1.32.0",
#   "scikit-image==0.26.0",
#   "scipy==1.17.1",
# ]
# ///
"""Networks in the ONNX format that say for each pixel what it is; objects are made of that here.

A network comes with a config, a JSON file that says how to feed it and how to read its answer::

    {
      "axes": "NCYX",                 the array it takes: N is 1, C may be absent, then YX or ZYX
      "multiple": 8,                  sides are filled up to multiples of this; or one for each axis
      "normalisation": {"kind": "percentiles", "low": 1, "high": 99.8, "clip": [-0.5, 8]},
      "output": {"kind": "distance", "activation": "none", "foreground": 0, "distance": 1}
    }

`normalisation.kind` is `percentiles` (those of the whole image become 0 and 1), `mean_std` (those
of the whole image), `fixed` (`mean` and `std`, numbers or lists of one for each channel) or `none`.

The first axis but N of the answer is its channels, unless `output.axes` says otherwise. What they
are is `output.kind`; each of the other keys gives the number of a channel:

    semantic   one channel: foreground or not; several: classes, of which the first is background
    boundary   `inside` and `boundary`: an object's inside, and outlines that keep objects apart
    distance   `foreground` and `distance`: how deep in its object a pixel lies, from 0 to 1
    flow       `foreground` and `flow` (one for each axis): the way to the middle of its object

`activation` is what is still to be done to the answer: `none`, `sigmoid` or `softmax`. A network
without a config takes NCYX as it is and gives classes.

Brightness is normalised by what `survey` finds in the whole image, so that tiles agree.

verified: real weights (`nuclei-mini`, on a real image in tiles and whole; every kind of answer and
of normalisation with networks that the tests write; on a CPU, in `make test`. Not run: any GPU)
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit, softmax
from skimage.morphology import h_maxima
from skimage.segmentation import watershed

Array = NDArray[Any]

_PLAIN: Mapping[str, Any] = {
    "axes": "NCYX",
    "multiple": 1,
    "normalisation": {"kind": "none"},
    "output": {"kind": "semantic"},
}
_NORMALISATIONS = {
    "percentiles": {"low", "high", "clip"},
    "mean_std": {"clip"},
    "fixed": {"mean", "std", "clip"},
    "none": {"clip"},
}
_OUTPUTS = {
    "semantic": set(),
    "boundary": {"inside", "boundary"},
    "distance": {"foreground", "distance"},
    "flow": {"foreground", "flow"},
}
_ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "none": lambda answer: answer,
    "sigmoid": expit,
    "softmax": lambda answer: softmax(answer, axis=0),
}
_PERCENTILES = (("low", 1.0), ("high", 99.8))
_STEPS_OF_FLOW = 200


@dataclass(frozen=True)
class Network:
    """A loaded network and its config, checked. `spatial` are those of `axes` that are ZYX."""

    session: onnxruntime.InferenceSession
    axes: str
    multiple: tuple[int, ...]
    normalisation: Mapping[str, Any]
    output: Mapping[str, Any]

    @property
    def spatial(self) -> str:
        return "".join(axis for axis in self.axes if axis in "ZYX")


@dataclass(frozen=True)
class Settings:
    """The parameters of one call. Lengths are pixels of what the network sees."""

    threshold: float
    split: float
    min_diameter: float


def load(weights: str | None, *, config: str | None, device: str) -> Network:
    """The network in a file, on the CPU or a CUDA device, with its config."""
    if weights is None:
        raise ValueError("this family needs the file of a network (.onnx)")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(weights, options, providers=_providers(device))
    if len(session.get_inputs()) != 1:
        raise ValueError(f"the network takes {len(session.get_inputs())} arrays; one is expected")
    told = json.loads(Path(config).read_text("utf-8")) if config else {}
    return _checked(session, told)


def survey(statistics: Sequence[Mapping[str, Array]], *, model: Network) -> dict[str, Any]:
    """For each channel of the whole image the brightness that becomes 0, and what becomes 1."""
    how = model.normalisation
    return {"ranges": [_range(channel, how, at) for at, channel in enumerate(statistics)]}


def predict(
    model: Network,
    image: Array,
    *,
    axes: str,
    ranges: Sequence[Sequence[float]] | None = None,
    threshold: float = 0.5,
    split: float = 0.1,
    min_diameter: float = 0.0,
) -> Array:
    """Labels, uint32, of one image; their axes are those of `axes` but C, in that order."""
    channels = _channels_first(model, image, axes)
    if ranges is None:  # not surveyed: this image is the whole
        ranges = survey([_histogram(channel) for channel in channels], model=model)["ranges"]
    low, high = np.array(ranges, np.float32).T.reshape(2, -1, *(1 for _ in model.spatial))
    seen = (channels - low) / (high - low)
    if "clip" in model.normalisation:
        seen = seen.clip(*model.normalisation["clip"])
    answer = _run(model, seen)
    labels = _OBJECTS[model.output["kind"]](
        answer, model.output, Settings(threshold, split, min_diameter)
    )
    given = [axis for axis in axes if axis in model.spatial]
    return labels.astype(np.uint32).transpose([model.spatial.index(axis) for axis in given])


# --- the config -----------------------------------------------------------------------------------


def _checked(session: Any, told: Any) -> Network:
    """A config with its defaults. Raises ValueError, which says what is wrong with it."""
    if not isinstance(told, dict):
        raise ValueError("the config of the network is no JSON object")
    _no_more("the config", told, set(_PLAIN))
    config = {**_PLAIN, **told}
    axes = config["axes"]
    spatial = "".join(axis for axis in str(axes) if axis in "ZYX")
    if (
        not isinstance(axes, str)
        or set(axes) - set("NCZYX")
        or len(set(axes)) != len(axes)
        or spatial not in ("YX", "ZYX")
    ):
        raise ValueError(f"the config's axes are {axes!r}; expected such as NCYX or NCZYX")
    sides = config["multiple"]
    multiple = tuple(sides) if isinstance(sides, list) else (sides,) * len(spatial)
    if len(multiple) != len(spatial) or not all(
        isinstance(n, int) and 1 <= n <= 1024 for n in multiple
    ):
        raise ValueError(
            f"the config's multiple is {sides!r}; expected a number, or one for each of {spatial}"
        )
    normalisation = _of_kind("normalisation", config["normalisation"], _NORMALISATIONS)
    output = _of_kind(
        "output", config["output"], {k: v | {"activation", "axes"} for k, v in _OUTPUTS.items()}
    )
    missing = _OUTPUTS[output["kind"]] - set(output)
    if missing:
        what = " and no ".join(sorted(missing))
        raise ValueError(f"the config's output of kind {output['kind']} says no {what}")
    activation = output.get("activation", "none")
    if activation not in _ACTIVATIONS:
        known = ", ".join(_ACTIVATIONS)
        raise ValueError(f"the config's activation is {activation!r}; expected {known}")
    return Network(session, axes, multiple, normalisation, output)


def _of_kind(name: str, value: Any, kinds: Mapping[str, set[str]]) -> Mapping[str, Any]:
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise ValueError(f"the config's {name} is of kind {kind!r}; expected {', '.join(kinds)}")
    _no_more(f"the config's {name} of kind {kind}", value, {"kind", *kinds[kind]})
    return dict(value)


def _no_more(what: str, value: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(set(value) - known)
    if unknown:
        raise ValueError(f"{what} has {', '.join(unknown)}; known are {', '.join(sorted(known))}")


def _providers(device: str) -> list[Any]:
    kind, _, number = device.partition(":")
    if kind == "cpu":
        return ["CPUExecutionProvider"]
    if kind != "cuda" or "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise ValueError(f"onnxruntime cannot use {device} here; `--device cpu` works")
    return [("CUDAExecutionProvider", {"device_id": int(number or 0)}), "CPUExecutionProvider"]


# --- the input ------------------------------------------------------------------------------------


def _channels_first(model: Network, image: Array, axes: str) -> Array:
    """The image as float32 with channels first, then space as the network has it."""
    given = [axis for axis in axes if axis != "C"]
    if sorted(given) != sorted(model.spatial):
        raise ValueError(
            f"this network takes images with the axes {model.spatial}, not {''.join(given)}"
        )
    pixels = image if "C" in axes else image[np.newaxis]
    named = axes if "C" in axes else "C" + axes
    pixels = pixels.transpose([named.index(axis) for axis in "C" + model.spatial])
    if "C" not in model.axes and len(pixels) != 1:
        raise ValueError(f"this network takes one channel, the image has {len(pixels)}")
    return np.nan_to_num(pixels.astype(np.float32), copy=False)


def _histogram(channel: Array) -> Mapping[str, Array]:
    values, counts = np.unique(channel, return_counts=True)
    return {"values": values, "counts": counts}


def _range(channel: Mapping[str, Array], how: Mapping[str, Any], number: int) -> list[float]:
    """The brightness that becomes 0 and that which becomes 1, of a channel with this histogram."""
    values, counts = np.asarray(channel["values"], np.float64), np.asarray(channel["counts"])
    if how["kind"] == "percentiles" and values.size:
        low, high = (_percentile(values, counts, how.get(*part)) for part in _PERCENTILES)
        if high <= low:  # a few objects on a flat ground
            low, high = float(values[0]), float(values[-1])
    elif how["kind"] == "mean_std" and values.size:
        low = float(np.average(values, weights=counts))
        high = low + float(np.sqrt(np.average((values - low) ** 2, weights=counts)))
    elif how["kind"] == "fixed":
        mean, std = how.get("mean", 0.0), how.get("std", 1.0)
        low = float(mean[number] if isinstance(mean, list) else mean)
        high = low + float(std[number] if isinstance(std, list) else std)
    else:
        low, high = 0.0, 1.0
    return [low, high if high > low else low + 1.0]


def _percentile(values: Array, counts: Array, percent: float) -> float:
    """What numpy.percentile gives for the pixels of a histogram with sorted values."""
    ends = np.cumsum(counts)
    place = percent / 100 * (int(ends[-1]) - 1)
    below = math.floor(place)
    first, second = values[np.searchsorted(ends, [below, math.ceil(place)], side="right")]
    return float(first + (place - below) * (second - first))


def _run(model: Network, seen: Array) -> Array:
    """The network's answer (channels, space) for (channels, space), with the activation done."""
    shape = seen.shape[1:]
    fill = [-n % m for n, m in zip(shape, model.multiple, strict=True)]
    # Mirrored where there is enough to mirror, repeated where not.
    enough = all(after < n for after, n in zip(fill, shape, strict=True))
    filled = np.pad(seen, [(0, 0), *((0, n) for n in fill)], mode="reflect" if enough else "edge")
    named = "C" + model.spatial
    if "C" not in model.axes:
        filled, named = filled[0], model.spatial
    array = filled.transpose([named.index(axis) for axis in model.axes if axis != "N"])
    if "N" in model.axes:
        array = np.expand_dims(array, model.axes.index("N"))
    name = model.session.get_inputs()[0].name
    answer, *_ = model.session.run(None, {name: np.ascontiguousarray(array, np.float32)})
    read = _read(model, np.asarray(answer, np.float32))
    expected = tuple(n + after for n, after in zip(shape, fill, strict=True))
    if read.shape[1:] != expected:
        raise ValueError(f"the network answers {read.shape[1:]} pixels for {expected} of the image")
    _has_channels(read, model.output)
    cropped = read[(slice(None), *(slice(n) for n in shape))]
    activated: Array = _ACTIVATIONS[model.output.get("activation", "none")](cropped)
    return activated


def _read(model: Network, answer: Array) -> Array:
    """An answer with the axes (channels, space)."""
    axes = model.output.get("axes", model.axes)
    if answer.ndim == len(axes) + 1 and "C" not in axes:
        axes = "NC" + axes[1:] if axes.startswith("N") else "C" + axes
    elif answer.ndim == len(axes) - 1:
        axes = axes.replace("C", "")
    if answer.ndim != len(axes):
        raise ValueError(
            f"the network's answer has the shape {answer.shape}; expected the axes {axes}"
        )
    if "N" in axes:
        answer, axes = answer.take(0, axes.index("N")), axes.replace("N", "")
    if "C" not in axes:
        answer, axes = answer[np.newaxis], "C" + axes
    return answer.transpose([axes.index(axis) for axis in "C" + model.spatial])


def _has_channels(answer: Array, output: Mapping[str, Any]) -> None:
    """Raise ValueError where the config names channels that the answer does not have."""
    for key in sorted(_OUTPUTS[output["kind"]]):
        for number in output[key] if isinstance(output[key], list) else [output[key]]:
            if not isinstance(number, int) or not 0 <= number < len(answer):
                raise ValueError(
                    f"the config's output names channel {number!r} as {key}; the network's answer"
                    f" has {len(answer)} channels, counted from 0"
                )


# --- the output -----------------------------------------------------------------------------------


def _semantic(answer: Array, _: Mapping[str, Any], settings: Settings) -> Array:
    labels: Array = answer[0] > settings.threshold if len(answer) == 1 else answer.argmax(0)
    return labels


def _boundary(answer: Array, output: Mapping[str, Any], settings: Settings) -> Array:
    inside, boundary = answer[output["inside"]], answer[output["boundary"]]
    foreground = np.maximum(inside, boundary) > settings.threshold
    seeds, _ = _pieces(_large((inside > settings.threshold) & (inside > boundary), settings))
    foreground &= ndimage.binary_propagation(seeds > 0, mask=foreground)
    labels: Array = watershed(boundary, seeds, mask=foreground)
    return labels


def _distance(answer: Array, output: Mapping[str, Any], settings: Settings) -> Array:
    """Basins of the distance in the foreground, one for each summit that stands out by `split`."""
    foreground = _large(answer[output["foreground"]] > settings.threshold, settings)
    foreground = _without_holes(foreground, settings)
    distance = ndimage.gaussian_filter(
        np.where(foreground, answer[output["distance"]], 0), 1.0, truncate=3.0
    )
    summits = h_maxima(distance, settings.split) if foreground.any() else foreground
    pieces, count = _pieces(foreground)
    seen = np.zeros(count + 1, bool)
    seen[pieces[summits > 0]] = True
    # A piece where nothing stands out so much is one object all the same.
    seeds, _ = _pieces((summits > 0) & foreground | ~seen[pieces])
    return _large_only(watershed(-distance, seeds, mask=foreground), settings)


def _flow(answer: Array, output: Mapping[str, Any], settings: Settings) -> Array:
    """Pixels whose ways end in the same place are one object (Stringer et al. 2021)."""
    foreground = _large(answer[output["foreground"]] > settings.threshold, settings)
    flow = answer[list(output["flow"])] * foreground
    places = np.stack(np.nonzero(foreground))
    at = places.astype(np.float32)
    edges = np.array(foreground.shape, np.float32)[:, None] - 1
    for _ in range(_STEPS_OF_FLOW if places.size else 0):
        step = np.stack([ndimage.map_coordinates(part, at, order=1) for part in flow])
        length = np.sqrt((step**2).sum(0))
        at = np.clip(at + step / np.maximum(length, 1.0), 0, edges)
    ends = tuple(np.rint(at).astype(np.intp))
    hits = np.zeros(foreground.shape, np.float32)
    np.add.at(hits, ends, 1)
    sinks, _ = _pieces(ndimage.maximum_filter(hits, 3) > 0)
    labels = np.zeros(foreground.shape, np.int64)
    labels[tuple(places)] = sinks[ends]
    return _large_only(labels, settings)


_OBJECTS: Mapping[str, Callable[[Array, Mapping[str, Any], Settings], Array]] = {
    "semantic": _semantic,
    "boundary": _boundary,
    "distance": _distance,
    "flow": _flow,
}


def _pieces(mask: Array) -> tuple[Array, int]:
    """Connected pieces, neighbours across corners too."""
    labels, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
    return labels, count


def _smallest(dimensions: int, settings: Settings) -> float:
    """Pixels of a disc (a ball) of the smallest diameter."""
    return float((math.pi / 4, math.pi / 6)[dimensions - 2] * settings.min_diameter**dimensions)


def _large(mask: Array, settings: Settings) -> Array:
    """A mask without its pieces that are too small."""
    pieces, _ = _pieces(mask)
    keep = np.bincount(pieces.ravel()) >= _smallest(mask.ndim, settings)
    keep[0] = False
    kept: Array = keep[pieces]
    return kept


def _without_holes(mask: Array, settings: Settings) -> Array:
    """A mask without holes that are smaller than the smallest object."""
    holes = ndimage.binary_fill_holes(mask) & ~mask
    filled: Array = mask | (holes & ~_large(holes, settings))
    return filled


def _large_only(labels: Array, settings: Settings) -> Array:
    """Labels without those that are too small."""
    keep = np.bincount(labels.ravel()) >= _smallest(labels.ndim, settings)
    keep[0] = False
    return np.where(keep[labels], labels, 0)
