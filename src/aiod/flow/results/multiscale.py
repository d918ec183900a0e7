"""What OME-Zarr 0.5 writes beside the pixels of labels: axes, levels, image-label.

Source: https://ngff.openmicroscopy.org/0.5/, "multiscales" and "labels". Pixel 0 of each level is
pixel 0 of the first, so no level needs a translation.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

Kind = Literal["instance", "semantic"]

FORMAT = "0.5"

_TYPES = {"T": "time", "C": "channel", "Z": "space", "Y": "space", "X": "space"}


def attributes_of(
    place: Path,
    *,
    axes: str,
    steps: Sequence[tuple[int, ...]],
    pixel_size: Mapping[str, float],
    source: str | None,
    kind: Kind,
    about: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The attributes of the group at `place`, which is named as it will be when finished.

    `steps` says of each level every how-many-th pixel of the first it takes, `pixel_size` holds
    micrometres for those of the axes that are known, `source` is the path of the image, `about`
    plain JSON that is kept under "aiod".
    """
    named = _source_of(place, source)
    return {
        "ome": {
            "version": FORMAT,
            "multiscales": [
                {
                    "name": place.name,
                    "axes": [
                        {"name": axis.lower(), "type": _TYPES[axis]}
                        | ({"unit": "micrometer"} if axis in pixel_size else {})
                        for axis in axes
                    ],
                    "datasets": _datasets(axes, steps, pixel_size),
                    "type": "nearest",
                    "metadata": {
                        "description": "Every second pixel of the level before, never averaged.",
                        **({"image": Path(source).name} if source else {}),
                    },
                }
            ],
            "image-label": {"version": FORMAT, **({"source": named} if named else {})},
        },
        "aiod": {**(about or {}), "kind": kind},
    }


def _datasets(
    axes: str, steps: Sequence[tuple[int, ...]], pixel_size: Mapping[str, float]
) -> list[dict[str, Any]]:
    """The levels, of which each takes every how-many-th pixel of the first along each axis."""
    return [
        {
            "path": str(number),
            "coordinateTransformations": [
                {
                    "type": "scale",
                    "scale": [
                        pixel_size.get(axis, 1.0) * n for axis, n in zip(axes, step, strict=True)
                    ],
                }
            ],
        }
        for number, step in enumerate(steps)
    ]


def next_factors(
    axes: str, steps: tuple[int, ...], pixel_size: Mapping[str, float]
) -> tuple[int, ...]:
    """What the next level takes every how-many-th pixel of: Y and X always every second.

    Planes too where they are known to be as close to each other as the pixels of a plane are by
    now, which makes the voxels of an anisotropic stack more even from level to level.
    """
    now = {axis: pixel_size.get(axis, 0.0) * step for axis, step in zip(axes, steps, strict=True)}
    halved = {"Y", "X"} | ({"Z"} if 0 < now.get("Z", 0.0) <= now["Y"] else set())
    return tuple(2 if axis in halved else 1 for axis in axes)


def axes_of(multiscale: Mapping[str, Any]) -> tuple[str, dict[str, float]]:
    """Axes and the pixel size of level 0 where it is given in micrometres, as we write them."""
    axes = "".join(axis["name"].upper() for axis in multiscale["axes"])
    scale = multiscale["datasets"][0]["coordinateTransformations"][0]["scale"]
    known = [axis.get("unit") == "micrometer" for axis in multiscale["axes"]]
    return axes, {a: s for a, s, k in zip(axes, scale, known, strict=True) if k}


def _source_of(place: Path, source: str | None) -> dict[str, str] | None:
    """The image as the format names it: by the way from the labels to an OME-Zarr."""
    if source is None or not any(Path(source, f).is_file() for f in ("zarr.json", ".zgroup")):
        return None
    try:
        way = os.path.relpath(Path(source).resolve(), place.resolve())
    except ValueError:  # another drive of Windows: there is no way
        return None
    return {"image": Path(way).as_posix()}
