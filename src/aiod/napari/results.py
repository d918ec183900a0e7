"""Labels in the viewer: tiles as they arrive, looks at a part, and the labels of a finished run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aiod.flow.protocol import Message
from aiod.flow.record import RunRecord
from aiod.flow.results.labels import open_labels
from aiod.flow.results.view import lazy
from aiod.flow.source import Box, Pixels

_SECONDS_BETWEEN_LOOKS = 0.4
_MARK = "aiod"
_MOST_IN_MEMORY = 1 << 27
"""Labels of so many pixels are shown from memory, where they can be edited; larger ones lazily."""


@dataclass(frozen=True, slots=True)
class Frame:
    """How labels lie on the layer they are of: its axes, and for each its scale and offset."""

    axes: str
    scale: Mapping[str, float]
    translate: Mapping[str, float]

    @classmethod
    def of(cls, layer: Any, axes: str) -> Frame:
        """That of an image layer; `axes` are a letter for each of its axes."""
        return cls(
            axes,
            dict(zip(axes, map(float, layer.scale), strict=True)),
            dict(zip(axes, map(float, layer.translate), strict=True)),
        )

    def fitted(self, labels: Pixels, axes: str) -> tuple[Pixels, str]:
        """Labels without the axes of one that the layer lacks, and the axes that are left.

        An axis C of the layer becomes one of width 1, so that the axes before it stay in place.
        """
        kept = "".join(
            a for a, n in zip(axes, labels.shape, strict=True) if a in self.axes or n > 1
        )
        index: tuple[Any, ...] = tuple(slice(None) if a in kept else 0 for a in axes)
        labels = labels[index]
        at = self.axes.find("C")
        if at > 0 and any(axis in kept for axis in self.axes[:at]):
            labels, kept = np.expand_dims(labels, at), f"{kept[:at]}C{kept[at:]}"
        return labels, kept

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
        return {"scale": scale, "translate": translate}


class Growing:
    """Labels layers that fill while a run works: one for each set of steps.

    At the end they get the run's own labels. Napari takes a fifth of a second to add a layer or to
    remove one, in which the window is frozen: so the layer of an earlier run is used again.
    """

    def __init__(self, viewer: Any, frame: Frame | None) -> None:
        self._viewer, self._frame = viewer, frame
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
        if key not in self._layers:
            self._layers[key] = self._new(said)
            self._counts[key] = 0
        layer, count = self._layers[key], self._counts[key]
        if layer not in self._viewer.layers:
            return  # the user took it away
        box = Box(tuple(start), tuple(a + n for a, n in zip(start, labels.shape, strict=True)))
        ranges = dict(zip(axes, box.slices, strict=True))
        kept = _about(layer)["axes"]
        part, _ = self._frame.fitted(labels, axes)
        index = tuple(ranges.get(axis, slice(None)) for axis in kept)
        layer.data[index] = np.where(part > 0, part.astype(np.uint32) + np.uint32(count), 0)
        self._counts[key] = count + int(labels.max(initial=0))
        if time.monotonic() - self._looked > _SECONDS_BETWEEN_LOOKS:
            self.refresh()

    def refresh(self) -> None:
        self._looked = time.monotonic()
        for layer in self._layers.values():
            if layer in self._viewer.layers:
                layer.refresh()

    def _new(self, said: Mapping[str, Any]) -> Any:
        assert self._frame is not None
        axes, thin = said["axes"], said["thin"]
        empty, kept = self._frame.fitted(np.zeros(said["whole"], np.uint32), axes)
        step = {a: 1 / said["factors"].get(a, 1.0) for a in axes}
        step |= {a: thin * step.get(a, 1.0) for a in "YX"}
        place = self._frame.place(kept, step=step)
        about = {"set": said["set"], "axes": kept}
        return _replace(self._viewer, f"{said['set']} (arriving)", empty, place, about)


def show_preview(viewer: Any, frame: Frame, message: Message) -> Any:
    """A look at a part as a Labels layer, in place of the last one of that set."""
    said, labels = message.said, message.pixels
    assert labels is not None
    shown, kept = frame.fitted(labels, said["axes"])
    start = dict(zip(said["axes"], said["start"], strict=True))
    about = {"preview": said["set"], "objects": said["objects"]}
    name = f"{said['set']} (preview)"
    return _replace(viewer, name, shown.astype(np.uint32), frame.place(kept, start=start), about)


def remove_previews(viewer: Any) -> None:
    """Take looks at parts away: the labels of the whole are there."""
    for layer in [each for each in viewer.layers if "preview" in _about(each)]:
        viewer.layers.remove(layer)


@dataclass(frozen=True, slots=True)
class Shown:
    """Labels of a finished run, ready to be a layer; made in a thread."""

    name: str
    data: Any
    axes: str
    metadata: Mapping[str, Any]


def labels_of_run(folder: Path, record: RunRecord, frame: Frame) -> list[Shown]:
    """The label images of a run of one layer. Raises AiodError."""
    found = []
    for image in record.images:
        if image.labels is None:
            continue
        source = open_labels(folder / image.labels).source
        small = int(np.prod(source.shape)) <= _MOST_IN_MEMORY
        data = source.read(Box.whole(source.shape)) if small else lazy(source)
        data, kept = frame.fitted(data, source.axes)
        about = {"set": image.set, "objects": image.objects, "run": str(folder)}
        found.append(Shown(image.set, data, kept, about))
    return found


def show_labels(viewer: Any, frame: Frame, shown: Shown) -> Any:
    return _replace(viewer, shown.name, shown.data, frame.place(shown.axes), dict(shown.metadata))


def _about(layer: Any) -> Mapping[str, Any]:
    """What this plugin noted of a layer that it made; nothing of any other."""
    about: Mapping[str, Any] = layer.metadata.get(_MARK, {})
    return about


def _replace(
    viewer: Any, name: str, data: Any, place: Mapping[str, Any], about: Mapping[str, Any]
) -> Any:
    """Our Labels layer of the same kind and set with other pixels, or a new one."""
    metadata = {_MARK: about}
    kind = next(key for key in ("preview", "set") if key in about)
    ours = [layer for layer in viewer.layers if _about(layer).get(kind) == about[kind]]
    if ours and ours[0].ndim == data.ndim:
        layer = ours[0]
        layer.data = data
        layer.name = name
        for key, numbers in place.items():
            if not np.array_equal(getattr(layer, key), numbers):  # drawn anew each time
                setattr(layer, key, numbers)
        layer.metadata = metadata
        return layer
    return viewer.add_labels(data, name=name, metadata=metadata, **place)
