"""Measures of objects, taken box by box: what each box saw of an object is added up.

    box 1 |  box 2            count, sums and corners of the two parts, put together, are those
     +----|-----+             of the object in the whole image, whatever the boxes
     |  7 | 7   |
     +----|-----+

Sums of whole numbers are exact up to 2**53, so area, bounding box, centroid and the mean
intensity of an integer image are what `skimage.measure.regionprops` finds in the whole image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiod.flow.source import Box, Pixels, Source

Whole = NDArray[np.int64]
Real = NDArray[np.float64]

_BLOCK = {"T": 1, "Z": 16, "Y": 1024, "X": 1024}


@dataclass(frozen=True, slots=True)
class Objects:
    """One row an object, ordered by frame and then by id.

    `frames` gives, for T and for Z where planes are apart, the index at which an object stands;
    `axes` are the other axes of n objects in d dimensions, along which it extends. `start` and
    `stop` (n, d) are the bounding box in pixels, `stop` the first outside; `centroid` (n, d) is in
    pixels, whole numbers being the middle of a pixel; `count` (n) is its pixels. `means` has a
    column (n) for each channel of the image. `pixel_size` holds micrometres where they are known.
    """

    axes: str
    frames: Mapping[str, Whole]
    ids: Whole
    count: Whole
    start: Whole
    stop: Whole
    centroid: Real
    means: Mapping[str, Real]
    pixel_size: Mapping[str, float]

    def __len__(self) -> int:
        return len(self.ids)

    def columns(self) -> dict[str, NDArray[Any]]:
        """The table as people read it: physical units where the pixel size is known.

        Names say the unit: `area_um2`, or `area_px` where the pixel size is not known; `volume_um3`
        in three dimensions. A position is its number of pixels times the pixel size.
        """
        table: dict[str, NDArray[Any]] = {"id": self.ids}
        table |= {axis.lower(): index for axis, index in self.frames.items()}
        measure, power = ("volume", 3) if len(self.axes) > 2 else ("area", 2)
        if all(axis in self.pixel_size for axis in self.axes):
            size = np.prod([self.pixel_size[axis] for axis in self.axes])
            table[f"{measure}_um{power}"] = self.count * size
        else:
            table[f"{measure}_px"] = self.count
        for name, places in (
            ("centroid", self.centroid),
            ("bbox_min", self.start),
            ("bbox_max", self.stop),
        ):
            for number, axis in enumerate(self.axes):
                unit = "um" if axis in self.pixel_size else "px"
                column = places[:, number] * self.pixel_size.get(axis, 1)
                table[f"{name}_{axis.lower()}_{unit}"] = column
        return table | {f"mean_{channel}": means for channel, means in self.means.items()}


def measure_objects(
    labels: Source,
    image: Source | None = None,
    *,
    channels: Sequence[str] = (),
    planes_apart: bool = False,
    boxes: Iterable[Box] | None = None,
    mapper: Callable[..., Iterable[Any]] = map,
) -> Objects:
    """Area, bounding box, centroid and, with `image`, mean intensity of every object.

    `labels` has axes of TZYX, 0 is the background. An object never extends over time points, nor
    over planes where they are `planes_apart` (a 2D model on a stack): the same number in two of
    them is two objects. A single plane has areas, not volumes. `image` has the same axes and sizes
    and may have C; `channels` are their names. `boxes` cover the labels without overlap, such as
    the cores of a plan; each is read by itself, in parallel if `mapper` does so.
    """
    apart = "TZ" if planes_apart or labels.sizes.get("Z") == 1 else "T"
    if image is not None and _sizes_without_channels(image) != labels.sizes:
        raise ValueError(f"labels of {labels.sizes} do not fit an image of {image.sizes}")
    names = _channel_names(image, channels)
    chosen = boxes if boxes is not None else _blocks(labels)
    parts = list(mapper(partial(_measure, labels, image, apart), chosen))
    frames = [axis for axis in labels.axes if axis in apart]
    axes = "".join(axis for axis in labels.axes if axis not in apart)
    whole, sums = _combined(parts, len(frames), len(axes), len(names))
    keys, rest = whole[:, : len(frames) + 1], whole[:, len(frames) + 1 :]
    count, (start, stop, places) = rest[:, 0], np.split(rest[:, 1:], 3, axis=1)
    return Objects(
        axes=axes,
        frames={axis: keys[:, number] for number, axis in enumerate(frames)},
        ids=keys[:, -1],
        count=count,
        start=start,
        stop=stop,
        centroid=places / count[:, None],
        means={name: sums[:, number] / count for number, name in enumerate(names)},
        pixel_size={a: labels.pixel_size[a] for a in axes if a in labels.pixel_size},
    )


def _sizes_without_channels(image: Source) -> dict[str, int]:
    return {axis: size for axis, size in image.sizes.items() if axis != "C"}


def _channel_names(image: Source | None, channels: Sequence[str]) -> list[str]:
    """A column's name for each channel, no two alike; a channel without a name gets its number."""
    if image is None:
        return []
    names: list[str] = []
    for number in range(image.sizes.get("C", 1)):
        given = channels[number].strip() if number < len(channels) else ""
        name = f"intensity_{given or number + 1}" if "C" in image.axes or given else "intensity"
        names.append(name if name not in names else f"{name}_{number + 1}")
    return names


def _blocks(labels: Source) -> Iterable[Box]:
    steps = [_BLOCK[axis] for axis in labels.axes]
    for start in product(*(range(0, n, s) for n, s in zip(labels.shape, steps, strict=True))):
        stop = map(min, map(int.__add__, start, steps), labels.shape)
        yield Box(start, tuple(stop))


def _measure(labels: Source, image: Source | None, apart: str, box: Box) -> tuple[Whole, Real]:
    """What one box holds: a row a part of an object, as `_combined` wants them."""
    pixels = labels.read(box)
    values = None
    if image is not None:
        values = image.read(_with_channels(box, image))
        at = image.axes.find("C")
        values = values[None] if at < 0 else np.moveaxis(values, at, 0)
    frames = [n for n, axis in enumerate(labels.axes) if axis in apart]
    within = [n for n in range(len(box.start)) if n not in frames]
    rows = []
    for place in np.ndindex(*(pixels.shape[n] for n in frames)):
        chosen: list[Any] = [slice(None)] * pixels.ndim
        for n, index in zip(frames, place, strict=True):
            chosen[n] = index
        index_of_frame = [box.start[n] + i for n, i in zip(frames, place, strict=True)]
        rows.append(
            _measure_frame(
                pixels[tuple(chosen)],
                None if values is None else values[(slice(None), *chosen)],
                index_of_frame,
                np.array([box.start[n] for n in within]),
            )
        )
    return np.concatenate([a for a, _ in rows]), np.concatenate([b for _, b in rows])


def _measure_frame(
    pixels: Pixels, values: Pixels | None, frame: list[int], origin: Whole
) -> tuple[Whole, Real]:
    ids, compact = _numbered(pixels)
    n, d = len(ids), pixels.ndim
    channels = 0 if values is None else len(values)
    rows = np.empty((n, len(frame) + 2 + 3 * d), np.int64)
    if n == 0:
        return rows, np.empty((0, channels))
    found = np.flatnonzero(compact)
    which = compact.ravel()[found] - 1
    count = np.bincount(which, minlength=n)
    sums = np.stack(
        [
            np.bincount(which, weights=place, minlength=n)
            for place in np.unravel_index(found, pixels.shape)
        ],
        axis=1,
    )
    from scipy import ndimage  # takes most of a second, which a window would wait for

    corners = ndimage.find_objects(compact)
    start = np.array([[side.start for side in corner] for corner in corners], np.int64)
    stop = np.array([[side.stop for side in corner] for corner in corners], np.int64)
    rows[:, : len(frame)] = frame
    rows[:, len(frame)] = ids
    rows[:, len(frame) + 1] = count
    rows[:, len(frame) + 2 :] = np.concatenate(
        [start + origin, stop + origin, sums.astype(np.int64) + count[:, None] * origin], axis=1
    )
    intensity = np.empty((n, channels))
    for channel in range(channels):
        assert values is not None
        light = values[channel].ravel()[found].astype(np.float64)
        intensity[:, channel] = np.bincount(which, weights=light, minlength=n)
    return rows, intensity


def _numbered(pixels: Pixels) -> tuple[Whole, NDArray[np.int32]]:
    """The ids in these pixels, ascending, and the pixels numbered by them: 1 is the first id."""
    most = int(pixels.max(initial=0))
    if most <= 4 * pixels.size:  # a table is quicker than sorting
        ids = np.flatnonzero(np.bincount(pixels.ravel().astype(np.int64), minlength=1))
        ids = ids[ids > 0]
        table = np.zeros(most + 1, np.int32)
        table[ids] = np.arange(1, len(ids) + 1)
        return ids.astype(np.int64), table[pixels]
    kept, inverse = np.unique(pixels, return_inverse=True)
    background = int(kept[0] == 0)
    compact = inverse.reshape(pixels.shape).astype(np.int32) + (1 - background)
    return kept[background:].astype(np.int64), compact


def _with_channels(box: Box, image: Source) -> Box:
    """The box of the labels as a box of the image: all of its channels."""
    at = image.axes.find("C")
    if at < 0:
        return box
    return Box(
        (*box.start[:at], 0, *box.start[at:]),
        (*box.stop[:at], image.shape[at], *box.stop[at:]),
    )


def _combined(
    parts: list[tuple[Whole, Real]], frames: int, dimensions: int, channels: int
) -> tuple[Whole, Real]:
    """Rows of the same frame and id put together.

    A row is frame, id, count, start, stop, sums of places; beside it stand sums of intensities.
    """
    keys = frames + 1
    width = keys + 1 + 3 * dimensions
    rows = np.concatenate([np.empty((0, width), np.int64), *(a for a, _ in parts)])
    light = np.concatenate([np.empty((0, channels)), *(b for _, b in parts)])
    if len(rows) == 0:
        return rows, light
    order = np.lexsort(rows[:, :keys].T[::-1])
    rows, light = rows[order], light[order]
    new = np.flatnonzero(np.any(np.diff(rows[:, :keys], axis=0) != 0, axis=1)) + 1
    first = np.concatenate([[0], new])
    start = slice(keys + 1, keys + 1 + dimensions)
    stop = slice(start.stop, start.stop + dimensions)
    merged = np.add.reduceat(rows, first, axis=0)
    merged[:, :keys] = rows[first, :keys]
    merged[:, start] = np.minimum.reduceat(rows[:, start], first, axis=0)
    merged[:, stop] = np.maximum.reduceat(rows[:, stop], first, axis=0)
    return merged, np.add.reduceat(light, first, axis=0)
