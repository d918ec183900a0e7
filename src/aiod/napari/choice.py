"""Choosing a model: a task, then those of its models that this user can reach."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QVBoxLayout, QWidget

from aiod.napari.fields import calm
from aiod.napari.info import ModelInfo
from aiod.registry import Model, Registry
from aiod.registry.defaults import default_models
from aiod.words import printable


class ModelChoice(QWidget):
    """Task, model and version; `chosen` tells of a new model."""

    chosen = Signal()

    def __init__(self, registry: Registry) -> None:
        super().__init__()
        self._registry = registry
        self._tasks, self._families, self._versions = _box(), _box(), _box()
        self._info = ModelInfo(registry)
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for label, box in (
            ("Task", self._tasks),
            ("Model", self._families),
            ("Version", self._versions),
        ):
            form.addRow(label, box)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(self._info)
        self._tasks.currentIndexChanged.connect(self._show_families)
        self._families.currentIndexChanged.connect(self._show_versions)
        self._versions.currentIndexChanged.connect(self._tell)
        self.show_registry(registry)

    @property
    def model(self) -> Model | None:
        """The model that is chosen; None where a task has none that can be reached."""
        model: Model | None = self._versions.currentData()
        return model

    def choose(self, model_id: str) -> None:
        """Choose a model by its id. Raises UnknownModelError where there is none."""
        model = self._registry.get(model_id)
        for box, data in (
            (self._tasks, model.task),
            (self._families, model.family),
            (self._versions, model),
        ):
            box.setCurrentIndex(_index(box, data))

    def show_registry(self, registry: Registry) -> None:
        """Show the models of a registry, the default of the first task chosen."""
        self._registry = registry
        self._info.registry = registry
        used = dict.fromkeys(model.task for model in registry)
        with_default = [task for task in default_models(registry.layers) if task in used]
        ordered = dict.fromkeys((*with_default, *(t for t in registry.tasks if t in used)))
        self._fill(self._tasks, [(registry.tasks[task], task, None) for task in ordered])
        self._show_families()

    def _show_families(self) -> None:
        task = self._tasks.currentData()
        found: dict[str, list[Model]] = {}
        for model in self._registry.filter(task=task) if task else ():
            found.setdefault(model.family, []).append(model)
        entries = []
        for family, models in found.items():
            reasons = [model.why_unreachable() for model in models]
            why = None if None in reasons else reasons[0]
            entries.append((models[0].family_name, family, why))
        self._fill(self._families, entries)
        default = default_models(self._registry.layers).get(task)
        if default is not None:
            family = default.partition("/")[0]
            self._families.setCurrentIndex(max(0, _index(self._families, family)))
        self._show_versions()

    def _show_versions(self) -> None:
        task, family = self._tasks.currentData(), self._families.currentData()
        models = [m for m in self._registry.filter(task=task) if m.family == family] if task else []
        self._fill(self._versions, [(m.version, m, m.why_unreachable()) for m in models])
        default = default_models(self._registry.layers).get(task)
        places = [n for n, model in enumerate(models) if model.id == default and model.reachable]
        if places:
            self._versions.setCurrentIndex(places[0])
        self._tell()

    def _fill(self, box: QComboBox, entries: Sequence[tuple[str, object, str | None]]) -> None:
        """Entries with their data; those with a reason are grey, and tell it."""
        box.blockSignals(True)
        box.clear()
        for row, (text, data, why) in enumerate(entries):
            box.addItem(text, data)
            if why is not None:
                item = box.model().item(row)
                item.setEnabled(False)
                box.setItemData(row, printable(why), Qt.ItemDataRole.ToolTipRole)
        usable = [row for row, (_, _, why) in enumerate(entries) if why is None]
        box.setCurrentIndex(usable[0] if usable else -1)
        box.blockSignals(False)

    def _tell(self) -> None:
        self._info.show_model(self.model)
        self.chosen.emit()


def _box() -> QComboBox:
    box = QComboBox()
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(12)
    calm(box)
    return box


def _index(box: QComboBox, data: object) -> int:
    """The row with these data; -1 where there is none."""
    return next((row for row in range(box.count()) if box.itemData(row) == data), -1)
