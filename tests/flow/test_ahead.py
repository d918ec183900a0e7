"""What is made while the model is at the tiles: the picture's part of the image, read once."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from aiod.flow.ahead import Ahead
from aiod.flow.results.overlay import light_of
from aiod.flow.source import Box, Source

PIXELS = np.random.default_rng(0).integers(0, 9000, (2000, 1900), np.uint16)
IMAGE = Source("YX", PIXELS.shape, PIXELS.dtype, lambda box: PIXELS[box.slices])


def test_it_is_what_would_be_made_afterwards() -> None:
    ahead = Ahead(IMAGE, map)
    ahead.begin()
    made, expected = ahead.light(), light_of(IMAGE)
    assert made is not None
    assert expected is not None
    np.testing.assert_array_equal(made, expected)


def test_nothing_is_read_before_it_begins_and_nobody_waits_then() -> None:
    assert Ahead(IMAGE, map).light() is None


def test_it_is_waited_for() -> None:
    go = threading.Event()

    def read(box: Box) -> Any:
        assert go.wait(30)
        return PIXELS[box.slices]

    ahead = Ahead(Source("YX", PIXELS.shape, PIXELS.dtype, read), map)
    ahead.begin()
    threading.Timer(0.2, go.set).start()
    assert ahead.light() is not None


def test_what_cannot_be_read_is_left_to_whoever_needs_it() -> None:
    def read(_: Box) -> Any:
        raise OSError("the disk is gone")

    ahead = Ahead(Source("YX", (50, 50), PIXELS.dtype, read), map)
    ahead.begin()
    assert ahead.light() is None
