"""Reading one manifest from its file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiod.errors import ManifestError
from aiod.files import read_text
from aiod.registry.explain import explain
from aiod.registry.jsontext import MAX_DEPTH, IrregularJSON, depth, parse
from aiod.registry.schema import MAX_MANIFEST_BYTES, Manifest
from aiod.registry.tasks import TASK_NAMES


def read_manifest(path: Path | str, tasks: Mapping[str, str] = TASK_NAMES) -> Manifest:
    """A manifest as a typed value. Raises ManifestError, which lists every problem."""
    return Manifest.model_validate(read_document(path, tasks), context={"tasks": tasks})


def read_document(path: Path | str, tasks: Mapping[str, str] = TASK_NAMES) -> dict[str, Any]:
    """A valid manifest as it stands in its file: plain values, key order kept.

    Raises ManifestError, which lists every problem.
    """
    text = read_text(Path(path), limit=MAX_MANIFEST_BYTES)
    try:
        document = parse(text)
        Manifest.model_validate(document, context={"tasks": tasks})
    except (IrregularJSON, ValueError) as error:
        raise ManifestError(
            f"{path} is not a manifest as it should be.",
            details=[line_of(problem) for problem in explain(text, str(path), tasks, lint=False)],
            hint=f"`aiod validate {path}` shows the lines",
        ) from error
    return dict(document)


def read_any(path: Path) -> tuple[str, dict[str, Any]]:
    """The text of a manifest, valid or not, and its document, to be rewritten.

    Raises ManifestError for what is not JSON, no object, or nested without end.
    """
    text = read_text(path, limit=MAX_MANIFEST_BYTES)
    hint = f"`aiod validate {path}`"
    try:
        document = parse(text)
    except IrregularJSON as error:
        raise ManifestError(f"{path} is not JSON as it should be.", hint=hint) from error
    if not isinstance(document, dict) or depth(document) > MAX_DEPTH:
        raise ManifestError(f"{path} is not a manifest.", hint=hint)
    return text, document


def line_of(problem: Any) -> str:
    """A problem in one line."""
    hint = f" ({problem.hint})" if problem.hint else ""
    return f"{problem.file}:{problem.line}:{problem.column}: {problem.sentence}{hint}"
