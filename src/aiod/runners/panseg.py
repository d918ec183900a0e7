# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "appose==0.12.0",
#   "bioimage-cpp==0.10.0",
#   "numpy==2.4.6",
#   "pyyaml==6.0.3",
#   "scipy==1.17.1",
#   "torch==2.13.0",
# ]
# ///
"""PanSeg, once PlantSeg: a network finds the borders of cells, the space between them is divided.

Wolny et al., https://doi.org/10.7554/eLife.57613. The networks are the U-Nets of pytorch-3dunet;
their parameters have the same names here, so that their checkpoints load. What follows is that
of PanSeg 2 with its library bioimage-cpp: a watershed from the maxima of the distance to borders
makes pieces, the graph of pieces that touch is agglomerated (GASP, Bailoni et al.,
https://arxiv.org/abs/1906.11713, or multicut), and what is too small goes to its neighbours.

A network with one channel of output gives borders, and then every pixel belongs to an object, the
surroundings of the tissue too. One with two gives nuclei and their borders, and what is no nucleus
is background. Brightness is standardised by the mean and the standard deviation of the whole image
(`survey`), so that tiles agree, but for what group norm, which sees one tile, makes of them.
Nothing is ever downloaded.

verified: own weights (networks of pytorch-3dunet's layout were trained on drawn tissue, 2D and 3D,
and on drawn nuclei, 2D, and run on a CPU; they give exactly what pytorch-3dunet 1.9.6 gives for the
same arrays, and pieces and objects are those of python-elf's functions, which PanSeg calls. The
published weights lie on Zenodo, which could not be reached, so none of them was loaded, and PanSeg
as a whole, which comes by conda only, was not run)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bioimage_cpp as bic  # type: ignore[import-not-found]
import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

Array = NDArray[Any]

_CLASSES = {
    "UNet2D": (2, "double"),
    "UNet3D": (3, "double"),
    "ResidualUNet2D": (2, "residual"),
    "ResidualUNet3D": (3, "residual"),
    "ResidualUNetSE3D": (3, "squeezing"),
}
_NAMES_OF_WEIGHTS = ("best_checkpoint.pytorch", "last_checkpoint.pytorch")
_CONFIG = "config_train.yml"
_LINKAGES = {
    "average": "mean",
    "mutex_watershed": "mutex_watershed",
    "max": "max",
    "min": "min",
    "sum": "sum",
}
_JOININGS = (*_LINKAGES, "multicut")


@dataclass(frozen=True)
class Shape:
    """What a config says of a network. `kind` is what its levels are built of."""

    dimensions: int
    kind: str
    inputs: int
    outputs: int
    features: tuple[int, ...]
    order: str = "gcr"
    groups: int = 8
    upscale: int = 2
    upsample: str = "default"


@dataclass(frozen=True)
class Model:
    """A loaded network; sides of its input are multiples of `multiple`."""

    network: UNet
    shape: Shape
    device: torch.device

    @property
    def spatial(self) -> str:
        return "ZYX"[-self.shape.dimensions :]

    @property
    def multiple(self) -> int:
        return int(2 ** (len(self.shape.features) - 1))


@dataclass(frozen=True)
class Pieces:
    """How the space between borders is cut into pieces. Lengths are pixels."""

    threshold: float
    sigma_seeds: float
    sigma_weights: float
    min_size: int
    alpha: float
    pitch: tuple[float, ...] | None
    suppress: bool


def load(weights: str | None, *, config: str | None, device: str) -> Model:
    """The network of a checkpoint: a file, or a folder that holds one.

    Its config is the one given or the config_train.yml beside it. Without one the network is read
    off its arrays, if it is a UNet2D or UNet3D with normalisation before convolution. What arrays
    do not tell is then taken as the configs of PlantSeg and pytorch-3dunet have it: ReLU, eight
    groups, sigmoid.
    """
    path, described = _files(weights, config)
    state = _state(path)
    shape = _told_by_config(described) if described else _told_by_arrays(state, path)
    with torch.device("meta"):
        network = UNet(shape)
    _require_same(network.state_dict(), state, path)
    network.load_state_dict(state, assign=True)
    where = torch.device(device)
    return Model(network.float().to(where).eval(), shape, where)


def survey(statistics: Sequence[Mapping[str, Array]]) -> dict[str, Any]:
    """Mean and standard deviation of the whole image, all channels together, as PanSeg has it."""
    values = np.concatenate([np.asarray(c["values"], np.float64) for c in statistics])
    counts = np.concatenate([np.asarray(c["counts"]) for c in statistics])
    return {"mean_std": _mean_std(values, counts)}


def predict(
    model: Model,
    image: Array,
    *,
    axes: str,
    ws_threshold: float = 0.5,
    ws_sigma_seeds: float = 1.0,
    ws_stacked: bool = False,
    ws_sigma_weights: float = 2.0,
    ws_min_size: int = 100,
    ws_alpha: float = 1.0,
    ws_pixel_pitch: Sequence[float] | None = None,
    ws_apply_nonmax_suppression: bool = False,
    gasp_linkage_criteria: str = "average",
    gasp_beta: float = 0.5,
    gasp_post_minsize: int = 100,
    foreground_threshold: float = 0.5,
    mean_std: Sequence[float] | None = None,
) -> Array:
    """Labels, uint32, of one image; their axes are those of `axes` but C, in that order.

    With `ws_alpha` below 1 the distance to borders is divided by its largest in the tile, so that
    tiles may differ a little; with 1 nothing of the watershed depends on the tile.
    """
    if gasp_linkage_criteria not in _JOININGS:
        raise ValueError(
            f"pieces cannot be joined by {gasp_linkage_criteria!r}; known are "
            + ", ".join(_JOININGS)
        )
    pixels = _channels_first(model, image, axes)
    if mean_std is None:  # not surveyed: this image is the whole
        mean_std = _mean_std(*np.unique(pixels, return_counts=True))
    answer = _run(model, pixels, *mean_std)
    stacked = ws_stacked and len(model.spatial) == 3
    settings = Pieces(
        ws_threshold,
        ws_sigma_seeds,
        ws_sigma_weights,
        ws_min_size,
        ws_alpha,
        _pitch(ws_pixel_pitch, model.spatial, stacked),
        ws_apply_nonmax_suppression,
    )
    inside = np.ones(answer.shape[1:], bool)
    if len(answer) == 2:
        inside = answer[0] > foreground_threshold
    borders = np.ascontiguousarray(answer[-1])
    pieces = (_plane_by_plane if stacked else _pieces)(borders, inside, settings)
    joined = _joined(pieces, borders, gasp_linkage_criteria, gasp_beta)
    kept = _without_small(joined, borders, gasp_post_minsize)
    labels = _renumbered(kept)
    given = [axis for axis in axes if axis != "C"]
    return labels.transpose([model.spatial.index(axis) for axis in given])


# --- files ----------------------------------------------------------------------------------------


def _files(weights: str | None, config: str | None) -> tuple[Path, Path | None]:
    """The checkpoint, and its config if there is one."""
    if weights is None:
        raise ValueError("PanSeg needs the file of a trained network (.pytorch)")
    path = Path(weights)
    if path.is_dir():
        found = sorted(path.rglob("*.pytorch"))
        best = [file for name in _NAMES_OF_WEIGHTS for file in found if file.name == name]
        if not found or (len(found) > 1 and not best):
            raise ValueError(f"{path} holds {len(found)} files *.pytorch where one was expected")
        path = best[0] if best else found[0]
    beside = path.with_name(_CONFIG)
    if config is None and beside.is_file():
        return path, beside
    return path, Path(config) if config else None


def _state(path: Path) -> dict[str, Tensor]:
    """The arrays of a checkpoint by name; pickled code in it is refused by torch."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path} is no checkpoint that PyTorch reads: {error}") from error
    if isinstance(state, dict) and isinstance(state.get("model_state_dict"), dict):
        state = state["model_state_dict"]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"{path} is no checkpoint of pytorch-3dunet: it holds no arrays by name")
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def _require_same(own: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path) -> None:
    wrong = [n for n in own if n not in state or state[n].shape != own[n].shape]
    unknown = [n for n in state if n not in own]
    if wrong or unknown:
        first = (wrong or unknown)[0]
        raise ValueError(
            f"{path} does not fit the network that its config tells: {len(wrong)} of "
            f"{len(own)} arrays are missing or of another shape, {len(unknown)} are unknown "
            f"(the first is {first})"
        )


# --- the config -----------------------------------------------------------------------------------


def _told_by_config(path: Path) -> Shape:
    """The section `model` of a config_train.yml, checked; what it leaves out is pytorch-3dunet's.

    As there, keys that the class does not know are passed over.
    """
    try:
        told = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML that can be read safely: {error}") from error
    model = told.get("model") if isinstance(told, dict) else None
    if not isinstance(model, dict):
        raise ValueError(f"{path} has no section `model`; expected the config_train.yml of PanSeg")
    name = model.get("name")
    if name not in _CLASSES:
        raise ValueError(
            f"{path} wants a network of class {name!r}; known are {', '.join(_CLASSES)}"
        )
    if (
        model.get("is_segmentation", True) is not True
        or model.get("final_sigmoid", True) is not True
    ):
        raise ValueError(
            f"{path} describes a network that gives no probabilities of borders: expected "
            "is_segmentation: true and final_sigmoid: true"
        )
    dimensions, kind = _CLASSES[name]
    levels = _number(path, model, "num_levels", 4 if kind == "double" else 5)
    features = model.get("f_maps", 64)
    if isinstance(features, int) and not isinstance(features, bool):
        features = [features * 2**level for level in range(levels)]
    if (
        not isinstance(features, list | tuple)
        or len(features) < 2
        or not all(map(_counts, features))
    ):
        raise ValueError(
            f"{path} has f_maps {features!r}; expected a number, or one for each of two or more "
            "levels"
        )
    order = model.get("layer_order", "gcr")
    if not isinstance(order, str) or order.count("c") != 1 or set(order) - set("gbcrledD"):
        raise ValueError(
            f"{path} has the layer_order {order!r}; expected such as gcr, with one c and else "
            "letters of gbrledD"
        )
    if model.get("conv_padding", 1) != 1:
        raise ValueError(f"{path} has a conv_padding; only networks that keep the size are known")
    upsample = model.get("upsample", "default")
    ways = ("default", "nearest", "deconv") if kind == "double" else ("default", "deconv")
    if upsample not in ways:
        raise ValueError(f"{path} has upsample {upsample!r}; expected {' or '.join(ways)}")
    return Shape(
        dimensions,
        kind,
        _number(path, model, "in_channels", None),
        _borders_of(path, _number(path, model, "out_channels", None)),
        tuple(features),
        order,
        _number(path, model, "num_groups", 8),
        _number(path, model, "conv_upscale", 2),
        upsample,
    )


def _counts(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 4096


def _number(path: Path, model: Mapping[str, Any], key: str, usual: int | None) -> int:
    value = model.get(key, usual)
    if not _counts(value):
        raise ValueError(f"{path} has {key} {value!r}; expected a number from 1 on")
    return int(value)


def _borders_of(path: Path, outputs: int) -> int:
    if outputs > 2:
        raise ValueError(
            f"{path} is of a network with {outputs} channels of output; expected 1 (borders) or 2 "
            "(nuclei and their borders)"
        )
    return outputs


def _told_by_arrays(state: Mapping[str, Tensor], path: Path) -> Shape:
    """The network that has these arrays, where they leave little to guess."""
    first = "encoders.{}.basic_module.SingleConv{}.{}.weight"
    levels = len({n.split(".")[1] for n in state if n.startswith("encoders.")})
    try:
        features = [len(state[first.format(level, 2, "conv")]) for level in range(levels)]
        entry, final = state[first.format(0, 1, "conv")], state["final_conv.weight"]
        upscale = 1 if len(state[first.format(1, 1, "conv")]) == features[1] else 2
        order = next(n for n in ("groupnorm", "batchnorm") if first.format(0, 1, n) in state)
        early = len(state[first.format(0, 1, order)]) == entry.shape[1] != len(entry)
    except (KeyError, StopIteration):
        early = False
    if not early or entry.ndim not in (4, 5):
        raise ValueError(
            f"{path} alone does not tell the network; its {_CONFIG} is needed (config_path)"
        )
    return Shape(
        entry.ndim - 2,
        "double",
        entry.shape[1],
        _borders_of(path, len(final)),
        tuple(features),
        order[0] + "cr",
        upscale=upscale,
        upsample="deconv" if any(".upsampling." in n for n in state) else "default",
    )


# --- the network ----------------------------------------------------------------------------------


class UNet(nn.Module):  # type: ignore[misc]
    """A U-Net whose parameters are named as those of pytorch-3dunet; it gives logits.

    https://github.com/wolny/pytorch-3dunet describes the options of `Shape` in its configs.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        features = shape.features
        before = (shape.inputs, *features)
        self.encoders = nn.ModuleList(
            _Level(_block(shape, before[i], features[i], encoder=True))
            for i in range(len(features))
        )
        self.decoders = nn.ModuleList(
            _Climb(shape, features[i], features[i - 1]) for i in range(len(features) - 1, 0, -1)
        )
        self.final_conv = _conv(shape)(features[0], shape.outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        pool = functional.max_pool3d if x.ndim == 5 else functional.max_pool2d
        kept: list[Tensor] = []
        for level, encoder in enumerate(self.encoders):
            x = encoder(x if level == 0 else pool(x, 2))
            kept.append(x)
        kept.pop()
        for decoder in self.decoders:
            x = decoder(kept.pop(), x)
        logits: Tensor = self.final_conv(x)
        return logits


class _Level(nn.Module):  # type: ignore[misc]
    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.basic_module = block

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.basic_module(x)
        return found


class _Climb(nn.Module):  # type: ignore[misc]
    """One level up: brought to the size of what the encoder kept, joined with it, convolved."""

    def __init__(self, shape: Shape, below: int, here: int) -> None:
        super().__init__()
        residual = shape.kind != "double"
        self.adds = residual and shape.upsample == "default"
        self.upsampling: nn.Module = _Repeat()
        entering = below + here
        if shape.upsample == "deconv" or self.adds:
            self.upsampling = _Deconvolve(shape, below, here)
            entering = here if self.adds else below
        self.basic_module = _block(shape, entering, here, encoder=False)

    def forward(self, kept: Tensor, x: Tensor) -> Tensor:
        x = self.upsampling(x, kept.shape[2:])
        found: Tensor = self.basic_module(kept + x if self.adds else torch.cat((kept, x), 1))
        return found


class _Repeat(nn.Module):  # type: ignore[misc]
    def forward(self, x: Tensor, size: torch.Size) -> Tensor:
        return functional.interpolate(x, size=list(size))


class _Deconvolve(nn.Module):  # type: ignore[misc]
    """A learnt upsampling; its only parameter is `upsample.conv_transposed.weight`."""

    def __init__(self, shape: Shape, below: int, here: int) -> None:
        super().__init__()
        kind = nn.ConvTranspose3d if shape.dimensions == 3 else nn.ConvTranspose2d
        made = kind(below, here, 3, stride=2, padding=1, bias=False)
        self.upsample = nn.ModuleDict({"conv_transposed": made})

    def forward(self, x: Tensor, size: torch.Size) -> Tensor:
        return functional.interpolate(self.upsample["conv_transposed"](x), size=list(size))


class _Residual(nn.Module):  # type: ignore[misc]
    def __init__(self, shape: Shape, before: int, after: int) -> None:
        super().__init__()
        plain = "".join(letter for letter in shape.order if letter not in "rel")
        self.conv1 = nn.Identity() if before == after else _conv(shape)(before, after, 1)
        self.conv2 = _convolution(shape, after, after, shape.order)
        self.conv3 = _convolution(shape, after, after, plain)
        self.bend: nn.Module = nn.ReLU()
        if "l" in shape.order:
            self.bend = nn.LeakyReLU(0.1)
        elif "e" in shape.order:
            self.bend = nn.ELU()
        if shape.kind == "squeezing":
            self.se_module = _Squeeze(after)

    def forward(self, x: Tensor) -> Tensor:
        straight = self.conv1(x)
        found: Tensor = self.bend(self.conv3(self.conv2(straight)) + straight)
        return self.se_module(found) if hasattr(self, "se_module") else found


class _Squeeze(nn.Module):  # type: ignore[misc]
    """Squeeze and excitation of channels and of space (Roy et al., arXiv:1803.02579), in 3D."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cSE = nn.ModuleDict(
            {"fc1": nn.Linear(channels, channels), "fc2": nn.Linear(channels, channels)}
        )
        self.sSE = nn.ModuleDict({"conv": nn.Conv3d(channels, 1, 1)})

    def forward(self, x: Tensor) -> Tensor:
        squeezed = functional.relu(self.cSE["fc1"](x.mean((2, 3, 4))))
        by_channel = torch.sigmoid(self.cSE["fc2"](squeezed))[..., None, None, None]
        return torch.maximum(x * by_channel, x * torch.sigmoid(self.sSE["conv"](x)))


def _conv(shape: Shape) -> Any:
    return nn.Conv3d if shape.dimensions == 3 else nn.Conv2d


def _block(shape: Shape, before: int, after: int, *, encoder: bool) -> nn.Module:
    if shape.kind != "double":
        return _Residual(shape, before, after)
    middle = after
    if encoder and shape.upscale != 1:
        middle = max(after // 2, before)
    block = nn.Sequential()
    block.add_module("SingleConv1", _convolution(shape, before, middle, shape.order))
    block.add_module("SingleConv2", _convolution(shape, middle, after, shape.order))
    return block


def _convolution(shape: Shape, before: int, after: int, order: str) -> nn.Sequential:
    """Layers in an order such as gcr: group norm, convolution, ReLU. Dropout does nothing here."""
    layers = nn.Sequential()
    batch_norm = nn.BatchNorm3d if shape.dimensions == 3 else nn.BatchNorm2d
    for place, letter in enumerate(order):
        channels = before if place < order.index("c") else after
        if letter == "c":
            bias = not set(order) & set("gb")
            layers.add_module("conv", _conv(shape)(before, after, 3, padding=1, bias=bias))
        elif letter == "g":
            layers.add_module("groupnorm", _group_norm(shape, channels))
        elif letter == "b":
            layers.add_module("batchnorm", batch_norm(channels))
        elif letter == "r":
            layers.add_module("ReLU", nn.ReLU(inplace=True))
        elif letter == "l":
            layers.add_module("LeakyReLU", nn.LeakyReLU(inplace=True))
        elif letter == "e":
            layers.add_module("ELU", nn.ELU(inplace=True))
    return layers


def _group_norm(shape: Shape, channels: int) -> nn.GroupNorm:
    groups = shape.groups if channels >= shape.groups else 1
    if channels % groups:
        raise ValueError(f"the config's num_groups is {groups}, which does not divide {channels}")
    return nn.GroupNorm(groups, channels)


# --- the input ------------------------------------------------------------------------------------


def _channels_first(model: Model, image: Array, axes: str) -> Array:
    """The image with channels first, then space as the network has it."""
    given = [axis for axis in axes if axis != "C"]
    if sorted(given) != sorted(model.spatial):
        raise ValueError(
            f"this network takes images with the axes {model.spatial}, not {''.join(given)}"
        )
    pixels = image if "C" in axes else image[np.newaxis]
    named = axes if "C" in axes else "C" + axes
    pixels = pixels.transpose([named.index(axis) for axis in "C" + model.spatial])
    if len(pixels) != model.shape.inputs:
        raise ValueError(
            f"this network takes {model.shape.inputs} channels, the image has {len(pixels)}"
        )
    return pixels


def _mean_std(values: Array, counts: Array) -> list[float]:
    known = np.isfinite(values)
    if not known.any():
        return [0.0, 1.0]
    values, counts = values[known].astype(np.float64), counts[known]
    mean = float(np.average(values, weights=counts))
    deviation = math.sqrt(float(np.average((values - mean) ** 2, weights=counts)))
    return [mean, deviation or 1.0]


def _run(model: Model, pixels: Array, mean: float, deviation: float) -> Array:
    """Probabilities (channels, space) for (channels, space); sides are filled up by mirroring."""
    seen = ((pixels.astype(np.float64) - mean) / deviation).astype(np.float32)
    np.nan_to_num(seen, copy=False, posinf=0, neginf=0)
    shape = seen.shape[1:]
    fill = [-n % model.multiple for n in shape]
    enough = all(after < n for after, n in zip(fill, shape, strict=True))
    filled = np.pad(seen, [(0, 0), *((0, n) for n in fill)], mode="reflect" if enough else "edge")
    with torch.inference_mode():
        given = torch.from_numpy(np.ascontiguousarray(filled))[None].to(model.device)
        answer: Array = torch.sigmoid(model.network(given))[0].cpu().numpy()
    return answer[(slice(None), *(slice(n) for n in shape))]


def _pitch(told: Sequence[float] | None, spatial: str, stacked: bool) -> tuple[float, ...] | None:
    if not told:
        return None
    pitch = tuple(map(float, told))
    if len(pitch) != len(spatial) or not all(0 < n < math.inf for n in pitch):
        raise ValueError(
            f"the pixel pitch is {list(told)}; expected {len(spatial)} numbers above 0, for "
            f"{spatial}"
        )
    return pitch[1:] if stacked else pitch


# --- the pieces -----------------------------------------------------------------------------------


def _plane_by_plane(borders: Array, inside: Array, settings: Pieces) -> Array:
    """Pieces that end where their plane ends, with no number twice."""
    pieces = np.zeros(borders.shape, np.uint32)
    most = 0
    for place, plane in enumerate(borders):
        found = _pieces(plane, inside[place], settings)
        pieces[place] = np.where(found > 0, found + np.uint32(most), 0)
        most = max(most, int(pieces[place].max(initial=0)))
    return pieces


def _pieces(borders: Array, inside: Array, settings: Pieces) -> Array:
    """A watershed from the maxima of the distance to borders (Beier et al. 2017), in `inside`."""
    open_space = inside & (borders <= settings.threshold)
    if open_space.all():  # no border anywhere: one piece
        return np.ones(borders.shape, np.uint32)
    if not open_space.any():
        return np.zeros(borders.shape, np.uint32)
    away = bic.distance.distance_transform(open_space.view(np.uint8), sampling=settings.pitch)
    if settings.sigma_seeds:
        away = bic.filters.gaussian_smoothing(away, settings.sigma_seeds)
    maxima = (away == ndimage.maximum_filter(away, 3)) & (away > away.min()) & inside
    if settings.suppress and maxima.any():
        chosen = bic.distance.non_maximum_distance_suppression(away, np.argwhere(maxima))
        maxima = np.zeros_like(maxima)
        maxima[tuple(chosen.T)] = True
    seeds, _ = ndimage.label(maxima, np.ones((3,) * maxima.ndim))
    height = borders
    if settings.sigma_weights:
        height = bic.filters.gaussian_smoothing(borders, settings.sigma_weights)
    if settings.alpha < 1:
        depth = 1 - (away - away.min()) / away.max()
        height = settings.alpha * height + (1 - settings.alpha) * depth
    height = np.ascontiguousarray(height, np.float32)
    pieces = bic.segmentation.watershed(height, seeds.astype(np.uint32), mask=inside)
    return _without_small(pieces, height, settings.min_size)


def _renumbered(labels: Array) -> Array:
    """Labels as uint32 with no number missing; 0 stays 0."""
    present = np.bincount(labels.ravel()) > 0
    present[0] = False
    numbers: Array = (np.cumsum(present) * present).astype(np.uint32)
    return numbers[labels]


def _without_small(labels: Array, height: Array, least: int) -> Array:
    """Labels where what has fewer than `least` pixels is flooded by its neighbours.

    What has no neighbour that is large enough leaves background behind.
    """
    sizes = np.bincount(labels.ravel())
    small = sizes < least
    small[0] = False
    if not small[labels].any():
        return labels
    kept = np.where(small[labels], 0, labels).astype(np.uint32)
    found: Array = bic.segmentation.watershed(height, kept, mask=labels > 0)
    return found


# --- the objects ----------------------------------------------------------------------------------


def _joined(pieces: Array, borders: Array, rule: str, beta: float) -> Array:
    """Pieces that touch, joined unless the borders between them are strong."""
    threads = torch.get_num_threads()
    graph = bic.graph.region_adjacency_graph(pieces, number_of_threads=threads)
    pairs = np.asarray(graph.uv_ids())
    if not len(pairs):
        return pieces
    if rule == "multicut":
        features = bic.graph.features.edge_map_features(
            graph, pieces, borders, number_of_threads=threads
        )
    else:
        # PanSeg counts a step from pixel to pixel by the border at its first pixel.
        steps = [[int(a == b) for b in range(pieces.ndim)] for a in range(pieces.ndim)]
        features = bic.graph.features.affinity_features(
            graph,
            pieces,
            np.broadcast_to(borders, (len(steps), *borders.shape)),
            steps,
            number_of_threads=threads,
        )
    real = (pairs > 0).all(1)  # 0 is background, no piece
    touching = bic.graph.UndirectedGraph.from_edges(graph.number_of_nodes, pairs[real])
    strength, sizes = features[real, 0], features[real, 1]
    numbers = np.asarray(_partition(touching, strength, sizes, rule, beta)) + 1
    numbers[0] = 0
    joined: Array = numbers.astype(np.uint32)[pieces]
    return joined


def _partition(graph: Any, strength: Array, sizes: Array, rule: str, beta: float) -> Array:
    """For each piece the number of its object. `strength` is that of the border at each edge."""
    if rule != "multicut":
        policy = bic.graph.agglomeration.GaspClusterPolicy(linkage=_LINKAGES[rule])
        return np.asarray(policy.optimize(graph, 1 - strength - beta, edge_sizes=sizes))
    likely = 0.998 * strength + 0.001
    bias = min(max(beta, 0.001), 0.999)
    costs = np.log((1 - likely) / likely) + math.log((1 - bias) / bias)
    objective = bic.graph.multicut.MulticutObjective(graph, costs * sizes / sizes.max(initial=1))
    return np.asarray(bic.graph.multicut.KernighanLinMulticut().optimize(objective))
