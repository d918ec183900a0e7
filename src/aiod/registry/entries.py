"""What the index keeps of one manifest: a summary of a good one, the problems of any other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json

from aiod.errors import AiodError
from aiod.files import read_text
from aiod.registry.entry import NEVER, Entry, Signature
from aiod.registry.glance import good_at_a_glance
from aiod.registry.jsontext import IrregularJSON, parse
from aiod.registry.problems import Problem
from aiod.registry.rules import needs_weights, short_name_of, slug_of
from aiod.registry.schema import MAX_MANIFEST_BYTES, Manifest


def read_entry(file: str, signature: Signature, tasks: Mapping[str, str]) -> Entry:
    """Read and validate one manifest."""
    text, family = "", None
    content: Any
    try:
        text = read_text(file, limit=MAX_MANIFEST_BYTES)
        if (document := good_at_a_glance(text, tasks)) is not None:
            return Entry(file, signature, short_name_of(document), to_json(summarise(document)))
        document = parse(text)
        Manifest.model_validate(document, context={"tasks": tasks})
        family, content = short_name_of(document), summarise(document)
    except AiodError as error:
        content = [_plain(unreadable(file, error))]
        signature = NEVER  # whether a file can be read may change without the file
    except (IrregularJSON, ValueError):
        from aiod.registry.explain import explain

        content = [_plain(problem) for problem in explain(text, file, tasks, lint=False)]
    # Unlike to_json it can write a path that is no Unicode.
    return Entry(file, signature, family, json.dumps(content).encode())


def unreadable(file: str, error: AiodError) -> Problem:
    """A file that cannot even be read, as a problem."""
    words = error.what.replace(f"{file} ", "", 1).rstrip(".")
    return Problem("error", "unreadable", file, 1, 1, 1, "", words, "a readable file", error.hint)


def summarise(document: dict[str, Any]) -> dict[str, Any]:
    """The part of a valid manifest that lists, searches and ids need."""
    metadata = document["metadata"]
    return {
        "name": document["name"],
        **_described(metadata),
        "versions": {
            name: {
                "slug": slug_of(name, version),
                "axes": version.get("axes"),
                **_described(version.get("metadata")),
                "tasks": {
                    task: {
                        "own": entry.get("params") is not None or entry.get("metadata") is not None,
                        "weights": needs_weights(entry, version),
                        "locations": _location_texts(entry),
                        **_described(entry.get("metadata")),
                    }
                    for task, entry in version["tasks"].items()
                },
            }
            for name, version in document["versions"].items()
        },
    }


def _described(metadata: dict[str, Any] | None) -> dict[str, Any]:
    if not metadata:
        return {}
    found: dict[str, Any] = {"description": metadata["description"]}
    if metadata.get("keywords") is not None:
        found["keywords"] = metadata["keywords"]
    if metadata.get("status") is not None:
        found["status"] = _state(metadata)
    return found


def _state(metadata: dict[str, Any]) -> str | None:
    status = metadata.get("status")
    return status["state"] if isinstance(status, dict) else status


def _location_texts(entry: dict[str, Any]) -> list[str]:
    if entry.get("location") is not None:
        return [entry["location"]]
    return [item["location"] for item in entry.get("locations") or ()]


def _plain(problem: Problem) -> dict[str, Any]:
    plain = problem.as_dict()
    del plain["message"]
    return plain
