"""Rules for parameters: value, choices, default, type and bounds agree, arguments are unique.

Like all rules they read the document as it was parsed and pass over wrong types.
"""

from __future__ import annotations

import keyword
import math
from collections.abc import Iterator, Mapping
from typing import Any

from aiod.registry.jsontext import Path
from aiod.registry.problems import Finding
from aiod.words import family_slug, listing, nearest, shown

# Keywords of `predict` and `load` that the host itself passes.
HOST_ARGUMENTS = frozenset({"model", "image", "axes", "weights", "config", "device", "statistics"})

# The parameter that the host zooms by, where a manifest says `"rescale": "always"`.
HOST_DIAMETER = "diameter"

_RESERVED = HOST_ARGUMENTS.union(keyword.kwlist)

_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "str": str,
    "int": int,
    "float": (int, float),
    "bool": bool,
}


def argument_of(parameter: Mapping[str, Any]) -> str:
    """The runner's keyword for a parameter: `arg_name`, or `name` where it is absent."""
    argument = parameter.get("arg_name")
    if argument is None:
        argument = parameter.get("name", "")
    return argument if isinstance(argument, str) else str(argument)


def broken_parameters(params: Any, path: Path) -> Iterator[Finding]:
    """Every broken rule of a list of parameters that stands at `path`."""
    if not isinstance(params, list):
        return
    taken: dict[str, int] = {}
    for index, parameter in enumerate(params):
        if not isinstance(parameter, dict):
            continue
        argument = argument_of(parameter)
        same = taken.setdefault(argument, index)
        if same == index and _is_usable(argument) and _is_plain(parameter):
            continue
        here: Path = (*path, index)
        yield from _value(parameter, here)
        yield from _bounds(parameter, here)
        yield from _channel(parameter, here)
        if not _is_usable(argument):
            yield from _argument(parameter, argument, here)
        elif same != index:
            first = params[same]
            yield Finding(
                (*here, _argument_key(parameter)),
                "duplicate-argument",
                f"the argument {shown(argument)} a second time"
                f" (first in {shown(first.get('name'))})",
                "each argument once in a list",
                'give one of them another "arg_name"',
            )


_DTYPES = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "null, as a list means choices",
    "tuple": "null, as a list means choices",
}
_ONE_OF = {
    "numbers": "a number",
    "text": "text",
    "true or false": "true or false",
    "lists or objects": "no single value",
}
_FITTING: Mapping[type, tuple[str | None, ...]] = {
    str: ("str", None),
    int: ("int", "float", None),
    float: ("float", None),
    bool: ("bool", None),
    type(None): tuple(_DTYPES),
}
_TIED = frozenset(
    {
        *("default", "minimum", "maximum", "step"),
        *("param_type", "channel_start", "channel_start_label"),
    }
)


def _is_plain(parameter: dict[str, Any]) -> bool:
    """Whether one look shows that value, type and bounds agree, as in nearly all of thousands."""
    value = parameter.get("value")
    return (
        parameter.get("dtype") in _FITTING.get(type(value), ())
        and _TIED.isdisjoint(parameter)
        and (type(value) is not float or math.isfinite(value))
    )


def _is_usable(argument: str) -> bool:
    return argument.isidentifier() and argument not in _RESERVED


def _argument_key(parameter: dict[str, Any]) -> str:
    return "name" if parameter.get("arg_name") is None else "arg_name"


def _argument(parameter: dict[str, Any], argument: str, path: Path) -> Iterator[Finding]:
    at = _argument_key(parameter)
    if argument in HOST_ARGUMENTS:
        yield Finding(
            (*path, at),
            "arg-name",
            f"{shown(argument)}, which the host itself passes to runners",
            f"a name other than {listing(sorted(HOST_ARGUMENTS))}",
        )
    elif keyword.iskeyword(argument):
        yield Finding(
            (*path, at),
            "arg-name",
            f"{shown(argument)}, a word that runners cannot use",
            "another arg_name",
            f'such as "{argument}_"',
        )
    elif argument and at == "name":
        slug = family_slug(argument)
        yield Finding(
            (*path, at),
            "arg-name",
            f"the name {shown(argument)} without an arg_name",
            "an arg_name of letters, digits and _",
            f'add "arg_name": "{slug}"' if _is_usable(slug) else 'add "arg_name"',
        )


def _value(parameter: dict[str, Any], path: Path) -> Iterator[Finding]:
    if "value" not in parameter:
        return
    value, dtype, default = parameter["value"], _dtype(parameter), parameter.get("default")
    at: Path = (*path, "value")
    if isinstance(value, list):
        yield from _choices(value, dtype, default, path)
    elif default is not None:
        yield Finding(
            (*path, "default"),
            "default",
            "a default beside a single value",
            "default only where value is a list of choices",
            "write it as the value",
        )
    elif _is_infinite(value):
        yield Finding(at, "value", shown(value), "a finite number")
    elif isinstance(value, dict):
        yield Finding(at, "value", "an object", "text, a number, true, false, null or a list")
    elif value is None:
        if parameter.get("dtype") is None:
            yield Finding(
                at,
                "missing-dtype",
                "null without a dtype",
                "a dtype, so that a form can be made",
                'add "dtype": "float" (or str, int, bool, list, tuple)',
            )
    elif dtype is not None and not _is_a(value, dtype):
        yield Finding(
            at,
            "dtype",
            f"{shown(value)}, where dtype is {shown(dtype)}",
            _DTYPES[dtype],
            f'did you mean "dtype": "{_kind(value)}"?',
        )


def _choices(choices: list[Any], dtype: str | None, default: Any, path: Path) -> Iterator[Finding]:
    at: Path = (*path, "value")
    if not choices:
        yield Finding(at, "empty-choices", "an empty list of choices", "at least one choice")
        return
    wrong = next(
        (i for i, item in enumerate(choices) if _kind(item) == "other" or _is_infinite(item)), None
    )
    if wrong is not None:
        yield Finding(
            (*at, wrong),
            "choices",
            f"{shown(choices[wrong])} among the choices",
            "only text, only numbers, or only true and false",
        )
        return
    kinds = {_group(item) for item in choices}
    if len(kinds) > 1:
        yield Finding(
            at,
            "choices",
            f"choices of several types: {listing(sorted(kinds), 'and')}",
            "choices of one type",
        )
        return
    if len({(str, item) if isinstance(item, str) else item for item in choices}) != len(choices):
        yield Finding(at, "choices", "the same choice twice", "each choice once")
    if dtype is not None and (odd := [item for item in choices if not _is_a(item, dtype)]):
        yield Finding(
            (*path, "dtype"),
            "dtype",
            f'"{dtype}" for the choice {shown(odd[0])}',
            f'the type of the choices, such as "{_kind(odd[0])}"',
        )
    if default is None:
        return
    kind = next(iter(kinds))
    if _group(default) != kind:
        yield Finding(
            (*path, "default"),
            "default",
            f"{shown(default)}, which is {_ONE_OF[_group(default)]}",
            f"one of the choices, which are {kind}",
        )
    elif default not in choices:
        close = nearest(default, choices) if isinstance(default, str) else []
        yield Finding(
            (*path, "default"),
            "default",
            f"{shown(default)}, which is not among the choices",
            f"one of {listing(map(shown, choices))}",
            f"did you mean {shown(close[0])}?" if close else None,
        )


def _is_infinite(value: Any) -> bool:
    """Whether `value` is an infinity or NaN, which JSON cannot say."""
    return isinstance(value, float) and not math.isfinite(value)


def _is_quoted_number(value: Any) -> bool:
    return isinstance(value, str) and value.replace(".", "", 1).lstrip("-").isdigit()


def _bounds(parameter: dict[str, Any], path: Path) -> Iterator[Finding]:
    given = [key for key in ("minimum", "maximum", "step") if parameter.get(key) is not None]
    if not given:
        return
    value = parameter.get("value")
    values = value if isinstance(value, list) else [] if value is None else [value]
    groups = {_group(item) for item in values}
    if len(groups) > 1 or "lists or objects" in groups:
        return  # said already
    if groups - {"numbers"} or _dtype(parameter) not in (None, "int", "float"):
        yield Finding(
            (*path, given[0]),
            "bounds",
            f"{given[0]} for a value that is no number",
            f"{given[0]} only where the value is a number",
            "write the value without quotes?" if _is_quoted_number(value) else None,
        )
        return
    low, high = parameter.get("minimum"), parameter.get("maximum")
    if not _is_number(low) or not _is_number(high):
        return
    if low is not None and high is not None and low > high:
        yield Finding(
            (*path, "minimum"),
            "bounds",
            f"a minimum of {low} above the maximum of {high}",
            "a minimum below the maximum",
        )
        return
    for index, item in enumerate(values):
        at: Path = (*path, "value", index) if isinstance(value, list) else (*path, "value")
        if (low is not None and item < low) or (high is not None and item > high):
            bounds = " and ".join(
                f"{word} {bound}"
                for word, bound in (("at least", low), ("at most", high))
                if bound is not None
            )
            beyond = "below its minimum" if low is not None and item < low else "above its maximum"
            yield Finding(at, "bounds", f"{shown(item)}, which is {beyond}", bounds)


def _channel(parameter: dict[str, Any], path: Path) -> Iterator[Finding]:
    channel = parameter.get("param_type") == "channel"
    start = parameter.get("channel_start")
    if not channel:
        if parameter.get("param_type") is not None:
            return  # the schema says what else it may be
        for key in ("channel_start", "channel_start_label"):
            if parameter.get(key) not in (None, -1, "original"):
                yield Finding(
                    (*path, key),
                    "channel",
                    f"{key} of a parameter that is no channel",
                    f'{key} only with "param_type": "channel"',
                )
        return
    value = parameter.get("value")
    if isinstance(value, bool) or not isinstance(value, int | None):
        yield Finding(
            (*path, "value"), "channel", f"{shown(value)} for a channel", "the number of a channel"
        )
    elif value is not None and value < (-1 if start is None else start if start == 0 else -1):
        yield Finding(
            (*path, "value"),
            "channel",
            f"channel {value}",
            f"{-1 if start is None else start} or more",
        )


def _dtype(parameter: dict[str, Any]) -> str | None:
    """The dtype, if it is one of those there are: the schema says it of any other."""
    dtype = parameter.get("dtype")
    return dtype if isinstance(dtype, str) and dtype in _DTYPES else None


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _is_a(value: Any, dtype: str) -> bool:
    expected = _TYPES.get(dtype)
    if expected is None:
        return False  # list and tuple: only a null value, as a list means choices
    if isinstance(value, bool):
        return dtype == "bool"
    return isinstance(value, expected)


def _kind(value: Any) -> str:
    for dtype in ("bool", "str", "int", "float"):
        if _is_a(value, dtype):
            return dtype
    return "other"


def _group(value: Any) -> str:
    return {"bool": "true or false", "str": "text", "other": "lists or objects"}.get(
        _kind(value), "numbers"
    )
