"""What each manifest of a layer holds, in brief, kept on disk so that a second start is quick.

The index is a finding aid for lists and searches only. Whatever is used - parameters, weights,
licences - is read from the manifest itself and validated when it is asked for. An entry is good
as long as its file's size, times and number on disk are those it was made from.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiod.errors import AiodError
from aiod.files import read_bytes, write_atomically
from aiod.registry.entry import NEVER, Entry, Signature
from aiod.registry.layers import NO_MANIFESTS, Layer
from aiod.registry.settings import cache_folder

log = logging.getLogger(__name__)

_FORMAT = 2
_MAX_INDEX_BYTES = 500_000_000
# A file written this shortly before the index may change again without a new time.
_RACY_NANOSECONDS = 2_000_000_000


def index_layer(layer: Layer, tasks: Mapping[str, str]) -> list[Entry]:
    """The entries of a layer in the order of their file names. Raises OSError."""
    folder = os.path.join(layer.manifests, "")
    files = _manifest_files(folder)
    store = _store_of(layer)
    started = time.time_ns()
    known = _read(store, layer, tasks)
    changed = [
        (name, signature)
        for name, signature in files
        if name not in known or known[name].signature != signature
    ]
    if changed:
        # The schema takes longer to import than an index to read: only where a file is judged.
        from aiod.registry.entries import read_entry

        known |= {name: read_entry(folder + name, signature, tasks) for name, signature in changed}
    entries = [known[name] for name, _ in files]
    if changed or len(known) != len(files):
        _write(store, layer, tasks, entries, started)
    return entries


def signature_of(status: os.stat_result) -> Signature:
    """What changes when a file does: size, times of content and of node, number on disk."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _manifest_files(folder: str) -> list[tuple[str, Signature]]:
    found = []
    with os.scandir(folder) as items:
        for item in items:
            name = item.name
            if name.endswith(".json") and name not in NO_MANIFESTS and not name.startswith("."):
                try:
                    found.append((name, signature_of(item.stat())))
                except OSError:  # a dangling link, or gone since: reading it will say so
                    found.append((name, NEVER))
    return sorted(found)


def _store_of(layer: Layer) -> Path:
    """Where this user's index of a layer is kept: in a shared cache each user has their own."""
    name = _digest(str(layer.folder).encode(errors="surrogateescape"))
    return cache_folder() / "indexes" / f"{name}-{_user()}.jsonl"


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0  # Windows has none


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _context(layer: Layer, tasks: Mapping[str, str]) -> list[Any]:
    """What, beside the files, the entries of an index depend on."""
    rules = sorted(Path(__file__).parent.glob("*.py"))
    code = _digest("".join(f"{file.name}{file.stat().st_mtime_ns}" for file in rules).encode())
    return [_FORMAT, code, str(layer.folder), sorted(tasks)]


def _read(store: Path, layer: Layer, tasks: Mapping[str, str]) -> dict[str, Entry]:
    """The entries kept in `store` that may still be good; none where it is not to be trusted.

    It is trusted when this user wrote it, for these rules and tasks, and it is whole.
    """
    folder = os.path.join(layer.manifests, "")
    try:
        if hasattr(os, "getuid") and store.stat().st_uid != _user():
            return {}
        check, _, content = read_bytes(store, limit=_MAX_INDEX_BYTES).partition(b"\n")
        if check.decode() != _digest(content):
            return {}
        head, *bodies = content.split(b"\n")
        context, written, rows = json.loads(head)
        if context != _context(layer, tasks):
            return {}
        return {
            name: Entry(folder + name, (size, modified, changed, node), family, body)
            for (name, size, modified, changed, node, family), body in zip(
                rows, bodies, strict=True
            )
            if max(modified, changed) < written - _RACY_NANOSECONDS
        }
    except (AiodError, OSError, ValueError, TypeError, RecursionError):
        return {}


def _write(
    store: Path, layer: Layer, tasks: Mapping[str, str], entries: list[Entry], written: int
) -> None:
    rows = [(os.path.basename(entry.file), *entry.signature, entry.family) for entry in entries]
    head = json.dumps([_context(layer, tasks), written, rows]).encode()
    content = b"\n".join([head, *(entry.body for entry in entries)])
    from aiod.registry.cache import make_folder

    try:
        make_folder(cache_folder(), store.parent)
        write_atomically(store, [_digest(content).encode(), b"\n", content])
    except AiodError as error:  # a read-only cache: the next start is as slow as this one
        log.debug("the index of %s is not kept: %s", layer.folder, error)
