"""Choosing a model: a task, then those of its models that this user can reach."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt, QUrl, Signal
from qtpy.QtGui import QDesktopServices, QGuiApplication
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from aiod.errors import AiodError
from aiod.napari.fields import calm
from aiod.registry import Model, Registry
from aiod.registry.cite import citation
from aiod.registry.defaults import default_models
from aiod.words import printable

_WORDS_OF_CARD = {
    "training_data": "Trained on",
    "performance": "Performance",
    "not_for": "Not for",
}


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


class ModelInfo(QCollapsible):
    """What a manifest says of a model, folded away."""

    def __init__(self, registry: Registry) -> None:
        super().__init__("About this model")
        self.registry = registry
        self._text = QLabel()
        self._text.setWordWrap(True)
        self._text.setTextFormat(Qt.TextFormat.PlainText)  # manifests are no markup of ours
        self._text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._cite, self._page = QPushButton("Copy citation"), QPushButton("Home page")
        self._cite.clicked.connect(self._copy_citation)
        self._page.clicked.connect(self._open_page)
        self._model: Model | None = None
        self._url: str | None = None
        buttons, row = QWidget(), QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        buttons.setLayout(row)
        for button in (self._cite, self._page):
            row.addWidget(button)
        self.addWidget(self._text)
        self.addWidget(buttons)

    @property
    def text(self) -> str:
        return str(self._text.text())

    def show_model(self, model: Model | None) -> None:
        self._model = model
        self._text.setText(describe(self.registry, model) if model else "No model is chosen.")
        self._url = _url(self.registry, model) if model else None
        self._page.setEnabled(self._url is not None)
        self._cite.setEnabled(model is not None)

    def _copy_citation(self) -> None:
        if self._model is None:
            return
        try:
            text = citation(self.registry, self._model)
        except AiodError as error:
            text = error.what
        QGuiApplication.clipboard().setText(text)

    def _open_page(self) -> None:
        if self._url is not None:
            QDesktopServices.openUrl(QUrl(self._url))


def describe(registry: Registry, model: Model) -> str:
    """What to know of a model before it is used: paragraphs of plain text."""
    metadata = registry.metadata_for(model)
    parts = [model.description or metadata.description or ""]
    guide = registry.manifests_of(model.family)[-1][1].usage_guide
    if guide:
        parts.append(guide)
    if metadata.card:
        parts += [
            f"{words}: {getattr(metadata.card, key)}"
            for key, words in _WORDS_OF_CARD.items()
            if getattr(metadata.card, key, None)
        ]
    licence = metadata.license
    weights = (licence.weights if licence else None) or "not stated"
    facts = [f"Takes {model.axes}" if model.axes else "", f"id {model.id}"]
    if model.needs_weights:
        facts.append(f"licence of the weights: {weights}")
    if metadata.verified:
        facts.append(f"verified with {metadata.verified.by}")
    parts.append("; ".join(filter(None, facts)) + ".")
    return printable_paragraphs(parts)


def printable_paragraphs(parts: list[str]) -> str:
    return "\n\n".join(printable(part) for part in parts if part)


def _url(registry: Registry, model: Model) -> str | None:
    metadata = registry.metadata_for(model)
    for name in ("url", "repo"):
        found = getattr(metadata, name, None)
        if isinstance(found, str) and found.startswith("https://"):
            return found
    return None


def _box() -> QComboBox:
    box = QComboBox()
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(12)
    calm(box)
    return box


def _index(box: QComboBox, data: object) -> int:
    """The row with these data; -1 where there is none."""
    return next((row for row in range(box.count()) if box.itemData(row) == data), -1)
