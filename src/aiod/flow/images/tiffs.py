"""TIFF, OME-TIFF, ImageJ's TIFF and the TIFFs of microscopes: what lies where, and what it means.

Sources: TIFF 6.0 (https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf), and
https://github.com/cgohlke/tifffile for the formats on top of it.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from aiod.flow.images.planes import Planes
from aiod.flow.images.raw import ImageError, Raw, damaged, only_image_errors
from aiod.flow.images.tiffwords import describe
from aiod.words import counted, printable

_LOGGER = logging.getLogger("tifffile")
_LOGGER.addHandler(logging.NullHandler())  # else Python prints what it logs

# What tifffile logs and then goes on with fewer pages than the file once had.
_CUT_OFF = re.compile(
    r"page offset|offset to page|tag list of page|circular|ImageJ series|shaped series|"
    r"missing data offset|"
    # or without a tag that matters: sizes, where the pieces are, descriptions
    r"TiffTag (25[4-9]|2[678]\d|296|32\d|330|33[89]|5083[89]) @\d+> invalid value offset"
)


def open_tiff(path: Path) -> Raw:
    """The first image of a TIFF at its full resolution. Raises ImageError."""
    with only_image_errors(path, "opened"), _heard() as said, tifffile.TiffFile(path) as tif:
        known = describe(tif)  # first: tifffile believes whatever numbers OME-XML gives
        series = tif.series[0]
        for message in said:
            if _CUT_OFF.search(message):
                raise damaged(path, "opened", message)
        axes, shape = series.get_axes(known.squeeze), series.get_shape(known.squeeze)
        if known.kind == "OME-TIFF" and axes.endswith("S") and shape[-1] == 1:
            axes, shape = axes[:-1], shape[:-1]  # OME names TCZYX; this one tifffile adds
        planes = Planes.of(path, series, tuple(int(n) for n in shape))
        planes.check()
        return Raw(
            kind=known.kind,
            axes=axes,
            shape=planes.shape,
            dtype=planes.dtype.newbyteorder("="),
            read=planes.read,
            files=_files(path, series),
            pixel_size=known.pixel_size,
            channel_names=known.channel_names,
            rgb=known.rgb,
            alpha=known.alpha,
            warnings=(*known.warnings, *_odd(tif, planes)),
        )


@contextlib.contextmanager
def _heard() -> Iterator[list[str]]:
    """What tifffile logs as an error meanwhile, in this thread."""
    said: list[str] = []
    here = threading.get_ident()

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == here:
                said.append(record.getMessage())

    ear = Ear(logging.ERROR)
    _LOGGER.addHandler(ear)
    try:
        yield said
    finally:
        _LOGGER.removeHandler(ear)


def _files(path: Path, series: Any) -> tuple[Path, ...]:
    """The file, or all those over which an OME-TIFF is spread."""
    names = {page.parent.filehandle.path for page in series._pages if page is not None}
    return (path,) if len(names) < 2 else tuple(sorted(map(Path, names)))


def _odd(tif: Any, planes: Planes) -> Iterator[str]:
    missing = sum(page is None for page in planes.series._pages)
    if missing == planes.count:
        raise ImageError(f"{planes.path} holds no pixel: all its planes are missing.")
    if missing:
        yield (
            f"{counted(missing, 'plane')} of the {planes.count:,} that its metadata name "
            f"{'is' if missing == 1 else 'are'} in no file and read as 0."
        )
    if len(tif.series) > 1:
        name = f" ({printable(str(planes.series.name))[:60]})" if planes.series.name else ""
        yield f"It holds {len(tif.series)} images; the first{name} is read."
    counts = np.asarray(planes.keyframe.databytecounts)
    if planes.offset is None and (empty := int(np.count_nonzero(counts == 0))):
        yield f"{empty:,} of the {len(counts):,} pieces of its first plane are empty and read as 0."
