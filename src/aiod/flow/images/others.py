"""The formats of microscopes' makers, through bioio where it is installed."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np

from aiod.flow.images.raw import ImageError, Raw, only_image_errors
from aiod.flow.source import Box, Pixels

READERS = {
    ".czi": "bioio-czi",
    ".dv": "bioio-dv",
    ".r3d": "bioio-dv",
    ".lif": "bioio-lif",
    ".nd2": "bioio-nd2",
    ".sldy": "bioio-sldy",
    ".bmp": "bioio-imageio",
    ".gif": "bioio-imageio",
    ".ics": "bioio-bioformats",
    ".ims": "bioio-bioformats",
    ".mrc": "bioio-bioformats",
    ".oib": "bioio-bioformats",
    ".oif": "bioio-bioformats",
    ".oir": "bioio-bioformats",
    ".vsi": "bioio-bioformats",
}
"""Suffix -> the reader that bioio needs for it."""


def open_other(path: Path) -> Raw:
    """The first scene of whatever an installed reader of bioio opens. Raises ImageError."""
    reader = READERS.get(path.suffix.lower())
    try:
        bioio = importlib.import_module("bioio")
    except ImportError as error:
        raise ImageError(
            f"{path} is no TIFF, OME-Zarr, PNG or JPEG."
            if reader is None
            else f"{path} needs the reader {reader}, which is not installed.",
            hint=f"pip install bioio {reader or 'and the reader of its format'}, or save it as "
            "OME-TIFF",
        ) from error
    with only_image_errors(path, "opened"):
        try:
            image = bioio.BioImage(path)
            data = image.xarray_dask_data
        except Exception as error:
            # bioio and bioio_base have each had the class in a module of their own.
            unsupported = type(error).__name__ == "UnsupportedFileFormatError"
            if reader is not None and not unsupported:
                raise
            raise ImageError(
                f"{path} is of a format that no installed reader opens."
                if reader is not None
                else f"{path} is no TIFF, OME-Zarr, PNG or JPEG, and no installed reader opens it.",
                hint=f"pip install {reader or 'bioio-bioformats'}, or save it as OME-TIFF",
            ) from error
        pixels = data.data
        axes = "".join(str(name) for name in data.dims)
        sizes = image.physical_pixel_sizes
        rgb = "S" in axes and pixels.shape[axes.index("S")] in (3, 4)
        scenes = len(image.scenes)

        def read(box: Box) -> Pixels:
            with only_image_errors(path, "read"):
                return np.asarray(pixels[box.slices].compute(scheduler="synchronous"))

        return Raw(
            kind=f"bioio ({reader or path.suffix})",
            axes=axes,
            shape=tuple(int(n) for n in pixels.shape),
            dtype=np.dtype(pixels.dtype).newbyteorder("="),
            read=read,
            files=(path,),
            pixel_size={
                axis: float(size)
                for axis, size in zip("ZYX", (sizes.Z, sizes.Y, sizes.X), strict=True)
                if size
            },
            channel_names=tuple(str(name) for name in image.channel_names or ()),
            rgb=rgb,
            alpha=rgb and pixels.shape[axes.index("S")] == 4,
            warnings=(f"It holds {scenes} scenes; the first is read.",) if scenes > 1 else (),
        )
