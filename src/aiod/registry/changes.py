"""Changes of a layer's files: planned and checked, shown, written one at a time."""

from __future__ import annotations

import contextlib
import difflib
import functools
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from aiod.errors import CacheError, ManifestError, UsageError
from aiod.files import read_text, write_atomically
from aiod.registry.cache import lock_named
from aiod.registry.canonical import to_text
from aiod.registry.explain import explain
from aiod.registry.manifest import line_of
from aiod.registry.schema import MAX_MANIFEST_BYTES
from aiod.registry.settings import cache_folder

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Change:
    """A file as it was (None for a new one) and as it is to be."""

    path: Path
    before: str | None
    after: str

    @property
    def diff(self) -> str:
        """The change as a unified diff."""
        return "".join(
            difflib.unified_diff(
                (self.before or "").splitlines(keepends=True),
                self.after.splitlines(keepends=True),
                fromfile=str(self.path) if self.before is not None else os.devnull,
                tofile=str(self.path),
            )
        )

    def write(self) -> None:
        """Write the file, whole or not at all.

        Raises UsageError when somebody else has written it since the change was planned.
        """
        there = self.path.exists()
        if (read_text(self.path, limit=MAX_MANIFEST_BYTES) if there else None) != self.before:
            raise UsageError(f"{self.path} has changed meanwhile.", hint="do it once more")
        write_atomically(self.path, self.after)


def one_at_a_time(function: Callable[P, T]) -> Callable[P, T]:
    """Processes of one user that change one layer wait for each other.

    So two trainings that end together both register their model. Where no lock can be had, a
    change that would undo another's is refused when it is written.
    """

    @functools.wraps(function)
    def locked(*args: P.args, **kwargs: P.kwargs) -> T:
        layer = Path(str(kwargs.get("layer", args[0] if args else ""))).absolute()
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(CacheError):
                stack.enter_context(lock_named(cache_folder(), f"edit:{layer}"))
            return function(*args, **kwargs)

    return locked


def planned(
    path: Path, before: str | None, document: dict[str, Any], tasks: Mapping[str, str]
) -> Change:
    """A manifest as it is to be, in canonical form. Raises ManifestError where it is not valid."""
    try:
        text = to_text(document)
    except (TypeError, ValueError, RecursionError) as error:
        raise ManifestError(f"This cannot be written to {path} as JSON: {error}.") from error
    errors = explain(text, str(path), tasks, lint=False)
    if errors:
        raise ManifestError(
            f"This would not be a valid manifest: {path}.",
            details=[line_of(problem) for problem in errors],
        )
    return Change(path, before, text)


def done(changes: Iterable[Change], dry_run: bool) -> tuple[Change, ...]:
    """The same changes, written unless this is a dry run."""
    changes = tuple(changes)
    if not dry_run:
        for change in changes:
            change.write()
    return changes
