"""The registry of models: manifests, layers, locations, weights.

>>> from aiod.registry import load
>>> registry = load()
>>> [model.id for model in registry.filter(task="nuclei", text="cellpose")]
['cellpose/nuclei/nuclei', 'cellposesam/cpsam/nuclei']

Names are imported when they are first used, so that a program pays only for what it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiod.registry.catalogue import Registry, load
    from aiod.registry.layers import Layer
    from aiod.registry.locations import Place, WeightsLocation
    from aiod.registry.manifest import read_document, read_manifest
    from aiod.registry.merge import Family, Model
    from aiod.registry.metadata import Metadata
    from aiod.registry.problems import Problem
    from aiod.registry.schema import Manifest, Parameter
    from aiod.registry.tasks import TASK_NAMES

_HOMES = {
    "Family": "merge",
    "Layer": "layers",
    "Manifest": "schema",
    "Metadata": "schema",
    "Model": "merge",
    "Parameter": "schema",
    "Place": "locations",
    "Problem": "problems",
    "Registry": "catalogue",
    "TASK_NAMES": "tasks",
    "WeightsLocation": "locations",
    "load": "catalogue",
    "read_document": "manifest",
    "read_manifest": "manifest",
}

__all__ = [
    "TASK_NAMES",
    "Family",
    "Layer",
    "Manifest",
    "Metadata",
    "Model",
    "Parameter",
    "Place",
    "Problem",
    "Registry",
    "WeightsLocation",
    "load",
    "read_document",
    "read_manifest",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"aiod.registry.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
