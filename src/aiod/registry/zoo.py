"""Models of the BioImage Model Zoo, brought into a layer: where they are found, what is kept.

A package is a description (rdf.yaml) and the files that it names. What a layer keeps of it::

    manifests/bioimageio.json                    an entry for the model
    weights/bioimageio/<slug>/rdf.yaml           the description: it says what is done to an image,
                                                 so it must not change on a server
                             /weights.onnx …     of a package on disk: weights and test tensors

A nickname, a DOI and what both lead to are looked up as bioimageio.spec does: see ``servers``.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from aiod.errors import AiodError, UsageError
from aiod.files import read_text, reason, write_atomically
from aiod.progress import Progress, silent
from aiod.registry.archives import unpack
from aiod.registry.cache import file_name, sha256_of
from aiod.registry.catalogue import load
from aiod.registry.changes import Change
from aiod.registry.download import Download
from aiod.registry.edit import add_version
from aiod.registry.jsontext import IrregularJSON, parse
from aiod.registry.rdf import (
    MAX_DESCRIPTION_BYTES,
    Entry,
    File,
    described,
    entry_of,
    kept_text,
    parse_description,
)
from aiod.registry.servers import (
    DownloadError,
    asked,
    in_words,
    pieces,
    refuse_other_than_a_file,
)
from aiod.registry.settings import offline
from aiod.registry.urls import is_url
from aiod.words import listing, nearest, shown, version_slug

FAMILY = "bioimageio"
DESCRIPTION = "rdf.yaml"
servers: dict[str, str] = {
    "collection": "https://hypha.aicell.io/bioimage-io/artifacts/{id}/files/rdf.yaml",
    "ids": "https://uk1s3.embassy.ebi.ac.uk/public-datasets/bioimage.io/id_map.json",
    "zenodo": "https://zenodo.org/api/records/{number}",
}
"""Where a nickname is a folder, where nicknames and DOIs are listed, where Zenodo has records."""

_NAMES = ("bioimageio.yaml", "rdf.yaml", "model.yaml")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(/[A-Za-z0-9._-]+){0,2}")
_DOI = re.compile(r"(?:doi:|https?://(?:dx\.)?doi\.org/)?(10\.[0-9]{4,9}/\S+)", re.IGNORECASE)
_ZENODO = re.compile(r"10\.5281/zenodo\.([0-9]{1,12})", re.IGNORECASE)
_MAX_LIST_BYTES = 50_000_000
_MAX_TENSOR_BYTES = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Package:
    """A description's text, and where its files are: below a URL, or in a folder."""

    text: str
    url: str | None
    folder: Path | None


@dataclass(frozen=True, slots=True)
class Import:
    """A model that is ready to be added: its manifest's change, the files to keep, and remarks.

    `files` are what is copied (target -> file), `description` is the text of rdf.yaml in `home`.
    """

    model: str
    change: Change
    home: Path
    description: str
    files: Mapping[Path, Path] = field(default_factory=lambda: MappingProxyType({}))
    notes: tuple[str, ...] = ()

    def write(self) -> None:
        """Bring the files into the layer, then the manifest. Raises AiodError."""
        try:
            for target, file in self.files.items():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
        except OSError as error:
            raise AiodError(f"{self.home} cannot be written: {reason(error)}.") from error
        write_atomically(self.home / DESCRIPTION, self.description)
        self.change.write()


def find_package(source: str, scratch: Path, progress: Progress = silent) -> Package:
    """The package that a text names: a folder, a zip, an rdf.yaml, a URL of these, a DOI, an id.

    What has to be unpacked or downloaded goes into `scratch`. Raises AiodError.
    """
    if is_url(source) and not _DOI.fullmatch(source):
        return _at_url(source, scratch, progress)
    path = Path(source)
    if path.exists():
        return _on_disk(path, scratch)
    if doi := _DOI.fullmatch(source):
        return _at_url(_url_of_doi(doi[1]), scratch, progress)
    if _ID.fullmatch(source) and not source.endswith((".yaml", ".yml", ".zip")):
        return _of_id(source, scratch, progress)
    raise UsageError(
        f"{shown(source)} is no package: there is no such file or folder.",
        hint="give a zip, an rdf.yaml, a URL of one, a DOI, or an id such as affable-shark",
    )


def prepare(
    layer: Path,
    source: str,
    scratch: Path,
    *,
    task: str | None = None,
    version: str | None = None,
    weights_format: str | None = None,
    registries: Iterable[Path | str] = (),
    progress: Progress = silent,
) -> Import:
    """A model of the zoo as it is to be added to a layer; nothing is written there.

    Raises AiodError for what is no package, or cannot be run here; UsageError where it is not clear
    what the model segments.
    """
    package = find_package(source, scratch, progress)
    content = parse_description(package.text)
    entry = entry_of(described(content), package.url, weights_format)
    notes = list(entry.notes)
    if task is None and entry.task is not None:
        notes.append(f"Its tags say that it segments {entry.task}; --task names another task.")
    chosen = task or entry.task
    if chosen is None:
        tasks = load(registries).tasks
        raise UsageError(
            "What does it segment? Its tags do not say it.", hint=f"--task {listing(tasks)}"
        )
    if version is not None:
        entry = replace(entry, name=version, slug=version_slug(version) or entry.slug)
    home = layer.absolute() / "weights" / FAMILY / entry.slug
    files = {} if package.folder is None else _files(entry, package.folder, home)
    metadata = dict(entry.metadata)
    if entry.test is not None:
        metadata["test"] = {
            "input": _place(entry.test[0], entry.slug),
            "expected": _place(entry.test[1], entry.slug),
        }
    sha256, size = entry.weights.sha256, None
    if package.folder is not None:
        found = package.folder / entry.weights.source
        sha256, size = _same_hash(found, sha256, progress), found.stat().st_size
    change = add_version(
        layer,
        FAMILY,
        entry.name,
        slug=entry.slug,
        task=chosen,
        axes=entry.axes,
        location=_place(entry.weights, entry.slug),
        config_path=f"../weights/{FAMILY}/{entry.slug}/{DESCRIPTION}",
        metadata=metadata,
        params=_parameters(entry, registries),
        known=(sha256, size) if sha256 else None,
        dry_run=True,
        registries=registries,
        progress=progress,
    )
    return Import(
        model=f"{FAMILY}/{entry.slug}",
        change=change,
        home=home,
        description=kept_text(content, package.url),
        files=files,
        notes=tuple(notes),
    )


def _place(file: File, slug: str) -> str:
    """A file as a manifest names it."""
    return file.source if is_url(file.source) else f"../weights/{FAMILY}/{slug}/{file.source}"


def _files(entry: Entry, folder: Path, home: Path) -> dict[Path, Path]:
    """What is brought of a package on disk: weights and test tensors, each a file inside it."""
    found = {}
    root = folder.resolve()
    for file in (entry.weights, *(entry.test or ())):
        if is_url(file.source):
            continue
        path = (folder / file.source).resolve()
        if not path.is_relative_to(root) or not path.is_file():
            raise AiodError(f"The package has no file {shown(file.source)}, which it names.")
        if file is not entry.weights and path.stat().st_size > _MAX_TENSOR_BYTES:
            raise AiodError(f"{shown(file.source)} has more than {_MAX_TENSOR_BYTES:,} bytes.")
        found[home / file.source] = path
    return found


def _same_hash(path: Path, wanted: str | None, progress: Progress) -> str:
    actual = sha256_of(path, progress)
    if wanted not in (None, actual):
        raise AiodError(
            f"{path.name} is not the file that the description means: its sha256 is {actual} "
            f"instead of {wanted}.",
            hint="bring the package once more",
        )
    return actual


def _parameters(entry: Entry, registries: Iterable[Path | str]) -> list[dict[str, Any]] | None:
    """The family's parameters with the values of a model; None where they are the family's."""
    manifests = [item for _, item in load(registries).manifests_of(FAMILY) if item.params]
    listed = [item.model_dump(exclude_unset=True) for item in manifests[-1].params or ()]
    changed = False
    for item in listed:
        given = entry.params.get(item.get("arg_name", item["name"]))
        choices = item["value"] if isinstance(item["value"], list) else None
        usual = item.get("default", choices[0]) if choices else item["value"]
        if given is None or given == usual:
            continue
        changed = True
        if choices is None:
            item["value"] = given
        elif given in choices:
            item["default"] = given
        else:  # classes, which are no objects
            item["value"] = [given]
            item.pop("default", None)
    return listed if changed else None


# --- where packages are ---------------------------------------------------------------------------


def _on_disk(path: Path, scratch: Path) -> Package:
    if path.is_dir():
        names = sorted(item.name for item in path.iterdir() if item.is_file())
        file = next((path / n for end in _NAMES for n in names if _is_called(n, end)), None)
        if file is None:
            raise UsageError(
                f"{path} is no package: it has no {DESCRIPTION}.",
                hint="name the folder or the zip that the zoo gives",
            )
        return Package(read_text(file, limit=MAX_DESCRIPTION_BYTES), None, path)
    if _start(path) == b"PK\x03\x04":
        named = path if path.suffix == ".zip" else scratch / "package.zip"
        if named != path:
            shutil.copyfile(path, named)
        unpack(named, scratch / "package")
        return _on_disk(scratch / "package", scratch)
    return Package(read_text(path, limit=MAX_DESCRIPTION_BYTES), None, path.absolute().parent)


def _is_called(name: str, end: str) -> bool:
    return name == end or name.endswith(f".{end}")


def _start(path: Path) -> bytes:
    """The first four bytes of a file. Raises AiodError."""
    try:
        if not path.is_file():
            raise AiodError(f"{path} is not a file.")
        with path.open("rb") as stream:
            return stream.read(4)
    except OSError as error:
        raise AiodError(f"{path} cannot be read: {reason(error)}.") from error


def _at_url(url: str, scratch: Path, progress: Progress) -> Package:
    """The description at a URL; or a zip there, which is then a package on disk."""
    _refuse_offline(url)
    if file_name(url.removesuffix("/content")).lower().endswith(".zip"):
        archive = scratch / "package.zip"
        Download(url, scratch / "package.part", progress=progress, label=url).to(archive)
        return _on_disk(archive, scratch)
    return Package(_text(url, MAX_DESCRIPTION_BYTES), url, None)


def _of_id(model_id: str, scratch: Path, progress: Progress) -> Package:
    url = servers["collection"].replace("{id}", model_id)
    _refuse_offline(model_id)
    try:
        return Package(_text(url, MAX_DESCRIPTION_BYTES), url, None)
    except DownloadError as error:
        listed = _listed(model_id)
        if listed is not None:
            return _at_url(listed, scratch, progress)
        close = nearest(model_id, _ids())
        hint = "https://bioimage.io lists its models; a zip from there will do too"
        raise AiodError(
            f"The BioImage Model Zoo gives no {shown(model_id)}: {error.what.rstrip('.')}.",
            hint=f"did you mean {close[0]}?" if close else hint,
        ) from error


def _url_of_doi(doi: str) -> str:
    """Where the description (or the zip) of a DOI is."""
    _refuse_offline(doi)
    listed = _listed(doi)
    if listed is not None:
        return listed
    record = _ZENODO.fullmatch(doi)
    if record is None:
        raise UsageError(
            f"{doi} is neither in the list of the zoo nor a DOI of Zenodo.",
            hint="give the URL of its rdf.yaml or of its zip",
        )
    url = servers["zenodo"].replace("{number}", record[1])
    answer = _json(url)
    files = answer.get("files") if isinstance(answer, dict) else None
    links = {
        str(item.get("key")): str(item["links"]["self"])
        for item in (files if isinstance(files, list) else ())
        if isinstance(item, dict)
        and isinstance(item.get("links"), dict)
        and is_url(str(item["links"].get("self", "")))
    }
    zips = [name for name in links if name.lower().endswith(".zip")]
    for name in (*(n for end in _NAMES for n in links if _is_called(n, end)), *zips[:1]):
        return links[name]
    raise AiodError(
        f"The record {doi} has no {DESCRIPTION} and no zip.", hint=f"look at https://doi.org/{doi}"
    )


def _listed(name: str) -> str | None:
    """Where the zoo's list says that a nickname or a DOI is."""
    found = _ids().get(name)
    source = found.get("source") if isinstance(found, dict) else found
    return source if isinstance(source, str) and is_url(source) else None


def _ids() -> Mapping[str, Any]:
    try:
        answer = _json(servers["ids"])
    except DownloadError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _json(url: str) -> Any:
    try:
        return parse(_text(url, _MAX_LIST_BYTES))
    except IrregularJSON as error:
        raise DownloadError(f"{url} is not JSON: {error}.") from error


def _text(url: str, limit: int) -> str:
    """What a server has at a URL, as text of at most `limit` bytes. Raises DownloadError."""
    import requests
    import urllib3

    body = b""
    try:
        with asked(url) as response:
            refuse_other_than_a_file(response)
            for piece in pieces(response):
                body += piece
                if len(body) > limit:
                    raise DownloadError(f"{url} has more than {limit:,} bytes.")
        return body.decode()
    except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
        why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else in_words(error)
        raise DownloadError(f"{url} cannot be read: {why}.") from error


def _refuse_offline(source: str) -> None:
    if offline():
        raise AiodError(
            f"{source} cannot be read: AIOD_OFFLINE forbids the network.",
            hint="give a zip or a folder on this machine",
        )
