"""Bringing a model's weights and config to this machine, from the first location that works."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from aiod.errors import AiodError, CacheError, LocationError
from aiod.files import reason
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
from aiod.registry.download import Download, DownloadError
from aiod.registry.locations import Place, WeightsLocation, why_unreachable
from aiod.registry.merge import Model
from aiod.registry.settings import offline


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
) -> Weights:
    """Weights and config of a model, brought to the cache where they are not here already.

    The locations are tried in their order. `accept_changed` takes a download whose hash differs
    from that of the first time, where the manifest itself names none.

    Raises LocationError, which lists each location with its reason, and CacheError.
    """
    found = registry.get(model.id if isinstance(model, Model) else model)
    if not found.needs_weights:
        return Weights(found.id, None, None, None, None, None, None, False)
    failures: list[str] = []
    for location in registry.locations_for(found):
        try:
            return _bring(found, location, progress, accept_changed)
        except (DownloadError, LocationError, CacheError) as error:
            failures.append(f"{location.weights}: {error.what.rstrip('.')}")
        except OSError as error:
            failures.append(f"{location.weights}: {reason(error)}")
    raise LocationError(
        f"The weights of {found.id} cannot be had from any of their locations.",
        details=failures,
        hint=(
            "on a machine with a network, `aiod pull --to FOLDER "
            f"{found.id}`; bring the folder here and name it in AIOD_REGISTRIES"
            if offline()
            else "`aiod check-links` tells which locations work from here"
        ),
    )


def _bring(
    model: Model, location: WeightsLocation, progress: Progress, accept_changed: bool
) -> Weights:
    file, record, fresh = _file(
        model.family, location.weights, location.sha256, location.size, progress, accept_changed
    )
    config = None
    if location.config is not None:
        try:
            config, _, _ = _file(
                model.family, location.config, None, None, progress, accept_changed
            )
        except (DownloadError, LocationError) as error:
            raise LocationError(f"its config {location.config}: {error.what}") from error
    path = file
    if file.is_file() and is_archive(file.name):
        path = _unpacked(model.family, file, location.weights)
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
    family: str,
    place: Place,
    sha256: str | None,
    size: int | None,
    progress: Progress,
    accept_changed: bool,
) -> tuple[Path, Record | None, bool]:
    """The file of a place on this machine, its record if it is in the cache, and if it is new."""
    if place.path is not None:
        return _on_disk(place, place.path, sha256, progress)
    slot = slot_for(family, str(place.url))
    if record := _held(slot, sha256, progress):
        return slot.file, record, False
    if offline():
        raise DownloadError("not in the cache, and AIOD_OFFLINE forbids the network")
    with locked(slot):
        if record := _held(slot, sha256, progress):  # brought while we waited for the lock
            return slot.file, record, False
        return slot.file, _download(slot, sha256, size, progress, accept_changed), True


def _on_disk(
    place: Place, path: Path, sha256: str | None, progress: Progress
) -> tuple[Path, Record | None, bool]:
    why = why_unreachable(place)
    if why is not None:
        raise LocationError(why.removeprefix(f"{place}: "))
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
    # A file without a record: somebody filled the cache by hand, or touched the file.
    if sha256 is not None and slot.file.is_file() and sha256_of(slot.file, progress) == sha256:
        status = slot.file.stat()
        return Record(slot.source, sha256, status.st_size, "", status.st_mtime_ns)
    return None


def _download(
    slot: Slot, sha256: str | None, size: int | None, progress: Progress, accept_changed: bool
) -> Record:
    with contextlib.suppress(FileNotFoundError):
        slot.file.unlink()  # not the one asked for
    Download(
        slot.source, slot.part, sha256=sha256, size=size, progress=progress, label=slot.file.name
    ).to(slot.file)
    actual = sha256 or sha256_of(slot.file, progress)
    first = slot.first_record()
    if sha256 is None and first is not None and first.sha256 != actual:
        if not accept_changed:
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


def _unpacked(family: str, archive: Path, place: Place) -> Path:
    """The folder with an archive's content, unpacked once for each state of the archive."""
    status = archive.stat()
    state = f"{status.st_size}-{status.st_mtime_ns}"
    slot = slot_for(family, str(place))
    content = slot.content
    done = content / ".aiod-unpacked"
    if _says(done, state):
        return content
    with locked(slot):
        if not _says(done, state):
            unpack(archive, content, mode=file_mode(slot.root))
            try:
                done.write_text(state)
            except OSError as error:
                raise AiodError(f"{done} cannot be written: {reason(error)}.") from error
    return content


def _says(mark: Path, state: str) -> bool:
    try:
        return mark.read_text() == state
    except (OSError, UnicodeDecodeError):
        return False
