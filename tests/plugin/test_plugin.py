"""What napari sees of the plugin: its menus, its widgets, its sample, its reader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import npe2
import numpy as np
import pytest
import tifffile
from toylab import Image, labels_of

import aiod
from aiod.flow.run import Done
from aiod.napari.reader import reader_for
from aiod.napari.samples import nuclei

pytest_plugins = ["labs", "window"]


def test_the_manifest_is_good_and_has_the_name_of_the_distribution() -> None:
    manifest = npe2.PluginManifest.from_distribution("aiod-hub")
    assert manifest.name == "aiod-hub"
    contributions = manifest.contributions
    assert contributions.menus["napari/layers/segment"]
    for command in contributions.commands or ():
        assert callable(
            command.python_name and npe2.manifest.utils.import_python_name(command.python_name)
        )


def test_the_plugin_brings_no_qt_of_its_own() -> None:
    import importlib.metadata

    required = importlib.metadata.requires("aiod-hub") or []
    of_users = [line for line in required if "'dev'" not in line and "'bench'" not in line]
    assert any("extra == 'napari'" in line for line in of_users)
    assert not [line for line in of_users if line.lower().startswith(("pyqt", "pyside"))]


@pytest.mark.parametrize("name", ["Segment", "Evaluate labels", "Refine labels"])
def test_each_widget_opens_from_napari(viewer: Any, home: Path, name: str) -> None:
    dock, widget = viewer.window.add_plugin_dock_widget("aiod-hub", name)
    assert widget.isVisibleTo(dock)


def test_the_sample_is_the_image_of_the_demo(viewer: Any) -> None:
    (layer,) = viewer.open_sample("aiod-hub", "nuclei")
    shipped = Path(aiod.__file__).with_name("samples") / "nuclei_2d.ome.tif"
    np.testing.assert_array_equal(layer.data, np.squeeze(tifffile.imread(shipped)))
    assert nuclei()[0][2] == "image"


def test_a_run_is_read_as_its_image_and_its_labels(
    go: Callable[..., Done], picture: tuple[Path, Image], viewer: Any, home: Path
) -> None:
    done = go("plane", picture[0])
    for path in (done.folder, done.folder / "run.json"):
        viewer.layers.clear()
        viewer.open(path, plugin="aiod-hub")
        image, labels = viewer.layers
        np.testing.assert_array_equal(np.squeeze(np.asarray(image.data)), picture[1])
        np.testing.assert_array_equal(np.squeeze(np.asarray(labels.data)), labels_of(done))
        assert labels.scale[-1] == image.scale[-1] == 0.25


def test_nothing_else_is_claimed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4), np.uint8))
    (tmp_path / "folder" / "run.json").write_text("{}")
    (tmp_path / "run.json").write_text('{"format": "of another program"}')
    for path in ("a.tif", "folder", "run.json", "folder/run.json", "gone", "."):
        assert reader_for(str(tmp_path / path)) is None
    assert reader_for([str(tmp_path / "a.tif")]) is None
