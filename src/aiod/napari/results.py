"""Labels in the viewer: tiles as they arrive, looks at a part, and the labels of a finished run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from aiod.flow.protocol import Message
from aiod.flow.record import ImageRecord
from aiod.flow.results.labels import open_labels
from aiod.flow.results.view import lazy
from aiod.flow.source import Box, Pixels

_SECONDS_BETWEEN_LOOKS = 0.4
_MARK = "aiod"
_MOST_IN_MEMORY = 1 << 27
"""Labels of so many pixels are shown from memory, where they can be edited; larger ones lazily."""


@dataclass(frozen=True, slots=True)
class Frame:
    """How labels lie on the layer they are of: its axes, and for each scale, offset and unit."""

    layer: str
    axes: str
    scale: Mapping[str, float]
    translate: Mapping[str, float]
    units: Mapping[str, Any]

    @classmethod
    def of(cls, layer: Any, axes: str) -> Frame:
        """That of an image layer; `axes` are a letter for each of its axes."""
        return cls(
            str(layer.name),
            axes,
            dict(zip(axes, map(float, layer.scale), strict=True)),
            dict(zip(axes, map(float, layer.translate), strict=True)),
            dict(zip(axes, layer.units, strict=True)),
        )

    def fitted(self, labels: Pixels, axes: str) -> tuple[Pixels, str]:
        """Labels in the order of the layer's axes, without those it lacks; and the axes left.

        An axis C of the layer becomes one of width 1, so that the axes before it stay in place;
        what has several pixels along an axis that the layer lacks keeps it, in front.
        """
        kept = [a for a, n in zip(axes, labels.shape, strict=True) if a in self.axes or n > 1]
        index: tuple[Any, ...] = tuple(slice(None) if a in kept else 0 for a in axes)
        order = [a for a in kept if a not in self.axes] + [a for a in self.axes if a in kept]
        labels = labels[index].transpose([kept.index(a) for a in order])
        before = [a for a in order if a in self.axes.partition("C")[0]]
        if "C" in self.axes and "C" not in order and before:
            at = order.index(before[-1]) + 1
            labels = np.expand_dims(labels, at)
            order.insert(at, "C")
        return labels, "".join(order)

    def place(
        self,
        axes: str,
        *,
        start: Mapping[str, float] | None = None,
        step: Mapping[str, float] | None = None,
    ) -> dict[str, Any]:
        """Keywords of `add_labels` for labels that begin at `start`, of `step` pixels each."""
        start, step = start or {}, step or {}
        scale = [self.scale.get(a, 1.0) * step.get(a, 1.0) for a in axes]
        # A pixel that stands for several lies in their middle.
        translate = [
            self.translate.get(a, 0.0)
            + self.scale.get(a, 1.0) * (start.get(a, 0.0) + (step.get(a, 1.0) - 1) / 2)
            for a in axes
        ]
        units = tuple(self.units.get(a, "pixel") for a in axes)
        names = tuple(axes.lower())  # by which time is told from depth
        return {"scale": scale, "translate": translate, "units": units, "axis_labels": names}


class Growing:
    """Labels layers that fill while a run works: one for each set of steps.

    At the end they get the run's own labels: napari takes a fifth of a second to add a layer or to
    remove one, in which the window is frozen.
    """

    def __init__(self, viewer: Any, frame: Frame | None, asker: object) -> None:
        self._viewer, self._frame, self._asker = viewer, frame, asker
        self._layers: dict[tuple[str, str], Any] = {}
        self._counts: dict[tuple[str, str], int] = {}
        self._looked = 0.0

    def add(self, message: Message) -> None:
        """Paint a tile, in the window's thread. Its numbers are new ones until the run ends."""
        said, labels = message.said, message.pixels
        if self._frame is None or labels is None:
            return
        key = (said["sample"], said["set"])
        axes, start = said["axes"], said["start"]
        whole, kept = self._frame.fitted(np.broadcast_to(np.uint32(0), said["whole"]), axes)
        if key not in self._layers:
            self._layers[key] = self._new(said, np.zeros(whole.shape, np.uint32), kept)
            self._counts[key] = 0
        layer, count = self._layers[key], self._counts[key]
        if layer not in self._viewer.layers or layer.data.shape != whole.shape:
            return  # the user took it away, or has something else in it
        box = Box(tuple(start), tuple(a + n for a, n in zip(start, labels.shape, strict=True)))
        ranges = dict(zip(axes, box.slices, strict=True))
        part, _ = self._frame.fitted(labels, axes)
        index = tuple(ranges.get(axis, slice(None)) for axis in kept)
        layer.data[index] = np.where(part > 0, part.astype(np.uint32) + np.uint32(count), 0)
        self._counts[key] = count + int(labels.max(initial=0))
        if time.monotonic() - self._looked > _SECONDS_BETWEEN_LOOKS:
            self.refresh()

    def refresh(self) -> None:
        self._looked = time.monotonic()
        for layer in self._layers.values():
            if layer in self._viewer.layers:  # neither its extent nor its highlight has changed
                layer.refresh(thumbnail=False, highlight=False, extent=False)

    def _new(self, said: Mapping[str, Any], empty: Pixels, kept: str) -> Any:
        assert self._frame is not None
        axes, thin = said["axes"], said["thin"]
        step = {a: 1 / said["factors"].get(a, 1.0) for a in axes}
        step |= {a: thin * step.get(a, 1.0) for a in "YX"}
        name = f"{said['set']} (arriving)"
        about = {"arriving": said["set"], "of": self._frame.layer, "axes": kept}
        about["asker"] = id(self._asker)
        # What a run left that was stopped goes on.
        left = [layer for layer in self._viewer.layers if _about(layer) == about]
        place = self._frame.place(kept, step=step)
        return _put(self._viewer, Shown(name, empty, kept, about), place, left[0] if left else None)

    def finish(self, shown: Shown) -> Any:
        """Show the labels of a finished run: in the layer that grew, if it is still there."""
        assert self._frame is not None
        key = next((key for key in self._layers if key[1] == shown.name), None)
        layer = self._layers.pop(key, None) if key is not None else None
        return _put(self._viewer, shown, self._frame.place(shown.axes), layer)


def show_preview(viewer: Any, frame: Frame, message: Message, asker: object) -> Any:
    """A look at a part as a Labels layer, in place of the last one of that set by that asker."""
    said, labels = message.said, message.pixels
    assert labels is not None
    pixels, kept = frame.fitted(labels, said["axes"])
    start = dict(zip(said["axes"], said["start"], strict=True))
    about = {"preview": said["set"], "of": frame.layer, "asker": id(asker)}
    last = _last(viewer, about)
    about["objects"] = said["objects"]
    shown = Shown(f"{said['set']} (preview)", pixels.astype(np.uint32), kept, about)
    return _put(viewer, shown, frame.place(kept, start=start), last)


def show_prepared(viewer: Any, frame: Frame, message: Message, asker: object) -> Any:
    """What the model saw of a part, as an Image layer in place of the last one of that set."""
    said, pixels = message.said, message.pixels
    assert pixels is not None
    pixels, kept = frame.fitted(pixels, said["axes"])
    about = {"preview": said["set"], "of": frame.layer, "asker": id(asker), "prepared": True}
    shown = Shown(f"{said['set']} (after the steps)", pixels, kept, about)
    place = frame.place(kept, start=said["start"], step=said["step"])
    layer = _put(
        viewer, shown, place, _last(viewer, about), add=partial(viewer.add_image, rgb=False)
    )
    layer.reset_contrast_limits()
    return layer


def _last(viewer: Any, about: Mapping[str, Any]) -> Any:
    """The layer that tells the same of itself; None where there is none."""
    keys = ("preview", "of", "asker", "prepared")
    same = [
        layer
        for layer in viewer.layers
        if all(_about(layer).get(key) == about.get(key) for key in keys)
    ]
    return same[0] if same else None


def is_ours(layer: Any) -> bool:
    """Whether this plugin made a layer."""
    return bool(_about(layer))


def previews(viewer: Any, asker: object) -> list[Any]:
    """The layers of looks at parts by an asker."""
    ours = [layer for layer in viewer.layers if _about(layer).get("asker") == id(asker)]
    return [layer for layer in ours if "preview" in _about(layer)]


@dataclass(frozen=True, slots=True)
class Shown:
    """Labels, ready to be a layer; made in a thread."""

    name: str
    data: Any
    axes: str
    metadata: Mapping[str, Any]


def labels_of_run(folder: Path, images: Sequence[ImageRecord], frame: Frame) -> list[Shown]:
    """The label images of a run of one layer. Raises AiodError."""
    found = []
    for image in images:
        if image.labels is None:
            continue
        source = open_labels(folder / image.labels).source
        small = int(np.prod(source.shape)) <= _MOST_IN_MEMORY
        data = source.read(Box.whole(source.shape)) if small else lazy(source)
        data, kept = frame.fitted(data, source.axes)
        about = {"set": image.set, "of": frame.layer, "objects": image.objects, "run": str(folder)}
        found.append(Shown(image.set, data, kept, about))
    return found


def _about(layer: Any) -> Mapping[str, Any]:
    """What this plugin noted of a layer that it made; nothing of any other."""
    about: Mapping[str, Any] = layer.metadata.get(_MARK, {})
    return about


def _put(
    viewer: Any,
    shown: Shown,
    place: Mapping[str, Any],
    layer: Any,
    *,
    add: Callable[..., Any] | None = None,
) -> Any:
    """Labels in a layer of ours, or in a new one where there is none that they fit.

    `add` makes a layer of another kind.
    """
    metadata = {_MARK: dict(shown.metadata)}
    if layer is None or layer not in viewer.layers or layer.ndim != shown.data.ndim:
        add = add or viewer.add_labels
        return add(shown.data, name=shown.name, metadata=metadata, **place)
    layer.data = shown.data
    layer.name = shown.name
    for key, values in place.items():
        if tuple(getattr(layer, key)) != tuple(values):  # drawn anew each time
            setattr(layer, key, values)
    layer.metadata = metadata
    return layer
