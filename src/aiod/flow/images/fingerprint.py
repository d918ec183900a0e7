"""Telling whether an image is the one of last time, without reading terabytes."""

from __future__ import annotations

import hashlib
import itertools
import os
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

WHOLE_BYTES = 1 << 28
"""Up to this size every byte counts."""

BLOCKS = 256
BLOCK_BYTES = 1 << 20

_DESCRIBING = ("zarr.json", ".zarray", ".zattrs", ".zgroup")


def fingerprint(files: Sequence[Path]) -> str:
    """``sha256:<hex>`` of one file or of several, ``sampled-sha256:<hex>`` where they are huge.

    Of one file of up to 256 MiB it is what ``sha256sum`` prints. Several files count with their
    names (relative to the folder they share) and sizes, one after another. Of more bytes than that,
    names, sizes, the files that describe a zarr, and 256 blocks of 1 MiB, evenly spaced with the
    first and the last among them, are hashed: a change between blocks that keeps every size is not
    seen. Raises OSError.
    """
    ordered = sorted(set(files))
    sizes = [file.stat().st_size for file in ordered]
    total = sum(sizes)
    digest = hashlib.sha256()
    if len(ordered) > 1 or total > WHOLE_BYTES:
        # The name of a single file does not count: an image that was renamed is the same image.
        base = os.path.commonpath([file.parent for file in ordered])
        for file, size in zip(ordered, sizes, strict=True):
            name = file.relative_to(base).as_posix() if len(ordered) > 1 else ""
            digest.update(f"{name}\0{size}\0".encode(errors="surrogateescape"))
    if total <= WHOLE_BYTES:
        for file in ordered:
            with file.open("rb") as stream:
                while part := stream.read(BLOCK_BYTES):
                    digest.update(part)
        return f"sha256:{digest.hexdigest()}"
    for file in ordered:
        if file.name in _DESCRIBING:
            with file.open("rb") as stream:
                digest.update(stream.read(BLOCK_BYTES))
    starts = list(itertools.accumulate(sizes, initial=0))
    for number in range(BLOCKS):
        position = (total - BLOCK_BYTES) * number // (BLOCKS - 1)
        index = bisect_right(starts, position) - 1
        with ordered[index].open("rb") as stream:
            stream.seek(position - starts[index])
            digest.update(stream.read(BLOCK_BYTES))
    return f"sampled-sha256:{digest.hexdigest()}"
