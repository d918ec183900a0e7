"""A picture to look at: the image with the outlines of its objects, bounded whatever the image.

The image is read block by block and averaged down to the picture's size, by a power of two; of the
labels every how-many-th pixel is taken, from a smaller level of theirs where there is one. An
outline is two pixels of the picture wide, one inside the object and one outside; where objects
touch, each keeps its own one.
"""

from __future__ import annotations

import colorsys
import io
import math
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from aiod.files import write_atomically
from aiod.flow.source import Box, Pixels, Source
from aiod.words import printable

Bytes = NDArray[np.uint8]
Light = NDArray[np.float32]
"""Channels (c, height, width) of an image at the size of the picture."""

MAX_SIDE = 1600
"""Pixels of the picture's longer side."""

_BLOCK = 1024
_EFFORT = 4
"""Of compressing the picture, of 9: half of the time of 6, which is usual, for 8 % more bytes."""
_ENLARGED_SIDE = 1200
_MOST_ENLARGED = 8
_DARK, _LIGHT = (16, 16, 18), (235, 235, 238)
_SEEN = (0.5, 99.8)
_SAMPLED_BLOCKS = 64
_CHANNEL_COLOURS = {
    1: ((1.0, 1.0, 1.0),),
    2: ((0.0, 1.0, 0.0), (1.0, 0.0, 1.0)),
    3: ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
}


@dataclass(frozen=True, slots=True)
class _View:
    """What of the image is shown and how large: `shrink` pixels become one, or one `enlarge`²."""

    frame: dict[str, int]
    shrink: int
    enlarge: int
    height: int
    width: int

    @property
    def scale(self) -> float:
        """Pixels of the picture for one of the image."""
        return self.enlarge / self.shrink


def write_overlay(
    image: Source,
    labels: Source,
    path: Path,
    *,
    rgb: bool = False,
    channels: Sequence[int] = (),
    caption: str = "",
    smaller: Sequence[Source] = (),
    light: Light | None = None,
    max_side: int = MAX_SIDE,
    mapper: Callable[..., Iterable[Any]] = map,
) -> str:
    """Draw the outlines of `labels` on `image` and write that as a PNG of at most `max_side`.

    `image` has axes of TCZYX, `labels` the same without C; each of the levels `smaller` takes every
    second pixel of Y and X of the one before. `rgb` says that C is red, green and blue, shown as it
    is; else up to three `channels` (numbers; all without) are stretched from their 0.5th to their
    99.8th percentile. Of a film the first time point is shown, of a stack the plane with the most
    labelled pixels. There is a scale bar where the pixel size is known, and `caption` in small
    letters below. `light` is what `light_of` the same image gave. Blocks may be read in parallel
    by `mapper`.

    Returns what part of the image is shown, "" for all of it. Raises AiodError when the file
    cannot be written.
    """
    view = _view(labels, max_side, mapper)
    shown = _shown(image, channels)
    if light is None:
        light = _averaged(image, view, shown, mapper)
    objects = _picked([labels, *smaller], view, mapper)
    as_it_is = rgb and len(shown) == 3 and image.dtype == np.uint8
    picture = _coloured(light, as_it_is=as_it_is)
    bright = float(picture.mean()) > 128
    picture, objects = (
        a.repeat(view.enlarge, 0).repeat(view.enlarge, 1) for a in (picture, objects)
    )
    _outline(picture, objects, bright=bright)
    part = _part(labels, view)
    drawn = Image.fromarray(picture)
    if "X" in labels.pixel_size:
        _draw_scale_bar(drawn, labels.pixel_size["X"] / view.scale)
    text = " · ".join(filter(None, (caption, part)))
    stream = io.BytesIO()
    (_with_caption(drawn, text) if text else drawn).save(stream, "PNG", compress_level=_EFFORT)
    write_atomically(path, [stream.getvalue()])
    return part


def light_of(
    image: Source,
    *,
    channels: Sequence[int] = (),
    max_side: int = MAX_SIDE,
    mapper: Callable[..., Iterable[Any]] = map,
) -> Light | None:
    """What `write_overlay` shows of an image, to have it before there are labels.

    Channels first, each the mean of as many pixels as become one. None for a stack, of which the
    labels choose the plane.
    """
    if image.sizes.get("Z", 1) > 1:
        return None
    return _averaged(image, _view(image, max_side, mapper), _shown(image, channels), mapper)


def _shown(image: Source, channels: Sequence[int]) -> list[int]:
    return list(channels)[:3] or list(range(min(3, image.sizes.get("C", 1))))


def _view(labels: Source, max_side: int, mapper: Callable[..., Iterable[Any]]) -> _View:
    height, width = labels.sizes["Y"], labels.sizes["X"]
    side = max(height, width)
    shrink = 1 << (-(-side // max_side) - 1).bit_length()
    enlarge = max(1, min(_MOST_ENLARGED, _ENLARGED_SIDE // side, max_side // side))
    frame = {axis: 0 for axis in labels.axes if axis in "TZ"}
    if labels.sizes.get("Z", 1) > 1:
        frame["Z"] = _fullest_plane(labels, mapper)
    return _View(frame, shrink, enlarge, -(-height // shrink), -(-width // shrink))


def _fullest_plane(labels: Source, mapper: Callable[..., Iterable[Any]]) -> int:
    """The first of the planes with the most labelled pixels, in at most 64 blocks of the stack."""
    sizes = labels.sizes
    places = list(product(range(0, sizes["Y"], _BLOCK), range(0, sizes["X"], _BLOCK)))
    chosen = places[:: -(-len(places) // _SAMPLED_BLOCKS)]
    boxes = [
        _box(labels, {"T": (0, 1), "Z": (z, z + 16), "Y": (y, y + _BLOCK), "X": (x, x + _BLOCK)})
        for y, x in chosen
        for z in range(0, sizes["Z"], 16)
    ]
    found = np.zeros(sizes["Z"], np.int64)
    at = labels.axes.index("Z")
    for box, counts in zip(boxes, mapper(partial(_labelled, labels), boxes), strict=True):
        found[box.start[at] : box.stop[at]] += counts
    return int(found.argmax())


def _labelled(labels: Source, box: Box) -> NDArray[np.int64]:
    """Labelled pixels in each plane of a box."""
    pixels = labels.read(box)
    counts: NDArray[np.int64] = np.count_nonzero(
        pixels.reshape(-1, *pixels.shape[-2:]), axis=(1, 2)
    )
    return counts


def _box(source: Source, ranges: dict[str, tuple[int, int]]) -> Box:
    """A box of these ranges as far as the source goes; all of the axes that are not named."""
    chosen = [ranges.get(axis, (0, n)) for axis, n in source.sizes.items()]
    stops = (min(b, n) for (_, b), n in zip(chosen, source.shape, strict=True))
    return Box(tuple(a for a, _ in chosen), tuple(stops))


def _averaged(
    image: Source, view: _View, shown: list[int], mapper: Callable[..., Iterable[Any]]
) -> Light:
    """The channels `shown` (channels, height, width), each the mean of shrink x shrink pixels."""
    blocks = _blocks(image, view.frame)
    light = np.empty((len(shown), view.height, view.width), np.float32)
    read = partial(_averaged_block, image, view.shrink, shown)
    for box, means in zip(blocks, mapper(read, blocks), strict=True):
        y, x = (start // view.shrink for start in box.start[-2:])
        light[:, y : y + means.shape[1], x : x + means.shape[2]] = means
    return light


def _averaged_block(image: Source, n: int, shown: list[int], box: Box) -> NDArray[np.float32]:
    at = image.axes.find("C")
    means = []
    for channel in shown:
        if at >= 0:
            start, stop = (
                (*edge[:at], number, *edge[at + 1 :])
                for edge, number in ((box.start, channel), (box.stop, channel + 1))
            )
            box = Box(start, stop)
        with np.errstate(over="ignore", invalid="ignore"):  # infinite numbers are shown as black
            pixels = image.read(box).reshape(box.shape[-2:]).astype(np.float32)
            means.append(_means(pixels, n))
    return np.stack(means)


def _means(pixels: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """Means of n x n pixels, of fewer at the far edges; `n` is a power of two.

    >>> _means(np.array([[1, 3, 5], [1, 3, 5]], np.float32), 2)
    array([[2., 5.]], dtype=float32)
    """
    if n == 1:
        return pixels
    rows, columns = (np.minimum(n, size - np.arange(0, size, n)) for size in pixels.shape)
    missing = [(0, -size % n) for size in pixels.shape]
    sums = np.pad(pixels, missing) if any(m for _, m in missing) else pixels
    while n > 1:
        sums, n = _halved(sums), n // 2
    means: NDArray[np.float32] = (sums / np.outer(rows, columns)).astype(np.float32)
    return means


def _halved(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sums of 2 x 2 pixels: ten times as quick as `np.add.reduceat`."""
    rows = pixels[::2] + pixels[1::2]
    sums: NDArray[np.float32] = rows[:, ::2] + rows[:, 1::2]
    return sums


def _picked(levels: Sequence[Source], view: _View, mapper: Callable[..., Iterable[Any]]) -> Pixels:
    """Labels (height, width): of what becomes one pixel, the one in the middle."""
    # The middle of 8 pixels is number 4: of every fourth pixel the second.
    number = min(len(levels) - 1, max(0, view.shrink.bit_length() - 2))
    level, step = levels[number], view.shrink >> number
    objects = np.empty((view.height, view.width), level.dtype)
    blocks = _blocks(level, view.frame)
    for box, pixels in zip(blocks, mapper(level.read, blocks), strict=True):
        y, x = (start // step for start in box.start[-2:])
        rows, columns = (_middles(size, step) for size in box.shape[-2:])
        picked = pixels.reshape(box.shape[-2:])[np.ix_(rows, columns)]
        objects[y : y + len(rows), x : x + len(columns)] = picked
    return objects


def _middles(size: int, n: int) -> NDArray[np.int64]:
    """Which of each n pixels is the one in the middle, as far as there is one at the edge."""
    return np.minimum(np.arange(0, size, n) + n // 2, size - 1)


def _blocks(source: Source, frame: dict[str, int]) -> list[Box]:
    """Blocks of one plane of a source."""
    sizes = source.sizes
    return [
        _box(
            source,
            {axis: (index, index + 1) for axis, index in frame.items()}
            | {"Y": (y, y + _BLOCK), "X": (x, x + _BLOCK)},
        )
        for y, x in product(range(0, sizes["Y"], _BLOCK), range(0, sizes["X"], _BLOCK))
    ]


def _coloured(light: Light, *, as_it_is: bool) -> Bytes:
    """Channels (c, height, width) as a picture (height, width, 3)."""
    if as_it_is:
        return np.moveaxis(light, 0, -1).round().astype(np.uint8)
    colours = np.array(_CHANNEL_COLOURS[len(light)], np.float32)
    mixed = np.tensordot(np.stack([_stretched(c) for c in light]), colours, axes=(0, 0))
    picture: Bytes = (mixed.clip(0, 1) * 255).round().astype(np.uint8)
    return picture


def _stretched(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """From 0 to 1; what is not a number, and an image of one value, is 0."""
    known = light[np.isfinite(light)]
    low, high = np.percentile(known, _SEEN) if known.size else (0.0, 0.0)
    if high <= low and known.size:  # few objects in much darkness
        low, high = known.min(), known.max()
    if high <= low:
        return np.zeros_like(light)
    # Before the difference: two large numbers of an image of floats may be too far apart.
    low, high = float(low), float(high)
    bounded = np.where(np.isfinite(light), light, low).clip(low, high)
    return ((bounded / 2 - low / 2) / (high / 2 - low / 2)).astype(np.float32)


def _outline(picture: Bytes, objects: Pixels, *, bright: bool) -> None:
    """Colour, in place, the pixels at both sides of every boundary of an object."""
    padded = np.pad(objects, 1, mode="edge")
    around = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    owner = np.zeros_like(objects)
    for other in around:
        inside = (objects != 0) & (other != objects)
        owner[inside] = objects[inside]
        outside = (objects == 0) & (other != 0)
        owner[outside] = np.maximum(owner, other)[outside]
    rows, columns = np.nonzero(owner)
    picture[rows, columns] = _colours(owner[rows, columns], bright=bright)


def _colours(ids: Pixels, *, bright: bool) -> Bytes:
    """A colour for each id; ids that follow each other are far apart in hue (golden angle)."""
    value = 0.72 if bright else 1.0
    palette = np.array(
        [colorsys.hsv_to_rgb(hue / 360, 0.9 if bright else 0.75, value) for hue in range(360)]
    )
    hues = (ids.astype(np.uint64) % 360_000).astype(np.float64) * 137.50776405 % 360
    colours: Bytes = (palette[hues.astype(np.intp)] * 255).astype(np.uint8)
    return colours


def _part(labels: Source, view: _View) -> str:
    """What part of the image is shown, for people."""
    parts = []
    if labels.sizes.get("T", 1) > 1:
        parts.append(f"time point 1 of {labels.sizes['T']:,}")
    if labels.sizes.get("Z", 1) > 1:
        plane = f"plane {view.frame['Z'] + 1:,} of {labels.sizes['Z']:,}"
        parts.append(f"{plane}, which has the most labelled pixels")
    return ", ".join(parts)


def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _draw_scale_bar(picture: Image.Image, micrometres: float) -> None:
    """A bar of a round length; a pixel of the picture is `micrometres` wide."""
    length = _round_length(picture.width * micrometres / 4)
    wide = round(length / micrometres)
    small = min(picture.size)
    thick, margin, size = max(2, small // 180), max(4, small // 40), max(11, small // 38)
    if wide < 4 or picture.width < wide + 2 * margin or picture.height < 3 * size:
        return
    draw = ImageDraw.Draw(picture)
    right, bottom = picture.width - margin, picture.height - margin
    left, top = right - wide, bottom - thick
    draw.rectangle((left - 1, top - 1, right, bottom), fill=_DARK)
    draw.rectangle((left, top, right - 1, bottom - 1), fill=(255, 255, 255))
    _draw_length(draw, _length_in_words(length), ((left + right) // 2, top - size // 3), size)


def _draw_length(draw: ImageDraw.ImageDraw, text: str, middle: tuple[int, int], size: int) -> None:
    """A length above the `middle` of its bar, white with a dark seam.

    Pillow's own font, the only one that is everywhere, has no letter µ: a u gets its leg.
    """
    font, seam = _font(size), max(1, size // 10)
    plain = text.replace("µ", "u")
    left, baseline = middle[0] - font.getlength(plain) / 2, middle[1]
    before, micro, _ = text.partition("µ")
    box = font.getbbox("u", anchor="ls")
    foot = left + font.getlength(before) + box[0]
    leg = (foot, baseline - size // 3, foot + max(1, size // 14) - 1, baseline + size // 5)
    if micro:
        around = (leg[0] - seam, leg[1], leg[2] + seam, leg[3] + seam)
        draw.rectangle(around, fill=_DARK)
    draw.text(
        (left, baseline),
        plain,
        font=font,
        anchor="ls",
        fill=(255, 255, 255),
        stroke_width=seam,
        stroke_fill=_DARK,
    )
    if micro:
        draw.rectangle(leg, fill=(255, 255, 255))


def _round_length(most: float) -> float:
    """The largest of 1, 2, 5, 10, 20, … (and of 0.5, 0.2, …) that is no longer than `most`.

    >>> _round_length(87.3), _round_length(0.4)
    (50.0, 0.2)
    """
    power = 10.0 ** math.floor(math.log10(most))
    return next(n * power for n in (5, 2, 1) if n * power <= most * (1 + 1e-9))


def _length_in_words(micrometres: float) -> str:
    """
    >>> _length_in_words(50), _length_in_words(0.2), _length_in_words(5000)
    ('50 µm', '200 nm', '5 mm')
    """
    unit, factor = next(
        (unit, factor)
        for unit, factor in (("nm", 1e3), ("µm", 1.0), ("mm", 1e-3))
        if micrometres * factor < 1000 or unit == "mm"
    )
    return f"{micrometres * factor:.6g} {unit}"


def _with_caption(picture: Image.Image, text: str) -> Image.Image:
    """The picture with a band below it that holds the text, cut where it is too long."""
    size = max(11, min(22, picture.width // 45))
    band = size * 2
    framed = Image.new("RGB", (picture.width, picture.height + band), _DARK)
    framed.paste(picture)
    font, words = _font(size), "".join(map(_drawable, printable(" ".join(text[:400].split()))))
    room = picture.width - size
    while words and font.getlength(words) > room:
        words = words[:-2].rstrip("…") + "…" if len(words) > 2 else ""
    draw = ImageDraw.Draw(framed)
    draw.text((size // 2, picture.height + band // 2), words, font=font, anchor="lm", fill=_LIGHT)
    return framed


def _drawable(letter: str) -> str:
    """A letter that Pillow's own font has: without its accent, or a question mark."""
    if letter.isascii() or letter in "·…":
        return letter
    return unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode() or "?"
