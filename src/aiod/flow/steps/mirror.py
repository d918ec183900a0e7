"""Reading past an image's border, where the image is mirrored."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from aiod.flow.source import Box, Pixels, Source

Border = Literal["reflect", "mirror"]
"""reflect: d c b a | a b c d | d c b a; mirror: d c b | a b c d | c b a (scipy's words)."""


def folded(start: int, stop: int, size: int, border: Border) -> NDArray[np.intp]:
    """Which of `size` pixels stands at each of start…stop - 1, which may lie anywhere.

    >>> folded(-2, 5, 3, "reflect").tolist(), folded(-2, 5, 3, "mirror").tolist()
    ([1, 0, 0, 1, 2, 2, 1], [2, 1, 0, 1, 2, 1, 0])
    """
    places = np.arange(start, stop)
    period = 2 * size if border == "reflect" else max(1, 2 * size - 2)
    places %= period
    back = period - places - (border == "reflect")
    return np.where(places < size, places, back)


def read_mirrored(source: Source, box: Box, border: Border = "reflect") -> Pixels:
    """The pixels of a box that may reach past the source; no more is read than is there."""
    places = [
        None if start >= 0 and stop <= size else folded(start, stop, size, border)
        for start, stop, size in zip(box.start, box.stop, source.shape, strict=True)
    ]
    inside = Box(
        tuple(a if p is None else int(p.min()) for a, p in zip(box.start, places, strict=True)),
        tuple(b if p is None else int(p.max()) + 1 for b, p in zip(box.stop, places, strict=True)),
    )
    pixels = np.asarray(source.read(inside))
    for axis, place in enumerate(places):
        if place is not None:
            pixels = pixels.take(place - inside.start[axis], axis=axis)
    return pixels
