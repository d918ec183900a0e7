"""Labels of large planes: a pyramid at the press of Run, while they grow and when they are done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_stitch import same_labels
from toylab import Image, blobs, pieces
from window import labels_in

from aiod.flow.results import view
from aiod.napari import levels, results
from aiod.napari.segment import Segment

pytest_plugins = ["labs", "window"]


@pytest.fixture
def large(segment: Segment, viewer: Any, monkeypatch: pytest.MonkeyPatch) -> Image:
    """An image of 600 x 530 pixels, which is more than napari is to draw at once."""
    monkeypatch.setattr(view, "_MOST_OF_A_PLANE", 1000)
    monkeypatch.setattr(levels, "_COARSEST", 30_000)
    image = blobs((600, 530))
    viewer.layers["cells"].data = image
    segment.form.place.tile.setText("256")
    return image


SHAPES = [(600, 530), (300, 265), (150, 133)]


def test_labels_of_large_planes_grow_in_all_levels_of_a_pyramid(
    segment: Segment,
    viewer: Any,
    large: Image,
    wait: Callable[..., None],
    press: Callable[[], Any],
    changes: list[str],
) -> None:
    segment.form.parameters.give({"threshold": 150, "seconds": 0.3})
    layer = press()
    assert [level.shape for level in layer.data] == SHAPES
    arrays = list(layer.data)
    wait(lambda: all(np.any(level) for level in arrays))
    assert "arriving" in layer.name
    for n, level in enumerate(arrays):
        assert np.array_equal(level, arrays[0][:: 2**n, :: 2**n])
    wait()
    assert changes == ["+nuclei (arriving)"]
    assert all(a is b for a, b in zip(layer.data, arrays, strict=True))
    assert same_labels(arrays[0], pieces(large, 150))
    for n, level in enumerate(arrays):
        assert np.array_equal(level, arrays[0][:: 2**n, :: 2**n])
    drawn, (top, left) = layer._slice.image.raw, layer.corner_pixels[0]
    in_view = arrays[layer.data_level][top : top + drawn.shape[0], left : left + drawn.shape[1]]
    assert np.array_equal(drawn, in_view)
    assert not layer.editable  # napari can paint in no pyramid


def test_a_stopped_run_goes_on_in_its_pyramid(
    segment: Segment, viewer: Any, large: Image, wait: Callable[..., None], changes: list[str]
) -> None:
    segment.form.parameters.give({"threshold": 150, "seconds": 0.5})
    segment.run()
    wait(lambda: any(np.any(layer.data[0]) for layer in labels_in(viewer).values()))
    segment.cancel()
    wait()
    (layer,) = labels_in(viewer).values()
    assert layer.data[0].any()
    assert layer.visible
    segment.run()
    wait()
    assert changes == ["+nuclei (arriving)"]
    assert same_labels(layer.data[0], pieces(large, 150))


def test_labels_too_large_for_memory_come_as_a_lazy_pyramid(
    segment: Segment,
    viewer: Any,
    large: Image,
    wait: Callable[..., None],
    changes: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(results, "_MOST_IN_MEMORY", 1000)
    segment.run()
    wait()
    assert changes == ["+nuclei (arriving)"]
    (layer,) = labels_in(viewer).values()
    assert [level.shape for level in layer.data] == SHAPES
    assert not isinstance(layer.data[0], np.ndarray)
    assert same_labels(np.asarray(layer.data[0]), pieces(large, 150))


def test_labels_of_another_size_come_into_the_same_pyramid(
    segment: Segment,
    viewer: Any,
    large: Image,
    wait: Callable[..., None],
    changes: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(view, "_MOST_OF_A_PLANE", large.size - 1)  # which half of it is not
    segment.form.before.add("downsample")
    selected = set(viewer.layers.selection)
    segment.run()
    wait()
    assert changes == ["+nuclei (arriving)"]
    (layer,) = labels_in(viewer).values()
    assert [level.shape for level in layer.data] == SHAPES
    assert set(viewer.layers.selection) == selected
