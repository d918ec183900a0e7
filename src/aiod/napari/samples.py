"""An image to try the plugin with: the one that `make demo` segments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiod
from aiod.flow.images.image import open_image
from aiod.flow.source import Box

_FILE = Path(aiod.__file__).with_name("samples") / "nuclei_2d.ome.tif"


def nuclei() -> list[tuple[Any, dict[str, Any], str]]:
    """Real fluorescence nuclei (2018 Data Science Bowl), as napari takes a layer."""
    source = open_image(_FILE).source
    pixels = source.read(Box.whole(source.shape)).squeeze()
    return [(pixels, {"name": "nuclei"}, "image")]
