"""What tests of the Segment widget share: a viewer, the widget with a toy model, and waiting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toylab import Image, blobs

from aiod.napari.segment import Segment

SECONDS = 90_000  # in milliseconds, as Qt counts


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own, where runs and copies go."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture
def toys(lab: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy's layer, configured as an institute's."""
    monkeypatch.setenv("AIOD_REGISTRIES", str(lab))
    return lab


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., Any]) -> Any:
    return make_napari_viewer(strict_qt=False)


@pytest.fixture
def cells(viewer: Any) -> Image:
    """An image of blobs, as the only layer of the viewer."""
    image = blobs((150, 130))
    viewer.add_image(image, name="cells")
    return image


@pytest.fixture
def segment(toys: Path, viewer: Any, cells: Image, qtbot: Any) -> Segment:
    """The widget in the viewer's window, the toy for planes chosen, in tiles of 32 x 48."""
    widget = Segment(viewer)
    viewer.window.add_dock_widget(widget, name="Segment")
    widget.form.choice.choose("toy/plane")
    widget.form.parameters.give({"threshold": 150})
    widget.form.place.show_options({"tile": (32, 48), "workers": 1})
    return widget


@pytest.fixture
def changes(viewer: Any) -> list[str]:
    """The names of the layers that are added and removed, from now on."""
    found: list[str] = []
    viewer.layers.events.inserted.connect(lambda event: found.append(f"+{event.value.name}"))
    viewer.layers.events.removed.connect(lambda event: found.append(f"-{event.value.name}"))
    return found


@pytest.fixture
def wait(segment: Segment, qtbot: Any) -> Callable[..., None]:
    """Wait until the widget has done what it was asked for, or until something is so."""

    def wait(until: Callable[[], bool] = lambda: not segment.busy) -> None:
        qtbot.waitUntil(until, timeout=SECONDS)

    return wait


@pytest.fixture
def press(segment: Segment, viewer: Any, wait: Callable[..., None]) -> Callable[[], Any]:
    """Press Run, and wait for the layer in which tiles will be shown."""

    def arriving() -> list[Any]:
        found = [layer for name, layer in labels_in(viewer).items() if "(arriving)" in name]
        return [layer for layer in found if layer.visible]

    def press() -> Any:
        segment.run()
        wait(lambda: bool(arriving()))
        return arriving()[-1]

    return press


def labels_in(viewer: Any) -> dict[str, Any]:
    """The Labels layers by name."""
    from napari.layers import Labels

    return {layer.name: layer for layer in viewer.layers if isinstance(layer, Labels)}


def squeezed(layer: Any) -> Image:
    return np.squeeze(np.asarray(layer.data))


def is_painted(viewer: Any) -> bool:
    """Whether any tile is shown."""
    return any(squeezed(layer).any() for layer in labels_in(viewer).values())
