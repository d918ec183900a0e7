"""Drawn cells with the outlines of their nuclei: what a network for both learns and is judged by.

numpy and scipy only: the training script uses it inside the environment of the family.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from cells import make_cells
from numpy.typing import NDArray
from scipy import ndimage

Pixels = NDArray[Any]


def make_both(seed: int, shape: tuple[int, int]) -> tuple[Pixels, Pixels, Pixels]:
    """An image (uint16, CYX: bodies, nuclei), labels of its nuclei and labels of its cells.

    A nucleus has its cell's number; it is what rises half as high as the brightest part of it.
    """
    image, cells = make_cells(seed, shape)
    smooth = ndimage.gaussian_filter(image[1].astype(np.float32), 1.0)
    numbers = np.arange(1, cells.max() + 1)
    dark = float(np.median(smooth[cells == 0]))
    bright = np.array([dark, *ndimage.maximum(smooth, cells, numbers)], np.float32)
    nuclei = np.where(smooth > (dark + bright[cells]) / 2, cells, 0)
    return image, nuclei.astype(np.int32), cells
