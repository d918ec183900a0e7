"""Several layers, one after the other or as channels of one image; colours; a look at steps."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Image as ImageLayer
from napari.layers._source import layer_source
from scipy import ndimage
from test_stitch import same_labels
from toylab import Image, blobs, pieces, save
from window import is_painted, labels_in, squeezed

from aiod.flow.record import read_record
from aiod.napari import work
from aiod.napari.picture import picture_of
from aiod.napari.segment import Segment

pytest_plugins = ["labs", "window"]


@pytest.fixture
def more(viewer: Any, cells: Image, segment: Segment) -> Image:
    """A second image of the same size, both selected, as by Ctrl and a click."""
    image = blobs(cells.shape, seed=5)
    viewer.layers.selection = {viewer.layers["cells"], viewer.add_image(image, name="more")}
    return image


def test_selected_layers_are_done_one_after_the_other(
    segment: Segment, viewer: Any, cells: Image, more: Image, wait: Callable[..., None], home: Path
) -> None:
    assert segment.form.source.layers.currentText() == "2 selected layers, one after the other"
    segment.run()
    wait()
    first, second = labels_in(viewer).values()
    assert same_labels(squeezed(first), pieces(cells, 150))
    assert same_labels(squeezed(second), pieces(more, 150))
    rows = [segment.table.item(row, 0).text() for row in range(segment.table.rowCount())]
    assert rows == ["cells · nuclei", "more · nuclei"]
    (folder,) = home.glob("aiod-out/toy-*")
    assert [image.sample for image in read_record(folder).images] == ["cells", "more"]
    assert segment.notice.text == f"Done. Results in ~/aiod-out/{folder.name}"
    # The labels that came are selected now; what was chosen is still chosen.
    assert len(segment.form.source.seen) == 2
    viewer.layers.selection.active = viewer.layers["cells"]
    assert segment.form.source.names == ("cells",)


def test_each_layer_has_its_own_look_and_another_takes_its_place(
    segment: Segment, viewer: Any, cells: Image, more: Image, wait: Callable[..., None]
) -> None:
    for threshold in (150, 180):
        segment.form.parameters.give({"threshold": threshold})
        segment.preview()
        wait()
        first, second = labels_in(viewer).values()
        assert same_labels(squeezed(first), pieces(cells, threshold))
        assert same_labels(squeezed(second), pieces(more, threshold))


def test_one_layer_that_fails_leaves_the_other_done(
    segment: Segment, viewer: Any, cells: Image, wait: Callable[..., None]
) -> None:
    odd = viewer.add_image(np.full((40, 50), 1 << 40, np.int64), name="odd")
    viewer.layers.selection = {viewer.layers["cells"], odd}
    segment.run()
    wait()
    (layer,) = labels_in(viewer).values()
    assert same_labels(squeezed(layer), pieces(cells, 150))
    assert segment.notice.text.startswith(
        "1 layer could not be finished. odd: odd holds 64-bit integers, which no image file holds."
    )
    assert "Done. Results in" in segment.notice.details


def test_one_layer_out_of_view_leaves_the_other_looked_at(
    segment: Segment, viewer: Any, cells: Image, wait: Callable[..., None]
) -> None:
    far = viewer.add_image(np.zeros((40, 50), np.uint8), name="far", translate=(9000, 9000))
    viewer.layers.selection = {viewer.layers["cells"], far}
    viewer.camera.center = (0, 75, 65)
    far.corner_pixels = np.array([[39, 49], [39, 49]])
    segment.preview()
    wait()
    (layer,) = labels_in(viewer).values()
    assert layer.name == "nuclei (preview)"
    assert segment.notice.text.startswith(
        "1 layer could not be finished. far: Nothing of the image"
    )
    assert "in view" in segment.notice.details


def test_cancel_ends_the_layers_that_wait_too(
    segment: Segment, viewer: Any, more: Image, wait: Callable[..., None], home: Path
) -> None:
    segment.form.parameters.give({"threshold": 150, "seconds": 0.5})
    segment.run()
    wait(lambda: is_painted(viewer))
    segment.cancel()
    wait()
    assert segment.notice.text.startswith("Stopped.")
    assert not list(home.glob("aiod-out/*/more*"))


def test_a_layer_that_was_still_being_read_at_cancel_has_no_say_in_the_next_run(
    segment: Segment,
    more: Image,
    wait: Callable[..., None],
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def read(*asked: Any) -> Any:
        if not begun.is_set():
            begun.set()
            go_on.wait()
        return picture_of(*asked)

    monkeypatch.setattr(work, "picture_of", read)
    segment.run()
    wait(begun.is_set)
    segment.cancel()
    segment.run()
    go_on.set()
    wait()
    (folder,) = home.glob("aiod-out/*/run.json")
    assert {image.sample for image in read_record(folder.parent).images} == {"cells", "more"}


def test_layers_are_channels_of_one_image(
    segment: Segment, viewer: Any, cells: Image, more: Image, wait: Callable[..., None]
) -> None:
    source = segment.form.source
    source.choose("cells", "more", together=True)
    segment.form.choice.choose("toy/colour")
    segment.form.parameters.give({"threshold": 150})
    assert source.names_of_channels == ["cells", "more"]
    assert source.axes.placeholderText() == "CYX"
    segment.run()
    wait()
    (layer,) = labels_in(viewer).values()
    assert same_labels(squeezed(layer), pieces(np.maximum(cells, more), 150))
    assert layer.data.shape == cells.shape
    source.show_options({"channels": ("2",)})
    segment.run()
    wait()
    newest = list(labels_in(viewer).values())[-1]
    assert same_labels(squeezed(newest), pieces(more, 150))


def test_layers_of_other_sizes_are_no_channels_of_one_image(
    segment: Segment, viewer: Any, cells: Image
) -> None:
    viewer.add_image(np.zeros((20, 30), np.uint8), name="small")
    segment.form.source.choose("cells", "small", together=True)
    segment.run()
    assert segment.notice.text == (
        "cells and small cannot be channels of one image: YX 150 × 130 and YX 20 × 30. "
        "Choose them one after the other."
    )


def test_layers_come_back_with_their_project(
    segment: Segment, viewer: Any, more: Image, tmp_path: Path
) -> None:
    source = segment.form.source
    for together in (False, True):
        source.choose("cells", "more", together=together)
        segment.form.save_project(tmp_path / "a.yaml")
        viewer.layers.selection.active = viewer.layers["more"]
        assert source.layer.name == "more"
        segment.form.load_project(tmp_path / "a.yaml")
        assert source.names == ("cells", "more")
        assert source.chosen is not None
        assert source.chosen.together == together


def test_files_stay_chosen_whatever_is_clicked_on_in_the_viewer(
    segment: Segment, viewer: Any, cells: Image, tmp_path: Path
) -> None:
    segment.form.source.choose(paths=[str(tmp_path)])
    viewer.add_labels(np.zeros((5, 5), np.uint8))
    assert segment.form.source.chosen is None
    assert segment.form.source.paths == (str(tmp_path),)
    viewer.layers.selection.active = viewer.layers["cells"]
    assert segment.form.source.names == ("cells",)


def test_a_model_of_channels_sees_the_colours(
    segment: Segment, viewer: Any, wait: Callable[..., None]
) -> None:
    picture = np.stack([blobs((90, 80), seed) for seed in (1, 2, 3)], axis=-1)
    viewer.layers.selection.active = viewer.add_image(picture, rgb=True, name="stained")
    segment.form.choice.choose("toy/colour")
    segment.form.parameters.give({"threshold": 150})
    segment.run()
    wait()
    (layer,) = labels_in(viewer).values()
    assert same_labels(squeezed(layer), pieces(picture.max(axis=-1), 150))


def test_what_the_model_sees_after_the_steps_is_shown(
    segment: Segment, viewer: Any, cells: Image, wait: Callable[..., None]
) -> None:
    viewer.layers["cells"].scale = (0.5, 0.5)
    segment.form.before.add("gaussian").knobs["sigma"].value = 2.0
    segment.preview()
    wait()
    (shown,) = (each for each in viewer.layers if "after the steps" in each.name)
    assert isinstance(shown, ImageLayer)
    expected = ndimage.gaussian_filter(cells.astype(np.float32), 2.0, mode="reflect")
    np.testing.assert_allclose(squeezed(shown), expected, atol=1.0)
    assert shown.scale.tolist() == [0.5, 0.5]
    assert segment.form.source.names == ("cells",)  # it is not offered as an image to segment
    segment.form.before.add("downsample").knobs["factor"].value = 2
    segment.preview()
    wait()
    (shown,) = (each for each in viewer.layers if "after the steps" in each.name)
    assert squeezed(shown).shape == (75, 65)
    assert shown.scale.tolist() == [1.0, 1.0]
    assert shown.translate.tolist() == [0.25, 0.25]
    segment.run()
    wait()
    wait(lambda: not any("after the steps" in each.name for each in viewer.layers))


def test_a_choice_stays_whatever_the_order_of_the_layers(
    segment: Segment, viewer: Any, more: Image, tmp_path: Path
) -> None:
    source = segment.form.source
    source.choose("more", "cells", together=True)
    assert source.names_of_channels == ["more", "cells"]
    segment.form.save_project(tmp_path / "a.yaml")
    viewer.layers.selection.add(viewer.add_labels(np.zeros((5, 5), np.uint8), name="drawn"))
    viewer.layers.selection = {viewer.layers[name] for name in ("cells", "more", "drawn")}
    viewer.layers.move(0, 2)
    assert source.names_of_channels == ["more", "cells"]
    viewer.layers.selection.active = viewer.layers["cells"]
    segment.form.load_project(tmp_path / "a.yaml")
    assert source.names_of_channels == ["more", "cells"]
    viewer.layers.remove("cells")
    assert source.names == ("more",)


def test_channels_are_chosen_only_where_all_layers_have_them(
    segment: Segment, viewer: Any, cells: Image
) -> None:
    stack = viewer.add_image(np.stack([cells] * 3), name="stack", axis_labels=("c", "y", "x"))
    viewer.layers.selection = {viewer.layers["cells"], stack}
    source = segment.form.source
    assert source.names_of_channels == []
    assert source.options["channels"] == ()
    viewer.layers.selection.active = stack
    assert len(source.names_of_channels) == 3


def test_layers_called_alike_get_folders_of_their_own(
    segment: Segment, viewer: Any, cells: Image, wait: Callable[..., None], tmp_path: Path
) -> None:
    viewer.layers.clear()
    images = []
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        images.append(blobs((70, 60), seed=number))
        path = save(tmp_path / str(number) / "plate.ome.tif", images[-1], "YX")
        with layer_source(path=str(path)):
            layer = ImageLayer(images[-1], name="plate")
        viewer.add_layer(layer)
    viewer.layers.selection = set(viewer.layers)
    segment.run()
    wait()
    assert segment.notice.text.startswith("Done."), segment.notice.details
    for layer, image in zip(labels_in(viewer).values(), images, strict=True):
        assert same_labels(squeezed(layer), pieces(image, 150))


def test_layers_that_lie_elsewhere_are_no_channels_of_one_image(
    segment: Segment, viewer: Any, cells: Image
) -> None:
    viewer.add_image(cells.copy(), name="moved", translate=(5, 0))
    segment.form.source.choose("cells", "moved", together=True)
    segment.run()
    assert "they lie elsewhere" in segment.notice.text


def test_what_the_model_sees_of_a_film_of_channels_lies_on_it(
    segment: Segment, viewer: Any, cells: Image, wait: Callable[..., None]
) -> None:
    viewer.layers.clear()
    film = np.stack([np.stack([cells + n, cells // 2 + n]) for n in range(4)])  # T, C
    for channel in (0, 1):
        viewer.add_image(film[:, channel], name=f"c{channel}", axis_labels=("t", "y", "x"))
    segment.form.source.choose("c0", "c1", together=True)
    segment.form.choice.choose("toy/colour")
    segment.form.before.add("mean").knobs["radius"].value = 1
    viewer.dims.set_current_step(0, 2)
    segment.preview()
    wait()
    (shown,) = (each for each in viewer.layers if "after the steps" in each.name)
    assert shown.data.shape[:2] == (2, 1)  # channels in front, then the time point that is shown
    assert shown.translate[1] == 2
    assert not shown.rgb


def test_a_form_that_was_saved_with_one_layer_is_still_read(
    segment: Segment, viewer: Any, tmp_path: Path
) -> None:
    segment.form.save_project(tmp_path / "a.yaml")
    text = (tmp_path / "a.yaml").read_text()
    old = text.replace("layers:\n- cells\nas channels: false", "layer: cells")
    assert old != text
    (tmp_path / "a.yaml").write_text(old)
    segment.form.source.choose()
    segment.form.load_project(tmp_path / "a.yaml")
    assert segment.form.source.names == ("cells",)
