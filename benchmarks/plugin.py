"""How much the napari plugin adds to napari: its start, and how long it holds the window up.

    xvfb-run --auto-servernum python benchmarks/plugin.py

Start: processes that open a viewer with a widget, ours and one that is a line of text, in turns.
The window: a timer ticks from the press of Run until the labels are drawn, in runs of 64 tiles, and
the longest time between two ticks is how long no click would have been answered. The answer to the
press, a layer that is added and drawn, is a row of its own. The last row is the machine's: how much
longer than at its quickest it may take for the same work, while nothing else is asked of it.
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
TILES = (256, 512, 1024)
MILLISECONDS = 50.0
SECONDS = 120
DRAWN = 0.1
"""Seconds after which a layer that became visible has been drawn."""

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
    from qtpy.QtWidgets import QApplication

    from aiod.napari.segment import Segment

    lab = pipeline.make_lab(folder / "lab")
    os.environ |= {"AIOD_CACHE": str(folder / "cache"), "AIOD_REGISTRIES": str(lab)}
    viewer = napari.Viewer(show=True)
    widget = Segment(viewer)
    viewer.window.add_dock_widget(widget, name="Segment")
    widget.form.choice.choose("waits/v1")
    pressed: list[float] = []
    for tile in TILES:
        image = (pipeline.grid(8 * tile) % 60_000 + 1).astype(np.uint16)
        if viewer.layers:  # napari 0.9 may crash where all layers are taken away
            viewer.layers["cells"].data = image
        else:
            viewer.add_image(image, name="cells")
        widget.form.place.show_options({"tile": (tile,), "workers": pipeline.WORKERS})
        spin(QApplication, 2.0)
        turns = [one_run(viewer, widget, QApplication, 0.1 + n / 10) for n in range(TURNS)]
        pressed += [press for press, _ in turns]
        held = [gap for _, gap in turns]
        yield Figure(
            f"the window held up in a run of 64 tiles of {tile} x {tile}, longest: "
            f"milliseconds / {MILLISECONDS:.0f}",
            statistics.median(held) / MILLISECONDS, 1.0,
            f"{statistics.median(held):.0f} ms", f"{min(held):.0f}–{max(held):.0f} ms",
        )  # fmt: skip
        yield drawing(viewer, QApplication, 8 * tile)
    press = statistics.median(pressed)
    yield Figure(
        f"by the press of Run, which adds a layer, longest: milliseconds / {MILLISECONDS:.0f}",
        press / MILLISECONDS, 1.0,
        f"{press:.0f} ms", f"{min(pressed):.0f}–{max(pressed):.0f} ms",
    )  # fmt: skip
    yield adding(viewer, QApplication)
    yield noise()
    viewer.close()
    spin(QApplication, 1.0)


def one_run(viewer: Any, widget: Any, application: Any, seconds: float) -> tuple[float, float]:
    """Milliseconds of the longest turn of Qt until the layer is drawn, and of those after it."""
    from qtpy.QtCore import QTimer

    from aiod.napari.masks import finest

    for layer in list(viewer.layers)[1:]:  # of the turn before
        viewer.layers.remove(layer)
    widget.form.parameters.give({"wait": seconds})  # another run each time
    spin(application, 2.0)
    ticks: list[float] = []
    timer = QTimer()
    timer.setInterval(1)
    timer.timeout.connect(lambda: ticks.append(time.perf_counter()))
    timer.start()
    pressed: list[float] = []

    def press() -> None:
        pressed.append(time.perf_counter())
        widget.run()

    QTimer.singleShot(100, press)
    there, filled = 0.0, False
    end = time.monotonic() + SECONDS
    while (widget.busy or not pressed) and time.monotonic() < end:
        application.processEvents()
        for layer in viewer.layers:
            if "arriving" in layer.name and layer.visible:
                there = there or time.perf_counter() + DRAWN
                filled = filled or finest(layer)[::61, ::61].any()
    spin(application, 0.3)  # what is still to be drawn
    timer.stop()
    if not filled:
        raise SystemExit(f"no tile was shown: {widget.notice.text} {widget.notice.details}")
    turns = [(a, 1000 * (b - a)) for a, b in itertools.pairwise(ticks) if b > pressed[0]]
    return max(ms for a, ms in turns if a < there), max(ms for a, ms in turns if a >= there)


def drawing(viewer: Any, application: Any, side: int) -> Figure:
    """What napari takes by itself to show other labels, of which a plugin can save nothing."""
    from aiod.napari.levels import Levels

    layer = viewer.layers[-1]
    taken = []
    for number in range(1, 9):
        labels = np.zeros((side, side), np.uint32)
        labels[:: number + 1] = number
        data = Levels.of(labels, pyramid=layer.multiscale).data
        spin(application, 0.3)
        begun = time.perf_counter()
        layer.data = data
        application.processEvents()
        taken.append((time.perf_counter() - begun) * 1000)
    return Figure(
        f"other labels in a layer of {side} x {side}: napari's own, milliseconds / 50",
        statistics.median(taken) / MILLISECONDS, None,
        f"{statistics.median(taken):.0f} ms", f"{min(taken):.0f}–{max(taken):.0f} ms",
    )  # fmt: skip


def adding(viewer: Any, application: Any) -> Figure:
    """What napari takes by itself to add a layer."""
    taken = []
    for _ in range(TURNS):
        spin(application, 0.3)
        begun = time.perf_counter()
        layer = viewer.add_labels(np.zeros((8 * TILES[0], 8 * TILES[0]), np.uint32))
        application.processEvents()
        taken.append((time.perf_counter() - begun) * 1000)
        viewer.layers.remove(layer)
    return Figure(
        "adding labels and drawing them: napari's own `add_labels`, milliseconds / 50",
        statistics.median(taken) / MILLISECONDS, None,
        f"{statistics.median(taken):.0f} ms", f"{min(taken):.0f}–{max(taken):.0f} ms",
    )  # fmt: skip


def noise() -> Figure:
    """The same 30 milliseconds of plain Python again and again: the longest beside the shortest."""
    taken = []
    count = 300_000
    for _ in range(300):
        begun = time.perf_counter()
        sum(number * number % 7 for number in range(count))
        taken.append((time.perf_counter() - begun) * 1000)
    return Figure(
        "the machine itself: the same plain Python 300 times, longest / shortest",
        max(taken) / min(taken), None,
        f"{max(taken):.0f} ms", f"{min(taken):.0f} ms",
    )  # fmt: skip


def spin(application: Any, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        application.processEvents()


if __name__ == "__main__":
    for figure in figures():
        print(figure.row(), flush=True)
