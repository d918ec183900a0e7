"""Labels in the viewer: looks at a part, and the labels of a finished run (see `growing`)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aiod.flow.protocol import Message
from aiod.flow.record import ImageRecord
from aiod.flow.results.labels import open_labels
from aiod.flow.results.view import is_large, lazy_levels
from aiod.flow.source import Box, Pixels
from aiod.napari.adding import add_labels
from aiod.napari.levels import Levels
from aiod.napari.masks import finest

_MARK = "aiod"
_MOST_IN_MEMORY = 1 << 27
"""Labels of so many pixels are shown from memory; more of them from their files, lazily."""


@dataclass(frozen=True, slots=True)
class Frame:
    """How labels lie on the layer they are of: of its axes the pixels, scale, offset, unit."""

    layer: str
    axes: str
    sizes: Mapping[str, int]
    scale: Mapping[str, float]
    translate: Mapping[str, float]
    units: Mapping[str, Any]

    @classmethod
    def of(cls, layer: Any, axes: str) -> Frame:
        """That of an image layer; `axes` are a letter for each of its axes."""
        shape = (layer.data[0] if layer.multiscale else layer.data).shape[: len(axes)]
        return cls(
            str(layer.name),
            axes,
            dict(zip(axes, map(int, shape), strict=True)),
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
    return put(viewer, shown, frame.place(kept, start=start), last)


def show_prepared(viewer: Any, frame: Frame, message: Message, asker: object) -> Any:
    """What the model saw of a part, as an Image layer in place of the last one of that set."""
    said, pixels = message.said, message.pixels
    assert pixels is not None
    pixels, kept = frame.fitted(pixels, said["axes"])
    about = {"preview": said["set"], "of": frame.layer, "asker": id(asker), "prepared": True}
    shown = Shown(f"{said['set']} (after the steps)", pixels, kept, about)
    place = frame.place(kept, start=said["start"], step=said["step"])
    layer = put(viewer, shown, place, _last(viewer, about), add=_add_image)
    layer.reset_contrast_limits()
    return layer


def _add_image(viewer: Any, pixels: Any, **keywords: Any) -> Any:
    return viewer.add_image(pixels, rgb=False, **keywords)


def _last(viewer: Any, about: Mapping[str, Any]) -> Any:
    """The layer that tells the same of itself; None where there is none."""
    keys = ("preview", "of", "asker", "prepared")
    same = [
        layer
        for layer in viewer.layers
        if all(about_of(layer).get(key) == about.get(key) for key in keys)
    ]
    return same[0] if same else None


def is_ours(layer: Any) -> bool:
    """Whether this plugin made a layer."""
    return bool(about_of(layer))


def disown(layer: Any) -> None:
    """Leave a layer to the user; what others noted of it stays."""
    layer.metadata = {key: value for key, value in layer.metadata.items() if key != _MARK}


def previews(viewer: Any, frame: Frame, asker: object) -> list[Any]:
    """The layers of looks at parts of a layer by an asker."""
    theirs = {"of": frame.layer, "asker": id(asker)}
    told = [(layer, about_of(layer)) for layer in viewer.layers]
    return [layer for layer, it in told if "preview" in it and theirs.items() <= it.items()]


@dataclass(frozen=True, slots=True)
class Shown:
    """Labels, ready to be a layer; made in a thread. `data` are an array or a list, a pyramid."""

    name: str
    data: Any
    axes: str
    metadata: Mapping[str, Any]

    @property
    def multiscale(self) -> bool:
        """Whether it is a pyramid."""
        return isinstance(self.data, list)

    @property
    def finest(self) -> Any:
        """The array, of a pyramid the largest."""
        return self.data[0] if self.multiscale else self.data

    def keywords(self, place: Mapping[str, Any]) -> dict[str, Any]:
        """Those of a new layer that shows it at a `place`."""
        metadata = {_MARK: dict(self.metadata)}
        about = {"name": self.name, "metadata": metadata, "multiscale": self.multiscale}
        return {**about, **place}

    def fits(self, layer: Any) -> bool:
        """Whether a layer can show it: napari has other ones for other axes, and for pyramids."""
        return bool(layer.ndim == self.finest.ndim and layer.multiscale == self.multiscale)


class Room:
    """The pixels of layers that wait for labels, by set; a thread may write to them until `close`.

    Napari shows other pixels of the same array sooner than another array.
    """

    def __init__(self, there: Mapping[str, Levels], touching: Iterable[threading.Thread]) -> None:
        self._there, self._touching = there, tuple(touching)
        self._closed, self._writing = False, threading.Lock()

    def put(self, name: str, labels: Pixels) -> Levels:
        """Labels where those of their set wait for them, if they fit; else by themselves."""
        levels = self._there.get(name)
        pyramid = levels.pyramid if levels is not None else is_large(labels.shape)
        if levels is not None and levels.finest.shape == labels.shape:
            for thread in self._touching:
                thread.join()
            with self._writing:
                if not self._closed and np.can_cast(labels.dtype, levels.finest.dtype):
                    levels.write(labels, (0,) * labels.ndim)
                    return levels
        return Levels.of(labels, pyramid=pyramid)

    def close(self) -> None:
        """Nothing more is written; what is being written is waited for."""
        with self._writing:
            self._closed = True


def labels_of_run(
    folder: Path, images: Sequence[ImageRecord], frame: Frame, room: Room
) -> list[Shown]:
    """The label images of a run of one layer, in the room there is. Raises AiodError."""
    found = []
    for image in images:
        if image.labels is None:
            continue
        opened = open_labels(folder / image.labels)
        source = opened.source
        if int(np.prod(source.shape)) <= _MOST_IN_MEMORY:
            pixels, kept = frame.fitted(source.read(Box.whole(source.shape)), source.axes)
            data = room.put(image.set, pixels).data
        else:
            fitted = [frame.fitted(level, source.axes) for level in lazy_levels(opened)]
            data, kept = [level for level, _ in fitted], fitted[0][1]
            data = data if len(data) > 1 else data[0]
        about = {"set": image.set, "of": frame.layer, "objects": image.objects, "run": str(folder)}
        found.append(Shown(image.set, data, kept, about))
    return found


def about_of(layer: Any) -> Mapping[str, Any]:
    """What this plugin noted of a layer that it made; nothing of any other."""
    about: Mapping[str, Any] = layer.metadata.get(_MARK, {})
    return about


def put(
    viewer: Any,
    shown: Shown,
    place: Mapping[str, Any],
    layer: Any,
    *,
    add: Callable[..., Any] = add_labels,
) -> Any:
    """Labels in a layer of ours, or in a new one where there is none that they fit.

    `add` makes it and adds it to the viewer, as another kind of layer too.
    """
    keywords = shown.keywords(place)
    if layer is None or layer not in viewer.layers or not shown.fits(layer):
        return add(viewer, shown.data, **keywords)
    layer.name, layer.metadata = keywords["name"], keywords["metadata"]
    for key, values in place.items():
        if tuple(getattr(layer, key)) != tuple(values):  # napari looks at all pixels each time
            setattr(layer, key, values)
    if finest(layer) is not shown.finest:  # last, as these may be many more
        layer.data = shown.data
        forget_edits(layer)
    return layer


def forget_edits(layer: Any) -> None:
    """Have napari forget what Ctrl+Z would take back: it was of other labels."""
    editable = layer.editable
    with layer.events.editable.blocker():  # nobody need hear of what is as before
        layer.editable = True
        layer.editable = False  # at which it forgets
        layer.editable = editable


def draw_painted(layer: Any) -> None:
    """Draw what was painted with `data_setitem` and not refreshed; of a pyramid what is in view."""
    painted = getattr(layer, "_partial_labels_refresh", None)  # napari has no public name for it
    if painted is not None and not layer.multiscale:
        painted()
    else:
        layer.refresh(thumbnail=False, highlight=False, extent=False)
