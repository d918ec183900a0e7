"""Layers: folders of manifests, the shipped one first, an institute's and a lab's after it.

A layer is a folder with ``manifests/*.json`` and, where it has its own, ``manifests/tasks.json``,
``manifests/defaults.json``, ``runners/*.py`` and ``profiles/``. Naming a folder in
``AIOD_REGISTRIES``, in the config file or with ``--registry`` is how a user trusts its runners;
nothing else ever is.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from aiod.errors import ManifestError
from aiod.files import reason
from aiod.registry.settings import configured_registries
from aiod.registry.tasks import TASKS_FILE

DEFAULTS_FILE = "defaults.json"
NO_MANIFESTS = frozenset({TASKS_FILE, DEFAULTS_FILE})
"""What lies beside the manifests of a layer and is none: a folder of them is read without these."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A folder of manifests and the name it goes by in tables."""

    name: str
    folder: Path

    @property
    def manifests(self) -> Path:
        return self.folder / "manifests"

    @property
    def runners(self) -> Path:
        return self.folder / "runners"

    @property
    def tasks_file(self) -> Path:
        return self.manifests / TASKS_FILE


SHIPPED = Layer("aiod", Path(__file__).resolve().parents[1])


def find_layers(extra: Iterable[Path | str] = ()) -> tuple[Layer, ...]:
    """The shipped layer, those of the config file and `AIOD_REGISTRIES`, then `extra`.

    A folder that is named twice counts where it is named last. Whether a folder can be read is
    seen when it is. Raises UsageError for a config file that makes no sense.
    """
    folders: dict[Path, None] = {}
    for folder in (*configured_registries(), *(Path(item).absolute() for item in extra)):
        folders.pop(folder, None)
        folders[folder] = None
    layers = [SHIPPED]
    for folder in folders:
        real = os.path.realpath(folder)  # unlike `resolve`, content with a circle of links
        if real != str(SHIPPED.folder):
            taken = {layer.name for layer in layers}
            name = folder.name if folder.name not in ("", "..") else Path(real).name
            layers.append(Layer(name if name and name not in taken else str(folder), folder))
    return tuple(layers)


def check_layer(layer: Layer) -> None:
    """Raise ManifestError unless the layer's folder of manifests can be listed."""
    try:
        next(layer.manifests.iterdir(), None)
    except FileNotFoundError as error:
        missing = "does not exist" if not layer.folder.exists() else "has no folder manifests/"
        hint = "a layer is a folder with manifests/*.json"
        if any(layer.folder.glob("*.json")):
            hint = f"the manifests lie in {layer.folder} itself; name the folder above it"
        raise ManifestError(f"The layer {layer.folder} {missing}.", hint=hint) from error
    except OSError as error:
        raise ManifestError(f"The layer {layer.folder} cannot be read: {reason(error)}.") from error
