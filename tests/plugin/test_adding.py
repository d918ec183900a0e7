"""Labels layers are added without the shapes of paint tools, which are there when one is chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aiod.napari.adding import add_labels

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
