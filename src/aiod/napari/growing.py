"""Labels layers that fill while a run works.

Napari takes a tenth of a second to add a layer, and more to remove one; the window is frozen
meanwhile. So a layer is added as the answer to the press of Run, fills as tiles come, and gets
the run's own labels in the end.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from napari.layers import Labels

from aiod.flow.protocol import Message
from aiod.flow.source import Box
from aiod.flow.tiles.arrival import thinned_shape, thinning
from aiod.napari.results import Frame, Shown, about_of, disown, is_ours, put

_SECONDS_BETWEEN_LOOKS = 0.4
_ARRIVING = "(arriving)"
"""What stands behind the name of a layer that fills."""


class Growing:
    """The layers of a run of one layer, one for each set of steps.

    `frame` is None where a run is of files, of which nothing is shown. A layer into which the user
    put something else is the user's, and no longer touched.
    """

    def __init__(self, viewer: Any, frame: Frame | None, asker: object) -> None:
        self._viewer, self._frame, self._asker = viewer, frame, asker
        self._layers: dict[str, Any] = {}
        self._pixels: dict[str, Any] = {}
        self._counts: dict[str, int] = {}
        self._new: set[str] = set()
        self._selected: list[Any] = []
        self._looked = 0.0

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
                self._new.add(name)
                self._make_ready({"set": name, **expected}, None)
            else:
                self._layers[name], self._pixels[name] = left, left.data

    def add(self, message: Message) -> None:
        """Paint a tile, in the window's thread. Its numbers are new ones until the run ends."""
        said, labels = message.said, message.pixels
        if self._frame is None or labels is None:
            return
        name, axes, start = said["set"], said["axes"], said["start"]
        if name in self._layers and not self._is_there(name):
            return
        if name not in self._counts:
            self._make_ready(said, self._layers.get(name))
            self._counts[name] = 0
        pixels, count = self._pixels[name], self._counts[name]
        box = Box(tuple(start), tuple(a + n for a, n in zip(start, labels.shape, strict=True)))
        ranges = dict(zip(axes, box.slices, strict=True))
        part, _ = self._frame.fitted(labels, axes)
        index = tuple(ranges.get(axis, slice(None)) for axis in self._shape(said)[1])
        pixels[index] = np.where(part > 0, part.astype(np.uint32) + np.uint32(count), 0)
        self._counts[name] = count + int(labels.max(initial=0))
        if time.monotonic() - self._looked > _SECONDS_BETWEEN_LOOKS:
            self.refresh()

    def refresh(self) -> None:
        """Have what was painted drawn."""
        self._looked = time.monotonic()
        for name in self._counts:
            if self._is_there(name):  # neither its extent nor its highlight has changed
                self._layers[name].refresh(thumbnail=False, highlight=False, extent=False)

    def finish(self, shown: Shown) -> Any:
        """Show the labels of a finished run: in the layer that grew, if it is still there."""
        assert self._frame is not None
        layer = self._layers[shown.name] if self._is_there(shown.name) else None
        self._layers.pop(shown.name, None)
        place = self._frame.place(shown.axes)
        return put(self._viewer, shown, place, self._unless_other(layer, shown.data.ndim))

    def end(self) -> None:
        """No more comes: layers that nothing came into go, what was painted is drawn."""
        empty = [name for name in self._new if name not in self._counts and self._is_there(name)]
        self._new.clear()
        for name in empty:
            layer = self._layers.pop(name)
            if _ARRIVING in layer.name and not layer.data.any():
                self._viewer.layers.remove(layer)
            else:  # the user has worked in it
                disown(layer)
        if empty and not self._viewer.layers.selection:
            there = [layer for layer in self._selected if layer in self._viewer.layers]
            self._viewer.layers.selection.update(there)
        self.refresh()

    def _is_there(self, name: str) -> bool:
        """Whether the layer of a set is shown as it was made."""
        layer: Any = self._layers.get(name)
        there = layer is not None and layer in self._viewer.layers and is_ours(layer)
        return there and layer.data is self._pixels[name]

    def _make_ready(self, said: Mapping[str, Any], layer: Any) -> None:
        """A layer, a new one for None, with room for all tiles of a set, on the image."""
        assert self._frame is not None
        name = said["set"]
        shape, kept = self._shape(said)
        layer = self._unless_other(layer, len(shape))
        as_it_is = layer is not None and name in self._new and layer.data.shape == shape
        pixels = layer.data if as_it_is else np.zeros(shape, np.uint32)
        step = {a: 1 / said["factors"].get(a, 1.0) for a in said["axes"]}
        step |= {a: said["thin"] * step.get(a, 1.0) for a in "YX"}
        shown = Shown(f"{name} {_ARRIVING}", pixels, kept, self._about(name))
        place = self._frame.place(kept, step=step)
        self._layers[name] = put(self._viewer, shown, place, layer)
        self._pixels[name] = pixels

    def _unless_other(self, layer: Any, ndim: int) -> Any:
        """A layer, if it has so many axes; it goes where it has others."""
        if layer is not None and layer.ndim != ndim:
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
