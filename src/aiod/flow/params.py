"""A model's parameters as a run uses them: what the user gave, checked, and defaults for the rest.

The manifest says what there is; nothing about a parameter is written twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiod.errors import UsageError
from aiod.registry.schema import Parameter
from aiod.words import listing, nearest, shown

_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_NAMES = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "a list such as [1, 2]",
    "tuple": "a list such as [1, 2]",
}


@dataclass(frozen=True, slots=True)
class Arguments:
    """Keyword arguments of a runner: those the user gave, and those left as the manifest says."""

    given: Mapping[str, Any]
    defaulted: Mapping[str, Any]

    @property
    def all(self) -> dict[str, Any]:
        return {**self.defaulted, **self.given}


def arguments_for(
    model_id: str,
    parameters: Sequence[Parameter],
    defaults: Mapping[str, Any],
    given: Mapping[str, Any],
) -> Arguments:
    """Check what the user gave, by argument name or by the parameter's name in forms.

    Text, as it comes from a command line, is read as the parameter's type. Raises UsageError,
    which says for each wrong one what was expected.
    """
    by_name = {parameter.arg_name or parameter.name: parameter for parameter in parameters}
    labels = {parameter.name.casefold(): name for name, parameter in by_name.items()}
    checked: dict[str, Any] = {}
    wrong: list[str] = []
    for key, value in given.items():
        name = key if key in by_name else labels.get(key.casefold(), "")
        if not name:
            wrong.append(_unknown(key, by_name))
            continue
        try:
            checked[name] = _checked(by_name[name], value)
        except ValueError as error:
            wrong.append(f"{name}: {error}")
    if wrong:
        raise UsageError(
            f"{model_id} cannot be run with these parameters.",
            details=wrong,
            hint=f"`aiod show {model_id}` explains each of them",
        )
    rest = {name: value for name, value in defaults.items() if name not in checked}
    return Arguments(checked, rest)


def parse_assignments(texts: Sequence[str]) -> dict[str, str]:
    """`diameter=30` and the like as a mapping. Raises UsageError."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise UsageError(
                f"The parameter {shown(text)} has no value.", hint="write it as --param diameter=30"
            )
        found[name.strip()] = value.strip()
    return found


def _unknown(key: str, names: Mapping[str, Parameter]) -> str:
    if not names:
        return f"{key}: the model has no parameters"
    close = nearest(key, names)
    hint = f"did you mean {close[0]}?" if close else f"there are {listing(names, 'and')}"
    return f"{key}: no such parameter; {hint}"


def _checked(parameter: Parameter, value: Any) -> Any:
    """The value as the runner gets it. Raises ValueError, whose words follow the name."""
    kind = kind_of(parameter)
    if isinstance(value, str) and kind != "str":
        value = _read(value, kind, parameter)
    if value is None:
        if parameter.value is None:
            return None
        raise ValueError(f"nothing was given; expected {_NAMES[kind]}")
    value = _typed(value, kind)
    choices = parameter.value if isinstance(parameter.value, list) else None
    if choices is not None and kind not in ("list", "tuple") and value not in choices:
        raise ValueError(f"found {shown(value)}; expected {listing(map(str, choices))}")
    if kind in ("int", "float"):
        unit = f" {parameter.unit}" if parameter.unit else ""
        if parameter.minimum is not None and value < parameter.minimum:
            raise ValueError(f"found {value}; expected at least {parameter.minimum}{unit}")
        if parameter.maximum is not None and value > parameter.maximum:
            raise ValueError(f"found {value}; expected at most {parameter.maximum}{unit}")
    return value


def kind_of(parameter: Parameter) -> str:
    """Its type: str, int, float, bool, list or tuple; of a list of choices that of each."""
    if parameter.dtype is not None:
        return parameter.dtype
    sample = parameter.value
    if isinstance(sample, list):
        kinds = {type(item).__name__ for item in sample}
        return "float" if kinds == {"int", "float"} else kinds.pop()
    return type(sample).__name__


def _read(text: str, kind: str, parameter: Parameter) -> Any:
    if text.casefold() in ("none", "null", "") and parameter.value is None:
        return None
    if kind == "bool":
        return _WORDS.get(text.casefold(), text)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _typed(value: Any, kind: str) -> Any:
    wrong = ValueError(f"found {shown(value)}; expected {_NAMES[kind]}")
    if kind == "bool":
        if not isinstance(value, bool):
            raise wrong
        return value
    if kind in ("list", "tuple"):
        if not isinstance(value, list | tuple):
            raise wrong
        return list(value)
    if kind == "str":
        if not isinstance(value, str):
            raise wrong
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong
    if value != value or value in (float("inf"), float("-inf")):
        raise wrong
    if kind == "int":
        if value != int(value):
            raise wrong
        return int(value)
    return float(value)
