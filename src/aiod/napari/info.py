"""What a manifest says of a model: to read, to cite, and where to read on."""

from __future__ import annotations

from functools import partial

from qtpy.QtCore import Qt, QUrl
from qtpy.QtGui import QDesktopServices, QGuiApplication
from qtpy.QtWidgets import QHBoxLayout, QLabel, QMenu, QPushButton, QWidget
from superqt import QCollapsible

from aiod.errors import AiodError
from aiod.registry import Model, Registry
from aiod.registry.cite import citation
from aiod.registry.metadata import Metadata
from aiod.words import printable

_WORDS_OF_CARD = {
    "training_data": "Trained on",
    "performance": "Performance",
    "not_for": "Not for",
}
_UNSTATED = "not stated"
_TITLE = 60
"""Letters of a title that are shown."""


class ModelInfo(QCollapsible):
    """What a manifest says of a model, folded away."""

    def __init__(self, registry: Registry) -> None:
        super().__init__("About this model")
        self.registry = registry
        self._text = QLabel()
        self._text.setWordWrap(True)
        self._text.setTextFormat(Qt.TextFormat.PlainText)  # manifests are no markup of ours
        self._text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.cite_button, self._links = QPushButton("Copy citation"), QPushButton("Links")
        self.cite_button.clicked.connect(self._copy_citation)
        self.menu = QMenu(self._links)
        self.menu.setToolTipsVisible(True)
        self._links.setMenu(self.menu)
        self._model: Model | None = None
        buttons, row = QWidget(), QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        buttons.setLayout(row)
        for button in (self.cite_button, self._links):
            row.addWidget(button)
        self.addWidget(self._text)
        self.addWidget(buttons)

    @property
    def text(self) -> str:
        return str(self._text.text())

    @property
    def links(self) -> dict[str, str]:
        """What the menu of links offers, and where each leads."""
        return {
            action.text().replace("&&", "&"): action.toolTip() for action in self.menu.actions()
        }

    def show_model(self, model: Model | None) -> None:
        """Tell of a model."""
        self._model = model
        self._text.setText(describe(self.registry, model) if model else "No model is chosen.")
        self.cite_button.setEnabled(model is not None)
        self.menu.clear()
        for words, url in links(self.registry.metadata_for(model)).items() if model else ():
            action = self.menu.addAction(words.replace("&", "&&"))
            action.setToolTip(url)
            action.triggered.connect(partial(_open, url))
        self._links.setEnabled(bool(self.menu.actions()))

    def _copy_citation(self) -> None:
        if self._model is None:
            return
        try:
            text = citation(self.registry, self._model)
        except AiodError as error:
            text = error.what
        QGuiApplication.clipboard().setText(text)


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
    if metadata.verified:
        parts.append(f"Verified: {metadata.verified.by}. {metadata.verified.how}")
    facts = [f"id {model.id}", f"takes {model.axes}" if model.axes else ""]
    licence = metadata.license
    facts.append(f"licence of the code: {(licence and licence.code) or _UNSTATED}")
    if model.needs_weights:
        facts.append(f"licence of the weights: {(licence and licence.weights) or _UNSTATED}")
    parts.append(f"{'; '.join(filter(None, facts))}.")
    return "\n\n".join(printable(part) for part in parts if part)


def links(metadata: Metadata) -> dict[str, str]:
    """What may be read of a model -> where: its home page, its code, and what to cite."""
    found = [("Home page", metadata.url), ("Source code", metadata.repo)]
    found += [
        (_short(pub.title), f"https://doi.org/{pub.doi}" if pub.doi else pub.url)
        for pub in metadata.pubs or ()
    ]
    return {words: url for words, url in found if url and url.startswith(("https://", "http://"))}


def _short(title: str) -> str:
    """A title that a menu has room for."""
    title = printable(title)
    return title if len(title) <= _TITLE else f"{title[: _TITLE - 1].rstrip()}…"


def _open(url: str, _: object = None) -> None:
    QDesktopServices.openUrl(QUrl(url))
