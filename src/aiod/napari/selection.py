"""The sections of Refine that act on some objects: those of a range, the picked, the pointed at."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
from napari.layers import Labels, Points

from aiod.errors import AiodError, UsageError
from aiod.flow.refine.edit import keep, merge, remove, split
from aiod.flow.refine.properties import Measured, measured
from aiod.napari.background import in_background
from aiod.napari.desk import Desk
from aiod.napari.knobs import Knobs, rows
from aiod.napari.masks import Mask, Pixels, beside, chooser, follow
from aiod.napari.sections import Section, buttons, words
from aiod.words import counted, listing


class Choose(Section):
    """Objects in a range of a property: counted while knobs turn, then kept or removed."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.property, self.range = Knobs(measured), Knobs(Measured.within)
        self.count = words()
        self.found: tuple[Measured, ...] | None = None
        self._asked = self._measuring = 0
        self._new_range = True
        self._add(self.property, self.range, self.count)
        self._add(buttons(("Keep these", self.keep), ("Remove these", self.remove)))
        self.property.changed.connect(self._turn)
        self.range.changed.connect(self._tell)
        desk.turned.connect(self._turn)
        desk.edited.connect(self.measure)

    def activate(self, active: bool) -> None:
        self.active = active
        if active and self.found is None:
            self.measure()

    def _turn(self) -> None:
        self._new_range = True
        self.found = None
        self.measure()

    def measure(self) -> None:
        """Measure the objects in the background, then count those in the range."""
        self.found = None
        self._asked += 1
        if not self.active or self.desk.layer is None:
            self.count.setText("")
            return
        try:
            mask = Mask.of(self.desk.layer)
        except AiodError as error:
            self.count.setText(error.what)
            return
        self.count.setText("Measuring…")
        if self._measuring:  # one at a time: what came meanwhile is measured after it
            return
        asked = self._measuring = self._asked
        work = partial(_measured, mask, self.desk.picture, self.property.values)
        done, failed = partial(self._take, asked), partial(self._cannot, asked)
        in_background(work, done, failed, asker=self)

    def _is_late(self, asked: int) -> bool:
        """Whether something changed while this was measured; that is measured then."""
        self._measuring = 0
        late = asked != self._asked
        if late:
            self.measure()
        return late

    def _take(self, asked: int, found: tuple[Measured, ...]) -> None:
        if self._is_late(asked):
            return
        self.found = found
        if self._new_range:
            self._fit_range(np.concatenate([each.values for each in found]))
            self._new_range = False
        self._tell()

    def _cannot(self, asked: int, error: Exception) -> None:
        if self._is_late(asked):
            return
        if isinstance(error, AiodError):
            self.count.setText(f"{error.what} Next: {error.hint}." if error.hint else error.what)
        else:
            self.count.setText("")
            self.desk.notice.fail(error)

    def _fit_range(self, values: Pixels) -> None:
        """All objects are in the range; its steps are a hundredth of it."""
        values = values[np.isfinite(values)]
        low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
        size = (high - low) or abs(high) or 1.0
        order = math.floor(math.log10(size))
        digits = min(max(3 - order, 0), 9)
        scale = 10.0**digits
        for name, value in (
            ("minimum", math.floor(low * scale) / scale),
            ("maximum", math.ceil(high * scale) / scale),
        ):
            widget = self.range.knobs[name].widget
            widget.native.blockSignals(True)
            widget.native.setDecimals(digits)
            widget.min, widget.max = min(widget.min, value), max(widget.max, value)
            widget.step = max(10.0 ** (order - 2), 1 / scale)
            widget.value = value
            widget.native.blockSignals(False)

    def _tell(self) -> None:
        if self.found is None:
            return
        inside = sum(len(each.within(**self.range.values)) for each in self.found)
        total = sum(len(each.ids) for each in self.found)
        unit = f", in {self.found[0].unit}" if self.found[0].unit else ""
        self.count.setText(f"{inside:,} of {counted(total, 'object')} in this range{unit}")

    def keep(self) -> None:
        """Remove the objects outside the range."""
        self._do("Keep", Measured.outside)

    def remove(self) -> None:
        """Remove the objects in the range."""
        self._do("Remove", Measured.within)

    def _do(self, what: str, which: Callable[..., Pixels]) -> None:
        limits, knobs, picture = self.range.values, self.property.values, self.desk.picture
        try:
            mask = Mask.of(self.desk.layer)
            if self.found is None:  # the range may still be that of another property
                raise UsageError(
                    "The objects are not measured yet.", hint="wait until they are counted"
                )
        except AiodError as error:
            self.desk.notice.fail(error)
            return

        def change(labels: Pixels) -> Pixels:
            timed = mask.axes.startswith("T")
            frames = list(labels) if timed else [labels]
            found = _measured(mask, picture, knobs)
            gone = [which(each, **limits) for each in found]
            left = [
                remove(frame, ids) if len(ids) else frame
                for frame, ids in zip(frames, gone, strict=True)
            ]
            return np.stack(left) if timed else left[0]

        self.desk.change(f"{what} by {knobs['property'].replace('_', ' ')}", change)


def _measured(mask: Mask, picture: Any, knobs: Mapping[str, Any]) -> tuple[Measured, ...]:
    """What is measured of the objects of each time point."""
    labels = mask.pixels()
    light = None if picture is None else np.asarray(picture)
    if not mask.axes.startswith("T"):
        return (measured(labels, mask.pixel_size, light, **knobs),)
    lights: Iterable[Any] = [light] * len(labels)
    if light is not None and light.ndim == labels.ndim and len(light) == len(labels):
        lights = light
    return tuple(
        measured(frame, mask.pixel_size, each, **knobs)
        for frame, each in zip(labels, lights, strict=True)
    )


class Picked(Section):
    """Objects that were clicked on: removed, kept alone, or merged."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.picked: list[int] = []
        self.text = words()
        self._watched: Labels | None = None
        self._anyhow = False
        self._callback = _weakly(self)
        self._add(self.text)
        self._add(
            buttons(
                ("Pick in the image", self.pick),
                ("Clear", self.clear),
                ("Remove", self.remove),
                ("Keep only these", self.keep),
                ("Merge", self.merge),
            )
        )
        desk.turned.connect(self._watch)
        self._time: int | None = None
        desk.viewer.dims.events.current_step.connect(self._move)
        self._tell()

    @property
    def ids(self) -> list[int]:
        """The objects that were picked, else the label that the layer has selected."""
        if self.picked or self.desk.layer is None:
            return self.picked
        return [int(self.desk.layer.selected_label)]

    def _move(self, _: Any = None) -> None:
        """Objects of another time point have other numbers: what was picked is let go."""
        if self.picked and self.desk.time != self._time:
            self.clear()

    def pick(self) -> None:
        """Have clicks pick objects; a second click on one lets it go."""
        if self.desk.layer is not None:
            self.desk.viewer.layers.selection.active = self.desk.layer
            self.desk.layer.mode = "pick"
            self._anyhow = self.desk.layer.mode != "pick"  # napari has no such mode for pyramids

    def toggle(self, number: int) -> None:
        """Pick an object, or let it go."""
        if number in self.picked:
            self.picked.remove(number)
        elif number:
            self.picked.append(number)
            self._time = self.desk.time
        self._tell()

    def clear(self) -> None:
        self.picked = []
        self._tell()

    def remove(self) -> None:
        self._do("Remove", remove)

    def keep(self) -> None:
        self._do("Keep", keep)

    def merge(self) -> None:
        self._do("Merge", merge)

    def _do(self, what: str, function: Callable[[Pixels, list[int]], Pixels]) -> None:
        ids = list(self.ids)
        self.desk.change(what, lambda labels: function(labels, ids), here=True)
        self.clear()

    def _watch(self) -> None:
        if self._watched is not None and self._callback in self._watched.mouse_drag_callbacks:
            self._watched.mouse_drag_callbacks.remove(self._callback)
        self._watched, self._anyhow = self.desk.layer, False
        if self._watched is not None:
            self._watched.mouse_drag_callbacks.append(self._callback)
        self.clear()

    def click(self, layer: Labels, event: Any) -> None:
        """Pick what lies under a click, where the layer is in its mode to pick or has none."""
        if layer.mode != "pick" and not self._anyhow:
            return
        value = layer.get_value(
            event.position,
            view_direction=event.view_direction,
            dims_displayed=event.dims_displayed,
            world=True,
        )
        value = value[1] if isinstance(value, tuple) else value  # a pyramid says its level first
        self.toggle(int(value or 0))

    def _tell(self) -> None:
        if self.picked:
            self.text.setText(f"Picked: {listing(map(str, self.picked), 'and')}")
        else:
            self.text.setText("Nothing is picked: the label that the layer has selected is meant.")


def _weakly(section: Picked) -> Callable[[Labels, Any], None]:
    """What a layer calls at a click; a layer outlives a section whose dock was closed."""
    there = weakref.ref(section)

    def click(layer: Labels, event: Any) -> None:
        if (found := there()) is not None:
            found.click(layer, event)

    return click


class Split(Section):
    """Objects split at the points that lie in them."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.points = chooser(desk.viewer, Points, "a point in each part of an object")
        self.knobs = Knobs(split)
        form = rows()
        form.addRow("Points", self.points.native)
        self._column.addLayout(form)
        self._add(self.knobs, buttons(("Set points", self.begin), ("Split", self.split)))

    def follow(self) -> None:
        follow(self.points)

    def begin(self) -> None:
        """A new layer of points over the labels, into which clicks set them."""
        layer = self.desk.layer
        if layer is None:
            self.desk.notice.fail(UsageError("No labels are chosen.", hint="choose some above"))
            return
        points = self.desk.viewer.add_points(
            name="split here", ndim=layer.ndim, size=5, **beside(layer)
        )
        points.mode = "add"
        self.follow()
        self.points.value = points

    def split(self) -> None:
        """Split each object with several points."""
        layer: Any = self.desk.layer
        points, knobs = self.points.value, self.knobs.values
        try:
            mask = Mask.of(layer)
            if points is None:
                raise UsageError("No points are chosen.", hint="press Set points, then click")
            if points.ndim != layer.ndim:
                raise UsageError(
                    f"{points.name} has {counted(points.ndim, 'axis', 'axes')}, "
                    f"{layer.name} has {layer.ndim}.",
                    hint="press Set points, which makes a layer that fits",
                )
        except AiodError as error:
            self.desk.notice.fail(error)
            return
        places = np.array([layer.world_to_data(points.data_to_world(p)) for p in points.data])
        places = places.reshape(-1, layer.ndim)
        if (at := self.desk.time) is not None:
            places = places[np.round(places[:, 0]) == at][:, 1:]
        self.desk.change(
            "Split", lambda labels: split(labels, places, mask.pixel_size, **knobs), here=True
        )
