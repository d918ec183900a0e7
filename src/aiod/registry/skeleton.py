"""The beginning of a runner: what `aiod new family` writes beside the manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_TEMPLATE = '''# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.2.6"]  # pin what the model needs, the library itself first
# ///
"""Runner of {name}. It imports nothing of aiod, and aiod never imports it."""


def load(weights, *, config, device):
    """Load the model once per worker.

    weights: path of the file (or folder), None for an algorithm; config: path or None;
    device: "cpu", "cuda", "cuda:1" or "mps".
    """
    raise NotImplementedError("load the weights here and return the model")


def predict(model, image, *, axes{keywords}):
    """Labels of one tile: 0 is background, each object its own positive integer.

    image: numpy array with axes {axes}; the result has the same Y and X (and Z, if it has one).
    """
    raise NotImplementedError("run the model here and return its labels")
'''


def runner_skeleton(name: str, axes: str | None, keywords: Mapping[str, Any]) -> str:
    """A runner's text whose `predict` takes these keywords with these defaults."""
    title = "".join(letter if letter.isprintable() else " " for letter in name)
    title = title.replace("\\", "").replace('"', "'")
    taken = "".join(f", {keyword}={_literal(value)}" for keyword, value in keywords.items())
    return _TEMPLATE.format(name=title, axes=axes or "as the manifest says", keywords=taken)


def _literal(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value)
    return json.dumps(value, ensure_ascii=False)
