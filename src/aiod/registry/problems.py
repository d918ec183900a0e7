"""A problem in a file, and how it is written for people, scripts and pull requests."""

from __future__ import annotations

import dataclasses
import os
import unicodedata
from dataclasses import dataclass
from typing import Any, Literal

from aiod.registry.jsontext import Path
from aiod.words import ordinal, printable

Severity = Literal["error", "warning"]
_WINDOW = 96  # characters of a source line that are shown


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong in a document: where (a path into it), what was found, what is expected."""

    path: Path
    code: str
    found: str
    expected: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong in `file`, where, what was found, what is expected, what to do.

    `line` and `column` count from 1, in characters; `width` characters from there on are meant.
    """

    severity: Severity
    code: str
    file: str
    line: int
    column: int
    width: int
    where: str
    found: str
    expected: str
    hint: str | None = None
    source: str = ""

    @property
    def sentence(self) -> str:
        """Found and expected in one sentence."""
        where = f" in {self.where}" if self.where else ""
        return _one_line(f"{self.found}{where}; expected {self.expected}")

    def as_dict(self) -> dict[str, Any]:
        """For scripts: plain values, one key a field, and the whole `message`."""
        hint = f". {self.hint}" if self.hint else ""
        return {**dataclasses.asdict(self), "message": self.sentence + _one_line(hint)}

    def as_text(self) -> str:
        """For people: the place, the words, the source line with a caret below it."""
        lines = [
            f"{self.file}:{self.line}:{self.column}: {self.severity}: {self.found} [{self.code}]"
        ]
        if self.where:
            lines.append(f"  in {self.where}")
        if self.source.strip():
            source, caret = self._excerpt()
            margin = f"{self.line:>6} | "
            lines += [margin + source, " " * (len(margin) - 2) + "| " + caret]
        lines.append(f"  expected {self.expected}")
        if self.hint:
            lines.append(f"  {self.hint}")
        return "\n".join(map(_one_line, lines))

    def as_github(self) -> str:
        """A workflow annotation, as docs.github.com describes it under workflow commands."""
        text = f"{self.sentence}. {self.hint}" if self.hint else self.sentence
        place = {
            "file": os.path.relpath(self.file),
            "line": self.line,
            "col": self.column,
            "endColumn": self.column + self.width,
            "title": self.code,
        }
        properties = ",".join(f"{key}={_property(str(value))}" for key, value in place.items())
        return f"::{self.severity} {properties}::{_data(text)}"

    def _excerpt(self) -> tuple[str, str]:
        start = max(0, self.column - 1 - _WINDOW // 2) if len(self.source) > _WINDOW else 0
        source = self.source[start : start + _WINDOW]
        before, meant = source[: self.column - 1 - start], source[self.column - 1 - start :]
        caret = "".join("\t" if letter == "\t" else " " * _cells(letter) for letter in before)
        return source, caret + "^" * max(1, sum(map(_cells, meant[: self.width])))


def _one_line(text: str) -> str:
    """Printable, and a line break in a name or a value makes no further line."""
    return printable(text).replace("\n", "\\n")


def _cells(letter: str) -> int:
    """How many places of a terminal a character takes (Unicode's report 11)."""
    if unicodedata.combining(letter):
        return 0
    return len(printable(letter)) if unicodedata.east_asian_width(letter) not in "WF" else 2


def path_in_words(path: Path) -> str:
    """A path into a manifest as a person would say it.

    >>> path_in_words(("versions", "cyto3", "tasks", "cyto", "locations", 0, "sha256"))
    'version "cyto3", task "cyto", 1st of locations, sha256'
    """
    words: list[str] = []
    steps = iter(path)
    for step in steps:
        if isinstance(step, int):
            words[-1:] = [f"{ordinal(step + 1)} of {words[-1] if words else 'the list'}"]
        elif step in ("versions", "tasks") and (name := next(steps, None)) is not None:
            at = f"{ordinal(name + 1)} of {step}" if isinstance(name, int) else ""
            words.append(at or f'{step[:-1]} "{name}"')
        else:
            words.append(step)
    return ", ".join(words)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
