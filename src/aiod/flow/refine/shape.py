"""The outlines of objects moved in and out, each object for itself.

    dilate  background within `radius` of an object becomes its       (skimage: expand_labels)
    erode   pixels within `radius` of what is not the object go
    open    what no ball of `radius` inside the object covers goes    (thin parts, small objects)
    close   background that no ball of `radius` outside reaches       (gaps, dents) is filled

Nothing ever takes a pixel of another object: only background is taken, by the object that is
nearest; of several as near, by that with the lowest number. Distances run between the middles of
pixels. An image's border is no outline, so what it cuts is not eroded there; for `close` background
goes on beyond it. Objects of which nothing is left are gone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import numpy as np
from scipy import ndimage

from aiod.flow.refine.frames import Numbers, checked, looked_up, numbered, spacing
from aiod.flow.source import Pixels
from aiod.flow.steps.calls import Bounds

Radius = Annotated[float, Bounds(above=0, maximum=1000), "how far, in the unit"]
Unit = Annotated[Literal["px", "um"], "px: pixels (voxels); um: µm, from the pixel size"]

_ROUNDING = 1 + 1e-9
"""Lengths in µm are not exact: 0.3 is three pixels of 0.1."""


def dilate(
    labels: Pixels,
    pixel_size: Mapping[str, float] | None = None,
    *,
    radius: Radius = 2.0,
    unit: Unit = "px",
) -> Pixels:
    """Objects grow by a radius into the background around them.

    >>> dilate(np.array([[4, 0, 0, 0, 2, 0]]), radius=2).tolist()
    [[4, 4, 2, 2, 2, 2]]
    """
    return _grown(labels, pixel_size, radius, unit, _near)


def close(
    labels: Pixels,
    pixel_size: Mapping[str, float] | None = None,
    *,
    radius: Radius = 2.0,
    unit: Unit = "px",
) -> Pixels:
    """Gaps and dents of objects that are narrower than a ball of a radius are filled."""
    return _grown(labels, pixel_size, radius, unit, _closed)


def erode(
    labels: Pixels,
    pixel_size: Mapping[str, float] | None = None,
    *,
    radius: Radius = 2.0,
    unit: Unit = "px",
) -> Pixels:
    """Objects shrink by a radius from all sides; smaller ones go."""
    return _shrunk(labels, pixel_size, radius, unit, _deep)


def open_(
    labels: Pixels,
    pixel_size: Mapping[str, float] | None = None,
    *,
    radius: Radius = 2.0,
    unit: Unit = "px",
) -> Pixels:
    """Parts of objects that are thinner than a ball of a radius go; small objects too."""
    return _shrunk(labels, pixel_size, radius, unit, _opened)


_Sampling = tuple[float, ...]
_Rule = Callable[[Numbers, _Sampling, float], Numbers]


def _grown(
    labels: Pixels, pixel_size: Mapping[str, float] | None, radius: float, unit: str, rule: _Rule
) -> Pixels:
    """Each object with the background that `rule` gives it, of several to the nearest."""
    compacted, names = numbered(checked(labels))
    sampling, radius = _scaled(labels, pixel_size, radius, unit)
    margin = tuple(math.floor(radius / size) + 1 for size in sampling)
    result = compacted.copy()
    best = np.full(labels.shape, np.inf)
    for number, box in enumerate(ndimage.find_objects(compacted), start=1):
        mask = np.pad(compacted[box] == number, [(m, m) for m in margin])
        distance = ndimage.distance_transform_edt(~mask, sampling=sampling)
        taken = rule(distance, sampling, radius)
        there, inside = _placed(box, margin, labels.shape)
        near = distance[inside]
        won = taken[inside] & (compacted[there] == 0) & (near < best[there])
        result[there][won] = number
        best[there][won] = near[won]
    return looked_up(labels, result, names)


def _shrunk(
    labels: Pixels, pixel_size: Mapping[str, float] | None, radius: float, unit: str, rule: _Rule
) -> Pixels:
    """Each object without the pixels that `rule` does not give it."""
    compacted, names = numbered(checked(labels))
    sampling, radius = _scaled(labels, pixel_size, radius, unit)
    result = np.zeros_like(compacted)
    for number, box in enumerate(ndimage.find_objects(compacted), start=1):
        there, _ = _placed(box, (1,) * labels.ndim, labels.shape)
        mask = compacted[there] == number
        left = mask
        if not mask.all():  # else there is nothing but this object, and no outline
            distance = ndimage.distance_transform_edt(mask, sampling=sampling)
            left = rule(distance, sampling, radius) & mask
        result[there][left] = number
    return looked_up(labels, result, names)


def _near(distance: Numbers, sampling: _Sampling, radius: float) -> Numbers:  # noqa: ARG001
    found: Numbers = distance <= radius
    return found


def _closed(distance: Numbers, sampling: _Sampling, radius: float) -> Numbers:
    return _deep(ndimage.distance_transform_edt(distance <= radius, sampling=sampling), (), radius)


def _deep(distance: Numbers, sampling: _Sampling, radius: float) -> Numbers:  # noqa: ARG001
    found: Numbers = distance > radius
    return found


def _opened(distance: Numbers, sampling: _Sampling, radius: float) -> Numbers:
    core = distance > radius
    if not core.any():
        return core
    return _near(ndimage.distance_transform_edt(~core, sampling=sampling), (), radius)


def _scaled(
    labels: Pixels, pixel_size: Mapping[str, float] | None, radius: float, unit: str
) -> tuple[_Sampling, float]:
    """Pixels and radius with the smallest side of a pixel as 1, so that equal sides are exact."""
    sides = spacing("ZYX"[-labels.ndim :], pixel_size, unit)
    least = min(sides)
    return tuple(side / least for side in sides), radius / least * _ROUNDING


def _placed(
    box: tuple[slice, ...], margin: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """A box with a margin as far as the image goes, in the image and in the padded box."""
    starts = [max(0, side.start - m) for side, m in zip(box, margin, strict=True)]
    stops = [min(n, side.stop + m) for side, m, n in zip(box, margin, shape, strict=True)]
    corner = [side.start - m for side, m in zip(box, margin, strict=True)]
    return (
        tuple(map(slice, starts, stops)),
        tuple(slice(a - c, b - c) for a, b, c in zip(starts, stops, corner, strict=True)),
    )
