"""Refine in a real viewer: known masks, undo, new layers, files, and clear words."""

from __future__ import annotations

import csv
import gc
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from napari.utils.interactions import mouse_press_callbacks
from numpy.typing import NDArray
from qtpy.QtWidgets import QFileDialog, QMessageBox
from skimage.measure import regionprops
from skimage.segmentation import expand_labels

import aiod
from aiod.flow.refine.combine import differences, vote
from aiod.flow.refine.operations import OPERATIONS
from aiod.flow.results.labels import open_labels
from aiod.flow.source import Box
from aiod.napari import desk, selection
from aiod.napari.refine import Refine
from aiod.napari.sections import Section

SAMPLES = Path(aiod.__file__).parent / "samples"


@pytest.fixture
def nuclei() -> NDArray[Any]:
    return np.asarray(tifffile.imread(SAMPLES / "nuclei_2d_truth.ome.tif")).astype(np.int32)


@pytest.fixture
def refine(make_napari_viewer: Any) -> Refine:
    viewer = make_napari_viewer()
    made = Refine(viewer)
    viewer.window.add_dock_widget(made)
    return made


@pytest.fixture
def done(refine: Refine, qtbot: Any) -> Callable[..., str]:
    """Do something, wait until it ended, and give back what is said."""

    def do(action: Callable[..., Any], *args: Any) -> str:
        action(*args)
        qtbot.waitUntil(lambda: not refine.busy, timeout=20_000)
        return refine.notice.text

    return do


def measured(refine: Refine, qtbot: Any) -> str:
    qtbot.waitUntil(lambda: refine.choose.found is not None, timeout=20_000)
    return str(refine.choose.count.text())


# --- choosing -------------------------------------------------------------------------------------


def test_the_count_follows_the_range_and_what_is_kept_is_in_it(
    refine: Refine, qtbot: Any, done: Callable[..., str], nuclei: NDArray[Any]
) -> None:
    layer = refine.desk.viewer.add_labels(nuclei.copy())
    areas = {region.label: region.area for region in regionprops(nuclei)}
    assert measured(refine, qtbot) == f"{len(areas)} of {len(areas)} objects in this range, in px"
    refine.choose.range.knobs["minimum"].value = 300
    refine.choose.range.knobs["maximum"].value = 500
    inside = [number for number, area in areas.items() if 300 <= area <= 500]
    assert refine.choose.count.text().startswith(f"{len(inside)} of {len(areas)} objects")

    words = done(refine.choose.keep)
    np.testing.assert_array_equal(layer.data, np.where(np.isin(nuclei, inside), nuclei, 0))
    assert words == (f"Keep by size: {len(areas)} objects before, {len(inside)} now.")
    layer.undo()
    np.testing.assert_array_equal(layer.data, nuclei)

    done(refine.choose.remove)
    np.testing.assert_array_equal(layer.data, np.where(np.isin(nuclei, inside), 0, nuclei))
    refine.desk.undo()
    np.testing.assert_array_equal(layer.data, nuclei)


def test_the_count_follows_edits_and_the_pixel_size(
    refine: Refine, qtbot: Any, done: Callable[..., str]
) -> None:
    pixels = np.zeros((20, 20), np.uint8)
    pixels[:5, :5], pixels[10:, 10:] = 3, 7
    layer = refine.desk.viewer.add_labels(pixels, scale=(0.5, 0.5), units=("um", "um"))
    assert measured(refine, qtbot) == "2 of 2 objects in this range, in µm²"
    assert refine.choose.range.values == {"minimum": 6.25, "maximum": 25.0}
    layer.data_setitem((np.array([8]), np.array([2])), 9)
    counts(qtbot, refine, "2 of 3 objects")
    for act, objects in ((layer.undo, 2), (layer.redo, 3), (layer.undo, 2)):  # Ctrl+Z
        act()
        counts(qtbot, refine, f"2 of {objects} objects")
    refine.choose.found = None
    layer.refresh()  # as at another slice: no edit, nothing to measure anew
    qtbot.wait(500)
    assert refine.choose.found is None


def counts(qtbot: Any, refine: Refine, words: str) -> None:
    qtbot.waitUntil(lambda: words in refine.choose.count.text(), timeout=20_000)


def test_nothing_is_chosen_by_a_range_of_another_property(
    refine: Refine, qtbot: Any, done: Callable[..., str], nuclei: NDArray[Any]
) -> None:
    layer = refine.desk.viewer.add_labels(nuclei.copy())
    measured(refine, qtbot)
    refine.choose.property.knobs["property"].value = "solidity"
    assert "not measured yet" in done(refine.choose.keep)
    np.testing.assert_array_equal(layer.data, nuclei)
    measured(refine, qtbot)
    assert "nothing changed" in done(refine.choose.keep)


def test_many_edits_are_measured_once_more_and_not_each(
    refine: Refine, qtbot: Any, monkeypatch: pytest.MonkeyPatch, nuclei: NDArray[Any]
) -> None:
    refine.desk.viewer.add_labels(nuclei)
    measured(refine, qtbot)
    begun: list[Any] = []
    inner = selection._measured

    def slow(*args: Any) -> Any:
        begun.append(args)
        time.sleep(0.3)
        return inner(*args)

    monkeypatch.setattr("aiod.napari.selection._measured", slow)
    for _ in range(10):
        refine.choose.measure()
    measured(refine, qtbot)
    assert len(begun) == 2


def test_what_was_edited_meanwhile_is_left_and_the_result_is_a_new_layer(
    refine: Refine, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.kron(np.array([[1, 2], [3, 0]]), np.ones((10, 10), int))
    layer = refine.desk.viewer.add_labels(pixels.copy())
    layer.selected_label = 2
    inner = desk._changed

    def slow(*args: Any) -> Any:
        time.sleep(0.5)
        return inner(*args)

    monkeypatch.setattr(desk, "_changed", slow)
    refine.picked.remove()
    assert not refine.desk.undo_button.isEnabled()
    layer.data_setitem((np.array([19]), np.array([19])), 2)
    edited = layer.data.copy()
    qtbot.waitUntil(lambda: not refine.busy, timeout=20_000)
    assert "edited meanwhile" in refine.notice.text
    np.testing.assert_array_equal(layer.data, edited)
    assert len(refine.desk.viewer.layers) == 2
    assert refine.desk.undo_button.isEnabled()
    refine.picked.remove()
    layer.data = np.ones((5, 5), int)  # as another preview does
    qtbot.waitUntil(lambda: not refine.busy, timeout=20_000)
    assert layer.data.shape == (5, 5)
    assert len(refine.desk.viewer.layers) == 3


def test_what_was_picked_is_let_go_at_another_time_point(refine: Refine) -> None:
    film = np.ones((3, 8, 8), int)
    viewer = refine.desk.viewer
    viewer.add_labels(film, axis_labels=("t", "y", "x"))
    viewer.dims.set_current_step(0, 0)
    refine.picked.toggle(1)
    assert refine.picked.picked == [1]
    viewer.dims.set_current_step(0, 1)
    assert refine.picked.picked == []


@pytest.mark.parametrize("answer", ["Yes", "No"])
def test_a_file_that_qt_did_not_ask_of_is_asked_of(
    refine: Refine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qtbot: Any, answer: str,
    nuclei: NDArray[Any],
) -> None:  # fmt: skip
    refine.desk.viewer.add_labels(nuclei)
    (tmp_path / "old.tif").write_text("mine")
    chosen = (str(tmp_path / "old"), "OME-TIFF (*.tif)")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: chosen)
    button = getattr(QMessageBox.StandardButton, answer)
    monkeypatch.setattr(QMessageBox, "question", lambda *_: button)
    refine.export._ask()
    qtbot.waitUntil(lambda: not refine.busy, timeout=20_000)
    assert ((tmp_path / "old.tif").read_bytes() == b"mine") == (answer == "No")


def test_intensity_needs_an_image_of_the_same_size(refine: Refine, qtbot: Any) -> None:
    viewer = refine.desk.viewer
    pixels = np.repeat(np.array([[0, 1, 2]]), 4, axis=0)
    viewer.add_labels(pixels)
    refine.choose.property.knobs["property"].value = "intensity_mean"
    qtbot.waitUntil(lambda: "needs an image" in refine.choose.count.text(), timeout=20_000)
    refine.desk.image.value = viewer.add_image(np.zeros((4, 9)))
    qtbot.waitUntil(lambda: "differ in size" in refine.choose.count.text(), timeout=20_000)
    refine.desk.image.value = viewer.add_image(pixels * 0.25)
    assert measured(refine, qtbot) == "2 of 2 objects in this range"
    assert refine.choose.range.values == {"minimum": 0.25, "maximum": 0.5}


# --- picking and splitting ------------------------------------------------------------------------


class Click:
    """A press of the mouse, as napari tells a layer of it."""

    type = "mouse_press"
    view_direction = None
    dims_displayed = (0, 1)
    button = 1
    modifiers = ()
    handled = False

    def __init__(self, *position: float) -> None:
        self.position = position


def test_clicks_pick_objects_and_the_picked_are_merged_and_removed(
    refine: Refine, done: Callable[..., str]
) -> None:
    pixels = np.kron(np.array([[1, 2], [3, 0]]), np.ones((10, 10), int))
    layer = refine.desk.viewer.add_labels(pixels.copy(), scale=(2, 2))
    refine.picked.pick()
    for position in ((5, 5), (5, 25), (30, 5), (5, 5), (30, 30)):
        mouse_press_callbacks(layer, Click(*position))
    assert refine.picked.ids == [2, 3]
    done(refine.picked.merge)
    np.testing.assert_array_equal(layer.data, np.where(pixels == 3, 2, pixels))
    refine.desk.undo()
    assert not refine.picked.picked

    layer.selected_label = 3
    assert done(refine.picked.remove) == "Remove: 3 objects before, 2 now."
    np.testing.assert_array_equal(layer.data, np.where(pixels == 3, 0, pixels))
    assert "no object 3" in done(refine.picked.remove)
    layer.selected_label = 1
    done(refine.picked.keep)
    np.testing.assert_array_equal(np.unique(layer.data), [0, 1])
    assert "needs two objects" in done(refine.picked.merge)


def test_clicks_pick_objects_of_a_pyramid_too(refine: Refine, done: Callable[..., str]) -> None:
    pixels = np.kron(np.array([[1, 2], [3, 0]]), np.ones((10, 10), int))
    layer = refine.desk.viewer.add_labels([pixels, pixels[::2, ::2]], multiscale=True)
    mouse_press_callbacks(layer, Click(2, 2))
    assert refine.picked.picked == []  # not before it was asked for
    refine.picked.pick()
    for position in ((2, 12), (15, 3)):
        mouse_press_callbacks(layer, Click(*position))
    assert refine.picked.picked == [2, 3]
    done(refine.picked.remove)
    made = refine.desk.viewer.layers[-1]
    np.testing.assert_array_equal(made.data, np.where(pixels > 1, 0, pixels))


def test_only_the_time_point_that_is_shown_is_edited(
    refine: Refine, done: Callable[..., str]
) -> None:
    movie = np.ones((3, 8, 8), int)
    layer = refine.desk.viewer.add_labels(movie, axis_labels=("t", "y", "x"))
    refine.desk.viewer.dims.set_current_step(0, 1)
    done(refine.picked.remove)
    assert layer.data.any(axis=(1, 2)).tolist() == [True, False, True]


def test_points_split_the_object_they_lie_in(refine: Refine, done: Callable[..., str]) -> None:
    y, x = np.ogrid[:40, :70]
    cells = ((np.hypot(y - 20, x - 22) < 15) | (np.hypot(y - 20, x - 46) < 15)).astype(np.uint8)
    layer = refine.desk.viewer.add_labels(cells.copy(), scale=(0.5, 0.5))
    refine.split.begin()
    points: Any = refine.split.points.value
    points.data = np.array([[20, 22], [20, 46]])
    assert done(refine.split.split) == "Split: 1 object before, 2 now."
    np.testing.assert_array_equal(layer.data > 0, cells > 0)
    assert (layer.data[20, 22], layer.data[20, 46]) == (1, 2)
    points.data = points.data[:1]
    assert "nothing to split" in done(refine.split.split)
    refine.split.points.value = refine.desk.viewer.add_points(np.zeros((1, 3)))
    assert "has 3 axes" in done(refine.split.split)


# --- all objects ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_can_be_done_and_undone(
    refine: Refine, done: Callable[..., str], name: str
) -> None:
    pixels = np.asarray(tifffile.imread(SAMPLES / "nuclei_3d_truth.ome.tif")).astype(np.uint16)
    pixels = np.ascontiguousarray(pixels[3:9, :50, :50]) * 2
    layer = refine.desk.viewer.add_labels(pixels.copy())
    refine.shape.operations.choice.value = name
    words = done(refine.shape.apply)
    assert words.startswith(name.replace("_", " ").capitalize())
    layer.undo()
    np.testing.assert_array_equal(layer.data, pixels)


def test_a_radius_in_micrometres_is_that_of_the_layer(
    refine: Refine, done: Callable[..., str], nuclei: NDArray[Any]
) -> None:
    layer = refine.desk.viewer.add_labels(nuclei.copy(), scale=(0.25, 0.25))
    refine.shape.operations.choice.value = "dilate"
    refine.shape.operations.knobs.knobs["radius"].value = 1.0
    refine.shape.operations.knobs.knobs["unit"].value = "um"
    done(refine.shape.apply)
    np.testing.assert_array_equal(layer.data > 0, expand_labels(nuclei, 4) > 0)


def test_a_result_in_a_new_layer_leaves_the_old_one(
    refine: Refine, done: Callable[..., str], nuclei: NDArray[Any]
) -> None:
    layer = refine.desk.viewer.add_labels(nuclei, name="nuclei", scale=(2, 2), translate=(5, 6))
    refine.desk.aside.value = True
    refine.shape.operations.choice.value = "erode"
    assert done(refine.shape.apply).endswith("in a new layer.")
    made = refine.desk.viewer.layers["nuclei: erode"]
    assert refine.desk.labels.value is layer
    assert made.translate.tolist() == [5, 6]
    assert (made.data > 0).sum() < (layer.data > 0).sum()


@pytest.mark.parametrize("case", ["narrow", "pyramid", "read only", "many"])
def test_what_a_layer_cannot_undo_is_in_a_new_one(
    refine: Refine, done: Callable[..., str], monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    pixels = np.zeros((300, 300), np.uint8)
    pixels[5:9, 5:9] = pixels[50:59, 50:59] = 255
    data: Any = pixels.copy()
    if case == "pyramid":
        data = [data, data[::2, ::2]]
    if case == "read only":
        data.flags.writeable = False
    if case == "many":
        monkeypatch.setattr(desk, "MOST_IN_PLACE", 10)
    refine.desk.viewer.add_labels(data, name="a", multiscale=case == "pyramid")
    refine.shape.operations.choice.value = "components"
    words = done(refine.shape.apply)
    assert "1 object before, 2 now, in a new layer, as" in words
    assert int(refine.desk.viewer.layers["a: components"].data.max()) == 256
    np.testing.assert_array_equal(data[0] if case == "pyramid" else data, pixels)


# --- several layers -------------------------------------------------------------------------------


def test_layers_are_combined_in_a_new_one(
    refine: Refine, done: Callable[..., str], nuclei: NDArray[Any]
) -> None:
    viewer = refine.desk.viewer
    pixels = [nuclei, expand_labels(nuclei, 2), np.where(nuclei == 4, 0, nuclei)]
    layers = [viewer.add_labels(each, name=name) for each, name in zip(pixels, "abc", strict=True)]
    refine.combine.check(*layers)
    refine.combine.operations.choice.value = "vote"
    done(refine.combine.combine)
    np.testing.assert_array_equal(viewer.layers["Vote of a, b, c"].data, vote(pixels))

    refine.combine.check(*layers[:2])
    refine.combine.operations.choice.value = "differences"
    done(refine.combine.combine)
    made = viewer.layers["Differences of a, b"]
    np.testing.assert_array_equal(made.data, differences(pixels[:2]))
    refine.combine.check(layers[0])
    assert "nothing to be compared" in done(refine.combine.combine)
    refine.combine.check(layers[0], viewer.add_labels(nuclei[:, :-1]))
    assert "differ in size" in done(refine.combine.combine)


def test_choices_follow_the_layers_of_the_viewer(refine: Refine) -> None:
    viewer = refine.desk.viewer
    one, two = (viewer.add_labels(np.ones((9, 9), int), name=name) for name in "ab")
    refine.desk.labels.value = two
    refine.combine.check(two)
    two.name = "renamed"
    viewer.add_image(np.ones((9, 9)))
    assert refine.desk.layer is two
    assert refine.combine.layers == [two]
    viewer.layers.remove(two)
    assert refine.desk.layer is one
    assert refine.combine.layers == []


def test_a_closed_dock_leaves_layers_that_can_be_clicked_and_edited(
    make_napari_viewer: Any, qtbot: Any
) -> None:
    viewer = make_napari_viewer()
    layer = viewer.add_labels(np.ones((9, 9), int))
    made = Refine(viewer)
    made.picked.pick()
    viewer.window.remove_dock_widget(viewer.window.add_dock_widget(made))
    del made
    gc.collect()
    mouse_press_callbacks(layer, Click(5, 5))
    layer.data_setitem((np.array([1]), np.array([1])), 3)
    viewer.layers.remove(layer)
    qtbot.wait(300)


# --- saving ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["out.tif", "out.ome.zarr"])
def test_saved_labels_are_read_again(
    refine: Refine, done: Callable[..., str], nuclei: NDArray[Any], tmp_path: Path, file: str
) -> None:
    refine.desk.viewer.add_labels(nuclei, name="my nuclei", scale=(0.5, 0.5), units=("um", "um"))
    assert done(refine.export.export, tmp_path / file) == f"Written: {tmp_path / file}"
    found = open_labels(tmp_path / file).source
    np.testing.assert_array_equal(found.read(Box.whole(found.shape)).squeeze(), nuclei)
    assert found.pixel_size == {"Y": 0.5, "X": 0.5}


def test_saved_tables_list_the_objects(
    refine: Refine, done: Callable[..., str], nuclei: NDArray[Any], tmp_path: Path
) -> None:
    viewer = refine.desk.viewer
    refine.desk.image.value = viewer.add_image(nuclei * 3.0)
    viewer.add_labels(nuclei)
    done(refine.export.export, tmp_path / "out.csv")
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [int(row["id"]) for row in rows] == np.unique(nuclei[nuclei > 0]).tolist()
    assert all(float(row["mean_intensity"]) == 3 * int(row["id"]) for row in rows)
    done(refine.export.export, tmp_path / "out.geojson")
    assert len(json.loads((tmp_path / "out.geojson").read_text())["features"]) == len(rows)


def test_what_cannot_be_saved_is_said_and_leaves_no_file(
    refine: Refine, done: Callable[..., str], tmp_path: Path
) -> None:
    assert "No labels are chosen" in done(refine.export.export, tmp_path / "a.tif")
    layer = refine.desk.viewer.add_labels(np.ones((9, 9), int))
    assert "in which format" in done(refine.export.export, tmp_path / "a.xyz")
    (tmp_path / "file").write_text("")
    assert "cannot be written" in done(refine.export.export, tmp_path / "file" / "a.tif")
    refine.desk.image.value = refine.desk.viewer.add_image(np.ones((9, 8)))
    assert "differ in size" in done(refine.export.export, tmp_path / "a.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert layer.data.all()


# --- what cannot be done --------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["none", "negative", "axes", "flat"])
def test_what_cannot_be_refined_is_said_in_a_sentence(
    refine: Refine, done: Callable[..., str], case: str
) -> None:
    viewer = refine.desk.viewer
    if case == "negative":
        viewer.add_labels(np.full((5, 5), -2))
    if case == "axes":
        viewer.add_labels(np.ones((2, 2, 2, 5, 5), int))
    if case == "flat":
        viewer.add_labels(np.ones((5, 5), int))
    refine.shape.operations.choice.value = "link_planes"
    words = {
        "none": "No labels are chosen",
        "negative": "hold the number -2",
        "axes": "has 5 axes",
        "flat": "no planes to link",
    }
    assert words[case] in done(refine.shape.apply)
    for act in (refine.choose.keep, refine.picked.remove, refine.split.split):
        assert "defect" not in done(act)


def test_every_section_has_its_place(refine: Refine) -> None:
    assert len(refine.findChildren(Section)) == 6
