"""How tiles are painted into a layer: piece by piece, each where it lies, and drawn soon."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import numpy as np
import pytest
from qtpy.QtWidgets import QWidget
from toylab import Image
from window import labels_in

from aiod.flow.protocol import Message
from aiod.napari import growing
from aiod.napari.growing import Growing
from aiod.napari.results import Frame, Shown

pytest_plugins = ["labs", "window"]


@pytest.fixture
def asker(qtbot: Any) -> QWidget:
    widget = QWidget()
    qtbot.addWidget(widget)
    return widget


@pytest.fixture
def layers(viewer: Any, asker: QWidget) -> Growing:
    """What grows on an image of 600 x 300 pixels."""
    image = viewer.add_image(np.zeros((600, 300), np.uint8), name="cells")
    return Growing(viewer, Frame.of(image, "YX"), asker)


def plane_message(name: str, labels: Image) -> Message:
    said = {"event": "tile", "set": name, "axes": "YX", "factors": {}, "thin": 1}
    return Message({**said, "start": [0, 0], "whole": list(labels.shape)}, labels)


def test_all_that_was_painted_is_drawn_soon(
    viewer: Any, qtbot: Any, layers: Growing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing, "_PIXELS_AT_ONCE", 3000)
    labels = np.ones((600, 300), np.uint32)
    labels[500:] = 0  # the last pieces are without objects
    layers.begin(["a", "b"])
    qtbot.waitUntil(lambda: len(labels_in(viewer)) == 2)
    drawn = {layer.name: np.zeros(labels.shape, bool) for layer in labels_in(viewer).values()}

    def draw(event: Any, name: str) -> None:
        box = tuple(slice(a, a + n) for a, n in zip(event.offset, event.data.shape, strict=True))
        drawn[name][box] = True

    for name, layer in labels_in(viewer).items():
        layer.events.labels_update.connect(partial(draw, name=name))
    for name in ("a", "b"):
        layers.add(plane_message(name, labels))
    qtbot.waitUntil(lambda: all(each[:500].all() for each in drawn.values()), timeout=5000)


def test_a_listener_that_fails_stops_no_painting(
    viewer: Any, qtbot: Any, layers: Growing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing, "_PIXELS_AT_ONCE", 3000)
    layers.begin(["a"])
    qtbot.waitUntil(lambda: bool(labels_in(viewer)))
    (layer,) = labels_in(viewer).values()

    def fail(event: Any) -> None:
        layer.events.paint.disconnect(fail)
        raise RuntimeError("of another plugin")

    layer.events.paint.connect(fail)
    with qtbot.captureExceptions() as caught:
        layers.add(plane_message("a", np.ones((600, 300), np.uint32)))
        qtbot.waitUntil(lambda: layer.data.mean() > 0.98, timeout=5000)  # all but one piece
    assert len(caught) == 1


def test_what_comes_after_the_end_is_of_no_layer(viewer: Any, layers: Growing) -> None:
    layers.begin(["a"])
    labels = np.ones((600, 300), np.uint32)
    layers.add(plane_message("a", labels))
    layers.end()
    (layer,) = labels_in(viewer).values()
    assert layer.editable
    assert layer.data.all()
    layers.add(plane_message("a", labels))
    layers.finish(Shown("a", labels, "YX", {}))
    assert list(labels_in(viewer).values()) == [layer]


def test_nothing_is_written_into_a_layer_that_was_given_back(viewer: Any, layers: Growing) -> None:
    layers.begin(["a"])
    labels = np.ones((600, 300), np.uint32)
    layers.add(plane_message("a", labels))
    room = layers.make_room()
    assert np.shares_memory(
        room.put("a", labels * 2).finest, labels_in(viewer)["a (arriving)"].data
    )
    layers.end()
    assert room.put("a", labels * 3).finest.min() == 3
    (layer,) = labels_in(viewer).values()
    assert layer.data.max() == 2


def tile_message(labels: Image, start: tuple[int, ...], whole: tuple[int, ...]) -> Message:
    said = {"event": "tile", "set": "nuclei", "axes": "ZYX", "factors": {}, "thin": 1}
    return Message({**said, "start": list(start), "whole": list(whole)}, labels)


@pytest.mark.parametrize("shown", ["a plane", "the volume", "nothing"])
def test_a_volume_is_painted_piece_by_piece(
    viewer: Any, qtbot: Any, asker: QWidget, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing, "_PIXELS_AT_ONCE", 500)
    monkeypatch.setattr(growing, "_SECONDS_BETWEEN_DRAWINGS", 0.01)
    whole, random = (6, 60, 70), np.random.default_rng(0)
    image = viewer.add_image(np.zeros(whole, np.uint8), name="cells", scale=(3, 1, 1))
    viewer.dims.set_current_step(0, 4)
    layers = Growing(viewer, Frame.of(image, "ZYX"), asker)
    layers.begin(["nuclei"])
    qtbot.waitUntil(lambda: any(layer.visible for layer in labels_in(viewer).values()))
    (layer,) = labels_in(viewer).values()
    layer.visible = shown != "nothing"
    viewer.dims.ndisplay = 3 if shown == "the volume" else 2
    expected, count = np.zeros(whole, np.uint32), 0
    for start in itertools.product((0, 3), (0, 30), (0, 35)):
        labels = random.integers(0, 9, (3, 30, 35), np.uint32)
        layers.add(tile_message(labels, start, whole))
        box = tuple(slice(a, a + n) for a, n in zip(start, labels.shape, strict=True))
        expected[box] = np.where(labels > 0, labels + count, 0)
        count += labels.max()
    qtbot.waitUntil(lambda: np.array_equal(layer.data, expected), timeout=20_000)
    if shown == "nothing":
        layer.visible = True
    seen = expected if shown == "the volume" else expected[4]
    assert np.array_equal(layer._slice.image.raw, seen)
    assert np.array_equal(layer._slice.image.view, layer.colormap._data_to_texture(seen))
    viewer.dims.ndisplay = 2


@pytest.mark.parametrize("shape", [(1, 1), (5, 300), (3, 2, 200, 700), (2, 900_000)])
def test_pieces_are_all_of_a_tile_once(shape: tuple[int, ...]) -> None:
    times = np.zeros(shape, int)
    for box in growing._boxes(shape):
        times[box.slices] += 1
        assert np.prod(box.shape) <= max(shape[-1], growing._PIXELS_AT_ONCE)
    assert (times == 1).all()
