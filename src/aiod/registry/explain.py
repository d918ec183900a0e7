"""From a manifest's text to its problems: every one, each with its place, in words.

The schema and the rules decide what is wrong; this module says it to a person.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from aiod.registry import forms
from aiod.registry.jsontext import Examination, Path, examine
from aiod.registry.lint import warnings_of
from aiod.registry.problems import Finding, Problem, Severity, path_in_words
from aiod.registry.rules import broken_rules
from aiod.registry.schema import Manifest
from aiod.registry.shape import fields_of, model_at
from aiod.registry.upgrade import old_form
from aiod.words import listing, nearest

_TYPES = {
    "string_type": "text in double quotes",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list [ … ]",
    "dict_type": "an object { … }",
    "model_type": "an object { … }",
    "model_attributes_type": "an object { … }",
    "string_unicode": "text without broken characters (lone surrogates)",
    "finite_number": "a finite number",
}
_BOUNDS = {
    "greater_than": ("gt", "a number above {}"),
    "greater_than_equal": ("ge", "{} or more"),
    "less_than": ("lt", "a number below {}"),
    "less_than_equal": ("le", "{} or less"),
}
# Codes whose place is the key rather than the value.
_AT_KEY = frozenset({"unknown-field", "unknown-task", "duplicate-key", "name", "slug"})
_ABOUT_PARENT = frozenset({"missing-field", "unknown-field"})


class Source:
    """The text of one file, and the problems found in it."""

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        self.lines = text.split("\n")
        self.read: Examination = examine(text)

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
        line = self.text.count("\n", 0, start)
        column = start - (self.text.rfind("\n", 0, start) + 1)
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
        shown = _shown(document)
        problems.append(source.problem("error", "type", (), shown, "an object { … }"))
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
    problems += _schema_problems(source, document)
    problems += _said(source, "error", broken_rules(document, tasks), problems)
    if lint:
        problems += _said(source, "warning", warnings_of(document), problems)
    return sorted(problems, key=lambda problem: (problem.line, problem.column, problem.code))


def say(item: ErrorDetails) -> str:
    """One of pydantic's errors in words, for a value that stands in no file."""
    _, found, expected, hint = _translate((*item["loc"],), item)
    return f"{found}; expected {expected}" + (f" ({hint})" if hint else "")


def _said(
    source: Source, severity: Severity, found: Iterable[Finding], known: list[Problem]
) -> list[Problem]:
    """Rules and warnings as problems; a place that the schema has judged is not judged again."""
    judged = {(problem.line, problem.column) for problem in known}
    problems = [
        source.problem(severity, item.code, item.path, item.found, item.expected, item.hint)
        for item in found
    ]
    return [problem for problem in problems if (problem.line, problem.column) not in judged]


def _schema_problems(source: Source, document: dict[str, Any]) -> list[Problem]:
    try:
        Manifest.model_validate(document)
    except ValidationError as error:
        details = error.errors(include_url=False)
    else:
        return []
    problems: dict[tuple[Path, str], Problem] = {}
    for path, item in _without_branches(document, details):
        code, found, expected, hint = _translate(path, item)
        key = (path, code if code in ("missing-field", "unknown-field") else "")
        if key in problems:  # another branch of a union: what one of them expects will do
            first = problems[key].expected
            if expected not in first:
                expected = f"{first}, or {expected}"
        problems[key] = source.problem("error", code, path, found, expected, hint)
    return list(problems.values())


def _without_branches(
    document: dict[str, Any], details: list[ErrorDetails]
) -> list[tuple[Path, ErrorDetails]]:
    """Errors by their path in the document, without pydantic's names for branches of a union."""
    collapsed = [(_real_path(document, item), item) for item in details if item["type"] != "rule"]
    paths = {path for path, _ in collapsed}

    def inside(path: Path) -> bool:
        return any(other[: len(path)] == path and other != path for other in paths)

    # Of a value that is an object or a list, only the branch that looked inside it is of interest.
    return [
        (path, item)
        for path, item in collapsed
        if not (
            path
            and isinstance(item["input"], dict | list)
            and inside(path)
            and item["type"] in (*_TYPES, "literal_error")
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


def _translate(path: Path, item: ErrorDetails) -> tuple[str, str, str, str | None]:
    """Code, found, expected, hint."""
    kind, value, context = item["type"], item["input"], item.get("ctx", {})
    found = _shown(value)
    if kind == "missing":
        field = str(path[-1])
        described = _fields_around(path[:-1]).get(field, "")
        old = field in ("metadata", "description", "title")  # what older manifests lack
        hint = (
            "an older manifest? `aiod upgrade` notes in the file what is missing" if old else None
        )
        return "missing-field", f'no "{field}"', f'"{field}": {described}', hint
    if kind == "extra_forbidden":
        fields = _fields_around(path[:-1])
        close = nearest(str(path[-1]), fields)
        expected = f"one of {listing(fields)}"
        hint = f'did you mean "{close[0]}"?' if close else None
        return "unknown-field", f'the unknown field "{path[-1]}"', expected, hint
    if kind in _TYPES:
        return "type", found, _TYPES[kind], None
    if kind == "literal_error":
        allowed = str(context["expected"]).replace("'", '"')
        options = [word.strip('" ') for word in allowed.replace(" or ", ",").split(",")]
        close = nearest(value, options) if isinstance(value, str) else []
        return "choice", found, allowed, f'did you mean "{close[0]}"?' if close else None
    if item["loc"][-1:] == ("[key]",):
        return "name", found, forms.IN_WORDS[forms.VERSION_NAME] + " (1-50 characters)", None
    if kind == "string_pattern_mismatch":
        return "form", found, forms.IN_WORDS[str(context["pattern"])], None
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return "bounds", found, words.format(context[key]), None
    if kind in ("string_too_short", "too_short"):
        least = context["min_length"]
        empty = "an empty text" if kind.startswith("string") else "an empty list or object"
        nothing = not value
        thing = "characters" if kind.startswith("string") else "entries"
        expected = "at least one" if least == 1 else f"at least {least} {thing}"
        return "empty" if nothing else "length", empty if nothing else found, expected, None
    if kind in ("string_too_long", "too_long"):
        length = len(value) if isinstance(value, str | list) else 0
        thing = "characters" if kind.startswith("string") else "entries"
        most = context["max_length"]
        return "length", f"{length} {thing}", f"at most {most} {thing}", None
    if "expected" in context:  # one of ours, from `forms`
        words = item["msg"]
        found = words if not value or len(str(value)) > 60 else f"{found}: {words}"
        return kind, found, str(context["expected"]), context.get("hint")
    return kind.replace("_", "-"), found, item["msg"], None


def _fields_around(path: Path) -> dict[str, str]:
    model = model_at(path)
    return fields_of(model) if model else {}


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        kind = "object" if isinstance(value, dict) else "list"
        return f"an empty {kind}" if not value else "an object" if kind == "object" else "a list"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    text = str(value)
    text = text if len(text) <= 60 else text[:57] + "…"
    return f'"{text}"' if isinstance(value, str) else text
