"""From a manifest's text to its problems: every one, each with its place, in words.

The schema and the rules decide what is wrong; this module says it to a person.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from aiod.registry.jsontext import Examination, Path, examine
from aiod.registry.lint import warnings_of
from aiod.registry.problems import Finding, Problem, Severity, path_in_words
from aiod.registry.rules import broken_rules
from aiod.registry.schema import Manifest
from aiod.registry.translation import TYPES, fields_around, translate
from aiod.registry.upgrade import old_form
from aiod.words import nearest, shown

# Codes whose place is the key rather than the value.
_AT_KEY = frozenset(
    {"unknown-field", "unknown-task", "duplicate-key", "name", "locations", "config", "old-form"}
)
_ABOUT_PARENT = frozenset({"missing-field", "unknown-field"})


class Source:
    """The text of one file, and the problems found in it."""

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        self.lines = text.split("\n")
        self.starts = list(accumulate((len(line) + 1 for line in self.lines), initial=0))[:-1]
        self.read: Examination = examine(text)
        # Right names of misspelt fields, by their paths, with the names as they are written.
        self.misspelt: dict[Path, str] = {}

    def problem(
        self,
        severity: Severity,
        code: str,
        path: Path,
        found: str,
        expected: str,
        hint: str | None = None,
    ) -> Problem:
        """A problem at the place of `path`, or of the nearest thing around it that is there."""
        start, end = self._span(code, path)
        return self._at(severity, code, path, start, end, found, expected, hint)

    def faults(self) -> list[Problem]:
        """What is wrong with the JSON itself."""
        return [
            self._at(
                "error",
                fault.code,
                fault.path,
                fault.offset,
                fault.offset + fault.width,
                fault.found,
                fault.expected,
                fault.hint,
            )
            for fault in self.read.faults
        ]

    def _span(self, code: str, path: Path) -> tuple[int, int]:
        path = tuple(self.misspelt.get(path[: i + 1], step) for i, step in enumerate(path))
        exact = path in self.read.spans
        while path and path not in self.read.spans:
            path = path[:-1]
        span = self.read.spans.get(path)
        if span is None:
            return 0, 1
        container = self.text[span.start : span.start + 1] in ("{", "[")
        if span.key and (not exact or container or code in _AT_KEY):
            return span.key
        return span.start, span.end

    def _at(
        self,
        severity: Severity,
        code: str,
        path: Path,
        start: int,
        end: int,
        found: str,
        expected: str,
        hint: str | None,
    ) -> Problem:
        line = bisect_right(self.starts, start) - 1
        column = start - self.starts[line]
        source = self.lines[line].rstrip("\r")
        return Problem(
            severity,
            code,
            self.file,
            line + 1,
            column + 1,
            max(1, min(end - start, len(source) - column)),
            path_in_words(path[:-1] if code in _ABOUT_PARENT else path),
            found,
            expected,
            hint,
            source,
        )


def explain(text: str, file: str, tasks: Mapping[str, str], *, lint: bool = True) -> list[Problem]:
    """All problems of one manifest, in the order of the file; none for a good one."""
    source = Source(text, file)
    document = source.read.value
    problems = source.faults()
    if any(problem.code == "json-syntax" for problem in problems):
        return problems  # what follows a syntax error cannot be judged
    if not isinstance(document, dict):
        problems.append(source.problem("error", "type", (), shown(document), "an object { … }"))
        return problems
    if form := old_form(document):
        problems.append(
            source.problem(
                "error",
                "old-form",
                form.path,
                f"an older form: {form.words}",
                "today's form",
                f"run `aiod upgrade {file}`",
            )
        )
        return problems
    problems += _without_known(_schema_problems(source, document), problems)
    meant = _as_meant(document, source)
    problems += _said(source, "error", broken_rules(meant, tasks), problems)
    if lint:
        problems += _said(source, "warning", warnings_of(meant), problems)
    return sorted(problems, key=lambda problem: (problem.line, problem.column, problem.code))


def _said(
    source: Source, severity: Severity, found: Iterable[Finding], known: list[Problem]
) -> list[Problem]:
    """Rules and warnings as problems, without those about a place that was judged already."""
    problems = [
        source.problem(severity, item.code, item.path, item.found, item.expected, item.hint)
        for item in found
    ]
    return _without_known(problems, known)


def _without_known(problems: list[Problem], known: list[Problem]) -> list[Problem]:
    judged = {(problem.line, problem.column) for problem in known}
    return [problem for problem in problems if (problem.line, problem.column) not in judged]


def _as_meant(value: Any, source: Source, path: Path = ()) -> Any:
    """The document with misspelt fields under their right names.

    So a `tool_tip` is one mistake (an unknown field), not two (and no tooltip). The right names
    get the places of the misspelt ones.
    """
    if isinstance(value, list):
        return [_as_meant(item, source, (*path, index)) for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    meant: dict[str, Any] = {}
    for key, item in value.items():
        right = _misspelt(key, value, path) or key
        if right != key:
            source.misspelt[(*path, right)] = key
        meant[right] = _as_meant(item, source, (*path, right))
    return meant


def _misspelt(key: str, table: dict[str, Any], path: Path) -> str | None:
    """The field that an unknown one in `table` must have been meant to be."""
    fields = fields_around(path)
    if not fields or key in fields:
        return None
    return next((name for name in nearest(key, fields) if name not in table), None)


def _schema_problems(source: Source, document: dict[str, Any]) -> list[Problem]:
    try:
        Manifest.model_validate(document)
    except ValidationError as error:
        details = error.errors(include_url=False)
    else:
        return []
    problems: dict[tuple[Path, str], Problem] = {}
    for path, item in _without_branches(document, details):
        code, found, expected, hint = translate(path, item)
        if code == "missing-field" and _is_misspelt(document, path):
            continue  # the unknown field says it
        key = (path, code if code in ("missing-field", "unknown-field") else "")
        if (first := problems.get(key)) is not None:
            # Another branch of a union: what one of them expects will do.
            expected = _either(first.expected, expected)
            code = first.code if code == "type" else code
            hint = first.hint or hint
        problems[key] = source.problem("error", code, path, found, expected, hint)
    return list(problems.values())


def _is_misspelt(document: Any, path: Path) -> bool:
    table = document
    for step in path[:-1]:
        table = table[step]
    return isinstance(table, dict) and any(
        _misspelt(key, table, path[:-1]) == path[-1] for key in table
    )


def _either(first: str, second: str) -> str:
    if second in first or (first.endswith("a number") and second == "a whole number"):
        return first
    return f"{first}, or {second}"


def _without_branches(
    document: dict[str, Any], details: list[ErrorDetails]
) -> list[tuple[Path, ErrorDetails]]:
    """Errors by their path in the document, without pydantic's names for branches of a union."""
    collapsed = [(_real_path(document, item), item) for item in details if item["type"] != "rule"]
    around = {path[:length] for path, _ in collapsed for length in range(len(path))}
    # Of a value that is an object or a list, only the branch that looked inside it is of interest.
    return [
        (path, item)
        for path, item in collapsed
        if not (
            path
            and isinstance(item["input"], dict | list)
            and path in around
            and item["type"] in (*TYPES, "literal_error")
        )
    ]


def _real_path(document: Any, item: ErrorDetails) -> Path:
    here: Any = document
    path: list[str | int] = []
    steps = item["loc"]
    for index, step in enumerate(steps):
        inside = isinstance(here, dict | list)
        try:
            below = here[step] if inside else None
        except (KeyError, IndexError, TypeError):
            inside = False
        if inside:
            here = below
        elif not (index == len(steps) - 1 and item["type"] == "missing"):
            continue  # pydantic's name for a branch of a union
        path.append(step)
    return tuple(path)
