"""How much the pipeline adds to the models it runs: ratios measured in one run, on this machine.

    python benchmarks/pipeline.py

The toy model waits a given time a tile, as for a GPU, and answers with true cells, so that what is
measured is the pipeline: reading, tiles to and from the worker, joining, writing.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from figures import Figure
from numpy.typing import NDArray

SIDE = 26
"""Pixels of a cell's side: 315 x 315 cells on 8,192 x 8,192."""
IMAGE = 8192
TILE = 256
LIMIT = 240.0
"""Seconds after which dask-image is waited for no longer: it takes far more for 256 chunks."""
TURNS = 3
WORKERS = 2

RUNNER = f'''# /// script
# requires-python = ">=3.11"
# dependencies = ["appose>=0.12", "numpy=={np.__version__}"]
# ///
"""Waits, and finds the cells that the pixels are numbered by."""

import time

import numpy as np


def load(weights, *, config, device):
    return None


def predict(model, image, *, axes, wait=0.0, started=""):
    if started:
        with open(started, "x") as file:
            file.write(repr(time.time()))
    time.sleep(wait)
    return image.astype(np.int32)
'''


def figures() -> Iterator[Figure]:
    """Every figure of the pipeline."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lab = make_lab(folder / "lab")
        world = {**os.environ, "AIOD_CACHE": str(folder / "cache"), "AIOD_REGISTRIES": str(lab)}
        image = folder / "cells.tif"
        cells = grid(IMAGE)
        tifffile.imwrite(image, (cells % 60_000 + 1).astype(np.uint16), tile=(TILE, TILE))
        yield from first_tile(folder, image, world)
        yield from tiles(folder, image, world)
        yield from stitching(cells)


def make_lab(folder: Path) -> Path:
    (folder / "manifests").mkdir(parents=True)
    (folder / "runners").mkdir()
    (folder / "runners" / "waits.py").write_text(RUNNER)
    task = {"nuclei": {"weights": False}}
    manifest = {
        "name": "Waits",
        "short_name": "waits",
        "metadata": {"description": "Waits.", "halo": 32},
        "versions": {"v1": {"axes": "YX", "tasks": task}},
        "params": [{"name": "wait", "value": 0.0}, {"name": "started", "value": ""}],
    }
    (folder / "manifests" / "waits.json").write_text(json.dumps(manifest))
    return folder


def grid(side: int) -> NDArray[np.uint32]:
    """Square cells that touch: 99,225 on 8,192 x 8,192 pixels."""
    at = np.arange(side, dtype=np.uint32) // SIDE
    result: NDArray[np.uint32] = at[:, None] * (at[-1] + 1) + at[None] + 1
    return result


def run(
    folder: Path, image: Path, world: dict[str, str], **params: Any
) -> tuple[dict[str, Any], float]:
    """One whole command in a process of its own: its record and its seconds."""
    out = Path(tempfile.mkdtemp(dir=folder))
    options = [word for key, value in params.items() for word in ("--param", f"{key}={value}")]
    aiod = str(Path(sys.executable).with_name("aiod"))
    command = [aiod, "run", "waits", str(image), "-o", str(out), "--json"]
    start = time.perf_counter()
    done = subprocess.run(
        [*command, "--tile", str(TILE), "--workers", str(WORKERS), *options],
        env=world,
        capture_output=True,
        text=True,
        check=True,
    )
    seconds = time.perf_counter() - start
    record: dict[str, Any] = json.loads(done.stdout)
    return record, seconds


def first_tile(folder: Path, image: Path, world: dict[str, str]) -> Iterator[Figure]:
    small = folder / "small.tif"
    tifffile.imwrite(small, tifffile.imread(image)[:TILE, :TILE])
    run(folder, small, world)  # builds the environment, and Python's own caches
    waits = []
    for turn in range(2 * TURNS + 1):
        started = folder / f"started{turn}"
        begun = time.time()
        run(folder, small, world, started=started)
        waits.append(float(started.read_text()) - begun)
    seconds = statistics.median(waits)
    yield Figure(
        "`aiod run`, environment warm: seconds before its first tile", seconds, 3.0,
        f"{seconds:.2f} s", f"{min(waits):.2f}–{max(waits):.2f} s",
    )  # fmt: skip


def tiles(folder: Path, image: Path, world: dict[str, str]) -> Iterator[Figure]:
    number = (IMAGE // TILE) ** 2
    ratios, wholes, overheads = [], [], []
    for _ in range(TURNS):
        record, seconds = run(folder, image, world, wait=0.05)
        made = record["images"][0]
        ratios.append(made["seconds"] / (made["predict_seconds"] / WORKERS))
        wholes.append(seconds / (made["predict_seconds"] / WORKERS))
        record, _ = run(folder, image, world)
        made = record["images"][0]
        overheads.append(made["seconds"] / number * 1000)
    predict = f"{number} × 50 ms / {WORKERS}"
    yield Figure(
        f"an image of {number} tiles, model 50 ms a tile: time / (sum of predict / workers)",
        statistics.median(ratios), 1.15, f"{statistics.median(ratios):.2f} x", predict,
    )  # fmt: skip
    yield Figure(
        "the same, the whole command: with its start (the first row) and the picture",
        statistics.median(wholes), 1.15, f"{statistics.median(wholes):.2f} x", predict,
    )  # fmt: skip
    large = folder / "large.tif"
    tifffile.imwrite(large, np.tile(tifffile.imread(image), (2, 2)), tile=(TILE, TILE))
    record, seconds = run(folder, large, world, wait=0.05)
    large.unlink()
    whole = seconds / (record["images"][0]["predict_seconds"] / WORKERS)
    yield Figure(
        f"the whole command for an image of {4 * number} tiles, once",
        whole, 1.15, f"{whole:.2f} x", f"{4 * number} × 50 ms / {WORKERS}",
    )  # fmt: skip
    yield Figure(
        f"an image of {number} tiles, model 0 ms a tile: milliseconds a tile",
        statistics.median(overheads), 10.0, f"{statistics.median(overheads):.1f} ms", "0 ms",
    )  # fmt: skip


def stitching(cells: NDArray[np.uint32]) -> Iterator[Figure]:
    """Joining alone, in memory and in one process, beside two libraries on the whole image."""
    from skimage.measure import label

    from aiod.flow.tiles.stitch import join
    from aiod.flow.tiling import Plan

    mask = apart()
    whole = timed(lambda: label(mask, connectivity=2), TURNS)
    objects = len(np.unique(cells))
    for side in (IMAGE // 4, IMAGE // 16):
        plan = Plan(cells.shape, (side, side), (32, 32))
        views = [cells[tile.outer.slices] for tile in plan]
        if join(plan, views)[1] != objects:
            raise SystemExit(f"not {objects} objects from {len(plan)} tiles")
        ours = timed(partial(join, plan, views), TURNS)
        name = f"joining {objects:,} touching cells on {IMAGE:,} × {IMAGE:,} from {len(plan)} tiles"
        yield Figure(
            f"{name} / scikit-image `label` of a mask with gaps, whole", ours / whole, None,
            f"{ours:.2f} s", f"{whole:.2f} s",
        )  # fmt: skip
        theirs = within(LIMIT, dask_image, side)
        beside = f"{theirs:.2f} s" if theirs is not None else f"not done after {LIMIT:.0f} s"
        yield Figure(
            f"{name} / dask-image `label` of that mask in as many chunks", ours / (theirs or LIMIT),
            None, f"{ours:.2f} s", beside,
        )  # fmt: skip


def apart() -> NDArray[np.bool_]:
    """The cells as labelling by touching needs them: with a line of background between them."""
    inside = np.ones(SIDE, bool)
    inside[0] = False
    lines = np.resize(inside, IMAGE)
    mask: NDArray[np.bool_] = lines[:, None] & lines[None]
    return mask


def dask_image(side: int) -> float:
    """Seconds that dask-image takes for chunks of that side."""
    import dask.array
    from dask_image.ndmeasure import label

    blocks = dask.array.from_array(apart(), chunks=side)
    return timed(lambda: label(blocks, np.ones((3, 3)))[0].compute(), 1)


def within(seconds: float, work: Callable[[int], float], side: int) -> float | None:
    """What some work in a process of its own gives; None where it takes longer."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        try:
            return pool.apply_async(work, [side]).get(seconds)
        except multiprocessing.TimeoutError:
            return None


def timed(work: Callable[[], object], turns: int) -> float:
    """The median of some turns, in seconds."""
    taken = []
    for _ in range(turns):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


if __name__ == "__main__":
    for figure in figures():
        print(figure.row(), flush=True)
