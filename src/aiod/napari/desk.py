"""The labels at work: what is chosen, what is done to them beside the window, how it comes back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from magicgui.widgets import CheckBox
from napari.layers import Image, Labels, Layer
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from aiod.errors import AiodError
from aiod.flow.refine.frames import numbered
from aiod.napari.background import in_background
from aiod.napari.knobs import rows
from aiod.napari.masks import Mask, Pixels, beside, chooser, finest, follow
from aiod.napari.notice import Notice
from aiod.words import counted

T = TypeVar("T")

MOST_IN_PLACE = 100_000
"""Pixels that are changed in the layer itself, so that it can undo it: more would stop the window
for longer than a blink, and make a new layer."""

_EDITS = ("data", "labels_update", "paint")
_CALM = 200  # ms without a further edit, before objects are looked at again


@dataclass(frozen=True, slots=True)
class _Change:
    """The labels after an operation: which pixels became what, the largest number, how many."""

    pixels: Pixels
    places: tuple[Pixels, ...]
    values: Pixels
    most: int
    before: int
    after: int


class _Begun:
    """A layer as it was when work on it began; `edited` is whether it has changed since."""

    def __init__(self, layer: Labels) -> None:
        self.layer, self.place = layer, beside(layer)
        self._data, self._history, self._stirred = layer.data, _history(layer), False
        for name in _EDITS:
            getattr(layer.events, name).connect(self._stir)  # napari forgets it when this is gone

    def _stir(self, _: Any = None) -> None:
        self._stirred = True

    @property
    def edited(self) -> bool:
        same = self.layer.data is self._data and _history(self.layer) == self._history
        return self._stirred or not same


class Desk(QWidget):
    """The layer that is refined, and the image that belongs to it.

    `turned` tells of another layer or image, `edited` of other pixels in the same one.
    """

    turned = Signal()
    edited = Signal()
    busy = Signal(bool)

    def __init__(self, viewer: Any, notice: Notice) -> None:
        super().__init__()
        self.viewer, self.notice = viewer, notice
        self.labels = chooser(viewer, Labels, "the objects to refine")
        self.image = chooser(viewer, Image, "what their intensities are measured in", optional=True)
        self.aside = CheckBox(
            text="Result in a new layer", tooltip="else the layer is changed, and can undo it"
        )
        self.undo_button = QPushButton("Undo")
        self.undo_button.clicked.connect(self.undo)
        self.busy.connect(self.undo_button.setDisabled)
        form = rows()
        form.addRow("Labels", self.labels.native)
        form.addRow("Image", self.image.native)
        form.addRow(self.aside.native, self.undo_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        self._calm = QTimer(self)
        self._calm.setSingleShot(True)
        self._calm.setInterval(_CALM)
        self._calm.timeout.connect(self._tell)
        self._heard: Labels | None = None
        self._history = _history(None)
        self.labels.changed.connect(self._listen)
        self.image.changed.connect(lambda _: self.turned.emit())

    @property
    def layer(self) -> Labels | None:
        """The layer that is refined."""
        return self.labels.value

    @property
    def picture(self) -> Any:
        """The array of the image, None where none is chosen."""
        return None if self.image.value is None else finest(self.image.value)

    def follow(self) -> None:
        """Offer the layers there are."""
        follow(self.labels)
        follow(self.image)
        self._listen(self.labels.value)

    def _listen(self, layer: Labels | None) -> None:
        if layer is self._heard:
            return
        heard = {**dict.fromkeys(_EDITS, self._stir), "set_data": self._look_for_undo}
        for name, hear in heard.items():
            if self._heard is not None:
                getattr(self._heard.events, name).disconnect(hear)
            if layer is not None:
                getattr(layer.events, name).connect(hear)
        self._heard, self._history = layer, _history(layer)
        self.turned.emit()

    def _stir(self, _: Any = None) -> None:
        self._calm.start()

    def _tell(self) -> None:
        self._history = _history(self._heard)
        self.edited.emit()

    def _look_for_undo(self, _: Any = None) -> None:
        """Napari tells of no Ctrl+Z: such a layer draws itself anew, as at any other slice."""
        if self._history != _history(self._heard):
            self._stir()

    # --- work -------------------------------------------------------------------------------------

    def run(self, what: str, work: Callable[[], T], done: Callable[[T], Any]) -> None:
        """Do some work beside the window; meanwhile nothing else can be begun here."""
        self.notice.say(f"{what}…")
        self.busy.emit(True)

        def end(found: T) -> None:
            self.busy.emit(False)
            self.notice.clear()
            done(found)

        def fail(error: Exception) -> None:
            self.busy.emit(False)
            self.notice.fail(error)

        in_background(work, end, fail, asker=self)

    def change(
        self, what: str, function: Callable[[Pixels], Pixels], *, here: bool = False
    ) -> None:
        """Do something to the labels, in the layer itself or in a new one.

        `function` gets all of them, or where `here` the time point that is shown.
        """
        layer = self.layer
        try:
            mask = Mask.of(layer)
        except AiodError as error:
            self.notice.fail(error)
            return
        at = self.time if here else None
        begun = _Begun(layer)
        self.run(what, partial(_changed, mask, function, at), partial(self._show, what, begun))

    @property
    def time(self) -> int | None:
        """The time point of the labels that is shown; None where they have none."""
        if self.layer is None or not Mask.of(self.layer).axes.startswith("T"):
            return None
        step = round(float(self.layer.world_to_data(self.viewer.dims.point)[0]))
        return min(max(step, 0), int(finest(self.layer).shape[0]) - 1)

    def _show(self, what: str, begun: _Begun, change: _Change) -> None:
        if not change.places[0].size:
            self.notice.say(f"{what}: nothing changed.")
            return
        layer = begun.layer
        where = "in a new layer" if self.aside.value else _why_not_in_place(layer, change)
        if begun.edited:
            where = "in a new layer, as this one was edited meanwhile"
        if where is None and layer in self.viewer.layers:
            layer.data_setitem(change.places, change.values.astype(layer.data.dtype))
        else:
            name = f"{layer.name}: {what.lower()}"
            self.viewer.add_labels(change.pixels, name=name, **begun.place)
        self.notice.say(
            f"{what}: {counted(change.before, 'object')} before, {change.after:,} now"
            f"{f', {where}' if where else ''}."
        )

    def add(self, name: str, pixels: Pixels, beside_layer: Layer, **looks: Any) -> Labels:
        """A new layer of labels in the place of another."""
        return self.viewer.add_labels(pixels, name=name, **beside(beside_layer), **looks)

    def undo(self) -> None:
        """Take back the last change of the layer."""
        if self.layer is not None:
            self.layer.undo()
            self._stir()


def _changed(mask: Mask, function: Callable[[Pixels], Pixels], at: int | None) -> _Change:
    before = mask.pixels()
    if at is None:
        after = function(before)
    else:
        frame = function(before[at])
        after = before.astype(np.promote_types(before.dtype, frame.dtype))
        after[at] = frame
    places = np.nonzero(after != before)
    return _Change(
        pixels=after,
        places=places,
        values=after[places],
        most=int(after.max()),
        before=_objects(before, mask.axes),
        after=_objects(after, mask.axes),
    )


def _history(layer: Labels | None) -> tuple[int, int]:
    """How many changes of a layer can be taken back, and made again; napari has no name for it."""
    undo, redo = (getattr(layer, f"_{name}_history", ()) for name in ("undo", "redo"))
    return len(undo), len(redo)


def _objects(labels: Pixels, axes: str) -> int:
    frames = labels if axes.startswith("T") else (labels,)
    return sum(len(numbered(frame)[1]) - 1 for frame in frames)


def _why_not_in_place(layer: Labels, change: _Change) -> str | None:
    """Why a change makes a new layer although that was not asked for; None where it does not."""
    data = finest(layer)
    if layer.multiscale or not isinstance(data, np.ndarray) or not data.flags.writeable:
        return "in a new layer, as this one only shows a file or a pyramid"
    if change.most > np.iinfo(data.dtype).max:
        return f"in a new layer, as numbers of the type {data.dtype} are too small"
    if len(change.places[0]) > MOST_IN_PLACE:
        return f"in a new layer, as {len(change.places[0]):,} pixels are many to undo"
    return None
