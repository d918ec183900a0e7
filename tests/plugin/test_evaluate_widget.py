"""Evaluate in a real viewer: the figures of `aiod eval`, colours, a file, and clear words."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from skimage.segmentation import expand_labels

import aiod
from aiod.flow.results.evaluate import evaluate_instances, evaluate_semantic, partners
from aiod.flow.results.figures import class_table, instance_table
from aiod.napari.evaluate import Evaluate

SAMPLES = Path(aiod.__file__).parent / "samples"


@pytest.fixture
def truth() -> NDArray[Any]:
    return np.asarray(tifffile.imread(SAMPLES / "nuclei_2d_truth.ome.tif")).astype(np.int32)


@pytest.fixture
def labels(truth: NDArray[Any]) -> NDArray[Any]:
    found: NDArray[Any] = expand_labels(truth, 1)
    found[found == 3] = 0
    found[found == 5] = 4
    found[:9, :9] = 900
    return found


@pytest.fixture
def widget(make_napari_viewer: Any) -> Evaluate:
    viewer = make_napari_viewer()
    made = Evaluate(viewer)
    viewer.window.add_dock_widget(made)
    return made


def shown(widget: Evaluate) -> list[list[str]]:
    table = widget.table
    return [
        [table.item(row, column).text() for column in range(table.columnCount())]
        for row in range(table.rowCount())
    ]


def evaluated(widget: Evaluate, qtbot: Any) -> None:
    widget.evaluate()
    qtbot.waitUntil(widget.button.isEnabled, timeout=20_000)


def test_the_table_is_that_of_the_command(
    widget: Evaluate, qtbot: Any, labels: NDArray[Any], truth: NDArray[Any], tmp_path: Path
) -> None:
    widget._viewer.add_labels(labels, name="found")
    widget._viewer.add_labels(truth, name="right")
    assert (widget.labels.value.name, widget.truth.value.name) == ("found", "right")
    evaluated(widget, qtbot)
    expected = instance_table(evaluate_instances(labels, truth))
    assert shown(widget) == [list(cells) for cells in expected.cells]
    assert expected.sentences[1] in widget.summary.text()

    widget.save(tmp_path / "figures.csv")
    qtbot.waitUntil(lambda: "Written" in widget.notice.text, timeout=5_000)
    rows = list(csv.DictReader((tmp_path / "figures.csv").read_text().splitlines()))
    assert [float(row["ap"]) for row in rows] == [row["ap"] for row in expected.rows]


def test_objects_are_coloured_by_what_is_said_of_them(
    widget: Evaluate, qtbot: Any, labels: NDArray[Any], truth: NDArray[Any]
) -> None:
    viewer = widget._viewer
    viewer.add_labels(labels, name="found", scale=(0.5, 0.5))
    viewer.add_labels(truth, name="right", scale=(0.5, 0.5))
    widget.threshold.value = 0.7
    evaluated(widget, qtbot)
    evaluated(widget, qtbot)  # the same layers are taken again
    assert [layer.name for layer in viewer.layers] == [
        "found",
        "right",
        "found: matched, extra",
        "right: matched, missed",
    ]
    (found,) = partners(labels, truth, iou=0.7)
    ours, theirs = viewer.layers[2], viewer.layers[3]
    np.testing.assert_array_equal(ours.data == 1, np.isin(labels, found.ours))
    np.testing.assert_array_equal(ours.data == 3, np.isin(labels, found.extra))
    np.testing.assert_array_equal(theirs.data == 2, np.isin(truth, found.missed))
    assert len(found.extra) >= 2
    assert len(found.missed) >= 2
    assert ours.scale.tolist() == [0.5, 0.5]
    assert not np.array_equal(ours.get_color(1), ours.get_color(3))


def test_classes_are_compared_as_classes(widget: Evaluate, qtbot: Any) -> None:
    one = np.kron(np.array([[1, 0], [2, 2]]), np.ones((5, 5), int))
    two = np.roll(one, 1, 0)
    widget._viewer.add_labels(one, scale=(2.0, 2.0))
    widget._viewer.add_labels(two)
    widget.compare.value = "classes"
    evaluated(widget, qtbot)
    expected = class_table(evaluate_semantic(one, two))
    assert [row[:5] for row in shown(widget)] == [list(cells[:5]) for cells in expected.cells]
    assert "µm" in widget.table.horizontalHeaderItem(5).text()
    assert "other scales" in widget.notice.text


def test_a_single_plane_is_compared_with_an_image(widget: Evaluate, qtbot: Any) -> None:
    one = np.kron(np.array([[1, 0], [2, 2]]), np.ones((5, 5), int))
    widget._viewer.add_labels(one[None])
    widget._viewer.add_labels(one)
    evaluated(widget, qtbot)
    assert shown(widget)[0][1:4] == ["2", "0", "0"]
    assert widget.notice.text == ""


def test_time_points_are_compared_by_themselves(widget: Evaluate, qtbot: Any) -> None:
    movie = np.zeros((2, 6, 6), int)
    movie[0, :3, :3] = movie[1, 3:, 3:] = 1
    still = np.repeat(movie[:1], 2, axis=0)
    names = ("time", "y", "x")
    widget._viewer.add_labels(movie, axis_labels=names)
    widget._viewer.add_labels(still, axis_labels=names)
    evaluated(widget, qtbot)
    assert shown(widget)[0][1:4] == ["1", "1", "1"]
    assert set(np.unique(widget._viewer.layers[2].data[1])) == {0, 3}


def test_a_layer_that_names_its_time_points_says_it_for_both(widget: Evaluate, qtbot: Any) -> None:
    film = np.zeros((2, 6, 6), int)
    film[:, :3, :3] = [[[1]], [[2]]]  # numbered through
    truth = np.minimum(film, 1)  # numbered for each time point
    widget._viewer.add_labels(film, axis_labels=("t", "y", "x"))
    widget._viewer.add_labels(truth)
    evaluated(widget, qtbot)
    assert widget.notice.text == ""
    assert shown(widget)[0][1:4] == ["2", "0", "0"]
    widget._viewer.layers[1].axis_labels = ("z", "y", "x")
    evaluated(widget, qtbot)
    assert "has the axes TYX" in widget.notice.text


def test_colours_follow_the_layers_and_leave_others_alone(
    widget: Evaluate, qtbot: Any, labels: NDArray[Any], truth: NDArray[Any]
) -> None:
    viewer = widget._viewer
    viewer.add_labels(labels, name="found")
    viewer.add_labels(truth, name="right")
    mine = viewer.add_image(np.zeros(labels.shape), name="found: matched, extra")
    evaluated(widget, qtbot)
    assert not mine.data.any()
    assert len(viewer.layers) == 5
    for layer in (viewer.layers["found"], viewer.layers["right"]):
        layer.scale, layer.translate = (0.5, 0.5), (10, 20)
    evaluated(widget, qtbot)
    assert len(viewer.layers) == 5
    assert viewer.layers[-2].scale.tolist() == viewer.layers[-1].scale.tolist() == [0.5, 0.5]
    assert viewer.layers[-2].translate.tolist() == [10, 20]


@pytest.mark.parametrize("case", ["none", "same", "sizes", "negative", "channels"])
def test_what_cannot_be_compared_is_said_in_a_sentence(
    widget: Evaluate, qtbot: Any, case: str
) -> None:
    viewer = widget._viewer
    if case != "none":
        viewer.add_labels(np.ones((4, 4), int), name="one")
    if case == "sizes":
        viewer.add_labels(np.ones((4, 5), int))
    if case == "negative":
        viewer.add_labels(-np.ones((4, 4), int))
    if case == "channels":
        viewer.add_labels(np.ones((2, 4, 4), int), axis_labels=("channel", "y", "x"))
    evaluated(widget, qtbot)
    words = {
        "none": "No labels are chosen",
        "same": "same layer",
        "sizes": "differ in size",
        "negative": "hold the number -1",
        "channels": "one of them of channels",
    }
    assert words[case] in widget.notice.text
    assert "defect" not in widget.notice.text


def test_there_is_nothing_to_save_before_anything_was_compared(
    widget: Evaluate, tmp_path: Path
) -> None:
    widget.save(tmp_path / "a.csv")
    assert "nothing to save" in widget.notice.text


def test_closing_the_dock_between_the_two_layers_is_no_error(
    widget: Evaluate, qtbot: Any, labels: NDArray[Any], truth: NDArray[Any]
) -> None:
    viewer = widget._viewer
    viewer.add_labels(labels, name="found")
    viewer.add_labels(truth, name="right")

    def close() -> None:
        viewer.window.remove_dock_widget(widget)
        widget.deleteLater()  # as napari does with the whole dock

    viewer.layers.events.inserted.connect(close)
    widget.evaluate()
    with qtbot.waitSignal(widget.destroyed, timeout=20_000):
        pass
    qtbot.wait(200)  # an error in a slot fails the test
    assert [layer.name for layer in viewer.layers] == ["found", "right", "found: matched, extra"]
