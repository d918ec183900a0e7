"""Which model runs for a task when nobody names one: lines of `manifests/defaults.json`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from aiod.errors import AiodError, ManifestError
from aiod.files import read_text
from aiod.registry.jsontext import IrregularJSON, parse
from aiod.registry.layers import DEFAULTS_FILE, Layer

_ADVICE = 'write it as {"nuclei": "family/version/nuclei", …}, a model id for each task'
_MAX_BYTES = 100_000


def default_models(layers: Iterable[Layer]) -> Mapping[str, str]:
    """Task -> model id, of all layers that have such a file; a later layer's line wins.

    Whether there are such tasks and models is for whoever uses one to see, and for `aiod validate`.
    Raises ManifestError for a file that cannot be used.
    """
    defaults: dict[str, str] = {}
    for layer in layers:
        path = layer.manifests / DEFAULTS_FILE
        if os.path.lexists(path):
            defaults.update(read_defaults(path))
    return MappingProxyType(defaults)


def read_defaults(path: Path) -> Mapping[str, str]:
    """Task -> model id of one file, in its order. Raises ManifestError."""
    try:
        lines = parse(read_text(path, limit=_MAX_BYTES))
    except (AiodError, IrregularJSON) as error:
        raise ManifestError(
            f"The list of default models {path} cannot be read: {error}", hint=_ADVICE
        ) from error
    if not isinstance(lines, dict):
        raise ManifestError(f"The list of default models {path} is no JSON object.", hint=_ADVICE)
    for task, model in lines.items():
        if not isinstance(model, str) or not model.strip():
            raise ManifestError(
                f"The list of default models {path} names no model for {task!r}.", hint=_ADVICE
            )
    return MappingProxyType(lines)
