"""Segment in a real window: forms, looks, runs, stops, failures, and nothing left behind."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from qtpy.QtWidgets import QLabel
from superqt import QCollapsible
from test_stitch import same_labels
from toylab import Image, blobs, lines, pieces, save
from window import is_painted, labels_in, squeezed

from aiod.errors import AiodError, UnknownModelError, UsageError
from aiod.flow.protocol import Message
from aiod.flow.record import read_record
from aiod.napari import work
from aiod.napari.notice import FIELDS
from aiod.napari.picture import picture_of
from aiod.napari.segment import Segment
from aiod.registry import load
from aiod.registry.settings import cache_folder

pytest_plugins = ["labs", "window"]


def test_the_form_is_that_of_the_manifest(segment: Segment) -> None:
    segment.form.choice.choose("unet/nuclei-mini/nuclei")
    knobs = segment.form.parameters.knobs
    parameters = {str(p.arg_name): p for p in load().params_for("unet/nuclei-mini/nuclei")}
    assert knobs.keys() == parameters.keys()
    for name, parameter in parameters.items():
        widget = knobs[name].widget
        assert widget.tooltip == parameter.tooltip
        assert widget.max == parameter.maximum
        assert widget.step == pytest.approx(parameter.step or widget.step)
        assert knobs[name].field.label.startswith(parameter.name)
    assert knobs["diameter"].value is None
    assert knobs["diameter"].widget.native.text() == "automatic"
    assert segment.form.parameters.given == {}
    knobs["diameter"].value = 30.0
    assert segment.form.parameters.given == {"diameter": 30.0}
    segment.form.parameters.reset()
    assert segment.form.parameters.given == {}


def test_a_run_gives_the_labels_of_the_whole_image(
    segment: Segment, viewer: Any, cells: Image, wait: Callable[..., None], home: Path
) -> None:
    segment.run()
    assert segment.busy
    wait()
    (layer,) = labels_in(viewer).values()
    assert same_labels(squeezed(layer), pieces(cells, 150))
    (folder,) = home.glob("aiod-out/toy-*")
    (image,) = read_record(folder).images
    assert image.objects == layer.metadata["aiod"]["objects"]
    assert segment.table.item(0, 1).text() == str(image.objects)
    assert segment.notice.text == f"Done. Results in ~/aiod-out/{folder.name}"


def test_tiles_appear_while_the_run_goes_on(
    segment: Segment, viewer: Any, cells: Image, wait: Callable[..., None]
) -> None:
    segment.form.parameters.give({"threshold": 150, "seconds": 0.3})
    segment.run()
    wait(lambda: is_painted(viewer))
    assert segment.busy
    assert "tiles" in segment.progress.format() or segment.progress.format() == ""
    (growing,) = labels_in(viewer).values()
    seen = squeezed(growing)
    assert ((seen > 0) <= (cells > 150)).all()
    wait()
    (layer,) = labels_in(viewer).values()
    assert same_labels(squeezed(layer), pieces(cells, 150))


def test_a_preview_is_what_the_run_gives_there(
    segment: Segment, viewer: Any, cells: Image, wait: Callable[..., None]
) -> None:
    viewer.layers["cells"].corner_pixels = np.array([[40, 30], [99, 89]])
    segment.preview()
    wait()
    (look,) = labels_in(viewer).values()
    seen = squeezed(look).copy()
    assert look.translate.tolist()[-2:] == [40, 30]
    assert seen.shape == (60, 60)
    assert f"{seen.max()} objects in view" in segment.notice.text
    segment.run()
    wait()
    wait(lambda: look not in viewer.layers)
    (whole,) = labels_in(viewer).values()
    assert same_labels(seen, squeezed(whole)[40:100, 30:90])


def test_another_look_takes_the_place_of_the_last(
    segment: Segment, viewer: Any, cells: Image, wait: Callable[..., None]
) -> None:
    for threshold in (150, 180):
        segment.form.parameters.give({"threshold": threshold})
        segment.preview()
        wait()
    (look,) = labels_in(viewer).values()
    assert same_labels(squeezed(look), pieces(cells, 180))


def test_cancel_leaves_a_run_that_goes_on(
    segment: Segment, viewer: Any, cells: Image, wait: Callable[..., None], tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    segment.form.parameters.give({"threshold": 150, "seconds": 0.5, "calls": str(calls)})
    segment.run()
    wait(lambda: len(lines(calls)) > 2)
    segment.cancel()
    wait()
    assert segment.notice.text == "Stopped. Run goes on where it was."
    assert len(lines(calls)) < 15
    segment.run()
    wait()
    (layer,) = labels_in(viewer).values()
    assert same_labels(squeezed(layer), pieces(cells, 150))
    assert len(lines(calls)) <= 15 + 1


def test_a_model_that_fails_is_told_of_in_a_sentence(
    segment: Segment, cells: Image, wait: Callable[..., None], tmp_path: Path, viewer: Any
) -> None:
    viewer.layers["cells"].data = np.full((60, 60), 250, np.uint8)
    (tmp_path / "there").touch()
    trouble = {"trouble": "raise", "while_there": str(tmp_path / "there")}
    segment.form.parameters.give(trouble)
    segment.run()
    wait()
    assert "tile" in segment.notice.text
    assert "tile 1" in segment.notice.text + segment.notice.details
    assert "no such cell" in segment.notice.text + segment.notice.details
    assert "Traceback" not in segment.notice.text + segment.notice.details
    (tmp_path / "there").unlink()
    segment.run()
    wait()
    assert segment.notice.text.startswith("Done.")


def test_what_is_wrong_with_the_form_is_said_before_anything_is_done(
    segment: Segment, viewer: Any, home: Path
) -> None:
    segment.form.source.axes.setText("YQ")
    segment.run()
    assert segment.notice.text.startswith("The axes YQ are not those of cells")
    segment.form.source.axes.clear()
    segment.form.place.tile.setText("many")
    segment.run()
    assert segment.notice.text.startswith('"Tile (px)" many is no size.')
    segment.form.place.tile.clear()
    viewer.layers.clear()
    segment.run()
    assert segment.notice.text.startswith("There is no image.")
    segment.preview()
    assert segment.notice.text.startswith("A preview is of what you see.")
    assert not segment.busy
    assert list(home.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_a_sentence(
    segment: Segment, wait: Callable[..., None], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    segment.form.place.folder.setText(str(tmp_path / "file" / "out"))
    segment.run()
    wait()
    assert "cannot be written" in segment.notice.text


def test_a_process_that_is_lost_is_told_of_and_the_next_run_works(
    segment: Segment, viewer: Any, cells: Image, wait: Callable[..., None], tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    segment.form.parameters.give({"threshold": 150, "seconds": 0.5, "calls": str(calls)})
    segment.run()
    wait(lambda: len(lines(calls)) > 1)
    pid = segment.pid
    assert pid is not None
    psutil.Process(pid).kill()
    wait()
    assert segment.notice.text.startswith("The process that does the work was lost.")
    segment.run()
    wait()
    (layer,) = labels_in(viewer).values()
    assert same_labels(squeezed(layer), pieces(cells, 150))


def test_a_process_that_does_not_stop_is_ended(
    segment: Segment, viewer: Any, cells: Image, wait: Callable[..., None], tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    segment.form.parameters.give({"threshold": 150, "seconds": 0.5, "calls": str(calls)})
    segment.run()
    wait(lambda: len(lines(calls)) > 1)
    host = psutil.Process(segment.pid)
    family = [host, *host.children(recursive=True)]
    host.suspend()  # deaf, as while packages are installed
    segment.cancel()
    wait()
    assert segment.notice.text == "Stopped. Run goes on where it was."
    assert psutil.wait_procs(family, timeout=10)[1] == []
    segment.run()
    wait()
    (layer,) = labels_in(viewer).values()
    assert same_labels(squeezed(layer), pieces(cells, 150))
    assert len(lines(calls)) <= 15 + 2


def test_late_news_of_an_earlier_process_ends_no_later_run(
    segment: Segment, viewer: Any, cells: Image, wait: Callable[..., None]
) -> None:
    segment.form.parameters.give({"threshold": 150, "seconds": 0.2})
    segment.run()
    wait(lambda: is_painted(viewer))
    assert segment.pid is not None
    segment._work._heard.emit(Message({"event": "lost", "pid": segment.pid + 1, "words": ""}))
    wait()
    assert "Done." in segment.notice.text
    (layer,) = labels_in(viewer).values()
    assert same_labels(squeezed(layer), pieces(cells, 150))


@pytest.mark.parametrize("files", [False, True])
def test_a_process_that_cannot_be_started_is_told_of(
    segment: Segment,
    viewer: Any,
    cells: Image,
    wait: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: bool,
) -> None:
    if files:
        save(tmp_path / "cells.tif", cells, "YX")
        segment.form.source.choose(paths=[str(tmp_path / "cells.tif")])
    with monkeypatch.context() as patch:
        patch.setattr("sys.executable", "/nowhere/python")
        segment.run()
        wait()
    assert segment.notice.text.startswith("The process that does the work cannot be started: no")
    assert not labels_in(viewer)
    segment.run()
    wait()
    assert segment.notice.text.startswith("Done.")


@pytest.mark.parametrize("what", ["viewer", "dock"])
def test_closing_the_viewer_or_the_dock_in_the_middle_leaves_no_process(
    what: str, segment: Segment, viewer: Any, wait: Callable[..., None], tmp_path: Path, qtbot: Any
) -> None:
    calls = tmp_path / "calls"
    segment.form.parameters.give({"seconds": 1.0, "calls": str(calls)})
    segment.run()
    wait(lambda: len(lines(calls)) > 0)
    pid = segment.pid
    assert pid is not None
    host = psutil.Process(pid)
    family = [host, *host.children(recursive=True)]
    if what == "viewer":
        viewer.close()
    else:
        viewer.window.remove_dock_widget(segment)
    qtbot.waitUntil(lambda: not any(p.is_running() for p in family), timeout=30_000)


def test_a_project_comes_back_as_it_was(
    segment: Segment, viewer: Any, tmp_path: Path, toys: Path, qtbot: Any
) -> None:
    segment.form.parameters.give({"threshold": 120, "above_median": True})
    segment.form.before.add("gaussian", label="soft").knobs["sigma"].value = 3.5
    segment.form.before.add("none", label="raw")
    segment.form.after.add("min_size").knobs["size"].value = 40.0
    segment.form.source.pixel_size.setText("0.25,0.25")
    segment.form.source.link_z.setCurrentIndex(1)
    segment.form.place.show_options(
        {"out": Path("results"), "exports": ("csv",), "device": "cpu", "workers": 3, "halo": (9,)}
    )
    asked = segment.form.request()
    segment.form.save_project(tmp_path / "a.yaml")
    other = Segment(viewer)
    qtbot.addWidget(other)
    other.form.load_project(tmp_path / "a.yaml")
    assert other.form.request() == asked
    assert other.form.source.layer.name == "cells"
    assert other.form.source.pixel_size.text() == segment.form.source.pixel_size.text()


def test_another_cache_is_used_from_the_next_run_on(
    segment: Segment, viewer: Any, wait: Callable[..., None], tmp_path: Path, qtbot: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    usual = cache_folder()
    monkeypatch.setenv("AIOD_CACHE", str(usual))  # as it is, and will be again
    line = segment.form.place.cache
    assert line.placeholderText() == str(usual)
    segment.run()
    wait()
    first = segment.pid
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "environments").symlink_to(usual / "environments")
    line.setText(str(shared))
    line.editingFinished.emit()
    segment.form.parameters.give({"threshold": 130})
    segment.run()
    wait()
    assert "Done." in segment.notice.text
    assert segment.pid not in (None, first)
    assert (shared / "speeds").is_dir()

    segment.form.save_project(tmp_path / "a.yaml")
    line.setText(str(tmp_path / "a.yaml"))  # no folder
    line.editingFinished.emit()
    assert "is no folder" in segment.notice.text
    assert line.text() == str(shared) == str(cache_folder())
    line.clear()
    line.editingFinished.emit()
    assert cache_folder() == usual
    other = Segment(viewer)
    qtbot.addWidget(other)
    other.form.load_project(tmp_path / "a.yaml")
    assert other.form.place.cache.text() == str(shared) == str(cache_folder())


@pytest.mark.parametrize("axes", ["tyx", "ztyx", "tzyx"])
def test_labels_lie_on_the_image_and_call_their_axes_as_it_does(
    segment: Segment, viewer: Any, wait: Callable[..., None], axes: str
) -> None:
    sizes = {"t": 2, "z": 3, "y": 60, "x": 50}
    shape = [sizes[axis] for axis in axes]
    image = np.stack([blobs((60, 50), seed=n) for n in range(math.prod(shape[:-2]))])
    image = image.reshape(shape)
    viewer.layers.clear()
    viewer.add_image(image, name="film")
    segment.form.source.axes.setText(axes.upper())
    segment.form.source.axes.editingFinished.emit()
    for do in (segment.preview, segment.run):
        do()
        wait()
        wait(lambda: len(labels_in(viewer)) == 1)  # without the look
        (layer,) = labels_in(viewer).values()
        assert tuple(layer.axis_labels) == tuple(axes)
    assert layer.data.shape == image.shape
    for at in np.ndindex(*shape[:-2]):
        assert same_labels(np.asarray(layer.data[at]), pieces(image[at], 150))


def test_a_growing_layer_that_the_user_changes_stops_growing(
    segment: Segment, viewer: Any, wait: Callable[..., None], cells: Image, tmp_path: Path
) -> None:
    segment.form.parameters.give({"threshold": 150, "seconds": 0.3})
    segment.run()
    wait(lambda: is_painted(viewer))
    (layer,) = labels_in(viewer).values()
    layer.data, layer.metadata = np.zeros((3, 3), int), {}
    wait()
    assert "Done." in segment.notice.text
    assert same_labels(squeezed(list(labels_in(viewer).values())[-1]), pieces(cells, 150))


def test_what_is_doubtful_is_said_without_unfolding(
    segment: Segment, viewer: Any, wait: Callable[..., None]
) -> None:
    segment.form.parameters.give({"threshold": 60_000})
    segment.run()
    wait()
    assert "No object was found" in segment.notice.text
    viewer.layers.clear()
    viewer.add_image(np.zeros((40, 40, 3), np.uint8), name="colours", rgb=True)
    segment.run()
    wait()
    assert "does not fit the model. The model takes one channel" in segment.notice.text


def test_parameters_are_saved_and_loaded(segment: Segment, tmp_path: Path) -> None:
    segment.form.parameters.give({"threshold": 120})
    segment.form.save_parameters(tmp_path / "p.yaml")
    segment.form.parameters.reset()
    segment.form.load_parameters(tmp_path / "p.yaml")
    assert segment.form.parameters.given == {"threshold": 120}
    (tmp_path / "p.yaml").write_text("threshold: 130\ntreshold: 3\n")
    with pytest.raises(UsageError, match="cannot take treshold"):
        segment.form.load_parameters(tmp_path / "p.yaml")
    assert segment.form.parameters.given == {"threshold": 130}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- 1\n", "holds no settings"),
        ("a: [\n", "is not YAML"),
        ("!!python/object/apply:os.system ['true']\n", "is not YAML"),
        ("aiod project: 1\nrequest: {model: 3}\n", "cannot be used: model"),
        ("other: 1\n", "no project of aiod"),
        ("aiod project: 1\ncache: [1]\nrequest: {}\n", "its cache is no folder"),
        ("aiod project: 1\nrequest: {model: no/such/model}\n", "no model family"),
    ],
)
def test_a_file_that_is_no_project_is_a_sentence(
    segment: Segment, tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises((UsageError, UnknownModelError), match=said):
        segment.form.load_project(tmp_path / "a.yaml")


def test_a_family_that_is_new_in_a_layer_appears(segment: Segment, toys: Path) -> None:
    manifest = json.loads((toys / "manifests" / "toy.json").read_text())
    manifest |= {"name": "Brand New", "short_name": "brand_new"}
    manifest["versions"] = {"one": manifest["versions"]["plane"]}
    manifest["params"] = [
        {"name": "Knob", "arg_name": "knob", "value": 3, "minimum": 1, "maximum": 9}
    ]
    (toys / "manifests" / "brand_new.json").write_text(json.dumps(manifest))
    (toys / "runners" / "brand_new.py").write_text((toys / "runners" / "toy.py").read_text())
    segment.form.reload()
    segment.form.choice.choose("brand_new/one")
    assert segment.form.parameters.knobs["knob"].widget.max == 9


def test_a_model_out_of_reach_is_grey_and_says_why(segment: Segment, toys: Path) -> None:
    manifest = json.loads((toys / "manifests" / "toy.json").read_text())
    secret = {**manifest["versions"]["plane"]}
    secret["tasks"] = {"nuclei": {"location": "/no/such/place/weights.pt"}}
    manifest["versions"]["secret"] = secret
    (toys / "manifests" / "toy.json").write_text(json.dumps(manifest))
    segment.form.reload()
    segment.form.choice.choose("toy/plane")
    box = segment.form.choice._versions
    row = box.findText("secret")
    assert not box.model().item(row).isEnabled()
    assert "/no/such/place" in box.itemData(row, 3)  # Qt's ToolTipRole


def test_sets_of_steps_are_looked_at_together(
    segment: Segment, viewer: Any, wait: Callable[..., None]
) -> None:
    segment.form.before.add("none", label="raw")
    segment.form.before.add("gaussian", label="soft")
    segment.form.before.move_row(segment.form.before.rows[1], -1)
    assert segment.form.before.texts == ("soft=gaussian:sigma=1", "raw=none")
    segment.preview()
    wait()
    assert set(labels_in(viewer)) == {"nuclei-raw (preview)", "nuclei-soft (preview)"}


def test_a_plan_is_told_without_running(
    segment: Segment, wait: Callable[..., None], home: Path
) -> None:
    segment.plan()
    wait()
    assert "15 tiles" in segment.notice.text
    assert "32 × 48" in segment.notice.details
    assert not list(home.glob("aiod-out/toy-*"))
    segment.preview()
    wait()
    segment.plan()
    wait()
    assert "as fast as it was here last" in segment.notice.text


def test_files_and_folders_are_segmented_too(
    segment: Segment, wait: Callable[..., None], picture: tuple[Path, Image], tmp_path: Path
) -> None:
    segment.form.source.choose(paths=[str(picture[0])])
    segment.form.place.folder.setText(str(tmp_path / "out"))
    segment.run()
    wait()
    assert segment.notice.text == f"Done. Results in {tmp_path / 'out'}"
    assert segment.table.item(0, 0).text() == "cells · nuclei"


def test_a_plan_says_at_once_what_cannot_be_done(
    segment: Segment, wait: Callable[..., None], picture: tuple[Path, Image], tmp_path: Path
) -> None:
    (tmp_path / "broken.tif").write_text("no image")
    segment.form.source.choose(paths=[str(picture[0]), str(tmp_path / "broken.tif")])
    segment.plan()
    wait()
    assert "on 1 image: 15 tiles." in segment.notice.text
    assert "broken.tif" in segment.notice.text


def test_the_line_of_a_terminal_can_be_had(segment: Segment, qtbot: Any, home: Path) -> None:
    told: list[str] = []
    segment.tell_command(told.append)
    qtbot.waitUntil(lambda: bool(told), timeout=10_000)
    assert told[0].startswith("aiod run toy/plane/nuclei ")
    assert "--param threshold=150" in told[0]
    assert "--tile 32,48" in told[0]


def test_a_slice_of_a_stack_is_looked_at(
    segment: Segment, viewer: Any, cells: Image, wait: Callable[..., None]
) -> None:
    viewer.layers.clear()
    stack = np.stack([cells, cells[::-1], cells[:, ::-1]])
    viewer.add_image(stack, name="stack", scale=(2.0, 0.5, 0.5), translate=(10, 0, 0))
    viewer.dims.set_current_step(0, 1)
    segment.preview()
    wait()
    (look,) = labels_in(viewer).values()
    assert look.ndim == 3
    assert same_labels(squeezed(look), pieces(cells[::-1], 150))
    assert look.translate.tolist() == [12.0, 0, 0]
    assert look.scale.tolist() == [2.0, 0.5, 0.5]


def test_each_layer_gets_its_own_labels_from_one_folder(
    segment: Segment, viewer: Any, cells: Image, wait: Callable[..., None]
) -> None:
    segment.run()
    wait()
    other = viewer.add_image(cells[:70, :60].copy(), name="other")
    viewer.layers.selection.active = other
    assert segment.form.source.layer is other
    segment.run()
    wait()
    first, second = labels_in(viewer).values()
    assert same_labels(squeezed(first), pieces(cells, 150))
    assert same_labels(squeezed(second), pieces(cells[:70, :60], 150))
    assert segment.table.rowCount() == 1
    assert segment.table.item(0, 0).text() == "other · nuclei"


def test_labels_that_were_edited_are_left_alone(
    segment: Segment, viewer: Any, cells: Image, wait: Callable[..., None]
) -> None:
    segment.run()
    wait()
    (mine,) = labels_in(viewer).values()
    mine.data[..., :5, :5] = 77
    mine.name = "my edited"
    segment.form.parameters.give({"threshold": 170})
    segment.run()
    wait()
    assert (mine.data[..., :5, :5] == 77).all()
    (other,) = (layer for layer in labels_in(viewer).values() if layer is not mine)
    assert same_labels(squeezed(other), pieces(cells, 170))


def test_parameters_stay_when_another_layer_is_chosen(
    segment: Segment, viewer: Any, cells: Image
) -> None:
    segment.form.parameters.give({"threshold": 120})
    other = viewer.add_image(cells.copy(), name="other")
    viewer.layers.selection.active = other
    assert segment.form.source.layer is other
    assert segment.form.parameters.given == {"threshold": 120}


def test_a_project_of_another_layer_brings_its_parameters(
    segment: Segment, viewer: Any, cells: Image, tmp_path: Path
) -> None:
    segment.form.parameters.give({"threshold": 120})
    segment.form.save_project(tmp_path / "a.yaml")
    segment.form.parameters.reset()
    viewer.layers.selection.active = viewer.add_image(cells.copy(), name="other")
    segment.form.load_project(tmp_path / "a.yaml")
    assert segment.form.source.layer.name == "cells"
    assert segment.form.parameters.given == {"threshold": 120}


def test_a_renamed_layer_is_still_the_one(segment: Segment, viewer: Any) -> None:
    viewer.layers["cells"].name = "renamed"
    assert segment.form.source.layer is viewer.layers["renamed"]
    assert segment.form.request().inputs == ("renamed",)


@pytest.mark.parametrize("reading", [False, True])
def test_cancel_before_anything_was_asked_for_is_heard(
    segment: Segment,
    viewer: Any,
    qtbot: Any,
    wait: Callable[..., None],
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    reading: bool,
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slowly(seen: Any, folder: Path) -> Any:
        begun.set()
        go_on.wait()
        return picture_of(seen, folder)

    monkeypatch.setattr(work, "picture_of", slowly)
    segment.run()
    if reading:
        wait(begun.is_set)
    segment.cancel()
    go_on.set()
    assert not segment.busy
    assert segment.notice.text.startswith("Stopped.")
    assert [layer.name for layer in viewer.layers] == ["cells"]
    if reading:
        wait(lambda: bool(list(home.glob("aiod-out/images/*/*.tif"))))
    qtbot.wait(500)
    assert begun.is_set() == reading
    assert [layer.name for layer in viewer.layers] == ["cells"]
    assert not list(home.glob("aiod-out/toy-*"))


def test_channels_come_back_in_their_order(segment: Segment, viewer: Any, tmp_path: Path) -> None:
    viewer.add_image(np.zeros((3, 40, 50), np.uint8), name="colours")
    source = segment.form.source
    source.choose("colours")
    source.axes.setText("CYX")
    source.axes.editingFinished.emit()
    assert source.options["channels"] == ()
    source.show_options({"axes": "CYX", "channels": ("3", "1")})
    assert source.options["channels"] == ("3", "1")
    segment.form.save_project(tmp_path / "a.yaml")
    source.show_options({"axes": "CYX"})
    assert source.options["channels"] == ()
    segment.form.load_project(tmp_path / "a.yaml")
    assert source.options["channels"] == ("3", "1")


def test_sentences_name_the_fields_of_the_form(segment: Segment) -> None:
    labels = {label.text().rstrip(":") for label in segment.findChildren(QLabel)}
    labels |= {fold.toggleButton().text() for fold in segment.findChildren(QCollapsible)}
    assert {name.partition(":")[0] for name in FIELDS.values()} <= labels


def test_a_layer_out_of_view_is_a_sentence(segment: Segment, viewer: Any) -> None:
    viewer.camera.center = (0, 10_000, 10_000)
    viewer.layers["cells"].corner_pixels = np.array([[149, 129], [149, 129]])
    segment.preview()
    assert segment.notice.text.startswith("Nothing of the image is in view")


def test_half_typed_axes_and_many_axes_raise_nothing(segment: Segment, viewer: Any) -> None:
    segment.form.source.axes.setText("YXTZC")
    segment.form.choice.choose("toy/stack")
    viewer.add_image(np.zeros((2, 1, 2, 2, 8, 8), np.uint8), name="six")
    segment.form.source.choose("six")
    segment.run()
    assert "axes" in segment.notice.text


@pytest.mark.parametrize(
    "line",
    ["workers: -5", "after: ['min_size:size=1e300']", "profile: none", "exports: [bogus]"],
)
def test_a_project_of_values_that_cannot_be_is_a_sentence(
    segment: Segment, tmp_path: Path, line: str
) -> None:
    segment.form.save_project(tmp_path / "a.yaml")
    text = (tmp_path / "a.yaml").read_text()
    key = line.partition(":")[0]
    kept = [each for each in text.splitlines() if not each.strip().startswith(f"{key}:")]
    (tmp_path / "a.yaml").write_text("\n".join([*kept, f"  {line}"]) + "\n")
    with pytest.raises(AiodError):
        segment.form.load_project(tmp_path / "a.yaml")


def test_no_form_changes_what_the_manifest_says(segment: Segment) -> None:
    for model in load():
        segment.form.choice.choose(model.id)
        assert segment.form.parameters.given == {}, model.id


def test_the_wheel_scrolls_the_form_and_turns_no_knob(segment: Segment) -> None:
    from qtpy.QtCore import QPoint, QPointF, Qt
    from qtpy.QtGui import QWheelEvent
    from qtpy.QtWidgets import QApplication

    native = segment.form.parameters.knobs["threshold"].widget.native
    native.clearFocus()
    turn = QWheelEvent(
        QPointF(5, 5), QPointF(5, 5), QPoint(0, 0), QPoint(0, 120), Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(native, turn)
    assert segment.form.parameters.knobs["threshold"].value == 150
