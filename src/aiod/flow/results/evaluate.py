"""How right labels are, measured against the truth: objects found, classes covered.

Instances (:func:`evaluate_instances`). An object and a true one match where their intersection over
union (IoU) reaches a threshold. With matched, extra and missed objects - TP, FP, FN -

    precision  TP / (TP + FP)                        recall  TP / (TP + FN)
    F1         2 TP / (2 TP + FP + FN)               AP      TP / (TP + FP + FN)
    SQ         mean IoU of the matched               PQ      SQ · F1

AP is what the field calls average precision: Caicedo et al. 2019 (doi:10.1038/s41592-019-0612-7),
and with the same figures StarDist (`stardist.matching`, where it is `accuracy`) and Cellpose
(`cellpose.metrics`); it is no area below a curve of precision and recall. PQ, SQ and RQ (which is
F1) at IoU 0.5 are those of Kirillov et al. 2019 (doi:10.1109/CVPR.2019.00963).

Classes (:func:`evaluate_semantic`). Dice and IoU of each class, and how far apart the outlines are:
the Hausdorff distance and its 95th percentile, as MONAI defines them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from aiod.flow.results.overlaps import (
    EvaluationError,
    Map,
    Numbers,
    Pairs,
    blocks,
    comparable,
    frames,
    merged,
    overlaps,
    totals,
)
from aiod.flow.source import Box, Pixels, Source
from aiod.words import counted

THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
MAX_CLASSES = 64
"""More classes than this are taken for objects."""


@dataclass(frozen=True, slots=True)
class Matching:
    """Objects matched one to one where their IoU is at least `iou`; see the module for the rest.

    `mean_iou` is that of the matched objects, 0 where there are none.
    """

    iou: float
    matched: int
    extra: int
    missed: int
    mean_iou: float

    @property
    def precision(self) -> float:
        return _ratio(self.matched, self.matched + self.extra, self.empty)

    @property
    def recall(self) -> float:
        return _ratio(self.matched, self.matched + self.missed, self.empty)

    @property
    def f1(self) -> float:
        return _ratio(2 * self.matched, 2 * self.matched + self.extra + self.missed, self.empty)

    @property
    def ap(self) -> float:
        return _ratio(self.matched, self.matched + self.extra + self.missed, self.empty)

    @property
    def pq(self) -> float:
        return self.mean_iou * self.f1

    @property
    def empty(self) -> bool:
        """No object here or there: nothing was to be found, and all ratios are NaN."""
        return not (self.matched or self.extra or self.missed)


@dataclass(frozen=True, slots=True)
class InstanceScores:
    """Matchings at the thresholds 0.5, 0.55, … 0.95, and their means.

    Without any object in either image all ratios are NaN, as in Cellpose: nothing was measured.
    With objects in one image only they are 0, as in StarDist.
    """

    objects: int
    true_objects: int
    matchings: tuple[Matching, ...]

    @property
    def mean_ap(self) -> float:
        """The mean of AP over the thresholds: the score of the 2018 Data Science Bowl."""
        return math.fsum(item.ap for item in self.matchings) / len(self.matchings)

    @property
    def mean_f1(self) -> float:
        return math.fsum(item.f1 for item in self.matchings) / len(self.matchings)

    @property
    def sq(self) -> float:
        """Mean IoU of the objects matched at IoU 0.5."""
        return self.matchings[0].mean_iou

    @property
    def rq(self) -> float:
        return self.matchings[0].f1

    @property
    def pq(self) -> float:
        return self.matchings[0].pq


@dataclass(frozen=True, slots=True)
class Partners:
    """The objects of one time point: row k says that ours[k] and theirs[k] match, with iou[k].

    `extra` are those that match no true object, `missed` the true ones that no object matches.
    """

    ours: Numbers
    theirs: Numbers
    iou: Numbers
    extra: Numbers
    missed: Numbers


@dataclass(frozen=True, slots=True)
class ClassScores:
    """One class. Distances are in `unit`; NaN where one of the images lacks the class.

    `pixels` and `true_pixels` count what each image gives to the class. `hausdorff` is the largest
    distance from the outline of one to the outline of the other; `hausdorff_95` is the larger of
    the 95th percentiles there and back.
    """

    number: int
    pixels: int
    true_pixels: int
    dice: float
    iou: float
    hausdorff: float
    hausdorff_95: float
    unit: str


def evaluate_instances(
    labels: Source | Pixels, truth: Source | Pixels, *, mapper: Map = map
) -> InstanceScores:
    """Compare objects with true ones; axes of TZYX, integers, 0 is the background.

    Arrays of two, three or four axes are YX, ZYX and TZYX. Both are read block by block; memory
    is bounded by the number of objects. In each time point numbers stand for themselves. At an
    IoU above 0.5 no object has two partners; two halves of exactly 0.5 count as one match, as in
    `stardist.matching`. Raises EvaluationError.

    >>> one = np.array([[1, 1, 0, 2]])
    >>> evaluate_instances(one, np.array([[7, 7, 7, 0]])).matchings[0]
    Matching(iou=0.5, matched=1, extra=1, missed=0, mean_iou=0.6666666666666666)
    """
    found = partners(labels, truth, mapper=mapper)
    objects = sum(len(item.ours) + len(item.extra) for item in found)
    true_objects = sum(len(item.theirs) + len(item.missed) for item in found)
    ious = np.concatenate([item.iou for item in found])
    matchings = []
    for threshold in THRESHOLDS:
        good = ious[ious >= threshold]
        mean = float(good.mean()) if good.size else 0.0
        counts = (good.size, objects - good.size, true_objects - good.size)
        matchings.append(Matching(threshold, *counts, mean))
    return InstanceScores(objects, true_objects, tuple(matchings))


def partners(
    labels: Source | Pixels, truth: Source | Pixels, *, iou: float = 0.5, mapper: Map = map
) -> tuple[Partners, ...]:
    """Which objects match, at an IoU of at least 0.5, in each time point.

    Axes, numbers and matches are those of :func:`evaluate_instances`. Raises EvaluationError.

    >>> (found,) = partners(np.array([[1, 1, 0, 2]]), np.array([[7, 7, 7, 0]]))
    >>> found.ours.tolist(), found.theirs.tolist(), found.extra.tolist(), found.missed.tolist()
    ([1], [7], [2], [])
    """
    if iou < THRESHOLDS[0]:
        raise ValueError(f"below an IoU of {THRESHOLDS[0]} an object may have several partners")
    labels, truth = comparable(labels, truth)
    return tuple(_partners_in(labels, truth, frame, iou, mapper) for frame in frames(labels))


def evaluate_semantic(
    labels: Source | Pixels, truth: Source | Pixels, *, mapper: Map = map
) -> tuple[ClassScores, ...]:
    """Compare classes, pixel by pixel; axes and numbers as in :func:`evaluate_instances`.

    Distances are micrometres where one of the two knows the pixel size of all its axes Z, Y and X
    (the labels are asked first), else pixels. They run between outlines: the pixels of a class with
    a face on another class or on the edge of the image. They are taken within each time point, and
    memory is bounded by the length of the outlines. Raises EvaluationError.
    """
    labels, truth = comparable(labels, truth)
    spatial = labels.axes.replace("T", "")
    size = next((s.pixel_size for s in (labels, truth) if set(spatial) <= set(s.pixel_size)), None)
    scale = np.array([size[axis] for axis in spatial] if size else [1.0] * len(spatial))
    tables = [overlaps(labels, truth, frame, mapper) for frame in frames(labels)]
    pairs = merged(tables)
    classes = np.union1d(pairs.ours, pairs.theirs)
    classes = classes[classes > 0]
    if classes.size > MAX_CLASSES:
        raise EvaluationError(
            f"There are {counted(classes.size, 'class', 'classes')}, at most {MAX_CLASSES} make "
            "sense: these numbers look like objects.",
            hint="compare them as objects, without --semantic",
        )
    scores = []
    for number in classes:
        ours, theirs = pairs.ours == number, pairs.theirs == number
        count, true_count = int(pairs.pixels[ours].sum()), int(pairs.pixels[theirs].sum())
        shared = int(pairs.pixels[ours & theirs].sum())
        largest, most = _hausdorff(labels, truth, int(number), scale, mapper)
        scores.append(
            ClassScores(
                number=int(number),
                pixels=count,
                true_pixels=true_count,
                dice=2 * shared / (count + true_count),
                iou=shared / (count + true_count - shared),
                hausdorff=largest,
                hausdorff_95=most,
                unit="µm" if size else "pixels",
            )
        )
    return tuple(scores)


def _ratio(part: float, whole: float, empty: bool) -> float:
    return math.nan if empty else part / whole if whole else 0.0


# --- steps ---------------------------------------------------------------------------------------


def _partners_in(labels: Source, truth: Source, frame: Box, least: float, mapper: Map) -> Partners:
    pairs = overlaps(labels, truth, frame, mapper)
    ours, areas = totals(pairs.ours, pairs.pixels)
    theirs, true_areas = totals(pairs.theirs, pairs.pixels)
    both = pairs.of((pairs.ours > 0) & (pairs.theirs > 0))
    area = areas[np.searchsorted(ours, both.ours)]
    true_area = true_areas[np.searchsorted(theirs, both.theirs)]
    iou = both.pixels / (area + true_area - both.pixels)
    good = np.flatnonzero(iou >= least)
    good = good[_one_to_one(both.of(good))]
    matched, true_matched = both.ours[good], both.theirs[good]
    return Partners(
        ours=matched,
        theirs=true_matched,
        iou=iou[good],
        extra=np.setdiff1d(ours[ours > 0], matched),
        missed=np.setdiff1d(theirs[theirs > 0], true_matched),
    )


def _one_to_one(pairs: Pairs) -> Numbers:
    """Which of the pairs are matches.

    Two partners of one object can both reach 0.5 only where they are its exact halves; then they
    have no other partner, and the first is as good as the second.
    """
    _, first = np.unique(pairs.ours, return_index=True)
    _, second = np.unique(pairs.theirs[first], return_index=True)
    matched: Numbers = first[second]
    return matched


# --- distances ------------------------------------------------------------------------------------


def _hausdorff(
    labels: Source, truth: Source, number: int, scale: Numbers, mapper: Map
) -> tuple[float, float]:
    """The largest distance between the outlines of a class, and the 95th percentile."""
    there: list[Numbers] = []
    back: list[Numbers] = []
    for frame in frames(labels):
        ours = _outline(labels, number, frame, mapper) * scale
        theirs = _outline(truth, number, frame, mapper) * scale
        if len(ours) and len(theirs):
            there.append(cKDTree(theirs).query(ours, workers=-1)[0])
            back.append(cKDTree(ours).query(theirs, workers=-1)[0])
        elif len(ours) or len(theirs):
            return math.nan, math.nan
    ways = (np.concatenate(there), np.concatenate(back))
    return (
        max(float(way.max()) for way in ways),
        max(float(np.percentile(way, 95)) for way in ways),
    )


def _outline(source: Source, number: int, frame: Box, mapper: Map) -> Numbers:
    """Positions, pixels along the spatial axes, of the pixels on the outline of a class."""
    found = list(mapper(partial(_outline_in, source, number, frame), blocks(source.axes, frame)))
    return np.concatenate(found)


def _outline_in(source: Source, number: int, frame: Box, box: Box) -> Numbers:
    margin = tuple(int(axis != "T") for axis in source.axes)
    around = box.grown(margin, source.shape).within(frame)
    inside = source.read(around) == number
    first = 1 if "T" in source.axes else 0
    inside = inside.reshape(around.shape[first:])
    edge = inside & ~ndimage.binary_erosion(inside)
    inner = box.seen_from(around.start).slices[first:]
    found: Numbers = np.argwhere(edge[inner]) + np.array(box.start[first:])
    return found
