"""Rules that tie several fields of a manifest together.

They read the document as it was parsed, not the typed models, and pass over whatever has a wrong
type (the schema says that): so one look at a file finds all its problems at once, and a path says
where each is.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aiod.registry.jsontext import Path
from aiod.words import family_slug, listing, nearest, version_slug

# Keywords of `predict` and `load` that the host itself passes.
HOST_ARGUMENTS = frozenset({"model", "image", "axes", "weights", "config", "device", "statistics"})

_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "str": str, "int": int, "float": (int, float), "bool": bool,
}  # fmt: skip
_FAMILY_SLUG = re.compile(r"[a-z][a-z0-9_]*\Z")


@dataclass(frozen=True, slots=True)
class Broken:
    """A broken rule: where (a path into the document), what was found, what is expected."""

    path: Path
    code: str
    found: str
    expected: str
    hint: str | None = None


def broken_rules(document: dict[str, Any], tasks: Mapping[str, str]) -> Iterator[Broken]:
    """Every broken rule of a manifest whose tasks are named in `tasks`."""
    yield from _family(document)
    yield from _parameters(document.get("params"), ("params",))
    versions = document.get("versions")
    if not isinstance(versions, dict):
        return
    yield from _slugs(versions)
    for name, version in versions.items():
        if not isinstance(version, dict):
            continue
        path: Path = ("versions", name)
        if "metadata" in version:
            yield from _spatial_lists(version["metadata"], version.get("axes"), path)
        entries = version.get("tasks")
        for task, entry in entries.items() if isinstance(entries, dict) else ():
            here: Path = (*path, "tasks", task)
            if task not in tasks:
                yield _unknown_task(task, tasks, here)
            if isinstance(entry, dict):
                yield from _weights(entry, version.get("weights"), here)
                if "params" in entry:
                    yield from _parameters(entry["params"], (*here, "params"))
                if "metadata" in entry:
                    yield from _spatial_lists(entry["metadata"], version.get("axes"), here)


def slug_of(name: str, version: Mapping[str, Any]) -> str:
    """The slug of a version: its own, or the one derived from its name."""
    slug = version.get("slug")
    return slug if isinstance(slug, str) else version_slug(name)


def short_name_of(document: Mapping[str, Any]) -> str:
    """The short name of a family: its own, or the one derived from its name."""
    short = document.get("short_name")
    if isinstance(short, str):
        return short
    name = document.get("name")
    return family_slug(name) if isinstance(name, str) else ""


def argument_of(parameter: Mapping[str, Any]) -> str:
    """The runner's keyword for a parameter: `arg_name`, or `name` where it is absent."""
    argument = parameter.get("arg_name")
    return str(parameter.get("name", "") if argument is None else argument)


def needs_weights(entry: Mapping[str, Any], version: Mapping[str, Any]) -> bool:
    """False for an algorithm: `"weights": false` in the task or in its version."""
    return entry.get("weights") is not False and version.get("weights") is not False


def _family(document: dict[str, Any]) -> Iterator[Broken]:
    name = document.get("name")
    if document.get("short_name") is None and isinstance(name, str):
        derived = family_slug(name)
        if not _FAMILY_SLUG.match(derived):
            yield Broken(
                ("name",), "short-name", f"a name from which no short_name follows ({derived!r})",
                "a short_name of lower-case letters, digits and _ (first a letter)",
                'add "short_name"',
            )  # fmt: skip
    if document.get("config") is not None and document.get("config_path") is not None:
        yield Broken(("config_path",), "config", "both config and config_path", "one of the two")


def _slugs(versions: dict[str, Any]) -> Iterator[Broken]:
    taken: dict[str, str] = {}
    for name, version in versions.items():
        if not isinstance(version, dict):
            continue
        own = version.get("slug") is not None
        path: Path = ("versions", name, "slug") if own else ("versions", name)
        slug = slug_of(name, version)
        if not own and (not slug or ".." in slug):
            yield Broken(
                path, "slug", "a name from which no slug follows", "a slug of letters and digits",
                'add "slug"',
            )  # fmt: skip
            continue
        # Folders of macOS and Windows do not tell upper from lower case.
        for key in {slug.casefold(), name.casefold()}:
            other = taken.setdefault(key, name)
            if other != name:
                yield Broken(
                    path, "slug-collision",
                    f"the slug or name {slug!r}, which version {other!r} has already",
                    "a slug of its own (upper and lower case count as the same)",
                    'give one of the two another "slug"',
                )  # fmt: skip
                break


def _unknown_task(task: str, tasks: Mapping[str, str], path: Path) -> Broken:
    close = nearest(task, tasks)
    same = bool(close) and close[0].casefold() == task.casefold()
    hint = f'did you mean "{close[0]}"?' if close else "add it as one line to manifests/tasks.json"
    return Broken(
        path, "unknown-task",
        f'the task "{task}"' + (" in the wrong letter case" if same else ""),
        f"one of {listing(tasks)}", hint,
    )  # fmt: skip


def _weights(entry: dict[str, Any], version_weights: Any, path: Path) -> Iterator[Broken]:
    given = [key for key in ("locations", "location") if entry.get(key) is not None]
    without = entry.get("weights") is False or version_weights is False
    if len(given) == 2:
        yield Broken(
            (*path, "location"), "locations", "both locations and location", "one of the two",
            "move it into the list",
        )  # fmt: skip
    elif without and given:
        yield Broken(
            (*path, given[0]), "locations", f'{given[0]}, where "weights" is false',
            "no location for an algorithm",
        )  # fmt: skip
    elif not without and not given:
        yield Broken(
            path, "missing-locations", "no location", "a list `locations` with at least one entry",
            'or "weights": false for an algorithm that needs none',
        )  # fmt: skip
    if entry.get("config_path") is not None and "locations" in given:
        yield Broken(
            (*path, "config_path"), "locations", "config_path beside locations",
            "config_path inside the entry of locations that it belongs to",
        )  # fmt: skip


def _spatial_lists(metadata: Any, axes: Any, path: Path) -> Iterator[Broken]:
    """`pixel_size` and `halo` as lists have one number for each spatial axis."""
    if not isinstance(metadata, dict) or not isinstance(axes, str):
        return
    spatial = [axis for axis in axes if axis in "ZYX"]
    size = metadata.get("pixel_size")
    values = (
        ("halo", metadata.get("halo"), ("halo",)),
        ("pixel_size", size.get("value") if isinstance(size, dict) else None,
         ("pixel_size", "value")),
    )  # fmt: skip
    for field, value, below in values:
        if isinstance(value, list) and len(value) != len(spatial):
            yield Broken(
                (*path, "metadata", *below), "spatial-axes",
                f"{len(value)} numbers for the {len(spatial)} spatial axes of {axes!r}",
                f"{field} with one number for each of {listing(spatial, 'and')}",
            )  # fmt: skip


def _parameters(params: Any, path: Path) -> Iterator[Broken]:
    if not isinstance(params, list):
        return
    taken: dict[str, int] = {}
    for index, parameter in enumerate(params):
        if not isinstance(parameter, dict):
            continue
        here: Path = (*path, index)
        # Thousands of manifests are read at a time: most parameters need none of these looks.
        if not _TYPED.isdisjoint(parameter) or isinstance(parameter.get("value"), list | dict | None):
            yield from _value(parameter, here)
        if not _BOUNDED.isdisjoint(parameter):
            yield from _bounds(parameter, here)
        if not _OF_CHANNELS.isdisjoint(parameter):
            yield from _channel(parameter, here)
        argument = argument_of(parameter)
        if argument in HOST_ARGUMENTS or not argument.isidentifier() or keyword.iskeyword(argument):
            yield from _argument(parameter, argument, here)
        elif taken.setdefault(argument, index) != index:
            first = params[taken[argument]]
            yield Broken(
                (*here, _argument_key(parameter)), "duplicate-argument",
                f"the argument {argument!r} a second time (first in {first.get('name')!r})",
                "each argument once in a list", 'give one of them another "arg_name"',
            )  # fmt: skip


_TYPED = frozenset({"dtype", "default"})
_BOUNDED = frozenset({"minimum", "maximum", "step"})
_OF_CHANNELS = frozenset({"param_type", "channel_start", "channel_start_label"})


def _argument_key(parameter: dict[str, Any]) -> str:
    return "name" if parameter.get("arg_name") is None else "arg_name"


def _argument(parameter: dict[str, Any], argument: str, path: Path) -> Iterator[Broken]:
    at = _argument_key(parameter)
    if argument in HOST_ARGUMENTS:
        yield Broken(
            (*path, at), "arg-name", f"{argument!r}, which the host itself passes to runners",
            f"a name other than {listing(sorted(HOST_ARGUMENTS))}",
        )  # fmt: skip
    elif argument and (at == "name" or keyword.iskeyword(argument)):
        yield Broken(
            (*path, at), "arg-name", f"{argument!r}, which cannot be an argument",
            "arg_name: a Python argument name", f'add "arg_name": "{family_slug(argument)}"',
        )  # fmt: skip


def _value(parameter: dict[str, Any], path: Path) -> Iterator[Broken]:
    if "value" not in parameter:
        return
    value, dtype, default = parameter["value"], parameter.get("dtype"), parameter.get("default")
    at: Path = (*path, "value")
    if isinstance(value, list):
        yield from _choices(value, dtype, default, path)
    elif default is not None:
        yield Broken(
            (*path, "default"), "default", "a default beside a single value",
            "default only where value is a list of choices", "write it as the value",
        )  # fmt: skip
    elif isinstance(value, dict):
        yield Broken(at, "value", "an object", "text, a number, true, false, null or a list")
    elif value is None:
        if dtype is None:
            yield Broken(
                at, "missing-dtype", "null without a dtype", "a dtype, so that a form can be made",
                'add "dtype": "float" (or str, int, bool, list, tuple)',
            )  # fmt: skip
    elif isinstance(dtype, str) and not _is_a(value, dtype):
        yield Broken(
            at, "dtype", f"{_shown(value)}, which is no {dtype}", f'a value of dtype "{dtype}"',
            f'did you mean "dtype": "{_kind(value)}"?',
        )  # fmt: skip


def _choices(choices: list[Any], dtype: Any, default: Any, path: Path) -> Iterator[Broken]:
    at: Path = (*path, "value")
    if not choices:
        yield Broken(at, "empty-choices", "an empty list of choices", "at least one choice")
        return
    wrong = next((i for i, item in enumerate(choices) if _kind(item) == "other"), None)
    if wrong is not None:
        yield Broken(
            (*at, wrong), "choices", f"{_shown(choices[wrong])} among the choices",
            "text, numbers, or true and false",
        )  # fmt: skip
        return
    kinds = {_group(item) for item in choices}
    if len(kinds) > 1:
        yield Broken(
            at, "choices", f"choices of several types: {listing(sorted(kinds), 'and')}",
            "choices of one type",
        )  # fmt: skip
        return
    if len({(str, item) if isinstance(item, str) else item for item in choices}) != len(choices):
        yield Broken(at, "choices", "the same choice twice", "each choice once")
    if isinstance(dtype, str) and (odd := [item for item in choices if not _is_a(item, dtype)]):
        yield Broken(
            (*path, "dtype"), "dtype", f'"{dtype}" for the choice {_shown(odd[0])}',
            f'the type of the choices, such as "{_kind(odd[0])}"',
        )  # fmt: skip
    if default is None:
        return
    kind = next(iter(kinds))
    if _group(default) != kind:
        yield Broken(
            (*path, "default"), "default", f"{_shown(default)}, which is {_group(default)}",
            f"one of the choices, which are {kind}",
        )  # fmt: skip
    elif default not in choices:
        close = nearest(default, choices) if isinstance(default, str) else []
        yield Broken(
            (*path, "default"), "default", f"{_shown(default)}, which is not among the choices",
            f"one of {listing(map(_shown, choices))}",
            f"did you mean {_shown(close[0])}?" if close else None,
        )  # fmt: skip


def _bounds(parameter: dict[str, Any], path: Path) -> Iterator[Broken]:
    given = [key for key in ("minimum", "maximum", "step") if parameter.get(key) is not None]
    if not given:
        return
    value, dtype = parameter.get("value"), parameter.get("dtype")
    values = value if isinstance(value, list) else [] if value is None else [value]
    numeric = all(_group(item) == "numbers" for item in values)
    if not numeric or dtype not in (None, "int", "float"):
        yield Broken(
            (*path, given[0]), "bounds", f"{given[0]} for a value that is no number",
            "bounds only for numbers",
        )  # fmt: skip
        return
    low, high = parameter.get("minimum"), parameter.get("maximum")
    if not _is_number(low) or not _is_number(high):
        return
    if low is not None and high is not None and low > high:
        yield Broken(
            (*path, "minimum"), "bounds", f"minimum {low} above maximum {high}",
            "minimum at most maximum",
        )  # fmt: skip
        return
    for index, item in enumerate(values):
        at: Path = (*path, "value", index) if isinstance(value, list) else (*path, "value")
        if (low is not None and item < low) or (high is not None and item > high):
            bounds = " and ".join(
                f"{word} {bound}"
                for word, bound in (("at least", low), ("at most", high))
                if bound is not None
            )
            yield Broken(at, "bounds", f"{item}, outside its bounds", bounds)


def _channel(parameter: dict[str, Any], path: Path) -> Iterator[Broken]:
    channel = parameter.get("param_type") == "channel"
    start = parameter.get("channel_start")
    if not channel:
        for key in ("channel_start", "channel_start_label"):
            if parameter.get(key) not in (None, -1, "original"):
                yield Broken(
                    (*path, key), "channel", f"{key} of a parameter that is no channel",
                    f'{key} only with "param_type": "channel"',
                )  # fmt: skip
        return
    value = parameter.get("value")
    if isinstance(value, bool) or not isinstance(value, int | None):
        yield Broken((*path, "value"), "channel", f"{_shown(value)} for a channel",
                     "the number of a channel")  # fmt: skip
    elif value is not None and value < (-1 if start is None else start if start == 0 else -1):
        yield Broken((*path, "value"), "channel", f"channel {value}",
                     f"{-1 if start is None else start} or more")  # fmt: skip


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


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"
