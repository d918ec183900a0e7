"""Locations: from the text in a manifest to a URL or a path, and whether this user can reach it."""

from __future__ import annotations

import os
import re
import stat
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from aiod.files import reason

# A mount that does not answer within this time counts as unreachable, here and for its neighbours,
# until it is asked again a while later.
_PATIENCE_SECONDS = 2.0
_ASK_AGAIN_SECONDS = 60.0
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_silent_since: dict[str, float] = {}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file lies: a URL or a path, one of the two; `given` is the text in the manifest."""

    given: str
    url: str | None = None
    file: str | None = None

    @property
    def path(self) -> Path | None:
        return None if self.file is None else Path(self.file)

    def __str__(self) -> str:
        return self.url or self.file or self.given


@dataclass(frozen=True, slots=True)
class WeightsLocation:
    """One location of a model's weights, with the layer that brought it.

    `sha256` (hexadecimal) and `size` (bytes) are None where the manifest gives none.
    """

    weights: Place
    config: Place | None
    sha256: str | None
    size: int | None
    layer: str


@dataclass(frozen=True, slots=True)
class Expectation:
    """An input, the labels or the number of objects that are right for it, and a tolerance.

    `tolerance` is 1 - F1 at IoU 0.5 for labels, the relative difference for a number.
    """

    input: Place
    expected: Place | int
    tolerance: float | None


def resolve(location: str, folder: Path | str) -> Place:
    """A location's text as a place; relative paths are relative to `folder`, the manifest's.

    The text is taken as it is: no variable, no ``~`` and no command in it is ever expanded.
    """
    if not location.strip():
        return Place(location, file="")
    scheme, colon, _ = location.lower().partition(":")
    if colon and scheme in ("http", "https"):
        return Place(location, url=location)
    if colon and scheme == "file":
        return Place(location, file=unquote(urlsplit(location).path))
    if _DRIVE.match(location):
        return Place(location, file=location)
    return Place(location, file=os.path.normpath(os.path.join(folder, location)))


def why_unreachable(place: Place) -> str | None:
    """Why this user cannot reach `place`; None for a path that can be read and for every URL.

    Only a path is looked at: whether a server answers is for `aiod check-links`.
    """
    path = place.path
    if path is None:
        return None
    if not place.file:  # which would be the current folder
        return "an empty location"
    mount = "/".join(path.parts[:3])
    silent_since = _silent_since.get(mount)
    if silent_since is not None and time.monotonic() - silent_since < _ASK_AGAIN_SECONDS:
        return f"{place}: its disk does not answer"
    answer: list[str | None] = []
    thread = threading.Thread(target=lambda: answer.append(_look(path)), daemon=True)
    thread.start()
    thread.join(_PATIENCE_SECONDS)
    if not answer:
        _silent_since[mount] = time.monotonic()
        return f"{place}: its disk does not answer"
    return f"{place}: {answer[0]}" if answer[0] else None


def _look(path: Path) -> str | None:
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            next(path.iterdir(), None)
        elif stat.S_ISREG(kind):
            with path.open("rb"):
                pass
        else:  # opening a pipe waits for its other end, opening a device may do anything
            return "neither a file nor a folder"
    except (OSError, ValueError) as error:
        return reason(error) if isinstance(error, OSError) else "not a path"
    return None
