"""TIFFs are read in parts, by many threads; what lies outside of them is never made up."""

from __future__ import annotations

import struct
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiod.flow.images.image import ImageError, open_image
from aiod.flow.kept import Kept
from aiod.flow.source import Box, Pixels, Source
from pictures import COLOURS, STACK

SIDE = 10_240  # pixels of 2 bytes: an image of 210 MB


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Source]:
    """A large image, stored in three ways, of which no more is in memory than what is written."""
    folder = tmp_path_factory.mktemp("large")
    ways: dict[str, dict[str, Any]] = {
        "tiles": {"tile": (256, 256)},
        "zlib": {"tile": (256, 256), "compression": "zlib", "compressionargs": {"level": 1}},
        "rows": {},
    }
    row = np.arange(SIDE, dtype="uint16")
    for way, how in ways.items():
        pixels = np.memmap(folder / "raw", "uint16", "w+", shape=(SIDE, SIDE))
        pixels[...] = row[None] ^ row[:, None]
        tifffile.imwrite(folder / f"{way}.tif", pixels, **how)
    return {way: open_image(folder / f"{way}.tif", fingerprint="known").source for way in ways}


@pytest.mark.parametrize("way", ["tiles", "zlib", "rows"])
def test_a_tile_of_a_large_image_costs_no_more_memory_than_a_tile(
    large: dict[str, Source], way: str
) -> None:
    source = large[way]
    row = np.arange(SIDE, dtype="uint16")
    tracemalloc.start()
    try:
        for corner in (0, 3000, SIDE - 600):
            read = source.read(Box((corner, corner), (corner + 600, corner + 600)))
            part = row[corner : corner + 600]
            np.testing.assert_array_equal(read, part[None] ^ part[:, None])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000  # 0.7 MB of pixels, and the tiles that they lie in


def test_opening_a_large_image_reads_none_of_its_pixels(large: dict[str, Source]) -> None:
    path = large["zlib"].read.args[0].files[0]  # type: ignore[attr-defined]
    tracemalloc.start()
    try:
        open_image(path, fingerprint="known")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000


@pytest.mark.parametrize(
    "how",
    [
        {"tile": (16, 16), "compression": "zlib"},
        {"tile": (16, 16)},
        {"rowsperstrip": 5, "compression": "lzw"},
        {},
    ],
)
def test_many_threads_read_the_same_image(tmp_path: Path, how: dict[str, Any]) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, STACK, photometric="minisblack", metadata={"axes": "CZYX"}, **how)
    source = open_image(path).source
    boxes = [
        Box((0, c, z, y, x), (1, c + 1, z + 1, y + 20, x + 20))
        for c in range(2)
        for z in range(3)
        for y in range(0, 17, 4)
        for x in range(0, 25, 4)
    ]
    together = threading.Barrier(8)

    def read(number: int) -> None:
        together.wait()
        for box in boxes[number:] + boxes[:number]:
            np.testing.assert_array_equal(source.read(box), STACK[None][box.slices])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, range(8)))


def test_a_compressed_plane_of_one_strip_is_decoded_once(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 50, (4096, 5000)).astype("uint16")
    tifffile.imwrite(tmp_path / "a.tif", pixels, compression="zlib", rowsperstrip=4096)
    source = open_image(tmp_path / "a.tif").source
    began = time.perf_counter()
    source.read(Box((0, 0), (512, 512)))
    first = time.perf_counter() - began
    began = time.perf_counter()
    for corner in range(0, 4000, 500):
        box = Box((corner, corner), (corner + 90, corner + 90))
        np.testing.assert_array_equal(source.read(box), pixels[box.slices])
    assert time.perf_counter() - began < first


def test_pieces_are_kept_up_to_a_limit_and_the_last_ones_used() -> None:
    shelf = Kept(250)
    made: list[str] = []

    def piece(name: str) -> None:
        def make() -> Pixels:
            made.append(name)
            return np.zeros(100, "uint8")

        shelf.made(name, make)

    for name in ("a", "b", "a", "c", "a", "b"):
        piece(name)
    assert made == ["a", "b", "c", "b"]
    shelf.made("large", lambda: np.zeros(1000, "uint8"))
    assert shelf.get("large") is not None
    assert shelf.get("a") is None


# OME-TIFF over several files, in pyramids, with several images


def test_an_ome_tiff_over_several_files_is_one_image(tmp_path: Path) -> None:
    paths = several_files(tmp_path)
    image = open_image(paths[0])
    assert image.source.shape == (1, 2, 3, 37, 45)
    for axis in range(2):  # the box and the whole
        box = Box((0, axis, 1, 3, 4), (1, 2, 3, 30, 40))
        np.testing.assert_array_equal(image.source.read(box), STACK[None][box.slices])
    content = paths[1].read_bytes()
    paths[1].write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert open_image(paths[0]).fingerprint != image.fingerprint


def test_a_missing_file_of_an_ome_tiff_is_told(tmp_path: Path) -> None:
    paths = several_files(tmp_path)
    paths[1].unlink()
    image = open_image(paths[0])
    assert image.warnings == (
        "3 planes of the 6 that its metadata name are in no file and read as 0.",
    )
    np.testing.assert_array_equal(
        image.source.read(Box.whole(image.source.shape))[0],
        STACK * np.array([1, 0])[:, None, None, None],
    )


def several_files(folder: Path) -> list[Path]:
    """A channel a file, written as other programs do: each file names both."""
    names = ["c0.ome.tif", "c1.ome.tif"]
    data = "".join(
        f'<TiffData FirstC="{c}" FirstZ="{z}" IFD="{z}" PlaneCount="1">'
        f'<UUID FileName="{names[c]}">urn:uuid:{c}</UUID></TiffData>'
        for c in range(2)
        for z in range(3)
    )
    for c, name in enumerate(names):
        xml = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{c}">'
            '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" '
            'SizeX="45" SizeY="37" SizeZ="3" SizeC="2" SizeT="1">'
            f'<Channel ID="Channel:0:0"/><Channel ID="Channel:0:1"/>{data}</Pixels></Image></OME>'
        )
        tifffile.imwrite(
            folder / name, STACK[c], photometric="minisblack", metadata=None, description=xml
        )
    return [folder / name for name in names]


def test_of_a_pyramid_the_full_resolution_is_read(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        tif.write(STACK[0, 0], subifds=1, tile=(16, 16), metadata={"axes": "YX"})
        tif.write(STACK[0, 0, ::2, ::2], subfiletype=1, tile=(16, 16))
    image = open_image(tmp_path / "a.ome.tif")
    assert image.source.shape == (1, 1, 1, 37, 45)
    assert image.warnings == ()


def test_of_several_images_the_first_is_read_with_a_warning(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(STACK[0, 0], metadata={"axes": "YX"})
        tif.write(COLOURS, photometric="rgb", metadata={"axes": "YXS"})
    image = open_image(tmp_path / "a.tif")
    assert image.source.axes == "YX"
    assert image.warnings == ("It holds 2 images; the first is read.",)


# Truncated and lying files


def refused(path: Path) -> ImageError:
    """The error of opening an image or reading the most of it, for which no memory was taken."""

    def corner() -> None:
        source = open_image(path).source
        shape = tuple(min(n, 4000) for n in source.shape)
        source.read(Box((0,) * len(shape), shape))

    tracemalloc.start()
    try:
        with pytest.raises(ImageError) as caught:
            corner()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 50_000_000
    return caught.value


CONTENTS: dict[str, dict[str, Any]] = {
    "a.tif": {},
    "tiles.tif": {"tile": (16, 16)},
    "zlib.tif": {"compression": "zlib", "rowsperstrip": 10},
    "a.ome.tif": {"metadata": {"axes": "ZYX"}},
    "imagej.tif": {"imagej": True, "metadata": {"axes": "ZYX"}},
    "imagej-lzw.tif": {"imagej": True, "metadata": {"axes": "ZYX"}, "compression": "zlib"},
}


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.99])
def test_a_truncated_tiff_is_told_and_never_filled_up(
    tmp_path: Path, name: str, part: float
) -> None:
    path = tmp_path / name
    how: dict[str, Any] = {
        "photometric": "minisblack",
        "metadata": {"axes": "ZYX"},
        **CONTENTS[name],
    }
    if how.get("imagej"):
        del how["photometric"]
    tifffile.imwrite(path, STACK[0], **how)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    if (name, part) == ("imagej.tif", 0.99):  # without its last IFD, which ImageJ does not need
        source = open_image(path).source
        np.testing.assert_array_equal(source.read(Box.whole(source.shape)), STACK[0])
        return
    error = refused(path)
    assert "its content is damaged or incomplete" in error.what
    assert error.hint is not None


def lying(path: Path, **tags: int) -> Path:
    """A TIFF of which these tags say something else."""
    with tifffile.TiffFile(path, mode="r+") as tif:
        for name, value in tags.items():
            tif.pages.first.tags[name].overwrite(value)
    return path


@pytest.mark.parametrize(
    ("how", "tags"),
    [
        ({}, {"ImageLength": 1_000_000}),
        ({}, {"ImageWidth": 1_000_000, "ImageLength": 1_000_000}),
        ({"tile": (16, 16)}, {"ImageWidth": 2_000_000, "ImageLength": 2_000_000}),
        ({"tile": (16, 16), "compression": "zlib"}, {"TileWidth": 1 << 20, "TileLength": 1 << 20}),
        ({"compression": "zlib"}, {"ImageWidth": 1 << 20, "ImageLength": 1 << 20}),
        ({"compression": "zlib"}, {"StripByteCounts": 1 << 30}),
        ({}, {"StripOffsets": 1 << 31}),
        ({}, {"StripByteCounts": 5, "ImageLength": 5_000_000, "RowsPerStrip": 5_000_000}),
        ({}, {"ImageWidth": 0}),
    ],
)
def test_a_tiff_that_lies_about_its_size_takes_no_memory(
    tmp_path: Path, how: dict[str, Any], tags: dict[str, int]
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK[0, 0].astype("uint32"), metadata=None, **how)
    for tag, number in (("ImageWidth", 45), ("ImageLength", 37)):
        lying(path, **{tag: number})
    refused(lying(path, **tags))


def xml(pixels: str, inner: str = "<TiffData/>", before: str = "") -> str:
    return (
        f'<?xml version="1.0"?>{before}<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" '
        f'SizeX="45" SizeY="37" {pixels}>{inner}</Pixels></Image></OME>'
    )


BOMB = '<!DOCTYPE OME [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
SIZES = 'SizeZ="1" SizeC="1" SizeT="1"'


@pytest.mark.parametrize(
    "description",
    [
        xml('SizeZ="1000000" SizeC="1000000" SizeT="1000000"'),
        xml(SIZES, '<TiffData NumPlanes="99999999999"/>'),
        xml(SIZES, "<TiffData/>", BOMB),
        xml('SizeZ="-1" SizeC="1" SizeT="1"'),
        xml(SIZES, '<TiffData><UUID FileName="/etc/passwd">urn:uuid:1</UUID></TiffData>'),
        xml(SIZES, '<TiffData><UUID FileName="..\\\\b.tif">urn:uuid:1</UUID></TiffData>'),
        xml(SIZES, '<ModuloAlongZ Type="angle" Start="0" End="1e12" Step="1"/>'),
    ],
)
def test_ome_xml_that_asks_for_the_impossible_is_refused(tmp_path: Path, description: str) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, STACK[0, 0], metadata=None, description=description)
    assert "OME-XML" in refused(path).details[0]


def test_ome_xml_that_is_none_is_left_aside_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    description = xml(SIZES)[:-9] + "</OME>"
    tifffile.imwrite(path, STACK[0, 0], metadata=None, description=description)
    image = open_image(path)
    assert image.source.axes == "YX"
    assert "Its OME-XML is damaged" in image.warnings[0]


def test_planes_that_its_metadata_name_and_it_does_not_have_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(
        path, STACK[0, 0], metadata=None, description=xml('SizeZ="4" SizeC="1" SizeT="1"')
    )
    assert open_image(path).warnings[0].startswith("3 planes of the 4")


def test_pages_in_a_circle_end(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK[0, 0], metadata=None)
    content = bytearray(path.read_bytes())
    (first,) = struct.unpack_from("<I", content, 4)
    (tags,) = struct.unpack_from("<H", content, first)
    struct.pack_into("<I", content, first + 2 + 12 * tags, first)
    path.write_bytes(content)
    refused(path)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[bytes]]:
    folder = tmp_path_factory.mktemp("healthy")
    ways: list[tuple[str, Any, dict[str, Any]]] = [
        ("a.tif", STACK[0, 0], {}),
        ("b.tif", STACK[0, 0], {"tile": (16, 16), "compression": "zlib", "predictor": True}),
        ("c.tif", STACK, {"imagej": True, "metadata": {"axes": "ZCYX"}}),
        (
            "d.ome.tif",
            STACK,
            {"metadata": {"axes": "CZYX"}, "compression": "lzw", "photometric": 1},
        ),
        ("e.tif", COLOURS, {"photometric": "rgb", "compression": "jpeg"}),
        ("f.tif", STACK[0, 0], {"bigtiff": True, "compression": "zstd", "rowsperstrip": 7}),
    ]
    for name, pixels, how in ways:
        tifffile.imwrite(folder / name, pixels, **how)
    return folder, [(folder / name).read_bytes() for name, _, _ in ways]


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_whatever_bytes_are_wrong_nothing_but_an_image_error_leaves(
    healthy: tuple[Path, list[bytes]], data: st.DataObject
) -> None:
    folder, contents = healthy
    content = bytearray(data.draw(st.sampled_from(contents)))
    near = min(len(content), data.draw(st.sampled_from([8, 400, 1500, 1 << 30])))
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, near - 1))
        content[place] = data.draw(st.sampled_from([0, 1, 127, 128, 255]) | st.integers(0, 255))
    path = folder / "broken.tif"
    path.write_bytes(content)
    try:
        source = open_image(path).source
        box = Box(tuple(max(0, n - 100) for n in source.shape), source.shape)
        read = source.read(box)
    except ImageError:
        return
    assert read.shape == box.shape
    assert read.dtype == source.dtype
