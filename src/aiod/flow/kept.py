"""Decoded pieces of images, kept a while: the next tile often needs the same piece again.

A TIFF whose plane is one compressed strip would else be decoded anew for every tile.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from aiod.flow.source import Pixels

LARGE_BYTES = 1 << 25


class Kept:
    """The pieces used last, up to `limit` bytes in all; one piece larger than that is kept alone.

    May be used by several threads. With `one_at_a_time`, threads that want the same piece wait for
    the one that makes it, instead of having it in memory twice.
    """

    def __init__(self, limit: int, *, one_at_a_time: bool = False) -> None:
        self.limit = limit
        self._pieces: OrderedDict[Hashable, Pixels] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._making = threading.Lock() if one_at_a_time else contextlib.nullcontext()

    def get(self, key: Hashable) -> Pixels | None:
        """The piece, if it is still here."""
        with self._lock:
            piece = self._pieces.get(key)
            if piece is not None:
                self._pieces.move_to_end(key)
            return piece

    def made(self, key: Hashable, make: Callable[[], Pixels]) -> Pixels:
        """The piece, made by `make` if it is not here; nobody may write to it."""
        with self._making:
            piece = self.get(key)
            if piece is None:
                piece = make()
                piece.flags.writeable = False
                self._put(key, piece)
            return piece

    def _put(self, key: Hashable, piece: Pixels) -> None:
        with self._lock:
            if key in self._pieces:
                return
            self._pieces[key] = piece
            self._bytes += piece.nbytes
            while self._bytes > self.limit and len(self._pieces) > 1:
                _, old = self._pieces.popitem(last=False)
                self._bytes -= old.nbytes


_SMALL = Kept(1 << 26)
_LARGE = Kept(1 << 29, one_at_a_time=True)


def kept(nbytes: int) -> Kept:
    """Where this process keeps pieces of that many bytes, whatever the image they are of."""
    return _LARGE if nbytes >= LARGE_BYTES else _SMALL
