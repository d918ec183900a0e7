"""Lengths of many units in micrometres, and the pixel sizes that people type."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiod.errors import UsageError
from aiod.flow.images.units import micrometres, parse_pixel_size


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (325, "nm", 0.325),
        (325, "nanometer", 0.325),
        ("0.5", "µm", 0.5),
        (0.5, "\N{GREEK SMALL LETTER MU}m", 0.5),
        (0.5, "\\u00B5m", 0.5),
        (0.5, "microns", 0.5),
        (0.5, "micrometre", 0.5),
        (2, "mm", 2000),
        (1, "Inch", 25400),
        (2, "inches", 50800),
        (5, "\N{ANGSTROM SIGN}", 0.0005),
        (5, "Å", 0.0005),
        (1, "pixel", None),
        (1, "", None),
        (1, None, None),
        (0, "µm", None),
        (-1, "µm", None),
        (float("nan"), "µm", None),
        (float("inf"), "µm", None),
        ("a", "µm", None),
        (None, "µm", None),
    ],
)
def test_lengths_in_micrometres(value: Any, unit: Any, expected: float | None) -> None:
    assert micrometres(value, unit) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.325", {"Y": 0.325, "X": 0.325}),
        (" .5 ", {"Y": 0.5, "X": 0.5}),
        ("1,2", {"Y": 1.0, "X": 2.0}),
        ("2,0.325,0.325", {"Z": 2.0, "Y": 0.325, "X": 0.325}),
        ("0.3um", {"Y": 0.3, "X": 0.3}),
        ("0.3 µm", {"Y": 0.3, "X": 0.3}),
        ("300nm", {"Y": 0.3, "X": 0.3}),
        ("900, 300, 300 nm", {"Z": 0.9, "Y": 0.3, "X": 0.3}),
        ("1um, 300nm, 300nm", {"Z": 1.0, "Y": 0.3, "X": 0.3}),
        ("3e-4mm", {"Y": 0.3, "X": 0.3}),
    ],
)
def test_a_pixel_size_as_people_type_it(text: str, expected: dict[str, float]) -> None:
    assert parse_pixel_size(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not one, two or three numbers"),
        ("1,2,3,4", "not one, two or three numbers"),
        ("small", "not one, two or three numbers"),
        ("-1", "not one, two or three numbers"),
        ("0", "more than 0"),
        ("1e400", "more than 0"),
        ("1 parsec", 'the unit "parsec" is not known'),
    ],
)
def test_what_is_no_pixel_size(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        parse_pixel_size(text)
    assert caught.value.hint is not None


@given(st.text(max_size=300))
def test_any_text_is_a_pixel_size_or_a_sentence(text: str) -> None:
    try:
        sizes = parse_pixel_size(text)
    except UsageError:
        return
    assert all(size > 0 for size in sizes.values())
