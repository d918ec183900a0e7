"""Opening images of any format: axes in the order of the field, pixels read box by box.

>>> image = open_image("cells.ome.tif")                             # doctest: +SKIP
>>> image.source.axes, image.source.shape, image.source.pixel_size  # doctest: +SKIP
('CYX', (2, 2048, 2048), {'Y': 0.325, 'X': 0.325})
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from aiod.errors import UsageError
from aiod.flow.images.fingerprint import fingerprint as fingerprint_of
from aiod.flow.images.raw import ImageError, Raw, only_image_errors
from aiod.flow.images.readers import read_raw
from aiod.flow.source import AXES, Box, Pixels, Source
from aiod.words import counted, printable, shown

__all__ = ["Image", "ImageError", "check_axes", "open_image"]


@dataclass(frozen=True, slots=True)
class Image:
    """An image on disk.

    `source` gives its pixels in the order TCZYX, without the axes that its file does not name.
    `channel_names` holds one name for each of C (one in all without C), "" where there is none.
    `rgb` says that C is red, green and blue. `warnings` are sentences for the user. `fingerprint`
    is ``sha256:<hex>`` of the file, or ``sampled-sha256:<hex>`` (see aiod.flow.images.fingerprint).
    """

    source: Source
    path: Path
    channel_names: tuple[str, ...]
    rgb: bool
    warnings: tuple[str, ...]
    fingerprint: str


@dataclass(frozen=True, slots=True)
class _Layout:
    """How an image's own axes become those of the field: `letters` names each of its own.

    `order` says from which own axis each of ours is taken; the others are one pixel wide. `alpha`
    is the own axis whose last sample is left out.
    """

    letters: str
    order: tuple[int, ...]
    alpha: int | None


def open_image(
    path: str | Path,
    *,
    axes: str | None = None,
    pixel_size: Mapping[str, float] | None = None,
    fingerprint: str | None = None,
) -> Image:
    """Open an image: TIFF, OME-TIFF, OME-Zarr, PNG, JPEG, or what an installed bioio reads.

    `axes` names the image's own axes in their order, with letters of TCZYX and S for the samples of
    a colour pixel, and replaces what its metadata say; axes of one pixel may be left out.
    `pixel_size` (axis -> micrometres) likewise, axis by axis. A known `fingerprint` saves taking it
    again. Booleans become uint8; NaN are kept.

    Raises ImageError, now or when a damaged part is read; UsageError for axes that are none.
    """
    path = Path(path).expanduser()
    if axes is not None:
        axes = check_axes(axes)
    raw = read_raw(path)
    with only_image_errors(path, "opened"):
        if raw.dtype.kind not in "buif" or raw.dtype.itemsize > 8:
            raise ImageError(
                f"{path} holds numbers of the type {raw.dtype.name}, which are no intensities.",
                hint="save its real part, or one of its fields, as an image",
            )
        if 0 in raw.shape:
            raise ImageError(
                f"{path} holds no pixel: its size is {_size(raw)}.",
                hint="save or copy it again from where it came, or leave it out",
            )
        letters = _given(path, raw, axes) if axes is not None else _named(path, raw)
        layout = _layout(path, raw, letters)
        source = _source(raw, layout, pixel_size or {})
        rgb = _is_rgb(raw, layout, source, axes)
        names = tuple(printable(name)[:100] for name in raw.channel_names)
        if rgb:
            names = ("red", "green", "blue")
        elif len(names) != source.sizes.get("C", 1):
            names = ("",) * source.sizes.get("C", 1)
        warnings = list(raw.warnings)
        if layout.alpha is not None:
            warnings.append("Its transparency (alpha) is left out.")
        return Image(
            source=source,
            path=path,
            channel_names=names,
            rgb=rgb,
            warnings=tuple(printable(warning) for warning in warnings),
            fingerprint=fingerprint or fingerprint_of(raw.files),
        )


def check_axes(text: str) -> str:
    """Axes as a user typed them, in capitals. Raises UsageError.

    >>> check_axes("zyx")
    'ZYX'
    """
    axes = text.strip().upper()
    if not set("YX") <= set(axes) <= set(AXES + "S") or len(set(axes)) != len(axes):
        raise UsageError(
            f"{shown(text)} names no axes.",
            details=[
                "expected: the image's own axes in their order, each once, Y and X among them",
                "T time, C channel, Z depth, Y row, X column, S samples of a colour pixel",
            ],
            hint="for example --axes ZYX for a stack, CYX for channels, TYX for a film",
        )
    return axes


def _size(raw: Raw, axes: str | None = None) -> str:
    """'? 5 × Y 60 × X 70': the axes as far as they are known, and how many pixels they have."""
    letters = (axes or raw.axes).replace("Q", "?")
    return " × ".join(f"{letter} {n:,}" for letter, n in zip(letters, raw.shape, strict=True))


def _named(path: Path, raw: Raw) -> str:
    """The letters of an image whose metadata name its axes."""
    known = AXES + "S"
    unknown = [
        letter
        for letter, n in zip(raw.axes, raw.shape, strict=True)
        if n > 1 and (letter not in known or raw.axes.count(letter) > 1)
    ]
    if not unknown:
        return raw.axes
    count = sum(n > 1 for n in raw.shape)
    examples = {
        3: "ZYX for depth, CYX for channels, TYX for time",
        4: "CZYX, TZYX or TCYX (C channels, Z depth, T time)",
        5: "TCZYX (T time, C channels, Z depth)",
    }.get(count, "ZYX")
    own = "".join(letter if letter in known else "?" for letter in raw.axes)
    raise ImageError(
        f"{path} does not say what {'one' if len(unknown) == 1 else 'some'} of its axes "
        f"{'is' if len(unknown) == 1 else 'are'}: depth, channels or time.",
        details=[f"found: {raw.kind} of {_size(raw, own)}"],
        hint=f"name the axes in their order: --axes {examples}",
    )


def _given(path: Path, raw: Raw, axes: str) -> str:
    """The letters that a user's `axes` give to an image's own; "1" for those left out."""
    own = list(zip(raw.axes, raw.shape, strict=True))
    everything = range(len(own))
    many = [i for i, (letter, n) in enumerate(own) if n > 1 or letter in "YX"]
    wanted = [everything, many]
    if "S" in raw.axes and not set("SC") & set(axes):  # "ZYX" of a colour stack
        wanted += [[i for i in indices if own[i][0] != "S"] for indices in wanted]
    for indices in wanted:
        if len(indices) == len(axes):
            letters = ["S" if letter == "S" else "1" for letter, _ in own]
            for i, letter in zip(indices, axes, strict=True):
                letters[i] = letter
            if all(letter in axes + "S" or own[i][1] == 1 for i, letter in enumerate(letters)):
                return "".join(letters)
    raise ImageError(
        f"{path} has {counted(len(own), 'axis', 'axes')}, and the axes {axes} given are "
        f"{len(axes)}.",
        details=[f"found: {raw.kind} of {_size(raw)}"],
        hint=f"name {len(own)} axes in their order"
        + (f", or the {len(many)} that are more than one pixel" if len(many) < len(own) else ""),
    )


def _layout(path: Path, raw: Raw, letters: str) -> _Layout:
    """Where each of our axes comes from; samples become channels."""
    sizes = dict(zip(letters, raw.shape, strict=True))
    alpha = None
    if "S" in letters:
        if raw.alpha and raw.axes.find("S") == letters.find("S") and sizes["S"] > 1:
            alpha = letters.index("S")
            sizes["S"] -= 1
        if sizes["S"] > 1 and sizes.get("C", 1) > 1:
            raise ImageError(
                f"{path} has colours inside of channels ({_size(raw)}), which are not read here.",
                hint="split it into one file a channel",
            )
    ours = {letter: letters.index(letter) for letter in AXES if letter in letters}
    if sizes.get("S", 1) > 1:
        ours["C"] = letters.index("S")
    for axis in "YX":
        if axis not in ours:
            raise ImageError(
                f"{path} is no image: it has no axis {axis}.",
                details=[f"found: {raw.kind} of {_size(raw)}"],
                hint="name its axes: --axes",
            )
    return _Layout(letters, tuple(ours[axis] for axis in AXES if axis in ours), alpha)


def _source(raw: Raw, layout: _Layout, pixel_size: Mapping[str, float]) -> Source:
    axes, shape = "", []
    for index in layout.order:
        letter = layout.letters[index]
        axes += "C" if letter == "S" else letter
        shape.append(raw.shape[index] - (index == layout.alpha))
    dtype = np.dtype("uint8") if raw.dtype.kind == "b" else raw.dtype
    sizes = {**raw.pixel_size, **pixel_size}
    return Source(
        axes=axes,
        shape=tuple(shape),
        dtype=dtype,
        read=partial(_read, raw, layout, tuple(shape), dtype),
        pixel_size={axis: float(sizes[axis]) for axis in "ZYX" if axis in sizes and axis in axes},
    )


def _read(
    raw: Raw, layout: _Layout, shape: tuple[int, ...], dtype: np.dtype[np.generic], box: Box
) -> Pixels:
    """A box in our order of axes, taken from a box in the image's own."""
    ranges = list(zip(box.start, box.stop, strict=True))
    if any(not 0 <= a <= b <= n for (a, b), n in zip(ranges, shape, strict=True)):
        raise ValueError(f"{box} lies outside an image of {shape}")
    if box.empty:
        return np.empty(box.shape, dtype)
    start, stop = [0] * len(raw.shape), [1] * len(raw.shape)
    for index, (a, b) in zip(layout.order, ranges, strict=True):
        start[index], stop[index] = a, b
    pixels = raw.read(Box(tuple(start), tuple(stop)))
    rest = [index for index in range(pixels.ndim) if index not in layout.order]
    ordered = pixels.transpose(*rest, *layout.order).reshape(box.shape)
    return np.ascontiguousarray(ordered, dtype)


def _is_rgb(raw: Raw, layout: _Layout, source: Source, axes: str | None) -> bool:
    """Whether C is red, green and blue: because the file says so, or a user's S."""
    if source.sizes.get("C") != 3:
        return False
    origin = layout.order[source.axes.index("C")]
    return (raw.rgb and raw.axes[origin] == "S") or "S" in (axes or "")
