"""Pixel sizes: lengths of many units in micrometres, and what people type."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Any

from aiod.errors import UsageError
from aiod.words import shown

_MICROMETRES = {
    # The names of OME-Zarr are those of UDUNITS-2, the symbols those of OME-XML and of ImageJ.
    "micrometer": 1.0,
    "nanometer": 1e-3,
    "picometer": 1e-6,
    "femtometer": 1e-9,
    "angstrom": 1e-4,
    "millimeter": 1e3,
    "centimeter": 1e4,
    "decimeter": 1e5,
    "meter": 1e6,
    "kilometer": 1e9,
    "inch": 25_400.0,
    "foot": 304_800.0,
    "yard": 914_400.0,
    "mile": 1_609_344_000.0,
    "thou": 25.4,
    "mil": 25.4,
    "pica": 25_400 / 6,
    "point": 25_400 / 72,
    "um": 1.0,
    "micron": 1.0,
    "nm": 1e-3,
    "pm": 1e-6,
    "fm": 1e-9,
    "å": 1e-4,
    "mm": 1e3,
    "cm": 1e4,
    "dm": 1e5,
    "m": 1e6,
    "km": 1e9,
    "in": 25_400.0,
    '"': 25_400.0,
    "ft": 304_800.0,
    "yd": 914_400.0,
    "mi": 1_609_344_000.0,
    "li": 25_400 / 12,
    "pt": 25_400 / 72,
}


def micrometres(value: Any, unit: Any = "µm") -> float | None:
    """A length in micrometres; None where the number or the unit says nothing.

    >>> micrometres(325, "nm"), micrometres("0.5", "micron"), micrometres(1, "pixel")
    (0.325, 0.5, None)
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    factor = _factor(unit) if isinstance(unit, str) else None
    if factor is None:
        return None
    # By division where it is exact: 325 nm are 0.325 µm and not 0.32500000000000001.
    length = number / round(1 / factor) if factor < 1 else number * factor
    return length if math.isfinite(length) and 1e-9 < length < 1e9 else None


def _factor(unit: str) -> float | None:
    # ImageJ writes the escape instead of the letter; Unicode has two letters µ and two Å.
    word = unicodedata.normalize("NFKC", unit.strip().replace("\\u00B5", "u")).casefold()
    word = word.replace("μ", "u").replace("metre", "meter")
    for spelling in (word, word.removesuffix("s"), word.removesuffix("es")):
        if spelling in _MICROMETRES:
            return _MICROMETRES[spelling]
    return None


_LENGTH = re.compile(r"\s*((?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*([^\s0-9.,]*)\s*")


def parse_pixel_size(text: str) -> dict[str, float]:
    """The pixel size that a user typed, as axis -> micrometres.

    One number is Y and X, two are Y and X, three are Z, Y and X; a unit may follow each, or the
    last one for all. Raises UsageError.

    >>> parse_pixel_size("0.325")
    {'Y': 0.325, 'X': 0.325}
    >>> parse_pixel_size("2,0.325,0.325")
    {'Z': 2.0, 'Y': 0.325, 'X': 0.325}
    >>> parse_pixel_size("300nm")
    {'Y': 0.3, 'X': 0.3}
    """
    matches = [_LENGTH.fullmatch(part) for part in text[:200].split(",")]
    if len(matches) > 3 or None in matches:
        raise _no_pixel_size(text, "it is not one, two or three numbers")
    found = [(match[1], match[2]) for match in matches if match]
    last = found[-1][1] or "µm"
    sizes = []
    for number, unit in found:
        length = micrometres(number, unit or last)
        if length is None:
            raise _no_pixel_size(
                text,
                "a size must be more than 0"
                if _factor(unit or last)
                else f"the unit {shown(unit or last)} is not known",
            )
        sizes.append(length)
    if len(sizes) == 1:
        sizes *= 2
    return dict(zip("ZYX"[-len(sizes) :], sizes, strict=True))


def _no_pixel_size(text: str, why: str) -> UsageError:
    return UsageError(
        f"{shown(text)} is no pixel size: {why}.",
        hint="give micrometres, as in 0.325 (Y and X), 2,0.325,0.325 (Z, Y, X) or 300nm",
    )
