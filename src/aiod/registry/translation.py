"""From pydantic's errors to words: what was found, what is expected, and a hint."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pydantic_core import ErrorDetails

from aiod.registry import forms
from aiod.registry.jsontext import Path
from aiod.registry.metadata import Metadata
from aiod.registry.shape import example_of, fields_of, model_at
from aiod.words import counted, listing, nearest, shown

TYPES = {
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
_OF_OBJECTS = frozenset({"dict_type", "model_type", "model_attributes_type"})
_UNITS = {
    "nm": "nanometer", "um": "micrometer", "µm": "micrometer", "μm": "micrometer",
    "micron": "micrometer", "microns": "micrometer", "mm": "millimeter", "Å": "angstrom",
}  # fmt: skip
_BOUNDS = {
    "greater_than": ("gt", "a number above {}"),
    "greater_than_equal": ("ge", "{} or more"),
    "less_than": ("lt", "a number below {}"),
    "less_than_equal": ("le", "{} or less"),
}
_OF_TEXT = frozenset({"string_pattern_mismatch", "string_too_short", "string_too_long"})


class _Fault(NamedTuple):
    """One of pydantic's errors, and where in the manifest it is."""

    path: Path
    kind: str
    value: Any
    context: dict[str, Any]
    message: str


class Said(NamedTuple):
    """One error in words; `code` names its kind for scripts."""

    code: str
    found: str
    expected: str
    hint: str | None = None


def say(item: ErrorDetails) -> str:
    """One of pydantic's errors in a sentence, for a value that stands in no file."""
    said = translate((*item["loc"],), item)
    return f"{said.found}; expected {said.expected}" + (f" ({said.hint})" if said.hint else "")


def translate(path: Path, item: ErrorDetails) -> Said:
    """One of pydantic's errors, about what stands at `path` of a manifest."""
    fault = _Fault(path, item["type"], item["input"], item.get("ctx", {}), item["msg"])
    if fault.kind in _OF_TEXT and item["loc"][-1:] == ("[key]",):
        expected = f"{forms.IN_WORDS[forms.VERSION_NAME]} (1-50 characters)"
        return Said("name", shown(fault.value), expected)
    if in_words := _BY_KIND.get(fault.kind):
        return in_words(fault)
    if "expected" in fault.context:
        return _own(fault)
    return Said(fault.kind.replace("_", "-"), shown(fault.value), fault.message)


def fields_around(path: Path) -> dict[str, str]:
    """The fields, with their descriptions, of the model at `path`; none where there is no model."""
    model = model_at(path)
    return fields_of(model) if model else {}


def _missing(fault: _Fault) -> Said:
    field = str(fault.path[-1])
    old = field in ("metadata", "description", "title")  # what older manifests lack
    hint = "an older manifest? `aiod upgrade` notes in the file what is missing" if old else None
    described = fields_around(fault.path[:-1]).get(field, "")
    return Said("missing-field", f'no "{field}"', f'"{field}": {described}', hint)


def _unknown(fault: _Fault) -> Said:
    field, fields = fault.path[-1], fields_around(fault.path[:-1])
    hint = None
    if close := nearest(str(field), fields):
        hint = f"did you mean {shown(close[0])}?"
    elif "metadata" in fields and (close := nearest(str(field), fields_of(Metadata))):
        hint = f"did you mean {shown(close[0])} inside metadata?"
    return Said(
        "unknown-field", f"the unknown field {shown(field)}", f"one of {listing(fields)}", hint
    )


def _type(fault: _Fault) -> Said:
    kind = fault.kind
    model = model_at(fault.path) if kind in _OF_OBJECTS else None
    such = f" such as {json.dumps(example_of(model), ensure_ascii=False)}" if model else ""
    return Said("type", shown(fault.value), TYPES[kind] + such)


def _choice(fault: _Fault) -> Said:
    value = fault.value
    allowed = str(fault.context["expected"]).replace("'", '"')
    if allowed == "False":
        return Said("choice", shown(value), "false, or no such field")
    options = [word.strip('" ') for word in allowed.replace(" or ", ",").split(",")]
    close = nearest(value, options) if isinstance(value, str) else []
    if isinstance(value, str) and _UNITS.get(value) in options:
        close = [_UNITS[value]]
    hint = f"did you mean {shown(close[0])}?" if close else None
    return Said("choice", shown(value), allowed, hint)


def _form(fault: _Fault) -> Said:
    value, pattern = fault.value, str(fault.context["pattern"])
    right = forms.mended(pattern, value)
    hint = f"did you mean {shown(right)}?" if right else None
    if right and right == value.lower():
        hint = "write it in lower case"
    return Said("form", shown(value), forms.IN_WORDS[pattern], hint)


def _bounds(fault: _Fault) -> Said:
    key, words = _BOUNDS[fault.kind]
    return Said("bounds", shown(fault.value), words.format(f"{fault.context[key]:g}"))


def _too_short(fault: _Fault) -> Said:
    value, nouns = fault.value, _nouns(fault)
    least = f"at least {counted(fault.context['min_length'], *nouns)}"
    if not value:
        return Said("empty", "an empty text" if value == "" else shown(value), least)
    return Said("length", counted(len(value), *nouns), least)


def _too_long(fault: _Fault) -> Said:
    value, nouns = fault.value, _nouns(fault)
    length = len(value) if isinstance(value, str | list) else 0
    most = fault.context["max_length"]
    return Said("length", counted(length, *nouns), f"at most {counted(most, *nouns)}")


def _nouns(fault: _Fault) -> tuple[str, str]:
    """What a text or a list is counted in."""
    return ("character", "characters") if fault.kind in _OF_TEXT else ("entry", "entries")


def _own(fault: _Fault) -> Said:
    """An error of ours, from `forms`, that brings its words along."""
    value, words, context = fault.value, fault.message, fault.context
    found = words if not value or len(str(value)) > 60 else f"{shown(value)}: {words}"
    return Said(fault.kind, found, str(context["expected"]), context.get("hint"))


_BY_KIND: Mapping[str, Callable[[_Fault], Said]] = {
    "missing": _missing,
    "extra_forbidden": _unknown,
    **dict.fromkeys(TYPES, _type),
    "literal_error": _choice,
    "string_pattern_mismatch": _form,
    **dict.fromkeys(_BOUNDS, _bounds),
    "string_too_short": _too_short,
    "too_short": _too_short,
    "string_too_long": _too_long,
    "too_long": _too_long,
}
