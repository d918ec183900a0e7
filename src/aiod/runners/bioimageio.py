# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "appose==0.12.0",
#   "bioimageio-core==0.11.0",
#   "numpy==2.4.6",
#   "onnxruntime==1.32.0",
#   "pydantic==2.13.5",
#   "ruyaml==0.91.0",
#   "scikit-image==0.26.0",
#   "scipy==1.17.1",
#   "torch==2.13.0",
# ]
# ///
"""Any model of the BioImage Model Zoo with weights in the formats ONNX or TorchScript.

The config is the model's description (rdf.yaml, format 0.4 or 0.5). bioimageio.core reads it and
does the steps that it asks for before and after the network; blocks, and objects, are made here.

Steps before the network may need statistics. bioimageio.core takes them of each array it is given;
here `survey` reads them off the histograms of the whole image, so that tiles agree. What a
histogram cannot tell (statistics of single planes, or of the network's answer) is refused.

An axis of a fixed length is done in blocks of that length, which overlap by the halo that the
description gives; other axes are filled up to the next length that it allows::

    |halo|      core      |halo|            block: what the network sees
                      |halo|      core      |halo|
    |....|         image             |......|      dots: mirrored, or as the description says

No code of a package is imported: a description that asks for its own Python (weights as a state
dict, custom steps) is refused. A TorchScript file is a program for PyTorch's interpreter, which
can read and write files: use one of people you trust, or the ONNX file of the same package.

verified: own weights (packages in both formats of weights and of descriptions, written by the test,
in tiles and whole; their answers are bioimageio.core's) and, by hand, real weights (the example of
the zoo's format answers its own test tensors); on a CPU. Not run: other models of the zoo, any GPU
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# Read when the library is imported, which would make a cache of its own and draw progress bars.
os.environ["BIOIMAGEIO_CACHE_PATH"] = os.environ.get("AIOD_SCRATCH") or os.devnull
os.environ["TQDM_DISABLE"] = "1"

import numpy as np
import onnxruntime
from bioimageio.core import Sample, Tensor
from bioimageio.core.proc_setup import get_requried_measures, setup_pre_and_postprocessing
from bioimageio.core.stat_measures import Measure
from bioimageio.spec import ValidationContext, build_description
from bioimageio.spec.model import v0_5
from numpy.typing import NDArray
from ruyaml import YAML
from ruyaml.error import YAMLError
from scipy import ndimage
from skimage.segmentation import watershed

Array = NDArray[Any]
Statistics = Sequence[Mapping[str, Array]]

_MAX_DESCRIPTION_BYTES = 500_000
_MAX_NODES = 100_000
_MAX_BLOCK_PIXELS = 1 << 30
_MAX_TEST_BYTES = 2_000_000_000
_OTHER_FAMILIES = {"stardist_postprocessing": "stardist", "cellpose_flow_dynamics": "cellpose"}


@dataclass(frozen=True)
class Axis:
    """A spatial axis of the input: its fixed length, or the least length and the step from it.

    `halo` is how many pixels at each end of the answer are not to be used.
    """

    length: int | None
    least: int
    step: int
    halo: int

    def block(self, size: int) -> int:
        """The length of a block for so many pixels of an image."""
        if self.length is not None:
            return self.length
        wanted = size + 2 * self.halo
        return self.least + max(0, -(-(wanted - self.least) // self.step)) * self.step


@dataclass(frozen=True)
class Model:
    """A network and its description, checked. `axes` are those of its input: B, C, Z, Y, X."""

    description: v0_5.ModelDescr
    weights_format: str
    run: Callable[[Array], Sequence[Array]]
    axes: str

    @property
    def input(self) -> v0_5.InputTensorDescr:
        return self.description.inputs[0]

    @property
    def spatial(self) -> str:
        return "".join(axis for axis in self.axes if axis in "ZYX")

    @property
    def channels(self) -> int:
        """How many channels the network takes."""
        return next((int(a.size) for a in self.input.axes if a.type == "channel"), 1)


# --- what the host calls --------------------------------------------------------------------------


def load(weights: str | None, *, config: str | None, device: str) -> Model:
    """The network in a file, on the CPU or a CUDA device, with its description."""
    if weights is None or config is None:
        raise ValueError(
            "a model of the zoo needs its weights (.onnx or TorchScript) and its description "
            "(rdf.yaml, as config_path); `aiod import bioimageio` writes both into a manifest"
        )
    described = _description(Path(config))
    with Path(weights).open("rb") as file:
        kind = "torchscript" if file.read(4) == b"PK\x03\x04" else "onnx"
    if getattr(described.weights, kind) is None:
        there = ", ".join(name for name, entry in described.weights if entry is not None)
        raise ValueError(
            f"{Path(weights).name} is no {'ONNX' if kind == 'torchscript' else 'TorchScript'} file,"
            f" and the description of {described.name} has weights only as {there}"
        )
    run = (_torchscript if kind == "torchscript" else _onnx)(weights, device)
    model = Model(described, kind, run, _letters(described.inputs[0].axes, "the network"))
    _measures(model, _output(model, 1))
    return model


def survey(statistics: Statistics, *, model: Model, output: int = 1) -> dict[str, Any]:
    """The statistics of the whole image that the steps of the description ask for.

    For each measure of `_measures` one number, or a list with one for each channel.
    """
    _check_range(model, statistics)
    measures = _measures(model, _output(model, output))
    return {"measured": [_measured(measure, statistics) for measure in measures]}


def predict(
    model: Model,
    image: Array,
    *,
    axes: str,
    measured: Sequence[float | Sequence[float]] | None = None,
    output: int = 1,
    objects: str = "foreground",
    foreground: int = 1,
    boundary: int = 0,
    background: int = 0,
    threshold: float = 0.5,
    min_diameter: float = 0.0,
) -> Array:
    """Labels, uint32, of one image; their axes are those of `axes` but C, in that order."""
    pixels = _batch(model, image, axes)
    at = _output(model, output)
    if measured is None:  # not surveyed: this image is the whole
        channels = np.moveaxis(pixels, model.axes.index("C"), 0) if "C" in model.axes else [pixels]
        counted = [np.unique(channel, return_counts=True) for channel in channels]
        statistics = [{"values": values, "counts": counts} for values, counts in counted]
        measured = survey(statistics, model=model, output=output)["measured"]
    known = {
        measure: _tensor(model, measure, value)
        for measure, value in zip(_measures(model, at), measured, strict=True)
    }
    answer, blocks = _whole_answer(model, at, pixels, known)
    if objects == "labels" and blocks > 1:
        raise ValueError(
            "this network numbers objects itself, and the numbers of several blocks do not belong "
            "together; tiles that fit into one block with their halo help (--tile, --halo)"
        )
    if objects not in _OBJECTS:
        raise ValueError(f"objects is {objects!r}; expected {', '.join(_OBJECTS)}")
    numbers = {"foreground": foreground, "boundary": boundary, "background": background}
    answer = answer if answer.dtype.kind == "f" else answer.astype(np.float64)
    labels = _OBJECTS[objects](_Answer(answer, numbers, threshold))
    if min_diameter > 0 and objects != "classes":
        labels = _large_only(labels, min_diameter)
    given = [axis for axis in axes if axis in model.spatial]
    return labels.astype(np.uint32).transpose([model.spatial.index(axis) for axis in given])


def check(model: Model, *, input: str, expected: str, output: int = 1) -> dict[str, Any]:  # noqa: A002
    """Whether the network answers the test tensor of its package as the package says (.npy files).

    The tolerance is that of the description, else that of bioimageio.core: of a million numbers 100
    may be off by more than 0.001 and a thousandth of themselves.
    """
    at = _output(model, output)
    described = model.description.outputs[at]
    array, right = _npy(input, model.input.test_tensor), _npy(expected, described.test_tensor)
    if array.ndim != len(model.axes):
        raise ValueError(
            f"the test tensor has the shape {array.shape}; the network takes the axes {model.axes}"
        )
    found = _forward(model, at, array, None)
    if found.shape != right.shape:
        told = f"the answer to the test tensor has the shape {found.shape}, not {right.shape}"
        return {"passed": False, "told": told}
    relative, absolute, most = _tolerance(model, described)
    off = np.abs(found.astype(np.float64) - right)
    wrong = int(np.count_nonzero(~(off <= absolute + relative * np.abs(right))))
    told = (
        f"{wrong:,} of {right.size:,} numbers of the test tensor differ by more than {absolute:g} "
        f"and {relative:g} of themselves (at most by {off.max(initial=0):.2g})"
    )
    return {"passed": bool(wrong <= most * right.size / 1e6), "told": told}


# --- the description ------------------------------------------------------------------------------


def _description(path: Path) -> v0_5.ModelDescr:
    """A description in its latest format. Raises ValueError, which says what cannot be run."""
    if path.stat().st_size > _MAX_DESCRIPTION_BYTES:
        raise ValueError(f"the description {path.name} has more than {_MAX_DESCRIPTION_BYTES:,} B")
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text("utf-8"))
    except (YAMLError, ValueError, RecursionError) as error:
        told = " ".join(str(error).split())[:300]
        raise ValueError(f"the description {path.name} is not YAML: {told}") from error
    _count(content)
    inputs = content.get("inputs") if isinstance(content, dict) else None
    for tensor in inputs if isinstance(inputs, list) else ():
        if isinstance(tensor, dict) and tensor.get("output_of"):
            # bioimageio.spec would fetch the other model's description to look at it.
            raise ValueError(f"its input is the output of another model: {tensor['output_of']}")
    context = ValidationContext(perform_io_checks=False, log_warnings=False, root=path.parent)
    described = build_description(content, context=context, format_version="latest")
    if not isinstance(described, v0_5.ModelDescr):
        errors = [entry for item in described.validation_summary.details for entry in item.errors]
        said = [f"{'.'.join(map(str, e.loc))}: {' '.join(str(e.msg).split())}" for e in errors[:3]]
        raise ValueError(f"{path.name} is no description of a model: {'; '.join(said)[:1000]}")
    if len(described.inputs) != 1:
        raise ValueError(f"the network takes {len(described.inputs)} arrays; one is expected")
    if described.run_mode:
        raise ValueError(f"the description asks for a run mode of its own: {described.run_mode}")
    for tensor in (*described.inputs, *described.outputs):
        for step in (*getattr(tensor, "preprocessing", ()), *getattr(tensor, "postprocessing", ())):
            if step.id == "custom":
                raise ValueError(
                    "the description asks for a step in Python that the package brings; code of "
                    "packages is not run here"
                )
            if step.id in _OTHER_FAMILIES:
                raise ValueError(
                    f"the description asks for {step.id}, which this family cannot do; the family "
                    f"{_OTHER_FAMILIES[step.id]} of aiod runs such networks"
                )
    return described


def _count(content: Any) -> None:
    """Raise ValueError where aliases make a short text very long, or endless."""
    waiting, seen = [content], 0
    while waiting:
        item = waiting.pop()
        seen += 1
        if seen > _MAX_NODES:
            raise ValueError(f"the description has more than {_MAX_NODES:,} entries")
        if isinstance(item, (dict, list)):
            waiting.extend(item.values() if isinstance(item, dict) else item)


def _letters(axes: Iterable[Any], whose: str) -> str:
    """The axes of a tensor as letters of BCZYX."""
    found = ""
    for axis in axes:
        name = str(axis.id).lower()
        letter = {"batch": "B", "channel": "C"}.get(axis.type, name.upper())
        if letter not in ("B", "C", "Z", "Y", "X") or letter in found:
            raise ValueError(
                f"{whose} has an axis {name} of type {axis.type}; batch, channel, z, y and x are"
                " expected, each once"
            )
        found += letter
    if not {"Y", "X"} <= set(found):
        raise ValueError(f"{whose} has the axes {found}; y and x are expected among them")
    return found


def _output(model: Model, number: int) -> int:
    """The index of the output with a number. Raises ValueError unless it is a map of the image."""
    outputs = model.description.outputs
    if not 1 <= number <= len(outputs):
        raise ValueError(f"the network has {len(outputs)} outputs, there is no output {number}")
    _axes(model, number - 1)
    return number - 1


def _axes(model: Model, at: int) -> dict[str, Axis]:
    """The spatial axes of the network for one of its outputs, by letter.

    Raises ValueError where the output is not as large as the input.
    """
    output = model.description.outputs[at]
    letters = _letters(output.axes, f"the output {output.id}")
    missing = set(model.spatial) ^ {axis for axis in letters if axis in "ZYX"}
    if missing:
        raise ValueError(
            f"the output {output.id} has the axes {letters}, the input {model.axes}; an output for "
            "each pixel of the image is expected"
        )
    made = {}
    for letter, axis in zip(model.axes, model.input.axes, strict=True):
        if letter not in "ZYX":
            continue
        answer = output.axes[letters.index(letter)]
        _check_same_size(model, letter, axis, answer, output)
        size = _own_size(model, axis)
        halo = int(getattr(answer, "halo", 0))
        if isinstance(size, int):
            if size <= 2 * halo:
                raise ValueError(f"the network sees {size} pixels along {letter}, less than halos")
            made[letter] = Axis(size, size, 1, halo)
        else:
            made[letter] = Axis(None, size.min, size.step, halo)
    return made


def _own_size(model: Model, axis: Any) -> Any:
    """The size of an axis of the input, which may be said to be that of another one."""
    size = axis.size
    if isinstance(size, v0_5.SizeReference):
        other = next((a for a in model.input.axes if a.id == size.axis_id), None)
        if (
            other is None
            or size.tensor_id != model.input.id
            or size.offset != 0
            or other.scale != axis.scale
            or isinstance(other.size, v0_5.SizeReference)
        ):
            raise ValueError(f"the length of the axis {axis.id} depends on more than another axis")
        size = other.size
    return size


def _check_same_size(model: Model, letter: str, axis: Any, answer: Any, output: Any) -> None:
    size = answer.size
    if isinstance(size, v0_5.SizeReference):
        same = (
            size.tensor_id == model.input.id
            and size.axis_id == axis.id
            and size.offset == 0
            and answer.scale == axis.scale
        )
    else:
        same = isinstance(size, int) and size == _own_size(model, axis)
    if not same:
        raise ValueError(
            f"the output {output.id} is not as large as the image along {letter}; an output for "
            "each pixel of the image is expected"
        )


# --- the network ----------------------------------------------------------------------------------


def _onnx(weights: str, device: str) -> Callable[[Array], Sequence[Array]]:
    kind, _, number = device.partition(":")
    providers: list[Any] = ["CPUExecutionProvider"]
    if kind == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": int(number or 0)}))
    elif kind != "cpu":  # the device was chosen by what PyTorch sees
        told = f"onnxruntime cannot use {device} here: the CPU runs this network."
        warnings.warn(told, stacklevel=1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        # From its bytes: a network that wanted further files would find none.
        data = Path(weights).read_bytes()
        session = onnxruntime.InferenceSession(data, options, providers=providers)
    except Exception as error:  # of many kinds
        raise ValueError(
            f"{Path(weights).name} is no ONNX file that onnxruntime {onnxruntime.__version__} "
            f"reads: {str(error).splitlines()[0][:300]}"
        ) from error
    if len(session.get_inputs()) != 1:
        raise ValueError(f"the network takes {len(session.get_inputs())} arrays; one is expected")
    name = session.get_inputs()[0].name

    def run(array: Array) -> Sequence[Array]:
        return [np.asarray(part) for part in session.run(None, {name: array})]

    return run


def _torchscript(weights: str, device: str) -> Callable[[Array], Sequence[Array]]:
    import torch  # seconds, which networks in ONNX need not wait

    try:
        network = torch.jit.load(weights, map_location=device).eval()
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"{Path(weights).name} is no TorchScript file that PyTorch {torch.__version__} reads: "
            f"{str(error).splitlines()[0][:300]}"
        ) from error

    def run(array: Array) -> Sequence[Array]:
        with torch.inference_mode():
            answer = network(torch.from_numpy(array).to(device))
        parts = answer if isinstance(answer, (list, tuple)) else [answer]
        return [part.cpu().numpy() for part in parts]

    return run


def _batch(model: Model, image: Array, axes: str) -> Array:
    """The image with the axes of the network."""
    given = [axis for axis in axes if axis != "C"]
    if sorted(given) != sorted(model.spatial):
        raise ValueError(
            f"this network takes images with the axes {model.spatial}, not {''.join(given)}"
        )
    count = image.shape[axes.index("C")] if "C" in axes else 1
    if count != model.channels:
        raise ValueError(
            f"this network takes {model.channels} channels, the image has {count}; "
            "--channel names the right ones"
        )
    if "C" in axes and "C" not in model.axes:
        image, axes = image.take(0, axes.index("C")), axes.replace("C", "")
    for letter in model.axes:
        if letter not in axes:
            image, axes = image[np.newaxis], letter + axes
    return image.transpose([axes.index(letter) for letter in model.axes])


def _whole_answer(
    model: Model, at: int, pixels: Array, known: Mapping[Measure, Tensor]
) -> tuple[Array, int]:
    """The answer (channels, space) for all pixels, and in how many blocks it was asked for."""
    axes = _axes(model, at)
    sides = [pixels.shape[model.axes.index(letter)] for letter in axes]
    lengths = [axis.block(side) for axis, side in zip(axes.values(), sides, strict=True)]
    halos = [axis.halo for axis in axes.values()]
    if math.prod(lengths) > _MAX_BLOCK_PIXELS:
        raise ValueError(f"the description asks for blocks of {lengths} pixels")
    cores = [length - 2 * halo for length, halo in zip(lengths, halos, strict=True)]
    padded = _padded(model, pixels, sides, cores, halos)
    # The last block of an axis is moved back to the edge of the image, as bioimageio.core does.
    starts = [
        [min(first, max(0, side - core)) for first in range(0, side, core)]
        for side, core in zip(sides, cores, strict=True)
    ]
    whole: Array | None = None
    places = list(itertools.product(*starts))
    for place in places:
        cut = dict(zip(axes, map(slice, place, map(int.__add__, place, lengths)), strict=True))
        block = padded[tuple(cut.get(letter, slice(None)) for letter in model.axes)]
        found = _by_channel(model, at, _forward(model, at, block, known))
        if list(found.shape[1:]) != lengths:
            raise ValueError(f"the network answers {found.shape[1:]} pixels for {lengths}")
        if whole is None:
            whole = np.zeros((len(found), *sides), found.dtype)
        target = tuple(slice(a, a + core) for a, core in zip(place, cores, strict=True))
        part = whole[(slice(None), *target)]
        inner = (slice(halo, halo + n) for halo, n in zip(halos, part.shape[1:], strict=True))
        part[...] = found[(slice(None), *inner)]
    assert whole is not None
    return whole, len(places)


def _padded(
    model: Model, pixels: Array, sides: list[int], cores: list[int], halos: list[int]
) -> Array:
    """The pixels with their halo, and filled up to one block at least."""
    widths = {
        letter: (halo, max(core, side) - side + halo)
        for letter, side, core, halo in zip(model.spatial, sides, cores, halos, strict=True)
    }
    pad = model.input.pad or v0_5.SymmetricPadding()
    how: dict[str, Any] = {"mode": pad.mode}
    if pad.mode == "constant":
        how["constant_values"] = pad.value
    elif pad.mode == "reflect" and 1 in sides:  # there is nothing to mirror
        how["mode"] = "edge"
    filled: Array = np.pad(pixels, [widths.get(letter, (0, 0)) for letter in model.axes], **how)
    return filled


def _forward(model: Model, at: int, array: Array, known: Mapping[Measure, Tensor] | None) -> Array:
    """The answer to one array, in the axes of the output, with the steps before and after done.

    Without `known` statistics the array itself has them.
    """
    output = model.description.outputs[at]
    before, after = setup_pre_and_postprocessing(
        _only(model, at), (), fixed_dataset_stats=known or None
    )
    dims = [axis.id for axis in model.input.axes]
    sample = Sample(
        members={model.input.id: Tensor(array, dims=dims)}, stat=dict(known or {}), id=None
    )
    for step in before:
        step(sample)
    seen = sample.members[model.input.id].transpose(dims).to_numpy()
    answers = model.run(np.ascontiguousarray(seen))
    if at >= len(answers) or answers[at].ndim != len(output.axes):
        shapes = [answer.shape for answer in answers]
        raise ValueError(
            f"the network answers with arrays of the shapes {shapes}; as output {at + 1} the "
            f"description has one with {len(output.axes)} axes"
        )
    dims = [axis.id for axis in output.axes]
    answer = Sample(members={output.id: Tensor(answers[at], dims=dims)}, stat=sample.stat, id=None)
    for step in after:
        step(answer)
    made: Array = answer.members[output.id].transpose(dims).to_numpy()
    return made


def _only(model: Model, at: int) -> Any:
    """The description with one of its outputs, as far as bioimageio.core looks at it here."""
    return SimpleNamespace(inputs=model.description.inputs, outputs=[model.description.outputs[at]])


def _by_channel(model: Model, at: int, answer: Array) -> Array:
    """An answer as channels, then space in the order of the network's input."""
    letters = _letters(model.description.outputs[at].axes, "the output")
    if "B" in letters:
        answer, letters = answer.take(0, letters.index("B")), letters.replace("B", "")
    if "C" not in letters:
        answer, letters = answer[np.newaxis], "C" + letters
    return answer.transpose([letters.index(letter) for letter in "C" + model.spatial])


# --- statistics -----------------------------------------------------------------------------------


def _check_range(model: Model, statistics: Statistics) -> None:
    """Raise ValueError where the first step would cut off bright pixels, or let them overflow."""
    first = model.input.preprocessing[0] if model.input.preprocessing else None
    dtype = getattr(getattr(first, "kwargs", None), "dtype", "float32")
    if not dtype.startswith(("int", "uint")):
        return
    room = np.iinfo(dtype)
    values = [channel["values"] for channel in statistics if len(channel["values"])]
    if any(found[0] < room.min or found[-1] > room.max for found in values):
        low, high = min(v[0] for v in values), max(v[-1] for v in values)
        raise ValueError(
            f"this network takes whole numbers from {room.min} to {room.max} ({dtype}), the image "
            f"has {low:g} to {high:g}; save it with that many bits first"
        )


def _measures(model: Model, at: int) -> list[Measure]:
    """What the steps of the description need to know of the whole image, in a fixed order.

    Raises ValueError for what the histograms of an image cannot tell.
    """
    found = get_requried_measures(_only(model, at))
    measures = sorted(found.pre | found.post, key=repr)
    space = {axis.id for axis in model.input.axes if axis.type == "space"}
    for measure in measures:
        if measure.member_id != model.input.id:
            raise ValueError(
                f"the description asks for the {measure.name} of the network's answer to the whole "
                "image, which is not known while there are tiles"
            )
        if measure.axes is not None and space - set(measure.axes):
            missing = ", ".join(sorted(map(str, space - set(measure.axes))))
            raise ValueError(
                f"the description asks for the {measure.name} of each part along {missing}, which "
                "is not known of the whole image"
            )
    return measures


def _measured(measure: Measure, statistics: Statistics) -> float | list[float]:
    """A measure of the whole image: one number, or one for each channel."""
    if measure.axes is not None and "channel" not in measure.axes:
        return [_value(measure, [channel]) for channel in statistics]
    return _value(measure, statistics)


def _value(measure: Measure, statistics: Statistics) -> float:
    """A measure of all pixels of these channels."""
    given = np.concatenate([np.asarray(c["values"], np.float64) for c in statistics])
    values, where = np.unique(given, return_inverse=True)
    counts = np.bincount(where, np.concatenate([c["counts"] for c in statistics])).astype(np.int64)
    if measure.name == "quantile":
        ends = np.cumsum(counts)
        method = getattr(measure, "method", "linear")
        if method == "inverted_cdf":  # see numpy.quantile
            return float(values[np.searchsorted(ends, measure.q * ends[-1])])
        place = measure.q * (int(ends[-1]) - 1)
        below = math.floor(place)
        first, second = values[np.searchsorted(ends, [below, math.ceil(place)], side="right")]
        return float(first + (place - below) * (second - first))
    mean = float(np.average(values, weights=counts))
    if measure.name == "mean":
        return mean
    variance = float(np.average((values - mean) ** 2, weights=counts))
    return variance if measure.name == "var" else math.sqrt(variance)


def _tensor(model: Model, measure: Measure, value: float | Sequence[float]) -> Tensor:
    """A measure as bioimageio.core has it: with the axes that were not measured along."""
    kept = [
        axis
        for axis in model.input.axes
        if measure.axes is not None and axis.id not in measure.axes
    ]
    shape = [model.channels if axis.type == "channel" else 1 for axis in kept]
    return Tensor(np.array(value, np.float64).reshape(shape), dims=[axis.id for axis in kept])


# --- objects --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Answer:
    """The network's answer (channels, space), and the numbers of its channels, counted from 1."""

    channels: Array
    numbers: Mapping[str, int]
    threshold: float

    def channel(self, name: str) -> Array:
        number = self.numbers[name]
        if not 1 <= number <= len(self.channels):
            raise ValueError(
                f"channel {number} was asked for as {name}; the network's answer has "
                f"{len(self.channels)}, counted from 1"
            )
        found: Array = self.channels[number - 1]
        return found


def _from_foreground(answer: _Answer) -> Array:
    """Connected pieces of the foreground, cut where there is a channel of boundaries."""
    foreground = answer.channel("foreground")
    mask = foreground > answer.threshold
    pieces, count = _pieces(mask)
    if not answer.numbers["boundary"]:
        return pieces
    boundary = answer.channel("boundary")
    inside = mask & (foreground - boundary > answer.threshold)
    seen = np.zeros(count + 1, bool)
    seen[pieces[inside]] = True
    # A piece that is boundary all over is one object all the same.
    seeds, _ = _pieces(inside | (mask & ~seen[pieces]))
    labels: Array = watershed(boundary, seeds, mask=mask, connectivity=mask.ndim)
    return labels


def _from_boundary(answer: _Answer) -> Array:
    """What boundaries enclose: every pixel belongs to an object."""
    boundary = answer.channel("boundary")
    # Neighbours across corners would meet through a thin wall.
    seeds, _ = ndimage.label(boundary <= answer.threshold)
    labels: Array = watershed(boundary, seeds)
    return labels


def _from_labels(answer: _Answer) -> Array:
    return np.rint(answer.channel("foreground")).clip(0).astype(np.uint32)


def _classes(answer: _Answer) -> Array:
    """1 for what is above the threshold in a single channel; else the channel that is highest."""
    channels, background = answer.channels, answer.numbers["background"]
    if len(channels) == 1:
        above: Array = channels[0] > answer.threshold
        return above
    best = channels.argmax(0) + 1
    if background:
        answer.channel("background")
        return np.where(best == background, 0, best - (best > background))
    return np.where(channels.max(0) > answer.threshold, best, 0)


_OBJECTS: Mapping[str, Callable[[_Answer], Array]] = {
    "foreground": _from_foreground,
    "boundary": _from_boundary,
    "labels": _from_labels,
    "classes": _classes,
}


def _pieces(mask: Array) -> tuple[Array, int]:
    """Connected pieces, neighbours across corners too."""
    labels, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
    return labels, count


def _large_only(labels: Array, diameter: float) -> Array:
    """Labels without those that are smaller than a disc (a ball) of this diameter."""
    least = (math.pi / 4, math.pi / 6)[labels.ndim - 2] * diameter**labels.ndim
    keep = np.bincount(labels.ravel()) >= least
    keep[0] = False
    return np.where(keep[labels], labels, 0)


# --- the package's own test -----------------------------------------------------------------------


def _npy(path: str, described: Any) -> Array:
    """A test tensor. Raises ValueError where it is not the one that the description means."""
    file = Path(path)
    if file.stat().st_size > _MAX_TEST_BYTES:
        raise ValueError(f"the test tensor {file.name} has more than {_MAX_TEST_BYTES:,} bytes")
    wanted = described and described.sha256
    if wanted:
        found = hashlib.sha256(file.read_bytes()).hexdigest()
        if found != str(wanted):
            raise ValueError(
                f"the test tensor {file.name} has the sha256 {found}, the description says {wanted}"
            )
    array = np.load(file, allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise ValueError(f"{file.name} is no array of numbers")
    return array


def _tolerance(model: Model, output: v0_5.OutputTensorDescr) -> tuple[float, float, float]:
    """Relative and absolute tolerance, and how many numbers of a million may be off by more."""
    told = model.description.config.bioimageio
    for item in told.reproducibility_tolerance:
        formats, ids = item.weights_formats, item.output_ids
        if (not formats or model.weights_format in formats) and (not ids or output.id in ids):
            return (
                item.relative_tolerance,
                item.absolute_tolerance,
                item.mismatched_elements_per_million,
            )
    plain = v0_5.ReproducibilityTolerance()
    return (
        plain.relative_tolerance,
        plain.absolute_tolerance,
        plain.mismatched_elements_per_million,
    )
