"""Labels on disk: OME-Zarr 0.5, written chunk by chunk, finished whole or not at all.

Source: https://ngff.openmicroscopy.org/0.5/ (multiscales, labels, image-label, bioformats2raw).

    cells.ome.zarr/                    a collection, so that viewers open the folder as a whole
      OME/METADATA.ome.xml             names the label images for the readers that ask there
      labels/                          ome.labels: ["nuclei"]
        nuclei/                        multiscales and image-label
          0/  1/  2/                   the pyramid: every second pixel of the level before
        .cells.partial/                a label image that is still being written

What the pipeline adds stands under the key "aiod" beside "ome", where no reader trips over it.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import zarr

from aiod.errors import AiodError
from aiod.files import read_text, reason, write_atomically
from aiod.flow.images.image import open_image
from aiod.flow.results.multiscale import FORMAT, Kind, attributes_of, axes_of
from aiod.flow.results.omexml import Described, ome_xml
from aiod.flow.results.pyramid import (
    Map,
    Seen,
    chunks_for,
    fill_pyramid,
    first_level,
    new_levels,
)
from aiod.flow.source import Box, Pixels, Source
from aiod.words import counted, listing, printable

_MAX_METADATA_BYTES = 50_000_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")


class LabelsError(AiodError):
    """Labels that cannot be read as such."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels on disk: `source` has axes of TZYX and unsigned integers, 0 is the background.

    `kind` says whether numbers are objects or classes, None where the file does not say.
    """

    source: Source
    name: str
    kind: Kind | None
    path: Path


def create_labels(
    folder: Path,
    *,
    name: str,
    axes: str,
    shape: tuple[int, ...],
    dtype: Any = "uint32",
    chunks: tuple[int, ...] | None = None,
    pixel_size: Mapping[str, float] | None = None,
    source: str | None = None,
    kind: Kind = "instance",
    about: Mapping[str, Any] | None = None,
) -> zarr.Array[Any]:
    """Level 0 of a new label image `name` in `folder`, an OME-Zarr such as `cells.ome.zarr`.

    `axes` are letters of TCZYX, `pixel_size` micrometres for those of Z, Y and X that are known,
    `source` the path of the image: where that is an OME-Zarr the labels name it by a relative
    path, as the format wants it, else as a plain file name in their metadata. `about` is kept
    beside it: plain JSON, such as the model. The array is filled by `write_box`, from several
    threads and processes at a time (it can be pickled) as long as each writes whole chunks. Until
    `finish_labels` the label image stands under a hidden name; what an earlier run left there is
    removed.

    Raises AiodError when there are such labels already or the folder cannot be written.
    """
    _check_name(name)
    if (folder / "labels" / name).exists():
        raise AiodError(
            f'{folder} has labels called "{name}" already.',
            hint="choose another name or another output folder",
        )
    kept = np.dtype(dtype)
    if kept.kind != "u":
        raise ValueError(f"labels are unsigned integers, not {kept}")
    known = {a: float(s) for a, s in (pixel_size or {}).items() if a in "ZYX" and a in axes}
    try:
        place = _partial(folder, name)
        shutil.rmtree(place, ignore_errors=True)
        group = zarr.open_group(place, mode="w", zarr_format=3)
        chunks = chunks or chunks_for(axes, shape)
        level, steps = new_levels(group, axes, shape, kept, chunks, known)
        group.attrs.update(
            attributes_of(
                folder / "labels" / name,
                axes=axes,
                steps=steps,
                pixel_size=known,
                source=source,
                kind=kind,
                about=about,
            )
        )
    except OSError as error:
        raise AiodError(f"{folder} cannot be written: {reason(error)}.") from error
    return level


def finish_labels(
    folder: Path, name: str, *, seen: Seen | None = None, mapper: Map = map
) -> tuple[Path, str]:
    """Fill the pyramid of a label image that `create_labels` began, and give it its name.

    `mapper` may do its blocks in parallel, `seen` is what is known of them (see `fill_pyramid`);
    label images of one folder are finished one at a time.
    Returns the folder of the label image and the `labels_digest` of its pixels.

    Raises AiodError when the folder cannot be written.
    """
    place, target = _partial(folder, name), folder / "labels" / name
    try:
        group = zarr.open_group(place, mode="r+")
        digest = fill_pyramid(group, seen=seen, mapper=mapper)
        place.replace(target)
        _list_labels(folder)
    except OSError as error:
        raise AiodError(f"{target} cannot be written: {reason(error)}.") from error
    return target, digest


def open_labels(path: Path | str, *, name: str | None = None) -> Labels:
    """Labels of an OME-Zarr 0.4 or 0.5 (ours or of others) or of an image file such as TIFF.

    `path` is a label image, an OME-Zarr that holds labels, or the folder of a run of one image;
    where an OME-Zarr holds several, `name` says which. Raises LabelsError for what holds no labels,
    ImageError for what cannot be read.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() in (".npy", ".npz", ".pkl", ".pickle"):
        raise LabelsError(
            f"{path} is an array of Python, which says nothing of axes and may hold code.",
            hint="save the labels as TIFF or OME-Zarr",
        )
    if path.is_dir():
        path = _label_image_in(_image_of_run(path), name)
    image = open_image(path, fingerprint="not taken")
    source = image.source
    if source.sizes.get("C", 1) > 1:
        raise LabelsError(
            f"{path} holds {source.sizes['C']} channels, and labels have none.",
            details=["found: colours of a picture"] if image.rgb else [],
            hint="give the labels themselves, not a picture of them",
        )
    if source.dtype.kind not in "ui":
        raise LabelsError(
            f"{path} holds numbers of the type {source.dtype}, and labels are whole numbers.",
            hint="give the labels, not the image, or save them as 16- or 32-bit integers",
        )
    ours = _aiod(path)
    kind = ours.get("kind")
    return Labels(
        source=_without_channel(path, source),
        name=path.name if path.is_dir() else path.stem.removesuffix(".ome"),
        kind=kind if kind in get_args(Kind) else None,
        path=path,
    )


def smaller_levels(labels: Labels) -> list[Source]:
    """The levels of our own labels that take every second pixel of Y and X of the one before."""
    levels: list[Source] = []
    if not _aiod(labels.path):
        return levels
    for number in itertools.count(1):
        shape = (levels[-1] if levels else labels.source).shape
        halved = (*shape[:-2], *(-(-n // 2) for n in shape[-2:]))
        if not (labels.path / str(number)).is_dir():
            return levels
        level = open_image(labels.path / str(number), fingerprint="not taken").source
        if level.axes != labels.source.axes or level.shape != halved:  # planes are halved too
            return levels
        levels.append(level)
    raise AssertionError("there is no end to numbers")


def _image_of_run(path: Path) -> Path:
    """The OME-Zarr in the folder of a run of one image; any other folder as it is."""
    if not (path / "run.json").is_file():
        return path
    images = sorted(path.glob("*.ome.zarr"))
    if len(images) != 1:
        raise LabelsError(
            f"{path} is the folder of a run with labels of {counted(len(images), 'image')}.",
            details=[f"there are {listing((i.name for i in images[:20]), 'and')}"],
            hint=f"name one of them, such as {images[0]}" if images else "segment first",
        )
    return images[0]


def _label_image_in(path: Path, name: str | None) -> Path:
    """The folder of the label image that a path means."""
    ome = _ome(path)
    lists = isinstance(ome.get("labels"), list)
    one = "image-label" in ome or not (path / "labels").is_dir()
    if name is None and one and not lists:
        return path
    folder = path if lists else path / "labels"
    listed = _ome(folder).get("labels")
    known = [
        item
        for item in (listed if isinstance(listed, list) else [])
        if isinstance(item, str) and _NAME.fullmatch(item) and (folder / item).is_dir()
    ]
    if not known:
        raise LabelsError(f"{path} holds no labels.", hint="give a label image, or segment first")
    if name is None and len(known) == 1:
        return folder / known[0]
    if name not in known:
        what = (
            f"{path} holds several labels." if name is None else f'No labels are called "{name}".'
        )
        raise LabelsError(
            printable(what),
            details=[f"there are {listing(known[:20], 'and')}"],
            hint=f"give one of them, such as {folder / known[0]}",
        )
    return folder / name


def _attributes(path: Path) -> dict[str, Any]:
    """The attributes of a group of zarr 2 or 3; none where there are none."""
    for file, key in (("zarr.json", "attributes"), (".zattrs", None)):
        if (path / file).is_file():
            try:
                document = json.loads(read_text(path / file, limit=_MAX_METADATA_BYTES))
            except (ValueError, RecursionError) as error:
                raise LabelsError(f"{path / file} is not JSON: {error}.") from error
            found = document.get(key, {}) if key and isinstance(document, dict) else document
            return found if isinstance(found, dict) else {}
    return {}


def _ome(path: Path) -> dict[str, Any]:
    """What OME-Zarr says: under "ome" since version 0.5."""
    attributes = _attributes(path)
    ome = attributes.get("ome", attributes)
    return ome if isinstance(ome, dict) else {}


def _aiod(path: Path) -> dict[str, Any]:
    ours = _attributes(path).get("aiod", {}) if path.is_dir() else {}
    return ours if isinstance(ours, dict) else {}


def _without_channel(path: Path, source: Source) -> Source:
    """The labels without an axis C of one, as unsigned integers."""
    at = source.axes.find("C")
    unsigned = np.dtype(f"u{source.dtype.itemsize}")
    if at < 0 and source.dtype == unsigned:
        return source
    shape = tuple(n for axis, n in zip(source.axes, source.shape, strict=True) if axis != "C")
    read = partial(_read_unsigned, path, source, at, unsigned)
    return Source(source.axes.replace("C", ""), shape, unsigned, read, source.pixel_size)


def _read_unsigned(
    path: Path, source: Source, at: int, unsigned: np.dtype[Any], box: Box
) -> Pixels:
    wanted = box
    if at >= 0:
        wanted = Box((*box.start[:at], 0, *box.start[at:]), (*box.stop[:at], 1, *box.stop[at:]))
    pixels = source.read(wanted).reshape(box.shape)
    if pixels.dtype.kind == "i" and pixels.min(initial=0) < 0:
        raise LabelsError(
            f"{path} holds the number {pixels.min()}, and labels are 0 or more.",
            hint="give labels of which 0 is the background",
        )
    return pixels.astype(unsigned, copy=False)


def _check_name(name: str) -> None:
    if len(name) > 100 or not _NAME.fullmatch(name):
        raise AiodError(
            f'"{name[:100]}" cannot be the name of labels.',
            details=["A name is letters, digits, - and _, with single dots inside."],
            hint="choose a name such as nuclei",
        )


def _partial(folder: Path, name: str) -> Path:
    return folder / "labels" / f".{name}.partial"


def _list_labels(folder: Path) -> None:
    """Name the finished label images where readers look for them."""
    names = sorted(
        path.name
        for path in (folder / "labels").iterdir()
        if not path.name.startswith(".") and (path / "zarr.json").is_file()
    )
    described = []
    for name in names:
        group = zarr.open_group(folder / "labels" / name, mode="r")
        attributes: dict[str, Any] = group.attrs.asdict()
        axes, pixel_size = axes_of(attributes["ome"]["multiscales"][0])
        level = first_level(group)
        sizes = dict(zip(axes, level.shape, strict=True))
        described.append(Described(f"labels/{name}", name, sizes, level.dtype.name, pixel_size))
    paths = [image.path for image in described]
    write_atomically(folder / "OME" / "METADATA.ome.xml", ome_xml(described))
    _write_group(folder / "OME", {"series": paths})
    _write_group(folder / "labels", {"labels": names})
    _write_group(folder, {"bioformats2raw.layout": 3})


def _write_group(place: Path, ome: dict[str, Any]) -> None:
    attributes = {"ome": {"version": FORMAT, **ome}}
    document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    write_atomically(place / "zarr.json", json.dumps(document, indent=2) + "\n")
