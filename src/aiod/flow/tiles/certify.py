"""Is the tiled result what the whole image would have given? Random crops say how far.

A crop as large as a tile, at a random place and so across seams, is given to the model in one
piece. In its middle, where it has as much around it as a tile has, its labels are compared with
those that the joined tiles have there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from aiod.flow.results.evaluate import evaluate_instances, evaluate_semantic
from aiod.flow.source import Box, Source
from aiod.flow.tiles.job import Job, predicted, read_frame

Map = Callable[..., Iterable[Any]]
SEED = 20180901
"""Where the crops lie is random, but the same for the same image and plan."""


@dataclass(frozen=True, slots=True)
class Crop:
    """What the model sees of a frame, and the part of it that is compared."""

    frame: int
    outer: Box
    inner: Box


def crops_of(job: Job, frames: int, number: int) -> list[Crop]:
    """`number` random crops: the same each time for one plan."""
    random = np.random.default_rng(SEED)
    plan = job.plan
    crops = []
    for _ in range(number):
        frame = int(random.integers(frames))
        start = tuple(
            int(random.integers(n - t + 1)) for n, t in zip(plan.shape, plan.tile, strict=True)
        )
        inner = Box(start, tuple(a + t for a, t in zip(start, plan.tile, strict=True)))
        crops.append(Crop(frame, inner.grown(plan.halo, plan.shape), inner))
    return crops


def certify(job: Job, labels: Source, number: int, mapper: Map = map) -> dict[str, Any]:
    """The agreement of `number` random crops with `labels`, the joined tiles in model pixels.

    For objects: F1 at an intersection over union of 0.5 and of 0.9, over all crops together; for
    classes the mean Dice. Raises ModelError when the model fails on a crop.
    """
    crops = crops_of(job, len(job.frames(job.source)), number)
    found = list(mapper(partial(_agreement, job, labels), crops))
    about = {"crops": number, "size": list(job.plan.tile), "seed": SEED}
    if job.kind == "semantic":
        return {**about, "dice": float(np.mean([each[0] for each in found]))}
    names = ("objects_tiled", "objects_whole", "matched_at_0.5", "matched_at_0.9")
    tiled, whole, half, most = (int(sum(column)) for column in zip(*found, strict=True))
    both = tiled + whole
    return {
        **about,
        **dict(zip(names, (tiled, whole, half, most), strict=True)),
        "f1_at_0.5": 2 * half / both if both else 1.0,
        "f1_at_0.9": 2 * most / both if both else 1.0,
    }


def _agreement(job: Job, labels: Source, crop: Crop) -> tuple[float, ...]:
    image = read_frame(job, job.source, crop.frame, crop.outer)
    alone = predicted(job, image).labels
    alone = alone[crop.inner.seen_from(crop.outer.start).slices]
    box = job.frames(job.source).box(crop.frame, crop.inner, without="C")
    tiled = labels.read(box).reshape(alone.shape)
    if job.kind == "semantic":
        classes = evaluate_semantic(tiled, alone)
        return (float(np.mean([each.dice for each in classes] or [1.0])),)
    scores = evaluate_instances(tiled, alone)
    matched = {matching.iou: matching.matched for matching in scores.matchings}
    return scores.objects, scores.true_objects, matched[0.5], matched[0.9]
