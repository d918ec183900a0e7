"""Which images a user means: files, folders, patterns, and the rows of a samplesheet.

Nothing is opened here: an image that cannot be read is told of when its turn comes, while a path
that leads nowhere is a slip of the pen and stops before anything has run.
"""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from aiod.errors import AiodError
from aiod.files import reason
from aiod.flow.images.names import sample_names
from aiod.flow.images.others import READERS
from aiod.flow.images.samplesheets import Sample, read_samplesheet
from aiod.flow.images.units import parse_pixel_size
from aiod.flow.record import read_record
from aiod.words import counted, listing, nearest, shown

__all__ = ["Sample", "find_samples", "parse_pixel_size"]

SUFFIXES = frozenset(
    {
        *(".tif", ".tiff", ".btf", ".tf2", ".tf8", ".lsm", ".stk", ".flex"),
        *(".svs", ".ndpi", ".scn", ".qptiff", ".bif"),
        *(".png", ".jpg", ".jpeg", ".zarr"),
        *READERS,
    }
)
"""What counts as an image in a folder; a file that is named itself may have any suffix."""


def find_samples(
    paths: Sequence[str | Path], *, samplesheet: Path | None = None
) -> tuple[Sample, ...]:
    """The images that paths and a samplesheet name, each once, in their order.

    A path is an image, a folder (then all images directly in it, in natural order), or a pattern
    with * ? [ ] that the shell has left as it is. Raises AiodError for a path that leads nowhere, a
    folder or pattern without an image, and for what is wrong in the samplesheet, with file:line.
    """
    _outputs_in.cache_clear()
    found = [Sample("", file) for path in paths for file in _images(str(path))]
    if samplesheet is not None:
        found += read_samplesheet(Path(samplesheet).expanduser())
    if not found:
        raise AiodError("No image was named.", hint="give images, folders, or --samplesheet FILE")
    once: dict[tuple[object, ...], Sample] = {}
    for sample in found:
        # The same file with another channel is another sample.
        size = tuple(sorted((sample.pixel_size or {}).items()))
        key = (os.path.realpath(sample.path), sample.axes, sample.channels, size)
        if key not in once or (sample.name and not once[key].name):
            once[key] = sample
    samples = list(once.values())
    names = sample_names([(sample.name, sample.path) for sample in samples])
    return tuple(replace(s, name=name) for s, name in zip(samples, names, strict=True))


def natural(path: Path | str) -> list[tuple[int, str]]:
    """A key that sorts names as people do: t2 before t10, and capitals beside small letters."""
    parts = re.split(r"(\d+)", str(path).casefold())
    return [(int(part[:4000]), part) if part.isdecimal() else (-1, part) for part in parts]


def _images(text: str) -> list[Path]:
    """The images that one path means."""
    path = Path(text.replace("\0", "\ufffd")).expanduser()
    if _is_missing(path):
        if re.match(r"[a-z][a-z0-9+.-]*://", text, re.IGNORECASE):
            raise AiodError(
                f"{text} is an address, and images are read from disks.",
                hint="download it, or mount the storage as a folder",
            )
        if glob.has_magic(text):
            return _matching(path)
        raise AiodError(f"{path} does not exist.", hint=_nearby(path))
    return _in_folder(path) if _is_plain_folder(path) else [path]


def _is_missing(path: Path) -> bool:
    """Whether it is certain that nothing is there."""
    try:
        path.lstat()
    except OSError as error:
        return not isinstance(error, PermissionError)
    return False


def _is_plain_folder(path: Path) -> bool:
    """Whether a folder holds images, instead of being one."""
    if not _is_folder(path) or path.suffix.lower() == ".zarr":
        return False
    described = ("zarr.json", ".zattrs", ".zgroup", ".zarray")
    return not any(os.path.lexists(path / name) for name in described)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # what may not be looked at is told of when it is opened
        return False


def _is_image(path: Path) -> bool:
    if path.name.startswith(".") or path.suffix.lower() not in SUFFIXES:
        return _is_folder(path) and not path.name.startswith(".") and not _is_plain_folder(path)
    return path.suffix.lower() == ".zarr" or not _is_folder(path)


def _in_folder(folder: Path) -> list[Path]:
    images = _entries(folder)
    if images:
        return images
    entries = list(folder.iterdir())
    hint = "images end in .tif, .tiff, .zarr, .png, .jpg and the like; name others one by one"
    if any(_is_folder(entry) and not entry.name.startswith(".") for entry in entries):
        hint = f"for the images in its folders, '{folder}/*' or '{folder}/**/*.tif'"
    raise AiodError(
        f"{folder} holds no image.",
        details=[f"found: {counted(len(entries), 'entry', 'entries')}{_kinds(entries)}"],
        hint=hint,
    )


def _kinds(entries: Iterable[Path]) -> str:
    kinds = Counter(e.suffix.lower() for e in entries if e.suffix and not _is_folder(e))
    most = [f"{count} {suffix}" for suffix, count in kinds.most_common(4)]
    return f", among them {listing(most, 'and')}" if most else ""


def _matching(pattern: Path) -> list[Path]:
    """The images that a pattern matches; in folders that it matches, those directly in them."""
    images: dict[Path, None] = {}
    folder = _fixed(pattern)
    rest = pattern.relative_to(folder)
    try:
        found = sorted(folder.glob(str(rest)), key=natural)
    except (ValueError, OSError) as error:
        raise AiodError(f"{shown(str(pattern))} is no pattern: {error}.") from error
    named = pattern.suffix and not glob.has_magic(pattern.suffix)
    for match in found:
        inner = match.relative_to(folder)
        if any(parent.suffix.lower() == ".zarr" for parent in inner.parents):
            continue  # a part of an image
        if any(part.startswith(".") for part in inner.parts):
            continue
        if match.name in _outputs_in(match.parent):
            continue
        if _is_image(match) or (named and match.is_file()):
            images[match] = None
        elif rest.parts[-1] == "**" or "**" not in rest.parts:
            images.update(dict.fromkeys(_entries(match)) if _is_plain_folder(match) else {})
    if images:
        return list(images)
    raise AiodError(
        f"No image matches {shown(str(pattern))}.",
        details=[f"found: {counted(len(found), 'match', 'matches')}, none of which is an image"]
        if found
        else [f"found: nothing of that name in {folder.absolute()}"],
        hint="** stands for any number of folders, * for a part of a name",
    )


def _entries(folder: Path) -> list[Path]:
    """The images directly in a folder, in natural order."""
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: natural(entry.name))
    except OSError as error:
        raise AiodError(f"{folder} cannot be read: {reason(error)}.") from error
    ours = _outputs_in(folder)
    return [entry for entry in entries if entry.name not in ours and _is_image(entry)]


@cache
def _outputs_in(folder: Path) -> frozenset[str]:
    """What a run wrote into a folder: no images to be segmented, though they look like some."""
    try:
        record = read_record(folder)
    except AiodError:
        return frozenset()
    read = {os.path.realpath(image.path) for image in record.images}
    written = {
        Path(path).parts[0]
        for image in record.images
        for path in (image.labels, *image.outputs.values())
        if path is not None
    }
    return frozenset(name for name in written if os.path.realpath(folder / name) not in read)


def _fixed(pattern: Path) -> Path:
    """The folder in front of a pattern's first part with a wildcard."""
    parts: list[str] = []
    for part in pattern.parts:
        if glob.has_magic(part):
            break
        parts.append(part)
    return Path(*parts)


def _nearby(path: Path) -> str:
    """A name like the one that is not there, if its folder has one."""
    try:
        names: Iterator[str] = (entry.name for entry in path.parent.iterdir())
        like = nearest(path.name, names)
    except OSError:
        like = []
    return f"did you mean {path.parent / like[0]}?" if like else "look for a mistake in its name"
