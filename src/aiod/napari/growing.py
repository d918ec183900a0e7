"""Labels layers that fill while a run works.

Napari takes a tenth of a second to add a layer, and more to remove one; the window is frozen
meanwhile. So a layer is added once, in steps, as the answer to the press of Run, fills as tiles
come, and gets the run's own labels in the end. The objects of a tile are painted as a user would
paint them: then napari draws these anew, not the whole layer. Layers of large planes are pyramids,
of which it draws no more than is in view. Each turn of Qt's loop paints for a moment or draws or
takes a step, however large the tiles are.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from napari.layers import Labels
from qtpy.QtWidgets import QWidget

from aiod.flow.protocol import Message
from aiod.flow.results.view import is_large
from aiod.flow.source import Box, Pixels
from aiod.flow.tiles.arrival import thinned_shape, thinning
from aiod.napari.adding import add_quietly, light_labels
from aiod.napari.background import in_another_turn
from aiod.napari.levels import Levels
from aiod.napari.masks import finest
from aiod.napari.results import (
    Frame,
    Room,
    Shown,
    about_of,
    disown,
    draw_painted,
    forget_edits,
    is_ours,
    put,
)

_ARRIVING = "(arriving)"
"""What stands behind the name of a layer that fills."""
_SECONDS_BETWEEN_DRAWINGS = 0.2
_SECONDS_OF_A_TURN = 0.01
_PIXELS_AT_ONCE = 1 << 16


@dataclass(slots=True, eq=False)
class _Filling:
    """The layer of a set, and the labels that it has had since it was made.

    A layer that is not `new` was left by a stopped run, one that is `hidden` is still being added.
    `count` objects have come; None stands for no tile yet.
    """

    layer: Any
    levels: Levels
    new: bool
    hidden: bool = False
    count: int | None = None
    touching: threading.Thread | None = None

    def touch(self) -> None:
        """Have the memory of all pixels made ready beside the window, which else waits for it."""
        self.touching = threading.Thread(target=self.levels.touch)
        self.touching.start()

    def appear(self) -> None:
        """Be seen from now on; the last step of being added."""
        if self.hidden:
            self.hidden = False
            self.layer.visible = True

    def give_back(self) -> None:
        """Let the user paint in it, where napari can: not in a pyramid."""
        self.layer.editable = not self.layer.multiscale

    @property
    def is_ready(self) -> bool:
        """Whether it can be painted."""
        return self.touching is None or not self.touching.is_alive()

    @property
    def untouched(self) -> bool:
        """Whether the layer is as it was made."""
        return is_ours(self.layer) and finest(self.layer) is self.levels.finest


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a tile: the `labels` of a `box`, to be numbered after the first `count`."""

    filling: _Filling
    box: Box
    labels: Pixels
    count: int

    def paint(self, *, seen: bool) -> bool:
        """Paint it; whether anything is to be drawn. Ctrl+Z takes nothing of it back."""
        layer = self.filling.layer
        if not seen or layer.multiscale:
            numbers = self.labels.astype(np.uint32) + np.uint32(self.count)
            self.filling.levels.write(np.where(self.labels > 0, numbers, 0), self.box.start)
            return seen and bool(self.labels.any())
        objects = np.nonzero(self.labels)
        index = tuple(at + first for at, first in zip(objects, self.box.start, strict=True))
        numbers = self.labels[objects].astype(np.uint32) + np.uint32(self.count)
        layer.data_setitem(index, numbers, refresh=False)
        forget_edits(layer)
        return bool(numbers.size)


class Growing:
    """The layers of a run of one layer, one for each set of steps.

    `frame` is None where a run is of files, of which nothing is shown. A layer into which the user
    put something else is the user's, and no longer touched.
    """

    def __init__(self, viewer: Any, frame: Frame | None, asker: QWidget) -> None:
        self._viewer, self._frame, self._asker = viewer, frame, asker
        self._fillings: dict[str, _Filling] = {}
        self._steps: deque[Callable[[], object]] = deque()
        self._waiting: deque[_Piece] = deque()
        self._undrawn: list[_Filling] = []
        self._room = Room({}, ())
        self._pyramid = False
        self._drawn = 0.0
        self._armed = False

    def begin(self, sets: Iterable[str]) -> None:
        """A layer for each set: an empty one, or the one that a stopped run left."""
        if self._frame is None:
            return
        axes = "".join(axis for axis in "TZYX" if axis in self._frame.axes)
        shape = tuple(self._frame.sizes[axis] for axis in axes)
        self._pyramid = is_large(self._fitted(shape, axes)[0])
        thin = thinning(shape)
        expected = {"axes": axes, "whole": thinned_shape(shape, thin), "thin": thin, "factors": {}}
        for name in sets:
            left = self._left(name)
            if left is None:
                said = {"set": name, **expected}
                self._steps.append(partial(self._make_ready, said, None))
            else:
                self._fillings[name] = _Filling(left, _levels_in(left), new=False)
                left.editable = False
        self._arm()

    def then(self, act: Callable[[], object]) -> None:
        """Call `act` once the layers are there."""
        self._steps.append(act)
        self._arm()

    def add(self, message: Message) -> None:
        """Paint a tile, piece by piece; its numbers are new ones until the run ends."""
        said, labels = message.said, message.pixels
        if self._frame is None or labels is None:
            return
        self._take_all_steps()  # where it came sooner
        name = said["set"]
        filling = self._fillings.get(name)
        if filling is not None and not self._is_there(filling):
            return
        if filling is None or filling.count is None:
            filling = self._make_ready(said, filling)
        count = filling.count or 0
        filling.count = count + int(labels.max(initial=0))
        part, kept = self._frame.fitted(labels, said["axes"])
        origin = dict(zip(said["axes"], said["start"], strict=True))
        zero = tuple(-origin.get(axis, 0) for axis in kept)
        self._waiting.extend(
            _Piece(filling, box.seen_from(zero), part[box.slices], count)
            for box in _boxes(part.shape)
        )
        self._arm()

    def _arm(self) -> None:
        """Go on in another turn of Qt's loop, if there is anything to do."""
        if self._armed or not (self._steps or self._waiting or self._undrawn):
            return
        self._armed = True
        after = 0.0 if self._steps or self._waiting else max(0.0, self._rest)
        if not self._steps and self._waiting and not self._waiting[0].filling.is_ready:
            after = _SECONDS_OF_A_TURN
        in_another_turn(self._go_on, asker=self._asker, after=after)

    @property
    def _rest(self) -> float:
        """Seconds until something may be drawn again."""
        return self._drawn + _SECONDS_BETWEEN_DRAWINGS - time.monotonic()

    def _go_on(self) -> None:
        """Take a step, draw, or paint for a moment, so that others are heard in between."""
        self._armed = False
        try:
            if self._steps:
                self._steps.popleft()()
            elif self._undrawn and self._rest <= 0:
                self._draw()
            else:
                self._paint()
        finally:  # whatever other plugins think of it
            self._arm()

    def _take_all_steps(self) -> None:
        while self._steps:
            self._steps.popleft()()

    def _paint(self) -> None:
        end = time.monotonic() + _SECONDS_OF_A_TURN
        while self._waiting and self._waiting[0].filling.is_ready and time.monotonic() < end:
            piece = self._waiting.popleft()
            if not self._is_there(piece.filling) or not piece.paint(seen=self._is_seen(piece)):
                continue
            if piece.filling not in self._undrawn:
                self._undrawn.append(piece.filling)

    def _draw(self) -> None:
        """Draw what was painted since the last time."""
        self._drawn = time.monotonic()
        undrawn, self._undrawn = self._undrawn, []
        for filling in undrawn:
            if self._is_there(filling):
                draw_painted(filling.layer)

    def _is_seen(self, piece: _Piece) -> bool:
        """Whether a piece lies in the slice of its layer that the viewer shows."""
        layer, dims, box = piece.filling.layer, self._viewer.dims, piece.box
        if not (layer.visible and layer.loaded):
            return False
        others = dims.ndim - layer.ndim
        point = layer.world_to_data(dims.point)
        sliced = [axis - others for axis in dims.not_displayed if axis >= others]
        return all(box.start[axis] - 1 < point[axis] < box.stop[axis] for axis in sliced)

    def make_room(self) -> Room:
        """The arrays of the layers, for the labels of the finished run; no tile comes now."""
        self._waiting.clear()
        self._steps.clear()  # what is missing comes with the labels
        there = {name: it for name, it in self._fillings.items() if self._is_there(it)}
        touching = [it.touching for it in there.values() if it.touching is not None]
        self._room = Room({name: it.levels for name, it in there.items()}, touching)
        return self._room

    def finish(self, shown: Shown) -> None:
        """Show the labels of a finished run: in the layer that grew, if it is still there."""
        if self._frame is None:
            return
        filling = self._fillings.pop(shown.name, None)
        there = filling is not None and self._is_there(filling)
        same = filling is not None and shown.finest is filling.levels.finest
        if filling is not None:
            filling.appear()
            filling.give_back()
        if same and not there:  # it became the user's while the labels were read
            copied = Levels.of(shown.finest.copy(), pyramid=shown.multiscale)
            shown = replace(shown, data=copied.data)
        layer = self._unless_other(filling.layer if filling and there else None, shown)
        layer = put(self._viewer, shown, self._frame.place(shown.axes), layer)
        if same and there:
            layer.refresh(highlight=False, extent=False)
            forget_edits(layer)

    def end(self) -> None:
        """No more comes: layers that nothing came into go, what was painted is drawn."""
        self._steps.clear()
        waiting, self._waiting = self._waiting, deque()
        fillings, self._fillings = list(self._fillings.values()), {}
        self._undrawn, self._frame = [], None
        self._room.close()
        self._room = Room({}, ())  # the last one holds the pixels
        for filling in fillings:
            filling.appear()
            filling.give_back()
        fillings = [filling for filling in fillings if self._is_there(filling)]
        for piece in waiting:
            if piece.filling in fillings:
                if piece.filling.touching is not None:
                    piece.filling.touching.join()
                piece.paint(seen=False)
        empty = [filling.layer for filling in fillings if filling.new and filling.count is None]
        for layer in empty:
            if _ARRIVING in layer.name and not finest(layer).any():
                self._viewer.layers.remove(layer)
            else:  # the user has worked in it
                disown(layer)
        for filling in fillings:
            if filling.count is not None:  # neither its extent nor its highlight has changed
                filling.layer.refresh(highlight=False, extent=False)

    def _is_there(self, filling: _Filling) -> bool:
        """Whether a layer is shown, and as it was made."""
        return filling.layer in self._viewer.layers and filling.untouched

    def _make_ready(self, said: Mapping[str, Any], filling: _Filling | None) -> _Filling:
        """A layer with room for all tiles of a set, on the image; the one it has, if that fits."""
        assert self._frame is not None
        name = said["set"]
        shape, kept = self._fitted(tuple(said["whole"]), said["axes"])
        fits = filling and filling.new and filling.levels.finest.shape == shape
        ready = filling if fits else None
        levels = ready.levels if ready else Levels.empty(shape, pyramid=self._pyramid)
        step = {a: 1 / said["factors"].get(a, 1.0) for a in said["axes"]}
        step |= {a: said["thin"] * step.get(a, 1.0) for a in "YX"}
        shown = Shown(f"{name} {_ARRIVING}", levels.data, kept, self._about(name))
        old = self._unless_other(filling.layer if filling else None, shown)
        place = self._frame.place(kept, step=step)
        steps: list[Callable[[], object]] = []
        if old is None:
            layer = light_labels(shown.data, visible=False, **shown.keywords(place))
            steps.append(partial(self._add_layer, name, layer))
        else:
            layer = put(self._viewer, shown, place, old)
        layer.editable = False  # what a user paints would be lost
        if ready is None:
            ready = self._fillings[name] = _Filling(layer, levels, new=True, hidden=bool(steps))
            steps += (_rest, _rest, ready.appear, ready.touch)  # the window is drawn at rest
            self._steps.extendleft(reversed(steps))  # before those of other sets
            self._arm()
        return ready

    def _add_layer(self, name: str, layer: Labels) -> None:
        try:
            add_quietly(self._viewer, layer, widget=self._asker)
        finally:
            if layer not in self._viewer.layers:  # the first tile makes another one
                self._fillings.pop(name, None)

    def _unless_other(self, layer: Any, shown: Shown) -> Any:
        """A layer, if it can show this; else it goes."""
        if layer is not None and not shown.fits(layer):
            self._viewer.layers.remove(layer)
            return None
        return layer

    def _fitted(self, shape: tuple[int, ...], axes: str) -> tuple[tuple[int, ...], str]:
        """The shape that labels of a shape have as a layer, and its axes."""
        assert self._frame is not None
        fitted, kept = self._frame.fitted(np.broadcast_to(np.uint32(0), shape), axes)
        return fitted.shape, kept

    def _left(self, name: str) -> Any:
        """The layer of a run that was stopped; None where there is none.

        One that was renamed, or made to be of another kind, is the user's.
        """
        about = self._about(name)
        for layer in self._viewer.layers:
            named = layer.name.endswith(_ARRIVING)  # which a copy is not
            if named and about_of(layer) == about and isinstance(layer, Labels):
                return layer
        return None

    def _about(self, name: str) -> dict[str, Any]:
        assert self._frame is not None
        return {"arriving": name, "of": self._frame.layer, "asker": id(self._asker)}


def _rest() -> None:
    """A step in which others do what they have put off."""


def _levels_in(layer: Any) -> Levels:
    first, *others = layer.data if layer.multiscale else [layer.data]
    return Levels(first, tuple(others))


def _boxes(shape: tuple[int, ...]) -> Iterator[Box]:
    """The planes of an array in strips, none of which takes long to paint."""
    rows = max(1, _PIXELS_AT_ONCE // max(1, shape[-1]))
    for plane in np.ndindex(shape[:-2]):
        for top in range(0, shape[-2], rows):
            end = min(top + rows, shape[-2])
            yield Box((*plane, top, 0), (*(at + 1 for at in plane), end, shape[-1]))
