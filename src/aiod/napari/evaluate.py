"""Evaluate: labels against the truth, as a table, in colours, and as a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from magicgui.widgets import ComboBox
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from aiod.errors import AiodError, UsageError
from aiod.flow.refine.verdicts import VERDICTS, verdicts
from aiod.flow.results.evaluate import THRESHOLDS, evaluate_instances, evaluate_semantic
from aiod.flow.results.figures import Table, class_table, instance_table, write_table
from aiod.napari.background import in_another_turn, in_background
from aiod.napari.knobs import rows
from aiod.napari.masks import Mask, agreed, apart, beside, chooser, follow, source_of
from aiod.napari.notice import Notice

COLOURS = {"matched": "#009e73", "missed": "#56b4e9", "extra": "#d55e00"}
"""Green, yellow and vermilion of Okabe and Ito, told apart by every kind of colour vision."""

_OBJECTS, _CLASSES = "objects", "classes"


@dataclass(frozen=True, slots=True)
class _Found:
    """The table, and for objects the two layers of verdicts."""

    table: Table
    painted: tuple[NDArray[Any], NDArray[Any]] | None
    colours: Mapping[str, DirectLabelColormap] = field(default_factory=dict)
    """What the objects that are not matched are called -> the colours of their layer."""


class Evaluate(QWidget):
    """Choose labels and their truth; Evaluate shows the figures of `aiod eval` and the objects."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self.labels = chooser(napari_viewer, Labels, "what a model or a person found")
        self.truth = chooser(napari_viewer, Labels, "what is right, of the same image")
        self.compare = ComboBox(
            choices=[_OBJECTS, _CLASSES],
            tooltip="objects: each number is one object; classes: each number is a kind of pixel",
        )
        self.threshold = ComboBox(
            choices=[(f"{iou:.2f}", iou) for iou in THRESHOLDS],
            tooltip="the IoU (intersection over union) from which an object counts as found",
        )
        self.button = _button("Evaluate", self.evaluate)
        self.save_button = _button("Save as CSV…", self._ask_and_save)
        self.save_button.setEnabled(False)
        self.table = QTableWidget()
        self.summary, self.legend = _words(), _words()
        self.notice = Notice()
        self._found: _Found | None = None
        self._lay_out()
        self.reset_choices()

    def _lay_out(self) -> None:
        form = rows()
        for text, box in (
            ("Labels", self.labels),
            ("Truth", self.truth),
            ("Compare", self.compare),
            ("Colours at IoU", self.threshold),
        ):
            form.addRow(text, box.native)
        self.compare.changed.connect(
            lambda how: self.threshold.native.setEnabled(how == _OBJECTS)  # classes have none
        )
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.table.verticalHeader().setVisible(False)
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.table.verticalHeader().setDefaultSectionSize(22)
        small = 0.9 * self.font().pointSizeF()
        self.table.setStyleSheet(
            f"QTableWidget, QHeaderView {{ font-size: {small:.1f}pt }}"
            "QHeaderView::section, QTableWidget::item { padding: 1px }"
        )
        self.table.setMinimumSize(452, 285)  # ten thresholds, and all columns
        self.legend.setTextFormat(Qt.TextFormat.RichText)  # of our own words and colours only
        self.legend.setText(
            " ".join(
                f'<span style="color:{colour}">■</span>&nbsp;{name}'
                for name, colour in COLOURS.items()
            )
        )
        buttons = QHBoxLayout()
        buttons.addWidget(self.button)
        buttons.addWidget(self.save_button)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addLayout(buttons)
        for part in (self.notice, self.table, self.summary, self.legend):
            layout.addWidget(part)
        layout.addStretch()

    def reset_choices(self, _: Any = None) -> None:
        """Offer the layers there are; napari calls it when they change."""
        follow(self.labels)
        follow(self.truth)
        if self.truth.value is self.labels.value and len(self.truth.choices) > 1:
            others = [layer for layer in self.truth.choices if layer is not self.labels.value]
            self.truth.value = others[0]

    # --- evaluating -------------------------------------------------------------------------------

    def evaluate(self) -> None:
        """Compare the layers in the background, then show what was found."""
        labels, truth = self.labels.value, self.truth.value
        try:
            masks = [Mask.of(labels), Mask.of(truth, what="true labels")]
            if labels is truth:
                raise UsageError(
                    "The labels and the truth are the same layer.", hint="choose two layers"
                )
            ours, theirs = agreed(masks)
        except AiodError as error:
            self.notice.fail(error)
            return
        self.notice.say("Comparing…")
        self.button.setEnabled(False)
        compare: Callable[[], _Found]
        if self.compare.value == _CLASSES:
            compare = _comparison_of_classes(ours, theirs)
        else:
            compare = _comparison_of_objects(ours, theirs, float(self.threshold.value))
        in_background(
            compare, lambda found: self._show(found, labels, truth), self._fail, asker=self
        )

    def _show(self, found: _Found, labels: Labels, truth: Labels) -> None:
        self.notice.clear()
        if apart(labels, truth):
            self.notice.say(
                "The layers have other scales or places; they were compared pixel by pixel.",
                kind="warning",
            )
        self._found = found
        self.save_button.setEnabled(True)
        _fill(self.table, found.table)
        self.summary.setText(" ".join(found.table.sentences))
        if found.painted is not None:
            ours, theirs = found.painted
            self._paint(f"{labels.name}: matched, extra", ours, labels, found.colours["extra"])
            # Napari takes a while for each: what was clicked meanwhile comes in between.
            in_another_turn(partial(self._paint_missed, theirs, truth, found), asker=self)
        else:
            self.button.setEnabled(True)

    def _paint_missed(self, pixels: NDArray[Any], truth: Labels, found: _Found) -> None:
        self._paint(f"{truth.name}: matched, missed", pixels, truth, found.colours["missed"])
        self.button.setEnabled(True)

    def _paint(
        self, name: str, pixels: NDArray[Any], layer: Labels, colours: DirectLabelColormap
    ) -> None:
        """Show verdicts in a layer of their own, which the next evaluation takes again."""
        about = {"aiod": {"evaluated": name}}
        before = [each for each in self._viewer.layers if each.metadata == about]
        if before and before[0].data.shape == pixels.shape:
            before[0].data = pixels
            for key, value in beside(layer).items():
                setattr(before[0], key, value)
            return
        painted = self._viewer.add_labels(
            pixels,
            name=name,
            metadata=about,
            colormap=colours,
            features={"object": ["", *VERDICTS]},
            opacity=0.6,  # so that what was missed is seen through what is too much
            **beside(layer),
        )
        painted.editable = False

    def _fail(self, error: Exception) -> None:
        self.button.setEnabled(True)
        self.notice.fail(error)

    # --- saving -----------------------------------------------------------------------------------

    def save(self, path: Path | str) -> None:
        """Write the figures that are shown as CSV."""
        if self._found is None:
            self.notice.fail(UsageError("There is nothing to save yet.", hint="evaluate first"))
            return
        table = self._found.table
        in_background(
            lambda: write_table(table, Path(path)),
            lambda _: self.notice.say(f"Written: {path}"),
            self.notice.fail,
            asker=self,
        )

    def _ask_and_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self, "Save the figures", "figures.csv", "Table (*.csv)"
        )
        if path:
            self.save(path)


def _comparison_of_objects(ours: Mask, theirs: Mask, iou: float) -> Callable[[], _Found]:
    def compare() -> _Found:
        labels, truth = ours.pixels(), theirs.pixels()
        scores = evaluate_instances(
            source_of(labels, ours.axes, ours.pixel_size),
            source_of(truth, theirs.axes, theirs.pixel_size),
        )
        if labels.shape != truth.shape:
            return _Found(instance_table(scores), None)
        painted = verdicts(labels, truth, axes=ours.axes, iou=iou)
        colours = {other: _colours(other, painted[0].dtype) for other in ("extra", "missed")}
        return _Found(instance_table(scores), painted, colours)

    return compare


def _colours(other: str, dtype: np.dtype[Any]) -> DirectLabelColormap:
    """The colours of matched objects and the others, ready for pixels of a type.

    Napari compiles how it looks them up when it first does so, which takes a second or two: here,
    beside the window.
    """
    colours = {VERDICTS[verdict]: COLOURS[verdict] for verdict in ("matched", other)}
    ready = DirectLabelColormap(color_dict={None: "transparent", 0: "transparent"} | colours)
    ready.map(np.zeros((1, 1), dtype))
    return ready


def _comparison_of_classes(ours: Mask, theirs: Mask) -> Callable[[], _Found]:
    def compare() -> _Found:
        classes = evaluate_semantic(ours.source(), theirs.source())
        return _Found(class_table(classes), None)

    return compare


def _fill(widget: QTableWidget, table: Table) -> None:
    widget.setRowCount(len(table.cells))
    widget.setColumnCount(len(table.headings))
    widget.setHorizontalHeaderLabels([text.replace(" ", "\n") for text in table.headings])
    right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
    for number, cells in enumerate(table.cells):
        for column, cell in enumerate(cells):
            item = QTableWidgetItem(cell)
            item.setTextAlignment(right)
            widget.setItem(number, column, item)


def _button(text: str, action: Callable[[], Any]) -> QPushButton:
    button = QPushButton(text)
    button.clicked.connect(lambda: action())
    return button


def _words() -> QLabel:
    label = QLabel()
    label.setWordWrap(True)
    return label
