# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = [
#   "appose==0.12.0",
#   "cellpose==3.1.1.2",
#   "numpy==2.0.2",
#   "torch==2.13.0",
# ]
# ///
"""Cellpose 1 to 3: cells and nuclei by following a flow field to each cell's centre.

Stringer et al., https://doi.org/10.1038/s41592-020-01018-x; the calls are those of release 3.1.1.2.
The network is the residual U-Net of the models cyto, cyto2, cyto3, nuclei and of what users
trained from them; Cellpose-SAM is another family.

Whatever Cellpose takes from the image it is given comes here from the whole image, so that tiles
agree: the 1st and 99th percentile (`survey`), the diameter (a parameter, or the checkpoint's own),
and no object is dropped for filling much of a tile. Nothing is ever downloaded.

verified: own weights (a network trained on drawn cells: planes, channels and a stack, in tiles and
whole, on a CPU. Not run: the published files, which lie on a server that could not be reached, and
any GPU)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cellpose.models import CellposeModel
from numpy.typing import NDArray

Pixels = NDArray[Any]

CPU_BATCH = 1  # blocks of 224 x 224 at once; eight took 1.4 to 1.7 times as long on a CPU


def load(weights: str | None, *, config: str | None, device: str) -> CellposeModel:  # noqa: ARG001
    """A model with the weights of a checkpoint file; pickled code in it is refused by torch."""
    path = _checkpoint(weights)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path} is no Cellpose checkpoint that PyTorch reads: {error}") from error
    # Weights of Cellpose 1 tell no diameter; those for nuclei were made for 17 pixels.
    usual = 17.0 if "nuclei" in path.name.lower() else 30.0
    _require_cellpose_3(state, path)
    torch.sparse.check_sparse_tensor_invariants.disable()  # the default, without its warning
    model = CellposeModel(pretrained_model=str(path), device=torch.device(device), diam_mean=usual)
    # Said outright: the library goes by the file's name, and forgets `diam_mean` on a CPU.
    model.diam_mean = float(state.get("diam_mean", usual))
    model.diam_labels = float(state.get("diam_labels", model.diam_mean))
    return model


def survey(
    statistics: Sequence[Mapping[str, Pixels]],
    *,
    segment_channel: int = 0,
    nucleus_channel: int = 0,
) -> dict[str, Any]:
    """The range of brightness of the whole image: [low, high] for each of the two channels.

    "Grayscale" of several channels is their mean; its percentiles are taken as the mean of theirs,
    which is exact where the channels rise and fall together.
    """
    ranges = [_range(channel["values"], channel["counts"]) for channel in statistics]
    first, second = _chosen(len(ranges), segment_channel, nucleus_channel)
    low, high = np.mean([ranges[index] for index in first], axis=0).tolist()
    return {"lowhigh": [[low, high], [0.0, 1.0] if second is None else list(ranges[second])]}


def predict(
    model: CellposeModel,
    image: Pixels,
    *,
    axes: str,
    diameter: float = 0,
    segment_channel: int = 0,
    nucleus_channel: int = 0,
    do_3D: bool = False,  # noqa: N803 -- as Cellpose calls it
    stitch_threshold: float = 0.0,
    cellprob_threshold: float = 0.0,
    flow_threshold: float = 0.4,
    niter: int = 0,
    anisotropy: float | None = None,
    batch_size: int = 64,
    min_size: int = 15,
    lowhigh: Any = None,
) -> Pixels:
    """Labels of one image with the axes YX or ZYX, and C where it has several channels."""
    pixels, order = _planes(image, axes)
    if (do_3D or stitch_threshold) and "Z" not in axes:
        raise ValueError("3D segmentation needs a stack: choose a version whose axes have Z")
    pixels = _two_channels(pixels, segment_channel, nucleus_channel)
    if lowhigh is None:  # not surveyed: this image is the whole
        lowhigh = [_range(*np.unique(pixels[..., c], return_counts=True)) for c in range(2)]
    lowhigh = np.asarray(lowhigh, dtype=np.float64)
    for channel in range(2):
        low, high = lowhigh[channel]
        np.nan_to_num(pixels[..., channel], copy=False, nan=low, posinf=high, neginf=low)
    typical = diameter or model.diam_labels
    solid = do_3D and min(pixels.shape[:3]) > 1
    settings = {
        "diameter": typical,
        "channels": None,
        "channel_axis": -1,
        "normalize": {"lowhigh": lowhigh},
        "cellprob_threshold": cellprob_threshold,
        "flow_threshold": flow_threshold,
        "niter": niter or None,
        "min_size": min_size,
        "batch_size": min(batch_size, CPU_BATCH) if model.device.type == "cpu" else batch_size,
        "max_size_fraction": 1.0,  # of the tile, of which one cell may well fill most
    }
    smallest = min(pixels.shape[1:3])
    if smallest < 2 or smallest * model.diam_mean / typical < 1:  # too narrow for the library
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
        raise ValueError("Cellpose needs the file of a trained network")
    path = Path(weights)
    if path.is_dir():
        files = [item for item in path.rglob("*") if item.is_file() and item.name[0] != "."]
        if len(files) != 1:
            raise ValueError(f"{path} holds {len(files)} files where one checkpoint was expected")
        path = files[0]
    return path


def _require_cellpose_3(state: Mapping[str, Any], path: Path) -> None:
    """Cellpose itself would leave what it does not find at random values, without a word."""
    own = CellposeModel(pretrained_model=None, device=torch.device("cpu")).net.state_dict()
    told = {"diam_mean", "diam_labels"}
    wrong = [
        name
        for name, value in own.items()
        if name not in told
        and (not hasattr(state.get(name), "shape") or state[name].shape != value.shape)
    ]
    if wrong:
        raise ValueError(
            f"{path} is no checkpoint of a Cellpose 1-3 network with two input channels: "
            f"{len(wrong)} of its {len(own) - len(told)} arrays are missing or of another shape"
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


def _chosen(count: int, segment_channel: int, nucleus_channel: int) -> tuple[list[int], int | None]:
    """Numbers, from 0, of the channels to outline (their mean) and of the nuclei, or None."""
    if count > 1 and not (0 <= segment_channel <= count and 0 <= nucleus_channel <= count):
        raise ValueError(
            f"channel {max(segment_channel, nucleus_channel)} was asked for "
            f"in an image with {count}"
        )
    if segment_channel == 0 or count == 1:
        return list(range(count)), None
    return [segment_channel - 1], nucleus_channel - 1 if nucleus_channel else None


def _planes(image: Pixels, axes: str) -> tuple[Pixels, list[int]]:
    """The image as ZYXC, and how to bring its labels, ZYX or YX, back to the order of `axes`."""
    if set(axes) - set("CZYX"):
        raise ValueError(f"Cellpose takes the axes Z, Y, X and C, not {axes}")
    missing = [axis for axis in "ZYXC" if axis not in axes]
    pixels = image.reshape(image.shape + (1,) * len(missing))
    pixels = pixels.transpose([(axes + "".join(missing)).index(axis) for axis in "ZYXC"])
    spatial = [axis for axis in "ZYX" if axis in axes]
    return pixels, [spatial.index(axis) for axis in axes if axis != "C"]


def _two_channels(pixels: Pixels, segment_channel: int, nucleus_channel: int) -> Pixels:
    """ZYX and the two channels of the network: what is outlined, and nuclei or nothing."""
    first, second = _chosen(pixels.shape[-1], segment_channel, nucleus_channel)
    chosen = np.zeros((*pixels.shape[:3], 2), np.float32)
    chosen[..., 0] = pixels[..., first].mean(axis=-1, dtype=np.float64)
    if second is not None:
        chosen[..., 1] = pixels[..., second]
    return chosen


def _plane_by_plane(model: CellposeModel, pixels: Pixels, settings: Mapping[str, Any]) -> Pixels:
    """Planes on their own, with no number twice."""
    labels = np.zeros(pixels.shape[:3], np.uint32)
    for place, plane in enumerate(pixels):
        found = model.eval(plane, **settings)[0].reshape(plane.shape[:2]).astype(np.uint32)
        found[found > 0] += labels.max(initial=0)
        labels[place] = found
    return labels
