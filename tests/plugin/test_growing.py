"""Layers that fill while a run works: there at the press of Run, and the same ones to the end.

Napari holds the window up as it adds a layer or removes one, so no run may do either.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_stitch import same_labels
from toylab import Image, blobs, lines, pieces
from window import is_painted, labels_in, squeezed

from aiod.napari.segment import Segment

pytest_plugins = ["labs", "window"]


@pytest.fixture
def changes(viewer: Any) -> list[str]:
    """The names of the layers that are added and removed, from now on."""
    found: list[str] = []
    viewer.layers.events.inserted.connect(lambda event: found.append(f"+{event.value.name}"))
    viewer.layers.events.removed.connect(lambda event: found.append(f"-{event.value.name}"))
    return found


def test_the_layer_is_there_at_the_press_and_to_the_end(
    segment: Segment, viewer: Any, cells: Image, wait: Callable[..., None], changes: list[str]
) -> None:
    segment.run()
    (layer,) = labels_in(viewer).values()
    assert layer.name == "nuclei (arriving)"
    assert layer.data.shape == cells.shape
    assert not squeezed(layer).any()
    wait()
    assert changes == ["+nuclei (arriving)"]
    assert layer.name == "nuclei"
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
        ("yx", (2100, 2000)),  # more than is drawn while tiles come
    ],
)
def test_it_is_ready_for_the_tiles_of_any_image(
    segment: Segment,
    viewer: Any,
    wait: Callable[..., None],
    changes: list[str],
    axes: str,
    shape: tuple[int, ...],
) -> None:
    viewer.layers.clear()
    planes = [blobs(shape[-2:], seed=n) for n in range(int(np.prod(shape[:-2])))]
    viewer.add_image(np.stack(planes).reshape(shape), name="film")
    segment.form.source.axes.setText(axes.upper())
    segment.form.source.axes.editingFinished.emit()
    segment.form.place.tile.setText("1024" if shape[-1] > 1024 else "32")
    segment.form.parameters.give({"threshold": 150, "seconds": 0.3})
    if "c" in axes:
        segment.form.source.show_options({"channels": ("1",)})
    changes.clear()
    segment.run()
    (layer,) = labels_in(viewer).values()
    before = placed(layer)
    wait(lambda: is_painted(viewer))
    assert "arriving" in layer.name
    assert placed(layer) == before
    wait()
    assert segment.notice.text.startswith("Done."), segment.notice.text
    assert changes == ["+nuclei (arriving)"]


def test_labels_of_another_size_come_into_the_same_layer(
    segment: Segment, viewer: Any, cells: Image, wait: Callable[..., None], changes: list[str]
) -> None:
    segment.form.before.add("downsample")
    segment.run()
    (layer,) = labels_in(viewer).values()
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
    assert set(labels_in(viewer)) == {"nuclei-raw (arriving)", "nuclei-soft (arriving)"}
    wait()
    assert set(labels_in(viewer)) == {"nuclei-raw", "nuclei-soft"}
    assert len(changes) == 2


def test_a_look_stays_until_the_first_tile_takes_its_layer(
    segment: Segment, viewer: Any, cells: Image, wait: Callable[..., None], changes: list[str]
) -> None:
    viewer.layers["cells"].corner_pixels = np.array([[40, 30], [99, 89]])
    segment.preview()
    wait()
    (look,) = labels_in(viewer).values()
    segment.form.parameters.give({"threshold": 150, "seconds": 0.2})
    segment.run()
    assert list(labels_in(viewer)) == ["nuclei (preview)"]
    wait(lambda: "arriving" in look.name)
    assert look.data.shape == cells.shape
    wait()
    assert list(labels_in(viewer).values()) == [look]
    assert same_labels(squeezed(look), pieces(cells, 150))
    assert changes == ["+nuclei (preview)"]


def test_what_comes_to_nothing_leaves_no_layer_and_takes_no_look(
    segment: Segment, viewer: Any, wait: Callable[..., None], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for looked in (False, True):
        if looked:
            segment.form.place.folder.clear()
            segment.preview()
            wait()
        before = list(labels_in(viewer))
        segment.form.place.folder.setText(str(tmp_path / "file" / "out"))
        segment.run()
        wait()
        assert "cannot be written" in segment.notice.text
        assert list(labels_in(viewer)) == before


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
    segment: Segment, viewer: Any, cells: Image, wait: Callable[..., None], changes: list[str]
) -> None:
    segment.run()
    (layer,) = labels_in(viewer).values()
    viewer.layers.remove(layer)
    wait()
    (layer,) = labels_in(viewer).values()
    assert same_labels(squeezed(layer), pieces(cells, 150))
    assert changes == ["+nuclei (arriving)", "-nuclei (arriving)", "+nuclei"]
