"""Bright discs on a dark ground, far from each other, the same for each seed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Pixels = NDArray[Any]
STEP = 100  # pixels from disc to disc


def make_discs(seed: int, shape: tuple[int, int]) -> tuple[Pixels, Pixels]:
    """An image (uint16, YX) and its labels (int32, 1…N); discs are 26 to 32 pixels wide."""
    random = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int32)
    light = [0.0]
    rows, columns = np.indices(shape)
    for row in range(STEP // 2, shape[0], STEP):
        for column in range(STEP // 2, shape[1], STEP):
            down, across = random.uniform(-3, 3, 2)
            near = np.hypot(rows - row - down, columns - column - across) < random.uniform(13, 16)
            labels[near] = len(light)
            light.append(random.uniform(0.85, 1.0))
    bright = ndimage.gaussian_filter(np.array(light)[labels], 1.0) + 0.1
    noisy = bright + random.normal(0, 0.02, shape)
    return (noisy.clip(0, 1.5) * 20_000).astype(np.uint16), labels
