"""The registry as a program sees it: all layers together, read-only."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from aiod.errors import ManifestError, UnknownModelError, UsageError
from aiod.files import reason
from aiod.registry.entry import Entry, Signature
from aiod.registry.index import index_layer, signature_of
from aiod.registry.layers import SHIPPED, Layer, check_layer, find_layers
from aiod.registry.locations import Expectation, Place, WeightsLocation, resolve
from aiod.registry.merge import Family, Model, Source
from aiod.registry.problems import Problem
from aiod.registry.tasks import TASK_NAMES, read_tasks
from aiod.words import counted, listing, nearest

if TYPE_CHECKING:
    from aiod.registry.metadata import Metadata
    from aiod.registry.schema import Manifest, Parameter, TaskEntry


def load(registries: Path | str | Iterable[Path | str] = ()) -> Registry:
    """Read all layers: the shipped one, the configured ones, then the folder(s) `registries`.

    A file that cannot be used is passed over and reported in `Registry.problems`; so is a
    configured layer that cannot be read. Raises ManifestError for a folder of `registries` that
    is no layer, and UsageError for a config file that makes no sense.

    >>> registry = load()
    >>> registry.get("cellpose/cyto3").id
    'cellpose/cyto3/cyto'
    """
    given = [registries] if isinstance(registries, Path | str) else registries
    named = [Path(folder).absolute() for folder in given]
    problems: list[Problem] = []
    usable: list[Layer] = []
    for layer in find_layers(named):
        try:
            check_layer(layer)
        except ManifestError as error:
            if layer.folder in named:
                raise
            problems.append(_problem(layer.folder, "layer", error, "a folder with manifests/"))
        else:
            usable.append(layer)
    tasks = _all_tasks(usable, problems)
    sources: dict[str, list[Source]] = {}
    for layer in usable:
        seen: dict[str, Entry] = {}
        for entry in _entries(layer, tasks, problems):
            if entry.family is None:
                problems += entry.problems()
            elif entry.family in seen:
                other = seen[entry.family].path.name
                found = f'the short_name "{entry.family}", which {other} has'
                expected = "one file a family in a layer"
                problems.append(_problem(entry.path, "duplicate-family", found, expected))
            else:
                seen[entry.family] = entry
                sources.setdefault(entry.family, []).append(Source(layer, entry))
    return Registry(tuple(usable), tasks, sources, tuple(problems))


class Registry:
    """Every model of every layer. Nothing in it changes once it is loaded.

    Iterating gives :class:`Model` values, also those that this user cannot reach.
    """

    __slots__ = ("_made", "_sources", "layers", "problems", "tasks")

    layers: tuple[Layer, ...]
    tasks: Mapping[str, str]
    problems: tuple[Problem, ...]
    _sources: Mapping[str, tuple[Source, ...]]
    _made: dict[str, Family]

    def __init__(
        self,
        layers: tuple[Layer, ...],
        tasks: Mapping[str, str],
        sources: Mapping[str, list[Source]],
        problems: tuple[Problem, ...],
    ) -> None:
        values = {
            "layers": layers,
            "tasks": MappingProxyType(dict(tasks)),
            "problems": problems,
            "_sources": {name: tuple(found) for name, found in sources.items()},
            "_made": {},
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a registry does not change: {name} cannot be set; load it again")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a registry does not change: {name} cannot be deleted")

    def __repr__(self) -> str:
        layers = listing([layer.name for layer in self.layers], "and")
        return f"<Registry of {counted(len(self._sources), 'family', 'families')} from {layers}>"

    @property
    def families(self) -> tuple[str, ...]:
        """Short names, in the order of the layers and of their files."""
        return tuple(self._sources)

    def __iter__(self) -> Iterator[Model]:
        for family in self._families():
            yield from family.models

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, model: object) -> bool:
        try:
            self.get(model.id if isinstance(model, Model) else str(model))
        except UnknownModelError:
            return False
        return True

    def family(self, short_name: str) -> Family:
        """A family as all its layers make it. Raises UnknownModelError."""
        if short_name not in self._sources:
            raise UnknownModelError(
                f'There is no model family "{short_name}".', hint=self._hint_for(short_name)
            )
        if short_name not in self._made:
            self._made[short_name] = Family(short_name, self._sources[short_name])
        return self._made[short_name]

    def _hint_for(self, name: str) -> str:
        """What to try where there is no family of this name."""
        for problem in self.problems:
            if Path(problem.file).stem == name:
                return f"`aiod validate {problem.file}` tells why that file cannot be used"
        close = nearest(name, self._sources, count=3)
        if close and close[0].casefold() == name.casefold():
            return f"did you mean {close[0]}?"
        if not close and name.strip() and self.filter(text=name):
            return f"`aiod list --search {name}` finds models that speak of it"
        return f"did you mean {listing(close)}?" if close else "`aiod list` shows all models"

    def _families(self) -> Iterator[Family]:
        """Every family; kept are only those that were asked for by name."""
        for name, sources in self._sources.items():
            yield self._made.get(name) or Family(name, sources)

    def get(self, model_id: str) -> Model:
        """The model called ``family/version/task``.

        The version goes by name or slug; a part may be left out from the right where there is
        only one. Raises UnknownModelError, which lists the nearest right ids.
        """
        family_name, _, rest = model_id.partition("/")
        version, _, task = rest.partition("/")
        models = self.family(family_name).models
        if version:
            found = [model for model in models if version == model.slug] or [
                model for model in models if version == model.version
            ]
            if not found:
                raise _unknown(model_id, f'"{family_name}" has no version "{version}"', models)
            models = tuple(found)
        if task:
            found = [model for model in models if model.task == task]
            if not found:
                raise _unknown(model_id, f'"{family_name}/{version}" has no task "{task}"', models)
            models = tuple(found)
        if len(models) > 1:
            missing = "task" if len({model.slug for model in models}) == 1 else "version"
            raise UnknownModelError(
                f'"{model_id}" leaves the {missing} open.',
                details=[model.id for model in models],
                hint="name one of these",
            )
        return models[0]

    def filter(
        self,
        *,
        task: str | None = None,
        axes: str | None = None,
        text: str | None = None,
        reachable: bool | None = None,
    ) -> tuple[Model, ...]:
        """Models for a task, with these axes (in any order), that speak of all words of `text`.

        A word counts where one of the model's starts with it: its id, names, descriptions,
        keywords and task are looked through.

        `reachable` True leaves out models that this user cannot reach, False all others.
        Raises UnknownModelError for a task that there is not, UsageError for such axes.
        """
        if task is not None and task not in self.tasks:
            raise UnknownModelError(f'There is no task "{task}".', hint=self._hint_for_task(task))
        if axes is not None and not set(axes.upper()) <= set("TCZYX"):
            raise UsageError(
                f'There are no axes "{axes}".', hint="letters of TCZYX, such as YX or ZYX"
            )
        words = [re.compile(rf"\b{re.escape(word)}", re.I) for word in (text or "").split()]
        return tuple(
            model
            for family in self._families()
            for model in family.models
            if (task is None or model.task == task)
            and (axes is None or (model.axes and set(model.axes) == set(axes.upper())))
            and (not words or self._speaks_of(model, family, words))
            and (reachable is None or model.reachable == reachable)
        )

    def _hint_for_task(self, task: str) -> str:
        by_words = {words: short for short, words in self.tasks.items()}
        close = nearest(task, self.tasks) or [by_words[word] for word in nearest(task, by_words)]
        return f'did you mean "{close[0]}"?' if close else f"one of {listing(self.tasks)}"

    def params_for(self, model: Model | str) -> tuple[Parameter, ...]:
        """The parameters of a model: its task's own, else its family's."""
        family, model, origin = self._origin(model)
        params = self._task(family, model, origin).params
        for index in range(origin, -1, -1):
            if params is None:
                params = self._manifest(family, index).params
        return tuple(copy.deepcopy(params or ()))

    def metadata_for(self, model: Model | str) -> Metadata:
        """The metadata of a model: field by field its task's, its version's, its family's."""
        from aiod.registry.metadata import Metadata

        given: dict[str, Any] = {}
        for _, block in self._blocks(model):
            for field in block.model_fields_set:
                if getattr(block, field) is not None:
                    given.setdefault(field, copy.deepcopy(getattr(block, field)))
        return Metadata.model_construct(_fields_set=set(given), **given)

    def test_for(self, model: Model | str) -> Expectation | None:
        """The input that a model must give a known result for; None where it names none."""
        for layer, block in self._blocks(model):
            if block.test is not None:
                right = block.test.expected
                return Expectation(
                    input=resolve(block.test.input, layer.manifests),
                    expected=right if isinstance(right, int) else resolve(right, layer.manifests),
                    tolerance=block.test.tolerance,
                )
        return None

    def _blocks(self, model: Model | str) -> Iterator[tuple[Layer, Metadata]]:
        """The blocks of metadata that hold for a model: its own first, its family's last."""
        family, model, origin = self._origin(model)
        for index in range(origin, -1, -1):
            manifest = self._manifest(family, index)
            name = family.name_in(model, index)
            version = manifest.versions[name] if name is not None else None
            task = version.tasks.get(model.task) if version and index == origin else None
            for block in (task and task.metadata, version and version.metadata, manifest.metadata):
                if block:
                    yield family.sources[index].layer, block

    def locations_for(self, model: Model | str) -> tuple[WeightsLocation, ...]:
        """Where the weights of a model lie, the first to try first; empty for an algorithm."""
        family, wanted, _ = self._origin(model)
        if not wanted.needs_weights:
            return ()
        found: dict[str, WeightsLocation] = {}
        for index, name in family.origins(wanted)[1]:
            layer = family.sources[index].layer
            manifest = self._manifest(family, index)
            for item in _entries_of(manifest.versions[name].tasks[wanted.task]):
                place = resolve(item["location"], layer.manifests)
                config = item["config_path"]
                beside = resolve(config, layer.manifests) if config else None
                found.setdefault(
                    str(place),
                    WeightsLocation(
                        weights=place,
                        config=beside or self._family_config(family, index),
                        sha256=item["sha256"],
                        size=item["size"],
                        layer=layer.name,
                    ),
                )
        return tuple(found.values())

    def default_config(self, model: Model | str) -> dict[str, Any]:
        """What a runner is called with when a user changes nothing: argument -> value."""
        return {
            parameter.arg_name or parameter.name: default_of(parameter)
            for parameter in self.params_for(model)
        }

    def manifest_files(self, model: Model | str) -> tuple[tuple[str, Path], ...]:
        """Layer and file of each manifest that has a say in a model, the defining one last."""
        family, _, origin = self._origin(model)
        return tuple(
            (source.layer.name, source.entry.path) for source in family.sources[: origin + 1]
        )

    def manifests_of(self, short_name: str) -> tuple[tuple[Layer, Manifest], ...]:
        """The manifests that make up a family, in the order of the layers."""
        family = self.family(short_name)
        return tuple(
            (source.layer, copy.deepcopy(self._manifest(family, index)))
            for index, source in enumerate(family.sources)
        )

    def _origin(self, model: Model | str) -> tuple[Family, Model, int]:
        found = self.get(model.id if isinstance(model, Model) else model)
        family = self.family(found.family)
        return family, found, family.origins(found)[0]

    def _task(self, family: Family, model: Model, index: int) -> TaskEntry:
        name = family.name_in(model, index)
        return self._manifest(family, index).versions[str(name)].tasks[model.task]

    def _manifest(self, family: Family, index: int) -> Manifest:
        entry = family.sources[index].entry
        return _read_manifest(entry.path, entry.signature, tuple(self.tasks))

    def _family_config(self, family: Family, origin: int) -> Place | None:
        """The config of the family as source `origin` gives it, else as an earlier one does."""
        for index in range(origin, -1, -1):
            manifest = self._manifest(family, index)
            config = manifest.config or manifest.config_path
            if config:
                return resolve(config, family.sources[index].layer.manifests)
        return None

    def _speaks_of(self, model: Model, family: Family, words: list[re.Pattern[str]]) -> bool:
        spoken = " ".join(
            (
                model.id,
                model.family_name,
                model.version,
                self.tasks[model.task],
                model.description,
                family.description,
                *model.keywords,
            )
        ).replace("_", " ")
        return all(word.search(spoken) for word in words)


def default_of(parameter: Parameter) -> Any:
    """The value of a parameter that nobody has changed: of choices the default, else the first."""
    if isinstance(parameter.value, list):
        return parameter.value[0] if parameter.default is None else parameter.default
    return parameter.value


@lru_cache(maxsize=256)
def _read_manifest(path: Path, signature: Signature, tasks: tuple[str, ...]) -> Manifest:
    """A manifest as it was when the registry was loaded. Raises ManifestError if it changed."""
    from aiod.registry.manifest import read_manifest

    _refuse_changed(path, signature)
    manifest = read_manifest(path, dict.fromkeys(tasks, ""))
    _refuse_changed(path, signature)
    return manifest


def _refuse_changed(path: Path, signature: Signature) -> None:
    try:
        same = signature_of(path.stat()) == signature
    except OSError as error:
        raise ManifestError(
            f"{path} can no longer be read: {reason(error)}.", hint="load the registry again"
        ) from error
    if not same:
        raise ManifestError(
            f"{path} has changed since the registry was loaded.", hint="load the registry again"
        )


def _entries_of(entry: TaskEntry) -> list[dict[str, Any]]:
    if entry.location is not None:
        return [
            {
                "location": entry.location,
                "config_path": entry.config_path,
                "sha256": None,
                "size": None,
            }
        ]
    return [item.model_dump() for item in entry.locations or ()]


def _all_tasks(layers: list[Layer], problems: list[Problem]) -> dict[str, str]:
    tasks = dict(TASK_NAMES)
    for layer in layers:
        if layer is not SHIPPED and os.path.lexists(layer.tasks_file):
            try:
                tasks.update(read_tasks(layer.tasks_file))
            except ManifestError as error:
                expected = 'an object such as {"nuclei": "Nuclei"}'
                problems.append(_problem(layer.tasks_file, "tasks", error, expected))
    return tasks


def _entries(layer: Layer, tasks: Mapping[str, str], problems: list[Problem]) -> Iterable[Entry]:
    try:
        return index_layer(layer, tasks)
    except OSError as error:  # it could be listed a moment ago
        problems.append(_problem(layer.folder, "layer", reason(error), "a readable folder"))
        return ()


def _problem(path: Path, code: str, found: str | ManifestError, expected: str) -> Problem:
    words, hint = (found, None) if isinstance(found, str) else (found.what, found.hint)
    where = os.fspath(path)
    return Problem("error", code, where, 1, 1, 1, "", words.rstrip("."), expected, hint)


def _unknown(asked: str, what: str, models: tuple[Model, ...]) -> UnknownModelError:
    ids = [model.id for model in models]
    close = nearest(asked, ids, count=5) or ids[:5]
    return UnknownModelError(
        f"{what}.", details=["the nearest ids are:", *close], hint="`aiod list` shows all models"
    )
