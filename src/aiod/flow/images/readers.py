"""Which reader a path needs: told by its first bytes, not by its name."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from aiod.flow.images.raw import ImageError, Raw, only_image_errors
from aiod.words import shown

Reader = Callable[[Path], Raw]


def _tiff(path: Path) -> Raw:
    from aiod.flow.images.tiffs import open_tiff

    return open_tiff(path)


def _zarr(path: Path) -> Raw:
    from aiod.flow.images.zarrs import open_zarr

    return open_zarr(path)


def _png(path: Path) -> Raw:
    from aiod.flow.images.pictures import open_png

    return open_png(path)


def _jpeg(path: Path) -> Raw:
    from aiod.flow.images.pictures import open_jpeg

    return open_jpeg(path)


def _other(path: Path) -> Raw:
    from aiod.flow.images.others import open_other

    return open_other(path)


BEGINNINGS: dict[bytes, Reader] = {
    b"II*\0": _tiff,
    b"MM\0*": _tiff,
    b"II+\0": _tiff,
    b"MM\0+": _tiff,
    b"\x89PNG\r\n\x1a\n": _png,
    b"\xff\xd8\xff": _jpeg,
}
"""The first bytes of a file -> what reads it."""

OURS = frozenset({".tif", ".tiff", ".png", ".jpg", ".jpeg"})
"""Suffixes of files that one of these readers must be able to open."""


def read_raw(path: Path) -> Raw:
    """Open an image with the reader of its format. Raises ImageError."""
    with only_image_errors(path, "opened"):
        try:
            path.lstat()
        except FileNotFoundError as error:
            hint = "look for a mistake in its name"
            raise ImageError(f"{path} does not exist.", hint=hint) from error
        mode = path.stat().st_mode  # a symbolic link that leads nowhere or to itself ends here
        if stat.S_ISDIR(mode):
            if not os.access(path, os.R_OK | os.X_OK):
                raise PermissionError(13, "Permission denied")
            return _zarr(path)
        if not stat.S_ISREG(mode):
            raise ImageError(f"{path} is neither a file nor a folder.")
        with path.open("rb") as stream:
            beginning = stream.read(16)
        if not beginning:
            raise ImageError(f"{path} is empty.", hint="copy it again from where it came")
        for magic, reader in BEGINNINGS.items():
            if beginning.startswith(magic):
                return reader(path)
        if path.suffix.lower() in OURS:
            raise ImageError(
                f"{path} is no image of the kind that its name says.",
                details=[f"found: a file that begins with {shown(beginning.decode('latin-1'))}"],
                hint="copy or download it again, or give it the name that it should have",
            )
        return _other(path)
