"""Synthetic cells whose truth is known: dense and touching, in 2D or 3D, the same for each seed.

numpy and scipy only: the training scripts use it inside the environments of the families.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Pixels = NDArray[Any]


def make_cells(
    seed: int, shape: tuple[int, ...], *, diameter: float = 30.0
) -> tuple[Pixels, Pixels]:
    """Cells (uint16, CYX or CZYX: bodies, nuclei) and their labels (int32, 1…N).

    Ellipses with axes between 0.6 and 1.2 diameters stand on a jittered grid on which one place in
    six is empty; where two meet, each pixel goes to the one whose middle is nearer for its size.
    They differ in brightness, the light fades towards one corner, and there is noise.
    """
    random = np.random.default_rng(seed)
    near = np.full(shape, np.inf, np.float32)  # 0 in the middle of the nearest cell, 1 at its edge
    labels = np.zeros(shape, np.int32)
    for centre in _places(random, shape, diameter):
        axes = random.uniform(0.3, 0.6, len(shape)) * diameter
        turn = np.linalg.qr(random.normal(size=(len(shape), len(shape))))[0]
        reach = axes.max()
        box = tuple(
            slice(max(0, int(c - reach)), min(n, int(c + reach) + 2))
            for c, n in zip(centre, shape, strict=True)
        )
        offsets = np.meshgrid(
            *(np.arange(s.start, s.stop) - c for s, c in zip(box, centre, strict=True)),
            indexing="ij",
            sparse=False,
        )
        turned = np.tensordot(turn, np.stack(offsets), axes=1)
        distance = np.linalg.norm(turned / axes.reshape(-1, *(1,) * len(shape)), axis=0)
        inside = (distance < 1) & (distance < near[box])
        near[box][inside] = distance[inside]
        labels[box][inside] = labels.max() + 1
    labels = _whole(labels, diameter)
    near[labels == 0] = np.inf
    light = np.concatenate([[0.0], random.uniform(0.5, 1.0, labels.max(initial=0))])[labels]
    bodies = light * np.where(near < 1, 1.0 - 0.6 * near**2, 0.0)
    nuclei = light * np.where(near < 0.5, 1.0, 0.0)
    fade = np.zeros(shape)
    for axis, count in enumerate(shape):
        fade += np.linspace(0.5, 1.0, count).reshape(_along(axis, shape)) / len(shape)
    channels = []
    for picture in (bodies, nuclei):
        blurred = ndimage.gaussian_filter(picture, 1.0) * fade + 0.05
        noisy = blurred + random.normal(0, 0.03, shape)
        channels.append((np.clip(noisy, 0, 1.5) * 20_000).astype(np.uint16))
    return np.stack(channels), labels


def _places(random: np.random.Generator, shape: tuple[int, ...], diameter: float) -> list[Pixels]:
    """Centres on a grid of 0.95 diameters, each moved by up to a fifth of that."""
    step = 0.95 * diameter
    grid = itertools.product(*(np.arange(step / 2, n, step) for n in shape))
    moved = [np.array(place) + random.uniform(-0.2, 0.2, len(shape)) * step for place in grid]
    return [place for place in moved if random.random() > 1 / 6]


def _along(axis: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(-1 if axis == other else 1 for other in range(len(shape)))


def _whole(labels: Pixels, diameter: float) -> Pixels:
    """Every label in one piece and not a sliver: what a neighbour cut off is background."""
    kept = np.zeros_like(labels)
    number = 0
    least = 0.15 * diameter**labels.ndim
    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        pieces, count = ndimage.label(labels[box] == index)
        sizes = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
        at_edge = any(s.start == 0 or s.stop == n for s, n in zip(box, labels.shape, strict=True))
        if count and (sizes.max() >= least or at_edge):
            number += 1
            kept[box][pieces == 1 + int(sizes.argmax())] = number
    return kept
