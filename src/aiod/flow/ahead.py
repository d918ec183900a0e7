"""What comes after the tiles of an image, as far as it can be had while the model is at them."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from aiod.flow.source import Source

if TYPE_CHECKING:
    from aiod.flow.results.overlay import Light


class Ahead:
    """Loads what joins tiles and writes outputs, and makes the picture's part of the image.

    That is a second or two of a run, for which nothing waits this way. Not begun before the first
    tile is there, so that it comes soon.
    """

    def __init__(self, image: Source, mapper: Callable[..., Iterable[Any]]) -> None:
        self._image = image
        self._mapper = mapper
        self._light: Light | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)

    def begin(self) -> None:
        self._thread.start()

    def light(self) -> Light | None:
        """What `light_of` the image gives; None where it was not begun, or cannot be had."""
        if self._thread.ident is not None:
            self._thread.join()
        return self._light

    def _work(self) -> None:
        try:
            for name in ("scipy.sparse.csgraph", "aiod.flow.outputs"):
                importlib.import_module(name)
            from aiod.flow.results.overlay import light_of

            self._light = light_of(self._image, mapper=self._mapper)
        except Exception:  # noqa: BLE001, S110 -- it comes again where it is needed
            pass
