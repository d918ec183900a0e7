"""All problems of all files at once: single manifests, folders of them, whole layers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiod.errors import AiodError, ManifestError, UnknownModelError, UsageError
from aiod.files import read_text
from aiod.registry.catalogue import load
from aiod.registry.defaults import read_defaults
from aiod.registry.entries import unreadable
from aiod.registry.explain import Source, explain
from aiod.registry.layers import DEFAULTS_FILE, NO_MANIFESTS, SHIPPED, Layer
from aiod.registry.manifest import read_document
from aiod.registry.parameter_rules import HOST_DIAMETER, argument_of
from aiod.registry.problems import Problem, Severity
from aiod.registry.rules import short_name_of
from aiod.registry.runners import Runner, read_runner
from aiod.registry.schema import MAX_MANIFEST_BYTES
from aiod.registry.tasks import TASK_NAMES, TASKS_FILE, read_tasks
from aiod.words import listing, nearest, shown

# The shipped families get their runners with the pipeline; from then on this is an error.
MISSING_RUNNER: Severity = "warning"
_INHERITED = frozenset({"no-code-licence", "no-weights-licence", "no-publication"})


@dataclass(frozen=True, slots=True)
class Checked:
    """What `validate` looked at, and what it found, by file and line."""

    files: tuple[Path, ...]
    problems: tuple[Problem, ...]

    def count(self, severity: Severity) -> int:
        return sum(problem.severity == severity for problem in self.problems)


def validate(paths: Iterable[Path], *, tasks: Mapping[str, str] = TASK_NAMES) -> Checked:
    """Check manifests, folders of manifests, and layers (folders with ``manifests/``).

    `tasks` are those known beside the ones that a checked folder brings. Raises UsageError for a
    path that does not exist, and for a folder without manifests.
    """
    by_folder: dict[Path, list[Path]] = {}
    problems: list[Problem] = []
    for path in paths:
        if not os.path.exists(path):  # noqa: PTH110 - never raises
            raise UsageError(
                f"{path} does not exist, or cannot be read.",
                hint="name a manifest, or a folder of them",
            )
        folder = path / "manifests" if (path / "manifests").is_dir() else path
        found = sorted(folder.glob("*.json")) if path.is_dir() else [path]
        if not found:
            raise UsageError(f"{path} holds no manifests (*.json).")
        known = by_folder.setdefault((folder if path.is_dir() else path.parent).resolve(), [])
        known += [file for file in found if file not in known]
        if path.is_dir():
            layer = Layer(path.name, folder.parent)
            if folder is not path or layer.runners.is_dir():
                problems += _check_runners(layer, found)
    manifests: list[Problem] = []
    for folder, found in by_folder.items():
        manifests += _check(found, _known_tasks(folder, tasks), _inherited_families(folder))
    files = tuple(file for found in by_folder.values() for file in found)
    return Checked(files, (*manifests, *problems))


def _inherited_families(folder: Path) -> frozenset[str]:
    """Families to which a manifest in this folder only adds: their licence and papers hold."""
    if folder == SHIPPED.manifests:
        return frozenset()
    return frozenset(path.stem for path in SHIPPED.manifests.glob("*.json"))


def _known_tasks(folder: Path, tasks: Mapping[str, str]) -> dict[str, str]:
    known = {**TASK_NAMES, **tasks}
    try:
        return {**known, **read_tasks(folder / TASKS_FILE)}
    except ManifestError:  # there is none, or it is reported as a file of its own
        return known


def _check(
    files: list[Path], tasks: Mapping[str, str], inherited: frozenset[str]
) -> Iterator[Problem]:
    families: dict[str, Path] = {}
    for path in files:
        file = os.fspath(path)
        if path.name == TASKS_FILE:
            yield from _check_tasks(path)
            continue
        if path.name == DEFAULTS_FILE:
            yield from _check_defaults(path, tasks)
            continue
        try:
            text = read_text(path, limit=MAX_MANIFEST_BYTES)
        except AiodError as error:
            yield unreadable(file, error)
            continue
        found = explain(text, file, tasks)
        source = Source(text, file)
        document = source.read.value
        if isinstance(document, dict) and (short := short_name_of(document)):
            if short in families:
                at = ("short_name",) if "short_name" in document else ("name",)
                found.append(
                    source.problem(
                        "error",
                        "duplicate-family",
                        at,
                        f'the short_name "{short}", which {families[short].name} has already',
                        "one file a family in a layer",
                        "move the versions into one file",
                    )
                )
            families.setdefault(short, path)
            if short in inherited:
                found = [problem for problem in found if problem.code not in _INHERITED]
        yield from found


def _check_tasks(path: Path) -> Iterator[Problem]:
    try:
        faults = Source(read_text(path, limit=MAX_MANIFEST_BYTES), os.fspath(path)).faults()
        if faults:
            yield from faults
            return
        read_tasks(path)
    except AiodError as error:
        yield Problem(
            "error",
            "tasks",
            os.fspath(path),
            1,
            1,
            1,
            "",
            error.what,
            "short names with display names",
            error.hint,
        )


def _check_defaults(path: Path, tasks: Mapping[str, str]) -> Iterator[Problem]:
    """Each task is one there is, and each model one for that task, here or in another layer."""
    file = os.fspath(path)
    try:
        source = Source(read_text(path, limit=MAX_MANIFEST_BYTES), file)
        if faults := source.faults():
            yield from faults
            return
        defaults = read_defaults(path)
    except AiodError as error:
        expected = "a model id for each task"
        yield Problem("error", "defaults", file, 1, 1, 1, "", error.what, expected, error.hint)
        return
    layer = path.absolute().parent.parent
    registry = load([layer] if (layer / "manifests").is_dir() else [])
    for task, model in defaults.items():
        if task not in tasks:
            close = nearest(task, tasks)
            hint = f'did you mean "{close[0]}"?' if close else f"one of {listing(tasks)}"
            expected = "a task of tasks.json"
            yield source.problem("error", "unknown-task", (task,), shown(task), expected, hint)
            continue
        expected = f"the id of a model for {task}"
        try:
            found = registry.get(model)
        except UnknownModelError as error:
            words = error.what.rstrip(".")
            yield source.problem("error", "unknown-model", (task,), words, expected, error.hint)
        else:
            if found.task != task:
                words = f"{found.id}, a model for {found.task}"
                yield source.problem("error", "default", (task,), words, expected)


def _check_runners(layer: Layer, files: list[Path]) -> Iterator[Problem]:
    families: dict[str, tuple[Path, Source]] = {}
    for path in files:
        if path.name not in NO_MANIFESTS:
            try:
                source = Source(read_text(path, limit=MAX_MANIFEST_BYTES), os.fspath(path))
            except AiodError:
                continue  # reported already
            if isinstance(source.read.value, dict):
                families.setdefault(short_name_of(source.read.value), (path, source))
    runners = {path.stem: path for path in sorted(layer.runners.glob("*.py"))}
    for family, (_, source) in families.items():
        script = runners.get(family)
        if script is None:
            shipped = (SHIPPED.manifests / f"{family}.json").is_file()
            if not shipped or layer.folder.resolve() == SHIPPED.folder:
                yield source.problem(
                    MISSING_RUNNER,
                    "no-runner",
                    ("short_name",),
                    f"no runner for {family}",
                    f"{layer.runners / family}.py",
                    "`aiod new family` writes a skeleton",
                )
            continue
        try:
            runner = read_runner(script)
        except AiodError as error:
            yield Problem("error", "runner", os.fspath(script), 1, 1, 1, "", str(error), "a runner")
        else:
            yield from _compare(source, runner, _set_by_shipped(layer, family))
    for family, path in runners.items():
        if family not in families and not family.startswith("_"):
            yield Problem(
                "error",
                "needless-runner",
                os.fspath(path),
                1,
                1,
                1,
                "",
                f"a runner for {family}, which no manifest here names",
                f"{layer.manifests / family}.json, or no runner",
            )


def _set_by_shipped(layer: Layer, family: str) -> set[str]:
    """The arguments that the shipped manifest of a family sets, for a layer that adds to it."""
    path = SHIPPED.manifests / f"{family}.json"
    if layer.folder.resolve() == SHIPPED.folder or not path.is_file():
        return set()
    return {argument_of(parameter) for _, parameter in _parameters(read_document(path))}


def _compare(source: Source, runner: Runner, inherited: set[str]) -> Iterator[Problem]:
    set_by_manifest = set(inherited)
    for path, parameter in _parameters(source.read.value):
        argument = argument_of(parameter)
        set_by_manifest.add(argument)
        if argument == HOST_DIAMETER and _is_rescaled(source.read.value):
            continue
        if runner.refuses(argument):
            at = "arg_name" if "arg_name" in parameter else "name"
            yield source.problem(
                "error",
                "not-accepted",
                (*path, at),
                f'the argument "{argument}", which {runner.path.name} does not accept',
                "a keyword of predict or survey in the runner",
            )
    lines = read_text(runner.path, limit=1_000_000).split("\n")
    for argument, line in runner.accepted.items():
        if argument not in set_by_manifest | runner.surveyed:
            text = lines[line - 1]
            column = text.find(argument) + 1
            yield Problem(
                "error",
                "never-set",
                os.fspath(runner.path),
                line,
                max(1, column),
                len(argument),
                "",
                f'the argument "{argument}", which no parameter of the manifest sets',
                f'a parameter with "arg_name": "{argument}" in {Path(source.file).name}',
                None,
                text,
            )


def _is_rescaled(document: dict[str, Any]) -> bool:
    """Whether a manifest has the host zoom the image by the diameter."""
    versions = document.get("versions")
    blocks = [document, *(versions.values() if isinstance(versions, dict) else ())]
    return any(
        isinstance(block, dict)
        and isinstance(told := block.get("metadata"), dict)
        and told.get("rescale") == "always"
        for block in blocks
    )


def _parameters(document: dict[str, Any]) -> Iterator[tuple[tuple[str | int, ...], dict[str, Any]]]:
    def listed(params: Any, path: tuple[str | int, ...]) -> Iterator[Any]:
        for index, parameter in enumerate(params if isinstance(params, list) else ()):
            if isinstance(parameter, dict):
                yield (*path, index), parameter

    yield from listed(document.get("params"), ("params",))
    versions = document.get("versions")
    for name, version in versions.items() if isinstance(versions, dict) else ():
        tasks = version.get("tasks") if isinstance(version, dict) else None
        for task, entry in tasks.items() if isinstance(tasks, dict) else ():
            if isinstance(entry, dict):
                yield from listed(entry.get("params"), ("versions", name, "tasks", task, "params"))
