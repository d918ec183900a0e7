"""The part of the form that says what is segmented: a layer or files, and how they are read."""

from __future__ import annotations

from collections.abc import Sequence
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

from aiod.errors import AiodError, UsageError
from aiod.flow.fit import GRAY
from aiod.flow.images.units import parse_pixel_size
from aiod.napari.fields import calm
from aiod.napari.picture import Seen, axes_of, pixel_size_of, seen_in

_FILES = "Files and folders…"
_COLOURS = ("red", "green", "blue")
_CHOICES = (("as the model says", None), ("yes", True), ("no", False))


class SourceForm(QWidget):
    """Follows the viewer's image layers and what is selected of them.

    `changed` tells of anything that was filled in, `turned` of another layer or other channels.
    """

    changed = Signal()
    turned = Signal()

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
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
        viewer.layers.selection.events.active.connect(self._follow)
        self._list_layers()

    @property
    def layer(self) -> Any:
        """The image layer that is chosen; None where files are."""
        layer = self.layers.currentData()
        return layer if layer is not None and layer in self._viewer.layers else None

    @property
    def seen(self) -> Seen | None:
        """What the chosen layer shows; None where files are chosen. Raises UsageError."""
        layer = self.layer
        if layer is None:
            return None
        return seen_in(layer, axes=self.axes.text().strip() or None, pixel_size=self._size())

    @property
    def axes_of_layer(self) -> str:
        """A letter for each axis of the chosen layer, "" where there is none."""
        layer = self.layer
        return "" if layer is None else (self.axes.text().strip().upper() or axes_of(layer))

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(line.strip() for line in self.files.toPlainText().splitlines() if line.strip())

    @property
    def names_of_channels(self) -> list[str]:
        """The channels that the layer has, in words; none where it has no such axis."""
        layer, axes = self.layer, self.axes_of_layer
        if layer is None:
            return []
        if layer.rgb:
            return list(_COLOURS)
        data = layer.data[0] if layer.multiscale else layer.data
        if "C" not in axes or len(axes) != data.ndim:
            return []
        return [f"channel {n + 1}" for n in range(int(data.shape[axes.index("C")]))]

    @property
    def options(self) -> dict[str, Any]:
        """Keywords of a request, but for the file of a layer. Raises UsageError."""
        return {
            "inputs": self.paths if self.layer is None else (self.layer.name,),
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

    def choose(self, layer: str | None, paths: Sequence[str] = ()) -> None:
        """Choose a layer by its name, or files."""
        row = self.layers.findText(layer) if layer is not None else self.layers.count() - 1
        if row < 0:
            raise UsageError(
                f"The viewer has no image layer called {layer}.", hint="open the image first"
            )
        self.layers.setCurrentIndex(row)
        if layer is None:
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

        layers = [layer for layer in self._viewer.layers if isinstance(layer, Image)]
        before = self.layers.currentData()
        self.layers.blockSignals(True)
        self.layers.clear()
        for layer in reversed(layers):  # the uppermost first, as the viewer lists them
            self.layers.addItem(layer.name, layer)
            layer.events.name.disconnect(self._list_layers)
            layer.events.name.connect(self._list_layers)
        self.layers.addItem(_FILES, None)
        self.layers.setCurrentIndex(max(0, self._row_of(before)) if before is not None else 0)
        self.layers.blockSignals(False)
        if self.layers.currentData() is not before or before is None:
            self._show_layer()

    def _row_of(self, layer: Any) -> int:
        """The row of a layer, -1 where it is not listed."""
        rows = range(self.layers.count())
        return next((row for row in rows if self.layers.itemData(row) is layer), -1)

    def _follow(self, event: Any) -> None:
        """Choose the image layer that the user clicks on."""
        row = self._row_of(event.value) if event.value is not None else -1
        if row >= 0:
            self.layers.setCurrentIndex(row)

    def _show_layer(self, _: Any = None) -> None:
        layer = self.layer
        self._form.setRowVisible(self._files_part, layer is None)
        for line in (self.axes, self.pixel_size):
            line.clear()
        if layer is None:
            self.axes.setPlaceholderText("from the files")
            self.pixel_size.setPlaceholderText("from the files")
        else:
            axes = axes_of(layer)
            size = pixel_size_of(layer, axes)
            self.axes.setPlaceholderText(axes)
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


def region_in_view(viewer: Any, layer: Any, axes: str, most: int) -> dict[str, tuple[int, int]]:
    """The part of a layer that is seen: axis -> first pixel and the first behind.

    Of axes that are not drawn the position of their slider, of wide ones the middle `most` pixels.
    Raises AiodError where nothing of the layer is in view.
    """
    data = layer.data[0] if layer.multiscale else layer.data
    shape = data.shape[: len(axes)]
    factors = layer.downsample_factors[layer.data_level] if layer.multiscale else 1
    first, last = layer.corner_pixels.astype(float) * factors
    last = last + factors - 1  # the last pixel of a coarser level stands for several
    camera = getattr(viewer, "scene", viewer).camera  # napari 0.9 moved it there
    centre = (0.0,) * max(0, layer.ndim - 3) + tuple(camera.center)[-layer.ndim :]
    middle = layer.world_to_data(centre)
    solid = viewer.dims.ndisplay == 3
    drawn = set(viewer.dims.displayed)
    offset = viewer.dims.ndim - layer.ndim
    point = layer.world_to_data(viewer.dims.point[-layer.ndim :])
    region = {}
    for at, (axis, n) in enumerate(zip(axes, shape, strict=True)):
        if axis == "C":
            continue
        if at + offset in drawn:
            start, stop = int(first[at]), int(last[at]) + 1
            inside = 0 <= middle[at] < n
            if solid or (stop - start <= 1 < n and inside):  # nothing was drawn yet
                start, stop = 0, int(n)
            elif stop - start <= 1 < n:
                raise AiodError("Nothing of the image is in view.", hint="move to where it is")
            spare = max(0, stop - start - most)
            start, stop = start + spare // 2, stop - (spare - spare // 2)
        else:
            start = round(float(point[at]))
            stop = start + 1
        start, stop = max(0, start), min(int(n), stop)
        if start >= stop:
            raise AiodError("Nothing of the image is in view.", hint="move to where it is")
        region[axis] = (start, stop)
    return region
