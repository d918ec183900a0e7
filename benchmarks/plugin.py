"""How much the napari plugin adds to napari: its start, and how long it holds the window up.

    xvfb-run --auto-servernum python benchmarks/plugin.py

Start: processes that open a viewer with a widget, ours and one that is a line of text, in turns.
The window: a timer ticks while a run of 64 tiles goes on, and the longest time between two ticks is
how long no click would have been answered.
"""

from __future__ import annotations

import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pipeline
from figures import Figure

TURNS = 5
IMAGE = 2048
TILE = 256
MILLISECONDS = 50.0
SECONDS = 120

SIMPLE = """
import napari, time
from qtpy.QtWidgets import QApplication, QLabel
class Simple(QLabel):
    def __init__(self):
        super().__init__("Hello")
viewer = napari.Viewer(show=True)
viewer.window.add_dock_widget(Simple(), name="Simple")
QApplication.processEvents()
"""
OURS = """
import napari, time
from qtpy.QtWidgets import QApplication
viewer = napari.Viewer(show=True)
viewer.window.add_plugin_dock_widget("aiod-hub", "Segment")
QApplication.processEvents()
"""


def figures() -> Iterator[Figure]:
    """Every figure of the window."""
    os.environ.setdefault("QT_QPA_PLATFORM", "xcb")
    with tempfile.TemporaryDirectory() as name:
        os.environ["HOME"] = name
        yield start()
        yield from gaps(Path(name))


def start() -> Figure:
    """Napari with our widget beside napari with a line of text."""
    ours: list[float] = []
    simple: list[float] = []
    for turn in range(TURNS + 1):
        for program, found in ((SIMPLE, simple), (OURS, ours)):
            begun = time.perf_counter()
            subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)
            if turn:  # the first fills the caches of both
                found.append(time.perf_counter() - begun)
    a, b = statistics.median(ours), statistics.median(simple)
    return Figure(
        "napari with Segment opened / with a widget of one line", a / b, 1.5,
        f"{a:.2f} s", f"{b:.2f} s",
    )  # fmt: skip


def gaps(folder: Path) -> Iterator[Figure]:
    """The longest times without a tick, in runs of 64 tiles by a model that takes its time."""
    import napari
    from qtpy.QtCore import QTimer
    from qtpy.QtWidgets import QApplication

    from aiod.napari.segment import Segment

    lab = pipeline.make_lab(folder / "lab")
    os.environ |= {"AIOD_CACHE": str(folder / "cache"), "AIOD_REGISTRIES": str(lab)}
    viewer = napari.Viewer(show=True)
    viewer.add_image((pipeline.grid(IMAGE) % 60_000 + 1).astype(np.uint16), name="cells")
    widget = Segment(viewer)
    viewer.window.add_dock_widget(widget, name="Segment")
    widget.form.choice.choose("waits/v1")
    widget.form.place.show_options({"tile": (TILE,), "workers": pipeline.WORKERS})
    ticks: list[tuple[float, bool]] = []
    timer = QTimer()
    timer.setInterval(1)
    timer.timeout.connect(lambda: ticks.append((time.perf_counter(), arriving(viewer))))
    coming: list[float] = []
    whole: list[float] = []
    for turn in range(TURNS + 1):
        for layer in list(viewer.layers)[1:]:  # of the turn before
            viewer.layers.remove(layer)
        widget.form.parameters.give({"wait": 0.1 + turn / 10})  # another run each time
        spin(QApplication, 1.0)
        ticks.clear()
        timer.start()
        widget.run()
        end = time.monotonic() + SECONDS
        while widget.busy and time.monotonic() < end:
            QApplication.processEvents()
        spin(QApplication, 0.3)  # what is still to be drawn
        timer.stop()
        if not any(shown for _, shown in ticks):
            raise SystemExit(f"no tile was shown: {widget.notice.text} {widget.notice.details}")
        if turn:  # the first builds the environment and adds the layer
            gaps = [
                (1000 * (b - a), before and after)
                for (a, before), (b, after) in itertools.pairwise(ticks)
            ]
            coming.append(max(gap for gap, inside in gaps if inside))
            whole.append(max(gap for gap, _ in gaps))
    for name, found in (
        ("while 64 tiles come in", coming),
        ("from Run to the finished layer", whole),
    ):
        longest = statistics.median(found)
        yield Figure(
            f"the window held up {name}, longest: milliseconds / {MILLISECONDS:.0f}",
            longest / MILLISECONDS, 1.0,
            f"{longest:.0f} ms", f"{min(found):.0f}–{max(found):.0f} ms",
        )  # fmt: skip
    yield from alone(viewer, QApplication)
    viewer.close()
    spin(QApplication, 1.0)


def alone(viewer: Any, application: Any) -> Iterator[Figure]:
    """What napari takes by itself, of which a plugin can save nothing."""
    begun = time.perf_counter()
    layer = viewer.add_labels(np.zeros((IMAGE // 2, IMAGE // 2), np.uint32), scale=(2, 2))
    adding = (time.perf_counter() - begun) * 1000
    yield Figure(
        "adding the layer, once: napari's own `add_labels`, milliseconds / 50",
        adding / MILLISECONDS, None, f"{adding:.0f} ms", "",
    )  # fmt: skip
    drawing = []
    for number in range(1, 9):
        spin(application, 0.3)
        layer.data[:: number + 1] = number
        begun = time.perf_counter()
        layer.refresh(thumbnail=False, highlight=False, extent=False)
        application.processEvents()
        drawing.append((time.perf_counter() - begun) * 1000)
    yield Figure(
        "drawing it anew: napari's own `refresh`, milliseconds / 50",
        statistics.median(drawing) / MILLISECONDS, None,
        f"{statistics.median(drawing):.0f} ms", f"{min(drawing):.0f}–{max(drawing):.0f} ms",
    )  # fmt: skip


def arriving(viewer: Any) -> bool:
    """Whether tiles are being shown."""
    return any("arriving" in layer.name for layer in viewer.layers)


def spin(application: Any, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        application.processEvents()


if __name__ == "__main__":
    for figure in figures():
        print(figure.row(), flush=True)
