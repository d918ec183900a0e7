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

from aiod.words import shown

Path = tuple[str | int, ...]

MAX_DEPTH = 64
_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?(?![0-9.])")
_WORD = re.compile(r"[A-Za-z_$][\w$-]*")
_NUMBERLIKE = re.compile(r"[-+.]*[0-9][\w.+-]*")
_LITERALS = {"true": True, "false": False, "null": None}
_OTHER_LITERALS = {"true": "true", "false": "false", "null": "null", "none": "null", "nil": "null"}
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
    """The value that `text` stands for. Raises IrregularJSON.

    Nesting is bounded by Python here, and far lower by the schema; see `depth`.
    """
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
            found, width = scanner.seen(end)
            scanner.stop(
                (), end, f"{found} after the end of the manifest", "nothing more", width=width
            )
    except _Stopped:
        pass
    return result


def depth(value: Any) -> int:
    """How many levels of objects and lists are in each other."""
    levels, here = 0, [value]
    while here := [item for item in here if isinstance(item, dict | list)]:
        levels += 1
        here = [item for box in here for item in (box.values() if isinstance(box, dict) else box)]
    return levels


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise IrregularJSON("duplicate key")
    return value


def _refuse_constant(name: str) -> Never:
    raise IrregularJSON(name)


def _finite(digits: str) -> float:
    value = float(digits)
    if len(digits) > _MAX_DIGITS or math.isinf(value):
        raise IrregularJSON("a number that is too large")
    return value


def _whole(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise IrregularJSON("a number that is too long")
    return int(digits)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_constant=_refuse_constant,
    parse_float=_finite,
    parse_int=_whole,
)


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
        self,
        path: Path,
        offset: int,
        found: str,
        expected: str,
        hint: str | None = None,
        *,
        width: int = 1,
    ) -> Never:
        self.result.faults.append(Fault(path, offset, width, "json-syntax", found, expected, hint))
        raise _Stopped

    def unexpected(self, path: Path, offset: int, expected: str, hint: str | None = None) -> Never:
        """Stop at what stands at `offset` and should not."""
        found, width = self.seen(offset)
        following = self.text[offset : offset + 1]
        if not self.text[:offset].strip():
            if not following:
                self.stop(path, offset, "an empty file", "a manifest: an object { … }")
        elif not following:
            self.stop(path, offset, found, "the rest of the manifest", "is the file complete?")
        if found == "a comment":
            expected, hint = "no comments: JSON has none", "say it in a description or a tooltip"
        elif following in ("'", "“", "”", "‘", "’"):
            hint = 'JSON uses straight double quotes: "'
        self.stop(path, offset, found, expected, hint, width=width)

    def value(self, offset: int, path: Path, key: tuple[int, int] | None) -> tuple[Any, int]:
        opening = self.text[offset : offset + 1]
        if len(path) >= MAX_DEPTH and opening in ("{", "["):
            found = f"more than {MAX_DEPTH} levels of nesting"
            self.stop(path[:3], offset, found, f"at most {MAX_DEPTH}")
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
                self.no_key(path, offset)
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
                        f"a second {shown(name)} (the first is on line {line})",
                        "each key once",
                        "keep one of the two",
                    )
                )
            first_at.setdefault(name, start)
            span = (start, offset)
            offset = self.skip(offset)
            if self.text[offset : offset + 1] != ":":
                if self.text[offset : offset + 1] in ("=", ""):
                    self.unexpected((*path, name), offset, 'a colon ":" after the key')
                found, width = f"no colon after the key {shown(name)}", span[1] - span[0]
                self.stop((*path, name), start, found, 'a colon ":"', width=width)
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
            hint = None
            if mark in ("}", "]"):
                hint = f'is a "{closing}" missing before it?'
            self.unexpected(path, offset, f'a comma "," or a closing "{closing}"', hint)
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
                if self.text[error.pos] in "\r\n":
                    found, hint = "a line break inside a text", r"write \n for a line break"
                    self.stop(path, error.pos, found, 'a closing quote " before it', hint)
                found, code = "a control character inside a text", ord(self.text[error.pos])
                self.stop(path, error.pos, found, rf'its escape, here "\u{code:04x}"')
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
                return None, number.end()
            value = float(digits) if number[1] or number[2] else int(digits)
            if math.isinf(value):
                self.fault(path, offset, width, f"{digits}, which is too large for a number")
                return None, number.end()
            return value, number.end()
        if numberlike := _NUMBERLIKE.match(self.text, offset):
            written, width = shown(numberlike[0])[1:-1], numberlike.end() - offset
            expected = "a number as JSON writes it, such as 0.5, 30 or 1e-3"
            self.stop(path, offset, written, expected, "or text in double quotes", width=width)
        word = _WORD.match(self.text, offset + (self.text[offset : offset + 1] == "-"))
        if word is None:
            self.unexpected(path, offset, "a value")
        name, width = word[0], word.end() - offset
        if name in _LITERALS and word.start() == offset:
            return _LITERALS[name], word.end()
        if name in ("NaN", "Infinity", "nan", "inf", "Inf"):
            self.fault(path, offset, word.end() - offset, self.text[offset : word.end()])
            return None, word.end()
        if right := _OTHER_LITERALS.get(name.lower()):
            self.stop(path, offset, name, right, "JSON writes it like this", width=width)
        self.stop(path, offset, name, "a value", "put text in double quotes", width=width)

    def fault(self, path: Path, offset: int, width: int, found: str) -> None:
        self.result.faults.append(
            Fault(path, offset, width, "not-a-number", found, "a finite number, or null")
        )

    def seen(self, offset: int) -> tuple[str, int]:
        """What stands at `offset`, in words, and its width."""
        following = self.text[offset : offset + 1]
        if not following:
            return "the end of the file", 1
        if following == "#" or self.text.startswith(("//", "/*"), offset):
            end = self.text.find("\n", offset)
            return "a comment", (end if end > 0 else len(self.text)) - offset
        word = _WORD.match(self.text, offset)
        if word is None:
            return f"the character {following}", 1
        return shown(word[0])[1:-1], len(word[0])

    def no_key(self, path: Path, offset: int) -> Never:
        expected = 'a key in double quotes, such as "name"'
        before = self.text[max(0, offset - 2) : offset]
        if self.text[offset : offset + 1].isdigit() and before[:1].isdigit() and before[1:] == ",":
            found, hint = "a comma inside a number", "write a decimal point, as in 0.5"
            self.stop(path, offset - 1, found, 'a point "."', hint)
        self.unexpected(path, offset, expected, "put keys in double quotes")
