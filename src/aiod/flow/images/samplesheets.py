"""Samplesheets: one image a row.

=========================  ==================================================================
``sample,image``           and optionally ``axes``, ``channel``, ``pixel_size``
``img_path,num_slices,…``  AIoD's own: also ``height``, ``width``, ``channels``; the numbers are
                           compared with the image
=========================  ==================================================================

Columns may be parted by commas, semicolons or tabs; other columns are left alone.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from aiod.errors import AiodError
from aiod.files import read_text
from aiod.flow.images.image import check_axes
from aiod.flow.images.units import parse_pixel_size
from aiod.words import counted, listing, nearest, shown

_MAX_BYTES = 50_000_000
_SHOWN = 20

COLUMNS = ("sample", "image", "axes", "channel", "pixel_size")
AIOD_COLUMNS = {"num_slices": "Z", "height": "Y", "width": "X", "channels": "C"}


@dataclass(frozen=True, slots=True)
class Sample:
    """One image to work on.

    `name` is unique in a run and safe as a file name on every system. `axes`, `channels` (names or
    numbers) and `pixel_size` (axis -> micrometres) are what the user said, and None or empty where
    nothing was said. `expected` holds the sizes that a samplesheet of AIoD states.
    """

    name: str
    path: Path
    axes: str | None = None
    channels: tuple[str, ...] = ()
    pixel_size: Mapping[str, float] | None = None
    expected: Mapping[str, int] | None = None

    def misfits(self, sizes: Mapping[str, int]) -> tuple[str, ...]:
        """Where an image's sizes (axis -> pixels) are not those that the samplesheet states.

        >>> Sample("a", Path("a.tif"), expected={"Z": 3, "Y": 9}).misfits({"Z": 5, "Y": 9})
        ('Z is 5 instead of 3',)
        """
        return tuple(
            f"{axis} is {sizes.get(axis, 1)} instead of {number}"
            for axis, number in (self.expected or {}).items()
            if sizes.get(axis, 1) != number
        )


def read_samplesheet(path: Path) -> list[Sample]:
    """The samples of a sheet, in its order; paths in it are relative to its folder.

    Raises AiodError, which lists every row that cannot be used as file:line.
    """
    if not path.exists():
        raise AiodError(
            f"The samplesheet {path} does not exist.", hint="look for a mistake in its name"
        )
    text = read_text(path, limit=_MAX_BYTES)
    rows = _rows(path, text)
    first, header = next(rows, (1, []))
    columns = [name.strip().lower() for name in header]
    image = _check_columns(f"{path}:{first}", columns)
    samples, problems = [], []
    separator = _separator(text)
    for line, cells in rows:
        try:
            if len(cells) > len(columns) and any(cell.strip() for cell in cells[len(columns) :]):
                raise AiodError(
                    f"{counted(len(cells), 'cell')}, and the header names "
                    f"{counted(len(columns), 'column')}"
                )
            row = {name: cell.strip() for name, cell in zip(columns, cells, strict=False)}
            samples.append(_sample(path.parent, row, image, separator))
        except AiodError as error:
            problems.append(f"{path}:{line}: {error.what.rstrip('.')}")
    if problems:
        hidden = len(problems) - _SHOWN
        raise AiodError(
            f"{path} has {counted(len(problems), 'row')} that cannot be used.",
            details=problems[:_SHOWN] + ([f"and {hidden} more"] if hidden > 0 else []),
            hint="mend them, or leave them out; paths are relative to the samplesheet's folder",
        )
    if not samples:
        raise AiodError(
            f"{path} names no image: it has no row below its header.",
            hint="write one image a line, its path in the column image",
        )
    return samples


def _separator(text: str) -> str:
    header = next((line for line in text.splitlines() if line.strip()), "")
    return max(",;\t", key=header.count)


def _rows(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, each with the number of its first line."""
    reader = csv.reader(text.splitlines(keepends=True), delimiter=_separator(text), strict=True)
    line = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise AiodError(
            f"{path}:{line} cannot be read: {error}.",
            hint="a cell with quotes begins and ends with one, and has those inside doubled",
        ) from error


def _check_columns(where: str, columns: list[str]) -> str:
    """The name of the column with images."""
    named = [column for column in columns if column]
    twice = sorted({column for column in named if named.count(column) > 1})
    if twice:
        raise AiodError(f"{where} names the column {listing(twice, 'and')} twice.")
    image = next((name for name in ("image", "img_path") if name in columns), None)
    known = COLUMNS if image != "img_path" else ("img_path", *AIOD_COLUMNS)
    if image is None:
        raise AiodError(
            f"{where} names no column with images.",
            details=[f"found: {listing(named[:12], 'and')}", "expected: sample,image"],
            hint="begin the samplesheet with the line: sample,image",
        )
    for column in named:
        like = nearest(column, known)
        if column not in known and like and like[0] not in columns:
            raise AiodError(
                f"{where} names the column {shown(column)}, which is not known.",
                hint=f"did you mean {like[0]}?",
            )
    return image


def _sample(folder: Path, row: Mapping[str, str], image: str, separator: str) -> Sample:
    text = row.get(image, "")
    if not text:
        raise AiodError(f"the cell of {image} is empty")
    if re.match(r"(?i)[a-z][a-z0-9+.-]*://", text):
        raise AiodError(f"{text} is an address, and images are read from disks")
    path = folder / Path(text).expanduser()
    if "\0" in text or not os.path.lexists(path):
        raise AiodError(f"{path} does not exist")
    if image == "img_path":
        numbers = {column: row.get(column, "") for column in AIOD_COLUMNS}
        expected = {AIOD_COLUMNS[c]: _number(c, text) for c, text in numbers.items() if text}
        return Sample("", path, expected=expected or None)
    size = row.get("pixel_size", "")
    if separator == ";" and re.fullmatch(r"\s*[0-9]+,[0-9]+\s*[^0-9]*", size):
        raise AiodError(
            f"the pixel size {shown(size)} may be one number or two; write 0.325 or 1,1"
        )
    axes = row.get("axes", "")
    channels = re.split(r"[,;|]", row.get("channel", ""))
    return Sample(
        name=row.get("sample", ""),
        path=path,
        axes=check_axes(axes) if axes else None,
        channels=tuple(channel.strip() for channel in channels if channel.strip()),
        pixel_size=parse_pixel_size(size) if size else None,
    )


def _number(column: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,12}(\.0*)?", text) or float(text) < 1:
        raise AiodError(f"{column} is {shown(text)} instead of a number of 1 or more")
    return int(float(text))
