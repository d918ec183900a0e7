"""PNG and JPEG: formats that can only be decoded whole, so bounded before they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from PIL import ImageFile, JpegImagePlugin, PngImagePlugin

from aiod.flow.images.raw import MAX_PIECE_BYTES, ImageError, Raw, damaged, only_image_errors
from aiod.flow.images.tiffwords import is_a_printers, sizes_from_density
from aiod.flow.kept import kept
from aiod.flow.source import Box, Pixels
from aiod.words import byte_size

# Pillow's mode -> the mode it is read in, its axes, the type of its numbers.
_MODES: dict[str, tuple[str, str, str]] = {
    "1": ("1", "YX", "bool"),
    "L": ("L", "YX", "uint8"),
    "LA": ("L", "YX", "uint8"),
    "I": ("I", "YX", "int32"),
    "I;16": ("I;16", "YX", "uint16"),
    "P": ("RGB", "YXS", "uint8"),
    "PA": ("RGB", "YXS", "uint8"),
    "RGB": ("RGB", "YXS", "uint8"),
    "RGBA": ("RGB", "YXS", "uint8"),
    "CMYK": ("RGB", "YXS", "uint8"),
    "YCbCr": ("RGB", "YXS", "uint8"),
}
_WARNINGS = {
    "LA": "Its transparency (alpha) is left out.",
    "PA": "Its transparency (alpha) is left out.",
    "RGBA": "Its transparency (alpha) is left out.",
    "CMYK": "Its colours of a printer (CMYK) are turned into red, green and blue.",
}
_PNG_SAMPLES = {0: 1, 2: 3, 4: 2, 6: 4}  # of each colour type


def open_png(path: Path) -> Raw:
    """A PNG; 16 bits a sample stay 16 bits. Raises ImageError."""
    with only_image_errors(path, "opened"):
        with path.open("rb") as stream:
            header = stream.read(26)
        depth, colour = header[24:26] if len(header) == 26 else (8, 0)
        with PngImagePlugin.PngImageFile(path) as picture:
            if depth == 16 and colour in (2, 4, 6):  # Pillow would keep the upper half only
                return _deep(path, picture, _PNG_SAMPLES[colour])
            return _whole(path, picture, "PNG")


def open_jpeg(path: Path) -> Raw:
    """A JPEG, as it is stored: a note of how the camera was held is not obeyed."""
    with (
        only_image_errors(path, "opened"),
        JpegImagePlugin.JpegImageFile(path) as picture,
    ):
        return _whole(path, picture, "JPEG")


def _whole(path: Path, picture: ImageFile.ImageFile, kind: str) -> Raw:
    mode = picture.mode
    if mode not in _MODES:
        raise ImageError(f"{path} cannot be opened: pixels of Pillow's mode {mode} are not known.")
    wanted, axes, dtype = _MODES[mode]
    shape = (picture.height, picture.width, 3)[: len(axes)]
    opener = type(picture)

    def decode() -> Pixels:
        with opener(path) as again:
            return np.asarray(again if again.mode == wanted else again.convert(wanted))

    warnings = [_WARNINGS[mode]] if mode in _WARNINGS else []
    if mode == "P" and "transparency" in picture.info:
        warnings.append(_WARNINGS["PA"])
    return _decoded(path, picture, kind, axes, shape, np.dtype(dtype), decode, warnings)


def _deep(path: Path, picture: ImageFile.ImageFile, samples: int) -> Raw:
    def decode() -> Pixels:
        return np.asarray(imagecodecs.png_decode(path.read_bytes()))

    shape = (picture.height, picture.width, samples)
    return _decoded(path, picture, "PNG", "YXS", shape, np.dtype("uint16"), decode, [])


def _decoded(
    path: Path,
    picture: ImageFile.ImageFile,
    kind: str,
    axes: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    decode: Any,
    warnings: list[str],
) -> Raw:
    nbytes = picture.width * picture.height * shape[-1] ** (len(shape) - 2) * dtype.itemsize
    if nbytes > MAX_PIECE_BYTES:
        raise ImageError(
            f"{path} is too large for {kind}, which cannot be read in parts: its "
            f"{picture.width:,} × {picture.height:,} pixels would take {byte_size(nbytes)}.",
            hint="save it with tiles, as OME-TIFF or OME-Zarr",
        )
    token = object()

    def made() -> Pixels:
        pixels: Pixels = decode()
        if pixels.shape != shape:
            raise damaged(path, "read", f"{pixels.shape} pixels instead of {shape}")
        return pixels

    def read(box: Box) -> Pixels:
        with only_image_errors(path, "read"):
            return kept(nbytes).made(token, made)[box.slices].copy()

    return Raw(
        kind=kind,
        axes=axes,
        shape=shape,
        dtype=dtype,
        read=read,
        files=(path,),
        pixel_size=_pixel_size(picture),
        rgb=axes == "YXS" and shape[-1] >= 3,
        alpha=axes == "YXS" and shape[-1] in (2, 4),
        warnings=tuple(warnings),
    )


def _pixel_size(picture: ImageFile.ImageFile) -> dict[str, float]:
    """From dots per inch, unless they are a program's default."""
    density = picture.info.get("dpi")
    if not isinstance(density, tuple) or len(density) != 2:
        return {}
    per_inch = (float(density[1]), float(density[0]))
    if is_a_printers(per_inch):
        return {}
    return sizes_from_density(per_inch, lambda inches: inches * 25_400)
