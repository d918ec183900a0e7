"""Synthetic tissue whose truth is known: cells that fill the image, and walls between them.

numpy and scipy only: the training script uses it inside the environment of the family.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

Pixels = NDArray[Any]


def make_tissue(
    seed: int, shape: tuple[int, ...], *, diameter: float = 30.0
) -> tuple[Pixels, Pixels]:
    """An image (uint16, YX or ZYX) of bright walls, and its cells (int32, 1…N, no background).

    Each pixel belongs to the nearest of points on a jittered grid, in space that is bent a little,
    so that walls are. They differ in brightness, the light fades towards one corner, there are
    bright grains inside cells, and noise.
    """
    random = np.random.default_rng(seed)
    grid = itertools.product(*(np.arange(-diameter / 2, n + diameter, diameter) for n in shape))
    points = np.array(list(grid))
    points += random.uniform(-0.35, 0.35, points.shape) * diameter
    places = np.indices(shape).reshape(len(shape), -1).T.astype(np.float64)
    for axis in range(len(shape)):
        bent = ndimage.gaussian_filter(random.normal(size=shape), diameter / 4)
        places[:, axis] += 0.08 * diameter * (bent / bent.std()).ravel()
    away, which = cKDTree(points).query(places, k=2)
    wall = np.exp(-(((away[:, 1] - away[:, 0]) / 2.5) ** 2))
    both = np.sort(which, axis=1)
    light = np.random.default_rng(seed + 1).uniform(0.45, 1.0, (97, 89))
    wall = (wall * light[both[:, 0] % 97, both[:, 1] % 89]).reshape(shape)
    grains = ndimage.gaussian_filter((random.random(shape) < 0.002).astype(float), 1.0)
    fade = np.zeros(shape)
    for axis, count in enumerate(shape):
        along = tuple(-1 if axis == other else 1 for other in range(len(shape)))
        fade += np.linspace(0.5, 1.0, count).reshape(along) / len(shape)
    picture = ndimage.gaussian_filter(wall + 2.0 * grains, 0.7) * fade + 0.1
    noisy = picture + random.normal(0, 0.05, shape)
    _, labels = np.unique(which[:, 0], return_inverse=True)
    image = (np.clip(noisy, 0, 1.5) * 20_000).astype(np.uint16)
    return image, (labels.reshape(shape) + 1).astype(np.int32)


def borders_of(labels: Pixels) -> Pixels:
    """Whether a direct neighbour of a pixel has another label."""
    cross = ndimage.generate_binary_structure(labels.ndim, 1)
    low = ndimage.minimum_filter(labels, footprint=cross)
    borders: Pixels = low != ndimage.maximum_filter(labels, footprint=cross)
    return borders
