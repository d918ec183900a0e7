"""Asking servers whether the files and pages that manifests name are still there."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from http import HTTPStatus
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from aiod.errors import UsageError
from aiod.registry.cache import slot_for
from aiod.registry.download import MAX_DOWNLOAD_BYTES
from aiod.registry.servers import DownloadError, asked, in_words, pieces
from aiod.registry.settings import offline
from aiod.registry.urls import doi_url, is_url

if TYPE_CHECKING:
    from aiod.registry.catalogue import Registry
    from aiod.registry.merge import Model
    from aiod.registry.schema import Manifest

ANSWER_PATIENCE = 3  # times as long as a server may stay silent, for all answers to one link
FILE_SECONDS = 3600.0  # for a whole file that is read to compare its hash
_AT_ONCE = 16
_PERMANENT = (HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.PERMANENT_REDIRECT)
_NO_HEAD = (400, 403, 404, 405, 501)  # what servers answer that do not know HEAD
_GONE = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
_SHY = (401, 403, 418, 429)  # publishers answer this to whoever is not a browser


@dataclass(frozen=True, slots=True)
class Link:
    """A URL of the registry: what it is ("weights", "config", "page") and what is known of it."""

    url: str
    kind: str
    used_by: tuple[str, ...]
    sha256: str | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a link.

    `state` is reachable, moved, refused, gone, failed, size differs or hash differs; `note` says
    where to, why, or by how much.
    """

    link: Link
    state: str
    note: str = ""

    @property
    def good(self) -> bool:
        """Whether users get what they should. A page may refuse programs and be fine."""
        return self.state in ("reachable", "moved", "refused")

    def as_dict(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "url": self.link.url,
            "kind": self.link.kind,
            "used_by": list(self.link.used_by),
            "state": self.state,
            "note": self.note,
            "good": self.good,
        }


def links_of(registry: Registry, ids: Iterable[str] = ()) -> list[Link]:
    """Every URL and DOI of the registry, or of these models and families, each once."""
    models = list(_models(registry, ids))
    found: dict[tuple[str, str], list[tuple[str, str | None, int | None]]] = {}

    def note(
        url: str | None, kind: str, used_by: str, sha256: str | None = None, size: int | None = None
    ) -> None:
        if url and " " not in url and is_url(url):
            found.setdefault((url, kind), []).append((used_by, sha256, size))

    for model in models:
        for location in registry.locations_for(model):
            sha256 = location.sha256 or _remembered(model, location.weights.url)
            note(location.weights.url, "weights", model.id, sha256, location.size)
            config = location.config.url if location.config else None
            note(config, "config", model.id, _remembered(model, config))
        metadata = registry.metadata_for(model)
        if metadata.test is not None:
            note(metadata.test.input, "test", model.id)
            if isinstance(metadata.test.expected, str):
                note(metadata.test.expected, "test", model.id)
    for family in dict.fromkeys(model.family for model in models):
        for _, manifest in registry.manifests_of(family):
            for page in _pages(manifest):
                note(page, "page", family)
    return [
        Link(
            url,
            kind,
            tuple(dict.fromkeys(user for user, _, _ in uses)),
            next((sha256 for _, sha256, _ in uses if sha256), None),
            next((size for _, _, size in uses if size is not None), None),
        )
        for (url, kind), uses in found.items()
    ]


def check(links: Iterable[Link], *, with_hash: bool = False, seconds: float = 20.0) -> list[Answer]:
    """Ask all servers at once; `seconds` is how long each may stay silent.

    A link without all its answers after ANSWER_PATIENCE times that is given up. `with_hash`
    downloads whole files, each within FILE_SECONDS, keeps nothing, and compares. Raises UsageError
    when `AIOD_OFFLINE` forbids the network.
    """
    if offline():
        raise UsageError("AIOD_OFFLINE forbids the network.", hint="unset it to check links")
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda link: _check(link, with_hash, seconds), links))


def _models(registry: Registry, ids: Iterable[str]) -> Iterator[Model]:
    chosen = list(ids)
    if not chosen:
        yield from registry
    for model_id in chosen:
        if "/" in model_id:
            yield registry.get(model_id)
        else:
            yield from registry.family(model_id).models


def _pages(manifest: Manifest) -> Iterator[str | None]:
    """Every page that a manifest names: home pages, sources, papers and their DOIs, people."""
    yield manifest.usage_guide
    blocks = [manifest.metadata]
    for version in manifest.versions.values():
        blocks += [block for block in (version.metadata,) if block]
        blocks += [entry.metadata for entry in version.tasks.values() if entry.metadata]
    for block in blocks:
        yield from (block.url, block.repo)
        yield from (author.url for author in block.authors or ())
        for pub in block.pubs or ():
            yield pub.url
            yield doi_url(pub.doi) if pub.doi else None
            yield from (author.url for author in pub.authors or ())


def _remembered(model: Model, url: str | None) -> str | None:
    record = slot_for(model.family, url).first_record() if url else None
    return record.sha256 if record else None


def _check(link: Link, with_hash: bool, seconds: float) -> Answer:
    import requests
    import urllib3

    until = time.monotonic() + ANSWER_PATIENCE * seconds

    def answered(method: str) -> AbstractContextManager[requests.Response]:
        left = until - time.monotonic()
        return asked(link.url, method=method, seconds=seconds, within=left)

    try:
        if with_hash and link.kind != "page":
            with answered("GET") as response:
                whole = response.status_code == HTTPStatus.OK
                return _judge(link, response, _hashed(response, link) if whole else None)
        with answered("HEAD") as response:
            if response.status_code not in _NO_HEAD:
                return _judge(link, response, None)
        with answered("GET") as response:
            return _judge(link, response, None)
    except DownloadError as error:
        return Answer(link, "failed", error.what)
    except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
        return Answer(link, "failed", in_words(error))


def _judge(link: Link, response: Any, hashed: tuple[str, int] | None) -> Answer:
    status = response.status_code
    if status in _GONE:
        return Answer(link, "gone", f"the server says {status}")
    if link.kind == "page" and status in _SHY:
        return Answer(link, "refused", f"the server says {status}, as many do to programs")
    if status >= HTTPStatus.MULTIPLE_CHOICES or (link.kind != "page" and status != HTTPStatus.OK):
        return Answer(link, "failed", f"the server says {status}")
    size = hashed[1] if hashed else _length(response)
    if link.size is not None and size is not None and size != link.size:
        return Answer(link, "size differs", f"{size:,} bytes instead of {link.size:,}")
    sha256 = hashed[0] if hashed else _told_hash(response)
    if link.sha256 and sha256 and sha256 != link.sha256:
        return Answer(link, "hash differs", f"sha256 {sha256} instead of {link.sha256}")
    moved = _moved_to(response)
    return Answer(link, "moved", f"for good, to {moved}") if moved else Answer(link, "reachable")


def _hashed(response: Any, link: Link) -> tuple[str, int]:
    digest, done = hashlib.sha256(), 0
    limit = MAX_DOWNLOAD_BYTES if link.size is None else link.size + 1
    until = time.monotonic() + FILE_SECONDS
    for chunk in pieces(response):
        if time.monotonic() > until:
            raise DownloadError(f"not all of it came within {FILE_SECONDS:,g} s")
        digest.update(chunk)
        done += len(chunk)
        if done > limit:
            break
    return digest.hexdigest(), done


def _told_hash(response: Any) -> str | None:
    """The SHA-256 of a large file, as the Hugging Face hub tells it in a header."""
    for step in (*response.history, response):
        tag = step.headers.get("X-Linked-Etag", "").strip('"')
        if re.fullmatch(r"[0-9a-f]{64}", tag):
            return str(tag)
    return None


def _length(response: Any) -> int | None:
    value = response.headers.get("Content-Length", "")
    encoded = response.headers.get("Content-Encoding", "identity") != "identity"
    return int(value) if re.fullmatch(r"[0-9]{1,18}", value) and not encoded else None


def _moved_to(response: Any) -> str | None:
    """Where permanent redirects lead, as far as they come before any temporary one."""
    target = None
    for step, following in pairwise([*response.history, response]):
        if step.status_code not in _PERMANENT:
            break
        target = following.url
    return target
