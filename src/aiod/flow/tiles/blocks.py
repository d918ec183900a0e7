"""What each tile gave, kept in a folder until the image is whole.

A tile is a record of the folder's journal: a line of JSON, then the tile's labels in its outer box,
in the smallest type of integer that holds them, LZ4-compressed. It says its own checksum, so that
what was damaged is no tile. Nothing in it is executed on reading.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

from aiod.errors import AiodError
from aiod.files import reason
from aiod.flow.kept import Kept
from aiod.flow.source import Pixels
from aiod.flow.tiles.journal import Journal, Key, Record
from aiod.flow.tiling import Plan

_MAX_BYTES_A_PIXEL = 16
_MAX_HEAD = 1 << 20
_CODEC = "lz4f"
_DAMAGED = (ValueError, TypeError, KeyError, RuntimeError, OverflowError)
_KEPT = Kept(1 << 26)
"""Tiles used last: each is looked at by its neighbours, and once more when it is written."""


@dataclass(frozen=True, slots=True)
class Block:
    """A finished tile without its pixels.

    `count` is how many labels it has (of semantic output: 0), `seconds` how long the model took,
    `parts` into how many pieces the tile was cut for want of memory, `notes` what to tell the user,
    `memory` how many bytes the model's process had at most until then (0: not known).
    """

    count: int
    seconds: float
    parts: int = 1
    notes: tuple[str, ...] = field(default=())
    memory: int = 0


@dataclass(frozen=True, slots=True)
class BlockStore:
    """The blocks of a folder, numbered by frame and tile of a plan, as of the last `look`.

    A record that does not have the shape of its tile is no block, nor is one whose labels, where
    they are `objects`, exceed their number.
    """

    folder: Path
    plan: Plan
    objects: bool

    @property
    def _journal(self) -> Journal:
        return _journal_of(self.folder)

    def look(self) -> None:
        """Take note of blocks that others have saved or removed since. Raises AiodError."""
        self._journal.look()

    def has(self, frame: int, tile: int) -> bool:
        """Whether a tile was finished, be it well kept or not."""
        return (frame, tile) in self._journal

    def save(self, blocks: Sequence[tuple[Key, Block, Pixels]]) -> None:
        """Keep finished tiles, all or none. Raises AiodError (a full disk, …)."""
        kept = []
        for key, block, labels in blocks:
            smallest = np.min_scalar_type(int(labels.max(initial=0)))
            kept.append((key, block, labels.astype(smallest, order="C", copy=False)))
        journal = self._journal
        try:
            journal.append([(key, _encoded(block, labels)) for key, block, labels in kept])
        except OSError as error:
            raise AiodError(
                f"A finished tile cannot be kept in {self.folder}: {reason(error)}.",
                hint="free some space or choose another folder with -o; the same command goes on "
                "where it was",
            ) from error
        for key, _, labels in kept:
            _KEPT.made(journal.records(key)[-1], partial(_itself, labels))

    def known(self, frame: int, tile: int) -> Block | None:
        """The block of a finished tile; None where there is none that can be used.

        Raises AiodError where the system does not let it be read: it may be there.
        """
        for record in reversed(self._journal.records((frame, tile))):
            try:
                return self._read(tile, record)[0]
            except AiodError as error:
                _raise_unless_missing(error)
            except _DAMAGED:
                pass
        return None

    def labels_if_known(self, frame: int, tile: int) -> Pixels | None:
        """The labels of a tile if it is finished by now; raises as `known` does."""
        for record in reversed(self._journal.records((frame, tile))):
            try:
                return _KEPT.made(record, partial(self._decoded, tile, record))
            except AiodError as error:
                _raise_unless_missing(error)
            except _DAMAGED:
                pass
        return None

    def labels(self, frame: int, tile: int) -> Pixels:
        """The labels of a finished tile, of its outer box's shape; read-only. Raises AiodError."""
        labels = self.labels_if_known(frame, tile)
        if labels is None:
            state = "damaged" if self.has(frame, tile) else "gone"
            raise AiodError(
                f"Finished tile {tile + 1} of frame {frame + 1} in {self.folder} is {state}.",
                hint="the same command does it again",
            )
        return labels

    def _decoded(self, tile: int, record: Record) -> Pixels:
        block, dtype, body = self._read(tile, record)
        shape = self.plan[tile].outer.shape
        size = math.prod(shape) * dtype.itemsize  # one more would be too many
        labels = np.frombuffer(imagecodecs.lz4f_decode(body, out=size + 1), dtype).reshape(shape)
        if self.objects and labels.max(initial=0) > block.count:
            raise ValueError("more labels than objects")
        return labels

    def _read(self, tile: int, record: Record) -> tuple[Block, np.dtype[Any], bytes]:
        """Block, dtype and compressed labels. Raises AiodError or one of `_DAMAGED`."""
        shape = self.plan[tile].outer.shape
        if record.size > _MAX_HEAD + _MAX_BYTES_A_PIXEL * math.prod(shape):
            raise ValueError("larger than any tile")
        line, _, body = record.read().partition(b"\n")
        if len(line) > _MAX_HEAD:
            raise ValueError("no head")
        head = json.loads(line)
        dtype = np.dtype(head["dtype"])
        block = Block(
            count=int(head["count"]),
            seconds=float(head["seconds"]),
            parts=int(head["parts"]),
            notes=tuple(head["notes"]),
            memory=int(head.get("memory", 0)),
        )
        if head["codec"] != _CODEC:
            raise ValueError("of another version")
        if zlib.crc32(body) != head["crc32"]:
            raise ValueError("changed")
        if tuple(head["shape"]) != shape or dtype.kind != "u":
            raise ValueError("of another tile")
        if not 0 <= block.count <= math.prod(shape):
            raise ValueError("no number of objects")
        return block, dtype, body


@lru_cache(maxsize=16)
def _journal_of(folder: Path) -> Journal:
    journal = Journal(folder)
    journal.look()
    return journal


def _encoded(block: Block, labels: Pixels) -> bytes:
    body = imagecodecs.lz4f_encode(labels.tobytes())
    head = {
        **asdict(block),
        "codec": _CODEC,
        "shape": labels.shape,
        "dtype": labels.dtype.str,
        "crc32": zlib.crc32(body),
    }
    return json.dumps(head).encode() + b"\n" + body


def _itself(labels: Pixels) -> Pixels:
    return labels


def _raise_unless_missing(error: AiodError) -> None:
    cause = error.__cause__
    if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
        raise error
