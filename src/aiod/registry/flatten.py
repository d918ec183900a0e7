"""One self-contained manifest for a family, whatever the number of layers it comes from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiod.registry.catalogue import Registry
from aiod.registry.locations import WeightsLocation
from aiod.registry.merge import Model


def flattened(registry: Registry, short_name: str, models: Iterable[Model]) -> dict[str, Any]:
    """The manifest of a family with these models, every location spelled out.

    What the first layer gives for the whole family stays there; a task repeats parameters and
    metadata only where its own differ. The result is valid by itself: relative paths have become
    absolute.
    """
    _, first = registry.manifests_of(short_name)[0]
    document = plain(first)
    document.pop("$schema", None)
    document["short_name"] = short_name
    for key in ("config", "config_path"):  # each location spells out its own
        document.pop(key, None)
    family_metadata = document["metadata"]
    family_params = document.get("params")
    versions: dict[str, Any] = {}
    for model in models:
        version = versions.setdefault(model.version, {"slug": model.slug})
        if model.axes:
            version["axes"] = model.axes
        entry: dict[str, Any] = {}
        if model.needs_weights:
            entry["locations"] = [as_entry(item) for item in registry.locations_for(model)]
        else:
            entry["weights"] = False
        params = [plain(parameter) for parameter in registry.params_for(model)]
        if params != (family_params or []):
            entry["params"] = params
        metadata = plain(registry.metadata_for(model))
        own = {key: value for key, value in metadata.items() if family_metadata.get(key) != value}
        if own:
            entry["metadata"] = {"description": metadata["description"], **own}
        version.setdefault("tasks", {})[model.task] = entry
    document["versions"] = versions
    return document


def as_entry(location: WeightsLocation) -> dict[str, Any]:
    """A location as an entry of `locations`."""
    values = {
        "location": str(location.weights),
        "config_path": str(location.config) if location.config else None,
        "sha256": location.sha256,
        "size": location.size,
    }
    return {key: value for key, value in values.items() if value is not None}


def plain(value: Any) -> dict[str, Any]:
    """A model of the schema as it was written: only the fields that were given."""
    written: dict[str, Any] = value.model_dump(exclude_unset=True, by_alias=True)
    return written
