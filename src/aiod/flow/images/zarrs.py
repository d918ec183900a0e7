"""OME-Zarr 0.4 and 0.5, and arrays of zarr without its metadata.

Sources: https://ngff.openmicroscopy.org/0.4/, https://ngff.openmicroscopy.org/0.5/, and for their
stores https://zarr-specs.readthedocs.io/ (versions 2 and 3).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from aiod.files import read_text
from aiod.flow.images.raw import MAX_PIECE_BYTES, ImageError, Raw, damaged, only_image_errors
from aiod.flow.images.units import micrometres
from aiod.flow.source import Box, Pixels
from aiod.words import byte_size, listing, printable, shown

_MAX_METADATA_BYTES = 1 << 26
_MAX_PARTS = 1 << 22
_DESCRIBING = ("zarr.json", ".zarray", ".zattrs", ".zgroup")

# Those that only turn bytes or numbers around. numcodecs has others, one of which is pickle.
_CODECS = frozenset(
    (
        *("blosc", "bz2", "gzip", "lz4", "lzma", "zlib", "zstd"),
        *("adler32", "crc32", "crc32c", "fletcher32", "jenkins_lookup3"),
        *("astype", "bitround", "delta", "fixedscaleoffset", "packbits", "quantize", "shuffle"),
        *("bytes", "endian", "transpose", "sharding_indexed"),
    )
)


@dataclass(frozen=True, slots=True)
class _Node:
    """A group or an array: where it lies, what is attached to it, and an array's own metadata."""

    path: Path
    attributes: Mapping[str, Any]
    array: Mapping[str, Any] | None

    @property
    def ome(self) -> Mapping[str, Any]:
        """OME-Zarr's part of the attributes: under "ome" since version 0.5."""
        inner = self.attributes.get("ome")
        return inner if isinstance(inner, dict) else self.attributes


def is_zarr(path: Path) -> bool:
    """Whether a folder is a group or an array of zarr."""
    return any((path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup", ".zattrs"))


def open_zarr(path: Path) -> Raw:
    """The image of a group at its full resolution, or an array by itself. Raises ImageError."""
    with only_image_errors(path, "opened"):
        node, warnings = _image_in(path)
        multiscale, dataset, array = _full_resolution(node)
        opened = _open_array(array)
        shape = tuple(int(n) for n in opened.shape)
        axes, units = _axes(path, multiscale, array, len(shape))
        sizes, odd = _pixel_size(multiscale, dataset, axes, units)
        files = tuple(_files(node.path, array.path))
        if not any(file.name not in _DESCRIBING for file in files):
            odd.append("None of its chunks is there: every pixel reads as the fill value.")

        def read(box: Box) -> Pixels:
            with only_image_errors(path, "read"):
                return np.asarray(opened[box.slices])

        return Raw(
            kind="OME-Zarr" if multiscale else "zarr",
            axes=axes,
            shape=shape,
            dtype=np.dtype(opened.dtype).newbyteorder("="),
            read=read,
            files=files,
            pixel_size=sizes,
            channel_names=_channel_names(node),
            warnings=(*warnings, *odd),
        )


def _node(path: Path) -> _Node | None:
    """What lies at a path, None where it is nothing of zarr."""
    v3 = path / "zarr.json"
    if v3.is_file():
        document = _json(v3)
        attributes = document.get("attributes")
        array = document if document.get("node_type") == "array" else None
        return _Node(path, attributes if isinstance(attributes, dict) else {}, array)
    if not is_zarr(path):
        return None
    attributes = _json(path / ".zattrs") if (path / ".zattrs").is_file() else {}
    array = _json(path / ".zarray") if (path / ".zarray").is_file() else None
    return _Node(path, attributes, array)


def _json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(read_text(path, limit=_MAX_METADATA_BYTES))
    except ValueError as error:
        raise ImageError(f"{path} is not JSON: {error}.") from error
    if not isinstance(document, dict):
        raise ImageError(f"{path} holds {shown(document)} instead of an object.")
    return document


def _below(folder: Path, relative: Any) -> Path:
    """A path that metadata name, which may not leave the image."""
    if not isinstance(relative, str) or PurePosixPath(relative).is_absolute():
        raise damaged(folder, "opened", f"a path {shown(relative)} in its metadata")
    parts = PurePosixPath(relative.replace("\\", "/")).parts
    if ".." in parts or any(":" in part for part in parts):
        raise damaged(folder, "opened", f"a path {shown(relative)} in its metadata")
    return folder.joinpath(*parts)


def _list_of_objects(path: Path, value: Any, name: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not value or not all(isinstance(v, dict) for v in value):
        raise damaged(path, "opened", f"{name} of {shown(value)}")
    return value


def _first(node: _Node, name: str) -> dict[str, Any]:
    return _list_of_objects(node.path, node.ome.get(name), name)[0]


def _image_in(path: Path) -> tuple[_Node, list[str]]:
    """The group with multiscales, or the array, that a path means."""
    node = _node(path)
    if node is None:
        raise ImageError(
            f"{path} is a folder, and no OME-Zarr: neither zarr.json nor .zattrs is in it.",
            hint="name an image in it, or the folder whose name ends in .zarr",
        )
    if node.array is not None or "multiscales" in node.ome:
        return node, []
    if "plate" in node.ome:
        wells = _paths(_member(node.ome, "plate"), "wells")
        raise ImageError(
            f"{path} is a plate of {len(wells)} wells, and not one image.",
            details=[f"wells: {listing(wells[:8], 'and')}"] if wells else [],
            hint=f"name its images one by one, or all of them as '{path}/*/*/0'",
        )
    if "well" in node.ome:
        fields = _paths(_member(node.ome, "well"), "images")
        raise ImageError(
            f"{path} is a well with the images {listing(fields[:8], 'and')}.",
            hint=f"name one of them, or all of them as '{path}/*'",
        )
    if isinstance(names := node.ome.get("labels"), list):
        known = [printable(name) for name in names if isinstance(name, str)]
        raise ImageError(
            f"{path} is a collection of labels: {listing(known[:8], 'and')}.",
            hint="name one of them",
        )
    first = _node(path / "0")  # the layout of bioformats2raw
    if first is not None and "multiscales" in first.ome:
        more = (path / "1").is_dir()
        return first, ["It holds several images; the first (0) is read."] if more else []
    raise ImageError(
        f"{path} is a zarr group without an image: its metadata name no multiscales.",
        hint="name the array in it, and its axes: --axes",
    )


def _member(parent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = parent.get(name)
    return value if isinstance(value, dict) else {}


def _paths(parent: Mapping[str, Any], name: str) -> list[str]:
    members = parent.get(name)
    members = members if isinstance(members, list) else []
    return [printable(str(m["path"]))[:40] for m in members if isinstance(m, dict) and "path" in m]


def _full_resolution(node: _Node) -> tuple[Mapping[str, Any], Mapping[str, Any], _Node]:
    """The multiscale, its first dataset, and the array of that."""
    if node.array is not None:
        return *_of_array(node), node
    multiscale = _first(node, "multiscales")
    dataset = _list_of_objects(node.path, multiscale.get("datasets"), "datasets")[0]
    array = _node(_below(node.path, dataset.get("path")))
    if array is None or array.array is None:
        raise damaged(node.path, "opened", f"no array at {shown(dataset.get('path'))}")
    return multiscale, dataset, array


def _of_array(node: _Node) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The multiscale and the dataset in the group above, where they name this array."""
    parent = _node(node.path.parent)
    if parent is not None and isinstance(multiscales := parent.ome.get("multiscales"), list):
        for multiscale in multiscales:
            datasets = multiscale.get("datasets") if isinstance(multiscale, dict) else None
            for dataset in datasets if isinstance(datasets, list) else []:
                if isinstance(dataset, dict) and dataset.get("path") == node.path.name:
                    return multiscale, dataset
    return {}, {}


def _open_array(node: _Node) -> Any:
    """The array, once its own description asks for nothing impossible or dangerous."""
    import zarr

    metadata = node.array or {}
    path = node.path
    dtype = metadata.get("data_type", metadata.get("dtype"))
    try:
        kind = np.dtype(dtype).kind if isinstance(dtype, str) else "V"
    except TypeError:
        kind = "V"
    if kind not in "buif":
        what = shown(dtype) if isinstance(dtype, str) else "a structure"
        raise ImageError(
            f"{path} cannot be opened: its pixels are of the type {what}.",
            details=["expected: integers, floating-point numbers or booleans"],
        )
    for codec in _codecs(metadata):
        if codec.removeprefix("numcodecs.") not in _CODECS:
            raise ImageError(
                f"{path} cannot be opened: its chunks are stored with {shown(codec)}, which is not "
                "among the codecs that are read here.",
                hint="save it again with blosc, zstd or gzip",
            )
    array = zarr.open_array(path, mode="r")
    if 0 in array.shape or not array.shape:
        raise ImageError(f"{path} holds no pixel: its shape is {array.shape}.")
    chunk = math.prod(array.chunks) * array.dtype.itemsize
    parts = math.prod(array.shards) // math.prod(array.chunks) if array.shards else 1
    if chunk > MAX_PIECE_BYTES or parts > _MAX_PARTS:
        raise ImageError(
            f"{path} cannot be read in parts: one of its chunks "
            + (
                f"holds {byte_size(chunk)}."
                if chunk > MAX_PIECE_BYTES
                else f"is cut into {parts:,} parts."
            ),
            details=[f"found: chunks of {array.shards or array.chunks} in {array.shape}"],
            hint="save it with chunks of a few megabytes",
        )
    return array


def _codecs(metadata: Any) -> Iterator[str]:
    """The names of all codecs in an array's metadata, those inside of shards too."""
    for entry in (metadata.get("compressor"), *_listed(metadata, "filters")):
        if entry is not None:  # version 2
            yield str(entry.get("id")) if isinstance(entry, dict) else shown(entry)
    for entry in _listed(metadata, "codecs"):
        yield str(entry.get("name")) if isinstance(entry, dict) else str(entry)
        inner = _member(entry, "configuration") if isinstance(entry, dict) else {}
        yield from _codecs({"codecs": _listed(inner, "codecs") + _listed(inner, "index_codecs")})


def _listed(metadata: Any, name: str) -> list[Any]:
    value = metadata.get(name)
    return value if isinstance(value, list) else []


def _axes(
    path: Path, multiscale: Mapping[str, Any], array: _Node, count: int
) -> tuple[str, list[Any]]:
    """One letter an axis, Q where it is not known, and their units."""
    given: Any = multiscale.get("axes")
    if given is None and multiscale and count == 5:
        given = list("tczyx")  # versions 0.1 and 0.2 had no others
    if given is None:
        given = (array.array or {}).get("dimension_names") or array.attributes.get(
            "_ARRAY_DIMENSIONS"
        )
    if not isinstance(given, list):
        return "YX" if count == 2 else "Q" * count, [None] * count
    if len(given) != count:
        raise damaged(path, "opened", f"{len(given)} axes for an array of {count}")
    letters, units = "", []
    for axis in given:
        known: Mapping[str, Any] = axis if isinstance(axis, dict) else {"name": axis}
        name = str(known.get("name") or "").lower()
        letter = {"time": "T", "channel": "C"}.get(str(known.get("type")), name.upper())
        letter = {"TIME": "T", "CHANNEL": "C"}.get(letter, letter)
        letters += letter if letter in tuple("TCZYX") and letter not in letters else "Q"
        units.append(known.get("unit"))
    return letters, units


def _pixel_size(
    multiscale: Mapping[str, Any], dataset: Mapping[str, Any], axes: str, units: list[Any]
) -> tuple[dict[str, float], list[str]]:
    """Axis -> micrometres, and what to tell where the numbers have no unit."""
    scale = np.ones(len(axes))
    for level in (dataset, multiscale):
        for transform in _listed(level, "coordinateTransformations"):
            numbers = transform.get("scale") if isinstance(transform, dict) else None
            if isinstance(numbers, list) and len(numbers) == len(axes):
                scale = scale * np.asarray(numbers, float)
    sizes, unknown = {}, []
    for axis, number, unit in zip(axes, scale, units, strict=True):
        if axis not in "ZYX":
            continue
        length = micrometres(number, unit)
        if length is not None:
            sizes[axis] = length
        elif number != 1 and unit is None:
            unknown.append(f"{axis} {number:g}")
    if not unknown:
        return sizes, []
    numbers = listing(unknown, "and")
    return sizes, [f"Its scale ({numbers}) has no unit and is not used; --pixel-size gives it."]


def _channel_names(node: _Node) -> tuple[str, ...]:
    channels = _listed(_member(node.ome, "omero"), "channels")
    labels = [c.get("label") if isinstance(c, dict) else None for c in channels]
    return tuple(label if isinstance(label, str) else "" for label in labels)


def _files(group: Path, array: Path) -> Iterator[Path]:
    """The files that an image is made of: its metadata, and all of its full resolution."""
    for name in _DESCRIBING:
        if group != array and (group / name).is_file():
            yield group / name
    for folder, _, names in os.walk(array):
        yield from (Path(folder, name) for name in names)
