"""Training patches: images with what the network is to answer, turned, zoomed and lit at random.

The network is to answer, for each pixel, whether it belongs to a nucleus, how deep inside it lies
(0 outside and at the outline, 1 in the middle), and which way the middle of the nucleus is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn.functional import affine_grid, grid_sample

PERCENTILES = (1.0, 99.8)
"""What becomes 0 and 1 before the network sees it; the runner does the same."""
_DIAMETERS = (14.0, 38.0)
"""Typical diameters of nuclei, in pixels, that the network is shown."""
_SURE = 0.99
"""How much of what is averaged for a pixel of a patch must belong to objects."""
_BEHIND = 20
"""Pixels that are added behind the edges of an image."""
_FULL = 0.05
"""The part of a patch that is to be nuclei; a few tries are made for it."""
WAY = 10.0
"""Pixels of a way of length 1, as the network is to answer it."""
_GAP = 4.0
"""How much more a pixel between two nuclei counts."""


@dataclass(frozen=True)
class Example:
    """One image, and a usual diameter of its objects in pixels.

    `layers` (6, y, x) are brightness, object or not, depth, gap or not, and where the middle of the
    pixel's object is, in X and Y: from -1 to 1 over the image, as `grid_sample` counts.
    """

    layers: torch.Tensor
    diameter: float


def example(image: NDArray[np.float32], labels: NDArray[np.int32]) -> Example:
    """An image made ready: normalised, with the depth inside each object and the gaps between."""
    low, high = np.percentile(image, PERCENTILES)
    shown = np.clip((image - low) / max(high - low, 1e-6), -0.5, 8)
    depth, middles = depths_and_middles(labels)
    layers = np.stack([shown, labels > 0, depth, _gaps(labels), *middles]).astype(np.float32)
    return Example(torch.from_numpy(layers), usual_diameter(labels))


def usual_diameter(labels: NDArray[np.int32]) -> float:
    """The diameter of a disc as large as the object in the middle of their sizes, in pixels."""
    sizes = np.bincount(labels.ravel())[1:]
    return math.sqrt(float(np.median(sizes)) * 4 / math.pi) if sizes.size else 25.0


def depths_and_middles(
    labels: NDArray[np.int32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """How deep in its own object each pixel lies (y, x), and where that one's middle is (2, y, x).

    With d the distance to the outline and m that to the middle it is d / (d + m): 0 outside and
    at the outline, 1 in the middle, and falling on all ways from there, whatever the shape: an
    object has one summit. Nuclei that the image's edge cuts are taken to go on behind it. Middles
    are those of all pixels of an object, in X and Y, from -1 to 1 over the image.
    """
    wide = np.pad(labels, _BEHIND, mode="edge")
    depth = np.zeros(wide.shape, np.float32)
    middles = np.zeros((2, *wide.shape), np.float32)
    size = np.array(labels.shape)
    for number, box in enumerate(ndimage.find_objects(wide), start=1):
        if box is not None:
            around = tuple(slice(max(0, part.start - 1), part.stop + 1) for part in box)
            inside = wide[around] == number
            depth[around][inside] = _depth(inside)[inside]
            corner = np.array([part.start - _BEHIND for part in around])
            y, x = (2 * (np.argwhere(inside).mean(0) + corner) + 1) / size - 1
            middles[(slice(None), *around)][:, inside] = [[x], [y]]
    kept = (..., slice(_BEHIND, -_BEHIND), slice(_BEHIND, -_BEHIND))
    return depth[kept], middles[kept]


def _depth(inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The depth of the pixels of one object; its middle is that of where it is widest."""
    away = np.maximum(ndimage.distance_transform_edt(inside) - 1, 0)
    widest = np.argwhere(inside & (away >= 0.9 * away.max()))
    middle = widest[np.linalg.norm(widest - widest.mean(0), axis=1).argmin()]
    places = np.moveaxis(np.indices(inside.shape), 0, -1)
    to_middle = np.linalg.norm(places - middle, axis=-1)
    depth: NDArray[np.float64] = away / np.maximum(away + to_middle, 1e-9)
    return depth


def _gaps(labels: NDArray[np.int32]) -> NDArray[np.float32]:
    """1 at pixels that two nuclei are near to, where they are told apart or not; else 0."""
    top = ndimage.maximum_filter(labels, 5)
    low = ndimage.minimum_filter(np.where(labels == 0, labels.max() + 1, labels), 5)
    return ((top > 0) & (low < top)).astype(np.float32)


@dataclass(frozen=True)
class Batch:
    """Random patches: what is seen (n, 1, y, x), and what is to be answered.

    `answers` (n, 2, …) are foreground and depth, `ways` (n, 2, …) lead to the middle in X and Y, in
    units of `WAY` pixels, where `known` (n, 1, …) is 1; `weights` (n, 1, …) say what counts more.
    """

    seen: torch.Tensor
    answers: torch.Tensor
    ways: torch.Tensor
    known: torch.Tensor
    weights: torch.Tensor


def batch(random: np.random.Generator, examples: list[Example], size: int, side: int) -> Batch:
    """`size` patches of `side` x `side` pixels."""
    patches = torch.stack([_full_patch(random, examples, side) for _ in range(size)])
    seen = torch.stack([_lit(random, patch[0]) for patch in patches])
    foreground, depth, gaps = patches[:, 1], patches[:, 2], patches[:, 3]
    return Batch(
        seen=seen[:, None],
        answers=torch.stack([(foreground > 0.5).float(), depth.clip(0, 1)], dim=1),
        ways=patches[:, 4:6] / WAY,
        known=patches[:, 6:7],
        weights=1 + _GAP * gaps[:, None],
    )


def _full_patch(random: np.random.Generator, examples: list[Example], side: int) -> torch.Tensor:
    for _ in range(3):
        patch = _patch(random, examples, side)
        if float(patch[1].mean()) > _FULL:
            break
    return patch


def _patch(random: np.random.Generator, examples: list[Example], side: int) -> torch.Tensor:
    """A patch of one of the images, turned, mirrored, and zoomed to nuclei of some diameter.

    Its layers are those of the example, but the middles: they become ways to them, in pixels of the
    patch, with a layer that is 1 where they are known.
    """
    chosen = examples[int(random.integers(len(examples)))]
    wanted = math.exp(random.uniform(*np.log(_DIAMETERS)))
    zoom = float(np.clip(wanted / chosen.diameter, 0.35, 2.5))
    height, width = chosen.layers.shape[1:]
    turn = random.uniform(0, 2 * math.pi)
    mirror = random.choice([-1, 1])
    stretch = math.exp(random.uniform(-0.1, 0.1))
    # From the patch's to the image's coordinates, both from -1 to 1.
    grows = side / zoom
    a, b = grows * stretch / width, grows / stretch / height
    cosine, sine = math.cos(turn), math.sin(turn)
    room = [max(0.0, 1 - grows / n) for n in (width, height)]
    centre = [random.uniform(-r, r) if r else random.uniform(-0.2, 0.2) for r in room]
    theta = torch.tensor(
        [[mirror * cosine * a, -sine * a, centre[0]], [mirror * sine * b, cosine * b, centre[1]]],
        dtype=torch.float32,
    )
    grid = affine_grid(theta[None], [1, 1, side, side], align_corners=False)
    layers = chosen.layers
    if zoom < 0.7:  # averaged first, as a resampled image is
        n = round(1 / zoom)
        layers = torch.nn.functional.avg_pool2d(layers[None], n, ceil_mode=True)[0]
    found = grid_sample(layers[None], grid, padding_mode="reflection", align_corners=False)[0]
    # Back from the image's to the patch's coordinates; what lies behind the edge is a mirror image.
    back = torch.linalg.inv(theta[:, :2])
    middles = (back @ (found[4:].reshape(2, -1) - theta[:, 2:])).reshape(2, side, side)
    line = (2 * torch.arange(side) + 1) / side - 1
    here = torch.stack([line[None].expand(side, side), line[:, None].expand(side, side)])
    known = (grid[0].abs() <= 1).all(-1) & (found[1] > _SURE)
    return torch.cat([found[:4], (middles - here) * side / 2, known[None].float()])


def _lit(random: np.random.Generator, seen: torch.Tensor) -> torch.Tensor:
    """Other contrast, other noise, another blur."""
    low = random.uniform(-0.1, 0.1)
    seen = (seen - low) * math.exp(random.uniform(-0.6, 0.5))
    gamma = math.exp(random.uniform(-0.5, 0.5))
    seen = seen.sign() * seen.abs() ** gamma
    if random.random() < 0.3:
        sigma = random.uniform(0.3, 1.3)
        seen = torch.from_numpy(ndimage.gaussian_filter(seen.numpy(), sigma))
    if random.random() < 0.5:
        seen = seen + random.uniform(0, 0.08) * torch.from_numpy(
            random.standard_normal(seen.shape, np.float32)
        )
    return seen
