"""What each tile gave, one file a tile, until the image is whole: a finished tile is a file.

A file holds a line of JSON, then the tile's labels in its outer box, in the smallest type of
integer that holds them, LZ4-compressed. It is written under another name first, and says its own
checksum, so that half a file is no tile. Nothing in it is executed on reading.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

from aiod.errors import AiodError
from aiod.files import read_bytes, reason
from aiod.flow.kept import Kept
from aiod.flow.source import Pixels
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
    """A folder of blocks, numbered by frame and tile of a plan.

    A file that does not have the shape of its tile is no block, nor is one whose labels, where they
    are `objects`, exceed their number.
    """

    folder: Path
    plan: Plan
    objects: bool

    def path(self, frame: int, tile: int) -> Path:
        return self.folder / f"{frame:06d}-{tile:08d}.tile"

    def save(self, frame: int, tile: int, block: Block, labels: Pixels) -> None:
        """Write a block whole or not at all. Raises AiodError (a full disk, …)."""
        smallest = np.min_scalar_type(int(labels.max(initial=0)))
        labels = labels.astype(smallest, order="C", copy=False)
        body = imagecodecs.lz4f_encode(labels.tobytes())
        head = {
            **asdict(block),
            "codec": _CODEC,
            "shape": labels.shape,
            "dtype": labels.dtype.str,
            "crc32": zlib.crc32(body),
        }
        path = self.path(frame, tile)
        temporary = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}")
        try:
            with temporary.open("xb") as stream:
                stream.write(json.dumps(head).encode() + b"\n")
                stream.write(body)
            temporary.replace(path)
            _KEPT.made(_key(path), lambda: labels)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise AiodError(
                f"A finished tile cannot be kept in {self.folder}: {reason(error)}.",
                hint="free some space or choose another folder with -o; the same command goes on "
                "where it was",
            ) from error

    def known(self, frame: int, tile: int) -> Block | None:
        """The block of a finished tile; None where there is none that can be used.

        Raises AiodError where the system does not let it be read: it may be there.
        """
        try:
            return self._read(frame, tile)[0]
        except AiodError as error:
            _raise_unless_missing(error)
        except _DAMAGED:
            pass
        return None

    def labels_if_known(self, frame: int, tile: int) -> Pixels | None:
        """The labels of a tile if it is finished by now; raises as `known` does."""
        try:
            return self.labels(frame, tile)
        except AiodError as error:
            _raise_unless_missing(error)
            return None

    def labels(self, frame: int, tile: int) -> Pixels:
        """The labels of a finished tile, of its outer box's shape; read-only. Raises AiodError."""
        path = self.path(frame, tile)
        try:
            key = _key(path)
        except OSError as error:
            raise AiodError(f"The finished tile {path} is gone: {reason(error)}.") from error
        return _KEPT.made(key, partial(self._decoded, frame, tile))

    def _decoded(self, frame: int, tile: int) -> Pixels:
        shape = self.plan[tile].outer.shape
        try:
            block, dtype, body = self._read(frame, tile)
            size = math.prod(shape) * dtype.itemsize  # one more would be too many
            labels = np.frombuffer(imagecodecs.lz4f_decode(body, out=size + 1), dtype).reshape(
                shape
            )
            if self.objects and labels.max(initial=0) > block.count:
                raise ValueError("more labels than objects")
            return labels
        except _DAMAGED as error:
            raise AiodError(
                f"The finished tile {self.path(frame, tile)} is damaged.",
                hint="remove it and run again",
            ) from error

    def _read(self, frame: int, tile: int) -> tuple[Block, np.dtype[Any], bytes]:
        """Block, dtype and compressed labels. Raises AiodError or one of `_DAMAGED`."""
        shape = self.plan[tile].outer.shape
        limit = _MAX_HEAD + _MAX_BYTES_A_PIXEL * math.prod(shape)
        content = read_bytes(self.path(frame, tile), limit=limit)
        line, _, body = content.partition(b"\n")
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


def _key(path: Path) -> tuple[str, int, int]:
    """What a file is kept by: another file of that name is another tile. Raises OSError."""
    status = path.stat()
    return str(path), status.st_mtime_ns, status.st_ino


def _raise_unless_missing(error: AiodError) -> None:
    cause = error.__cause__
    if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
        raise error
