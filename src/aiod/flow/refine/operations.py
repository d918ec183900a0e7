"""The operations on whole label images there are, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from aiod.flow.refine.combine import differences, union, vote
from aiod.flow.refine.frames import each_time, numbered
from aiod.flow.refine.shape import close, dilate, erode, open_
from aiod.flow.refine.stack import link_planes
from aiod.flow.refine.steps import step
from aiod.flow.source import Pixels
from aiod.flow.steps.after import AFTER
from aiod.flow.steps.calls import make_call


@dataclass(frozen=True, slots=True)
class Operation:
    """What is done to labels: `function` is whose signature is the form, `apply` what is called.

    `apply` gets labels, the pixel size and parameters by name: of one time point, or of all where
    `whole`. `check` is that of the steps of a pipeline: none is needed here.
    """

    function: Callable[..., Any]
    apply: Callable[..., Pixels]
    whole: bool = False
    check: None = None


def relabel(labels: Pixels) -> Pixels:
    """Objects get the numbers 1…n, in the order of the numbers they have.

    What has one number in several time points still has one. The result is uint32.
    """
    return numbered(labels)[0].astype(np.uint32)


def _without_size(function: Callable[..., Pixels]) -> Callable[..., Pixels]:
    """An operation that does not ask for the pixel size."""

    def apply(labels: Pixels, _: Mapping[str, float] | None = None, **params: Any) -> Pixels:
        return function(labels, **params)

    return apply


OPERATIONS: dict[str, Operation] = {
    **{name: Operation(found.function, partial(step, name)) for name, found in AFTER.items()},
    "dilate": Operation(dilate, dilate),
    "erode": Operation(erode, erode),
    "open": Operation(open_, open_),
    "close": Operation(close, close),
    "relabel": Operation(relabel, _without_size(relabel), whole=True),
    "link_planes": Operation(link_planes, _without_size(link_planes)),
}
"""Operations on one label image, by name; the first ones are those that may follow a model."""

COMBINATIONS: dict[str, Callable[..., Pixels]] = {
    "union": union,
    "vote": vote,
    "differences": differences,
}
"""Operations on several label images of one image, by name."""


def operate(
    name: str,
    labels: Pixels,
    *,
    axes: str,
    pixel_size: Mapping[str, float] | None = None,
    **params: Any,
) -> Pixels:
    """Labels after an operation, a new array.

    `axes` are those of the labels: YX or ZYX, T before them where there are time points, each of
    which is taken by itself. `pixel_size` is in µm for those of Z, Y and X whose size is known.
    Raises UsageError, which lists the operations where there is none of that name.

    >>> operate("erode", np.array([[0, 3, 3, 3, 0]]), axes="YX", radius=1).tolist()
    [[0, 0, 3, 0, 0]]
    """
    call = make_call(name, params, OPERATIONS, what="operation")
    operation = OPERATIONS[name]

    def apply(frame: Pixels) -> Pixels:
        return operation.apply(frame, pixel_size, **call.params)

    return apply(labels) if operation.whole else each_time(apply, labels, axes=axes)
