"""Refine: labels made better by hand, each step undoable or in a layer of its own."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QScrollArea, QVBoxLayout, QWidget
from superqt import QCollapsible

from aiod.napari.desk import Desk
from aiod.napari.notice import Notice
from aiod.napari.sections import Combine, Export, Section, Shape
from aiod.napari.selection import Choose, Picked, Split


class Refine(QWidget):
    """Sections that unfold, below the layer they act on.

    `choose`, `picked`, `split`, `shape`, `combine` and `export` are the sections; `desk` holds the
    layer, and `notice` what there is to say.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.notice = Notice()
        self.desk = Desk(napari_viewer, self.notice)
        self.choose, self.picked = Choose(self.desk), Picked(self.desk)
        self.split, self.shape = Split(self.desk), Shape(self.desk)
        self.combine, self.export = Combine(self.desk), Export(self.desk)
        self._folds = QWidget()
        column = QVBoxLayout(self._folds)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        folds = [_fold(title, section) for title, section in self._titles().items()]
        for fold in folds:
            column.addWidget(fold)
        column.addStretch()
        folds[0].toggleButton().setChecked(True)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setFrameShape(QScrollArea.Shape.NoFrame)
        area.setWidget(self._folds)
        layout = QVBoxLayout(self)
        for part in (self.desk, self.notice, area):
            layout.addWidget(part)
        self.setMinimumWidth(330)
        self.desk.busy.connect(self._folds.setDisabled)
        self.reset_choices()

    def _titles(self) -> dict[str, Section]:
        return {
            "Choose by a property": self.choose,
            "Picked objects": self.picked,
            "Split by points": self.split,
            "All objects": self.shape,
            "Several layers": self.combine,
            "Save": self.export,
        }

    @property
    def busy(self) -> bool:
        """Whether something is being done beside the window."""
        return not self._folds.isEnabled()

    def reset_choices(self, _: Any = None) -> None:
        """Offer the layers there are; napari calls it when they change."""
        self.desk.follow()
        for section in self._titles().values():
            section.follow()


def _fold(title: str, section: Section) -> QCollapsible:
    """A section under its title, folded away."""
    fold = QCollapsible(title)
    fold.setDuration(0)
    fold.addWidget(section)
    fold.toggled.connect(section.activate)
    return fold
