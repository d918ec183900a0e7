"""Layers of the viewer as the lower floors read them, and results as layers beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from magicgui.widgets import ComboBox
from napari.layers import Labels, Layer
from numpy.typing import NDArray

from aiod.errors import UsageError
from aiod.flow.refine.frames import checked
from aiod.flow.source import Box, Source
from aiod.napari.picture import pixel_size_of
from aiod.words import counted

Pixels = NDArray[Any]

_TIME = {"t", "time", "frame", "frames"}
_CHANNEL = {"c", "channel", "channels"}
_UNNAMED = re.compile(r"(axis )?-?\d+")
"""What napari calls axes of which nobody said a name."""


@dataclass(frozen=True, slots=True)
class Mask:
    """A Labels layer, taken in the window's thread, so that any thread can read its pixels.

    `axes` are YX or ZYX, perhaps T before them; `pixel_size` is in µm where it is known.
    """

    name: str
    axes: str
    data: Any
    pixel_size: Mapping[str, float]
    named: bool = True
    """Whether the layer says itself what its axes are."""

    @classmethod
    def of(cls, layer: Labels | None, *, what: str = "labels") -> Mask:
        """The finest level of a layer. Raises UsageError where it cannot be labels of ours."""
        if layer is None:
            raise UsageError(
                f"No {what} are chosen.",
                hint="open or make a Labels layer, and choose it above",
            )
        axes = axes_of(layer)
        named = "T" in axes or not all(map(_UNNAMED.fullmatch, layer.axis_labels))
        return cls(layer.name, axes, finest(layer), pixel_size_of(layer, axes), named)

    def pixels(self) -> Pixels:
        """A copy of the pixels as they are now. Raises UsageError where they are no labels."""
        found = np.array(self.data)
        for frame in found if self.axes.startswith("T") else (found,):
            checked(frame, name=self.name)
        return found

    def source(self) -> Source:
        """The pixels as unsigned integers that every format can hold. Raises UsageError."""
        pixels = self.pixels()
        size = min(pixels.dtype.itemsize, 4 if int(pixels.max(initial=0)) < 1 << 32 else 8)
        return source_of(pixels.astype(f"u{size}", copy=False), self.axes, self.pixel_size)


def agreed(masks: Sequence[Mask]) -> list[Mask]:
    """Masks that are taken pixel by pixel, all with the axes of those that name them.

    A film whose first axis is called t is one of time points also where the other layer says
    nothing. Raises UsageError where the layers contradict each other.
    """
    said = {mask.axes: mask.name for mask in masks if mask.named}
    same = {len(mask.axes) for mask in masks}
    if len(same) > 1 or not said:
        return list(masks)
    if len(said) > 1:
        (axes, name), (others, other) = list(said.items())[:2]
        raise UsageError(
            f"{name} has the axes {axes}, {other} has {others}.",
            hint="name the axes of one of them as they are (layer.axis_labels)",
        )
    (axes,) = said
    size = {mask.name: {a: n for a, n in mask.pixel_size.items() if a in axes} for mask in masks}
    return [replace(mask, axes=axes, pixel_size=size[mask.name]) for mask in masks]


def source_of(pixels: Pixels, axes: str, pixel_size: Mapping[str, float]) -> Source:
    """An array as what the pipeline reads."""

    def read(box: Box) -> Pixels:
        return np.asarray(pixels[box.slices])

    return Source(axes, pixels.shape, pixels.dtype, read, dict(pixel_size))


def finest(layer: Layer) -> Any:
    """The array of a layer, of a pyramid the largest."""
    return layer.data[0] if layer.multiscale else layer.data


def axes_of(layer: Layer) -> str:
    """The axes of a layer: those called t or time, or measured in time, are T, others Z, Y and X.

    Raises UsageError for a layer of other axes.
    """
    names = [str(name).lower() for name in layer.axis_labels]
    leading = len(names) - 2
    timed = leading > 0 and (names[0] in _TIME or layer.units[0].dimensionality == {"[time]": 1})
    axes = ["YX", "TYX" if timed else "ZYX", "TZYX"][leading] if 0 <= leading <= 2 else ""
    if not axes or _CHANNEL & set(names):
        raise UsageError(
            f"{layer.name} has {counted(len(names), 'axis', 'axes')}"
            f"{', one of them of channels' if _CHANNEL & set(names) else ''}; "
            "labels have Y and X, and perhaps time and Z before them.",
            hint="choose a layer without channels, or split it (right click on the layer)",
        )
    return axes


def beside(layer: Layer) -> dict[str, Any]:
    """What puts another layer of the same axes in the same place."""
    return {
        name: getattr(layer, name)
        for name in ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
    }


def apart(one: Layer, other: Layer) -> bool:
    """Whether two layers lie in different places, or are drawn by other scales, in shared axes."""
    shared = min(one.ndim, other.ndim)
    return any(
        not np.allclose(getattr(one, name)[-shared:], getattr(other, name)[-shared:])
        for name in ("scale", "translate")
    )


def chooser(viewer: Any, kind: type[Layer], tooltip: str, *, optional: bool = False) -> ComboBox:
    """A box that offers the viewer's layers of a kind; `follow` keeps it true."""

    def layers(_: Any) -> list[Layer]:
        return [layer for layer in viewer.layers if isinstance(layer, kind)]

    return ComboBox(choices=layers, nullable=optional, tooltip=tooltip)


def follow(box: ComboBox) -> None:
    """Offer what there is now, and stay with what was chosen while it is there."""
    chosen = box.value
    box.reset_choices()
    if chosen in box.choices:
        box.value = chosen
