"""How fast models were here, so that a plan can say about how long a run will take.

A small file for each model, profile and device that was asked for lies in the cache, beside the
weights. It says what the last run or preview took; nothing but such sentences depends on it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from aiod.errors import AiodError
from aiod.files import read_bytes, write_atomically
from aiod.flow.request import Settled
from aiod.flow.tiles.job import Finished, Place
from aiod.flow.tiling import Plan
from aiod.registry.settings import cache_folder

_FOLDER = "speeds"
_MOST_BYTES = 10_000
_MOST_TILES = 1000
"""Tiles that are looked at to learn a speed."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What a model took: `seconds` of one worker for a million pixels of tiles with their halos."""

    seconds: float
    device: str

    def of(self, pixels: int, workers: int) -> float:
        """Seconds for so many pixels of tiles with their halos, by some workers at a time."""
        return self.seconds * pixels / 1e6 / workers


def remember(settled: Settled, device: str, plan: Plan, tiles: Mapping[Place, Finished]) -> None:
    """Keep what tiles took: that of the one in the middle, as the first may take longer."""
    each = [
        tile.block.seconds / math.prod(plan[place.tile].outer.shape)
        for place, tile in islice(tiles.items(), _MOST_TILES)
    ]
    if not each:
        return
    told = {"seconds": 1e6 * statistics.median(each), "device": device, "model": settled.model.id}
    path = _path(settled)
    with contextlib.suppress(OSError, AiodError):  # a cache that is only read is none the worse
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(told) + "\n")


def recall(settled: Settled) -> Speed | None:
    """What the last run or preview took; None where nothing is known."""
    with contextlib.suppress(OSError, AiodError, ValueError, TypeError, KeyError):
        told = json.loads(read_bytes(_path(settled), limit=_MOST_BYTES))
        seconds, device = float(told["seconds"]), told["device"]
        if math.isfinite(seconds) and seconds >= 0 and isinstance(device, str):
            return Speed(seconds, device)
    return None


def _path(settled: Settled) -> Path:
    request = settled.request
    key = json.dumps([settled.model.id, request.profile, request.device])
    return cache_folder() / _FOLDER / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
