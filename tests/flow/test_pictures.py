"""PNG and JPEG are decoded whole, so they are bounded before, and refused where they are broken."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from aiod.flow.images.image import ImageError, open_image
from aiod.flow.source import Box, Pixels
from pictures import COLOURS, STACK


def whole(path: Path) -> Pixels:
    source = open_image(path).source
    return source.read(Box.whole(source.shape))


def refused(path: Path) -> ImageError:
    with pytest.raises(ImageError) as caught:
        whole(path)
    return caught.value


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *, depth: int = 8, colour: int = 0, data: bytes = b"") -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("depth", "colour"), [(8, 0), (8, 2), (16, 0), (16, 6), (8, 3)])
def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path, depth: int, colour: int) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(200_000, 200_000, depth=depth, colour=colour, data=bytes(1000)))
    tracemalloc.start()
    try:
        error = refused(path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert "too large for PNG, which cannot be read in parts" in error.what
    assert error.hint == "save it with tiles, as OME-TIFF or OME-Zarr"


def test_a_large_slide_is_no_bomb(tmp_path: Path) -> None:
    """Pillow itself warns from 90 million pixels on, and refuses from 179 million."""
    Pillow.new("L", (14_000, 14_000), 7).save(tmp_path / "a.png", compress_level=1)
    source = open_image(tmp_path / "a.png").source
    read = source.read(Box((13_000, 13_000), (13_010, 13_010)))
    np.testing.assert_array_equal(read, np.full((10, 10), 7))


def test_an_image_that_is_less_than_it_says_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    for depth, colour in ((8, 0), (16, 2)):
        path.write_bytes(png(400, 400, depth=depth, colour=colour, data=bytes(10)))
        assert "cannot be read" in refused(path).what
    for name in ("b.png", "b.jpg"):
        Pillow.fromarray(COLOURS).save(tmp_path / name)
        content = (tmp_path / name).read_bytes()
        for length in (12, 30, len(content) // 2):
            (tmp_path / name).write_bytes(content[:length])
            assert "its content is damaged or incomplete" in refused(tmp_path / name).what


def test_sixteen_bits_a_colour_stay_sixteen_bits(tmp_path: Path) -> None:
    for samples, axes in ((2, "YX"), (3, "CYX"), (4, "CYX")):
        pixels = STACK.reshape(-1)[: 20 * 30 * samples].reshape(20, 30, samples)
        (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(pixels))
        image = open_image(tmp_path / "a.png")
        colours = pixels.transpose(2, 0, 1)[:3] if samples > 2 else pixels[..., 0]
        assert (image.source.axes, image.source.dtype) == (axes, np.dtype("uint16"))
        np.testing.assert_array_equal(whole(tmp_path / "a.png"), colours)


@pytest.mark.parametrize("mode", ["CMYK", "L", "RGB"])
def test_a_jpeg_is_what_pillow_makes_of_it(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.jpg"
    Pillow.fromarray(COLOURS).convert(mode).save(path)
    with Pillow.open(path) as picture:
        expected = np.asarray(picture.convert("L" if mode == "L" else "RGB"))
    expected = expected.transpose(2, 0, 1) if mode != "L" else expected
    np.testing.assert_array_equal(whole(path), expected)
    assert any("CMYK" in warning for warning in open_image(path).warnings) == (mode == "CMYK")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), how=st.sampled_from([("a.png", {}), ("a.jpg", {})]))
def test_whatever_bytes_are_wrong_nothing_but_an_image_error_leaves(
    tmp_path: Path, data: st.DataObject, how: tuple[str, dict[str, Any]]
) -> None:
    path = tmp_path / how[0]
    Pillow.fromarray(COLOURS).save(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        near = data.draw(st.sampled_from([40, 200, len(content)]))
        content[data.draw(st.integers(0, near - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        read = whole(path)
    except ImageError:
        return
    assert read.ndim in (2, 3)
