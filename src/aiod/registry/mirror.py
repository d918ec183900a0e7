"""Filling a folder with models for machines without a network; the folder is a layer there."""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Iterable, Mapping
from itertools import chain, count
from pathlib import Path
from typing import Any

from aiod.errors import AiodError, CacheError, LocationError, UsageError
from aiod.files import reason, write_atomically
from aiod.progress import Progress, silent
from aiod.registry.cache import file_name
from aiod.registry.canonical import as_json, to_text
from aiod.registry.catalogue import Registry
from aiod.registry.flatten import flattened
from aiod.registry.layers import SHIPPED
from aiod.registry.manifest import read_document
from aiod.registry.merge import Model
from aiod.registry.pull import Weights, pull
from aiod.registry.servers import READ_SECONDS
from aiod.registry.tasks import TASK_NAMES, TASKS_FILE, read_tasks
from aiod.registry.urls import is_url

# Tells a folder that mirror has filled from a layer that somebody keeps.
_MARK = ".aiod-mirror"


def mirror(
    registry: Registry,
    models: Iterable[Model],
    folder: Path,
    *,
    progress: Progress = silent,
    accept_changed: bool = False,
    seconds: float = READ_SECONDS,
) -> tuple[list[Weights], list[LocationError]]:
    """Pull `models` and copy them, with manifests that point to the copies, to `folder`.

    ``folder/manifests`` gets one self-contained manifest a family, ``folder/weights`` the files,
    ``folder/runners`` the runners of families that are not shipped. What the folder holds already
    from an earlier call stays, and no file of weights in it is overwritten by another. Returns
    what was brought, and an error for each model that could not be had. Raises UsageError for a
    folder that holds manifests which no call has written.
    """
    _refuse_others(folder)
    brought: list[Weights] = []
    failed: list[LocationError] = []
    by_family: dict[str, list[tuple[Model, Weights]]] = {}
    for model in models:
        try:
            weights = pull(
                registry,
                model,
                progress=progress,
                accept_changed=accept_changed,
                seconds=seconds,
            )
        except LocationError as error:
            failed.append(error)
            continue
        brought.append(weights)
        by_family.setdefault(model.family, []).append((model, weights))
    tasks = {**_earlier_tasks(folder), **registry.tasks}
    try:
        if by_family:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / _MARK).write_text("filled by `aiod pull --to`\n")
        for family, pairs in by_family.items():
            _write_family(registry, family, pairs, folder, tasks)
    except OSError as error:
        raise CacheError(f"{folder} cannot be filled: {reason(error)}.") from error
    own = {name: words for name, words in tasks.items() if name not in TASK_NAMES}
    if own and by_family:
        write_atomically(folder / "manifests" / TASKS_FILE, as_json(own))
    return brought, failed


def _refuse_others(folder: Path) -> None:
    if any((folder / "manifests").glob("*.json")) and not (folder / _MARK).exists():
        raise UsageError(
            f"{folder} holds manifests that would be overwritten.", hint="choose a new folder"
        )


def _earlier_tasks(folder: Path) -> Mapping[str, str]:
    path = folder / "manifests" / TASKS_FILE
    return read_tasks(path) if path.exists() else {}


def _write_family(
    registry: Registry,
    family: str,
    pairs: list[tuple[Model, Weights]],
    folder: Path,
    tasks: Mapping[str, str],
) -> None:
    document: dict[str, Any] = flattened(registry, family, [model for model, _ in pairs])
    manifests = folder / "manifests"
    for model, weights in pairs:
        if weights.file is None:
            continue
        entry = document["versions"][model.version]["tasks"][model.task]
        copy = _copy(weights.file, folder / "weights" / family / model.slug)
        here: dict[str, object] = {"location": _relative(copy, manifests)}
        if weights.config is not None:
            config = _copy(weights.config, folder / "weights" / family / model.slug)
            here["config_path"] = _relative(config, manifests)
        if weights.sha256:
            here["sha256"] = weights.sha256
        if copy.is_file():
            here["size"] = copy.stat().st_size
        urls = [item for item in entry["locations"] if is_url(item["location"])]
        for item in urls:  # a path of this machine means nothing on another
            if "config_path" in here and not is_url(item.get("config_path", "")):
                item["config_path"] = here["config_path"]
        entry["locations"] = [here, *urls]
    path = manifests / f"{family}.json"
    if path.exists():
        document = _with_earlier(document, path, tasks)
    write_atomically(path, to_text(document))
    for layer, _ in registry.manifests_of(family):
        runner = layer.runners / f"{family}.py"
        if layer is not SHIPPED and runner.is_file():
            (folder / "runners").mkdir(exist_ok=True)
            shutil.copyfile(runner, folder / "runners" / runner.name)


def _with_earlier(document: dict[str, Any], path: Path, tasks: Mapping[str, str]) -> dict[str, Any]:
    """The new manifest, with the versions and tasks that an earlier call brought."""
    try:
        earlier = read_document(path, tasks)
    except AiodError as error:
        raise CacheError(
            f"{path} is there already and is not a manifest of ours.", hint="choose another folder"
        ) from error
    versions = dict(earlier["versions"])
    for name, version in document["versions"].items():
        known = versions.get(name, {})
        versions[name] = {**version, "tasks": {**known.get("tasks", {}), **version["tasks"]}}
    return {**document, "versions": versions}


def _copy(source: Path, folder: Path) -> Path:
    """A copy of a file (or of a folder of weights) that appears whole.

    Where another file has its name already, the copy gets a number before its own.
    """
    name = file_name(source.name)
    names = chain([name], (f"{number}_{name}" for number in count(2)))
    target = next(
        path
        for path in (folder / item for item in names)
        if not os.path.lexists(path) or _same(source, path)
    )
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{target.name}.{os.getpid()}.part"
    try:
        if source.is_dir():
            shutil.copytree(source, part)
        else:
            shutil.copyfile(source, part)
        part.replace(target)
    finally:
        if part.is_dir():
            shutil.rmtree(part)
        part.unlink(missing_ok=True)
    return target


def _same(one: Path, other: Path) -> bool:
    """Whether two files, or two folders with all that is in them, are the same to the byte."""
    if one.is_file() and other.is_file():
        return filecmp.cmp(one, other, shallow=False)
    if not (one.is_dir() and other.is_dir()):
        return False
    names = {path.name for path in one.iterdir()}
    return names == {path.name for path in other.iterdir()} and all(
        _same(one / name, other / name) for name in names
    )


def _relative(path: Path, manifests: Path) -> str:
    return Path(os.path.relpath(path, manifests)).as_posix()
