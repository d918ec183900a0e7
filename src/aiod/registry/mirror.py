"""Filling a folder with models for machines without a network; the folder is a layer there."""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aiod.errors import AiodError, CacheError, LocationError
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
from aiod.registry.tasks import TASK_NAMES, TASKS_FILE


def mirror(
    registry: Registry,
    models: Iterable[Model],
    folder: Path,
    *,
    progress: Progress = silent,
    accept_changed: bool = False,
) -> tuple[list[Weights], list[LocationError]]:
    """Pull `models` and copy them, with manifests that point to the copies, to `folder`.

    ``folder/manifests`` gets one self-contained manifest a family, ``folder/weights`` the files,
    ``folder/runners`` the runners of families that are not shipped. What the folder holds already
    from an earlier call stays. Returns what was brought, and an error for each model that could
    not be had.
    """
    brought: list[Weights] = []
    failed: list[LocationError] = []
    by_family: dict[str, list[tuple[Model, Weights]]] = {}
    for model in models:
        try:
            weights = pull(registry, model, progress=progress, accept_changed=accept_changed)
        except LocationError as error:
            failed.append(error)
            continue
        brought.append(weights)
        by_family.setdefault(model.family, []).append((model, weights))
    try:
        for family, pairs in by_family.items():
            _write_family(registry, family, pairs, folder)
    except OSError as error:
        raise CacheError(f"{folder} cannot be filled: {reason(error)}.") from error
    own = {name: words for name, words in registry.tasks.items() if name not in TASK_NAMES}
    if own and by_family:
        write_atomically(folder / "manifests" / TASKS_FILE, as_json(own))
    return brought, failed


def _write_family(
    registry: Registry, family: str, pairs: list[tuple[Model, Weights]], folder: Path
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
        urls = [item for item in entry["locations"] if item["location"].startswith("http")]
        entry["locations"] = [here, *urls]
    path = manifests / f"{family}.json"
    if path.exists():
        document = _with_earlier(document, path, registry)
    write_atomically(path, to_text(document))
    for layer, _ in registry.manifests_of(family):
        runner = layer.runners / f"{family}.py"
        if layer is not SHIPPED and runner.is_file():
            (folder / "runners").mkdir(exist_ok=True)
            shutil.copyfile(runner, folder / "runners" / runner.name)


def _with_earlier(document: dict[str, Any], path: Path, registry: Registry) -> dict[str, Any]:
    """The new manifest, with the versions and tasks that an earlier call brought."""
    try:
        earlier = read_document(path, registry.tasks)
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
    """A copy of a file (or of a folder of weights) that appears whole."""
    target = folder / file_name(source.name)
    if target.exists():
        same = source.is_file() and target.is_file()
        if same and filecmp.cmp(source, target, shallow=False):
            return target
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{target.name}.{os.getpid()}.part"
    if source.is_dir():
        shutil.copytree(source, part)
        if target.exists():
            shutil.rmtree(target)
    else:
        shutil.copyfile(source, part)
    part.replace(target)
    return target


def _relative(path: Path, manifests: Path) -> str:
    return Path(os.path.relpath(path, manifests)).as_posix()
