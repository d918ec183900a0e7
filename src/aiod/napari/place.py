"""Where a run works and where its results go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QWidget,
)

from aiod.errors import UsageError
from aiod.flow.profiles import DEFAULT_PROFILE
from aiod.flow.request import EXPORTS
from aiod.flow.tiles.layout import parse_sizes
from aiod.napari.fields import Field, calm, knob_of
from aiod.registry.settings import cache_folder, use_cache
from aiod.words import printable

_DEVICES = ("auto", "cpu", "cuda", "mps")
_WORDS = {"tiff": "TIFF", "geojson": "GeoJSON", "csv": "CSV"}


class PlaceForm(QWidget):
    """Folder, exports, device, workers, profile, tiles; `options` are those of a request.

    The cache is that of the whole program; `failed` tells of one that cannot be.
    """

    changed = Signal()
    failed = Signal(object)

    def __init__(self, profiles: Sequence[str]) -> None:
        super().__init__()
        self.folder, self.cache, self._taken = QLineEdit(), QLineEdit(), ""
        self.folder.setPlaceholderText("one for these settings, in aiod-out")
        self.folder.setToolTip("The run folder. An earlier run of the same settings goes on there.")
        row = _with_browser(self.folder, "Run folder")
        self.cache.setPlaceholderText(str(cache_folder()))
        self.cache.setToolTip(
            "Weights and environments of models are kept here, as in a folder that a lab shares. "
            "For good, it is named in the config file of aiod, or in the variable AIOD_CACHE."
        )
        self.cache.editingFinished.connect(self._use_cache)
        beside = _with_browser(self.cache, "Cache")
        self.exports = {name: QCheckBox(_WORDS[name]) for name in EXPORTS}
        boxes = QHBoxLayout()
        for box in self.exports.values():
            boxes.addWidget(box)
            box.toggled.connect(self._tell)
        self.device, self.profile = QComboBox(), QComboBox()
        self.device.addItems(_DEVICES)
        self.device.setEditable(True)
        self.profile.addItems(profiles)
        for box in (self.device, self.profile):
            calm(box)
        self.workers = knob_of(
            Field("workers", "Workers", int, None, optional=True, minimum=1, maximum=1024)
        )
        self.tile, self.halo = QLineEdit(), QLineEdit()
        for line, tip in (
            (self.tile, "Pixels of a piece done at a time: 512, or one number an axis: 16,512,512"),
            (self.halo, "Margin that a tile sees around itself: 64, or one number an axis"),
        ):
            line.setPlaceholderText("as the model says")
            line.setToolTip(tip)
            line.textChanged.connect(self._tell)
        self.folder.textChanged.connect(self._tell)
        self.device.currentTextChanged.connect(self._tell)
        self.profile.currentTextChanged.connect(self._tell)
        self.workers.widget.changed.connect(self.changed.emit)
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Results in", row)
        form.addRow("Also as", boxes)
        form.addRow("Device", self.device)
        form.addRow("Workers", self.workers.widget.native)
        form.addRow("Profile", self.profile)
        form.addRow("Tile (px)", self.tile)
        form.addRow("Halo (px)", self.halo)
        form.addRow("Cache", beside)
        self.show_options({})

    @property
    def options(self) -> dict[str, Any]:
        """Keywords of a request. Raises UsageError for sizes that are none."""
        tile, halo = self.tile.text().strip(), self.halo.text().strip()
        return {
            "out": Path(self.folder.text()).expanduser() if self.folder.text().strip() else None,
            "exports": tuple(name for name, box in self.exports.items() if box.isChecked()),
            "device": self.device.currentText().strip() or "auto",
            "profile": self.profile.currentText() or DEFAULT_PROFILE,
            "workers": self.workers.value,
            "tile": parse_sizes(tile, "--tile") if tile else None,
            "halo": parse_sizes(halo, "--halo") if halo else None,
        }

    def show_options(self, options: dict[str, Any]) -> None:
        """Show the keywords of a request; defaults where one is not there. Raises UsageError."""
        profile = options.get("profile", DEFAULT_PROFILE)
        if self.profile.findText(profile) < 0:
            raise UsageError(f"There is no profile {printable(profile)} here.")
        unknown = set(options.get("exports", ())) - set(self.exports)
        if unknown:
            raise UsageError(f"There is no export {printable(min(unknown))}.")
        out = options.get("out")
        self.folder.setText(str(out) if out else "")
        for name, box in self.exports.items():
            box.setChecked(name in options.get("exports", ()))
        self.device.setCurrentText(options.get("device", "auto"))
        self.profile.setCurrentText(profile)
        self.workers.value = options.get("workers")
        for line, sizes in ((self.tile, options.get("tile")), (self.halo, options.get("halo"))):
            line.setText(",".join(map(str, sizes)) if sizes else "")

    def show_cache(self, folder: str) -> None:
        """Use another cache; empty for the usual one. Raises UsageError."""
        use_cache(folder or self.cache.placeholderText())
        self._taken = folder
        self.cache.setText(folder)

    def _use_cache(self) -> None:
        try:
            self.show_cache(self.cache.text().strip())
        except UsageError as error:
            self.cache.setText(self._taken)
            self.failed.emit(error)

    def _tell(self, _: Any = None) -> None:
        self.changed.emit()


def _with_browser(line: QLineEdit, title: str) -> QHBoxLayout:
    """A line for a folder, and a button that has one chosen."""

    def choose() -> None:
        folder = QFileDialog.getExistingDirectory(line, title, line.text())
        if folder:
            line.setText(folder)
            line.editingFinished.emit()

    browse = QPushButton("…")
    browse.setToolTip("Choose a folder")
    browse.clicked.connect(choose)
    row = QHBoxLayout()
    row.addWidget(line)
    row.addWidget(browse)
    return row
