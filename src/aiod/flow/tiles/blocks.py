"""What each tile gave, one file a tile, until the image is whole: a finished tile is a file.

A file holds a line of JSON, then the tile's labels in its outer box, zstd-compressed. It is written
under another name first, and says its own checksum, so that half a file is no tile. Nothing in it
is executed on reading.
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

_MAX_BYTES = 1 << 36
_MAX_HEAD = 1 << 20
_LEVEL = 1
_KEPT = Kept(1 << 26)
"""Tiles used last: each is looked at by its neighbours, and once more when it is written."""


@dataclass(frozen=True, slots=True)
class Block:
    """A finished tile without its pixels.

    `count` is how many labels it has (of semantic output: 0), `seconds` how long the model took,
    `parts` into how many pieces the tile was cut for want of memory, `notes` what to tell the user.
    """

    count: int
    seconds: float
    parts: int = 1
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class BlockStore:
    """A folder of blocks, numbered by frame and tile."""

    folder: Path

    def path(self, frame: int, tile: int) -> Path:
        return self.folder / f"{frame:06d}-{tile:08d}.tile"

    def save(self, frame: int, tile: int, block: Block, labels: Pixels) -> None:
        """Write a block whole or not at all. Raises AiodError (a full disk, …)."""
        body = imagecodecs.zstd_encode(labels.tobytes(), level=_LEVEL)
        head = {
            **asdict(block),
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
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise AiodError(
                f"A finished tile cannot be kept in {self.folder}: {reason(error)}.",
                hint="free some space or choose another folder with -o; the same command goes on "
                "where it was",
            ) from error

    def known(self, frame: int, tile: int) -> Block | None:
        """The block of a finished tile; None where there is none that can be used."""
        try:
            head, _ = self._read(frame, tile)
        except (AiodError, ValueError, TypeError, KeyError, RecursionError):
            return None
        return Block(head["count"], head["seconds"], head["parts"], tuple(head["notes"]))

    def labels(self, frame: int, tile: int) -> Pixels:
        """The labels of a finished tile, of its outer box's shape; read-only. Raises AiodError."""
        path = self.path(frame, tile)
        try:
            status = path.stat()
            key = (path, status.st_mtime_ns, status.st_ino)
        except OSError as error:
            raise AiodError(f"The finished tile {path} is gone: {reason(error)}.") from error
        return _KEPT.made(key, partial(self._decoded, frame, tile))

    def _decoded(self, frame: int, tile: int) -> Pixels:
        try:
            head, body = self._read(frame, tile)
            shape, dtype = tuple(head["shape"]), np.dtype(head["dtype"])
            if dtype.kind != "u":
                raise ValueError(dtype)
            size = math.prod(shape) * dtype.itemsize
            return np.frombuffer(imagecodecs.zstd_decode(body, out=size), dtype).reshape(shape)
        except (ValueError, TypeError, KeyError, RuntimeError, RecursionError) as error:
            raise AiodError(
                f"The finished tile {self.path(frame, tile)} is damaged.",
                hint="remove it and run again",
            ) from error

    def _read(self, frame: int, tile: int) -> tuple[dict[str, Any], bytes]:
        content = read_bytes(self.path(frame, tile), limit=_MAX_BYTES)
        line, _, body = content.partition(b"\n")
        if len(line) > _MAX_HEAD:
            raise ValueError("no head")
        head = json.loads(line)
        if zlib.crc32(body) != head["crc32"]:
            raise ValueError("changed")
        return head, body
