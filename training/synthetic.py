"""Drawn fluorescence nuclei: an image and its labels from a seed.

What makes real images hard is drawn, each in a degree of its own: blur, photon and camera noise,
uneven light, dense and touching nuclei, out-of-focus haze, cytoplasm that glows in the shape of the
cell, texture and nucleoli, dim beside bright ones, debris that is no nucleus.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.draw import polygon

Pixels = NDArray[np.float32]
Labels = NDArray[np.int32]

_ANGLES = np.linspace(0, 2 * np.pi, 48, endpoint=False)
_GLOWING = 0.2
"""The part of the images where the cytoplasm is seen."""
_OVERLAP = 0.3
"""The part of a nucleus that may lie under earlier ones, which cut it off there."""


def draw(random: np.random.Generator, side: int = 256) -> tuple[Pixels, Labels]:
    """An image (side x side, arbitrary units, background near 0) and its labels 1…n."""
    diameter = np.exp(random.uniform(np.log(13), np.log(46)))
    labels = _place(random, side, diameter)
    return _photograph(random, labels, diameter), labels


def _place(random: np.random.Generator, side: int, diameter: float) -> Labels:
    """Nuclei in clusters of some tightness, until a part of the image is covered."""
    labels: Labels = np.zeros((side, side), np.int32)
    wanted = random.uniform(0.03, 0.65) * side**2
    centres = random.uniform(0, side, (int(random.integers(1, 8)), 2))
    clustered, spread = random.uniform(0, 0.8), diameter * random.uniform(1, 3)
    covered = count = 0
    for _ in range(int(8 * side**2 / diameter**2)):
        if covered > wanted:
            break
        if random.random() < clustered:
            centre = random.choice(centres) + random.normal(0, spread, 2)
        else:
            centre = random.uniform(-diameter / 2, side + diameter / 2, 2)
        y, x = _outline(random, centre, diameter)
        rows, columns = polygon(y, x, labels.shape)
        free = labels[rows, columns] == 0
        if free.sum() < max(20, (1 - _OVERLAP) * free.size):
            continue
        count += 1
        covered += int(free.sum())
        labels[rows[free], columns[free]] = count
    return _whole(labels)


def _outline(random: np.random.Generator, centre: Any, diameter: float) -> Any:
    """Rows and columns of a smooth outline: an ellipse with a few waves, some of them lobed."""
    radius = diameter / 2 * np.exp(random.normal(0, 0.18))
    lobed = 2.5 if random.random() < 0.12 else 1.0
    wave = np.ones_like(_ANGLES)
    for order, size in ((2, 0.05), (3, 0.04), (4, 0.025), (5, 0.015)):
        wave += lobed * random.normal(0, size) * np.cos(order * _ANGLES + random.uniform(0, 7))
    aspect, turn = random.uniform(1, 1.8) ** 0.5, random.uniform(0, np.pi)
    y, x = radius * wave * np.sin(_ANGLES) * aspect, radius * wave * np.cos(_ANGLES) / aspect
    cosine, sine = np.cos(turn), np.sin(turn)
    return centre[0] + y * cosine + x * sine, centre[1] - y * sine + x * cosine


def _whole(labels: Labels) -> Labels:
    """Labels of one piece each, 1…n: of a nucleus that another cuts in two the larger stays."""
    result: Labels = np.zeros_like(labels)
    count = 0
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        pieces, n = ndimage.label(labels[box] == number)
        sizes = np.bincount(pieces.ravel(), minlength=n + 1)[1:]
        if n and sizes.max() >= 20:
            count += 1
            result[box][pieces == 1 + sizes.argmax()] = count
    return result


def _photograph(random: np.random.Generator, labels: Labels, diameter: float) -> Pixels:
    """What a microscope sees of the labels."""
    shape, number = labels.shape, int(labels.max())
    bright = np.exp(random.normal(0, random.uniform(0.1, 0.7), number + 1))
    bright[0] = 0
    light = bright[labels]
    # Chromatin and nucleoli.
    texture = _smooth(random, shape, diameter * random.uniform(0.04, 0.15))
    light *= np.clip(1 + random.uniform(0, 0.35) * texture, 0.1, None)
    # Brighter in the middle, as a round body is, more or less.
    depth = ndimage.distance_transform_edt(labels > 0) / (diameter / 2)
    light *= 1 - random.uniform(0, 0.5) * (1 - np.clip(depth, 0, 1))
    _add_debris(random, light, diameter)
    if random.random() < _GLOWING:
        light += cytoplasm(random, labels, diameter)
    # Haze of what is out of focus.
    haze = ndimage.gaussian_filter(light, diameter * random.uniform(0.4, 1.5))
    light += max(0.0, random.uniform(-0.8, 0.8)) * haze
    light = ndimage.gaussian_filter(light, random.uniform(0.4, 0.07 * diameter + 0.6))
    uneven = _smooth(random, shape, shape[0] * random.uniform(0.2, 0.6))
    light *= np.clip(1 + random.uniform(0, 0.4) * uneven, 0.2, None)
    light += random.uniform(0, 0.15) * np.clip(1 + uneven, 0, None)
    photons = np.exp(random.uniform(np.log(40), np.log(2000)))
    noisy = random.poisson(np.clip(light, 0, None) * photons) / photons
    noisy += random.normal(0, random.uniform(0.002, 0.04), noisy.shape)
    seen: Pixels = noisy.astype(np.float32)
    return seen


def cytoplasm(random: np.random.Generator, labels: Labels, diameter: float) -> NDArray[np.float64]:
    """Light of the cells around the nuclei: each as far as it reaches, up to its neighbours.

    Where a nucleus of brightness 1 lies it is between a little and most of that.
    """
    shape, count = labels.shape, int(labels.max())
    away, nearest = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    owner = labels[tuple(nearest)]
    reach = diameter * random.uniform(0.2, 1.4) * np.exp(random.normal(0, 0.3, count + 1))
    # Ragged edges: what is added to the distance differs from place to place.
    ragged = _smooth(random, shape, diameter * random.uniform(0.15, 0.5))
    rest = 1 - (away + random.uniform(0, 0.3) * diameter * ragged) / reach[owner]
    level = random.uniform(0.05, 0.5) * np.exp(random.normal(0, 0.3, count + 1))
    falls = random.uniform(0, 1.5)  # how fast it thins out towards the edge
    light = level[owner] * np.clip(rest, 0, 1) ** falls * (rest > 0)
    # A granular or fibrous inside, and a nucleus that may leave a hole in it.
    grains = _smooth(random, shape, diameter * random.uniform(0.03, 0.12))
    light *= np.clip(1 + random.uniform(0, 0.5) * grains, 0, None)
    light[labels > 0] *= random.uniform(0.3, 1)
    seen: NDArray[np.float64] = ndimage.gaussian_filter(
        light, random.uniform(0.5, 0.06 * diameter + 0.6)
    )
    return seen


def _smooth(
    random: np.random.Generator, shape: tuple[int, ...], sigma: float
) -> NDArray[np.float64]:
    """Random clouds of the size `sigma`, of mean 0 and deviation 1."""
    coarse = max(1, int(sigma / 3))
    small = random.normal(size=[n // coarse + 3 for n in shape])
    small = ndimage.gaussian_filter(small, sigma / coarse, mode="wrap")
    clouds = ndimage.zoom(small, coarse, order=1)[tuple(map(slice, shape))]
    result: NDArray[np.float64] = (clouds - clouds.mean()) / (clouds.std() + 1e-9)
    return result


def _add_debris(random: np.random.Generator, light: NDArray[np.float64], diameter: float) -> None:
    """Specks far smaller than nuclei, as micronuclei and dirt are; they are not labelled."""
    side = light.shape[0]
    for _ in range(max(0, int(random.integers(-30, 30)))):
        radius = diameter * random.uniform(0.03, 0.12)
        y, x = random.uniform(0, side, 2)
        box = (
            slice(max(0, int(y - 3 * radius)), int(y + 3 * radius) + 2),
            slice(max(0, int(x - 3 * radius)), int(x + 3 * radius) + 2),
        )
        rows, columns = np.mgrid[box][:, : light[box].shape[0], : light[box].shape[1]]
        away = ((rows - y) ** 2 + (columns - x) ** 2) / (2 * max(radius, 0.7) ** 2)
        light[box] += random.uniform(0.2, 1.2) * np.exp(-away)
