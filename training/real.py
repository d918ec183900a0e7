"""Real training images: those of the package mnfinder 1.2.3 (MIT), read from its wheel.

    pip download --no-deps --only-binary :all: mnfinder==1.2.3

Of the wheel only `training-data` and, to choose settings, `validation-data` are opened here; its
`test-data` is for `evaluate.py` alone. Masks are drawn: each nucleus has a colour of its own on
clear ground.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

Part = Literal["training-data", "validation-data", "test-data"]


def read(wheel: Path, part: Part) -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.int32]]]:
    """Name, image and labels 1…n of every image of a part of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for name in sorted(names):
            if not (name.startswith(f"mnfinder/{part}/") and name.endswith(".tif")):
                continue
            mask = name.replace("/images/", "/nucleus_masks/").removesuffix(".tif") + ".png"
            if mask in names:
                image = tifffile.imread(io.BytesIO(archive.read(name)))
                yield name, image.astype(np.float32), _labels(archive.read(mask))


def _labels(drawn: bytes) -> NDArray[np.int32]:
    """Labels of a drawn mask: pixels of one colour are one nucleus, clear ones are background."""
    colours = np.asarray(Image.open(io.BytesIO(drawn)).convert("RGBA")).astype(np.int64)
    red, green, blue, alpha = np.moveaxis(colours, -1, 0)
    keys = np.where(alpha > 0, 1 + blue + 256 * (green + 256 * red), 0)
    places = np.unique(keys, return_inverse=True)[1].reshape(keys.shape)
    return (places + (0 if (keys == 0).any() else 1)).astype(np.int32)
