"""Warnings: what a manifest may leave out, and its users will miss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiod.registry.jsontext import Path
from aiod.registry.problems import Finding
from aiod.registry.rules import needs_weights
from aiod.registry.urls import lacks_scheme
from aiod.words import listing, shown

MISSING_SENTENCE = "Description missing: say here what the model segments, and in which images."
MISSING_TITLE = "Title missing"


def warnings_of(document: dict[str, Any]) -> Iterator[Finding]:
    """Every warning of a manifest; parts with a wrong type are passed over."""
    yield from _placeholders(document.get("metadata"), ("metadata",))
    yield from _status(document.get("metadata"), ("metadata",))
    yield from _schemes(document, ("config", "config_path"), ())
    yield from _tooltips(document.get("params"), ("params",))
    for name, version in _items(document.get("versions")):
        path: Path = ("versions", name)
        yield from _placeholders(version.get("metadata"), (*path, "metadata"))
        yield from _status(version.get("metadata"), (*path, "metadata"))
        for task, entry in _items(version.get("tasks")):
            here: Path = (*path, "tasks", task)
            yield from _placeholders(entry.get("metadata"), (*here, "metadata"))
            yield from _status(entry.get("metadata"), (*here, "metadata"))
            yield from _tooltips(entry.get("params"), (*here, "params"))
            yield from _locations(entry, here)
    yield from _inherited(document)


def entries_of(entry: dict[str, Any]) -> list[tuple[Path, dict[str, Any]]]:
    """The locations of a task, long or short form, with their paths below the task."""
    if isinstance(entry.get("location"), str):
        return [((), entry)]
    locations = entry.get("locations")
    return [
        (("locations", index), item)
        for index, item in enumerate(locations if isinstance(locations, list) else [])
        if isinstance(item, dict)
    ]


def _items(value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict):
        yield from ((name, item) for name, item in value.items() if isinstance(item, dict))


def _placeholders(metadata: Any, path: Path) -> Iterator[Finding]:
    if not isinstance(metadata, dict):
        return
    if metadata.get("description") == MISSING_SENTENCE:
        yield Finding(
            (*path, "description"),
            "no-description",
            "the note that a description is missing",
            "what it segments, in which images, in a sentence or two",
        )
    pubs = metadata.get("pubs")
    for index, pub in enumerate(pubs if isinstance(pubs, list) else []):
        if isinstance(pub, dict) and pub.get("title") == MISSING_TITLE:
            yield Finding(
                (*path, "pubs", index, "title"),
                "no-title",
                "the note that a title is missing",
                "the title as published",
            )


def _status(metadata: Any, path: Path) -> Iterator[Finding]:
    status = metadata.get("status") if isinstance(metadata, dict) else None
    whole = {"state": status} if isinstance(status, str) else status
    if not isinstance(whole, dict) or whole.get("state") != "deprecated":
        return
    missing = [key for key in ("reason", "successor") if not whole.get(key)]
    if missing:
        yield Finding(
            (*path, "status"),
            "deprecated",
            f"deprecated without {listing(missing, 'and')}",
            listing((_WORDS_OF_STATUS[key] for key in missing), "and"),
            'write {"state": "deprecated", "reason": "…", "successor": "family/version"}',
        )


_WORDS_OF_STATUS = {"reason": "why", "successor": "what to use instead"}


def _tooltips(params: Any, path: Path) -> Iterator[Finding]:
    for index, parameter in enumerate(params if isinstance(params, list) else []):
        if isinstance(parameter, dict) and not parameter.get("tooltip"):
            yield Finding(
                (*path, index, "name"),
                "no-tooltip",
                f"no tooltip for {shown(parameter.get('name'))}",
                "a sentence on what turning this knob does to the result",
            )


def _locations(entry: dict[str, Any], path: Path) -> Iterator[Finding]:
    if "location" in entry and "locations" in entry:
        return  # an error, and which of the two is meant is not known
    found = [
        (below, item, item["location"])
        for below, item in entries_of(entry)
        if isinstance(item.get("location"), str)
    ]
    for below, item, location in found:
        yield from _schemes(item, ("location", "config_path"), (*path, *below))
        if not item.get("sha256"):
            insecure = location.lower().startswith("http://")
            yield Finding(
                (*path, *below, "location"),
                "no-hash",
                "an unencrypted location without sha256" if insecure else "no sha256",
                "the hash of the file, so that a changed download is noticed",
                "`aiod new location` computes it",
            )
    hashes = {item["sha256"] for _, item, _ in found if isinstance(item.get("sha256"), str)}
    if len(hashes) > 1:
        yield Finding(
            (*path, "locations"),
            "different-weights",
            "locations whose sha256 differ",
            "the same file in every location: users get the first that they can reach",
            "give different weights a version of their own",
        )
    if found and all(_is_private(location) for _, _, location in found):
        yield Finding(
            (*path, *found[0][0], "location"),
            "private-paths",
            "absolute paths only",
            "a URL, or a path relative to the manifest, that others can reach too",
            "fine in a layer of your own; not for sharing",
        )


def _schemes(table: dict[str, Any], fields: tuple[str, ...], path: Path) -> Iterator[Finding]:
    for field in fields:
        location = table.get(field)
        if isinstance(location, str) and lacks_scheme(location):
            yield Finding(
                (*path, field),
                "no-scheme",
                "a path relative to the manifest that begins like a web address",
                "a URL with its https://",
                f'did you mean "https://{location}"? A folder of that name is "./{location}"',
            )


def _is_private(location: str) -> bool:
    return location.startswith(("/", "~", "\\\\", "file:")) or location[1:3] in (":\\", ":/")


def _inherited(document: dict[str, Any]) -> Iterator[Finding]:
    """Licence and publications, where neither a task nor its version nor its family gives them.

    One warning at the family where all lack it, one for each version otherwise.
    """
    family = document.get("metadata")
    wanted = {"no-code-licence", "no-weights-licence", "no-publication"}
    lacking: dict[str, list[str]] = {code: [] for code in sorted(wanted)}
    versions = dict(_items(document.get("versions")))
    for name, version in versions.items():
        tasks = dict(_items(version.get("tasks")))
        for code in wanted:
            chains = [
                (entry.get("metadata"), version.get("metadata"), family, entry)
                for entry in tasks.values()
            ]
            if any(_lacks(code, chain[:3], needs_weights(chain[3], version)) for chain in chains):
                lacking[code].append(name)
    texts = {
        "no-code-licence": (
            "no licence of the code",
            'metadata.license.code: an SPDX id such as "MIT"',
        ),
        "no-weights-licence": (
            "no licence of the weights",
            'metadata.license.weights: an SPDX id such as "CC-BY-4.0"',
        ),
        "no-publication": ("no publication", "metadata.pubs: what users should cite"),
    }
    for code, names in lacking.items():
        found, expected = texts[code]
        if names and len(names) == len(versions):
            yield Finding(("metadata",), code, found, expected)
        else:
            for name in names:
                yield Finding(("versions", name), code, found, expected)


def _lacks(code: str, chain: tuple[Any, ...], needs: bool) -> bool:
    if code == "no-weights-licence" and not needs:
        return False
    for metadata in chain:
        if not isinstance(metadata, dict):
            continue
        if code == "no-publication":
            if "pubs" in metadata:
                return not metadata["pubs"]
        elif "license" in metadata:
            licence = metadata["license"]
            key = "code" if code == "no-code-licence" else "weights"
            return not (licence.get(key) if isinstance(licence, dict) else licence)
    return True
