"""A listener of another plugin fails in the middle: it is told of, and the run goes on."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_stitch import same_labels
from toylab import Image, pieces
from window import is_painted, labels_in, squeezed

from aiod.napari.segment import Segment

pytest_plugins = ["labs", "window"]


def fail_once(emitter: Any) -> None:
    """Have a listener of an event fail, the first time it is told."""

    def fail(event: Any) -> None:
        emitter.disconnect(fail)
        raise RuntimeError("of another plugin")

    emitter.connect(fail)


def test_the_next_layer_begins_where_the_one_before_cannot_be_taken_away(
    segment: Segment, viewer: Any, cells: Image, wait: Callable[..., None], qtbot: Any
) -> None:
    viewer.add_image(np.full((40, 50), 1 << 40, np.int64), name="odd")  # which cannot be read
    segment.form.source.choose("odd", "cells")
    fail_once(viewer.layers.events.removed)
    with qtbot.captureExceptions() as raised:
        segment.run()
        wait()
    assert raised
    done = [layer for layer in labels_in(viewer).values() if layer.name == "nuclei"]
    assert [same_labels(squeezed(layer), pieces(cells, 150)) for layer in done] == [True]


def test_a_stopped_run_goes_on_in_a_layer_that_cannot_be_locked(
    segment: Segment, viewer: Any, cells: Image, wait: Callable[..., None], qtbot: Any
) -> None:
    segment.form.parameters.give({"threshold": 150, "seconds": 0.3})
    segment.run()
    wait(lambda: is_painted(viewer))
    segment.cancel()
    wait()
    (layer,) = labels_in(viewer).values()
    fail_once(layer.events.editable)
    with qtbot.captureExceptions() as raised:
        segment.run()
        wait()
    assert raised
    assert segment.notice.text.startswith("Done.")
    assert same_labels(squeezed(layer), pieces(cells, 150))


@pytest.mark.parametrize("event", ["inserting", "inserted"])
def test_tiles_are_shown_all_the_same(
    segment: Segment, viewer: Any, cells: Image, wait: Callable[..., None], qtbot: Any, event: str
) -> None:
    segment.form.parameters.give({"threshold": 150, "seconds": 0.3})
    fail_once(getattr(viewer.layers.events, event))
    with qtbot.captureExceptions() as raised:
        segment.run()
        wait(lambda: is_painted(viewer))
        assert segment.busy
        wait()
    assert raised
    raised.clear()  # of what keeps the viewer, as does vispy
    sys.last_value = sys.last_traceback = None
    (layer,) = labels_in(viewer).values()
    assert layer.visible
    assert layer.editable
    assert same_labels(squeezed(layer), pieces(cells, 150))


def test_a_layer_that_cannot_be_taken_away_leaves_the_form_in_use(
    segment: Segment,
    viewer: Any,
    wait: Callable[..., None],
    press: Callable[[], Any],
    qtbot: Any,
) -> None:
    fail_once(viewer.layers.events.removed)
    with qtbot.captureExceptions():
        press()
        with contextlib.suppress(Exception):
            segment.cancel()
        wait()
    assert segment.run_button.isEnabled()
    segment.run()
    wait()
    assert segment.notice.text.startswith("Done.")


def test_labels_that_napari_cannot_show_are_told_of(
    segment: Segment, viewer: Any, wait: Callable[..., None], press: Callable[[], Any]
) -> None:
    def fail(event: Any) -> None:
        if layer.name == "nuclei":  # the finished labels
            raise RuntimeError("of another plugin")

    segment.preview()
    wait()
    look = viewer.layers["nuclei (preview)"]
    layer = press()
    layer.events.set_data.connect(fail)
    wait()
    assert segment.notice.text.startswith("The labels are in ~/aiod-out/toy-plane")
    assert "of another plugin" in segment.notice.text
    assert segment.run_button.isEnabled()
    assert layer.editable
    assert look in viewer.layers
    assert look.visible
