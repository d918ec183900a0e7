"""Layers that fill while a run works: there at the press of Run, and the same ones to the end.

Napari holds the window up as it adds a layer or removes one, so no run may do either.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_stitch import same_labels
from toylab import Image, blobs, lines, pieces
from window import is_painted, labels_in, squeezed

from aiod.flow.protocol import Message
from aiod.napari import work
from aiod.napari.picture import picture_of
from aiod.napari.results import Room
from aiod.napari.segment import Segment

pytest_plugins = ["labs", "window"]


ARRIVING = "nuclei (arriving)"


def test_the_layer_is_there_at_the_press_and_to_the_end(
    segment: Segment,
    viewer: Any,
    cells: Image,
    wait: Callable[..., None],
    changes: list[str],
    press: Callable[[], Any],
) -> None:
    layer = press()
    assert layer.name == "nuclei (arriving)"
    assert layer.data.shape == cells.shape
    assert not squeezed(layer).any()
    wait()
    assert changes == ["+nuclei (arriving)"]
    assert layer.name == "nuclei"
    assert same_labels(squeezed(layer), pieces(cells, 150))


def test_nothing_is_read_before_the_layer_is_seen(
    segment: Segment,
    viewer: Any,
    wait: Callable[..., None],
    press: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[list[str]] = []

    def read(*asked: Any) -> Any:  # in a thread
        seen.append([layer.name for layer in viewer.layers if layer.visible])
        return picture_of(*asked)

    monkeypatch.setattr(work, "picture_of", read)
    press()
    wait()
    assert seen == [["cells", ARRIVING]]


@pytest.mark.parametrize("stopped", [False, True])
def test_pixels_of_a_layer_that_the_user_removes_are_let_go(
    segment: Segment,
    viewer: Any,
    wait: Callable[..., None],
    press: Callable[[], Any],
    stopped: bool,
) -> None:
    segment.form.parameters.give({"threshold": 150, "seconds": 0.3})
    pixels = weakref.ref(press().data)
    wait(lambda: is_painted(viewer))
    if stopped:
        segment.cancel()
    wait()
    assert pixels() is not None
    viewer.layers.pop()

    def gone() -> bool:
        gc.collect()
        return pixels() is None

    wait(gone)


def test_tiles_and_labels_come_into_one_array(
    segment: Segment, viewer: Any, wait: Callable[..., None], press: Callable[[], Any]
) -> None:
    layer = press()
    pixels = layer.data
    replaced: list[Any] = []
    layer.events.data.connect(replaced.append)
    wait()
    assert layer.data is pixels
    assert not replaced
    assert np.array_equal(layer._slice.image.raw, pixels)  # and that is what is drawn
    assert np.array_equal(layer._slice.image.view, layer.colormap._data_to_texture(pixels))


def test_nobody_paints_where_tiles_come(
    segment: Segment, viewer: Any, wait: Callable[..., None], press: Callable[[], Any]
) -> None:
    for stopped in (True, False):
        segment.form.parameters.give({"threshold": 150, "seconds": 0.3})
        layer = press()
        assert not layer.editable
        wait(lambda: is_painted(viewer))
        assert not layer.editable
        layer.undo()
        assert squeezed(layer).any()
        if stopped:
            segment.cancel()
        wait()
        assert layer.editable


def test_a_hidden_layer_fills_too(
    segment: Segment, viewer: Any, cells: Image, wait: Callable[..., None], press: Callable[[], Any]
) -> None:
    segment.form.parameters.give({"threshold": 150, "seconds": 0.3})
    layer = press()
    layer.visible = False
    viewer.dims.ndisplay = 3  # of which a hidden layer is not told
    wait(lambda: is_painted(viewer))
    viewer.dims.ndisplay = 2
    layer.visible = True
    assert np.array_equal(layer._slice.image.raw, layer.data)
    wait()
    assert same_labels(squeezed(layer), pieces(cells, 150))


def placed(layer: Any) -> tuple[Any, ...]:
    """How a layer lies in the viewer."""
    place = (layer.scale, layer.translate)
    return (layer.data.shape, *(each.tolist() for each in place), layer.axis_labels)


@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ("tyx", (2, 40, 50)),
        ("ztyx", (3, 2, 40, 50)),
        ("cyx", (2, 40, 50)),
        ("tcyx", (2, 3, 40, 50)),
        ("yx", (4200, 4000)),  # more than is drawn while tiles come
    ],
)
def test_it_is_ready_for_the_tiles_of_any_image(
    segment: Segment,
    viewer: Any,
    wait: Callable[..., None],
    changes: list[str],
    axes: str,
    shape: tuple[int, ...],
    press: Callable[[], Any],
) -> None:
    viewer.layers.clear()
    planes = [blobs(shape[-2:], seed=n) for n in range(int(np.prod(shape[:-2])))]
    viewer.add_image(np.stack(planes).reshape(shape), name="film")
    segment.form.source.axes.setText(axes.upper())
    segment.form.source.axes.editingFinished.emit()
    segment.form.place.tile.setText("2048" if shape[-1] > 1024 else "32")
    segment.form.parameters.give({"threshold": 150, "seconds": 0.3})
    if "c" in axes:
        segment.form.source.show_options({"channels": ("1",)})
    changes.clear()
    layer = press()
    before = placed(layer)
    wait(lambda: is_painted(viewer))
    assert "arriving" in layer.name
    assert placed(layer) == before
    wait()
    assert segment.notice.text.startswith("Done."), segment.notice.text
    assert changes == ["+nuclei (arriving)"]


def test_labels_of_another_size_come_into_the_same_layer(
    segment: Segment,
    viewer: Any,
    cells: Image,
    wait: Callable[..., None],
    changes: list[str],
    press: Callable[[], Any],
) -> None:
    segment.form.before.add("downsample")
    layer = press()
    wait(lambda: is_painted(viewer))
    assert "arriving" in layer.name
    assert layer.data.shape == (75, 65)
    assert layer.scale.tolist() == [2, 2]
    wait()
    assert layer.data.shape == cells.shape
    assert changes == ["+nuclei (arriving)"]


def test_each_set_of_steps_has_its_own(
    segment: Segment, viewer: Any, wait: Callable[..., None], changes: list[str]
) -> None:
    segment.form.before.add("none", label="raw")
    segment.form.before.add("gaussian", label="soft")
    segment.run()
    both = {"nuclei-raw (arriving)", "nuclei-soft (arriving)"}
    wait(lambda: set(labels_in(viewer)) == both)
    wait()
    assert set(labels_in(viewer)) == {"nuclei-raw", "nuclei-soft"}
    assert len(changes) == 2


def test_a_look_stays_until_the_labels_are_there(
    segment: Segment, viewer: Any, cells: Image, wait: Callable[..., None], changes: list[str]
) -> None:
    viewer.layers["cells"].corner_pixels = np.array([[40, 30], [99, 89]])
    segment.preview()
    wait()
    segment.form.parameters.give({"threshold": 150, "seconds": 0.2})
    segment.run()
    both = {"nuclei (preview)", ARRIVING}
    wait(lambda: set(labels_in(viewer)) == both and squeezed(labels_in(viewer)[ARRIVING]).any())
    wait()
    wait(lambda: len(labels_in(viewer)) == 1)
    (layer,) = labels_in(viewer).values()
    assert same_labels(squeezed(layer), pieces(cells, 150))
    assert changes == ["+nuclei (preview)", "+nuclei (arriving)", "-nuclei (preview)"]


def test_looks_go_when_all_is_done_each_in_a_turn_of_its_own(
    segment: Segment, viewer: Any, wait: Callable[..., None]
) -> None:
    for label in ("raw", "soft"):
        segment.form.before.add("none" if label == "raw" else "gaussian", label=label)
    segment.preview()
    wait()
    looks = [layer for layer in viewer.layers if layer.name != "cells"]
    gone: list[tuple[bool, int]] = []
    turn = [0]
    viewer.layers.events.removed.connect(lambda event: gone.append((segment.busy, turn[0])))
    segment.run()

    def count() -> bool:
        turn[0] += 1
        return len(gone) == len(looks)

    wait(count)
    assert len(looks) > 2
    assert not any(busy for busy, _ in gone)
    assert len({turn for _, turn in gone}) > 1
    assert not set(looks) & set(viewer.layers)


def test_no_look_stays_hidden_where_the_dock_is_closed(
    segment: Segment, viewer: Any, wait: Callable[..., None], qtbot: Any
) -> None:
    segment.preview()
    wait()
    (look,) = labels_in(viewer).values()
    segment.run()
    look.events.visible.connect(lambda event: viewer.window.remove_dock_widget(segment))
    with qtbot.waitSignal(segment.destroyed, timeout=60_000):
        pass
    assert look not in viewer.layers


def test_looks_at_other_layers_stay(
    segment: Segment, viewer: Any, cells: Image, wait: Callable[..., None]
) -> None:
    viewer.add_image(cells[:60, :50], name="other", translate=(0, 200))
    for name in ("cells", "other"):
        segment.form.source.choose(name)
        viewer.layers[name].corner_pixels = np.array([[0, 0], [49, 49]])
        segment.preview()
        wait()
    looks = {layer.metadata["aiod"]["of"]: layer for layer in labels_in(viewer).values()}
    segment.form.source.choose("cells")
    segment.run()
    wait()
    wait(lambda: looks["cells"] not in viewer.layers)
    assert looks["other"] in viewer.layers


def test_what_comes_to_nothing_leaves_all_as_it_was(
    segment: Segment, viewer: Any, wait: Callable[..., None], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for looked in (False, True):
        if looked:
            segment.form.place.folder.clear()
            segment.preview()
            wait()
        before, selected = list(labels_in(viewer)), set(viewer.layers.selection)
        segment.form.place.folder.setText(str(tmp_path / "file" / "out"))
        segment.run()
        wait()
        assert "cannot be written" in segment.notice.text
        assert list(labels_in(viewer)) == before
        assert set(viewer.layers.selection) == selected


def test_a_stopped_run_goes_on_in_its_layer(
    segment: Segment, viewer: Any, wait: Callable[..., None], changes: list[str], tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    segment.form.parameters.give({"threshold": 150, "seconds": 0.5, "calls": str(calls)})
    segment.run()
    segment.cancel()  # before anything has come
    wait()
    assert not labels_in(viewer)
    segment.run()
    wait(lambda: is_painted(viewer))
    segment.cancel()
    wait()
    (layer,) = labels_in(viewer).values()
    assert squeezed(layer).any()
    changes.clear()
    segment.run()
    wait(lambda: len(lines(calls)) > 4)
    assert list(labels_in(viewer).values()) == [layer]
    wait()
    assert changes == []


def test_a_layer_that_was_taken_away_comes_back_with_the_labels_only(
    segment: Segment,
    viewer: Any,
    cells: Image,
    wait: Callable[..., None],
    changes: list[str],
    press: Callable[[], Any],
) -> None:
    layer = press()
    viewer.layers.remove(layer)
    wait()
    (layer,) = labels_in(viewer).values()
    assert same_labels(squeezed(layer), pieces(cells, 150))
    assert changes == ["+nuclei (arriving)", "-nuclei (arriving)", "+nuclei"]


def test_what_the_user_put_into_it_is_the_users(
    segment: Segment, viewer: Any, cells: Image, wait: Callable[..., None], press: Callable[[], Any]
) -> None:
    mine = np.zeros(cells.shape, np.uint32)
    layer = press()
    layer.data = mine
    wait()
    assert segment.notice.text.startswith("Done."), segment.notice.text
    assert layer.data is mine
    assert not mine.any()
    newest = list(labels_in(viewer).values())[-1]
    assert same_labels(squeezed(newest), pieces(cells, 150))


def test_a_layer_that_becomes_the_users_while_labels_are_read_is_left(
    segment: Segment,
    viewer: Any,
    cells: Image,
    wait: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    press: Callable[[], Any],
) -> None:
    layer = press()
    make_room = segment._growing.make_room

    def take() -> Room:
        room = make_room()
        layer.metadata = {}
        return room

    monkeypatch.setattr(segment._growing, "make_room", take)
    wait()
    (newest,) = (each for each in labels_in(viewer).values() if each is not layer)
    assert same_labels(squeezed(newest), pieces(cells, 150))
    assert not np.shares_memory(newest.data, layer.data)
    assert layer.editable


def test_what_has_come_stays_where_the_dock_is_closed(
    segment: Segment, viewer: Any, wait: Callable[..., None], qtbot: Any
) -> None:
    segment.form.parameters.give({"threshold": 150, "seconds": 0.3})
    segment.run()
    wait(lambda: is_painted(viewer))
    (layer,) = labels_in(viewer).values()
    with qtbot.waitSignal(segment.destroyed, timeout=20_000):
        viewer.window.remove_dock_widget(segment)
    assert layer in viewer.layers
    assert layer.editable


@pytest.mark.parametrize("how", ["painted", "renamed"])
def test_an_empty_layer_that_the_user_works_in_stays(
    how: str,
    segment: Segment,
    viewer: Any,
    wait: Callable[..., None],
    changes: list[str],
    press: Callable[[], Any],
) -> None:
    layer = press()
    layer.metadata["of others"] = 1
    if how == "painted":
        layer.data[3:9, 3:9] = 7
    else:
        layer.name = "my annotation"
    segment.cancel()
    wait()
    assert list(labels_in(viewer).values()) == [layer]
    assert layer.metadata == {"of others": 1}
    segment.run()  # which makes one of its own
    wait(lambda: len(labels_in(viewer)) == 2)
    wait()
    assert layer in viewer.layers
    assert changes == ["+nuclei (arriving)", "+nuclei (arriving)"] or how == "painted"


def test_nothing_of_what_grew_comes_back_with_ctrl_z(
    segment: Segment, viewer: Any, cells: Image, wait: Callable[..., None], press: Callable[[], Any]
) -> None:
    expected = pieces(cells, 150)
    layer = press()
    layer.paint(np.argwhere(expected)[-1], 5)  # where an object will be
    wait()
    layer.undo()
    assert same_labels(squeezed(layer), expected)


def test_a_process_lost_while_labels_are_shown_mixes_no_layers(
    segment: Segment, viewer: Any, cells: Image, wait: Callable[..., None]
) -> None:
    viewer.add_image(cells[:60, :50], name="more", translate=(0, 200))
    segment.form.source.choose("cells", "more")
    for label in ("raw", "soft"):
        segment.form.before.add("none" if label == "raw" else "gaussian", label=label)

    def lose(event: Any) -> None:
        if layer.name == "nuclei-raw" and segment._work.current is first:
            work = segment._work
            work._heard.emit(Message({"event": "lost", "pid": work._pid, "words": "killed"}))

    segment.run()
    first = segment._work.current
    wait(lambda: "nuclei-raw (arriving)" in viewer.layers)
    layer = viewer.layers["nuclei-raw (arriving)"]
    layer.events.name.connect(lose)
    wait()
    assert "lost" in segment.notice.text + segment.notice.details
    of_more = [each for each in labels_in(viewer).values() if each.data.shape == (60, 50)]
    assert {each.metadata["aiod"]["of"] for each in of_more} == {"more"}
    assert {each.name.partition(" ")[0] for each in of_more} == {"nuclei-raw", "nuclei-soft"}
    assert all(each.translate.tolist()[-1] == 200 for each in of_more)
