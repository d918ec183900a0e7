"""Draws the pictures of the napari plugin from the running plugin.

    xvfb-run -s "-screen 0 1280x800x24" python docs/images/make_plugin.py

Writes docs/images/napari-*.png, of windows of 1280 x 800.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
SIZE = (1280, 800)
SECONDS = 180


def main() -> None:
    os.environ.setdefault("QT_QPA_PLATFORM", "xcb")
    with tempfile.TemporaryDirectory() as home:
        os.environ["HOME"] = home  # where runs go: paths in the pictures are nobody's
        os.environ.setdefault("AIOD_CACHE", str(Path(home, "cache")))
        for name, draw in (("segment", segmented), ("evaluate", evaluated), ("refine", refined)):
            path = FOLDER / f"napari-{name}.png"
            draw(path)
            print(path)


def segmented(path: Path) -> None:
    """The sample after a look at a part of it."""
    viewer, widget = opened("Segment")
    viewer.open_sample("aiod-hub", "nuclei")
    widget.preview()
    until(lambda: not widget.busy)
    widget.run()
    until(lambda: not widget.busy)
    drawn(viewer, path)


def evaluated(path: Path) -> None:
    """The labels of the default model beside the truth that comes with the sample."""
    viewer, widget = opened("Evaluate labels")
    labels, truth = with_labels(viewer)
    widget.labels.value, widget.truth.value = labels, truth
    widget.evaluate()
    until(lambda: widget.button.isEnabled() and widget.table.rowCount() > 0)
    drawn(viewer, path)


def refined(path: Path) -> None:
    """The same labels, with those to be removed by their size."""
    viewer, widget = opened("Refine labels")
    labels, _ = with_labels(viewer)
    widget.desk.labels.value = labels
    viewer.layers.selection.active = labels
    drawn(viewer, path)


def with_labels(viewer: Any) -> tuple[Any, Any]:
    """The sample image with its labels by the default model and with its truth."""
    import numpy as np
    import tifffile

    import aiod
    from aiod.flow.request import Request
    from aiod.flow.results.labels import open_labels
    from aiod.flow.run import run
    from aiod.flow.source import Box
    from aiod.registry import load

    samples = Path(aiod.__file__).with_name("samples")
    out = Path.home() / "aiod-out" / "nuclei"
    done = run(Request(task="nuclei", inputs=[samples / "nuclei_2d.ome.tif"], out=out), load())
    source = open_labels(out / str(done.record.images[0].labels)).source
    found = np.squeeze(source.read(Box.whole(source.shape)))
    truth = tifffile.imread(samples / "nuclei_2d_truth.ome.tif").astype(np.uint32)
    viewer.open_sample("aiod-hub", "nuclei")
    return (
        viewer.add_labels(found, name="nuclei-mini"),
        viewer.add_labels(truth, name="truth", visible=False),
    )


def opened(name: str) -> tuple[Any, Any]:
    """A viewer with one of the plugin's widgets."""
    import napari

    viewer = napari.Viewer(show=True)
    viewer.window.resize(*SIZE)
    _, widget = viewer.window.add_plugin_dock_widget("aiod-hub", name)
    spin(1)
    return viewer, widget


def drawn(viewer: Any, path: Path) -> None:
    from PIL import Image

    spin(1.5)
    picture = viewer.screenshot(canvas_only=False, flash=False)
    Image.fromarray(picture[..., :3]).save(path, optimize=True)
    viewer.close()
    spin(0.5)


def until(so: Callable[[], bool]) -> None:
    """Let the window work until something is so."""
    end = time.monotonic() + SECONDS
    while not so():
        if time.monotonic() > end:
            raise SystemExit("it takes too long")
        spin(0.05)


def spin(seconds: float) -> None:
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)


if __name__ == "__main__":
    main()
