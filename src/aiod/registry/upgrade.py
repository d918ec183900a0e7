"""Older forms of AIoD's manifests, recognised and rewritten into today's.

The format has changed several times since 2023: versions and tasks were lists, a parameter's
`arg_name` was `short_name`, `metadata` did not exist, a task had one `location` string, then a
list of them with a parallel list `config_path`, and for some months a `location_type`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aiod.registry.jsontext import Path
from aiod.registry.lint import MISSING_SENTENCE, MISSING_TITLE
from aiod.registry.problems import path_in_words
from aiod.words import counted, family_slug


@dataclass(frozen=True, slots=True)
class OldForm:
    """The first sign of an older form: where, and what it is in words."""

    path: Path
    words: str


def old_form(document: dict[str, Any]) -> OldForm | None:
    """Why a manifest is of an older form; None for one that is (or tries to be) of today's."""
    versions = document.get("versions")
    if isinstance(versions, list):
        return OldForm(("versions",), "versions as a list")
    if "arg_name" in document:
        return OldForm(("arg_name",), "arg_name of a family, which is short_name today")
    for path, params in _parameter_lists(document):
        for index, parameter in enumerate(params):
            for old, new in _RENAMED.items():
                if _is_old(parameter, old, new):
                    words = f"{old} of a parameter, which is {new} today"
                    return OldForm((*path, index, old), words)
    for name, version in versions.items() if isinstance(versions, dict) else ():
        tasks = version.get("tasks") if isinstance(version, dict) else None
        below: Path = ("versions", name, "tasks")
        if isinstance(tasks, list):
            return OldForm(below, "tasks as a list")
        for task, entry in tasks.items() if isinstance(tasks, dict) else ():
            if not isinstance(entry, dict):
                continue
            if "location_type" in entry:
                return OldForm((*below, task, "location_type"), "location_type")
            if isinstance(entry.get("location"), list):
                return OldForm((*below, task, "location"), "location as a list of texts")
    return None


def _is_old(parameter: Any, old: str, new: str) -> bool:
    if not isinstance(parameter, dict) or old not in parameter or new in parameter:
        return False
    return old != "type" or parameter[old] == "channel"  # else somebody means dtype


_RENAMED = {"short_name": "arg_name", "type": "param_type"}


def upgrade(document: dict[str, Any], tasks: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Today's form of a manifest, and a sentence for each thing that changed.

    The document given is left as it is. What cannot be known stays as it was, for `validate` to
    report: this never guesses weights, tasks or values.
    """
    new = copy.deepcopy(document)
    changes = [
        *_rename_family(new),
        *_lists_to_tables(new),
        *_rename_parameters(new),
        *_name_arguments(new),
        *_tasks_in_right_case(new, tasks),
        *_locations(new),
        *_say_what_is_missing(new),
    ]
    return new, changes


def _parameter_lists(document: dict[str, Any]) -> Iterator[tuple[Path, list[Any]]]:
    if isinstance(document.get("params"), list):
        yield ("params",), document["params"]
    for path, entry in _entries(document):
        if isinstance(entry.get("params"), list):
            yield (*path, "params"), entry["params"]


def _entries(document: dict[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    for name, tasks in _task_tables(document):
        for task, entry in tasks.items():
            if isinstance(entry, dict):
                yield ("versions", name, "tasks", task), entry


def _task_tables(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    versions = document.get("versions")
    for name, version in versions.items() if isinstance(versions, dict) else ():
        tasks = version.get("tasks") if isinstance(version, dict) else None
        if isinstance(tasks, dict):
            yield name, tasks


def _renamed(table: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    """The same table with one key renamed, in the same place."""
    return {new if key == old else key: value for key, value in table.items()}


def _replace(table: dict[str, Any], content: dict[str, Any]) -> None:
    table.clear()
    table.update(content)


def _rename_family(document: dict[str, Any]) -> Iterator[str]:
    if "arg_name" in document and "short_name" not in document:
        _replace(document, _renamed(document, "arg_name", "short_name"))
        yield "arg_name of the family is short_name now"
    short = document.get("short_name")
    if isinstance(short, str) and short and family_slug(short) != short:
        document["short_name"] = family_slug(short)
        yield f'short_name "{short}" is "{document["short_name"]}" now, as it names the runner'


def _lists_to_tables(document: dict[str, Any]) -> Iterator[str]:
    versions = document.get("versions")
    if (table := _table(versions, "name")) is not None:
        document["versions"] = versions = table
        yield f"versions are a table by name now ({counted(len(table), 'version')})"
    lists = 0
    for version in versions.values() if isinstance(versions, dict) else ():
        if (
            isinstance(version, dict)
            and (table := _table(version.get("tasks"), "task")) is not None
        ):
            version["tasks"] = table
            lists += 1
    if lists:
        yield f"tasks are a table by short name now (in {counted(lists, 'version')})"


def _table(items: Any, key: str) -> dict[str, Any] | None:
    """A list of objects as a table by one of their keys; None where it cannot be one."""
    if not isinstance(items, list) or not items:
        return None
    if not all(isinstance(item, dict) and isinstance(item.get(key), str) for item in items):
        return None
    table = {item[key]: {k: v for k, v in item.items() if k != key} for item in items}
    return table if len(table) == len(items) else None


def _rename_parameters(document: dict[str, Any]) -> Iterator[str]:
    counts = dict.fromkeys(_RENAMED, 0)
    for _, params in _parameter_lists(document):
        for parameter in params:
            for old, new in _RENAMED.items():
                if _is_old(parameter, old, new):
                    _replace(parameter, _renamed(parameter, old, new))
                    counts[old] += 1
    for old, count in counts.items():
        if count:
            yield f"{old} is {_RENAMED[old]} now (in {counted(count, 'parameter')})"


def _name_arguments(document: dict[str, Any]) -> Iterator[str]:
    """Without arg_name the name was the argument, even where Python could never take it."""
    for _, params in _parameter_lists(document):
        for parameter in params:
            name = parameter.get("name") if isinstance(parameter, dict) else None
            if not isinstance(name, str) or "arg_name" in parameter or name.isidentifier():
                continue
            if argument := family_slug(name):
                items = list(parameter.items())
                items.insert(list(parameter).index("name") + 1, ("arg_name", argument))
                _replace(parameter, dict(items))
                yield f'parameter "{name}" has the arg_name "{argument}" now'


def _tasks_in_right_case(document: dict[str, Any], tasks: Mapping[str, str]) -> Iterator[str]:
    right = {task.casefold(): task for task in tasks}
    for version, table in _task_tables(document):
        for task in list(table):
            mended = right.get(task.casefold(), task)
            if mended != task and mended not in table:
                _replace(table, _renamed(table, task, mended))
                yield f'task "{task}" of version "{version}" is "{mended}" now'


def _locations(document: dict[str, Any]) -> Iterator[str]:
    moved = types = 0
    for _, entry in _entries(document):
        types += "location_type" in entry
        entry.pop("location_type", None)
        places = _location_list(entry)
        if places is None:
            continue
        content: dict[str, Any] = {}
        for key, value in entry.items():
            if key == "location":
                content["locations"] = places
            elif key != "config_path":
                content[key] = value
        _replace(entry, content)
        moved += 1
    if types:
        yield f"location_type is gone: the location itself tells (in {counted(types, 'task')})"
    if moved:
        yield f"location is a list of locations now (in {counted(moved, 'task')})"


def _location_list(entry: dict[str, Any]) -> list[dict[str, Any]] | None:
    location, config = entry.get("location"), entry.get("config_path")
    if "locations" in entry or location is None:
        return None
    locations = location if isinstance(location, list) else [location]
    configs = config if isinstance(config, list) else [config] * len(locations)
    if not all(isinstance(item, str) for item in locations) or len(configs) > len(locations):
        return None
    configs = configs + [None] * (len(locations) - len(configs))
    return [
        {"location": place} if beside is None else {"location": place, "config_path": beside}
        for place, beside in zip(locations, configs, strict=True)
    ]


def _say_what_is_missing(document: dict[str, Any]) -> Iterator[str]:
    if document.get("metadata") is None:
        items = [(key, value) for key, value in document.items() if key != "metadata"]
        index = next((i for i, (key, _) in enumerate(items) if key == "versions"), len(items))
        items.insert(index, ("metadata", {"description": MISSING_SENTENCE}))
        _replace(document, dict(items))
        yield "the description was missing; a note in its place says so"
    for path, metadata in _metadata_blocks(document):
        of = f" of {path_in_words(path)}" if path else ""
        if not metadata.get("description"):
            rest = {key: value for key, value in metadata.items() if key != "description"}
            _replace(metadata, {"description": MISSING_SENTENCE, **rest})
            yield f"the description{of} was missing; a note in its place says so"
        pubs = metadata.get("pubs")
        for pub in pubs if isinstance(pubs, list) else ():
            if isinstance(pub, dict) and not pub.get("title"):
                rest = {key: value for key, value in pub.items() if key != "title"}
                _replace(pub, {"title": MISSING_TITLE, **rest})
                yield f"the title of a publication{of} was missing; a note in its place says so"


def _metadata_blocks(document: dict[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    versions = document.get("versions")
    blocks: list[tuple[Path, Any]] = [((), document)]
    blocks += [
        (("versions", name), version)
        for name, version in (versions.items() if isinstance(versions, dict) else ())
    ]
    blocks += _entries(document)
    for path, block in blocks:
        if isinstance(block, dict) and isinstance(block.get("metadata"), dict):
            yield path, block["metadata"]
