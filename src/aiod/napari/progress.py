"""How far the work has come, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from qtpy.QtWidgets import QProgressBar, QTableWidget, QTableWidgetItem

from aiod.flow.record import ImageRecord
from aiod.words import byte_size, duration, printable


class Progress(QProgressBar):
    """How far it has come, how fast, and how long it will take."""

    def __init__(self) -> None:
        super().__init__()
        self._begun: dict[str, tuple[float, int]] = {}

    def begin(self, words: str = "") -> None:
        """Something has begun, and nobody knows how long it takes."""
        self._begun.clear()
        self._show(0, None, words)

    def show_step(self, said: Mapping[str, Any]) -> None:
        """Show a step of the process: `what`, how many are `done` of the `total`, their `unit`."""
        what, done, total, unit = (said[key] for key in ("what", "done", "total", "unit"))
        now = time.monotonic()
        first, already = self._begun.setdefault(what, (now, done))
        rate = (done - already) / (now - first) if now > first else 0.0
        self._show(done, total, _words(what, done, total, unit, rate))

    def _show(self, done: int, total: int | None, words: str) -> None:
        # A bar draws itself at once, and all of the window with it: here it waits for its turn.
        self.setUpdatesEnabled(False)
        self.setRange(0, 1000 if total else 0)
        self.setFormat(words)
        self.setValue(int(1000 * done / total) if total else 0)
        self.setUpdatesEnabled(True)


class Outcome(QTableWidget):
    """The images that are done: a line for each."""

    def __init__(self) -> None:
        super().__init__(0, 3)
        self.setHorizontalHeaderLabels(["Image", "Objects", "Time"])
        self.verticalHeader().setVisible(False)
        self.horizontalHeader().setStretchLastSection(True)
        self.setMaximumHeight(110)
        self.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.setVisible(False)

    def begin(self) -> None:
        """Nothing is done yet."""
        self.setRowCount(0)
        self.setVisible(False)

    def add(self, images: Sequence[ImageRecord]) -> None:
        """Add images of a run."""
        first = self.rowCount()
        self.setRowCount(first + len(images))
        self.setVisible(True)
        for row, image in enumerate(images, start=first):
            objects = "–" if image.objects is None else f"{image.objects:,}"
            seconds = "–" if image.seconds is None else f"{image.seconds:.1f} s"
            for column, text in enumerate((f"{image.sample} · {image.set}", objects, seconds)):
                self.setItem(row, column, QTableWidgetItem(printable(text)))
        self.resizeRowsToContents()


def _words(what: str, done: int, total: int | None, unit: str, rate: float) -> str:
    """How far it has come, how fast, and how long it will take.

    >>> _words("cells", 12, 64, "tiles", 4.0)
    'cells: 12 of 64 tiles, 4.0/s, 13 s left'
    """
    if unit == "bytes":
        amount = byte_size(done) + (f" of {byte_size(total)}" if total else "")
        speed = f", {byte_size(int(rate))}/s" if rate else ""
    else:
        amount = f"{done:,}" + (f" of {total:,}" if total else "") + (f" {unit}" if unit else "")
        speed = f", {rate:.1f}/s" if rate else ""
    left = f", {duration(((total or 0) - done) / rate)} left" if rate and total else ""
    return printable(f"{what}: {amount}{speed}{left}")
