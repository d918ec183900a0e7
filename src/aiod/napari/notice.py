"""What the user is told: a sentence, and below it, folded away, the rest."""

from __future__ import annotations

import re
import traceback
from collections.abc import Sequence

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QToolButton, QVBoxLayout, QWidget

from aiod.errors import AiodError
from aiod.words import counted

FIELDS = {
    "-o": "Results in",
    "--out": "Results in",
    "--axes": "Axes",
    "--pixel-size": "Pixel size (µm)",
    "--channel": "Channels",
    "--rescale": "Rescale",
    "--no-rescale": "Rescale: no",
    "--link-z": "Link planes",
    "--pre": "Before the model",
    "--post": "After the model",
    "--param": "Parameters",
    "--device": "Device",
    "--workers": "Workers",
    "--profile": "Profile",
    "--tile": "Tile (px)",
    "--halo": "Halo (px)",
    "--export": "Also as",
    "--task": "Task",
}
"""Options of a terminal -> what they are called in the form."""
_QUOTED = re.compile(r"(`[^`]*`)")
_OPTION = re.compile(r"(?<![\w/-])(-o|--[a-z]+(?:-[a-z]+)*)(?![\w/-])")

_SHOWN = 2
"""Warnings that are shown without unfolding anything."""
_COLOURS = {"news": "", "warning": "color: #d9a400", "error": "color: #e05050"}


class Notice(QWidget):
    """A line of text that is not there while there is nothing to say."""

    def __init__(self) -> None:
        super().__init__()
        self._text, self._more = _label(), _label()
        self._fold = QToolButton()
        self._fold.setText("▸ Details")
        self._fold.setCheckable(True)
        self._fold.setAutoRaise(True)
        self._fold.toggled.connect(self._unfold)
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

    def _unfold(self, shown: bool) -> None:
        self._more.setVisible(shown)
        self._fold.setText("▾ Details" if shown else "▸ Details")

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
            sentence, details = sentence_of(error), list(error.details)
            if details and not error.hint:  # the first of them says why
                sentence += f" {details.pop(0)}"
            told = in_a_window("\n".join(details))
            self.say(in_a_window(sentence), details=told, kind="error")
        else:
            self.say(
                f"This is a defect of aiod: {type(error).__name__}. Please report it.",
                details="".join(traceback.format_exception(error)),
                kind="error",
            )


class Report:
    """What came of one layer or several, in a notice: errors, else what there is to say."""

    def __init__(self, notice: Notice) -> None:
        self._notice = notice
        self._said: list[tuple[str, str]] = []
        self._warnings: list[str] = []
        self._problems: list[tuple[str, BaseException]] = []

    def begin(self) -> None:
        """Nothing is known yet."""
        self._notice.clear()
        self._said.clear()
        self._warnings.clear()
        self._problems.clear()

    def add(self, sentence: str, details: str = "", *, warnings: Sequence[str] = ()) -> None:
        """Something is done; of `warnings` the first are shown with it."""
        self._said.append((sentence, details))
        self._warnings += warnings

    def only(self, sentence: str) -> None:
        """This is all there is to say, but for problems."""
        self._said[:] = [(sentence, "")]
        self._warnings.clear()

    def add_problem(self, layer: str, error: BaseException) -> None:
        """Something of a layer failed."""
        self._problems.append((layer, error))

    def show(self, *, several: bool) -> None:
        """Show it; of `several` layers the problems name theirs."""
        if self._problems and not several:
            self._notice.fail(self._problems[0][1])
        elif self._problems:
            layers = counted(len(self._problems), "layer")
            told = [f"{name}: {_words_of(error)}" for name, error in self._problems]
            details = in_a_window("\n".join([*told[1:], *(said for said, _ in self._said)]))
            what = in_a_window(f"{layers} could not be finished. {told[0]}")
            self._notice.say(what, details=details, kind="error")
        elif self._said:
            sentences, rest = (
                "\n".join(dict.fromkeys(filter(None, each)))
                for each in zip(*self._said, strict=True)
            )
            told = list(dict.fromkeys(self._warnings))
            text = "\n".join([sentences, *told[:_SHOWN]])
            details = "\n".join(filter(None, [*told[_SHOWN:], rest]))
            self._notice.say(text, details=details, kind="warning" if told else "news")
        else:
            self._notice.clear()


def _words_of(error: BaseException) -> str:
    if isinstance(error, AiodError):
        return "\n".join((sentence_of(error), *error.details))
    return "".join(traceback.format_exception(error))


def sentence_of(error: AiodError) -> str:
    """What is wrong and what to do, in one line."""
    hint = f" {error.hint[0].upper()}{error.hint[1:]}." if error.hint else ""
    return error.what + hint


def in_a_window(sentence: str) -> str:
    """A sentence that names options of a terminal, with the fields of the form in their place.

    >>> in_a_window("name the axes in their order: --axes ZYX, or choose another folder with -o")
    'name the axes in their order: "Axes" ZYX, or choose another folder with "Results in"'
    >>> in_a_window("`aiod list --task nuclei` shows them; `--device cpu` works")
    '`aiod list --task nuclei` shows them; "Device" cpu works'
    """

    def field(option: re.Match[str]) -> str:
        name = FIELDS.get(option[1])
        return option[0] if name is None else f'"{name}"'

    parts = _QUOTED.split(sentence)
    for number, part in enumerate(parts):
        if not part.startswith("`aiod"):
            found = _OPTION.sub(field, part)
            parts[number] = found.strip("`") if found != part else part
    return "".join(parts)


def _label() -> QLabel:
    label = QLabel()
    label.setTextFormat(Qt.TextFormat.PlainText)  # names of files and models are no markup
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label
