"""Rules that tie several fields of a manifest together.

They read the document as it was parsed, not the typed models, and pass over whatever has a wrong
type (the schema says that): so one look at a file finds all its problems at once, and a path says
where each is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from aiod.registry.jsontext import Path
from aiod.registry.parameter_rules import broken_parameters
from aiod.registry.problems import Finding
from aiod.registry.spatial_rules import broken_inheritance, broken_lists
from aiod.words import family_slug, listing, nearest, shown, version_slug

_FAMILY_SLUG = re.compile(r"[a-z][a-z0-9_]*\Z")


def broken_rules(document: dict[str, Any], tasks: Mapping[str, str]) -> Iterator[Finding]:
    """Every broken rule of a manifest whose tasks are named in `tasks`."""
    yield from _family(document)
    yield from broken_parameters(document.get("params"), ("params",))
    versions = document.get("versions")
    if not isinstance(versions, dict):
        return
    yield from broken_inheritance(document)
    if not _are_distinct(versions):
        yield from _slugs(versions)
    for name, version in versions.items():
        if not isinstance(version, dict):
            continue
        path: Path = ("versions", name)
        if "metadata" in version:
            yield from broken_lists(version["metadata"], version.get("axes"), path)
        entries = version.get("tasks")
        for task, entry in entries.items() if isinstance(entries, dict) else ():
            here: Path = (*path, "tasks", task)
            if task not in tasks:
                yield _unknown_task(task, tasks, here)
            if isinstance(entry, dict):
                if "weights" in version or not _has_locations_only(entry):
                    yield from _weights(entry, version.get("weights"), here)
                if "params" in entry:
                    yield from broken_parameters(entry["params"], (*here, "params"))
                if "metadata" in entry:
                    yield from broken_lists(entry["metadata"], version.get("axes"), here)


def _has_locations_only(entry: dict[str, Any]) -> bool:
    """Whether one look shows that nothing is wrong, as in nearly all of many thousands."""
    return entry.get("locations") is not None and _OTHER_WAYS.isdisjoint(entry)


_OTHER_WAYS = frozenset({"location", "config_path", "weights"})


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


def needs_weights(entry: Mapping[str, Any], version: Mapping[str, Any]) -> bool:
    """False for an algorithm: `"weights": false` in the task or in its version."""
    return entry.get("weights") is not False and version.get("weights") is not False


def _family(document: dict[str, Any]) -> Iterator[Finding]:
    name = document.get("name")
    if document.get("short_name") is None and isinstance(name, str):
        derived = family_slug(name)
        if not _FAMILY_SLUG.match(derived):
            yield Finding(
                ("name",),
                "short-name",
                "a name from which no short_name follows",
                "a short_name of lower-case letters, digits and _ (first a letter)",
                'add "short_name"',
            )
    if document.get("config") is not None and document.get("config_path") is not None:
        yield Finding(("config_path",), "config", "both config and config_path", "one of the two")


def _are_distinct(versions: dict[str, Any]) -> bool:
    """Whether one look shows that names and slugs are all there and all different."""
    keys: set[str] = set()
    wanted = 0
    for name, version in versions.items():
        if not isinstance(version, dict):
            return False
        slug, plain = slug_of(name, version).casefold(), name.casefold()
        keys.add(slug)
        keys.add(plain)
        wanted += 1 if slug == plain else 2
    return len(keys) == wanted and "" not in keys


def _slugs(versions: dict[str, Any]) -> Iterator[Finding]:
    taken: dict[str, str] = {}
    for name, version in versions.items():
        if not isinstance(version, dict):
            continue
        own = version.get("slug") is not None
        path: Path = ("versions", name, "slug") if own else ("versions", name)
        slug = slug_of(name, version)
        if not own and not slug:
            yield Finding(
                path,
                "slug",
                "a name from which no slug follows",
                "a slug of letters and digits, as it names folders",
                'add "slug" to the version',
            )
            continue
        # Folders of macOS and Windows do not tell upper from lower case.
        keys = (name.casefold(), slug.casefold())
        for key in keys[: 1 + (keys[0] != keys[1])]:
            other = taken.setdefault(key, name)
            if other != name:
                yield Finding(
                    path,
                    "slug-collision",
                    f"the slug or name {shown(slug)}, which version {shown(other)} has already",
                    "a slug of its own (upper and lower case count as the same)",
                    'give one of the two another "slug"',
                )
                break


def _unknown_task(task: str, tasks: Mapping[str, str], path: Path) -> Finding:
    close = nearest(task, tasks)
    same = bool(close) and close[0].casefold() == task.casefold()
    hint = f'did you mean "{close[0]}"?' if close else "add it as one line to manifests/tasks.json"
    return Finding(
        path,
        "unknown-task",
        f"the {'' if same else 'unknown '}task {shown(task)}"
        + (" in the wrong letter case" if same else ""),
        f"one of {listing(tasks)}",
        hint,
    )


def _weights(entry: dict[str, Any], version_weights: Any, path: Path) -> Iterator[Finding]:
    given = [key for key in ("locations", "location") if entry.get(key) is not None]
    without = entry.get("weights") is False or version_weights is False
    if len(given) == 2:
        yield Finding(
            (*path, "location"),
            "locations",
            "both locations and location",
            "one of the two",
            "move it into the list",
        )
    elif without and given:
        yield Finding(
            (*path, given[0]),
            "locations",
            f'{given[0]}, where "weights" is false',
            "no location for an algorithm",
        )
    elif not without and not given:
        yield Finding(
            path,
            "missing-locations",
            "no location",
            "a list `locations` with at least one entry",
            'or "weights": false for an algorithm that needs none',
        )
    if entry.get("config_path") is not None and "locations" in given:
        yield Finding(
            (*path, "config_path"),
            "locations",
            "config_path beside locations",
            "config_path inside the entry of locations that it belongs to",
        )
