"""What several layers make of one family.

The rules, in the order of the layers:

1. A family that no earlier layer has is added; so is a version, and a task of a version. The same
   family is the same ``short_name``, the same version the same slug or else the same name.
2. A task that an earlier layer has already, given with locations only: they are put before the
   earlier ones, so that a lab's copy on disk is used before a download.
3. The same, given with ``params`` or ``metadata`` of its own, with ``metadata`` or other ``axes``
   of its version, with ``"weights": false``, or with locations where the earlier one is an
   algorithm: it replaces the earlier one whole.
4. What a layer gives for a version (axes, metadata) or for the family as a whole (params, config,
   metadata) holds for what that layer adds or replaces; where it gives none, the earlier layers'
   holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiod.registry.entry import Entry
from aiod.registry.layers import Layer
from aiod.registry.locations import Place, resolve, why_unreachable


@dataclass(frozen=True, slots=True)
class Source:
    """One layer's manifest of a family."""

    layer: Layer
    entry: Entry


@dataclass(frozen=True, slots=True)
class Model:
    """One thing that can be run: a version of a family, for a task.

    `layers` names the layer that defines it, then those that brought further locations.
    `axes` (letters of TCZYX) is None where the manifest does not say.
    """

    id: str
    family: str
    family_name: str
    version: str
    slug: str
    task: str
    axes: str | None
    description: str
    keywords: tuple[str, ...]
    status: str | None
    needs_weights: bool
    locations: tuple[Place, ...]
    layers: tuple[str, ...]

    @property
    def reachable(self) -> bool:
        """Whether this user can reach the weights; an algorithm always can be."""
        return self.why_unreachable() is None

    def why_unreachable(self) -> str | None:
        """Why none of the locations can be reached; None if one can."""
        if not self.needs_weights:
            return None
        reasons = []
        for place in self.locations:
            reason = why_unreachable(place)
            if reason is None:
                return None
            reasons.append(reason)
        return "; ".join(reasons)


@dataclass(slots=True)
class _Task:
    origin: int
    given: dict[str, Any]
    # the sources that give locations, latest first
    places: list[int]


@dataclass(slots=True)
class _Version:
    name: str
    slug: str
    axes: str | None = None
    # the name that each source knows this version by
    names: dict[int, str] = field(default_factory=dict)
    tasks: dict[str, _Task] = field(default_factory=dict)


class Family:
    """One family, as all its layers together make it."""

    def __init__(self, short_name: str, sources: Sequence[Source]) -> None:
        self.short_name = short_name
        self.sources = tuple(sources)
        self._rows = [source.entry.summary() for source in sources]
        self._versions = _merged(self._rows)
        self.name: str = self._rows[0]["name"]
        self.description: str = self._rows[0]["description"]
        self.models: tuple[Model, ...] = tuple(
            self._model(version, task) for version in self._versions for task in version.tasks
        )

    def origins(self, model: Model) -> tuple[int, tuple[tuple[int, str], ...]]:
        """Which source defines a model, and which give its locations, the first to try first.

        Sources are numbered as in `sources`; each location's comes with the version's name there.
        """
        version = next(item for item in self._versions if item.slug == model.slug)
        task = version.tasks[model.task]
        return task.origin, tuple((index, version.names[index]) for index in task.places)

    def name_in(self, model: Model, source: int) -> str | None:
        """What a source calls a model's version; None if it does not have it."""
        version = next(item for item in self._versions if item.slug == model.slug)
        return version.names.get(source)

    def _said_of(self, version: _Version, origin: int) -> Iterator[dict[str, Any]]:
        """What source `origin` says of a version and of the family, then each earlier source."""
        for index in range(origin, -1, -1):
            row = self._rows[index]
            if index in version.names:
                yield row["versions"][version.names[index]]
            yield row

    def _model(self, version: _Version, task: str) -> Model:
        made = version.tasks[task]
        places: dict[str, Place] = {}
        for index in made.places:
            row = self._rows[index]["versions"][version.names[index]]["tasks"][task]
            for text in row["locations"]:
                place = resolve(text, self.sources[index].layer.manifests)
                places.setdefault(str(place), place)
        layers = dict.fromkeys((made.origin, *made.places))
        chain = [made.given, *self._said_of(version, made.origin)]
        return Model(
            id=f"{self.short_name}/{version.slug}/{task}",
            family=self.short_name,
            family_name=self.name,
            version=version.name,
            slug=version.slug,
            task=task,
            axes=_first(chain, "axes"),
            description=_first(chain, "description"),
            keywords=tuple(_first(chain, "keywords") or ()),
            status=_first(chain, "status"),
            needs_weights=made.given["weights"],
            locations=tuple(places.values()),
            layers=tuple(self.sources[index].layer.name for index in layers),
        )


def _first(chain: list[dict[str, Any]], key: str) -> Any:
    return next((given[key] for given in chain if given.get(key) is not None), None)


def _merged(rows: list[dict[str, Any]]) -> tuple[_Version, ...]:
    merged: list[_Version] = []
    for index, row in enumerate(rows):
        same = _same_versions(row["versions"], merged)
        for name, given in row["versions"].items():
            version = same.get(name)
            if version is None:
                version = _Version(name, given["slug"])
                merged.append(version)
            version.names[index] = name
            # Words or axes of its own: this is another model under the same name, not a copy.
            other = "description" in given or given["axes"] not in (None, version.axes)
            version.axes = given["axes"] or version.axes
            for task, entry in given["tasks"].items():
                known = version.tasks.get(task)
                if (
                    known is None
                    or entry["own"]
                    or other
                    or not entry["weights"]
                    or not known.given["weights"]
                ):
                    version.tasks[task] = _Task(index, entry, [index])
                else:
                    known.places.insert(0, index)
    return tuple(merged)


def _same_versions(given: dict[str, Any], known: list[_Version]) -> dict[str, _Version]:
    """Which of the known versions each given one is: that with its slug, else with its name.

    Slugs go first, so that no two versions end with one id; none is the same as two.
    """
    by_slug = {version.slug.casefold(): version for version in known}
    same = {
        name: by_slug[version["slug"].casefold()]
        for name, version in given.items()
        if version["slug"].casefold() in by_slug
    }
    taken = {version.slug for version in same.values()}
    by_name = {version.name: version for version in known if version.slug not in taken}
    return {name: by_name[name] for name in given if name in by_name} | same
