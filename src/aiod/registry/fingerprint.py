"""What tells a file of weights from every other: its hash and size."""

from __future__ import annotations

import hashlib
from pathlib import Path

from aiod.errors import AiodError
from aiod.files import reason
from aiod.progress import Progress, Step, silent
from aiod.registry.cache import sha256_of
from aiod.registry.download import MAX_DOWNLOAD_BYTES
from aiod.registry.locations import resolve
from aiod.registry.servers import (
    DownloadError,
    asked,
    content_length,
    in_words,
    pieces,
    refuse_other_than_a_file,
    refuse_web_page,
)
from aiod.registry.settings import offline


def fingerprint(location: str, folder: Path, progress: Progress = silent) -> tuple[str, int] | None:
    """SHA-256 (hexadecimal) and size in bytes of a file on disk or behind a URL.

    None for a folder of weights. Raises AiodError where the file cannot be read whole.
    """
    place = resolve(location, folder)
    hint = "correct the location, or leave the hash out (--no-hash, hashed=False)"
    if place.path is not None:
        try:
            if place.path.is_dir():
                return None
            return sha256_of(place.path, progress), place.path.stat().st_size
        except (OSError, ValueError) as error:
            why = reason(error) if isinstance(error, OSError) else "not a path"
            raise AiodError(f"{place.path} cannot be read: {why}.", hint=hint) from error
    if offline():
        raise AiodError(f"{location} cannot be read: AIOD_OFFLINE forbids it.", hint=hint)
    import requests
    import urllib3

    digest, done = hashlib.sha256(), 0
    try:
        with asked(str(place.url)) as response:
            response.raise_for_status()
            refuse_other_than_a_file(response, 0)
            refuse_web_page(response, location)
            total = content_length(response)
            for chunk in pieces(response):
                digest.update(chunk)
                done += len(chunk)
                if done > MAX_DOWNLOAD_BYTES:
                    raise DownloadError(f"more than {MAX_DOWNLOAD_BYTES:,} bytes")
                progress(Step(f"reading {location}", done, total))
    except (requests.RequestException, urllib3.exceptions.HTTPError, DownloadError) as error:
        raise AiodError(f"{location} cannot be read: {in_words(error)}.", hint=hint) from error
    return digest.hexdigest(), done
