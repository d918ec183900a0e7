"""Decoded pieces of images, kept a while: the next tile often needs the same piece again.

A TIFF whose plane is one compressed strip would else be decoded anew for every tile.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from aiod.flow.source import Pixels

_LARGE = 1 << 25


class Kept:
    """The pieces used last, up to `limit` bytes in all; one piece larger than that is kept alone.

    May be used by several threads. Large pieces are made one at a time, so that threads which want
    the same one make it once.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._pieces: OrderedDict[Hashable, Pixels] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._one_at_a_time = threading.Lock()

    def get(self, key: Hashable) -> Pixels | None:
        """The piece, if it is still here."""
        with self._lock:
            piece = self._pieces.get(key)
            if piece is not None:
                self._pieces.move_to_end(key)
            return piece

    def put(self, key: Hashable, piece: Pixels) -> None:
        """Keep a piece, which nobody may write to from now on, and let old ones go."""
        with self._lock:
            if key in self._pieces:
                return
            self._pieces[key] = piece
            self._bytes += piece.nbytes
            while self._bytes > self.limit and len(self._pieces) > 1:
                _, old = self._pieces.popitem(last=False)
                self._bytes -= old.nbytes

    def made(self, key: Hashable, nbytes: int, make: Callable[[], Pixels]) -> Pixels:
        """The piece, made by `make` if it is not here; it will hold about `nbytes`."""
        piece = self.get(key)
        if piece is not None:
            return piece
        if nbytes < _LARGE:
            piece = make()
            self.put(key, piece)
            return piece
        with self._one_at_a_time:
            piece = self.get(key)
            if piece is None:
                piece = make()
                self.put(key, piece)
            return piece


KEPT = Kept(1 << 27)
"""Of this process, whatever the number of images that it has open."""
