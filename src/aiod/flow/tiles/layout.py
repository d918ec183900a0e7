"""How large tiles and halos are: asked for, stated by the model, or by a rule that is said here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from aiod.errors import UsageError
from aiod.flow.tiling import Plan
from aiod.registry.metadata import Metadata

TILE = {"YX": (1024, 1024), "ZYX": (64, 256, 256)}
"""Pixels of a tile's core where nobody says: about four million voxels at most."""
HALO = {"YX": (64, 64), "ZYX": (16, 64, 64)}
"""The halo where neither the model nor the user says anything of sizes."""
DIAMETERS = 1.5
"""The halo in object diameters where the model states a diameter but no halo."""
LONGER = 1.25
"""A tile reaches this much further at most, rather than leave a narrow rest at the far edge."""
_LARGEST = 1 << 20


def plan_for(
    shape: tuple[int, ...],
    spatial: str,
    metadata: Metadata,
    params: Mapping[str, Any],
    *,
    tile: tuple[int, ...] | None = None,
    halo: tuple[int, ...] | None = None,
) -> Plan:
    """The tiles of a frame of `shape` (axes `spatial`, in the pixels that the model sees).

    `tile` and `halo` are one number for all axes or one for each. Without them a tile is `TILE`,
    or the whole axis where that is not much longer; the halo is the model's own, in proportion to
    a `diameter` among the parameters; else `DIAMETERS` times the diameter; else `HALO`.

    Raises UsageError for a wrong number of numbers.
    """
    cores = _each(tile, spatial, "--tile") if tile else TILE[spatial]
    if tile is None:
        cores = tuple(n if n <= LONGER * t else t for n, t in zip(shape, cores, strict=True))
    margins = _each(halo, spatial, "--halo") if halo else halo_for(spatial, metadata, params)
    cores = tuple(min(n, t) for n, t in zip(shape, cores, strict=True))
    return Plan(shape, cores, tuple(min(n, h) for n, h in zip(shape, margins, strict=True)))


def halo_for(spatial: str, metadata: Metadata, params: Mapping[str, Any]) -> tuple[int, ...]:
    """The halo in pixels an axis, by the rule of :func:`plan_for`."""
    usual = metadata.object_diameter
    given = params.get("diameter")
    asked = float(given) if isinstance(given, int | float) and given > 0 else None
    if metadata.halo is not None:
        stated = metadata.halo if isinstance(metadata.halo, list) else [metadata.halo]
        halo = _each(tuple(stated), spatial, "the model's halo")
        growth = max(1.0, asked / usual) if asked and usual else 1.0
        return tuple(math.ceil(h * growth) for h in halo)
    if diameter := asked or usual:
        return (math.ceil(DIAMETERS * diameter),) * len(spatial)
    return HALO[spatial]


def parse_sizes(text: str, option: str) -> tuple[int, ...]:
    """`512` or `16,512,512` as numbers of pixels. Raises UsageError."""
    parts = text.replace("x", ",").split(",")
    try:
        sizes = tuple(int(part) for part in parts)
    except ValueError:
        sizes = ()
    least = 0 if option == "--halo" else 1
    if not sizes or any(not least <= size <= _LARGEST for size in sizes) or len(sizes) > 3:
        raise UsageError(
            f"{option} {text} is no size.",
            hint=f"{option} 512, or one number of pixels an axis: {option} 16,512,512",
        )
    return sizes


def _each(sizes: tuple[int, ...], spatial: str, what: str) -> tuple[int, ...]:
    if len(sizes) == 1:
        return sizes * len(spatial)
    if len(sizes) != len(spatial):
        raise UsageError(
            f"{what} has {len(sizes)} numbers; the model is cut along {len(spatial)} axes "
            f"({spatial}).",
            hint="give one number, or one for each of these axes",
        )
    return sizes
