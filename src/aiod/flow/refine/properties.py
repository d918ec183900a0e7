"""What objects are chosen by: a property of each, as scikit-image measures it.

    size            pixels, or µm² (µm³)             diameter    of a disk (ball) of that size
    length          longest axis of the ellipse (ellipsoid) with the same moments
    elongation      length / shortest axis, in 2D    roundness   4π area / perimeter², in 2D
    solidity        size / size of the convex hull   extent      size / size of the bounding box
    intensity_…     of an image's pixels in the object

Sizes and lengths are in µm where the pixel size is known along all axes, else in pixels.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import numpy as np
from skimage.measure import regionprops_table

from aiod.errors import UsageError
from aiod.flow.refine.frames import Numbers, checked, numbered, spacing
from aiod.flow.source import Pixels

Property = Literal[
    "size",
    "diameter",
    "length",
    "elongation",
    "roundness",
    "solidity",
    "extent",
    "intensity_mean",
    "intensity_min",
    "intensity_max",
]
PROPERTIES: tuple[str, ...] = get_args(Property)


@dataclass(frozen=True, slots=True)
class _Measure:
    """Columns of scikit-image, what is made of them, and of what kind that is."""

    columns: tuple[str, ...]
    value: Callable[..., Numbers]
    kind: Literal["size", "length", "plain"] = "plain"
    flat: bool = False


def _itself(value: Numbers) -> Numbers:
    return value


def _ratio(one: Numbers, other: Numbers) -> Numbers:
    found: Numbers = one / other
    return found


def _roundness(area: Numbers, perimeter: Numbers) -> Numbers:
    found: Numbers = 4 * math.pi * area / perimeter**2
    return found


_MEASURES: dict[str, _Measure] = {
    "size": _Measure(("area",), _itself, "size"),
    "diameter": _Measure(("equivalent_diameter_area",), _itself, "length"),
    "length": _Measure(("axis_major_length",), _itself, "length"),
    "elongation": _Measure(("axis_major_length", "axis_minor_length"), _ratio, flat=True),
    "roundness": _Measure(("area", "perimeter"), _roundness, flat=True),
    "solidity": _Measure(("solidity",), _itself),
    "extent": _Measure(("extent",), _itself),
    "intensity_mean": _Measure(("intensity_mean",), _itself),
    "intensity_min": _Measure(("intensity_min",), _itself),
    "intensity_max": _Measure(("intensity_max",), _itself),
}


@dataclass(frozen=True, slots=True)
class Measured:
    """The `values` of a property of the objects `ids`, in a `unit`; NaN where there is none."""

    ids: Numbers
    values: Numbers
    unit: str

    def within(
        self,
        *,
        minimum: Annotated[float, "objects with less are outside the range"],
        maximum: Annotated[float, "objects with more are outside the range"],
    ) -> Numbers:
        """The ids of the objects in a range, both ends being in it."""
        found: Numbers = self.ids[(self.values >= minimum) & (self.values <= maximum)]
        return found

    def outside(self, *, minimum: float, maximum: float) -> Numbers:
        """The ids of the objects outside; what has no value is neither within nor outside."""
        found: Numbers = self.ids[(self.values < minimum) | (self.values > maximum)]
        return found


def measured(
    labels: Pixels,
    pixel_size: Mapping[str, float] | None = None,
    image: Pixels | None = None,
    *,
    property: Annotated[Property, "what objects are chosen by"] = "size",  # noqa: A002
) -> Measured:
    """A property of every object of labels (YX or ZYX), `image` being of the same shape.

    Raises UsageError for a property that such labels do not have.

    >>> measured(np.array([[4, 4, 0, 2]]), {"Y": 0.5, "X": 0.5})
    Measured(ids=array([2, 4]), values=array([0.25, 0.5 ]), unit='µm²')
    """
    measure = _MEASURES[property]
    axes = "ZYX"[-checked(labels).ndim :]
    known = set(axes) <= set(pixel_size or {})
    sides = spacing(axes, pixel_size, "um" if known else "px")
    _check(property, measure, labels, sides, image)
    compacted, names = numbered(labels)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # a flat object has no convex hull, a dot no length
        table = regionprops_table(
            compacted,
            image if "intensity" in property else None,
            properties=measure.columns,
            spacing=(1.0,) * len(axes) if property == "roundness" else sides,
        )
        values = measure.value(*(np.asarray(table[name], float) for name in measure.columns))
    values = np.where(np.isfinite(values), values, np.nan)
    return Measured(names[1:], values, _unit(measure.kind, len(axes), known))


def _check(
    name: str,
    measure: _Measure,
    labels: Pixels,
    sides: tuple[float, ...],
    image: Pixels | None,
) -> None:
    """Raises UsageError for a property that such labels do not have."""
    if measure.flat and labels.ndim > 2:
        raise UsageError(
            f"Objects in three dimensions have no {name} here.",
            hint="choose by solidity or extent",
        )
    if name == "roundness" and not math.isclose(*sides):
        raise UsageError(
            f"Roundness needs square pixels, and these are {sides[0]:g} × {sides[1]:g} µm.",
            hint="choose by solidity or elongation",
        )
    if "intensity" in name and image is None:
        raise UsageError(
            "Choosing by intensity needs an image.", hint="choose the image of these labels"
        )
    if image is not None and "intensity" in name and image.shape != labels.shape:
        raise UsageError(
            "The image and the labels differ in size.",
            details=[
                f"{what}: {' × '.join(map(str, shape))} pixels"
                for what, shape in (("image", image.shape), ("labels", labels.shape))
            ],
            hint="choose the image of these labels, one channel of it",
        )


def _unit(kind: str, axes: int, known: bool) -> str:
    """The unit of a measure, "" where it has none."""
    if kind == "plain":
        return ""
    power = axes if kind == "size" else 1
    return f"µm{('', '²', '³')[power - 1]}" if known else "px"
