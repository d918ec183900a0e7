"""Bringing a model's weights and config to this machine, from the first location that works."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from aiod.errors import AiodError, CacheError, LocationError
from aiod.files import read_text, reason, write_atomically
from aiod.progress import Progress, silent
from aiod.registry.archives import is_archive, unpack
from aiod.registry.cache import (
    Record,
    Slot,
    file_mode,
    keep_record,
    locked,
    sha256_of,
    slot_for,
)
from aiod.registry.catalogue import Registry
from aiod.registry.download import Download
from aiod.registry.locations import Place, WeightsLocation, why_unreachable
from aiod.registry.merge import Model
from aiod.registry.servers import READ_SECONDS, DownloadError
from aiod.registry.settings import offline

_MAX_MARK_BYTES = 100


@dataclass(frozen=True, slots=True)
class _How:
    """What a caller wants of every download of a model."""

    family: str
    progress: Progress
    accept_changed: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Weights:
    """A model's files on this machine.

    `path` is the file, or the folder an archive was unpacked to; None for an algorithm. `file` is
    what was downloaded (or lies on disk), `sha256` its hash where it is known, `source` where it
    came from. `fresh` tells whether it was brought just now.
    """

    model_id: str
    path: Path | None
    file: Path | None
    config: Path | None
    sha256: str | None
    size: int | None
    source: str | None
    fresh: bool


def pull(
    registry: Registry,
    model: Model | str,
    *,
    progress: Progress = silent,
    accept_changed: bool = False,
    seconds: float = READ_SECONDS,
) -> Weights:
    """Weights and config of a model, brought to the cache where they are not here already.

    The locations are tried in their order. `accept_changed` takes a download whose hash differs
    from that of the first time, where the manifest itself names none. `seconds` is how long a
    server may stay silent.

    Raises LocationError, which lists each location with its reason, and CacheError.
    """
    found = registry.get(model.id if isinstance(model, Model) else model)
    if not found.needs_weights:
        return Weights(found.id, None, None, None, None, None, None, False)
    how = _How(found.family, progress, accept_changed, seconds)
    failures: list[str] = []
    hint = "`aiod check-links` tells which locations work from here"
    if offline():
        hint = (
            f"on a machine with a network, `aiod pull --to FOLDER {found.id}`; "
            "bring the folder here and name it in AIOD_REGISTRIES"
        )
    for location in registry.locations_for(found):
        try:
            return _bring(found, location, how)
        except AiodError as error:
            failures.append(f"{location.weights}: {error.what.rstrip('.')}")
            if isinstance(error, CacheError) and error.hint:
                hint = error.hint
        except OSError as error:
            failures.append(f"{location.weights}: {reason(error)}")
    raise LocationError(
        f"The weights of {found.id} cannot be had from any of their locations.",
        details=failures,
        hint=hint,
    )


def is_here(model: Model) -> bool:
    """Whether a model can be run without a network: it needs no weights, or has them here."""
    return not model.needs_weights or any(
        slot_for(model.family, place.url).record() if place.url else not why_unreachable(place)
        for place in model.locations
    )


def fetch(place: Place, family: str, *, progress: Progress = silent) -> Path:
    """A file that a manifest names, such as the input of a test, on this machine.

    Raises LocationError and CacheError.
    """
    how = _How(family, progress, accept_changed=False, seconds=READ_SECONDS)
    try:
        return _file(place, None, None, how)[0]
    except (DownloadError, LocationError) as error:
        raise LocationError(f"{place} cannot be had: {error.what}") from error


def _bring(model: Model, location: WeightsLocation, how: _How) -> Weights:
    file, record, fresh = _file(location.weights, location.sha256, location.size, how)
    config = None
    if location.config is not None:
        try:
            config, _, _ = _file(location.config, None, None, how)
        except (DownloadError, LocationError) as error:
            raise LocationError(f"its config {location.config}: {error.what}") from error
    path = file
    if file.is_file() and is_archive(file.name):
        path = _unpacked(model.family, file, location.weights, how.progress)
    return Weights(
        model_id=model.id,
        path=path,
        file=file,
        config=config,
        sha256=record.sha256 if record else location.sha256,
        size=record.size if record else None,
        source=str(location.weights),
        fresh=fresh,
    )


def _file(
    place: Place, sha256: str | None, size: int | None, how: _How
) -> tuple[Path, Record | None, bool]:
    """The file of a place on this machine, its record if it is in the cache, and if it is new."""
    if place.path is not None:
        return _on_disk(place, place.path, sha256, size, how.progress)
    slot = slot_for(how.family, str(place.url))
    if record := _held(slot, sha256, how.progress):
        return slot.file, record, False
    if offline():
        raise DownloadError("not in the cache, and AIOD_OFFLINE forbids the network")
    with locked(slot, how.progress):
        if record := _held(slot, sha256, how.progress):  # brought while we waited for the lock
            return slot.file, record, False
        return slot.file, _download(slot, sha256, size, how), True


def _on_disk(
    place: Place, path: Path, sha256: str | None, size: int | None, progress: Progress
) -> tuple[Path, Record | None, bool]:
    why = why_unreachable(place)
    if why is not None:
        raise LocationError(why.removeprefix(f"{place}: "))
    if path.is_file() and size is not None and path.stat().st_size != size:
        raise LocationError(
            f"{path.stat().st_size:,} bytes instead of the {size:,} of the manifest"
        )
    if sha256 is None:
        return path, None, False
    if path.is_dir():
        raise LocationError("a folder, for which a manifest can give no sha256")
    actual = sha256_of(path, progress)
    if actual != sha256:
        raise LocationError(f"its sha256 is {actual} instead of {sha256}")
    return path, Record(str(place), sha256, path.stat().st_size, ""), False


def _held(slot: Slot, sha256: str | None, progress: Progress) -> Record | None:
    """The record of a file that the cache holds and that is the one asked for."""
    record = slot.record()
    if record is not None:
        return record if sha256 in (None, record.sha256) else None
    # Not as its record says, or without one: the cache was copied, or filled by hand.
    kept = slot.kept_record()
    wanted = sha256 or (kept and kept.sha256)
    if wanted and slot.file.is_file() and sha256_of(slot.file, progress) == wanted:
        status = slot.file.stat()
        return Record(slot.source, wanted, status.st_size, "", status.st_mtime_ns)
    return None


def _download(slot: Slot, sha256: str | None, size: int | None, how: _How) -> Record:
    first = slot.first_record()
    if sha256 is None and first is None and os.path.lexists(slot.first_hash_file):
        raise CacheError(
            f"The hash of its first download cannot be read, in {slot.first_hash_file}.",
            hint="remove that file if what the server gives now is to be trusted",
        )
    if sha256 is None or slot.file.is_symlink():
        slot.file.unlink(missing_ok=True)  # not the one asked for
    Download(
        slot.source,
        slot.part,
        sha256=sha256,
        size=size,
        progress=how.progress,
        read_seconds=how.seconds,
        label=slot.file.name,
        mode=file_mode(slot.root),
    ).to(slot.file)
    actual = sha256 or sha256_of(slot.file, how.progress)
    if sha256 is None and first is not None and first.sha256 != actual:
        if not how.accept_changed:
            now = slot.file.stat().st_size
            slot.file.unlink()
            raise DownloadError(
                f"the file has changed since it was first downloaded on {first.date}: "
                f"sha256 {first.sha256} ({first.size:,} bytes) then, {actual} ({now:,} bytes) now; "
                "if its authors announced that, `aiod pull --accept-changed`"
            )
        slot.first_hash_file.unlink()
    slot.file.chmod(file_mode(slot.root))
    return keep_record(slot, actual)


def _unpacked(family: str, archive: Path, place: Place, progress: Progress) -> Path:
    """The folder with an archive's content, unpacked once for each state of the archive."""
    status = archive.stat()
    state = f"{status.st_size}-{status.st_mtime_ns}"
    slot = slot_for(family, str(place))
    content = slot.content
    done = content / ".aiod-unpacked"
    if _says(done, state):
        return content
    with locked(slot, progress):
        if not _says(done, state):
            unpack(archive, content, mode=file_mode(slot.root))
            write_atomically(done, state, mode=file_mode(slot.root))
    return content


def _says(mark: Path, state: str) -> bool:
    try:
        return read_text(mark, limit=_MAX_MARK_BYTES) == state
    except AiodError:
        return False
