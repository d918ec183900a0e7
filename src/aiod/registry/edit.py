"""Adding families, versions, tasks and locations to a layer, without editing JSON by hand.

Every function checks its result against the schema before a byte is written, writes it in
canonical form, and returns what changed. `registries` are further layers to look in, as for
:func:`aiod.registry.load`. Training code registers its models in the same way::

    >>> from aiod.registry.edit import add_version
    >>> change = add_version(
    ...     layer, "cellpose", "embryo", task="cyto", location="../weights/embryo",
    ...     axes="CYX", description="cyto3 trained further on 40 embryo images.",
    ... )
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aiod.errors import AiodError, UnknownModelError, UsageError
from aiod.files import read_text
from aiod.progress import Progress, silent
from aiod.registry.catalogue import Registry, default_of, load
from aiod.registry.changes import Change, done, one_at_a_time, planned
from aiod.registry.fingerprint import fingerprint
from aiod.registry.layers import SHIPPED, Layer
from aiod.registry.manifest import read_document
from aiod.registry.merge import Model
from aiod.registry.parameter_rules import argument_of
from aiod.registry.rules import short_name_of, slug_of
from aiod.registry.schema import MAX_MANIFEST_BYTES, Parameter
from aiod.registry.skeleton import runner_skeleton
from aiod.words import family_slug, listing


@one_at_a_time
def add_family(
    layer: Path | str,
    name: str,
    version: str,
    *,
    description: str,
    task: str,
    short_name: str | None = None,
    axes: str | None = None,
    location: str | None = None,
    config_path: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    params: Iterable[Mapping[str, Any]] = (),
    runner: bool = True,
    hashed: bool = True,
    dry_run: bool = False,
    registries: Iterable[Path | str] = (),
    progress: Progress = silent,
) -> tuple[Change, ...]:
    """A new family with its first version, and a skeleton of its runner.

    `location` None makes an algorithm without weights. Raises UsageError when the family exists
    already in this layer, ManifestError when the result would not be valid.
    """
    short = short_name or family_slug(name)
    layer = Path(layer)
    registry = _registry(layer, registries)
    path = _path_of(layer, short, registry.tasks)
    if short in registry.families:
        file = registry.family(short).sources[-1].entry.path
        raise UsageError(
            f'The family "{short}" exists already: {file}.',
            hint=f"`aiod new version --family {short}` adds to it",
        )
    document: dict[str, Any] = _given(
        {
            "$schema": _schema_reference(layer),
            "name": name,
            "short_name": short,
            "metadata": {"description": description, **(metadata or {})},
            "versions": {
                version: _given(
                    {
                        "axes": axes,
                        "tasks": {task: _task(layer, location, config_path, hashed, progress)},
                    }
                )
            },
        }
    )
    if params:
        document["params"] = [dict(item) for item in params]
    changes = [planned(path, None, document, registry.tasks)]
    script = Layer(layer.name, layer).runners / f"{short}.py"
    if runner and not script.exists():
        first = document["versions"][version]
        keywords = {
            argument_of(item): default_of(Parameter.model_validate(item))
            for item in document.get("params", ())
        }
        changes.append(Change(script, None, runner_skeleton(name, first.get("axes"), keywords)))
    return done(changes, dry_run)


@one_at_a_time
def add_version(
    layer: Path | str,
    family: str,
    version: str,
    *,
    task: str,
    location: str | None,
    description: str | None = None,
    axes: str | None = None,
    slug: str | None = None,
    config_path: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    params: Iterable[Mapping[str, Any]] | None = None,
    hashed: bool = True,
    known: tuple[str, int | None] | None = None,
    dry_run: bool = False,
    registries: Iterable[Path | str] = (),
    progress: Progress = silent,
) -> Change:
    """A new version of a family, which may come from an earlier layer.

    Parameters, authors and licences that are not given are those of the family; `params` replaces
    its whole list. `location` None makes an algorithm without weights. `known` are the SHA-256 of
    the weights and their size in bytes (or None), where they need not be read for it. Raises
    UsageError when the version exists already.
    """
    layer = Path(layer)
    registry = _registry(layer, registries)
    path, before, document = _open(layer, family, registry)
    _refuse_known_version(document, version, slug, path, family, registry)
    described = {"description": description} if description else {}
    own = {**described, **(metadata or {})}
    if own and "description" not in own:
        raise UsageError("A version with metadata of its own needs a description.")
    reads = hashed and known is None
    knobs = {} if params is None else {"params": [dict(item) for item in params]}
    document["versions"][version] = _given(
        {
            "slug": slug,
            "axes": axes,
            "metadata": own or None,
            "tasks": {task: {**_task(layer, location, config_path, reads, progress), **knobs}},
        }
    )
    if known is not None and location is not None:
        sha256, size = known
        entry = document["versions"][version]["tasks"][task]["locations"][0]
        entry.update(_given({"sha256": sha256, "size": size}))
    return done([planned(path, before, document, registry.tasks)], dry_run)[0]


@one_at_a_time
def add_task(
    layer: Path | str,
    family: str,
    version: str,
    *,
    task: str,
    location: str | None,
    config_path: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    params: Iterable[Mapping[str, Any]] | None = None,
    hashed: bool = True,
    dry_run: bool = False,
    registries: Iterable[Path | str] = (),
    progress: Progress = silent,
) -> Change:
    """A further task of a version that exists. Raises UsageError when it has the task already."""
    layer = Path(layer)
    registry = _registry(layer, registries)
    path, before, document = _open(layer, family, registry)
    name = _version_name(document, version, family, registry)
    entries = document["versions"].setdefault(name, {}).setdefault("tasks", {})
    if task in entries or any(model.task == task for model in _known(registry, family, name)):
        raise UsageError(
            f'{family}/{name} has the task "{task}" already.',
            hint="`aiod new location` adds a location to it",
        )
    entry = _task(layer, location, config_path, hashed, progress)
    if params is not None:
        entry["params"] = [dict(item) for item in params]
    entries[task] = {**entry, **({"metadata": dict(metadata)} if metadata else {})}
    return done([planned(path, before, document, registry.tasks)], dry_run)[0]


@one_at_a_time
def add_location(
    layer: Path | str,
    family: str,
    version: str,
    *,
    location: str,
    task: str | None = None,
    config_path: str | None = None,
    first: bool = False,
    hashed: bool = True,
    dry_run: bool = False,
    registries: Iterable[Path | str] = (),
    progress: Progress = silent,
) -> Change:
    """A further location of a model's weights, last in its list or `first`.

    For a location that is there already without a hash, the hash and size are added.
    """
    layer = Path(layer)
    registry = _registry(layer, registries)
    path, before, document = _open(layer, family, registry)
    name = _version_name(document, version, family, registry)
    known = {model.task: model for model in _known(registry, family, name)}
    tasks = list(known) or list(document["versions"].get(name, {}).get("tasks", {}))
    if task is None and len(tasks) != 1:
        raise UsageError(f"{family}/{name} has several tasks.", hint=f"name one: {listing(tasks)}")
    chosen = task or tasks[0]
    if chosen not in tasks:
        raise UnknownModelError(
            f'{family}/{name} has no task "{chosen}".', hint=f"it has {listing(tasks, 'and')}"
        )
    entry = document["versions"].setdefault(name, {}).setdefault("tasks", {}).setdefault(chosen, {})
    if entry.get("weights") is False or (chosen in known and not known[chosen].needs_weights):
        raise UsageError(f"{family}/{name}/{chosen} is an algorithm without weights.")
    short = {key: entry.pop(key, None) for key in ("location", "config_path")}  # a list of one
    places = entry.get("locations") or ([_given(short)] if short["location"] else [])
    entry["locations"] = places
    new = _location(layer, location, config_path, hashed, progress)
    same = next((item for item in places if item["location"] == new["location"]), None)
    if same is None:
        places.insert(0 if first else len(places), new)
    elif "sha256" in new and not same.get("sha256"):
        same.update(new)
    else:
        raise UsageError(
            f"{family}/{name}/{chosen} has the location {location} already.",
            hint="give another location, or change its entry in the manifest",
        )
    return done([planned(path, before, document, registry.tasks)], dry_run)[0]


def _registry(layer: Path, registries: Iterable[Path | str]) -> Registry:
    """The registry as it is with further layers and this one, which need not exist yet."""
    exists = (layer / "manifests").is_dir() and layer.resolve() != SHIPPED.folder
    return load([*registries, layer] if exists else registries)


def _path_of(layer: Path, short_name: str, tasks: Mapping[str, str]) -> Path:
    """The file of a family in a layer: the one that has its short name, else a new one."""
    folder = Layer(layer.name, layer).manifests
    for path in sorted(folder.glob("*.json")):
        try:
            document = read_document(path, tasks)
        except AiodError:
            continue
        if short_name_of(document) == short_name:
            return path
    return folder / f"{short_name}.json"


def _open(layer: Path, family: str, registry: Registry) -> tuple[Path, str | None, dict[str, Any]]:
    """A family's manifest in a layer, or the beginning of one over an earlier layer's."""
    path = _path_of(layer, family, registry.tasks)
    if path.exists():
        document = read_document(path, registry.tasks)
        return path, read_text(path, limit=MAX_MANIFEST_BYTES), copy.deepcopy(document)
    known = registry.family(family)  # raises UnknownModelError with the nearest names
    return (
        path,
        None,
        _given(
            {
                "$schema": _schema_reference(layer),
                "name": known.name,
                "short_name": family,
                "metadata": {"description": known.description},
                "versions": {},
            }
        ),
    )


def _version_name(document: dict[str, Any], version: str, family: str, registry: Registry) -> str:
    """The full name of a version that this manifest or an earlier layer has, by name or slug."""
    names = {name: slug_of(name, item) for name, item in document["versions"].items()}
    if family in registry.families:
        names |= {model.version: model.slug for model in registry.family(family).models}
    for name, slug in names.items():
        if version in (name, slug):
            return str(name)
    raise UnknownModelError(
        f'"{family}" has no version "{version}".', hint=f"it has {listing(names, 'and')}"
    )


def _known(registry: Registry, family: str, version: str) -> list[Model]:
    """The models of a version in all layers; none where its family is new."""
    if family not in registry.families:
        return []
    models = registry.family(family).models
    return [model for model in models if version in (model.version, model.slug)]


def _refuse_known_version(
    document: dict[str, Any],
    version: str,
    slug: str | None,
    path: Path,
    family: str,
    registry: Registry,
) -> None:
    new = slug_of(version, {"slug": slug}).casefold()
    known = {name: (slug_of(name, item), str(path)) for name, item in document["versions"].items()}
    if family in registry.families:
        for model in registry.family(family).models:
            known.setdefault(model.version, (model.slug, f"the layer {model.layers[0]}"))
    for name, (taken, where) in known.items():
        if name == version or taken.casefold() == new:
            raise UsageError(
                f'"{family}" has a version "{name}" already, in {where}.',
                hint="`aiod new task` or `aiod new location` adds to it",
            )


def _task(
    layer: Path, location: str | None, config_path: str | None, hashed: bool, progress: Progress
) -> dict[str, Any]:
    if location is None:
        return {"weights": False}
    return {"locations": [_location(layer, location, config_path, hashed, progress)]}


def _location(
    layer: Path, location: str, config_path: str | None, hashed: bool, progress: Progress
) -> dict[str, Any]:
    folder = Layer(layer.name, layer).manifests
    entry = _given({"location": location, "config_path": config_path})
    if hashed and (found := fingerprint(location, folder, progress)) is not None:
        entry["sha256"], entry["size"] = found
    return entry


def _schema_reference(layer: Path) -> str | None:
    """Where a manifest of this layer finds schema.json, if the layer has one."""
    return "../schema.json" if (layer / "schema.json").exists() else None


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
