"""Labels layers that are added in steps, none of which holds the window up for long.

Napari 0.9 takes a tenth of a second to add labels, in which the window is frozen. A third of it
goes into the shapes of two paint tools that nobody has chosen yet: it makes what is visible only,
so these are hidden until a tool is chosen. The rest is the layer itself, its controls, shown as the
layer becomes the selected one, and its first drawing: these can be had in turns.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np
from napari.layers import Labels
from qtpy.QtWidgets import QWidget

from aiod.napari.background import in_another_turn

_TOOLS = ("polygon", "brush_stroke")


def light_labels(pixels: Any, **keywords: Any) -> Labels:
    """Labels without the shapes of paint tools until one is chosen."""
    layer = Labels(pixels, **keywords)
    shapes: dict[str, Any] = getattr(layer, "_overlays", {})  # napari has no public name for them
    hidden = [shape for tool, shape in shapes.items() if tool in _TOOLS]
    for shape in hidden:
        shape.visible = False

    def show(_: Any) -> None:
        for shape in hidden:
            shape.visible = True

    layer.events.mode.connect(show)
    return layer


def add_labels(viewer: Any, pixels: Any, **keywords: Any) -> Labels:
    """What `viewer.add_labels` does, with its keywords, in less time."""
    layer = light_labels(pixels, **keywords)
    viewer.add_layer(layer)
    return layer


def add_quietly(viewer: Any, layer: Labels, *, widget: QWidget) -> None:
    """Add labels that are not drawn until they are made visible; what was selected stays so.

    The window of the `widget` is drawn anew in the next turn of Qt's loop, and not before.
    """
    layer.visible = False
    selection, window = viewer.layers.selection, widget.window()
    first, *others = list(selection) or [None]
    in_another_turn(partial(window.setUpdatesEnabled, True), asker=window)
    window.setUpdatesEnabled(False)
    try:
        with selection.events.blocker_all():
            viewer.add_layer(layer)  # which selects it
            selection.active = first
            selection.update(others)
    except Exception:  # of another plugin: what is there of the layer must not stay hidden
        layer.visible = True
        raise


@cache
def warm_up() -> None:
    """Have napari load what it needs for the first labels of a session: half a second."""
    pixels = np.zeros((4, 4), np.uint32)
    for each in (pixels, pixels[::2, ::2]):  # it has code for each of the two kinds
        Labels(each)
