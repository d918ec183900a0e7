"""A layer becomes a file: its own where it shows that as it is, else a copy of its pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
import tifffile
import zarr
from napari.layers import Image
from napari.layers._source import layer_source
from toylab import save

from aiod.errors import UsageError
from aiod.flow.images.image import open_image
from aiod.flow.request import Request
from aiod.flow.source import Box
from aiod.napari.form import of_picture
from aiod.napari.picture import axes_of, joined, picture_of, pixel_size_of, seen_in

RANDOM = np.random.default_rng(0)


def pixels_of(path: Path) -> Any:
    source = open_image(path).source
    return np.squeeze(source.read(Box.whole(source.shape)))


def opened(path: Path, pixels: Any, **how: Any) -> Any:
    """A layer as napari makes it of a file."""
    with layer_source(path=str(path)):
        return Image(pixels, **how)


@pytest.fixture
def film(tmp_path: Path) -> tuple[Path, Any]:
    """Three time points, two channels, four planes."""
    pixels = RANDOM.integers(0, 60_000, (3, 2, 4, 90, 70)).astype(np.uint16)
    size = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 2.0}
    return save(tmp_path / "film.ome.tif", pixels.swapaxes(1, 2), "TZCYX", **size), pixels


def test_a_layer_of_a_whole_file_is_that_file(film: tuple[Path, Any], tmp_path: Path) -> None:
    path, pixels = film
    layer = opened(path, pixels, axis_labels=tuple("tczyx"))
    picture = picture_of(seen_in(layer), tmp_path / "copies")
    assert (picture.path, picture.channels) == (path, ())
    assert not (tmp_path / "copies").exists()


@pytest.mark.parametrize("channel", [0, 1])
def test_a_layer_of_one_channel_names_it(
    film: tuple[Path, Any], tmp_path: Path, channel: int
) -> None:
    path, pixels = film
    layer = opened(path, pixels[:, channel], axis_labels=tuple("tzyx"))
    picture = picture_of(seen_in(layer), tmp_path)
    assert (picture.path, picture.channels) == (path, (str(channel + 1),))


def test_a_layer_that_was_changed_is_not_its_file(film: tuple[Path, Any], tmp_path: Path) -> None:
    path, pixels = film
    changed = pixels[:, 0] + np.uint16(1)
    layer = opened(path, changed, axis_labels=tuple("tzyx"))
    picture = picture_of(seen_in(layer), tmp_path / "copies")
    assert picture.path != path
    np.testing.assert_array_equal(pixels_of(picture.path), changed)


def test_channels_that_differ_off_the_diagonal_are_told_apart(tmp_path: Path) -> None:
    pixels = np.zeros((3, 400, 400), np.uint16)
    for channel in range(3):
        pixels[channel, 20:60, 300 + 20 * channel : 380] = 900
    path = save(tmp_path / "three.ome.tif", pixels, "CYX")
    for channel in range(3):
        layer = opened(path, pixels[channel].copy())
        assert picture_of(seen_in(layer), tmp_path).channels == (str(channel + 1),)
        layer.data[350, 10] = 5  # painted on, far from the diagonal
        assert picture_of(seen_in(layer), tmp_path).path != path


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "bool"])
@pytest.mark.parametrize("lazy", [False, True])
def test_a_copy_has_the_same_pixels_axes_and_pixel_size(
    tmp_path: Path, dtype: str, lazy: bool
) -> None:
    pixels = RANDOM.integers(0, 2, (3, 600, 700)).astype(dtype)
    data = dask.array.from_array(pixels, chunks=(1, 256, 256)) if lazy else pixels
    layer = Image(data, name="a / ü", scale=(2.0, 0.5, 0.25), axis_labels=tuple("zyx"))
    picture = picture_of(seen_in(layer), tmp_path)
    assert picture.path.parent.parent == tmp_path
    source = open_image(picture.path).source
    assert {axis: n for axis, n in source.sizes.items() if n > 1} == {"Z": 3, "Y": 600, "X": 700}
    assert source.pixel_size == pytest.approx({"Z": 2.0, "Y": 0.5, "X": 0.25})
    np.testing.assert_array_equal(pixels_of(picture.path), pixels)


def test_the_same_pixels_are_copied_once_and_others_anew(tmp_path: Path) -> None:
    pixels = RANDOM.integers(0, 255, (300, 200)).astype(np.uint8)
    layer = Image(pixels, name="cells")
    first = picture_of(seen_in(layer), tmp_path).path
    assert picture_of(seen_in(Image(pixels.copy(), name="cells")), tmp_path).path == first
    pixels[123, 45] ^= 1  # in place, as a brush does
    second = picture_of(seen_in(layer), tmp_path).path
    assert second != first
    np.testing.assert_array_equal(pixels_of(second), pixels)


def test_arrays_that_are_computed_are_told_apart_by_all_their_pixels(tmp_path: Path) -> None:
    stores = []
    for name, fill in (("a", 3), ("b", 7)):
        array = zarr.create_array(str(tmp_path / name), shape=(300, 400), dtype="uint16")
        array[5, 5] = fill  # between whatever is looked at here and there
        stores.append(array)
    layers = [Image(array, name="one") for array in stores]
    copies = [picture_of(seen_in(layer), tmp_path / "copies").path for layer in layers]
    assert copies[0] != copies[1]
    assert [pixels_of(path)[5, 5] for path in copies] == [3, 7]
    assert picture_of(seen_in(layers[0]), tmp_path / "copies").path == copies[0]


@pytest.mark.parametrize("large", [1 << 28, 1000])  # compared whole, or here and there
def test_a_lazy_layer_that_was_changed_is_not_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: int
) -> None:
    monkeypatch.setattr("aiod.napari.picture._LARGE", large)
    pixels = RANDOM.integers(0, 60_000, (1000, 1000)).astype(np.uint16)
    path = save(tmp_path / "a.ome.tif", pixels, "YX")
    lazy = dask.array.from_array(pixels, chunks=256)
    assert picture_of(seen_in(opened(path, lazy)), tmp_path / "copies").path == path
    changed = lazy.copy()
    changed[100:400, 600:900] = 0
    copy = picture_of(seen_in(opened(path, changed)), tmp_path / "copies").path
    assert copy != path
    np.testing.assert_array_equal(pixels_of(copy), np.asarray(changed))


def test_a_mirrored_layer_has_the_size_of_its_pixels(tmp_path: Path) -> None:
    layer = Image(np.zeros((30, 40), np.uint8), scale=(-0.5, 0.5), units=("um", "um"))
    assert pixel_size_of(layer, "YX") == {"Y": 0.5, "X": 0.5}
    assert pixels_of(picture_of(seen_in(layer), tmp_path).path).shape == (30, 40)


def test_colours_stay_colours(tmp_path: Path) -> None:
    pixels = RANDOM.integers(0, 255, (40, 50, 3)).astype(np.uint8)
    picture = picture_of(seen_in(Image(pixels, rgb=True)), tmp_path)
    image = open_image(picture.path)
    assert image.rgb
    np.testing.assert_array_equal(np.moveaxis(pixels_of(picture.path), 0, -1), pixels)


def test_a_pyramid_is_its_first_level(tmp_path: Path) -> None:
    pixels = RANDOM.integers(0, 255, (400, 300)).astype(np.uint8)
    layer = Image([pixels, pixels[::2, ::2]], multiscale=True)
    picture = picture_of(seen_in(layer), tmp_path)
    np.testing.assert_array_equal(pixels_of(picture.path), pixels)


def test_axes_in_another_order_are_turned(tmp_path: Path) -> None:
    pixels = RANDOM.integers(0, 255, (4, 2, 60, 50)).astype(np.uint8)
    picture = picture_of(seen_in(Image(pixels), axes="ZCYX"), tmp_path)
    source = open_image(picture.path).source
    assert source.axes.replace("T", "") == "CZYX"
    np.testing.assert_array_equal(pixels_of(picture.path), pixels.swapaxes(0, 1))


def test_what_no_image_file_holds_is_a_sentence(tmp_path: Path) -> None:
    layer = Image(np.full((5, 6), 1 << 40, np.int64), name="sums")
    with pytest.raises(UsageError, match="sums holds 64-bit integers"):
        picture_of(seen_in(layer), tmp_path)


@pytest.mark.parametrize(
    ("numbers", "dtype"),
    [((0, 65_535), "uint16"), ((-7, 9), "int16"), ((0, 70_000), "uint32"), ((-1, 70_000), "int32")],
)
def test_small_numbers_of_64_bits_are_kept_in_fewer(
    tmp_path: Path, numbers: tuple[int, int], dtype: str
) -> None:
    pixels = np.resize(np.array(numbers, np.int64), (5, 6))
    path = picture_of(seen_in(Image(pixels)), tmp_path).path
    assert open_image(path).source.dtype == dtype
    np.testing.assert_array_equal(pixels_of(path), pixels)


def test_channels_of_one_file_that_were_split_are_that_file(
    film: tuple[Path, Any], tmp_path: Path
) -> None:
    path, pixels = film
    layers = [opened(path, pixels[:, n], axis_labels=tuple("tzyx"), name=f"c{n}") for n in (1, 0)]
    seen = joined(layers)
    assert (seen.axes, seen.shape) == ("CTZYX", (2, 3, 4, 90, 70))
    picture = picture_of(seen, tmp_path / "copies")
    assert (picture.path, picture.channels) == (path, ("2", "1"))
    asked = of_picture(Request(inputs=("c1",), channels=("2",)), picture)
    assert asked.channels == ("1",)


def test_layers_that_are_channels_are_copied_in_their_order(
    film: tuple[Path, Any], tmp_path: Path
) -> None:
    path, pixels = film
    other = RANDOM.integers(0, 200, pixels[:, 0].shape).astype(np.uint8)
    layers = [Image(other, name="a"), opened(path, pixels[:, 0], axis_labels=tuple("tzyx"))]
    layers[0].axis_labels = tuple("tzyx")
    first = picture_of(joined(layers), tmp_path)
    source = open_image(first.path).source
    assert sorted(source.axes) == sorted("TCZYX")
    found = source.read(Box.whole(source.shape))
    expected = np.stack([other, pixels[:, 0]])
    order = ["CTZYX".index(axis) for axis in source.axes]
    np.testing.assert_array_equal(found, expected.transpose(order))
    other[0, 0, 0, 0] += 1  # changed in place: another image
    assert picture_of(joined(layers), tmp_path).path != first.path


@pytest.mark.parametrize("axes", ["Y", "YXZ", "QYX", "YYX", "TZYX"])
def test_axes_that_cannot_be_are_a_sentence(axes: str) -> None:
    with pytest.raises(UsageError, match=f"The axes {axes} are not those of"):
        seen_in(Image(np.zeros((3, 5, 6))), axes=axes)


def test_axes_and_pixel_sizes_come_from_the_layer() -> None:
    plain = Image(np.zeros((3, 5, 6)))
    assert axes_of(plain) == "ZYX"
    assert pixel_size_of(plain, "ZYX") == {}
    named = Image(np.zeros((3, 5, 6)), axis_labels=("t", "y", "x"), scale=(60, 0.5, 0.5))
    assert axes_of(named) == "TYX"
    assert pixel_size_of(named, "TYX") == {"Y": 0.5, "X": 0.5}
    units = Image(np.zeros((5, 6)), scale=(500, 250), units=("nm", "nm"))
    assert pixel_size_of(units, "YX") == pytest.approx({"Y": 0.5, "X": 0.25})


def test_a_picture_without_metadata_is_read_too(tmp_path: Path) -> None:
    pixels = RANDOM.integers(0, 255, (80, 90)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    layer = opened(tmp_path / "a.tif", pixels)
    assert picture_of(seen_in(layer), tmp_path).path == tmp_path / "a.tif"
