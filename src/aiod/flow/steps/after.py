"""What may be done to masks after a model: one function a step, its signature its form.

Each step acts on objects: labels in one frame of the axes `spatial`, whole objects whatever tiles
they lie in. The result is that of the step on the whole label image, whatever the plan:

- Nothing ever takes a pixel of another object. `fill_holes` and `smooth` only take background.
- Pixels hang together by faces and corners in objects, by faces alone in the background.
- An axis of one pixel has no border; objects at the border are not open there for `smooth`, for
  which the image is mirrored.

Memory: some tiles for each worker, and for the host a few numbers for each object and each piece
of background. What is in between is kept on disk, compressed.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import zarr

from aiod.errors import UsageError
from aiod.flow.source import Box, Pixels, Source
from aiod.flow.steps.calls import Bounds, StepCall, parse_call
from aiod.flow.steps.histogram import Map
from aiod.flow.steps.majority import smoothed
from aiod.flow.steps.mirror import read_mirrored
from aiod.flow.steps.regions import enclosing, regions_of
from aiod.flow.steps.tables import (
    AXIAL_BORDER,
    LATERAL_BORDER,
    Cut,
    Integers,
    Objects,
    Tally,
    dtype_for,
    keep,
    objects_of,
    read_array,
    space_in,
    tally,
    together,
)
from aiod.flow.tiling import Plan

Unit = Annotated[Literal["px", "um"], "px: pixels (voxels); um: µm² (µm³), from the pixel size"]
Size = Annotated[float, Bounds(minimum=0), "how large, in the unit"]


def fill_holes(objects: Objects) -> Objects:
    """Background that a piece of an object encloses becomes that object's; the innermost has it.

    Enclosed is what cannot be reached from the border of the image without going through that
    piece, be it through other objects, which stay as they are.
    """
    regions = regions_of(objects, background=True)
    hole = (regions.objects == 0) & (regions.borders == 0)
    if not hole.any():
        return objects
    host = enclosing(regions)
    filled = hole & (host >= 0)
    table = regions.objects.copy()
    table[filled] = regions.objects[host[filled]]
    sizes = objects.sizes.copy()
    np.add.at(sizes, table[filled], regions.sizes[filled])
    return replace(objects, labels=regions.labelled(objects.labels, table), sizes=sizes)


def components(objects: Objects) -> Objects:
    """Each connected piece of an object becomes an object of its own."""
    regions = regions_of(objects, background=False)
    none: Integers = np.zeros(1, np.int64)
    return replace(
        objects,
        labels=regions.labelled(objects.labels, np.arange(1, len(regions.sizes) + 1)),
        sizes=np.concatenate([none, regions.sizes]),
        first=np.concatenate([none, regions.first]),
        borders=np.concatenate([none.astype(np.uint8), regions.borders]),
    )


def smooth(
    objects: Objects,
    *,
    radius: Annotated[int, Bounds(1, 20), "pixels; details smaller than this go"] = 2,
) -> Objects:
    """Outlines smoothed by the majority of the pixels within a disk (a ball in 3D).

    A pixel is lost to the background, or won from it, where that has more than half of the disk. An
    object of which nothing would be left stays as it is. A thin bridge may break: `components`
    after it makes objects of the pieces.
    """
    array = objects.array("smooth")
    cut, count = objects.cut, len(objects.sizes)
    found: list[Tally] = list(
        objects.each_tile(partial(_smooth_tile, cut, objects.labels, array, radius))
    )
    sizes, first, borders = together(
        np.concatenate([part.labels for part in found]),
        np.concatenate([part.sizes for part in found]),
        np.concatenate([part.first for part in found]),
        np.concatenate([part.borders for part in found]),
        count,
    )
    gone = sizes == 0
    gone[0] = False
    before = objects.labels
    return replace(
        objects,
        labels=replace(before, dtype=array.dtype, read=_Smoothed(before, array, gone)),
        sizes=np.where(gone, objects.sizes, sizes),
        first=np.where(gone, objects.first, first),
        borders=np.where(gone, objects.borders, borders),
    )


def min_size(objects: Objects, *, size: Size, unit: Unit = "px") -> Objects:
    """Objects that are smaller go."""
    return objects.kept(objects.sizes[1:] * _pixel_volume(objects, unit) >= size)


def max_size(objects: Objects, *, size: Size, unit: Unit = "px") -> Objects:
    """Objects that are larger go."""
    return objects.kept(objects.sizes[1:] * _pixel_volume(objects, unit) <= size)


def clear_border(
    objects: Objects,
    *,
    z: Annotated[bool, "also those that touch the first or the last plane"] = False,
) -> Objects:
    """Objects that touch the border of the image along Y or X go."""
    borders = LATERAL_BORDER | (AXIAL_BORDER if z else 0)
    return objects.kept((objects.borders[1:] & borders) == 0)


@dataclass(frozen=True, slots=True)
class LabelStep:
    """How a step on labels is used; `check` says why parameters do not go together."""

    function: Callable[..., Objects]
    check: Callable[..., str | None] | None = None


AFTER: dict[str, LabelStep] = {
    function.__name__: LabelStep(function)
    for function in (clear_border, components, fill_holes, max_size, min_size, smooth)
}
"""The steps on labels there are, by the names they are called with."""


def parse_after(text: str) -> StepCall:
    """A step on labels as it is written on a command line, such as `min_size:50`.

    Raises UsageError, which says what was expected and lists the valid names.
    """
    return parse_call(text, AFTER, what="step on labels")


def apply_after(
    labels: Source,
    calls: Sequence[StepCall],
    *,
    spatial: str,
    plan: Plan,
    write: Callable[[Box, Pixels], Any],
    mapper: Map = map,
    scratch: Path | None = None,
) -> int:
    """Do the steps to a label image and write the result; returns the number of objects.

    Parameters
    ----------
    labels
        Integers that are not negative, 0 for background. A label in one frame is one object; the
        same label in two frames is two. Its `pixel_size` is what sizes in µm need.
    spatial
        The last axes of the labels, in which objects lie: "YX" or "ZYX".
    plan
        How a frame is cut into tiles: of the shape of the spatial axes. No halo is needed.
    write
        Gets the core of each tile, as a box of all axes, and its labels: uint32 (uint64 where that
        is too small), 1…N without gaps in the order of first pixels, over all frames. It is called
        once a tile, through `mapper`, so perhaps by several threads.
    mapper
        Like the builtin `map`, results in order; what it is given can be pickled if the source and
        `write` can be.
    scratch
        A folder for temporary files; that of the system if None.

    Raises UsageError for a step that cannot be done to these labels, AiodError when the disk is
    full, and whatever `labels.read` and `write` raise.
    """
    cut = Cut(labels.shape, spatial, plan)
    if labels.axes[-len(spatial) :] != spatial or labels.shape[len(cut.lead) :] != plan.shape:
        raise ValueError(f"{spatial} of {plan.shape} in labels of {labels.axes}, {labels.shape}")
    with space_in(scratch or Path(tempfile.gettempdir())):
        temporary = tempfile.TemporaryDirectory(prefix="aiod-labels-", dir=scratch)
    with temporary as folder:
        objects = objects_of(labels, cut, Path(folder), mapper)
        for call in calls:
            objects = AFTER[call.name].function(objects, **call.params)
        objects = objects.in_order()
        dtype = dtype_for(len(objects) + 1)
        for _ in objects.each_tile(partial(_write_tile, cut, objects.labels, dtype, write)):
            pass
    return len(objects)


def _write_tile(
    cut: Cut, labels: Source, dtype: np.dtype[Any], write: Callable[[Box, Pixels], Any], place: int
) -> None:
    box = cut.core(place)
    write(box, np.asarray(labels.read(box)).astype(dtype, copy=False))


def _smooth_tile(
    cut: Cut, labels: Source, array: zarr.Array[Any], radius: int, place: int
) -> Tally:
    box = cut.core(place)
    lead = len(cut.lead)
    margin = (0,) * lead + (radius,) * len(cut.axes)
    wide = Box(
        tuple(a - m for a, m in zip(box.start, margin, strict=True)),
        tuple(b + m for b, m in zip(box.stop, margin, strict=True)),
    )
    pixels = read_mirrored(labels, wide)
    result = smoothed(pixels.reshape(pixels.shape[lead:]), radius)
    keep(array, box, result)
    return tally(cut, box, result)


@dataclass(frozen=True, slots=True)
class _Smoothed:
    """Smoothed labels, but for the objects that are `gone` those of before."""

    before: Source
    array: zarr.Array[Any]
    gone: np.ndarray[Any, np.dtype[np.bool_]]

    def __call__(self, box: Box) -> Pixels:
        now = read_array(self.array, box)
        if not self.gone.any():
            return now
        before = self.before.read(box)
        return np.where(self.gone[before], before.astype(now.dtype), now)


def _pixel_volume(objects: Objects, unit: str) -> float:
    """What one pixel of the axes of objects measures in a unit."""
    if unit == "px":
        return 1.0
    known: Mapping[str, float] = objects.labels.pixel_size
    if missing := [axis for axis in objects.cut.axes if axis not in known]:
        raise UsageError(
            f"Sizes in µm need the pixel size, which is not known along {', '.join(missing)}.",
            hint="give it with --pixel-size, or the size in pixels (unit=px)",
        )
    return math.prod(known[axis] for axis in objects.cut.axes)
