"""Whether an image fits a model, and how it is then read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from aiod.flow.fit import Fit, FitError, check_dtype, check_fit, chosen, model_view
from aiod.flow.images.image import Image, open_image
from aiod.flow.source import Box
from aiod.registry.metadata import Metadata

SIZES = {"T": 2, "C": 3, "Z": 4, "Y": 5, "X": 6}


def picture(folder: Path, axes: str, **metadata: Any) -> Image:
    shape = tuple(SIZES[axis] for axis in axes)
    pixels = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    path = folder / "picture.ome.tif"
    tifffile.imwrite(path, pixels, metadata={"axes": axes, **metadata}, ome=True)
    return open_image(path)


def says(**fields: Any) -> Metadata:
    return Metadata(description="Toys.", **fields)


@pytest.mark.parametrize(
    ("takes", "found", "words"),
    [
        (
            ["uint8"],
            "uint16",
            r"takes pixels of uint8; those of the image are uint16\. --pre to_uint8 ",
        ),
        (["int8", "uint16"], "float32", r"int8 or uint16; .* float32\. --pre to_uint16 "),
        (["float32"], "uint8", r"float32; .* uint8\. --pre normalise "),
        (["int8"], "uint8", r"int8; .* uint8\.$"),
    ],
)
def test_pixels_of_a_type_that_the_model_does_not_take(
    takes: list[str], found: str, words: str
) -> None:
    for kind in takes:
        check_dtype("cells.tif", np.dtype(kind), says(dtypes=takes))
    check_dtype("cells.tif", np.dtype(found), says())
    with pytest.raises(FitError, match=words) as caught:
        check_dtype("cells.tif", np.dtype(found), says(dtypes=takes))
    assert str(caught.value).startswith("cells.tif does not fit the model.")


def pixels_of(image: Image, fit: Fit) -> Any:
    source = chosen(image.source, fit)
    return source, source.read(Box.whole(source.shape))


@pytest.mark.parametrize(
    ("image_axes", "model_axes", "loops", "spatial", "seen"),
    [
        ("YX", "YX", "TZ", "YX", (1, 1, 5, 6)),
        ("YX", "CYX", "TZ", "YX", (1, 1, 1, 5, 6)),
        ("CYX", "CYX", "TZ", "YX", (1, 3, 1, 5, 6)),
        ("CYX", "YXC", "TZ", "YX", (1, 3, 1, 5, 6)),
        ("ZYX", "YX", "TZ", "YX", (1, 4, 5, 6)),
        ("ZYX", "ZYX", "T", "ZYX", (1, 4, 5, 6)),
        ("TZYX", "YX", "TZ", "YX", (2, 4, 5, 6)),
        ("TCZYX", "CZYX", "T", "ZYX", (2, 3, 4, 5, 6)),
    ],
)
def test_the_axes_of_the_model_and_those_looped_over(
    tmp_path: Path,
    image_axes: str,
    model_axes: str,
    loops: str,
    spatial: str,
    seen: tuple[int, ...],
) -> None:
    image = picture(tmp_path, image_axes)
    fit = check_fit(image, model_axes, says())
    assert (fit.loops, fit.spatial) == (loops, spatial)
    source, pixels = pixels_of(image, fit)
    assert source.shape == pixels.shape == seen
    whole = image.source.read(Box.whole(image.source.shape))
    assert np.array_equal(np.sort(pixels.ravel()), np.sort(whole.ravel()))


def test_what_the_model_gets_has_its_axes_in_its_order(tmp_path: Path) -> None:
    image = picture(tmp_path, "TCYX")
    fit = check_fit(image, "YXC", says(), channels=("3", "1"))
    source, pixels = pixels_of(image, fit)
    whole = image.source.read(Box.whole(image.source.shape))[:, :, 0]
    frame = model_view(pixels[1:2], source.axes, fit)
    assert np.array_equal(frame, np.moveaxis(whole[1, [2, 0]], 0, -1))
    assert frame.flags.c_contiguous


def test_a_box_of_chosen_channels_is_that_box_of_the_whole(tmp_path: Path) -> None:
    image = picture(tmp_path, "CYX")
    fit = check_fit(image, "CYX", says(), channels=("2", "3", "1"))
    source, pixels = pixels_of(image, fit)
    box = Box((0, 1, 0, 2, 1), (1, 3, 1, 5, 4))
    assert np.array_equal(source.read(box), pixels[box.slices])


@pytest.mark.parametrize(
    ("image_axes", "model_axes", "channels", "words"),
    [
        ("CYX", "YX", (), r"has 3 channels\. Choose one, for example --channel 1"),
        ("CYX", "YX", ("4",), r"no channel 4; the image has 3 channels"),
        ("CYX", "YX", ("0",), r"no channel 0.*count from 1"),
        ("CYX", "YX", ("1", "2"), r"takes one channel, 2 are named"),
    ],
)
def test_channels_that_do_not_fit(
    tmp_path: Path, image_axes: str, model_axes: str, channels: tuple[str, ...], words: str
) -> None:
    with pytest.raises(FitError, match=words):
        check_fit(picture(tmp_path, image_axes), model_axes, says(), channels=channels)


def test_a_plane_is_no_stack(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "plane.tif", np.zeros((5, 6), np.uint8))
    with pytest.raises(FitError, match=r"stacks of planes \(axis Z\)[\s\S]*has one plane"):
        check_fit(open_image(tmp_path / "plane.tif"), "ZYX", says())


def test_an_axis_that_may_have_the_wrong_name_is_pointed_at(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "t.tif", np.zeros((7, 5, 6), np.uint8))
    image = open_image(tmp_path / "t.tif", axes="TYX")
    with pytest.raises(FitError, match=r"If that is Z in truth: --axes ZYX"):
        check_fit(image, "ZYX", says())


def test_colours_lead_to_models_that_take_them(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "he.tif", np.zeros((5, 6, 3), np.uint8), photometric="rgb")
    image = open_image(tmp_path / "he.tif")
    with pytest.raises(FitError, match=r"--channel gray[\s\S]*`aiod list --axes YXC`"):
        check_fit(image, "YX", says())
    gray = check_fit(image, "YX", says(), channels=("gray",))
    assert "nuclei are dark" in gray.notes[0]
    assert check_fit(image, "YX", says(), channels=("red",)).notes == ()


def test_planes_of_a_stack_are_told_of(tmp_path: Path) -> None:
    image = picture(tmp_path, "ZYX")
    assert "--link-z" in check_fit(image, "YX", says()).notes[0]
    assert check_fit(image, "YX", says(), link_z=True).notes == ()


def test_a_model_that_says_no_axes_gets_the_images(tmp_path: Path) -> None:
    fit = check_fit(picture(tmp_path, "CZYX"), None, says())
    assert fit.axes == "CZYX"
    assert "does not say" in fit.notes[0]


SIZE = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 1.0}


def test_another_pixel_size_is_told_and_mended_by_rescaling(tmp_path: Path) -> None:
    image = picture(tmp_path, "ZYX", **SIZE)
    half = says(pixel_size={"value": 500, "unit": "nanometer"})
    assert "--rescale" in " ".join(check_fit(image, "YX", half).notes)
    assert check_fit(image, "YX", half, rescale=True).factors == {"Y": 0.5, "X": 0.5}
    each = says(pixel_size={"value": [2, 0.5, 0.25], "unit": "micrometer"})
    assert check_fit(image, "ZYX", each, rescale=True).factors == {"Z": 0.5, "Y": 0.5, "X": 1.0}


ALWAYS = {
    "rescale": "always",
    "pixel_size": {"value": 0.5, "unit": "micrometer"},
    "object_diameter": 24,
}


def test_a_model_may_always_want_its_own_pixel_size(tmp_path: Path) -> None:
    image, always = picture(tmp_path, "ZYX", **SIZE), says(**ALWAYS)
    fit = check_fit(image, "YX", always, link_z=True)
    assert fit.factors == {"Y": 0.5, "X": 0.5}
    assert "the model sees the image at its own 0.5 × 0.5 µm" in " ".join(fit.notes)
    plain = check_fit(image, "YX", always, rescale=False, link_z=True)
    assert plain.factors == {}
    assert "--rescale brings" in " ".join(plain.notes)


def test_a_pixel_size_in_another_unit_is_told_before_the_image_is_blown_up(tmp_path: Path) -> None:
    size = {"PhysicalSizeY": 325.0, "PhysicalSizeX": 325.0}
    image, always = picture(tmp_path, "YX", **size), says(**ALWAYS)
    with pytest.raises(FitError, match=r"enlarged 650 times.*--pixel-size 325nm.*--no-rescale"):
        check_fit(image, "YX", always)
    assert check_fit(image, "YX", always, rescale=False).factors == {}


def test_a_diameter_zooms_to_the_diameter_that_the_model_knows(tmp_path: Path) -> None:
    """Whatever the pixel size says: who gives a diameter has looked."""
    image, always = picture(tmp_path, "ZYX", **SIZE), says(**ALWAYS)
    fit = check_fit(image, "YX", always, diameter=48, link_z=True)
    assert (fit.factors, fit.notes) == ({"Y": 0.5, "X": 0.5}, ())
    near = check_fit(image, "YX", always, diameter=20, link_z=True)
    assert near.factors == pytest.approx({"Y": 1.2, "X": 1.2})
    assert check_fit(image, "YX", always, diameter=24.5, link_z=True).factors == {}
    with pytest.raises(FitError, match="--no-rescale forbids it"):
        check_fit(image, "YX", always, diameter=48, rescale=False)


def test_an_unknown_pixel_size_is_told_where_it_would_decide(tmp_path: Path) -> None:
    fit = check_fit(picture(tmp_path, "YX"), "YX", says(**ALWAYS))
    assert fit.factors == {}
    (note,) = fit.notes
    for words in ("taken as it is", "--pixel-size 0.5,0.5", "--param diameter=24"):
        assert words in note
    with pytest.raises(FitError, match=r"--pixel-size 0\.5,0\.5"):
        check_fit(picture(tmp_path, "YX"), "YX", says(**ALWAYS), rescale=True)


def test_nearly_the_same_pixel_size_is_the_same(tmp_path: Path) -> None:
    image = picture(tmp_path, "YX", **SIZE)
    fit = check_fit(
        image, "YX", says(pixel_size={"value": 0.3, "unit": "micrometer"}), rescale=True
    )
    assert (fit.factors, fit.notes) == ({}, ())


def test_rescaling_needs_both_pixel_sizes(tmp_path: Path) -> None:
    known = says(pixel_size={"value": 0.3, "unit": "micrometer"})
    with pytest.raises(FitError, match=r"--pixel-size 0\.3,0\.3"):
        check_fit(picture(tmp_path, "YX"), "YX", known, rescale=True)
    with pytest.raises(FitError, match="the model states no pixel size"):
        check_fit(picture(tmp_path, "YX", **SIZE), "YX", says(), rescale=True)


def test_every_misfit_is_said_at_once(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "two.tif", np.zeros((2, 5, 6), np.uint8), metadata={"axes": "CYX"})
    image = open_image(tmp_path / "two.tif", axes="CYX")
    with pytest.raises(FitError) as error:
        check_fit(image, "ZYX", says(), rescale=True)
    assert len(error.value.details) == 3
