"""Labels in the forms of other programs: TIFF, GeoJSON for QuPath, CSV. Read block by block.

Sources: OME-TIFF 6.0 (docs.openmicroscopy.org), RFC 7946 and QuPath's ROITypeAdapters and
PathObjectTypeAdapters for GeoJSON, RFC 4180 for CSV.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from aiod.errors import AiodError
from aiod.files import reason, write_atomically
from aiod.flow.results.objects import Objects
from aiod.flow.results.outlines import Edges, Polygon, edges_of, joined, polygons_of
from aiod.flow.source import Box, Pixels, Source

_TILE = 512
_BLOCK = 1024
_SLAB_BYTES = 128_000_000
_BIG_TIFF_BYTES = 3_900_000_000
_NAMESPACE = uuid.UUID("6f2b1c8e-58a9-5d0a-9d53-0b1f3a7c2e41")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_tiff(labels: Source, path: Path, *, most: int | None = None) -> None:
    """Labels as an OME-TIFF: tiled, compressed without loss (zlib), BigTIFF where it is needed.

    `labels` has axes of TZYX. `most` is the largest label where it is known: up to 65,535 pixels
    have 16 bits, which every program reads, else those of `labels`. Pixel sizes stand in the OME
    metadata, and as the resolution for programs that look there. At most some planes of 128 MB
    in all, or one tile, are in memory.

    Raises AiodError when the file cannot be written.
    """
    dtype = np.dtype("uint16") if most is not None and most < 1 << 16 else labels.dtype
    size = dtype.itemsize * math.prod(labels.shape)
    metadata: dict[str, Any] = {"axes": labels.axes}
    for axis, micrometres in labels.pixel_size.items():
        metadata |= {f"PhysicalSize{axis}": micrometres, f"PhysicalSize{axis}Unit": "µm"}
    known = labels.pixel_size.keys() >= {"Y", "X"}
    options: dict[str, Any] = {}
    if known:
        per_centimetre = tuple(1e4 / labels.pixel_size[axis] for axis in "XY")
        options = {"resolution": per_centimetre, "resolutionunit": "CENTIMETER"}
    with (
        whole_or_nothing(path) as temporary,
        tifffile.TiffWriter(
            temporary, bigtiff=size > _BIG_TIFF_BYTES, ome=_fits_ome(dtype)
        ) as tiff,
    ):
        tiff.write(
            (tile.astype(dtype, copy=False) for tile in _tiles(labels)),
            shape=labels.shape,
            dtype=dtype,
            tile=(_TILE, _TILE),
            compression="zlib",
            photometric="minisblack",
            metadata=metadata,
            **options,
        )


def write_csv(objects: Objects, path: Path, *, sample: str = "") -> None:
    """The table of objects as CSV (RFC 4180, UTF-8), one line an object, units in the header.

    Numbers have all their digits; what is not a number (the mean over a pixel that is none) is
    empty. Text that a spreadsheet would take for a formula is led by an apostrophe.

    Raises AiodError when the file cannot be written.
    """
    columns = objects.columns()
    write_atomically(path, _csv_lines(columns, len(objects), sample))


def write_geojson(
    labels: Source,
    objects: Objects,
    path: Path,
    *,
    sample: str = "",
    class_name: str | None = None,
    semantic: bool = False,
) -> None:
    """Objects as GeoJSON in QuPath's form: a FeatureCollection of polygons in pixels.

    `labels` has axes of TZYX, `objects` are those of the labels. Polygons run along the edges of
    pixels, (0, 0) being the outer corner of the first, so that filling them gives back the mask.
    An object in several pieces is a MultiPolygon; one in several planes is a feature in each, all
    with the same name. Instances are detections, `semantic` classes annotations, of the class
    `class_name`. Measurements are the columns of `objects`. Objects are written as soon as the
    last block that holds a part of them was read.

    Raises AiodError when the file cannot be written.
    """
    measures = {
        name: column.tolist()
        for name, column in objects.columns().items()
        if name not in ("t", "z")
    }
    style = _Style(sample, class_name, semantic, measures)
    write_atomically(path, _geojson_lines(labels, objects, style))


@contextlib.contextmanager
def whole_or_nothing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its place when all went well."""
    temporary = path.with_name(f".{path.name[:100]}.{os.getpid()}-{os.urandom(4).hex()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise AiodError(f"{path} cannot be written: {reason(error)}.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _fits_ome(dtype: np.dtype[Any]) -> bool:
    return dtype.itemsize < 8  # OME-XML has no integers of 64 bits


def _tiles(labels: Source) -> Iterator[Pixels]:
    """Tiles in the order of a TIFF: plane by plane, row by row, those at the edges filled up."""
    height, width = labels.shape[-2:]
    plane_bytes = height * width * labels.dtype.itemsize
    for outer in np.ndindex(labels.shape[:-3]):
        planes = labels.shape[-3] if len(labels.shape) > 2 else 1
        step = max(1, min(planes, _SLAB_BYTES // plane_bytes))
        for first in range(0, planes, step):
            last = min(first + step, planes)
            ends = ((*outer, first), (*(n + 1 for n in outer), last))
            start, stop = ends if len(labels.shape) > 2 else ((), ())
            slab = None
            if plane_bytes <= _SLAB_BYTES:
                slab = labels.read(Box((*start, 0, 0), (*stop, height, width)))
                slab = slab.reshape(last - first, height, width)
            for plane in range(first, last):
                for y, x in product(range(0, height, _TILE), range(0, width, _TILE)):
                    bottom, right = min(y + _TILE, height), min(x + _TILE, width)
                    if slab is not None:
                        tile = slab[plane - first, y:bottom, x:right]
                    else:
                        tile = labels.read(Box((*start, y, x), (*stop, bottom, right)))
                        tile = tile.reshape(bottom - y, right - x)
                    yield np.pad(tile, ((0, _TILE - bottom + y), (0, _TILE - right + x)))


def _csv_lines(
    columns: Mapping[str, NDArray[Any]], count: int, sample: str, chunk: int = 10_000
) -> Iterator[bytes]:
    yield _csv_text([["sample", *map(_harmless, columns)]])
    name = _harmless(sample)
    for start in range(0, count, chunk):
        rows = zip(*(c[start : start + chunk].tolist() for c in columns.values()), strict=True)
        yield _csv_text([name, *("" if v != v else repr(v) for v in row)] for row in rows)


def _csv_text(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode(errors="backslashreplace")


def _harmless(text: str) -> str:
    """Text that no spreadsheet runs (OWASP, "CSV Injection")."""
    return f"'{text}" if text.startswith(_FORMULA) else text


@dataclass(frozen=True, slots=True)
class _Style:
    """What features say beside their polygons."""

    sample: str
    class_name: str | None
    semantic: bool
    measures: Mapping[str, list[Any]]

    def feature(self, row: int, polygons: list[Polygon], plane: dict[str, int]) -> str:
        number = self.measures["id"][row]
        place = "/".join(str(plane[axis]) for axis in "tz")
        several = len(polygons) > 1
        geometry: dict[str, Any] = {
            "type": "MultiPolygon" if several else "Polygon",
            "coordinates": polygons if several else polygons[0],
        }
        if plane["z"] or plane["t"]:  # QuPath leaves out the first plane of all
            geometry["plane"] = {"c": -1, **plane}
        properties: dict[str, Any] = {
            "objectType": "annotation" if self.semantic else "detection",
            "isLocked": False,
            "name": str(number),
            "measurements": {
                name: column[row]
                for name, column in self.measures.items()
                if column[row] == column[row]  # JSON has no word for what is not a number
            },
        }
        if self.class_name:
            properties["classification"] = {"name": self.class_name}
        feature = {
            "type": "Feature",
            "id": str(uuid.uuid5(_NAMESPACE, f"{self.sample}/{place}/{number}")),
            "geometry": geometry,
            "properties": properties,
        }
        return json.dumps(feature, separators=(",", ":"), allow_nan=False)


def _geojson_lines(labels: Source, objects: Objects, style: _Style) -> Iterator[bytes]:
    yield b'{"type":"FeatureCollection","features":['
    lead = "\n"
    for plane, row, polygons in _outlines(labels, objects):
        yield (lead + style.feature(row, polygons, plane)).encode()
        lead = ",\n"
    yield b"\n]}\n"


def _outlines(
    labels: Source, objects: Objects
) -> Iterator[tuple[dict[str, int], int, list[Polygon]]]:
    """Plane, row of `objects` and polygons of every object, some planes at a time.

    Chunks of a stack hold several planes, which are read together as far as memory allows.
    """
    sizes = {"T": 1, "Z": 1, **labels.sizes}
    together = max(1, _SLAB_BYTES // (_BLOCK * _BLOCK * labels.dtype.itemsize))
    for t, first in product(range(sizes["T"]), range(0, sizes["Z"], together)):
        planes = [
            _Plane(objects, {"T": t, "Z": z})
            for z in range(first, min(first + together, sizes["Z"]))
        ]
        for y, x in product(range(0, sizes["Y"], _BLOCK), range(0, sizes["X"], _BLOCK)):
            slab = _with_margin(labels, t, (first, first + len(planes)), (y, x))
            for number, plane in enumerate(planes):
                for row, polygons in plane.take(edges_of(slab[number], y=y, x=x), (y, x)):
                    yield {"z": first + number, "t": t}, row, polygons


class _Plane:
    """The objects of one plane: their edges come block by block, their polygons when complete.

    An object is complete at the block that holds the last corner of its bounding box.
    """

    def __init__(self, objects: Objects, at: Mapping[str, int]) -> None:
        self._rows = _rows_at(objects, at)
        self._ids = objects.ids[self._rows]  # ascending
        self._last = (objects.stop[self._rows, -2:] - 1) // _BLOCK * _BLOCK
        self._waiting: dict[int, list[Edges]] = {}

    def take(self, edges: Edges, block: tuple[int, int]) -> Iterator[tuple[int, list[Polygon]]]:
        """The edges of the block that starts at `block`; row and polygons of what they end."""
        if not np.isin(edges.ids, self._ids).all():
            raise ValueError("the objects are not those of the labels")
        at = np.searchsorted(self._ids, edges.ids)
        ending = np.all(self._last == block, axis=1)
        self._wait(edges.chosen(~ending[at]))
        parts = [edges.chosen(ending[at])]
        for number in self._waiting.keys() & set(self._ids[ending].tolist()):
            parts += self._waiting.pop(number)
        for number, polygons in polygons_of(joined(parts)):
            yield int(self._rows[np.searchsorted(self._ids, number)]), polygons

    def _wait(self, edges: Edges) -> None:
        edges = edges.chosen(np.argsort(edges.ids, kind="stable"))
        ids, first = np.unique(edges.ids, return_index=True)
        parts = np.split(np.arange(len(edges)), first[1:])
        for number, part in zip(ids.tolist(), parts, strict=False):
            self._waiting.setdefault(number, []).append(edges.chosen(part))


def _rows_at(objects: Objects, at: Mapping[str, int]) -> NDArray[np.intp]:
    """The rows of the objects that may have pixels in a plane; their ids ascend."""
    here = np.ones(len(objects), bool)
    for axis, index in objects.frames.items():
        here &= index == at[axis]
    if "Z" in objects.axes:
        z = objects.axes.index("Z")
        here &= (objects.start[:, z] <= at["Z"]) & (at["Z"] < objects.stop[:, z])
    return np.flatnonzero(here)


def _with_margin(
    labels: Source, t: int, planes: tuple[int, int], corner: tuple[int, int]
) -> Pixels:
    """A block of some planes with one pixel around it in Y and X, 0 outside the image."""
    size, (y, x) = labels.shape[-2:], corner
    bottom, right = min(y + _BLOCK, size[0]), min(x + _BLOCK, size[1])
    inner = Box((y, x), (bottom, right)).grown((1, 1), size)
    start = {"T": t, "Z": planes[0], "Y": inner.start[0], "X": inner.start[1]}
    stop = {"T": t + 1, "Z": planes[1], "Y": inner.stop[0], "X": inner.stop[1]}
    pixels = labels.read(
        Box(tuple(start[a] for a in labels.axes), tuple(stop[a] for a in labels.axes))
    ).reshape(planes[1] - planes[0], *inner.shape)
    above, left = inner.start[0] - y + 1, inner.start[1] - x + 1
    below, beside = bottom + 1 - inner.stop[0], right + 1 - inner.stop[1]
    return np.pad(pixels, ((0, 0), (above, below), (left, beside)))
