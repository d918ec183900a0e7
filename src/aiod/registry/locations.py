"""Locations: from the text in a manifest to a URL or a path, and whether this user can reach it."""

from __future__ import annotations

import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from aiod.files import reason

# A mount that does not answer within this time counts as unreachable, here and for its neighbours.
_PATIENCE_SECONDS = 2.0
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_silent_mounts: set[str] = set()


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


def resolve(location: str, folder: Path | str) -> Place:
    """A location's text as a place; relative paths are relative to `folder`, the manifest's.

    The text is taken as it is: no variable, no ``~`` and no command in it is ever expanded.
    """
    scheme = location.split(":", 1)[0].lower()
    if scheme in ("http", "https"):
        return Place(location, url=location)
    if scheme == "file":
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
    mount = "/".join(path.parts[:3])
    if mount in _silent_mounts:
        return f"{place}: its disk does not answer"
    answer: list[str | None] = []
    thread = threading.Thread(target=lambda: answer.append(_look(path)), daemon=True)
    thread.start()
    thread.join(_PATIENCE_SECONDS)
    if not answer:
        _silent_mounts.add(mount)
        return f"{place}: its disk does not answer"
    return f"{place}: {answer[0]}" if answer[0] else None


def _look(path: Path) -> str | None:
    try:
        path.stat()
        if path.is_dir():
            next(path.iterdir(), None)
        else:
            with path.open("rb"):
                pass
    except (OSError, ValueError) as error:
        return reason(error) if isinstance(error, OSError) else "not a path"
    return None
