"""What a runner needs, read from the header of its file and from the list beside it.

The header is a block of inline script metadata (PEP 723); the list, ``<family>.txt`` beside
``<family>.py``, holds what the header's dependencies came to: exact versions with hashes, for
every platform, so that the same environment comes about anywhere and at any time. What packages ask
for and a runner never imports, the header names in ``[tool.uv] exclude-dependencies``.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from aiod.errors import AiodError
from aiod.files import read_text
from aiod.registry.runners import MAX_RUNNER_BYTES
from aiod.words import shown

_MAX_LIST_BYTES = 10_000_000
_MAX_DEPENDENCIES = 1000
_EXAMPLE = '# /// script\n# requires-python = ">=3.11"\n# dependencies = ["numpy==2.2.6"]\n# ///'
# https://packaging.python.org/en/latest/specifications/inline-script-metadata/
_BLOCK = re.compile(
    r"^# /// (?P<type>[a-zA-Z0-9-]+)[ \t]*\n(?P<content>(?:#(?:| [^\n]*)\n)+?)# ///[ \t]*$",
    re.MULTILINE,
)
_NAME = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)", re.MULTILINE)


class RunnerError(AiodError):
    """A runner whose environment cannot be described, built or used."""


@dataclass(frozen=True, slots=True)
class Header:
    """What stands on top of a runner, and the text of the list beside it where there is one."""

    runner: Path
    requires_python: str
    dependencies: tuple[str, ...]
    listed: str | None
    excluded: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        return self.runner.stem

    @property
    def list_file(self) -> Path:
        return self.runner.with_suffix(".txt")

    @property
    def names(self) -> frozenset[str]:
        """Names of all packages that are asked for, in their canonical form."""
        text = self.listed if self.listed is not None else "\n".join(self.dependencies)
        return frozenset(canonicalize_name(name) for name in _NAME.findall(text))


def read_header(runner: Path) -> Header:
    """Read what a runner needs. Raises RunnerError, which names file and line."""
    try:
        text = read_text(runner, limit=MAX_RUNNER_BYTES).replace("\r\n", "\n")
        list_file = runner.with_suffix(".txt")
        listed = read_text(list_file, limit=_MAX_LIST_BYTES) if list_file.exists() else None
    except AiodError as error:
        raise RunnerError(error.what, hint=error.hint) from error
    blocks = [match for match in _BLOCK.finditer(text) if match["type"] == "script"]
    if len(blocks) != 1:
        found = "has no header" if not blocks else f"has {len(blocks)} headers"
        raise RunnerError(
            f"{runner}:1: the runner {found}; a header says which packages it needs.",
            details=["a header looks like this:", *_EXAMPLE.splitlines()],
        )
    content = blocks[0]["content"]
    first = text.count("\n", 0, blocks[0].start("content")) + 1
    plain = "".join(line[2:] + "\n" for line in content.splitlines())
    try:
        table = tomllib.loads(plain)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        where = re.search(r"\(at line (\d+)", str(error))
        line = first + int(where[1]) - 1 if where else first
        told = re.sub(r" \(at .*\)$", "", str(error))
        raise RunnerError(f"{runner}:{line}: the header is not TOML: {told}.") from error
    lines = _Lines(runner, first, plain.splitlines())
    requires = _python(table.get("requires-python", ""), lines)
    dependencies = _dependencies(table.get("dependencies", []), lines)
    return Header(runner, requires, dependencies, listed, _excluded(table, lines))


@dataclass(frozen=True, slots=True)
class _Lines:
    """The lines of a header, to say where a mistake stands."""

    runner: Path
    first: int
    lines: list[str]

    def wrong(self, text: str, what: str) -> RunnerError:
        at = next((i for i, line in enumerate(self.lines) if text in line), 0)
        return RunnerError(f"{self.runner}:{self.first + at}: {what}.")


def _python(value: Any, lines: _Lines) -> str:
    if not isinstance(value, str):
        raise lines.wrong("requires-python", 'requires-python is not a text such as ">=3.11"')
    try:
        SpecifierSet(value)
    except InvalidSpecifier as error:
        raise lines.wrong(
            "requires-python", f'requires-python is {shown(value)}, not such as ">=3.11,<3.13"'
        ) from error
    return value


def _dependencies(value: Any, lines: _Lines) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise lines.wrong("dependencies", "dependencies is not a list of texts")
    if len(value) > _MAX_DEPENDENCIES:
        raise lines.wrong("dependencies", f"more than {_MAX_DEPENDENCIES} dependencies")
    for item in value:
        try:
            Requirement(item)
        except InvalidRequirement as error:
            raise lines.wrong(
                item, f'{shown(item)} is no dependency such as "numpy==2.2.6"'
            ) from error
    return tuple(value)


def _excluded(table: dict[str, Any], lines: _Lines) -> tuple[str, ...]:
    """Names of packages that are left out although others ask for them, as uv has it."""
    tool = table.get("tool")
    uv = tool.get("uv") if isinstance(tool, dict) else None
    value = uv.get("exclude-dependencies", []) if isinstance(uv, dict) else []
    if not isinstance(value, list) or len(value) > _MAX_DEPENDENCIES:
        raise lines.wrong("exclude-dependencies", "exclude-dependencies is not a list of names")
    for item in value:
        if not isinstance(item, str) or not _NAME.fullmatch(item):
            raise lines.wrong(
                "exclude-dependencies", f'{shown(item)} is no name of a package such as "napari"'
            )
    return tuple(value)
