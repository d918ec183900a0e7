"""Steps as they are written: `clahe:clip_limit=5,kernel_size=64`, checked against signatures.

A step is a plain function; its keyword-only parameters, with their types, defaults and bounds, are
its form. What a command line, a run's record or a graphical form gives is checked against them, and
nothing about a parameter is written twice.
"""

from __future__ import annotations

import inspect
import math
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Protocol

from aiod.errors import UsageError
from aiod.words import listing, nearest, shown

Value = bool | int | float | str
_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True}
_BOOLEANS |= {"false": False, "no": False, "off": False, "0": False}
_MAX_LENGTH = 2000


class HasForm(Protocol):
    """A step as it is parsed: a function, and what says why parameters do not go together."""

    @property
    def function(self) -> Callable[..., Any]: ...

    @property
    def check(self) -> Callable[..., str | None] | None: ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """Which numbers a parameter may be: at least `minimum`, more than `above`, at most `maximum`.

    Stands in a parameter's annotation: `Annotated[float, Bounds(above=0)]`.
    """

    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None

    def wrong(self, value: float) -> str | None:
        """What was expected instead of a value, None where it is right."""
        if self.minimum is not None and value < self.minimum:
            return f"at least {self.minimum:g}"
        if self.above is not None and value <= self.above:
            return f"more than {self.above:g}"
        if self.maximum is not None and value > self.maximum:
            return f"at most {self.maximum:g}"
        return None


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a step's form: `kind` is bool, int, float or str, `choices` limits a str.

    `default` is None where a value must be given.
    """

    name: str
    kind: type
    default: Value | None
    bounds: Bounds
    choices: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class StepCall:
    """A step by its name with all its parameters, the defaults filled in. Its text reads back.

    >>> str(StepCall("gaussian", {"sigma": 2.0}))
    'gaussian:sigma=2'
    """

    name: str
    params: Mapping[str, Value]

    def __str__(self) -> str:
        values = ",".join(f"{name}={_written(value)}" for name, value in self.params.items())
        return f"{self.name}:{values}" if values else self.name


@lru_cache(maxsize=256)
def form_of(function: Callable[..., Any]) -> tuple[Entry, ...]:
    """The form of a step: an entry for each keyword-only parameter of its function, in order."""
    hints = typing.get_type_hints(function, include_extras=True)
    entries = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is not parameter.KEYWORD_ONLY:
            continue
        kind, *extras = typing.get_args(hints[name]) if _annotated(hints[name]) else (hints[name],)
        choices = typing.get_args(kind) if typing.get_origin(kind) is Literal else ()
        bounds = next((extra for extra in extras if isinstance(extra, Bounds)), Bounds())
        text = next((extra for extra in extras if isinstance(extra, str)), "")
        default = None if parameter.default is parameter.empty else parameter.default
        entries.append(Entry(name, str if choices else kind, default, bounds, choices, text))
    return tuple(entries)


def _annotated(hint: Any) -> bool:
    return typing.get_origin(hint) is typing.Annotated


def parse_call(text: str, steps: Mapping[str, HasForm], *, what: str = "step") -> StepCall:
    """A step from `name`, `name:key=value,key=value` or `name:value` (its first parameter).

    `steps` are those there are, `what` is what errors call one. Raises UsageError, which says what
    was expected and lists the valid names.
    """
    if len(text) > _MAX_LENGTH:
        raise UsageError(f"A {what} of {len(text):,} letters cannot be meant: {shown(text)}.")
    name, colon, rest = (part.strip() for part in text.partition(":"))
    entries = form_of(_step(name, steps, what).function)
    given: dict[str, str] = {}
    for position, part in enumerate(rest.split(",") if colon and rest else ()):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals and position == 0 and entries:
            key, value = entries[0].name, key
        elif not equals:
            raise UsageError(
                f"The {what} {shown(text)} has {shown(part)} where KEY=VALUE was expected.",
                hint=_usage(name, entries),
            )
        if key in given:
            raise UsageError(f"The {what} {shown(text)} gives {key} twice.")
        given[key] = value
    return make_call(name, given, steps, what=what)


def make_call(
    name: str, params: Mapping[str, object], steps: Mapping[str, HasForm], *, what: str = "step"
) -> StepCall:
    """A step from its name and some of its parameters, as values or as text. Raises UsageError."""
    step = _step(name, steps, what)
    entries = {entry.name: entry for entry in form_of(step.function)}
    values: dict[str, Value] = {}
    wrong = [_unknown(key, entries) for key in params if key not in entries]
    for key, entry in entries.items():
        if key in params:
            try:
                values[key] = _checked(entry, params[key])
            except ValueError as error:
                wrong.append(f"{key}: {error}")
        elif entry.default is not None:
            values[key] = entry.default
        else:
            wrong.append(f"{key}: must be given ({entry.text})")
    if not wrong and step.check is not None and (conflict := step.check(**values)):
        wrong.append(conflict)
    if wrong:
        raise UsageError(
            f"The {what} {name} cannot be done like this.",
            details=wrong,
            hint=_usage(name, tuple(entries.values())),
        )
    return StepCall(name, values)


def _step(name: str, steps: Mapping[str, HasForm], what: str) -> HasForm:
    if name not in steps:
        close = nearest(name, steps)
        if close:
            hint = f"did you mean {close[0]}?"
        elif re.fullmatch(r"[-+.\d]+", name):
            hint = "a colon stands between a step and its values: STEP:50 or STEP:name=50"
        else:
            hint = "`aiod steps` lists those before (--pre) and after (--post) a model"
        raise UsageError(
            f"There is no {what} called {shown(name)}.",
            details=[f"there is {listing(sorted(steps), 'and')}"],
            hint=hint,
        )
    return steps[name]


def _unknown(key: str, names: Mapping[str, Entry]) -> str:
    close = nearest(key, names)
    hint = f"did you mean {close[0]}? " if close else ""
    there = f"there is {listing(names, 'and')}" if names else "it has none"
    return f"{shown(key)}: no such parameter; {hint}{there}"


def _checked(entry: Entry, value: object) -> Value:
    """A value as the step gets it. Raises ValueError, whose words follow the parameter's name."""
    found = f"found {shown(value)}; expected"
    if entry.kind is bool:
        answer = _BOOLEANS.get(str(value).strip().lower())
        if answer is None:
            raise ValueError(f"{found} true or false")
        return answer
    if entry.kind is str:
        if entry.choices and value not in entry.choices:
            raise ValueError(f"{found} {listing(entry.choices)}")
        return str(value)
    whole = entry.kind is int
    expected = f"{found} {'a whole number' if whole else 'a number'}"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(expected)
    try:
        number = float(value)
    except (ValueError, OverflowError) as error:
        raise ValueError(expected) from error
    if not math.isfinite(number) or (whole and not number.is_integer()):
        raise ValueError(expected)
    if limit := entry.bounds.wrong(number):
        raise ValueError(f"{found} {limit}")
    return int(number) if whole else number


def _usage(name: str, entries: tuple[Entry, ...]) -> str:
    values = ",".join(
        f"{entry.name}={'NUMBER' if entry.default is None else _written(entry.default)}"
        for entry in entries
    )
    return f"write it as {name}:{values}" if entries else f"write {name} alone"


def _written(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
