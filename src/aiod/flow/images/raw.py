"""What a reader of one format answers, before axes are put in the order of the field."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from aiod.errors import AiodError
from aiod.files import reason
from aiod.flow.source import Box, Pixels
from aiod.words import printable

MAX_PIECE_BYTES = 1 << 31
"""The most that one strip, tile or chunk may hold when decoded; Blosc has the same bound."""


class ImageError(AiodError):
    """An image that cannot be opened or read as it is."""


@dataclass(frozen=True, slots=True)
class Raw:
    """An image as its file has it.

    `axes` holds one letter for each number of `shape`, in the file's order: letters of TCZYX, S
    for the samples of a pixel, any other letter for an axis whose meaning the file does not tell.
    `read` gives a new array of a box, in this order and in any byte order of `dtype`. `rgb` says
    that S is red, green and blue, `alpha` that the last sample is no colour. `pixel_size` is in
    micrometres. `files` are what the pixels and their meaning come from.
    """

    kind: str
    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[Box], Pixels]
    files: tuple[Path, ...]
    pixel_size: Mapping[str, float] = field(default_factory=dict)
    channel_names: tuple[str, ...] = ()
    rgb: bool = False
    alpha: bool = False
    warnings: tuple[str, ...] = ()


@contextmanager
def only_image_errors(path: Path, doing: str) -> Iterator[None]:
    """Whatever libraries raise on a damaged or hostile file leaves as one sentence.

    They raise nearly everything: struct.error, AssertionError, zlib.error, SyntaxError of an XML
    parser. The cause stays chained for --debug.
    """
    try:
        yield
    except AiodError as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(error.what, details=list(error.details), hint=error.hint) from error
    except MemoryError as error:
        raise ImageError(
            f"{path} cannot be {doing}: this machine has not enough memory for one piece of it.",
            hint="save it with smaller tiles or chunks, or take a machine with more memory",
        ) from error
    except OSError as error:
        if error.errno is None:  # a library's word about the content, not one of the system
            raise damaged(path, doing, error) from error
        hint = {
            errno.EACCES: "ask for the right to read it, or copy it to a folder of your own",
            errno.EMFILE: "raise the number of files that a process may open: ulimit -n 4096",
        }.get(error.errno)
        raise ImageError(f"{path} cannot be {doing}: {reason(error)}.", hint=hint) from error
    except Exception as error:
        raise damaged(path, doing, error) from error


def damaged(path: Path, doing: str, why: object) -> ImageError:
    """The error for content that makes no sense; `why` is what the library said."""
    said = re.sub(r"^<[^>]*> ", "", " ".join(str(why).split()))  # which object of a library's
    said = printable(said)[:200] or type(why).__name__
    return ImageError(
        f"{path} cannot be {doing}: its content is damaged or incomplete.",
        details=[f"found: {said}"],
        hint="compare its size with that of the original, copy it again, or open it in Fiji and "
        "save it as TIFF",
    )
