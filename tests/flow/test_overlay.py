"""The picture: outlines where boundaries are, the image between them, whatever the image."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from aiod.errors import AiodError
from aiod.flow.results.overlay import light_of, write_overlay
from aiod.flow.source import Box, Source

Array = NDArray[Any]


def source_of(array: Array, axes: str = "YX", **pixel_size: float) -> Source:
    return Source(axes, array.shape, array.dtype, lambda box: array[box.slices], pixel_size)


def nuclei(height: int, width: int, count: int, radius: int = 9) -> tuple[Array, Array]:
    """Bright ellipses in noise, some touching, and their labels."""
    random = np.random.default_rng(0)
    image = random.poisson(100, (height, width)).astype(np.float64)
    labels = np.zeros((height, width), np.uint32)
    for number in range(1, count + 1):
        cy, cx = random.integers(0, height), random.integers(0, width)
        ry, rx = random.uniform(0.7, 1.3, 2) * radius
        top, left = max(0, cy - 2 * radius), max(0, cx - 2 * radius)
        near = (slice(top, cy + 2 * radius), slice(left, cx + 2 * radius))
        y, x = np.ogrid[top : top + labels[near].shape[0], left : left + labels[near].shape[1]]
        inside = (((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1) & (labels[near] == 0)
        labels[near][inside] = number
        image[near][inside] += random.uniform(300, 1500)
    return image.astype(np.uint16), labels


def drawn(tmp_path: Path, image: Source, labels: Source, **how: Any) -> Array:
    write_overlay(image, labels, tmp_path / "a.png", **how)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.format == "PNG"
        assert picture.mode == "RGB"
        return np.asarray(picture)


def is_coloured(picture: Array) -> Array:
    """Where the three are apart from each other, as they are nowhere in a grey image."""
    found: Array = picture.max(-1).astype(int) - picture.min(-1) > 60
    return found


def boundaries(labels: Array) -> Array:
    """Pixels with an unlike pixel beside, above or below."""
    found = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        unlike = np.diff(labels.astype(np.int64), axis=axis) != 0
        before, after = [(0, 0), (0, 0)], [(0, 0), (0, 0)]
        before[axis], after[axis] = (0, 1), (1, 0)
        found |= np.pad(unlike, before) | np.pad(unlike, after)
    return found


def test_outlines_are_coloured_and_nothing_else_is(tmp_path: Path) -> None:
    image, labels = nuclei(1300, 1250, 400)
    picture = drawn(tmp_path, source_of(image), source_of(labels))
    assert picture.shape == (1300, 1250, 3)
    np.testing.assert_array_equal(is_coloured(picture), boundaries(labels))


def test_an_outline_is_one_pixel_inside_and_one_outside(tmp_path: Path) -> None:
    labels = np.zeros((1300, 1300), np.uint32)
    labels[500:600, 500:600] = 4
    picture = drawn(tmp_path, source_of(np.zeros((1300, 1300))), source_of(labels))
    across = is_coloured(picture)[550]
    assert np.flatnonzero(across).tolist() == [499, 500, 599, 600]


def test_touching_objects_keep_outlines_of_their_own_colours(tmp_path: Path) -> None:
    labels = np.zeros((1300, 1300), np.uint32)
    labels[500:600, 500:550], labels[500:600, 550:600] = 4, 5
    picture = drawn(tmp_path, source_of(np.zeros((1300, 1300))), source_of(labels))
    left, right = picture[550, 549].astype(int), picture[550, 550].astype(int)
    assert abs(left - right).max() > 100
    assert (picture[550, 500] == left).all()
    assert (picture[550, 599] == right).all()


def test_the_image_is_stretched_between_its_percentiles(tmp_path: Path) -> None:
    image = np.full((1300, 1300), 1000, np.uint16)
    image[:, 650:] = 1100
    image[0, 0] = 65535  # one hot pixel must not make all else black
    picture = drawn(tmp_path, source_of(image), source_of(np.zeros((1300, 1300), np.uint32)))
    assert picture[600, 100].tolist() == [0, 0, 0]
    assert picture[600, 1200].tolist() == [255, 255, 255]


def test_a_small_image_is_enlarged_by_whole_pixels(tmp_path: Path) -> None:
    image, labels = nuclei(100, 150, 12)
    picture = drawn(tmp_path, source_of(image), source_of(labels))
    assert picture.shape == (800, 1200, 3)
    np.testing.assert_array_equal(
        is_coloured(picture), boundaries(labels.repeat(8, 0).repeat(8, 1))
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (3, 2)])
def test_one_pixel_and_one_row_are_pictures_too(tmp_path: Path, shape: tuple[int, int]) -> None:
    ones = source_of(np.ones(shape, np.uint32), Y=0.5, X=0.5)
    assert drawn(tmp_path, ones, ones, caption="toy").size


@pytest.mark.parametrize("pool", [False, True])
def test_a_large_image_is_averaged_and_its_labels_are_picked(tmp_path: Path, pool: bool) -> None:
    image = np.random.default_rng(0).integers(0, 1000, (2100, 3301)).astype(np.uint16)
    labels = np.zeros(image.shape, np.uint32)
    labels[300:900, 600:1500] = 7
    with ThreadPoolExecutor(2) as workers:
        picture = drawn(
            tmp_path,
            source_of(image),
            source_of(labels),
            max_side=1200,
            mapper=workers.map if pool else map,
        )
    assert picture.shape == (525, 826, 3)  # by 4: a power of two
    ys, xs = np.nonzero(is_coloured(picture))
    assert (ys.min(), ys.max(), xs.min(), xs.max()) == (74, 225, 149, 375)
    whole = image[:, :3300].reshape(525, 4, 825, 4).mean((1, 3))
    means = np.column_stack([whole, image[:, 3300].reshape(525, 4).mean(1)])
    low, high = np.percentile(means, (0.5, 99.8))
    expected = ((means - low) / (high - low)).clip(0, 1) * 255
    plain = np.ones(means.shape, bool)
    plain[74:226, 149:376] = False
    np.testing.assert_allclose(picture[plain][:, 0], expected[plain], atol=1)


@pytest.mark.parametrize("levels", range(5))
def test_smaller_levels_of_the_labels_give_the_same_picture(tmp_path: Path, levels: int) -> None:
    image, labels = nuclei(1300, 2201, 600)
    smaller = [source_of(labels[:: 2**n, :: 2**n]) for n in range(1, levels + 1)]
    asked: list[tuple[int, ...]] = []

    def read(box: Box) -> Array:
        asked.append(box.shape)
        return labels[box.slices]

    full = Source("YX", labels.shape, labels.dtype, read)
    picture = drawn(tmp_path, source_of(image), full, smaller=smaller, max_side=300)
    alone = drawn(tmp_path, source_of(image), source_of(labels), max_side=300)
    np.testing.assert_array_equal(picture[:-1, :-1], alone[:-1, :-1])
    assert bool(asked) == (levels == 0)


@pytest.mark.parametrize(
    ("axes", "shape"), [("YX", (900, 701)), ("CYX", (2, 900, 701)), ("TCZYX", (2, 3, 1, 700, 600))]
)
def test_the_image_can_be_had_before_the_labels_are(
    tmp_path: Path, axes: str, shape: tuple[int, ...]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 9000, shape, np.uint16)
    there = np.zeros([n for a, n in zip(axes, shape, strict=True) if a != "C"], np.uint32)
    there[..., 99:400, 99:500] = 1
    labels = source_of(there, axes.replace("C", ""))
    image = source_of(pixels, axes)
    picture = drawn(tmp_path, image, labels, max_side=300)

    def refuse(_: Box) -> Array:
        raise AssertionError("the image is read again")

    unread = Source(axes, shape, pixels.dtype, refuse)
    light = light_of(image, max_side=300)
    np.testing.assert_array_equal(
        drawn(tmp_path, unread, labels, light=light, max_side=300), picture
    )


def test_of_a_stack_nothing_is_had_before_its_labels_choose_a_plane() -> None:
    assert light_of(source_of(np.ones((5, 90, 80), np.uint8), "ZYX")) is None


def test_no_more_than_a_block_is_read_at_a_time(tmp_path: Path) -> None:
    most = 0

    def read(box: Box) -> Array:
        nonlocal most
        most = max(most, int(np.prod(box.shape)))
        return np.zeros(box.shape, np.uint16)

    huge = Source("YX", (9000, 9000), np.dtype("uint16"), read)
    drawn(tmp_path, huge, huge)
    assert most <= 1024 * 1024


def test_of_a_film_the_first_and_of_a_stack_the_fullest_is_shown(tmp_path: Path) -> None:
    labels = np.zeros((3, 40, 60, 60), np.uint32)
    labels[0, 5, 20:30, 20:30], labels[0, 33, 10:50, 10:50], labels[1, 1] = 1, 2, 3
    image = labels.astype(np.uint8)
    said = write_overlay(source_of(image, "TZYX"), source_of(labels, "TZYX"), tmp_path / "a.png")
    assert said == "time point 1 of 3, plane 34 of 40, which has the most labelled pixels"
    with Image.open(tmp_path / "a.png") as opened:
        picture = np.asarray(opened)[:480, :480]
    shown = labels[0, 33].repeat(8, 0).repeat(8, 1)
    np.testing.assert_array_equal(is_coloured(picture), boundaries(shown))


def test_colours_of_histology_are_kept_with_darker_outlines(tmp_path: Path) -> None:
    image = np.full((3, 1300, 1300), 240, np.uint8)
    image[:, 200:400, 200:400] = np.array([150, 80, 170])[:, None, None]
    labels = np.zeros((1300, 1300), np.uint32)
    labels[200:400, 200:400] = 1
    picture = drawn(tmp_path, source_of(image, "CYX"), source_of(labels), rgb=True)
    assert picture[10, 10].tolist() == [240, 240, 240]
    assert picture[300, 300].tolist() == [150, 80, 170]
    assert picture[200, 300].max() < 200


def test_channels_are_mixed_in_colours_of_their_own(tmp_path: Path) -> None:
    image = np.zeros((4, 1300, 1300), np.uint16)
    image[2, :, :400], image[3, :, 800:] = 500, 9000
    none = source_of(np.zeros((1300, 1300), np.uint32))
    picture = drawn(tmp_path, source_of(image, "CYX"), none, channels=(2, 3))
    assert picture[9, [9, 600, 999]].tolist() == [[0, 255, 0], [0, 0, 0], [255, 0, 255]]


def test_a_scale_bar_has_its_length_in_pixels(tmp_path: Path) -> None:
    black = np.zeros((1300, 1300), np.uint32)
    plain = drawn(tmp_path, source_of(black), source_of(black))
    assert plain.max() == 0
    picture = drawn(tmp_path, source_of(black), source_of(black, Y=0.325, X=0.325))
    bar = (picture[-36] == 255).all(-1)  # 100 µm: the longest round one in a quarter of 422 µm
    assert np.count_nonzero(bar) == round(100 / 0.325)


def test_a_caption_stands_below_the_picture(tmp_path: Path) -> None:
    image, labels = nuclei(1300, 1300, 50)
    without = drawn(tmp_path, source_of(image), source_of(labels))
    caption = "cellpose/cyto3 · Zürich\n\x1b[31m µ 細胞 " + "long " * 500
    picture = drawn(tmp_path, source_of(image), source_of(labels), caption=caption)
    np.testing.assert_array_equal(picture[:1300], without)
    assert picture.shape[0] > 1300
    assert picture[1300:].max() > 200


@pytest.mark.parametrize(
    "values",
    [
        [np.nan] * 4,
        [np.nan, np.inf, -np.inf, 1],
        [1e308, -1e308, 0, 1],
        [5.0] * 4,
    ],
)
def test_numbers_that_are_none_do_no_harm(tmp_path: Path, values: list[float]) -> None:
    image = np.resize(np.array(values), (1700, 1700))
    labels = np.ones((1700, 1700), np.uint32)
    assert drawn(tmp_path, source_of(image), source_of(labels)).shape == (850, 850, 3)


def test_ids_past_32_bits_have_colours(tmp_path: Path) -> None:
    labels = np.full((20, 20), 2**63 - 1, np.uint64)
    labels[5:] = 2**40
    assert is_coloured(drawn(tmp_path, source_of(labels * 0), source_of(labels))).any()


def test_a_picture_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    small = source_of(np.zeros((4, 4), np.uint32))
    with pytest.raises(AiodError, match="cannot be written"):
        write_overlay(small, small, tmp_path / "file" / "a.png")
