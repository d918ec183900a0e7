# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = [
#   "appose==0.12.0",
#   "numpy==2.4.6",
#   "torch==2.13.0",
# ]
# ///
"""InstanSeg: nuclei and cells, by a network that brings along how its answer is read.

Goldsborough et al., https://doi.org/10.48550/arXiv.2408.15954 and, for any number of fluorescence
channels, https://doi.org/10.1101/2024.09.04.611150. Its authors export a network together with all
that follows it as one TorchScript file (`instanseg.pt`, in a zip as the BioImage Model Zoo has
them); it takes an image at 0.5 micrometres a pixel, brightness from 0 to 1, and answers with
labels. So torch alone runs it, and InstanSeg itself is not needed.

TorchScript is a program, not only arrays: loading and running such a file does what is written in
it, with the rights of this process. It cannot call Python, but it may use every operator of torch,
of which some read and write files, and it may never end. Use files of people you trust.

Brightness is stretched by the 0.1st and 99.9th percentile of each channel of the whole image
(`survey`); InstanSeg takes those of the piece that it is given. Nothing is ever downloaded.

verified: own weights (a network of InstanSeg's own classes was trained on drawn cells and exported
with InstanSeg's own code; run on a CPU in tiles and whole it finds them, and the whole gives what
InstanSeg's own call gives. Not run: the published files, which lie on a server that could not be
reached, and any GPU)
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

# InstanSeg's programs multiply sparse matrices, of which torch says so each time.
warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")

Array = NDArray[Any]

TARGETS = ("nuclei", "cells")
PERCENTILES = (0.1, 99.9)
LEAST_RANGE = 1e-3  # InstanSeg divides by no less
LEAST_SIDE = 128  # pixels: twice the largest window in which a pixel looks for its object


@dataclass(frozen=True)
class Model:
    """A loaded program, whether it gives nuclei and cells, and the arguments that it knows."""

    program: Any
    both: bool
    known: frozenset[str]
    device: torch.device


def load(weights: str | None, *, config: str | None, device: str) -> Model:  # noqa: ARG001
    """The program in a TorchScript file; or in the only one of a folder, as an archive has it."""
    path = _file(weights)
    where = torch.device(device)
    try:
        program = torch.jit.load(str(path), map_location=where)
    except Exception as error:
        raise ValueError(
            f"{path} is no TorchScript file, which is what InstanSeg exports "
            "(export_to_torchscript) and publishes; a checkpoint of its training is another thing"
        ) from error
    both = getattr(program, "cells_and_nuclei", None)
    known = _arguments(program)
    if not isinstance(both, bool) or "target_segmentation" not in known:
        raise ValueError(
            f"{path} is TorchScript, but none that InstanSeg exported: that states "
            "cells_and_nuclei, and takes target_segmentation"
        )
    return Model(program.eval(), both, known, where)


def survey(statistics: Sequence[Mapping[str, Array]]) -> dict[str, Any]:
    """For each channel of the whole image the brightness that becomes 0, and what becomes 1."""
    return {"ranges": [_range(channel["values"], channel["counts"]) for channel in statistics]}


def predict(
    model: Model,
    image: Array,
    *,
    axes: str,
    target: str = "nuclei",
    seed_threshold: float | None = None,
    mask_threshold: float | None = None,
    overlap_threshold: float | None = None,
    peak_distance: int | None = None,
    window_size: int | None = None,
    ranges: Sequence[Sequence[float]] | None = None,
) -> Array:
    """Labels, uint32, of an image with Y, X and any channels; their axes are those two, in order.

    `target` counts where the program gives nuclei and cells; a program for one kind gives that.
    What is None is as the program has it. `ranges` are the survey's; an image that was not
    surveyed is taken for the whole.
    """
    if target not in TARGETS:
        raise ValueError(f"there is no target {target!r}; known are {', '.join(TARGETS)}")
    settings = {
        "seed_threshold": seed_threshold,
        "mask_threshold": mask_threshold,
        "overlap_threshold": overlap_threshold,
        "peak_distance": peak_distance,
        "window_size": window_size,
    }
    given = {name: value for name, value in settings.items() if value is not None}
    if unknown := sorted(set(given) - model.known):
        raise ValueError(f"this InstanSeg file has no setting {', '.join(unknown)}; leave it out")
    pixels = _channels_first(image, axes)
    if ranges is None:
        ranges = [_range(*np.unique(channel, return_counts=True)) for channel in pixels]
    low, high = np.array(ranges, np.float64).T.reshape(2, -1, 1, 1)
    seen = (pixels - low.astype(np.float32)) / (high - low).astype(np.float32)
    labels = _run(model, seen, target, given)
    return labels if axes.index("Y") < axes.index("X") else labels.T


# --- files ----------------------------------------------------------------------------------------


def _file(weights: str | None) -> Path:
    if weights is None:
        raise ValueError("InstanSeg needs the file of a network (instanseg.pt)")
    path = Path(weights)
    if path.is_dir():
        found = sorted(path.rglob("*.pt"))
        if len(found) != 1:
            raise ValueError(f"{path} holds {len(found)} files *.pt where one was expected")
        path = found[0]
    return path


def _arguments(program: Any) -> frozenset[str]:
    """What the program can be told by name; nothing where it has no `forward`."""
    schema = getattr(getattr(program, "forward", None), "schema", None)
    return frozenset(argument.name for argument in getattr(schema, "arguments", ()))


# --- the input ------------------------------------------------------------------------------------


def _channels_first(image: Array, axes: str) -> Array:
    """The image as float32 with the axes CYX."""
    if sorted(axes.replace("C", "")) != ["X", "Y"]:
        raise ValueError(f"InstanSeg takes planes (Y and X, with or without C), not {axes}")
    pixels = image if "C" in axes else image[np.newaxis]
    named = axes if "C" in axes else "C" + axes
    pixels = pixels.transpose([named.index(axis) for axis in "CYX"])
    return np.nan_to_num(pixels.astype(np.float32), copy=False)


def _range(values: Array, counts: Array) -> list[float]:
    """The percentiles of a channel with this histogram, far enough apart to divide by."""
    known = np.isfinite(values)
    values, counts = values[known], counts[known]
    if not values.size:
        return [0.0, 1.0]
    low, high = (_percentile(values, counts, percent) for percent in PERCENTILES)
    return [low, max(high, low + LEAST_RANGE)]


def _percentile(values: Array, counts: Array, percent: float) -> float:
    """What numpy.percentile gives for the pixels of a histogram with sorted values."""
    ends = np.cumsum(counts)
    place = percent / 100 * (int(ends[-1]) - 1)
    below = math.floor(place)
    first, second = values[np.searchsorted(ends, [below, math.ceil(place)], side="right")]
    return float(first) + (place - below) * (float(second) - float(first))


# --- the program ----------------------------------------------------------------------------------


def _run(model: Model, seen: Array, target: str, given: Mapping[str, Any]) -> Array:
    """The program's labels (YX, uint32) of a stretched image (CYX)."""
    height, width = seen.shape[1:]
    # A window must fit into the image; what is filled up is mirrored, and cut off again.
    fill = [(0, 0), (0, max(0, LEAST_SIDE - height)), (0, max(0, LEAST_SIDE - width))]
    filled = np.ascontiguousarray(np.pad(seen, fill, mode="symmetric"))
    wanted = torch.tensor([target == name for name in TARGETS] if model.both else [True, True])
    tensor = torch.from_numpy(filled)[None].to(model.device)
    try:
        with torch.no_grad(), torch.autocast("cuda", enabled=model.device.type == "cuda"):
            answer = model.program(tensor, target_segmentation=wanted.int(), **given)
    except RuntimeError as error:
        if found := re.search(r"to have (\d+) channels, but got (\d+)", str(error)):
            raise ValueError(
                f"this InstanSeg network takes {found[1]} channels, the image has {found[2]}"
            ) from error
        raise
    shape = getattr(answer, "shape", None)
    if shape != (1, 1, *filled.shape[1:]):
        raise ValueError(f"the InstanSeg file answers {shape} for the image {filled.shape}")
    labels: Array = answer[0, 0, :height, :width].cpu().numpy()
    if not (np.isfinite(labels).all() and labels.min() >= 0):
        raise ValueError("the InstanSeg file answers numbers that are no labels")
    return labels.astype(np.uint32)
