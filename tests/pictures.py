"""Small images written in every format, and what must be read from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
import zarr
from PIL import Image

from aiod.flow.source import Pixels

RANDOM = np.random.default_rng(3)
STACK: Pixels = RANDOM.integers(0, 4096, (2, 3, 37, 45)).astype("uint16")
"""Channels, planes, rows, columns; 12 bits in 16."""

COLOURS: Pixels = RANDOM.integers(0, 256, (37, 45, 3)).astype("uint8")
"""Rows, columns, and red, green and blue."""


def ome_zarr(folder: Path, pixels: Pixels, *, axes: str, version: str = "0.5", **how: Any) -> Path:
    """An OME-Zarr of one resolution; `how` is passed to the array, `scale` and `unit` are used."""
    scale, unit = how.pop("scale", [1.0] * len(axes)), how.pop("unit", "micrometer")
    chunks = how.pop("chunks", tuple(min(16, n) for n in pixels.shape))
    kinds = {"T": "time", "C": "channel"}
    named = []
    for letter in axes:
        axis = {"name": letter.lower(), "type": kinds.get(letter, "space")}
        named.append(axis | ({"unit": unit} if unit and letter in "ZYX" else {}))
    group = zarr.open_group(folder, mode="w", zarr_format=3 if version == "0.5" else 2)
    group.create_array("0", data=pixels, chunks=chunks, **how)
    transforms = [{"type": "scale", "scale": list(scale)}]
    multiscale = {
        "axes": named,
        "datasets": [{"path": "0", "coordinateTransformations": transforms}],
    }
    if version == "0.5":
        group.attrs["ome"] = {"version": version, "multiscales": [multiscale]}
    else:
        group.attrs["multiscales"] = [{"version": version, **multiscale}]
    return folder


def _tiff(pixels: Pixels, name: str = "a.tif", **how: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        tifffile.imwrite(folder / name, pixels, **how)
        return folder / name

    return write


def _zarr(pixels: Pixels, **how: Any) -> Callable[[Path], Path]:
    return lambda folder: ome_zarr(folder / "a.zarr", pixels, **how)


def _pillow(pixels: Pixels, name: str, **how: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        Image.fromarray(pixels).save(folder / name, **how)
        return folder / name

    return write


def _deep_png(folder: Path) -> Path:
    (folder / "a.png").write_bytes(imagecodecs.png_encode(COLOURS.astype("uint16") * 257))
    return folder / "a.png"


_CZYX = {"axes": "CZYX"}
_PLAIN = {"photometric": "minisblack"}
_RGB = COLOURS.transpose(2, 0, 1)

FORMATS: dict[str, tuple[Callable[[Path], Path], str, Pixels]] = {
    "TIFF": (_tiff(STACK[0, 0]), "YX", STACK[0, 0]),
    "TIFF in one strip, zlib": (_tiff(STACK[0, 0], compression="zlib"), "YX", STACK[0, 0]),
    "TIFF in strips": (_tiff(STACK[0, 0], rowsperstrip=5), "YX", STACK[0, 0]),
    "TIFF in strips, LZW": (
        _tiff(STACK[0, 0], rowsperstrip=5, compression="lzw", predictor=True),
        "YX",
        STACK[0, 0],
    ),
    "TIFF in tiles": (_tiff(STACK[0, 0], tile=(16, 32)), "YX", STACK[0, 0]),
    "TIFF in tiles, zstd": (
        _tiff(STACK[0, 0], tile=(16, 32), compression="zstd"),
        "YX",
        STACK[0, 0],
    ),
    "BigTIFF, big-endian": (_tiff(STACK[0, 0], bigtiff=True, byteorder=">"), "YX", STACK[0, 0]),
    "TIFF of float32": (
        _tiff((STACK[0, 0] - 99.5).astype("float32")),
        "YX",
        (STACK[0, 0] - 99.5).astype("float32"),
    ),
    "TIFF of int16": (
        _tiff(STACK[0, 0].astype("int16") - 2000),
        "YX",
        STACK[0, 0].astype("int16") - 2000,
    ),
    "TIFF of bits": (_tiff(STACK[0, 0] > 2000), "YX", (STACK[0, 0] > 2000).astype("uint8")),
    "TIFF of one pixel": (_tiff(STACK[0, 0, :1, :1]), "YX", STACK[0, 0, :1, :1]),
    "TIFF with axes": (_tiff(STACK, metadata=_CZYX, **_PLAIN), "CZYX", STACK),
    "TIFF of a volume in bricks": (
        _tiff(STACK[0], tile=(2, 16, 16), volumetric=True, metadata={"axes": "ZYX"}, **_PLAIN),
        "ZYX",
        STACK[0],
    ),
    "RGB TIFF": (_tiff(COLOURS, photometric="rgb"), "CYX", _RGB),
    "RGB TIFF in tiles": (
        _tiff(COLOURS, photometric="rgb", tile=(16, 16), compression="zlib"),
        "CYX",
        _RGB,
    ),
    "RGB TIFF, colours apart": (
        _tiff(_RGB, photometric="rgb", planarconfig="separate", tile=(16, 16)),
        "CYX",
        _RGB,
    ),
    "OME-TIFF": (_tiff(STACK, "a.ome.tif", metadata=_CZYX, **_PLAIN), "TCZYX", STACK[None]),
    "OME-TIFF in tiles, JPEG 2000": (
        _tiff(STACK, "a.ome.tif", metadata=_CZYX, tile=(16, 16), compression="jpeg2000", **_PLAIN),
        "TCZYX",
        STACK[None],
    ),
    "ImageJ TIFF": (
        _tiff(STACK.swapaxes(0, 1), imagej=True, metadata={"axes": "ZCYX"}),
        "CZYX",
        STACK,
    ),
    "OME-Zarr 0.4": (_zarr(STACK, axes="CZYX", version="0.4"), "CZYX", STACK),
    "OME-Zarr 0.5": (_zarr(STACK, axes="CZYX"), "CZYX", STACK),
    "OME-Zarr 0.5 in shards": (
        _zarr(STACK, axes="CZYX", chunks=(1, 1, 8, 8), shards=(1, 3, 16, 24)),
        "CZYX",
        STACK,
    ),
    "OME-Zarr, big-endian, axes in another order": (
        _zarr(STACK.T.astype(">u2"), axes="XYZC", version="0.4"),
        "CZYX",
        STACK,
    ),
    "PNG": (_pillow(COLOURS[..., 0], "a.png"), "YX", COLOURS[..., 0]),
    "PNG of 16 bits": (_pillow(STACK[0, 0], "a.png"), "YX", STACK[0, 0]),
    "PNG of bits": (
        _pillow(STACK[0, 0] > 2000, "a.png"),
        "YX",
        (STACK[0, 0] > 2000).astype("uint8"),
    ),
    "RGB PNG": (_pillow(COLOURS, "a.png"), "CYX", _RGB),
    "RGB PNG of 16 bits": (_deep_png, "CYX", _RGB.astype("uint16") * 257),
    "grey JPEG": (
        _pillow(np.full((37, 45), 130, "uint8"), "a.jpg"),
        "YX",
        np.full((37, 45), 130, "uint8"),
    ),
}
"""Format -> how to write it, the axes and the pixels that must be read."""
