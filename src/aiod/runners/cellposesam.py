# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = [
#   "appose==0.12.0",
#   "cellpose==4.2.1.1",
#   "numpy==2.4.6",
#   "segment-anything==1.0",
#   "torch==2.14.1",
#   "torchvision==0.29.1",
# ]
# ///
"""Cellpose-SAM: cells and nuclei of many sizes, with the image encoder of Segment Anything.

Pachitariu et al., https://doi.org/10.1101/2025.04.28.651001; the calls are those of release
4.2.1.1. It takes checkpoints of the network "cpsam", also those that users trained from it.

Whatever Cellpose takes from the image it is given comes here from the whole image, so that tiles
agree: the 1st and 99th percentile (`survey`), the diameter (a parameter), and no object is dropped
for filling much of a tile. Nothing is ever downloaded: a file that is not there is said to be so.

verified: own weights (the full network with weights set by hand, in this environment on a CPU: it
found 341 drawn cells with F1 0.96, in tiles as in the whole, and the same as Cellpose's own `eval`;
contract only for stacks: they, diameters and the choice of channels were compared with `eval`
without the network's attention, because with it 256 x 256 pixels take half a minute. Not run: the
published weights, which lie on a server that could not be reached, any GPU, and so the 16 bits that
one calculates with).
"""

from __future__ import annotations

import logging
import math
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

logging.getLogger("cellpose.vit").setLevel(logging.ERROR)  # it misses dinov3, of another network
from cellpose.models import CellposeModel  # noqa: E402 -- it speaks when it is imported
from cellpose.vit import CPSAM  # noqa: E402

Pixels = NDArray[Any]

MOST_CHANNELS = 3
USUAL = 30.0  # the diameter that Cellpose brings images to, where one is given
CPU_BATCH = 1  # blocks of 256 x 256 at once: more take more memory and save little time


def load(weights: str | None, *, config: str | None, device: str) -> CellposeModel:  # noqa: ARG001
    """A model with the weights of a checkpoint file; pickled code in it is refused.

    On a CPU the network calculates with 32 bits, because 16 took nine times as long there.
    """
    path = _checkpoint(weights)
    _require_cpsam(_arrays(path), path)
    chosen = torch.device(device)
    torch.sparse.check_sparse_tensor_invariants.disable()  # the default, without its warning
    return CellposeModel(
        pretrained_model=str(path), device=chosen, use_bfloat16=chosen.type != "cpu"
    )


def survey(
    statistics: Sequence[Mapping[str, Pixels]], *, segment_channel: int = 0
) -> dict[str, Any]:
    """The range of brightness of the whole image: [low, high] for each channel that is seen."""
    ranges = [_range(channel["values"], channel["counts"]) for channel in statistics]
    return {"lowhigh": [list(ranges[index]) for index in _chosen(len(ranges), segment_channel)]}


def predict(
    model: CellposeModel,
    image: Pixels,
    *,
    axes: str,
    diameter: float = 0,
    segment_channel: int = 0,
    do_3D: bool = False,  # noqa: N803 -- as Cellpose calls it
    resample: bool = True,
    stitch_threshold: float = 0.0,
    cellprob_threshold: float = 0.0,
    flow_threshold: float = 0.4,
    niter: int = 0,
    anisotropy: float | None = None,
    batch_size: int = 64,
    min_size: int = 15,
    tile_overlap: float = 0.1,
    lowhigh: Any = None,
) -> Pixels:
    """Labels (uint32) of one image with the axes YX or ZYX, and C where it has several channels.

    The labels have the axes of the image, in its order, without C. `lowhigh` is the survey's; an
    image that was not surveyed is taken for the whole.
    """
    pixels, order = _planes(image, axes)
    if (do_3D or stitch_threshold) and "Z" not in axes:
        raise ValueError("3D segmentation needs a stack: choose a version whose axes have Z")
    seen = _chosen(pixels.shape[-1], segment_channel)
    pixels = pixels[..., seen].astype(np.float32)  # a copy: Cellpose writes into it
    if lowhigh is None:
        channels = np.moveaxis(pixels, -1, 0)
        lowhigh = [_range(*np.unique(channel, return_counts=True)) for channel in channels]
    ranges = np.asarray(lowhigh, dtype=np.float64)
    for channel, (low, high) in enumerate(ranges):
        np.nan_to_num(pixels[..., channel], copy=False, nan=low, posinf=high, neginf=low)
    solid = do_3D and min(pixels.shape[:3]) > 1
    settings = {
        "diameter": diameter or None,
        "channel_axis": -1,
        "normalize": {"lowhigh": ranges},
        "resample": resample,
        "cellprob_threshold": cellprob_threshold,
        "flow_threshold": flow_threshold,
        "niter": niter or None,
        "min_size": min_size,
        "max_size_fraction": 1.0,  # of the tile, of which one cell may well fill most
        "tile_overlap": tile_overlap,
        "batch_size": min(batch_size, CPU_BATCH) if model.device.type == "cpu" else batch_size,
    }
    if _too_narrow(pixels.shape, diameter, (anisotropy or 1.0) if solid else None, resample):
        labels = np.zeros(pixels.shape[:3], np.uint32)
    elif solid or (stitch_threshold and min(pixels.shape[:3]) > 1):
        labels = model.eval(
            pixels,
            z_axis=0,
            do_3D=solid,
            anisotropy=anisotropy if solid else None,
            stitch_threshold=0.0 if solid else stitch_threshold,
            **settings,
        )[0]
    else:
        labels = _plane_by_plane(model, pixels, settings)
    labels = labels.reshape(pixels.shape[:3]).astype(np.uint32)
    return labels.transpose(order) if "Z" in axes else labels[0].transpose(order)


def _checkpoint(weights: str | None) -> Path:
    """The checkpoint itself: a file, or the only one of an unpacked archive."""
    if weights is None:
        raise ValueError("Cellpose-SAM needs the file of a trained network")
    path = Path(weights)
    if path.is_dir():
        files = [item for item in path.rglob("*") if item.is_file() and item.name[0] != "."]
        if len(files) != 1:
            raise ValueError(f"{path} holds {len(files)} files where one checkpoint was expected")
        path = files[0]
    if not path.is_file():  # Cellpose would download its own network instead
        raise ValueError(f"{path} is not there; Cellpose-SAM needs the file of a trained network")
    return path


def _arrays(path: Path) -> Any:
    """What a checkpoint holds, its arrays left on the disk."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:  # its words advise to run the code
        raise ValueError(
            f"{path} is refused: beside arrays it holds pickled Python objects, which could do "
            "anything when they are read"
        ) from error
    except Exception as error:
        raise ValueError(
            f"{path} is no checkpoint in the format that PyTorch writes since release 1.6"
        ) from error


def _require_cpsam(state: Any, path: Path) -> None:
    """Cellpose itself would leave what it does not find at random values, without a word."""
    with torch.device("meta"):  # shapes without numbers
        own = CPSAM().state_dict()
    given = state if isinstance(state, Mapping) else {}
    if "encoder.cls_token" in given:
        raise ValueError(
            f"{path} is a checkpoint of Cellpose with DINOv3, whose package is not in this "
            "environment; a network like cpsam is needed"
        )
    told = {name for name in ("diam_mean", "diam_labels") if name not in given}  # of no effect
    wrong = [
        name
        for name, value in own.items()
        if name not in told and getattr(given.get(name), "shape", None) != value.shape
    ]
    if wrong:
        raise ValueError(
            f"{path} is no checkpoint of a Cellpose-SAM network: {len(wrong)} of its {len(own)} "
            f"arrays are missing or of another shape, {wrong[0]} for one"
        )


def _range(values: Pixels, counts: Pixels) -> tuple[float, float]:
    """The 1st and the 99th percentile, or the extremes where those two are one."""
    known = np.isfinite(values)
    values, counts = values[known], counts[known]
    if not len(values):
        return 0.0, 1.0
    low, high = _percentile(values, counts, 1), _percentile(values, counts, 99)
    if high <= low:  # sparse cells on a flat ground
        low, high = float(values[0]), float(values[-1])
    return (low, high) if high > low else (low, low + 1.0)


def _percentile(values: Pixels, counts: Pixels, percent: float) -> float:
    """What numpy.percentile gives for the pixels that a histogram counts."""
    ends = np.cumsum(counts)
    place = percent / 100 * (int(ends[-1]) - 1)
    below = math.floor(place)
    first, second = values[np.searchsorted(ends, [below, math.ceil(place)], side="right")]
    return float(first) + (place - below) * (float(second) - float(first))


def _chosen(count: int, segment_channel: int) -> list[int]:
    """Numbers, from 0, of the channels that the network sees."""
    if count == 1:
        return [0]
    if not 0 <= segment_channel <= count:
        raise ValueError(f"channel {segment_channel} was asked for in an image with {count}")
    if segment_channel:
        return [segment_channel - 1]
    if count > MOST_CHANNELS:
        raise ValueError(
            f"Cellpose-SAM sees {MOST_CHANNELS} channels at most, and the image has {count}: "
            "choose the one to outline, or leave some out"
        )
    return list(range(count))


def _planes(image: Pixels, axes: str) -> tuple[Pixels, list[int]]:
    """The image as ZYXC, and how to bring its labels, ZYX or YX, back to the order of `axes`."""
    if set(axes) - set("CZYX"):
        raise ValueError(f"Cellpose-SAM takes the axes Z, Y, X and C, not {axes}")
    missing = [axis for axis in "ZYXC" if axis not in axes]
    pixels = image.reshape(image.shape + (1,) * len(missing))
    pixels = pixels.transpose([(axes + "".join(missing)).index(axis) for axis in "ZYXC"])
    spatial = [axis for axis in "ZYX" if axis in axes]
    return pixels, [spatial.index(axis) for axis in axes if axis != "C"]


def _too_narrow(
    shape: Sequence[int], diameter: float, anisotropy: float | None, resample: bool
) -> bool:
    """Whether flows cannot be followed there, or nothing is left when Cellpose has resized it.

    `anisotropy` is None where planes are seen on their own.
    """
    scale = USUAL / diameter if diameter else 1.0
    scaled = [(n, scale) for n in shape[1:3]]
    if anisotropy is not None:
        scaled.append((shape[0], scale * anisotropy))
    least = 1 if resample else 2
    return any(n < 2 or int(n * factor) < least for n, factor in scaled)


def _plane_by_plane(model: CellposeModel, pixels: Pixels, settings: Mapping[str, Any]) -> Pixels:
    """Planes on their own, with no number twice."""
    labels = np.zeros(pixels.shape[:3], np.uint32)
    for place, plane in enumerate(pixels):
        found = model.eval(plane, **settings)[0].reshape(plane.shape[:2]).astype(np.uint32)
        found[found > 0] += labels.max(initial=0)
        labels[place] = found
    return labels
