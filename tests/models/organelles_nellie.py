"""Drawn mitochondria whose truth is known: tubes and dots in 2D or 3D, the same for each seed.

numpy and scipy only.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Pixels = NDArray[Any]

PLACE = 28  # pixels from one organelle to the next
LENGTHS = (2, 44)  # pixels: dots to tubes
RADIUS = 2.0


def make_organelles(seed: int, shape: tuple[int, ...]) -> tuple[Pixels, Pixels]:
    """An image (uint16, YX or ZYX) of bent tubes, and their labels (int32, 1…N).

    They begin on a jittered grid on which one place in four is empty, lie nearly flat in 3D, and
    differ in length and brightness; those that touch are one. A step in Z is two pixels of Y and X.
    """
    random = np.random.default_rng(seed)
    scale = np.array([2.0, 1.0, 1.0])[3 - len(shape) :]
    size = np.array(shape) * scale
    light = np.zeros(shape, np.float32)
    steps = [PLACE * 0.6 if axis == len(shape) - 3 else PLACE for axis in range(len(shape))]
    grid = itertools.product(*(np.arange(s / 2, n, s) for s, n in zip(steps, size, strict=True)))
    for place in grid:
        if random.random() < 1 / 4:
            continue
        brightness = random.uniform(0.5, 1.0)
        for point in _walk(random, np.array(place), int(random.integers(*LENGTHS))):
            index = tuple(np.rint(point / scale).astype(int))
            if all(0 <= i < n for i, n in zip(index, shape, strict=True)):
                light[index] = max(light[index], brightness)
    distance, nearest = ndimage.distance_transform_edt(
        light == 0, sampling=tuple(scale), return_indices=True
    )
    inside = distance <= RADIUS
    labels, _ = ndimage.label(inside, np.ones((3,) * len(shape)))
    drawn = np.where(inside, light[tuple(nearest)], 0)
    blurred = ndimage.gaussian_filter(drawn, tuple(1.0 / scale))
    photons = random.poisson(20 + 400 * blurred)
    return (photons * 20).astype(np.uint16), labels.astype(np.int32)


def _walk(random: np.random.Generator, start: Pixels, length: int) -> list[Pixels]:
    """Points half a pixel apart on a way that bends slowly and rises little."""
    flat = len(start) == 3
    heading = random.uniform(0, 2 * np.pi)
    slope = random.uniform(-0.2, 0.2) if flat else 0.0
    point, points = start + random.uniform(-4, 4, len(start)), []
    for _ in range(2 * length):
        points.append(point)
        heading += random.normal(0, 0.08)
        step = [np.sin(heading), np.cos(heading)]
        point = point + 0.5 * np.array([slope, *step] if flat else step)
    return points
