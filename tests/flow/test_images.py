"""Images of any format are opened with their axes in the order of the field, and box by box."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from aiod.errors import UsageError
from aiod.flow.images.image import Image, ImageError, open_image
from aiod.flow.source import Box, Pixels
from people import an_ordinary_user
from pictures import COLOURS, FORMATS, STACK, ome_zarr


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One image of every format."""
    folders = {name: tmp_path_factory.mktemp("image") for name in FORMATS}
    return {name: write(folders[name]) for name, (write, _, _) in FORMATS.items()}


def whole(image: Image) -> Pixels:
    return image.source.read(Box.whole(image.source.shape))


def refusal(path: Path | str, **how: Any) -> ImageError:
    """The error of opening an image and reading all of it, a sentence and no more."""
    with pytest.raises(ImageError) as caught:
        whole(open_image(path, **how))
    assert caught.value.what.endswith(".")
    assert "\n" not in caught.value.what
    assert str(path) in caught.value.what or Path(path).name in caught.value.what
    return caught.value


# What is read


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_its_pixels_in_the_order_of_the_field(
    written: dict[str, Path], kind: str
) -> None:
    _, axes, pixels = FORMATS[kind]
    image = open_image(written[kind])
    assert image.source.axes == axes
    assert image.source.shape == pixels.shape
    assert image.source.dtype == pixels.dtype
    assert image.source.dtype.isnative
    read = whole(image)
    np.testing.assert_array_equal(read, pixels)
    assert read.dtype == pixels.dtype
    assert read.flags.c_contiguous
    assert image.rgb == kind.startswith("RGB")
    assert len(image.channel_names) == image.source.sizes.get("C", 1)
    assert image.warnings == ()
    assert image.fingerprint.startswith("sha256:")


@given(data=st.data())
def test_any_box_holds_what_the_whole_image_holds_there(
    written: dict[str, Path], data: st.DataObject
) -> None:
    kind = data.draw(st.sampled_from(sorted(FORMATS)))
    pixels = FORMATS[kind][2]
    source = opened(written[kind])
    start = [data.draw(st.integers(0, n - 1)) for n in pixels.shape]
    stop = [data.draw(st.integers(a, n)) for a, n in zip(start, pixels.shape, strict=True)]
    box = Box(tuple(start), tuple(stop))
    read = source.source.read(box)
    np.testing.assert_array_equal(read, pixels[box.slices])
    read[...] = 0  # what was read belongs to the reader: the next box is not touched by it


_OPEN: dict[Path, Image] = {}


def opened(path: Path) -> Image:
    return _OPEN.setdefault(path, open_image(path))


def test_a_box_outside_of_the_image_is_a_mistake_of_ours(written: dict[str, Path]) -> None:
    source = open_image(written["TIFF"]).source
    with pytest.raises(ValueError, match="lies outside"):
        source.read(Box((0, 0), (38, 45)))


def test_nan_are_kept(tmp_path: Path) -> None:
    pixels = np.array([[1, np.nan], [np.inf, 4]], "float32")
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    np.testing.assert_array_equal(whole(open_image(tmp_path / "a.tif")), pixels)


# Axes


def test_a_stack_of_pages_that_says_nothing_must_be_told_its_axes(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    plain: dict[str, Any] = {"metadata": None}
    for how in ({}, plain):
        tifffile.imwrite(path, STACK[0], photometric="minisblack", **how)
        error = refusal(path)
        assert "does not say what one of its axes is" in error.what
        assert "? 3 × Y 37 × X 45" in error.details[0]
        assert error.hint is not None
        assert "CYX for channels" in error.hint
        assert "--axes ZYX" in error.hint
        for axes in ("ZYX", "tyx", "CYX"):
            image = open_image(path, axes=axes)
            assert image.source.axes == axes.upper()
            np.testing.assert_array_equal(whole(image), STACK[0])


def test_given_axes_replace_those_of_the_metadata(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, STACK, photometric="minisblack", metadata={"axes": "TZYX"})
    assert open_image(path).source.axes == "TCZYX"
    image = open_image(path, axes="CTYX")  # its file names C, of one pixel, which may be left out
    assert (image.source.axes, image.source.shape) == ("TCYX", (3, 2, 37, 45))
    np.testing.assert_array_equal(whole(image), STACK.swapaxes(0, 1))


def test_axes_of_another_number_than_the_image_has_are_refused(written: dict[str, Path]) -> None:
    error = refusal(written["OME-Zarr 0.5"], axes="YX")
    assert "has 4 axes, and the axes YX given are 2" in error.what
    assert error.details == ("found: OME-Zarr of C 2 × Z 3 × Y 37 × X 45",)


@pytest.mark.parametrize("axes", ["", "ZX", "YYX", "YXQ", "Z,Y,X"])
def test_axes_that_are_none_are_refused_before_anything_is_opened(axes: str) -> None:
    with pytest.raises(UsageError, match="names no axes"):
        open_image("nowhere.tif", axes=axes)


def test_the_axes_of_a_colour_image_may_leave_out_its_samples(written: dict[str, Path]) -> None:
    for axes in ("YX", "YXS", "YXC"):
        image = open_image(written["RGB TIFF"], axes=axes)
        assert image.source.axes == "CYX"
        assert image.rgb
    image = open_image(written["RGB TIFF, colours apart"], axes="ZYX")  # no colours, then
    assert (image.source.axes, image.rgb) == ("ZYX", False)


def test_an_image_without_columns_is_none(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=np.zeros(9, "uint8"))
    assert "does not say what one of its axes is" in refusal(tmp_path / "a.zarr").what
    ome_zarr(tmp_path / "b.zarr", STACK[0], axes="CZX")
    assert "it has no axis Y" in refusal(tmp_path / "b.zarr").what


# Colours


def test_transparency_is_left_out_with_a_warning(tmp_path: Path) -> None:
    four = np.dstack([COLOURS, COLOURS[..., 0]])
    tifffile.imwrite(tmp_path / "a.tif", four, photometric="rgb")
    Pillow.fromarray(four).save(tmp_path / "a.png")
    Pillow.fromarray(np.ascontiguousarray(COLOURS[..., :2])).save(tmp_path / "grey.png")
    for name in ("a.tif", "a.png"):
        image = open_image(tmp_path / name)
        np.testing.assert_array_equal(whole(image), COLOURS.transpose(2, 0, 1))
        assert image.rgb
        assert image.channel_names == ("red", "green", "blue")
        assert image.warnings == ("Its transparency (alpha) is left out.",)
    image = open_image(tmp_path / "grey.png")
    assert image.source.axes == "YX"
    np.testing.assert_array_equal(whole(image), COLOURS[..., 0])


def test_a_png_with_a_palette_becomes_red_green_and_blue(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Pillow.fromarray(COLOURS).quantize(16).save(path)
    image = open_image(path)
    assert image.rgb
    with Pillow.open(path) as picture:
        expected = np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
    np.testing.assert_array_equal(whole(image), expected)


def test_a_tiff_with_a_palette_keeps_its_numbers(tmp_path: Path) -> None:
    """ImageJ writes a lookup table to grey images; labels have one too."""
    labels = COLOURS[..., 0]
    table = np.zeros((3, 256), "uint16")
    tifffile.imwrite(tmp_path / "a.tif", labels, photometric="palette", colormap=table)
    image = open_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(whole(image), labels)
    assert "table of colours is not used" in image.warnings[0]


def test_many_samples_are_channels(tmp_path: Path) -> None:
    five = np.dstack([COLOURS, COLOURS[..., :2]])
    tifffile.imwrite(tmp_path / "a.tif", five, photometric="minisblack", planarconfig="contig")
    image = open_image(tmp_path / "a.tif")
    assert (image.source.axes, image.rgb) == ("CYX", False)
    np.testing.assert_array_equal(whole(image), five.transpose(2, 0, 1))


# Pixel size and channels


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"PhysicalSizeX": 0.3, "PhysicalSizeY": 0.4}, {"Y": 0.4, "X": 0.3}),
        ({"PhysicalSizeX": 300, "PhysicalSizeXUnit": "nm"}, {"X": 0.3}),
        ({"PhysicalSizeZ": 0.002, "PhysicalSizeZUnit": "mm"}, {"Z": 2.0}),
        ({"PhysicalSizeX": 1, "PhysicalSizeXUnit": "pixel"}, {}),
        ({"PhysicalSizeX": 0}, {}),
    ],
)
def test_the_pixel_size_of_ome_tiff_has_units(
    tmp_path: Path, metadata: dict[str, Any], expected: dict[str, float]
) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, STACK, photometric="minisblack", metadata={"axes": "CZYX", **metadata})
    assert open_image(path).source.pixel_size == pytest.approx(expected)


def test_channels_have_the_names_of_their_file(tmp_path: Path) -> None:
    names = ["DAPI", "GFP"]
    tifffile.imwrite(
        tmp_path / "a.ome.tif",
        STACK,
        photometric="minisblack",
        metadata={"axes": "CZYX", "Channel": {"Name": names}},
    )
    assert open_image(tmp_path / "a.ome.tif").channel_names == ("DAPI", "GFP")
    path = ome_zarr(tmp_path / "a.zarr", STACK, axes="CZYX")
    described = json.loads((path / "zarr.json").read_text())
    described["attributes"]["ome"]["omero"] = {"channels": [{"label": "DAPI"}, {"label": 7}]}
    (path / "zarr.json").write_text(json.dumps(described))
    assert open_image(path).channel_names == ("DAPI", "")
    tifffile.imwrite(
        tmp_path / "a.tif", STACK[:, 0], imagej=True, metadata={"axes": "CYX", "Labels": names}
    )
    assert open_image(tmp_path / "a.tif").channel_names == ("DAPI", "GFP")


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("um", {"Z": 2.0, "Y": 0.25, "X": 0.2}),
        ("micron", {"Z": 2.0, "Y": 0.25, "X": 0.2}),
        ("\\u00B5m", {"Z": 2.0, "Y": 0.25, "X": 0.2}),
        ("nm", {"Z": 0.002, "Y": 0.00025, "X": 0.0002}),
        ("pixel", {}),
        (None, {}),
    ],
)
def test_the_pixel_size_of_imagej_is_its_resolution_and_spacing(
    tmp_path: Path, unit: str | None, expected: dict[str, float]
) -> None:
    metadata = {"axes": "ZYX", "spacing": 2.0} | ({"unit": unit} if unit else {})
    tifffile.imwrite(
        tmp_path / "a.tif", STACK[0], imagej=True, metadata=metadata, resolution=(5, 4)
    )
    assert open_image(tmp_path / "a.tif").source.pixel_size == pytest.approx(expected)


@pytest.mark.parametrize(
    ("density", "unit", "expected"),
    [
        ((25400, 12700), "inch", {"Y": 2.0, "X": 1.0}),
        ((10000, 10000), "centimeter", {"Y": 1.0, "X": 1.0}),
        ((72, 72), "inch", {}),
        ((96, 96), "inch", {}),
        ((28.35, 28.35), "centimeter", {}),  # 72 dots per inch
        ((1, 1), "inch", {}),
        ((25400, 25400), "none", {}),
    ],
)
def test_the_pixel_size_of_plain_tiff_is_its_resolution_unless_nobody_measured_it(
    tmp_path: Path, density: tuple[float, float], unit: str, expected: dict[str, float]
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK[0, 0], resolution=density, resolutionunit=unit, metadata=None)
    assert open_image(path).source.pixel_size == pytest.approx(expected, rel=1e-4)


def test_the_pixel_size_of_a_png_likewise(tmp_path: Path) -> None:
    for dpi, expected in ((25400, {"Y": 1.0, "X": 1.0}), (72, {}), (96, {})):
        Pillow.fromarray(COLOURS).save(tmp_path / "a.png", dpi=(dpi, dpi))
        size = open_image(tmp_path / "a.png").source.pixel_size
        assert size == pytest.approx(expected, rel=1e-4)


def test_a_given_pixel_size_replaces_the_one_in_the_file(tmp_path: Path) -> None:
    path = ome_zarr(tmp_path / "a.zarr", STACK, axes="CZYX", scale=(1, 2, 0.5, 0.5))
    assert open_image(path).source.pixel_size == {"Z": 2.0, "Y": 0.5, "X": 0.5}
    given = open_image(path, pixel_size={"Y": 0.3, "X": 0.3}).source.pixel_size
    assert given == {"Z": 2.0, "Y": 0.3, "X": 0.3}


# What cannot be opened is one sentence


def test_a_path_that_leads_nowhere(tmp_path: Path) -> None:
    assert refusal(tmp_path / "a.tif").what.endswith("a.tif does not exist.")


def test_an_image_that_may_not_be_read(written: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(written["TIFF"].read_bytes())
    path.chmod(0)
    folder = ome_zarr(tmp_path / "a.zarr", STACK, axes="CZYX")
    with an_ordinary_user():
        assert "cannot be opened: permission denied" in refusal(path).what
        (tmp_path / "locked").mkdir(mode=0)
        assert "permission denied" in refusal(tmp_path / "locked" / "a.tif").what
        for part in (folder / "zarr.json", folder / "0" / "zarr.json", folder):
            part.chmod(0)
            assert "permission denied" in refusal(folder).what.lower()
            part.chmod(0o700)


def test_symbolic_links_that_lead_in_circles(tmp_path: Path) -> None:
    (tmp_path / "a.tif").symlink_to(tmp_path / "b.tif")
    (tmp_path / "b.tif").symlink_to(tmp_path / "a.tif")
    assert "too many levels of symbolic links" in refusal(tmp_path / "a.tif").what
    (tmp_path / "c.tif").symlink_to(tmp_path / "gone.tif")
    assert "no such file" in refusal(tmp_path / "c.tif").what


def test_what_is_no_image(tmp_path: Path) -> None:
    def file(name: str, content: bytes) -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    assert refusal(file("a.tif", b"")).what.endswith("is empty.")
    error = refusal(file("b.tif", b"<!DOCTYPE html><html>"))
    assert "no image of the kind that its name says" in error.what
    assert "<!DOCTYPE html>" in error.details[0]
    assert "no TIFF, OME-Zarr, PNG or JPEG" in refusal(file("notes.txt", b"cells")).what
    assert "no OME-Zarr" in refusal(tmp_path).what
    os.mkfifo(tmp_path / "pipe.tif")
    assert "neither a file nor a folder" in refusal(tmp_path / "pipe.tif").what


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_numbers_are_no_intensities(tmp_path: Path, dtype: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK[0, 0].astype(dtype))
    assert f"of the type {dtype}" in refusal(tmp_path / "a.tif").what


def test_the_fingerprint_is_of_the_pixels_and_not_of_the_name(
    written: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "other.tif"
    path.write_bytes(written["TIFF"].read_bytes())
    first = open_image(written["TIFF"]).fingerprint
    assert open_image(path).fingerprint == first
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)
    assert open_image(path).fingerprint != first
    assert open_image(path, fingerprint="known").fingerprint == "known"


def test_a_label_written_into_an_ome_zarr_leaves_its_fingerprint(
    tmp_path: Path,
) -> None:
    path = ome_zarr(tmp_path / "a.zarr", STACK, axes="CZYX")
    first = open_image(path).fingerprint
    ome_zarr(path / "labels" / "cells", STACK[0], axes="ZYX")
    assert open_image(path).fingerprint == first
    assert open_image(path / "labels" / "cells").source.axes == "ZYX"
    zarr.open_array(path / "0")[0, 0, 0, 0] = STACK[0, 0, 0, 0] + 1
    assert open_image(path).fingerprint != first


def test_a_thousand_open_images_hold_no_files_open(
    written: dict[str, Path],
) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 200), hard))
    try:
        images = [open_image(written["OME-TIFF"]) for _ in range(300)]
        for image in images:
            image.source.read(Box((0, 0, 0, 0, 0), (1, 1, 1, 1, 1)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_messages_of_libraries_do_not_reach_the_screen(
    written: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    content = written["OME-TIFF"].read_bytes()
    path = tmp_path / "a.ome.tif"
    path.write_bytes(content[: len(content) // 2])
    refusal(path)
    assert capfd.readouterr() == ("", "")
