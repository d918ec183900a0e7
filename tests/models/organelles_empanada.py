"""Drawn organelles whose truth is known: dark, with a darker membrane, and touching.

numpy and scipy only: the training script uses it inside the environment of the family.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from cells import make_cells
from numpy.typing import NDArray
from scipy import ndimage

Pixels = NDArray[Any]


def make_organelles(
    seed: int, shape: tuple[int, ...], *, diameter: float = 30.0, apart: bool = False
) -> tuple[Pixels, Pixels]:
    """An image (uint8, YX or ZYX) as an electron microscope shows it, and its labels (1…N).

    Objects touch; with `apart` they give way to each other by two pixels.
    """
    _, labels = make_cells(seed, shape, diameter=diameter)
    if apart:
        lowest = ndimage.minimum_filter(np.where(labels > 0, labels, labels.max() + 1), 5)
        labels = np.where(lowest == ndimage.maximum_filter(labels, 5), labels, 0)
    rim = ndimage.minimum_filter(labels, 3) != ndimage.maximum_filter(labels, 3)
    picture = np.where(labels > 0, np.where(rim, 0.2, 0.45), 0.75)
    noise = np.random.default_rng(seed).normal(0, 0.05, shape)
    shown = ndimage.gaussian_filter(picture, 0.7) + noise
    return (shown.clip(0, 1) * 255).astype(np.uint8), labels
