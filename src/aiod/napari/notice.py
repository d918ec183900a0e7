"""What the user is told: a sentence, and below it, folded away, the rest."""

from __future__ import annotations

import traceback

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QToolButton, QVBoxLayout, QWidget

from aiod.errors import AiodError

_COLOURS = {"news": "", "warning": "color: #d9a400", "error": "color: #e05050"}


class Notice(QWidget):
    """A line of text that is not there while there is nothing to say."""

    def __init__(self) -> None:
        super().__init__()
        self._text, self._more = _label(), _label()
        self._fold = QToolButton()
        self._fold.setText("Details")
        self._fold.setCheckable(True)
        self._fold.setAutoRaise(True)
        self._fold.toggled.connect(self._more.setVisible)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        for part in (self._text, self._fold, self._more):
            layout.addWidget(part)
        self.clear()

    @property
    def text(self) -> str:
        """The sentence that is shown."""
        return str(self._text.text())

    @property
    def details(self) -> str:
        """What the fold holds."""
        return str(self._more.text())

    def clear(self) -> None:
        self.setVisible(False)
        self._text.clear()
        self._more.clear()

    def say(self, sentence: str, *, details: str = "", kind: str = "news") -> None:
        """Show a sentence; `kind` is news, warning or error."""
        self._text.setText(sentence)
        self._text.setStyleSheet(_COLOURS[kind])
        self._more.setText(details)
        self._fold.setChecked(False)
        self._fold.setVisible(bool(details))
        self._more.setVisible(False)
        self.setVisible(True)

    def fail(self, error: BaseException) -> None:
        """Show an error: a user's in its own words, one of ours with its traceback in the fold."""
        if isinstance(error, AiodError):
            hint = f" {error.hint[0].upper()}{error.hint[1:]}." if error.hint else ""
            self.say(error.what + hint, details="\n".join(error.details), kind="error")
        else:
            self.say(
                f"This is a defect of aiod: {type(error).__name__}. Please report it.",
                details="".join(traceback.format_exception(error)),
                kind="error",
            )


def _label() -> QLabel:
    label = QLabel()
    label.setTextFormat(Qt.TextFormat.PlainText)  # names of files and models are no markup
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label
