"""A toy model that runs for real, and images for it.

The toy is exact: it labels the connected pieces above a threshold. So the oracle is
`scipy.ndimage.label` on the whole image, whatever the tiles.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

from aiod.flow.results.labels import open_labels
from aiod.flow.run import Done
from aiod.flow.source import Box

RUNNER = f'''# /// script
# requires-python = ">=3.11"
# dependencies = ["appose>=0.12", "numpy=={np.__version__}", "scipy>=1.14"]
# ///
"""Connected pieces above a threshold, and every way to go wrong."""

import os
import signal
import time

import numpy as np
from scipy import ndimage


def load(weights, *, config, device):
    trouble, _, file = os.environ.get("TOY_LOAD", "").partition(":")
    if trouble:
        with open(file, "a") as stream:
            stream.write("loaded\\n")
    if trouble == "die":
        os._exit(3)
    if trouble == "hang":
        time.sleep(600)


def survey(statistics, **params):
    once = os.environ.get("TOY_SURVEY", "")
    if once and os.path.exists(once):
        os.remove(once)
        os._exit(3)
    first = statistics[0]
    return {{"median": float(np.median(np.repeat(first["values"], first["counts"])))}}


def predict(model, image, *, axes, median, threshold=100, calls="", trouble="", while_there="",
            most=0, above_median=False, kind="instance", seconds=0):
    time.sleep(seconds)
    if calls:
        with open(calls, "a") as file:
            file.write(f"{{image.shape}} {{int(image.sum())}}\\n")
    if most and image.size > most:
        raise MemoryError
    if "C" in axes:
        image = image.max(axis=axes.index("C"))
    if trouble and os.path.exists(while_there) and (image == image.dtype.type(250)).any():
        if trouble == "raise":
            raise ValueError("no such cell")
        if trouble == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if trouble == "hang":
            time.sleep(600)
        if trouble == "print":
            print("no end of line", end="", flush=True)
        if trouble == "shape":
            return np.zeros((3, 3), np.int32)
        if trouble == "float":
            return image.astype(np.float64) / 3
        if trouble == "negative":
            return np.full(image.shape, -1)
    mask = image > (median if above_median else threshold)
    if kind == "semantic":
        return mask.astype(np.uint8) + (image > 200)
    if kind == "masks":
        whole = np.zeros((2, *image.shape), bool)
        whole[0], whole[1, image.shape[0] // 2 :] = True, True
        return whole, np.array([0.5, 0.9])
    return ndimage.label(mask, np.ones((3,) * image.ndim))[0]
'''
NAMES = ("threshold", "calls", "trouble", "while_there", "most", "above_median", "kind", "seconds")
VALUES: dict[str, Any] = {
    "threshold": 100,
    "most": 0,
    "above_median": False,
    "kind": "instance",
    "seconds": 0.0,
}
Image = NDArray[Any]


def blobs(shape: tuple[int, ...], seed: int = 0, top: int = 240) -> NDArray[np.uint8]:
    """Blobs in an image, some of them larger than a tile."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 3)
    low, high = noise.min(), noise.max()
    return np.asarray((noise - low) / (high - low) * top).astype(np.uint8)


def pieces(image: Image, threshold: float = 100) -> Image:
    labels: Image = ndimage.label(image > threshold, np.ones((3,) * image.ndim))[0]
    return labels


def labels_of(done: Done, number: int = 0) -> Image:
    source = open_labels(done.folder / str(done.record.images[number].labels)).source
    return np.squeeze(source.read(Box.whole(source.shape)))


def save(path: Path, image: Image, axes: str, **metadata: Any) -> Path:
    tifffile.imwrite(path, image, metadata={"axes": axes, **metadata}, ome=True)
    return path


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
