"""An image layer as a run reads it: its axes, its pixel size, and a file that holds its pixels.

A layer that shows a file as it is needs no copy. Whatever else napari can show (an array in memory,
one channel cut out, a filtered image) is written to a file first, tile by tile.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from aiod.errors import AiodError, UsageError
from aiod.flow.images.image import Image, open_image
from aiod.flow.results.export import whole_or_nothing, write_tiff
from aiod.flow.source import AXES, Box, Pixels, Source

_BY_COUNT = {2: "YX", 3: "ZYX", 4: "TZYX", 5: "TCZYX"}
_BAND = 1 << 22
_LOOK = 64
"""Side of the squares of pixels by which a layer and a file are compared."""
_LOOKS = 256
"""Squares by which a layer that is computed when it is read is compared where it is large."""
_LARGE = 1 << 28
"""Bytes from which it is."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A layer for a run: the file, and what has to be said of it beside what the file says."""

    path: Path
    channels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """What of a layer its picture depends on; taken in the window's thread, read in any."""

    name: str
    data: Any
    axes: str
    rgb: bool
    pixel_size: Mapping[str, float]
    path: Path | None
    parts: tuple[Seen, ...] = ()
    """The layers that are its channels, where it is several."""

    @property
    def drawn_axes(self) -> str:
        """The axes of the layer, or of each of the layers."""
        return self.parts[0].axes if self.parts else self.axes

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(map(int, self.data.shape))

    @property
    def sizes(self) -> dict[str, int]:
        """Axis -> pixels, without the samples of a colour."""
        return dict(zip(self.axes, self.shape[: len(self.axes)], strict=True))


def seen_in(layer: Any, *, axes: str | None = None, pixel_size: Any = None) -> Seen:
    """A layer, with the axes and the pixel size of the user where they are given.

    Raises UsageError for axes that are not those of such an image.
    """
    data = layer.data[0] if layer.multiscale else layer.data
    rgb = bool(getattr(layer, "rgb", False))
    count = data.ndim - rgb
    letters = (axes or axes_of(layer)).upper()
    known = set(letters) <= set(AXES) and len(set(letters)) == len(letters)
    if len(letters) != count or not known or not letters.endswith("YX"):
        raise UsageError(
            f"The axes {letters} are not those of {layer.name}, which has {count}.",
            hint=f"write a letter of TCZYX for each, such as {_BY_COUNT.get(count, 'TCZYX')}",
        )
    size = pixel_size_of(layer, letters) if pixel_size is None else dict(pixel_size)
    path = layer.source.path
    return Seen(layer.name, data, letters, rgb, size, Path(path) if path else None)


class _Channels:
    """Arrays of one shape behind each other, each read when its pixels are asked for."""

    def __init__(self, arrays: Sequence[Any]) -> None:
        self._arrays = arrays
        self.shape = (len(arrays), *arrays[0].shape)
        self.dtype = np.result_type(*(array.dtype for array in arrays))

    def __getitem__(self, index: tuple[slice, ...]) -> Pixels:
        chosen, rest = self._arrays[index[0]], index[1:]
        return np.stack([np.asarray(array[rest]).astype(self.dtype) for array in chosen])


def joined(layers: Sequence[Any], *, axes: str | None = None, pixel_size: Any = None) -> Seen:
    """Layers as the channels of one image, with the user's axes and pixel size where given.

    Raises UsageError where they are of different sizes or have channels of their own.
    """
    own = axes.upper().replace("C", "", 1) if axes else None
    parts = tuple(seen_in(layer, axes=own, pixel_size=pixel_size) for layer in layers)
    first = parts[0]
    for part in parts:
        if part.rgb or "C" in part.axes:
            raise UsageError(f"{part.name} has channels already.", hint="choose it by itself")
        if (part.axes, part.shape) != (first.axes, first.shape):
            raise UsageError(
                f"{first.name} and {part.name} cannot be channels of one image: "
                f"{first.axes} {_by(first.shape)} and {part.axes} {_by(part.shape)}.",
                hint="choose them one after the other",
            )
    for layer in layers[1:]:
        if not all(
            np.allclose(getattr(layer, how), getattr(layers[0], how))
            for how in ("scale", "translate")
        ):
            raise UsageError(
                f"{layers[0].name} and {layer.name} cannot be channels of one image: they lie "
                "elsewhere or have pixels of another size.",
                hint="choose them one after the other",
            )
    name = "_".join(part.name for part in parts)
    data = _Channels([part.data for part in parts])
    return Seen(
        name, data, f"C{first.axes}", rgb=False, pixel_size=first.pixel_size, path=None, parts=parts
    )


def _by(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def axes_of(layer: Any) -> str:
    """A letter of TCZYX for each axis: as the layer names them, else by their number."""
    labels = [str(label).upper()[:1] for label in getattr(layer, "axis_labels", ())]
    named = all(len(str(label)) == 1 for label in getattr(layer, "axis_labels", ()))
    if labels and named and set(labels) <= set(AXES) and len(set(labels)) == len(labels):
        return "".join(labels)
    return _BY_COUNT.get(layer.ndim, "TCZYX"[-layer.ndim :])


def pixel_size_of(layer: Any, axes: str) -> dict[str, float]:
    """Axis -> micrometres for Z, Y and X where the layer's scale says it.

    A scale without a unit is taken for micrometres unless it is 1, as napari's readers mean it.
    """
    if len(axes) != layer.ndim:
        return {}  # axes that cannot be: said when they are used
    units = getattr(layer, "units", None) or [None] * len(axes)
    found = {}
    for axis, scale, unit in zip(axes, layer.scale, units, strict=True):
        if axis not in "ZYX":
            continue
        factor = _micrometres(unit)
        size = abs(float(scale))  # a negative one mirrors what is shown
        if factor is not None:
            found[axis] = size * factor
        elif size != 1.0:
            found[axis] = size
    return found if {"Y", "X"} <= found.keys() else {}


def _micrometres(unit: Any) -> float | None:
    """How many micrometres a unit of pint's is; None where it is no length."""
    if unit is None or not hasattr(unit, "dimensionality"):
        return None
    if dict(unit.dimensionality) != {"[length]": 1}:
        return None
    return float((1 * unit).to("micrometer").magnitude)


def picture_of(seen: Seen, folder: Path) -> Picture:
    """The file of a layer, or a copy in `folder`; for a thread. Raises AiodError."""
    parts = seen.parts or (seen,)
    path = parts[0].path
    if path is not None and all(part.path == path for part in parts):
        found = [_channels_in(part) for part in parts]
        channels = [each for each in found if each is not None and (each or not seen.parts)]
        if len(channels) == len(parts):  # of several layers each is one of the file's channels
            return Picture(path, tuple(itertools.chain.from_iterable(channels)))
    return Picture(_copied(seen, folder))


def _channels_in(seen: Seen) -> tuple[str, ...] | None:
    """Which of its file's channels a layer shows, none for all; None where it shows another image.

    A layer may have been changed: all of its pixels are compared. What is computed when it is read
    may be too large for that: many squares of pixels are, and must tell channels apart.
    """
    assert seen.path is not None
    try:
        image = open_image(seen.path, fingerprint="not taken")
    except AiodError:
        return None
    source = image.source
    if dict(source.pixel_size) != dict(seen.pixel_size) and seen.pixel_size:
        same = source.pixel_size.keys() == seen.pixel_size.keys() and all(
            np.isclose(source.pixel_size[a], seen.pixel_size[a]) for a in seen.pixel_size
        )
        if not same:
            return None
    theirs = {axis: n for axis, n in source.sizes.items() if n > 1 and axis != "C"}
    ours = {axis: n for axis, n in seen.sizes.items() if n > 1 and axis != "C"}
    if theirs != ours or source.dtype != seen.data.dtype or seen.rgb != image.rgb:
        return None
    count = source.sizes.get("C", 1)
    if seen.rgb or seen.sizes.get("C", 1) == count:
        return () if _alike(seen, image, None, _squares) and _whole(seen, image, None) else None
    if "C" in seen.sizes:
        return None
    channels = [n for n in range(count) if _alike(seen, image, n, _squares)]
    channels = [n for n in channels if _whole(seen, image, n)]
    certain = _is_compared_whole(seen)  # then those that are alike are the same
    return (str(channels[0] + 1),) if channels and (certain or len(channels) == 1) else None


Ranges = dict[str, tuple[int, int]]


def _whole(seen: Seen, image: Image, channel: int | None) -> bool:
    """Whether all pixels are alike; of a large layer that is not in memory, many of them."""
    return _alike(seen, image, channel, _bands if _is_compared_whole(seen) else _scattered)


def _is_compared_whole(seen: Seen) -> bool:
    size = math.prod(seen.shape) * seen.data.dtype.itemsize
    return isinstance(seen.data, np.ndarray) or size <= _LARGE


def _squares(sizes: Mapping[str, int]) -> Iterator[Ranges]:
    """Small squares of an image: at its beginning, in its middle, at its end."""
    for part in (0.0, 0.5, 1.0):
        ranges = {}
        for axis, n in sizes.items():
            side = _LOOK if axis in "YX" else 1
            start = int(part * max(0, n - side))
            ranges[axis] = (start, min(n, start + side))
        yield ranges


def _scattered(sizes: Mapping[str, int]) -> Iterator[Ranges]:
    """Squares here and there, the same ones each time."""
    random = np.random.default_rng(0)
    for _ in range(_LOOKS):
        ranges = {}
        for axis, n in sizes.items():
            side = _LOOK if axis in "YX" else 1
            start = int(random.integers(max(1, n - side + 1)))
            ranges[axis] = (start, min(n, start + side))
        yield ranges


def _bands(sizes: Mapping[str, int]) -> Iterator[Ranges]:
    """All of an image, some rows of a plane at a time."""
    others = {axis: n for axis, n in sizes.items() if axis not in "CYX"}
    rows = max(1, _BAND // sizes["X"])
    for position in np.ndindex(*others.values()):
        at = {axis: (n, n + 1) for axis, n in zip(others, position, strict=True)}
        for top in range(0, sizes["Y"], rows):
            ranges = {**at, "Y": (top, min(top + rows, sizes["Y"])), "X": (0, sizes["X"])}
            yield {axis: ranges.get(axis, (0, n)) for axis, n in sizes.items()}


def _alike(
    seen: Seen,
    image: Image,
    channel: int | None,
    parts: Callable[[Mapping[str, int]], Iterator[Ranges]],
) -> bool:
    """Whether parts of a layer are those of its file, or of one of its channels."""
    source = image.source
    for ranges in parts(source.sizes):
        if channel is not None:
            ranges["C"] = (channel, channel + 1)
        elif "C" in ranges:
            ranges["C"] = (0, source.sizes["C"])
        box = Box(tuple(a for a, _ in ranges.values()), tuple(b for _, b in ranges.values()))
        theirs = source.read(box)
        if seen.rgb:
            theirs = np.moveaxis(theirs, source.axes.index("C"), -1)
        index = tuple(slice(*ranges.get(axis, (0, 1))) for axis in seen.axes)
        ours = np.asarray(seen.data[index])
        if not np.array_equal(np.squeeze(ours), np.squeeze(theirs), equal_nan=_has_nan(ours)):
            return False
    return True


def _has_nan(pixels: Pixels) -> bool:
    return pixels.dtype.kind == "f"


def _copied(seen: Seen, folder: Path) -> Path:
    """The pixels of a layer as a TIFF; one that was written before is taken."""
    name = "".join(c if c.isalnum() or c in "-_" else "_" for c in seen.name)[:60] or "image"
    path = folder / _mark(seen) / f"{name}.ome.tif"
    if path.exists():
        return path
    if seen.rgb:
        metadata: dict[str, Any] = {"axes": f"{seen.axes}S"}
        for axis, micrometres in seen.pixel_size.items():
            metadata |= {f"PhysicalSize{axis}": micrometres, f"PhysicalSize{axis}Unit": "µm"}
        with whole_or_nothing(path) as temporary:
            tifffile.imwrite(
                temporary, np.asarray(seen.data), photometric="rgb", ome=True, metadata=metadata
            )
        return path
    order = [seen.axes.index(axis) for axis in AXES if axis in seen.axes]
    dtype = _storable(seen)

    def read(box: Box) -> Pixels:
        slices: list[Any] = [slice(None)] * len(order)
        for place, part in zip(order, box.slices, strict=True):
            slices[place] = part
        return np.asarray(seen.data[tuple(slices)]).transpose(order).astype(dtype, copy=False)

    axes = "".join(seen.axes[place] for place in order)
    shape = tuple(int(seen.data.shape[place]) for place in order)
    write_tiff(Source(axes, shape, dtype, read, dict(seen.pixel_size)), path)
    return path


def _mark(seen: Seen) -> str:
    """The same for the same pixels, so that a copy is made once, and found again another day.

    Arrays in memory may be changed in place and are looked at each time. What is computed when it
    is read is so once: it may take long, and napari shows it as it was then, too.
    """
    if seen.parts:
        return hashlib.sha256(repr([_mark(part) for part in seen.parts]).encode()).hexdigest()[:16]
    said = (seen.axes, seen.shape, sorted(seen.pixel_size.items()), str(seen.data.dtype))
    mark = hashlib.sha256(repr(said).encode())
    mark.update(_digest_of(seen.data))
    return mark.hexdigest()[:16]


_DIGESTS: dict[int, tuple[Any, bytes]] = {}
"""The id of an array that is computed when it is read -> the array, and a digest of its pixels."""


def _digest_of(data: Any) -> bytes:
    there, known = _DIGESTS.get(id(data), (None, b""))
    if there is not None and there() is data:
        return known
    digest = hashlib.sha256()
    for part in _parts(data.shape):
        pixels = np.ascontiguousarray(data[part])
        digest.update(pixels.view(np.uint8).data if pixels.size else b"")
    if not isinstance(data, np.ndarray):
        with contextlib.suppress(TypeError):  # of a kind that cannot be watched
            _DIGESTS[id(data)] = weakref.ref(data), digest.digest()
    return digest.digest()


def _parts(shape: tuple[int, ...]) -> Iterator[tuple[slice | int, ...]]:
    """All of an array: rows of its planes, each some millions of pixels."""
    outer, rest = shape[:-3], shape[-3:]
    rows = max(1, _BAND // max(1, math.prod(rest[1:])))
    for position in np.ndindex(*outer):
        for top in range(0, rest[0] if rest else 0, rows):
            yield (*position, slice(top, top + rows))


def _storable(seen: Seen) -> np.dtype[Any]:
    """The type in which pixels are written: that of the layer where a TIFF can hold it."""
    if seen.parts:
        return np.result_type(*map(_storable, seen.parts))
    dtype: np.dtype[Any] = np.dtype(seen.data.dtype)
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype.kind == "f" and dtype.itemsize != 4:
        return np.dtype(np.float32)
    if dtype.kind in "iu" and dtype.itemsize == 8:
        smallest = _smallest_for(seen.data)
        if smallest is None:
            raise UsageError(
                f"{seen.name} holds 64-bit integers, which no image file holds.",
                hint="convert the layer's data type (right click on the layer)",
            )
        return smallest
    return dtype


def _smallest_for(data: Any) -> np.dtype[Any] | None:
    """The smallest type of integer for numbers in memory, of 16 bits or 32; else None."""
    if not isinstance(data, np.ndarray) or not data.size:
        return None
    low, high = int(data.min()), int(data.max())
    for dtype in (np.uint16, np.int16, np.uint32, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    return None
