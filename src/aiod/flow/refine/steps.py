"""The steps on labels that follow a model, done to labels in memory; objects keep their numbers."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aiod.flow.refine.frames import Numbers, checked, looked_up, source_of, spacing
from aiod.flow.source import Box, Pixels
from aiod.flow.steps.after import AFTER
from aiod.flow.steps.calls import make_call
from aiod.flow.steps.tables import Cut, objects_of
from aiod.flow.tiling import Plan


def step(
    name: str, labels: Pixels, pixel_size: Mapping[str, float] | None = None, **params: Any
) -> Pixels:
    """Labels (YX or ZYX) after one of the steps of `aiod.flow.steps.after`, by its name.

    An object keeps its number. Where one falls into pieces (`components`), the first of them keeps
    it, the others get new ones above all that are there. Raises UsageError.

    >>> step("components", np.array([[5, 0, 5, 2]])).tolist()
    [[5, 0, 6, 2]]
    """
    call = make_call(name, params, AFTER, what="step on labels")
    source = source_of(checked(labels), pixel_size)
    spacing(source.axes, pixel_size, str(call.params.get("unit", "px")))  # its words fit a layer
    shape = labels.shape
    cut = Cut(shape, source.axes, Plan(shape, shape, (0,) * len(shape)))
    with tempfile.TemporaryDirectory(prefix="aiod-labels-") as folder:
        before = objects_of(source, cut, Path(folder), map)
        after = AFTER[name].function(before, **call.params)
        # `smooth` moves the first pixel of an object and leaves its number, others do the reverse
        first = (before if name == "smooth" else after).first[1:]
        names = _each_once(labels.reshape(-1)[first])
        return looked_up(labels, after.labels.read(Box.whole(shape)), names)


def _each_once(names: Numbers) -> Numbers:
    """A table of numbers from 1, in which those that come again are replaced by new ones."""
    again = np.ones(len(names), bool)
    again[np.unique(names, return_index=True)[1]] = False
    table = np.concatenate([[0], names]).astype(np.uint64)
    fresh = np.arange(1, int(again.sum()) + 1, dtype=np.uint64)
    table[1:][again] = table.max() + fresh
    return table
