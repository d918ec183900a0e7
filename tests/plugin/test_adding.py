"""Labels layers are added without the shapes of paint tools, which are there when one is chosen."""

from __future__ import annotations

import contextlib
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from qtpy.QtWidgets import QWidget

from aiod.napari.adding import add_labels, add_quietly, light_labels, warm_up
from aiod.napari.segment import Segment

pytest_plugins = ["labs", "window"]


def tools(layer: Any) -> set[str]:
    """The visuals that listen to the mouse on a layer."""
    owners = (getattr(act, "__self__", None) for act in layer.mouse_drag_callbacks)
    return {type(owner).__name__ for owner in owners if owner is not None}


@pytest.mark.parametrize("mode", ["polygon", "paint"])
def test_a_tool_that_is_chosen_works_as_in_any_layer(viewer: Any, mode: str) -> None:
    ours = add_labels(viewer, np.zeros((20, 20), np.uint32), name="ours")
    theirs = viewer.add_labels(np.zeros((20, 20), np.uint32), name="theirs")
    for layer in (ours, theirs):
        layer.mode = mode
    assert tools(ours) == tools(theirs) != set()
    for layer in (ours, theirs):
        layer.mode = "pan_zoom"


def test_until_then_they_take_no_time(viewer: Any) -> None:
    assert not tools(add_labels(viewer, np.zeros((20, 20), np.uint32)))


def test_a_layer_is_as_it_was_asked_for(viewer: Any) -> None:
    place = {"scale": (2, 3), "translate": (5, 7), "axis_labels": ("y", "x")}
    layer = add_labels(viewer, np.ones((4, 5), np.uint32), name="mine", **place)
    assert viewer.layers["mine"] is layer
    assert layer.scale.tolist() == [2, 3]
    assert layer.translate.tolist() == [5, 7]
    assert layer.data.sum() == 20


@pytest.mark.parametrize("selected", [["one"], ["one", "two"], []])
def test_a_layer_that_is_added_quietly_changes_nothing_else(
    viewer: Any, qtbot: Any, selected: list[str]
) -> None:
    widget = QWidget()
    viewer.window.add_dock_widget(widget, name="any")
    for name in ("one", "two"):
        viewer.add_image(np.zeros((20, 20), np.uint8), name=name)
    viewer.layers.selection = {viewer.layers[name] for name in selected}
    before, active = set(viewer.layers.selection), viewer.layers.selection.active
    heard: list[Any] = []
    viewer.layers.selection.events.active.connect(heard.append)
    viewer.layers.selection.events.changed.connect(heard.append)
    layer = light_labels(np.ones((20, 20), np.uint32), name="mine")
    add_quietly(viewer, layer, widget=widget)
    assert viewer.layers[-1] is layer
    assert not layer.visible
    assert viewer.layers.selection == before
    assert viewer.layers.selection.active is active
    assert viewer.layers.selection._current in (before or {None})
    assert not heard
    assert not widget.window().updatesEnabled()
    qtbot.waitUntil(widget.window().updatesEnabled)
    viewer.layers.selection.active = layer  # as in any layer
    assert heard
    layer.visible = True
    assert layer._slice.image.raw.all()


def test_the_window_is_drawn_again_where_a_layer_cannot_be_added(viewer: Any, qtbot: Any) -> None:
    widget = QWidget()
    viewer.window.add_dock_widget(widget, name="any")
    layer = light_labels(np.ones((2, 2), int))
    with contextlib.suppress(AttributeError):  # a viewer that takes no layer
        add_quietly(SimpleNamespace(layers=viewer.layers), layer, widget=widget)
        pytest.fail("nothing was raised")
    assert not widget.window().updatesEnabled()
    qtbot.waitUntil(widget.window().updatesEnabled)


def test_a_layer_that_another_plugin_fails_at_is_not_left_hidden(viewer: Any, qtbot: Any) -> None:
    def fail(event: Any) -> None:
        viewer.layers.events.inserted.disconnect(fail)
        raise RuntimeError("of another plugin")

    widget = QWidget()
    viewer.window.add_dock_widget(widget, name="any")
    viewer.layers.events.inserted.connect(fail)
    with contextlib.suppress(Exception):
        add_quietly(viewer, light_labels(np.ones((20, 20), np.uint32)), widget=widget)
        pytest.fail("nothing was raised")
    assert all(layer.visible for layer in viewer.layers)
    qtbot.waitUntil(widget.window().updatesEnabled)
    sys.last_value = sys.last_traceback = None  # where vispy keeps the viewer


def test_what_the_first_labels_need_is_loaded_once_segment_is_open(
    segment: Segment, qtbot: Any
) -> None:
    warm_up.cache_clear()
    other = Segment(segment._viewer)
    qtbot.addWidget(other)
    assert not warm_up.cache_info().currsize
    qtbot.waitUntil(lambda: warm_up.cache_info().currsize == 1)
