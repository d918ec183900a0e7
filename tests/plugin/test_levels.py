"""Labels as pyramids in memory: each level is every second, fourth, … pixel of the finest."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from aiod.napari import levels
from aiod.napari.levels import Levels


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    """Levels end at 20 pixels of a plane."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(levels, "_COARSEST", 20)
        yield


shapes = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 40), st.integers(1, 40))


def are_levels(made: Levels) -> bool:
    steps = [2**n for n in range(len(made.coarser) + 1)]
    all_levels = [made.finest, *made.coarser]
    return all(
        np.array_equal(level, made.finest[..., ::step, ::step]) and level.flags.c_contiguous
        for step, level in zip(steps, all_levels, strict=True)
    )


@given(arrays.arrays(np.uint32, shapes), st.booleans())
def test_those_of_labels_are_every_second_fourth_pixel_of_them(labels: Any, pyramid: bool) -> None:
    made = Levels.of(labels, pyramid=pyramid)
    assert are_levels(made)
    assert np.array_equal(made.finest, labels)
    assert made.pyramid == pyramid
    if pyramid:
        assert math.prod(made.data[-1].shape[-2:]) <= 20
    else:
        assert made.data is made.finest


@given(shapes, st.data())
def test_what_is_written_anywhere_is_in_all_levels(shape: tuple[int, ...], data: Any) -> None:
    made = Levels.empty(shape, pyramid=data.draw(st.booleans()))
    expected = np.zeros(shape, np.uint32)
    for number in range(1, 4):
        start = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
        size = tuple(data.draw(st.integers(1, n - a)) for a, n in zip(start, shape, strict=True))
        labels = np.full(size, number, np.uint32)
        made.write(labels, start)
        expected[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = number
        made.touch()
    assert np.array_equal(made.finest, expected)
    assert are_levels(made)
