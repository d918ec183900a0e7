"""Labels layers that fill while a run works.

Napari takes a tenth of a second to add a layer, and more to remove one; the window is frozen
meanwhile. So a layer is added as the answer to the press of Run, fills as tiles come, and gets
the run's own labels in the end. The objects of a tile are painted as a user would paint them: then
napari draws these anew, not the whole layer. Of several tiles each is painted in a turn of Qt's
loop of its own.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from napari.layers import Labels
from qtpy.QtCore import QObject

from aiod.flow.protocol import Message
from aiod.flow.tiles.arrival import thinned_shape, thinning
from aiod.napari.background import in_another_turn
from aiod.napari.results import Frame, Shown, about_of, disown, forget_edits, is_ours, put

_SECONDS_BETWEEN_LOOKS = 0.2
_ARRIVING = "(arriving)"
"""What stands behind the name of a layer that fills."""


@dataclass(slots=True)
class _Filling:
    """The layer of a set, and the array that it has had since it was made.

    A layer that is not `new` was left by a stopped run. `count` objects were painted; None stands
    for no tile yet.
    """

    layer: Any
    pixels: Any
    new: bool
    touching: threading.Thread | None = None
    count: int | None = None

    def touch(self) -> None:
        """Have the memory of all pixels made ready beside the window, which else waits for it."""
        one_of_each_page = self.pixels.reshape(-1)[:: 4096 // self.pixels.itemsize]
        touch = (one_of_each_page, 0, one_of_each_page)
        self.touching = threading.Thread(target=np.bitwise_or, args=touch)
        self.touching.start()

    def paint(self, index: tuple[Any, ...], numbers: Any, *, draw: bool) -> None:
        """Paint objects, drawn at once or with the next ones; Ctrl+Z takes nothing of it back."""
        if self.touching is not None:
            self.touching.join()
        if self.layer.visible and self.layer.loaded:
            self.layer.data_setitem(index, numbers, refresh=draw)
            forget_edits(self.layer)
        else:  # drawn when it is shown again
            self.pixels[index] = numbers


class Growing:
    """The layers of a run of one layer, one for each set of steps.

    `frame` is None where a run is of files, of which nothing is shown. A layer into which the user
    put something else is the user's, and no longer touched.
    """

    def __init__(self, viewer: Any, frame: Frame | None, asker: QObject) -> None:
        self._viewer, self._frame, self._asker = viewer, frame, asker
        self._fillings: dict[str, _Filling] = {}
        self._selected: list[Any] = []
        self._waiting: deque[Message] = deque()
        self._drawn = 0.0

    def begin(self, sets: Iterable[str]) -> None:
        """A layer for each set: an empty one, or the one that a stopped run left."""
        if self._frame is None:
            return
        self._selected = list(self._viewer.layers.selection)
        axes = "".join(axis for axis in "TZYX" if axis in self._frame.axes)
        shape = tuple(self._frame.sizes[axis] for axis in axes)
        thin = thinning(shape)
        expected = {"axes": axes, "whole": thinned_shape(shape, thin), "thin": thin, "factors": {}}
        for name in sets:
            left = self._left(name)
            if left is None:
                self._make_ready({"set": name, **expected}, None)
            else:
                self._fillings[name] = _Filling(left, left.data, new=False)
                left.editable = False

    def add(self, message: Message) -> None:
        """Paint a tile soon, in the window's thread; its numbers are new until the run ends."""
        if self._frame is None or message.pixels is None:
            return
        self._waiting.append(message)
        if len(self._waiting) == 1:
            in_another_turn(self._paint_next, asker=self._asker)

    def _paint_next(self) -> None:
        if not self._waiting:
            return
        draw = time.monotonic() - self._drawn > _SECONDS_BETWEEN_LOOKS
        if draw:
            self._drawn = time.monotonic()
        self._paint(self._waiting.popleft(), draw=draw)
        if self._waiting:
            in_another_turn(self._paint_next, asker=self._asker)

    def _paint(self, message: Message, *, draw: bool) -> None:
        said, labels = message.said, message.pixels
        assert self._frame is not None
        assert labels is not None
        name = said["set"]
        if name in self._fillings and not self._is_there(name):
            return
        if name not in self._fillings or self._fillings[name].count is None:
            self._make_ready(said, self._fillings.get(name))
            self._fillings[name].count = 0
        filling = self._fillings[name]
        assert filling.count is not None
        part, kept = self._frame.fitted(labels, said["axes"])
        start = dict(zip(said["axes"], said["start"], strict=True))
        objects = np.nonzero(part)
        index = tuple(at + start.get(axis, 0) for at, axis in zip(objects, kept, strict=True))
        filling.paint(index, part[objects].astype(np.uint32) + np.uint32(filling.count), draw=draw)
        filling.count += int(labels.max(initial=0))

    def make_room(self) -> dict[str, Any]:
        """Set -> the array of its layer, for the labels of the finished run; no tile comes now."""
        self._waiting.clear()
        return {name: each.pixels for name, each in self._fillings.items() if self._is_there(name)}

    def finish(self, shown: Shown) -> Any:
        """Show the labels of a finished run: in the layer that grew, if it is still there."""
        assert self._frame is not None
        there = self._is_there(shown.name)
        filling = self._fillings.pop(shown.name, None)
        same = filling is not None and shown.data is filling.pixels
        if same and not there:  # it became the user's while the labels were read
            shown = replace(shown, data=shown.data.copy())
        layer = self._unless_other(filling.layer if filling and there else None, shown)
        layer = put(self._viewer, shown, self._frame.place(shown.axes), layer)
        if same and there:
            layer.refresh(highlight=False, extent=False)
            layer.editable = True
            forget_edits(layer)
        return layer

    def end(self) -> None:
        """No more comes: layers that nothing came into go, what was painted is drawn."""
        while self._waiting:
            self._paint(self._waiting.popleft(), draw=False)
        fillings = {name: it for name, it in self._fillings.items() if self._is_there(name)}
        self._fillings.clear()
        for filling in fillings.values():
            filling.layer.editable = True
        empty = [it.layer for it in fillings.values() if it.new and it.count is None]
        for layer in empty:
            if _ARRIVING in layer.name and not layer.data.any():
                self._viewer.layers.remove(layer)
            else:  # the user has worked in it
                disown(layer)
        if empty and not self._viewer.layers.selection:
            there = [layer for layer in self._selected if layer in self._viewer.layers]
            self._viewer.layers.selection.update(there)
        for filling in fillings.values():
            if filling.count is not None:  # neither its extent nor its highlight has changed
                filling.layer.refresh(highlight=False, extent=False)

    def _is_there(self, name: str) -> bool:
        """Whether the layer of a set is shown as it was made."""
        filling = self._fillings.get(name)
        if filling is None or filling.layer not in self._viewer.layers:
            return False
        return is_ours(filling.layer) and filling.layer.data is filling.pixels

    def _make_ready(self, said: Mapping[str, Any], filling: _Filling | None) -> None:
        """A layer with room for all tiles of a set, on the image; the one it has, if that fits."""
        assert self._frame is not None
        name = said["set"]
        shape, kept = self._shape(said)
        as_it_is = filling is not None and filling.new and filling.pixels.shape == shape
        pixels = filling.pixels if filling and as_it_is else np.zeros(shape, np.uint32)
        step = {a: 1 / said["factors"].get(a, 1.0) for a in said["axes"]}
        step |= {a: said["thin"] * step.get(a, 1.0) for a in "YX"}
        shown = Shown(f"{name} {_ARRIVING}", pixels, kept, self._about(name))
        layer = self._unless_other(filling.layer if filling else None, shown)
        layer = put(self._viewer, shown, self._frame.place(kept, step=step), layer)
        if not as_it_is:
            self._fillings[name] = _Filling(layer, pixels, new=True)
            self._fillings[name].touch()
        layer.editable = False  # what a user paints would be lost

    def _unless_other(self, layer: Any, shown: Shown) -> Any:
        """A layer, if it can show this; else it goes."""
        if layer is not None and not shown.fits(layer):
            self._viewer.layers.remove(layer)
            return None
        return layer

    def _shape(self, said: Mapping[str, Any]) -> tuple[tuple[int, ...], str]:
        """The shape of all tiles of a set as a layer, and its axes."""
        assert self._frame is not None
        whole = np.broadcast_to(np.uint32(0), said["whole"])
        fitted, kept = self._frame.fitted(whole, said["axes"])
        return fitted.shape, kept

    def _left(self, name: str) -> Any:
        """The layer of a run that was stopped; None where there is none.

        One that was renamed, or made to be of another kind, is the user's.
        """
        about = self._about(name)
        for layer in self._viewer.layers:
            if about_of(layer) == about and isinstance(layer, Labels) and _ARRIVING in layer.name:
                return layer
        return None

    def _about(self, name: str) -> dict[str, Any]:
        assert self._frame is not None
        return {"arriving": name, "of": self._frame.layer, "asker": id(self._asker)}
