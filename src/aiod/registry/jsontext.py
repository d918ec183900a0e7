"""JSON text, strictly: RFC 8259 without duplicate keys, NaN, infinities or endless nesting.

:func:`parse` is the fast way in. Where it refuses, :func:`examine` reads the same text slowly and
says what is wrong and where, and where every key and value of it stands.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any, Never

Path = tuple[str | int, ...]

MAX_DEPTH = 64
_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?(?![0-9.])")
_WORD = re.compile(r"[A-Za-z_$][\w$-]*")
_LITERALS = {"true": True, "false": False, "null": None}
_MAX_DIGITS = 300  # beyond every double; Python itself refuses integers past 4300 digits


class IrregularJSON(ValueError):
    """The text is not JSON as a manifest needs it; :func:`examine` tells the details."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with the text itself, `width` characters from `offset` on."""

    path: Path
    offset: int
    width: int
    code: str
    found: str
    expected: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """Where a value stands in the text, and the key that names it (None in a list and on top)."""

    start: int
    end: int
    key: tuple[int, int] | None


@dataclass(slots=True)
class Examination:
    """What a slow reading found: the value as far as it could be read, spans by path, faults."""

    value: Any = None
    spans: dict[Path, Span] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


def parse(text: str) -> Any:
    """The value that `text` stands for. Raises IrregularJSON."""
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise IrregularJSON(str(error)) from error


def examine(text: str) -> Examination:
    """Read `text` slowly and keep going past duplicate keys and NaN; a syntax error ends it."""
    result = Examination()
    scanner = _Scanner(text, result)
    try:
        start = scanner.skip(0)
        result.value, end = scanner.value(start, (), None)
        end = scanner.skip(end)
        if end < len(text):
            scanner.stop((), end, f"{text[end]!r} after the end of the manifest", "nothing more")
    except _Stopped:
        pass
    return result


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise IrregularJSON("duplicate key")
    return value


def _refuse_constant(name: str) -> Never:
    raise IrregularJSON(name)


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)


class _Stopped(Exception):
    pass


class _Scanner:
    """A recursive-descent reader that keeps positions; depth is bounded by MAX_DEPTH."""

    def __init__(self, text: str, result: Examination) -> None:
        self.text = text
        self.result = result

    def skip(self, offset: int) -> int:
        match = _SPACE.match(self.text, offset)
        return match.end() if match else offset

    def stop(
        self, path: Path, offset: int, found: str, expected: str, hint: str | None = None
    ) -> Never:
        self.result.faults.append(Fault(path, offset, 1, "json-syntax", found, expected, hint))
        raise _Stopped

    def value(self, offset: int, path: Path, key: tuple[int, int] | None) -> tuple[Any, int]:
        if len(path) > MAX_DEPTH:
            self.stop(path[:3], offset, f"more than {MAX_DEPTH} levels of nesting", "a manifest")
        opening = self.text[offset : offset + 1]
        value: Any
        if opening == "{":
            value, end = self.object(offset, path)
        elif opening == "[":
            value, end = self.array(offset, path)
        elif opening == '"':
            value, end = self.string(offset, path)
        else:
            value, end = self.scalar(offset, path)
        self.result.spans[path] = Span(offset, end, key)
        if not path:
            self.result.value = value
        return value, end

    def object(self, offset: int, path: Path) -> tuple[dict[str, Any], int]:
        value: dict[str, Any] = {}
        if not path:
            self.result.value = value
        first_at: dict[str, int] = {}
        offset = self.skip(offset + 1)
        if self.text[offset : offset + 1] == "}":
            return value, offset + 1
        while True:
            if self.text[offset : offset + 1] != '"':
                self.stop(path, offset, self.seen(offset), *self.key_advice(offset))
            start = offset
            name, offset = self.string(offset, path)
            if name in first_at:
                line = self.text.count("\n", 0, first_at[name]) + 1
                self.result.faults.append(
                    Fault(
                        (*path, name),
                        start,
                        offset - start,
                        "duplicate-key",
                        f"a second {json.dumps(name, ensure_ascii=False)}"
                        f" (the first is on line {line})",
                        "each key once",
                        "keep one of the two",
                    )
                )
            first_at.setdefault(name, start)
            span = (start, offset)
            offset = self.skip(offset)
            if self.text[offset : offset + 1] != ":":
                self.stop((*path, name), offset, self.seen(offset), 'a colon ":" after the key')
            value[name], offset = self.value(self.skip(offset + 1), (*path, name), span)
            offset, done = self.separator(offset, path, "}")
            if done:
                return value, offset

    def array(self, offset: int, path: Path) -> tuple[list[Any], int]:
        value: list[Any] = []
        if not path:
            self.result.value = value
        offset = self.skip(offset + 1)
        if self.text[offset : offset + 1] == "]":
            return value, offset + 1
        while True:
            item, offset = self.value(offset, (*path, len(value)), None)
            value.append(item)
            offset, done = self.separator(offset, path, "]")
            if done:
                return value, offset

    def separator(self, offset: int, path: Path, closing: str) -> tuple[int, bool]:
        after_value = offset
        offset = self.skip(offset)
        mark = self.text[offset : offset + 1]
        if mark == closing:
            return offset + 1, True
        if mark != ",":
            if mark in ('"', "{", "["):
                self.stop(path, max(after_value - 1, 0), "no comma after this", 'a comma ","')
            self.stop(path, offset, self.seen(offset), f'a comma "," or a closing "{closing}"')
        comma = offset
        offset = self.skip(offset + 1)
        if self.text[offset : offset + 1] == closing:
            self.stop(path, comma, f'a comma before "{closing}"', "no comma after the last entry")
        return offset, False

    def string(self, offset: int, path: Path) -> tuple[str, int]:
        try:
            value, end = scanstring(self.text, offset + 1, True)
        except json.JSONDecodeError as error:
            if error.msg.startswith("Unterminated"):
                self.stop(path, offset, "a text that never ends", 'a closing quote "')
            if error.msg.startswith("Invalid control"):
                self.stop(
                    path,
                    error.pos,
                    "a line break or control character inside a text",
                    r'a closing quote ", or \n for a line break',
                )
            self.stop(
                path,
                error.pos,
                "an unknown escape after a backslash",
                r"\\ for a backslash (as in C:\\models)",
            )
        return str(value), int(end)

    def scalar(self, offset: int, path: Path) -> tuple[Any, int]:  # noqa: RET503 - stop() never returns
        if number := _NUMBER.match(self.text, offset):
            digits = number[0]
            width = number.end() - offset
            if len(digits) > _MAX_DIGITS:
                self.fault(path, offset, width, f"a number of {len(digits):,} characters")
                return 0, number.end()
            value = float(digits) if number[1] or number[2] else int(digits)
            if math.isinf(value):
                self.fault(path, offset, width, f"{digits}, which is too large for a number")
            return value, number.end()
        word = _WORD.match(self.text, offset + (self.text[offset : offset + 1] == "-"))
        if word is None:
            self.stop(path, offset, self.seen(offset), *self.value_advice(offset))
        name = word[0]
        if name in _LITERALS and word.start() == offset:
            return _LITERALS[name], word.end()
        if name in ("NaN", "Infinity", "nan", "inf", "Inf"):
            self.fault(path, offset, word.end() - offset, self.text[offset : word.end()])
            return None, word.end()
        hints = {"True": "true", "False": "false", "None": "null"}
        hint = f"in JSON write {hints[name]}" if name in hints else "put text in double quotes"
        self.stop(path, offset, name, "a value", hint)

    def fault(self, path: Path, offset: int, width: int, found: str) -> None:
        self.result.faults.append(
            Fault(path, offset, width, "not-a-number", found, "a finite number, or null")
        )

    def seen(self, offset: int) -> str:
        return repr(self.text[offset]) if offset < len(self.text) else "the end of the file"

    def key_advice(self, offset: int) -> tuple[str, str | None]:
        expected = 'a key in double quotes, such as "name"'
        return expected, self.value_advice(offset)[1] or "put keys in double quotes"

    def value_advice(self, offset: int) -> tuple[str, str | None]:
        following = self.text[offset : offset + 1]
        hint = None
        if following == "'":
            hint = "JSON uses double quotes"
        elif following in ("/", "#"):
            hint = "JSON has no comments"
        elif not following:
            hint = "is the file complete?"
        return "a value", hint
