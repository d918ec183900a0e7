"""The part of the form that says what is segmented: a layer or files, and how they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QPlainTextEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from aiod.errors import UsageError
from aiod.flow.fit import GRAY
from aiod.flow.images.units import parse_pixel_size
from aiod.napari.fields import calm
from aiod.napari.picture import Seen, axes_of, joined, pixel_size_of, seen_in
from aiod.napari.results import is_ours

_FILES = "Files and folders…"
_COLOURS = ("red", "green", "blue")
_CHOICES = (("as the model says", None), ("yes", True), ("no", False))


@dataclass(frozen=True, slots=True)
class Chosen:
    """Image layers of the viewer: one after the other, or as the channels of one image."""

    layers: tuple[Any, ...]
    together: bool = False

    @property
    def words(self) -> str:
        if len(self.layers) == 1:
            return str(self.layers[0].name)
        how = "as channels of one image" if self.together else "one after the other"
        return f"{len(self.layers)} selected layers, {how}"


class SourceForm(QWidget):
    """Follows the viewer's image layers and what is selected of them.

    `changed` tells of anything that was filled in, `turned` of another layer or other channels.
    """

    changed = Signal()
    turned = Signal()

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._selected = set(viewer.layers.selection)
        self.layers = QComboBox()
        self.layers.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.files = QPlainTextEdit()
        self.files.setPlaceholderText("A file or folder a line, or a pattern such as plate/*.tif")
        self.files.setMaximumHeight(70)
        self.axes, self.pixel_size = QLineEdit(), QLineEdit()
        self.axes.setToolTip("A letter for each axis: T time, C channel, Z planes, Y, X")
        self.pixel_size.setToolTip("Micrometres: 0.325, or one number an axis: 2,0.325,0.325")
        self.channels = QListWidget()
        self.channels.setMaximumHeight(72)
        self.channels.setDragDropMode(QAbstractItemView.DragDropMode.InternalMove)
        self.channels.setToolTip("Channels for the model, in this order; drag to change it")
        self.rescale, self.link_z = QComboBox(), QComboBox()
        calm(self.layers)
        for box in (self.rescale, self.link_z):
            calm(box)
            for text, value in _CHOICES:
                box.addItem(text, value)
        self.rescale.setToolTip("Resample to the pixel size that the model was trained on")
        self.link_z.setToolTip("Join the planes of a stack where a model did them one by one")
        self._form = QFormLayout(self)
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self._form.addRow("Image", self.layers)
        self._form.addRow("", self._files_row())
        self._form.addRow("Axes", self.axes)
        self._form.addRow("Pixel size (µm)", self.pixel_size)
        self._form.addRow("Channels", self.channels)
        self._form.addRow("Rescale", self.rescale)
        self._form.addRow("Link planes", self.link_z)
        self.layers.currentIndexChanged.connect(self._show_layer)
        for line in (self.axes, self.pixel_size):
            line.textChanged.connect(lambda _: self.changed.emit())
        self.axes.editingFinished.connect(self._list_channels)
        self.files.textChanged.connect(self.changed.emit)
        self.channels.itemChanged.connect(lambda _: self.changed.emit())
        self.channels.model().rowsMoved.connect(lambda *_: self.changed.emit())
        for box in (self.rescale, self.link_z):
            box.currentIndexChanged.connect(lambda _: self.changed.emit())
        events = viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered):
            event.connect(self._list_layers)
        viewer.layers.selection.events.changed.connect(self._follow)
        self._list_layers()

    @property
    def chosen(self) -> Chosen | None:
        """The image layers that are chosen; None where files are."""
        chosen = self.layers.currentData()
        there = chosen is not None and all(each in self._viewer.layers for each in chosen.layers)
        return chosen if there else None

    @property
    def layer(self) -> Any:
        """The first of the image layers that are chosen; None where files are."""
        return None if self.chosen is None else self.chosen.layers[0]

    @property
    def seen(self) -> list[tuple[Any, Seen]]:
        """What is segmented, one after the other, each with its layer; nothing where files are.

        Raises UsageError.
        """
        chosen, axes, size = self.chosen, self.axes.text().strip() or None, self._size()
        if chosen is None:
            return []
        if chosen.together:
            return [(chosen.layers[0], joined(chosen.layers, axes=axes, pixel_size=size))]
        return [(each, seen_in(each, axes=axes, pixel_size=size)) for each in chosen.layers]

    @property
    def axes_of_layer(self) -> str:
        """A letter for each axis of the chosen layer, "" where there is none."""
        chosen = self.chosen
        if chosen is None:
            return ""
        front = "C" if chosen.together else ""
        return self._typed or front + axes_of(chosen.layers[0])

    @property
    def _typed(self) -> str:
        return str(self.axes.text()).strip().upper()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the layers that are chosen."""
        return () if self.chosen is None else tuple(str(each.name) for each in self.chosen.layers)

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(line.strip() for line in self.files.toPlainText().splitlines() if line.strip())

    @property
    def names_of_channels(self) -> list[str]:
        """The channels that the layer has, in words; none where it has no such axis.

        Of several layers, one after the other, those that all of them have.
        """
        chosen = self.chosen
        if chosen is None:
            return []
        if chosen.together:
            return [str(each.name) for each in chosen.layers]
        names = [_names_of_channels(each, self._typed or axes_of(each)) for each in chosen.layers]
        return names[0] if all(each == names[0] for each in names) else []

    @property
    def options(self) -> dict[str, Any]:
        """Keywords of a request, but for the file of a layer. Raises UsageError."""
        return {
            "inputs": self.paths if self.chosen is None else self.names,
            "axes": self.axes.text().strip() or None,
            "pixel_size": self._size(),
            "rescale": self.rescale.currentData(),
            "link_z": self.link_z.currentData(),
            "channels": self._chosen_channels(),
        }

    def show_options(self, options: dict[str, Any]) -> None:
        """Show the keywords of a request."""
        self.axes.setText(options.get("axes") or "")
        size = options.get("pixel_size") or {}
        self.pixel_size.setText(",".join(repr(float(size[a])) for a in "ZYX" if a in size))
        self._list_channels()
        for box, key in ((self.rescale, "rescale"), (self.link_z, "link_z")):
            box.setCurrentIndex([value for _, value in _CHOICES].index(options.get(key)))
        wanted = list(options.get("channels") or ())
        if wanted:
            self._arrange(wanted)

    def choose(self, *names: str, together: bool = False, paths: Sequence[str] = ()) -> None:
        """Choose layers by their names, or where there are none files. Raises UsageError."""
        from napari.layers import Image

        images = {each.name: each for each in self._viewer.layers if isinstance(each, Image)}
        for name in names:
            if name not in images:
                raise UsageError(
                    f"The viewer has no image layer called {name}.", hint="open the image first"
                )
        if len(names) > 1:
            self._viewer.layers.selection = {images[name] for name in names}
        wanted = Chosen(tuple(images[name] for name in names), together) if names else None
        if wanted is not None and self._row_of(wanted) < 0:  # in another order than the viewer's
            self.layers.insertItem(0, wanted.words, wanted)
        self._select(wanted)
        if not names:
            self.files.setPlainText("\n".join(paths))

    def _size(self) -> dict[str, float] | None:
        text = self.pixel_size.text().strip()
        return parse_pixel_size(text) if text else None

    def _chosen_channels(self) -> tuple[str, ...]:
        if not self.channels.isVisibleTo(self):
            return ()
        items = [self.channels.item(row) for row in range(self.channels.count())]
        chosen = [
            str(item.data(Qt.ItemDataRole.UserRole))
            for item in items
            if item.checkState() == Qt.CheckState.Checked
        ]
        in_order = chosen == [str(n + 1) for n in range(len(self.names_of_channels))]
        return () if in_order else tuple(chosen)

    def _files_row(self) -> QWidget:
        row = QWidget()
        layout = QVBoxLayout(row)
        layout.setContentsMargins(0, 0, 0, 0)
        buttons = QHBoxLayout()
        for text, act in (("Add files…", self._add_files), ("Add a folder…", self._add_folder)):
            button = QPushButton(text)
            button.clicked.connect(act)
            buttons.addWidget(button)
        layout.addWidget(self.files)
        layout.addLayout(buttons)
        self._files_part = row
        return row

    def _add_files(self) -> None:
        found, _ = QFileDialog.getOpenFileNames(self, "Images")
        self._add(found)

    def _add_folder(self) -> None:
        found = QFileDialog.getExistingDirectory(self, "A folder of images")
        self._add([found] if found else [])

    def _add(self, paths: Sequence[str]) -> None:
        self.files.setPlainText("\n".join((*self.paths, *(str(Path(p)) for p in paths))))

    def _list_layers(self, _: Any = None) -> None:
        from napari.layers import Image

        images = [layer for layer in self._viewer.layers if isinstance(layer, Image)]
        layers = [layer for layer in images if not is_ours(layer)]  # but what a look showed
        before, had_layers = self.layers.currentData(), self.layers.count() > 1
        several = tuple(layer for layer in layers if layer in self._viewer.layers.selection)
        if before is not None and (len(several) < 2 or set(several) == set(before.layers)):
            # Labels that came are selected now, or the viewer's order is another one.
            several = tuple(layer for layer in before.layers if layer in layers)
        offered = [Chosen((layer,)) for layer in reversed(layers)]  # as the viewer lists them
        if len(several) > 1:
            ways = [Chosen(several), Chosen(several, together=True)]
            offered = [*(ways[::-1] if _look_like_channels(several) else ways), *offered]
        self.layers.blockSignals(True)
        self.layers.clear()
        for each in offered:
            self.layers.addItem(each.words, each)
        self.layers.addItem(_FILES, None)
        keep = before is not None or had_layers
        left = [] if before is None else [Chosen((one,)) for one in before.layers]
        rows = [row for row in map(self._row_of, (before, *left)) if row >= 0]
        self.layers.setCurrentIndex(rows[0] if keep and rows else 0)
        self.layers.blockSignals(False)
        for layer in layers:
            layer.events.name.disconnect(self._list_layers)
            layer.events.name.connect(self._list_layers)
        if self.layers.currentData() != before or not had_layers:
            self._show_layer()

    def _row_of(self, chosen: Chosen | None) -> int:
        """The row of an entry, -1 where it is not listed."""
        rows = range(self.layers.count())
        return next((row for row in rows if self.layers.itemData(row) == chosen), -1)

    def _select(self, chosen: Chosen | None) -> None:
        row = self._row_of(chosen)
        if row >= 0:
            self.layers.setCurrentIndex(row)

    def _follow(self, _: Any = None) -> None:
        """Choose the image layers that the user clicks on."""
        self._list_layers()
        selected, first = set(self._viewer.layers.selection), self.layers.itemData(0)
        chosen = self.layers.currentData()
        if selected == self._selected:  # napari tells of what did not change, too
            return
        self._selected = selected
        if len(selected) == 1:
            self._select(Chosen(tuple(selected)))
        elif first is not None and len(first.layers) > 1 and set(first.layers) <= selected:
            already = chosen is not None and set(chosen.layers) == set(first.layers)
            self._select(chosen if already else first)

    def _show_layer(self, _: Any = None) -> None:
        layer = self.layer
        self._form.setRowVisible(self._files_part, layer is None)
        for line in (self.axes, self.pixel_size):
            line.clear()
        if layer is None:
            self.axes.setPlaceholderText("from the files")
            self.pixel_size.setPlaceholderText("from the files")
        else:
            size = pixel_size_of(layer, axes_of(layer))
            self.axes.setPlaceholderText(self.axes_of_layer)
            shown = ", ".join(f"{axis} {size[axis]:.4g}" for axis in "ZYX" if axis in size)
            self.pixel_size.setPlaceholderText(shown or "not known")
        self._list_channels()
        self.changed.emit()

    def _list_channels(self) -> None:
        names = self.names_of_channels
        self._arrange([str(number + 1) for number in range(len(names))])
        self._form.setRowVisible(self.channels, len(names) > 1)
        self.turned.emit()

    def _arrange(self, wanted: Sequence[str]) -> None:
        """List the channels: the wanted ones, checked, in that order, then the others."""
        names = {str(n): name for n, name in enumerate(self.names_of_channels, start=1)}
        if self.layer is not None and self.layer.rgb:
            names[GRAY] = "gray, mixed of them"
        self.channels.blockSignals(True)
        self.channels.clear()
        for key in dict.fromkeys((*(key for key in wanted if key in names), *names)):
            item = QListWidgetItem(names[key])
            item.setData(Qt.ItemDataRole.UserRole, key)
            state = Qt.CheckState.Checked if key in wanted else Qt.CheckState.Unchecked
            item.setCheckState(state)
            self.channels.addItem(item)
        self.channels.blockSignals(False)


def _names_of_channels(layer: Any, axes: str) -> list[str]:
    if layer.rgb:
        return list(_COLOURS)
    data = layer.data[0] if layer.multiscale else layer.data
    if "C" not in axes or len(axes) != data.ndim:
        return []
    return [f"channel {n + 1}" for n in range(int(data.shape[axes.index("C")]))]


def _look_like_channels(layers: Sequence[Any]) -> bool:
    """Whether layers came of one file and are of one size, as readers split channels."""
    paths = {layer.source.path for layer in layers}
    sizes = {(layer.extent.data.tobytes(), layer.rgb) for layer in layers}
    return len(paths) == 1 and None not in paths and len(sizes) == 1
