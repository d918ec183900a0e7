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

from aiod.flow.protocol import Message
from aiod.flow.source import Box
from aiod.flow.tiles.arrival import thinned_shape, thinning
from aiod.napari.results import Frame, Shown, about_of, is_ours, last_look, put

_SECONDS_BETWEEN_LOOKS = 0.4


class Growing:
    """The layers of a run of one layer, one for each set of steps.

    `frame` is None where a run is of files, of which nothing is shown.
    """

    def __init__(self, viewer: Any, frame: Frame | None, asker: object) -> None:
        self._viewer, self._frame, self._asker = viewer, frame, asker
        self._layers: dict[str, Any] = {}
        self._empty: set[str] = set()
        self._counts: dict[str, int] = {}
        self._looked = 0.0

    def begin(self, sets: Iterable[str]) -> None:
        """A layer for each set: an empty one, or the one that a stopped run left.

        Where a look at the set is shown, that is kept until the first tile takes its place.
        """
        if self._frame is None:
            return
        axes = "".join(axis for axis in "TZYX" if axis in self._frame.axes)
        shape = tuple(self._frame.sizes[axis] for axis in axes)
        thin = thinning(shape)
        expected = {"axes": axes, "whole": thinned_shape(shape, thin), "thin": thin, "factors": {}}
        for name in sets:
            layer = self._left(name)
            if layer is None:
                layer = self._fitted({"set": name, **expected}, None)
                self._empty.add(name)
            self._layers[name] = layer

    def add(self, message: Message) -> None:
        """Paint a tile, in the window's thread. Its numbers are new ones until the run ends."""
        said, labels = message.said, message.pixels
        if self._frame is None or labels is None:
            return
        name, axes, start = said["set"], said["axes"], said["start"]
        layer: Any = self._layers.get(name)
        if layer is not None and not self._is_there(layer):
            return  # the user took it away, or has something else in it
        if name not in self._counts:
            layer = self._layers[name] = self._fitted(said, layer)
            self._counts[name] = 0
            self._empty.discard(name)
        count = self._counts[name]
        shape, kept = self._shape(said)
        if layer.data.shape != shape:
            return  # the same
        box = Box(tuple(start), tuple(a + n for a, n in zip(start, labels.shape, strict=True)))
        ranges = dict(zip(axes, box.slices, strict=True))
        part, _ = self._frame.fitted(labels, axes)
        index = tuple(ranges.get(axis, slice(None)) for axis in kept)
        layer.data[index] = np.where(part > 0, part.astype(np.uint32) + np.uint32(count), 0)
        self._counts[name] = count + int(labels.max(initial=0))
        if time.monotonic() - self._looked > _SECONDS_BETWEEN_LOOKS:
            self.refresh()

    def refresh(self) -> None:
        """Have what was painted drawn."""
        self._looked = time.monotonic()
        for name in self._counts:
            layer: Any = self._layers.get(name)
            if layer in self._viewer.layers:  # neither its extent nor its highlight has changed
                layer.refresh(thumbnail=False, highlight=False, extent=False)

    def finish(self, shown: Shown) -> Any:
        """Show the labels of a finished run: in the layer that grew, if it is still there."""
        assert self._frame is not None
        self._empty.discard(shown.name)
        layer = self._layers.pop(shown.name, None)
        place = self._frame.place(shown.axes)
        return put(self._viewer, shown, place, layer if self._is_there(layer) else None)

    def end(self) -> None:
        """No more comes: layers that nothing came into go, what was painted is drawn."""
        for name in self._empty:
            layer = self._layers.pop(name)
            if self._is_there(layer):
                self._viewer.layers.remove(layer)
        self._empty.clear()
        self.refresh()

    def _is_there(self, layer: Any) -> bool:
        return layer in self._viewer.layers and is_ours(layer)

    def _fitted(self, said: Mapping[str, Any], layer: Any) -> Any:
        """A layer, a new one for None, with room for all tiles of a set, on the image."""
        assert self._frame is not None
        shape, kept = self._shape(said)
        as_it_is = said["set"] in self._empty and layer is not None and layer.data.shape == shape
        blank = layer.data if as_it_is else np.zeros(shape, np.uint32)
        step = {a: 1 / said["factors"].get(a, 1.0) for a in said["axes"]}
        step |= {a: said["thin"] * step.get(a, 1.0) for a in "YX"}
        shown = Shown(f"{said['set']} (arriving)", blank, kept, self._about(said["set"]))
        return put(self._viewer, shown, self._frame.place(kept, step=step), layer)

    def _shape(self, said: Mapping[str, Any]) -> tuple[tuple[int, ...], str]:
        """The shape of all tiles of a set as a layer, and its axes."""
        assert self._frame is not None
        whole = np.broadcast_to(np.uint32(0), said["whole"])
        fitted, kept = self._frame.fitted(whole, said["axes"])
        return fitted.shape, kept

    def _left(self, name: str) -> Any:
        """The layer of a run that was stopped, or of a look at this set; None where neither is."""
        assert self._frame is not None
        about = self._about(name)
        left = [layer for layer in self._viewer.layers if about_of(layer) == about]
        look = {"preview": name, "of": self._frame.layer, "asker": id(self._asker)}
        return left[0] if left else last_look(self._viewer, look)

    def _about(self, name: str) -> dict[str, Any]:
        assert self._frame is not None
        return {"arriving": name, "of": self._frame.layer, "asker": id(self._asker)}
