"""Labels in memory: checked, and taken one time point at a time.

Labels are arrays of whole numbers, 0 for background, with axes YX or ZYX. The same number in two
time points is two objects, so everything here but `relabel` acts on one time point by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiod.errors import UsageError
from aiod.flow.source import Box, Pixels, Source
from aiod.flow.tiles.stitch import compact
from aiod.words import counted, listing

Numbers = NDArray[Any]


def checked(labels: Pixels, *, name: str = "These labels") -> Pixels:
    """The labels as they are. Raises UsageError for an array that holds none."""
    if labels.dtype.kind not in "ui":
        raise UsageError(
            f"{name} hold numbers of the type {labels.dtype}, and labels are whole numbers.",
            hint="choose labels, not the image",
        )
    if labels.ndim not in (2, 3):
        raise UsageError(
            f"{name} have {counted(labels.ndim, 'axis', 'axes')}; two (YX) or three (ZYX) were "
            "expected, and time before them.",
            hint="choose labels without channels",
        )
    if 0 in labels.shape:
        raise UsageError(f"{name} hold no pixels.", hint="choose labels of an image")
    if labels.dtype.kind == "i" and (least := int(labels.min())) < 0:
        raise UsageError(
            f"{name} hold the number {least}, and labels are 0 or more.",
            hint="give labels of which 0 is the background",
        )
    return labels


def each_time(function: Callable[..., Pixels], *arrays: Pixels, axes: str) -> Pixels:
    """What a function makes of each time point of arrays of the same axes, put together again.

    Raises UsageError for arrays of different numbers of time points.
    """
    if not axes.startswith("T"):
        return function(*arrays)
    if len(lengths := sorted({len(array) for array in arrays})) > 1:
        raise UsageError(
            f"The layers have {listing(map(str, lengths), 'and')} time points.",
            hint="choose layers of the same image",
        )
    return np.stack([function(*frames) for frames in zip(*arrays, strict=True)])


def numbered(labels: Pixels) -> tuple[Pixels, Numbers]:
    """Labels as 1…n in the order of their numbers, and the number that each had (0 of 0)."""
    found, count = compact(labels, Box.whole(labels.shape))
    names = np.zeros(count + 1, labels.dtype)
    row, numbers = labels.reshape(-1), found.reshape(-1)
    ends = np.append(np.flatnonzero(numbers[1:] != numbers[:-1]), numbers.size - 1)
    names[numbers[ends]] = row[ends]  # numbers come in runs, of which there are few
    return found, names


def source_of(labels: Pixels, pixel_size: Mapping[str, float] | None = None) -> Source:
    """Labels of one time point as what the pipeline reads."""
    axes = "ZYX"[-labels.ndim :]
    return Source(axes, labels.shape, labels.dtype, partial(_part, labels), dict(pixel_size or {}))


def _part(labels: Pixels, box: Box) -> Pixels:
    return labels[box.slices]


def looked_up(labels: Pixels, compacted: Pixels, table: Numbers) -> Pixels:
    """The numbers that a table gives to `compacted`, in the labels' type or a larger one."""
    wide = np.promote_types(labels.dtype, np.min_scalar_type(int(table.max(initial=0))))
    numbers = table.astype(wide if wide.kind in "ui" else np.uint64)
    return numbers.take(compacted)  # which, unlike an index, lets other threads run


def spacing(axes: str, pixel_size: Mapping[str, float] | None, unit: str) -> tuple[float, ...]:
    """The size of a pixel along axes, in a unit: px or um. Raises UsageError."""
    if unit == "px":
        return (1.0,) * len(axes)
    known = pixel_size or {}
    if missing := [axis for axis in axes if axis not in known]:
        raise UsageError(
            f"Sizes in µm need the pixel size, which is not known along {listing(missing, 'and')}.",
            hint="give the layer a scale in µm, or the size in pixels (px)",
        )
    return tuple(known[axis] for axis in axes)
