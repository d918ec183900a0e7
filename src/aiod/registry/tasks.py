"""Tasks: what a model segments. They are data, one line each in `manifests/tasks.json`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from aiod.errors import AiodError, ManifestError
from aiod.files import read_text
from aiod.registry.jsontext import IrregularJSON, parse

TASKS_FILE = "tasks.json"
_SHORT_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_MAX_BYTES = 100_000


def read_tasks(path: Path) -> Mapping[str, str]:
    """Short name -> display name, in the order of the file. Raises ManifestError."""
    advice = 'write it as {"nuclei": "Nuclei", …}, short names in lower case'
    try:
        tasks = parse(read_text(path, limit=_MAX_BYTES))
    except (AiodError, IrregularJSON) as error:
        raise ManifestError(
            f"The list of tasks {path} cannot be read: {error}", hint=advice
        ) from error
    if not isinstance(tasks, dict):
        raise ManifestError(f"The list of tasks {path} is not a JSON object.", hint=advice)
    for short, display in tasks.items():
        if not _SHORT_NAME.match(short) or not isinstance(display, str) or not display.strip():
            raise ManifestError(
                f"The list of tasks {path} has an entry that is not a task: {short!r}.",
                hint=advice,
            )
    return MappingProxyType(tasks)


TASK_NAMES: Mapping[str, str] = read_tasks(Path(__file__).parents[1] / "manifests" / TASKS_FILE)
"""The tasks that AIoD ships: short name -> display name."""
