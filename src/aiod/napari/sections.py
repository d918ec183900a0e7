"""What the sections of Refine share, and those that act on whole layers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from magicgui.widgets import ComboBox
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QFileDialog,
    QGridLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QMessageBox,
    QPushButton,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from aiod.errors import AiodError, UsageError
from aiod.flow.refine.frames import each_time
from aiod.flow.refine.operations import COMBINATIONS, OPERATIONS, operate
from aiod.flow.results.formats import FORMATS, write_labels
from aiod.napari.desk import Desk
from aiod.napari.knobs import Knobs
from aiod.napari.masks import Mask, Pixels, agreed, apart, source_of

_DIFFERENCES = {None: "transparent", 0: "transparent", 1: "#d55e00", 2: "#cc79a7"}
_MEANINGS = ["", "an object in some layers only", "not the same object"]


class Section(QWidget):
    """Parts below each other; `active` is whether the section is unfolded."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.desk = desk
        self.active = False
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 4)

    def _add(self, *parts: QWidget) -> None:
        for part in parts:
            self._column.addWidget(part)

    def activate(self, active: bool) -> None:
        self.active = active

    def follow(self) -> None:
        """Offer the layers there are."""


class Operations(QWidget):
    """A choice of functions, each with what it does and its knobs."""

    def __init__(self, functions: Mapping[str, Callable[..., Any]]) -> None:
        super().__init__()
        self.choice = ComboBox(choices=[(called(name), name) for name in functions])
        self._does = {name: _sentence(function) for name, function in functions.items()}
        self._knobs = {name: Knobs(function) for name, function in functions.items()}
        self._text, self._pages = words(), QStackedWidget()
        for knobs in self._knobs.values():
            self._pages.addWidget(knobs)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for part in (self.choice.native, self._text, self._pages):
            column.addWidget(part)
        self.choice.changed.connect(self._turn)
        self._turn(self.name)

    @property
    def name(self) -> str:
        """The function that is chosen."""
        return str(self.choice.value)

    @property
    def knobs(self) -> Knobs:
        """The knobs of that function."""
        return self._knobs[self.name]

    def _turn(self, name: str) -> None:
        self._text.setText(self._does[name])
        self._pages.setCurrentWidget(self._knobs[name])


class Shape(Section):
    """An operation on all objects: holes, outlines, pieces, numbers, planes."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.operations = Operations(
            {name: operation.function for name, operation in OPERATIONS.items()}
        )
        self._add(self.operations, buttons(("Apply", self.apply)))

    def apply(self) -> None:
        """Do the operation that is chosen."""
        name, knobs = self.operations.name, self.operations.knobs.values
        try:
            mask = Mask.of(self.desk.layer)
        except AiodError as error:
            self.desk.notice.fail(error)
            return
        self.desk.change(
            called(name),
            lambda labels: operate(
                name, labels, axes=mask.axes, pixel_size=mask.pixel_size, **knobs
            ),
        )


class Combine(Section):
    """Several layers of labels put together in a new one."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.list = QListWidget()
        self.list.setFixedHeight(90)
        self.operations = Operations(COMBINATIONS)
        self._add(self.list, self.operations, buttons(("Make a new layer", self.combine)))

    def follow(self) -> None:
        chosen = self.layers
        self.list.clear()
        for layer in self.desk.viewer.layers:
            if isinstance(layer, Labels):
                item = QListWidgetItem(layer.name, self.list)
                item.setData(Qt.ItemDataRole.UserRole, layer)
                checked = Qt.CheckState.Checked if layer in chosen else Qt.CheckState.Unchecked
                item.setCheckState(checked)

    @property
    def layers(self) -> list[Labels]:
        """The layers that are checked, in their order."""
        items = [self.list.item(row) for row in range(self.list.count())]
        return [
            item.data(Qt.ItemDataRole.UserRole)
            for item in items
            if item.checkState() == Qt.CheckState.Checked
        ]

    def check(self, *layers: Labels) -> None:
        """Check these layers and no others."""
        for row in range(self.list.count()):
            item = self.list.item(row)
            wanted = item.data(Qt.ItemDataRole.UserRole) in layers
            item.setCheckState(Qt.CheckState.Checked if wanted else Qt.CheckState.Unchecked)

    def combine(self) -> None:
        """Put the checked layers together."""
        name, knobs, layers = self.operations.name, self.operations.knobs.values, self.layers
        try:
            if len(layers) < 2:
                raise UsageError("One layer has nothing to be compared with.", hint="check two")
            masks = agreed([Mask.of(layer) for layer in layers])
        except AiodError as error:
            self.desk.notice.fail(error)
            return

        def work() -> Pixels:
            return each_time(
                lambda *frames: COMBINATIONS[name](frames, **knobs),
                *(mask.pixels() for mask in masks),
                axes=masks[0].axes,
            )

        self.desk.run(called(name), work, partial(self._show, name, layers))

    def _show(self, name: str, layers: list[Labels], pixels: Pixels) -> None:
        looks: dict[str, Any] = {}
        if name == "differences":
            looks = {
                "colormap": DirectLabelColormap(color_dict=_DIFFERENCES),
                "features": {"difference": _MEANINGS},
            }
        names = ", ".join(layer.name for layer in layers)
        self.desk.add(f"{called(name)} of {names}", pixels, layers[0], **looks)
        if any(apart(layers[0], layer) for layer in layers[1:]):
            self.desk.notice.say(
                "The layers have other scales or places; they were compared pixel by pixel.",
                kind="warning",
            )


class Export(Section):
    """The labels saved as a file of another program."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self._add(buttons(("TIFF, OME-Zarr, GeoJSON, CSV…", self._ask)))

    def export(self, path: Path | str) -> None:
        """Write the labels in the format that the end of `path` names: `.tif`, `.ome.zarr`, …

        With the image that is chosen, tables of objects hold its mean intensities.
        """
        picture = self.desk.picture
        try:
            mask = Mask.of(self.desk.layer)
        except AiodError as error:
            self.desk.notice.fail(error)
            return

        def work() -> None:
            labels, image = mask.source(), None
            if picture is not None:
                light = np.asarray(picture)
                if light.shape != labels.shape:
                    raise UsageError(
                        f"The image and {mask.name} differ in size.",
                        hint="choose the image of these labels, or none",
                    )
                image = source_of(light, mask.axes, mask.pixel_size)
            write_labels(labels, Path(path), name=mask.name, image=image)

        self.desk.run("Saving", work, lambda _: self.desk.notice.say(f"Written: {path}"))

    def _ask(self) -> None:
        kinds = {".tif": "OME-TIFF", ".ome.zarr": "OME-Zarr", ".geojson": "GeoJSON for QuPath"}
        kinds |= {".csv": "Table"}
        filters = ";;".join(f"{name} (*{ending})" for ending, name in kinds.items())
        path, chosen = QFileDialog.getSaveFileName(self, "Save the labels", "labels", filters)
        if not path:
            return
        if not path.lower().endswith(tuple(FORMATS)):
            path += next(e for e, name in kinds.items() if chosen.startswith(name))
            # Qt asked of the name without its ending, which may not have been there.
            if Path(path).exists() and not self._may_replace(path):
                return
        self.export(path)

    def _may_replace(self, path: str) -> bool:
        answer = QMessageBox.question(
            self, "Save the labels", f"{Path(path).name} is there already. Replace it?"
        )
        return bool(answer == QMessageBox.StandardButton.Yes)


def called(name: str) -> str:
    """The name of a function as people read it."""
    return name.replace("_", " ").capitalize()


def words() -> QLabel:
    """Text that takes as many lines as it needs."""
    label = QLabel()
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setWordWrap(True)
    return label


def buttons(*actions: tuple[str, Callable[[], Any]]) -> QWidget:
    """Buttons, three in a row."""
    made = QWidget()
    grid = QGridLayout(made)
    grid.setContentsMargins(0, 0, 0, 0)
    for place, (text, action) in enumerate(actions):
        button = QPushButton(text)
        button.clicked.connect(partial(_call, action))
        grid.addWidget(button, *divmod(place, 3))
    return made


def _call(action: Callable[[], Any], _: bool) -> None:
    """Qt says whether the button is down, which is nobody's concern here."""
    action()


def _sentence(function: Callable[..., Any]) -> str:
    """The first paragraph of what a function says of itself."""
    return (inspect.getdoc(function) or "").partition("\n\n")[0].replace("\n", " ")
