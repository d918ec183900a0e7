"""Labels as OME-Zarr 0.5: checked by the format's own community, opened by napari's reader."""

from __future__ import annotations

import doctest
import importlib.util
import json
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ome_zarr_models.v05
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from ome_zarr_models import open_ome_zarr

from aiod.errors import AiodError
from aiod.flow.results import pyramid
from aiod.flow.results.labels import (
    LabelsError,
    create_labels,
    finish_labels,
    open_labels,
    smaller_levels,
)
from aiod.flow.results.pyramid import chunks_for, labels_digest, labels_source, write_box
from aiod.flow.source import Box, Source
from aiod.flow.tiling import Plan

Array = NDArray[Any]


def written(
    folder: Path, pixels: Array, axes: str = "YX", name: str = "nuclei", **how: Any
) -> Path:
    """Labels written at one go."""
    level = create_labels(
        folder, name=name, axes=axes, shape=pixels.shape, dtype=pixels.dtype, **how
    )
    write_box(level, Box.whole(pixels.shape), pixels)
    return finish_labels(folder, name)[0]


def random_labels(*shape: int, dtype: Any = np.uint32) -> Array:
    small = np.random.default_rng(0).integers(0, 70_000, [-(-n // 7) for n in shape])
    return np.kron(small, np.ones([7] * len(shape)))[tuple(map(slice, shape))].astype(dtype)


def multiscale_of(place: Path) -> dict[str, Any]:
    attributes: dict[str, Any] = zarr.open_group(place, mode="r").attrs.asdict()
    found: dict[str, Any] = attributes["ome"]["multiscales"][0]
    return found


def level_of(place: Path, number: int = 0) -> Array:
    return np.asarray(zarr.open_array(place / str(number), mode="r")[...])


CASES = {
    "YX": ((700, 1100), {"Y": 0.3, "X": 0.3}),
    "ZYX": ((9, 300, 600), {"Z": 0.3, "Y": 0.3, "X": 0.3}),
    "TYX": ((2, 300, 600), {}),
    "TZYX": ((2, 3, 300, 310), {"Y": 0.3, "X": 0.3}),
}


@pytest.mark.parametrize("axes", CASES)
def test_the_validator_of_the_format_accepts_all_parts(tmp_path: Path, axes: str) -> None:
    shape, pixel_size = CASES[axes]
    folder = tmp_path / "cells.ome.zarr"
    place = written(folder, random_labels(*shape), axes, pixel_size=pixel_size)
    assert place == folder / "labels" / "nuclei"
    opened = open_ome_zarr(str(place))
    assert type(opened).__module__.startswith("ome_zarr_models.v05")
    assert isinstance(open_ome_zarr(str(folder / "labels")), ome_zarr_models.v05.Labels)
    ome_zarr_models.v05.ImageLabel.from_zarr(zarr.open_group(place, mode="r"))
    ome_zarr_models.v05.BioFormats2Raw.from_zarr(zarr.open_group(folder, mode="r"))


@pytest.mark.parametrize("axes", CASES)
def test_levels_are_every_second_pixel_and_say_so(tmp_path: Path, axes: str) -> None:
    shape, pixel_size = CASES[axes]
    pixels = random_labels(*shape)
    place = written(tmp_path / "a.ome.zarr", pixels, axes, pixel_size=pixel_size)
    found = multiscale_of(place)
    first = found["datasets"][0]["coordinateTransformations"][0]["scale"]
    assert first == [pixel_size.get(axis, 1.0) for axis in axes]
    for dataset in found["datasets"]:
        (transform,) = dataset["coordinateTransformations"]
        steps = [round(now / of) for now, of in zip(transform["scale"], first, strict=True)]
        expected = pixels[tuple(slice(None, None, step) for step in steps)]
        np.testing.assert_array_equal(level_of(place, int(dataset["path"])), expected)
    assert len(found["datasets"]) > 1
    assert min(expected.shape[-2:]) <= 256 < 2 * min(expected.shape[-2:])


def test_axes_have_types_and_units_where_they_are_known(tmp_path: Path) -> None:
    pixels = random_labels(1, 2, 9, 9)
    place = written(tmp_path / "a.ome.zarr", pixels, "TZYX", pixel_size={"Y": 0.5, "X": 0.25})
    assert multiscale_of(place)["axes"] == [
        {"name": "t", "type": "time"},
        {"name": "z", "type": "space"},
        {"name": "y", "type": "space", "unit": "micrometer"},
        {"name": "x", "type": "space", "unit": "micrometer"},
    ]
    array = zarr.open_array(place / "0", mode="r")
    assert array.metadata.to_dict()["dimension_names"] == ("t", "z", "y", "x")


def test_planes_are_halved_only_once_they_are_as_close_as_pixels(tmp_path: Path) -> None:
    size = {"Z": 2.0, "Y": 0.5, "X": 0.5}
    place = written(tmp_path / "a.ome.zarr", random_labels(5, 2100, 2100), "ZYX", pixel_size=size)
    scales = [d["coordinateTransformations"][0]["scale"] for d in multiscale_of(place)["datasets"]]
    assert scales == [[2, 0.5, 0.5], [2, 1, 1], [2, 2, 2], [4, 4, 4], [8, 8, 8]]


def test_a_source_that_is_an_ome_zarr_is_named_by_the_way_to_it(tmp_path: Path) -> None:
    image = tmp_path / "data" / "image.ome.zarr"
    zarr.open_group(image, mode="w", zarr_format=2)
    place = written(tmp_path / "out" / "a.ome.zarr", random_labels(9, 9), source=str(image))
    attributes: Any = zarr.open_group(place, mode="r").attrs["ome"]
    way = attributes["image-label"]["source"]["image"]
    assert way == "../../../../data/image.ome.zarr"
    assert (place / way).resolve() == image


def test_a_source_of_another_kind_is_named_beside(tmp_path: Path) -> None:
    place = written(
        tmp_path / "a.ome.zarr",
        random_labels(9, 9),
        source="/data/cells.tif",
        kind="semantic",
        about={"model": "toy/v1/nuclei"},
    )
    attributes: Any = zarr.open_group(place, mode="r").attrs.asdict()
    assert attributes["ome"]["image-label"] == {"version": "0.5"}
    assert multiscale_of(place)["metadata"]["image"] == "cells.tif"
    assert attributes["aiod"] == {"kind": "semantic", "model": "toy/v1/nuclei"}


def test_several_label_images_live_in_one_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a.ome.zarr"
    written(folder, random_labels(9, 9), name="plain")
    written(folder, random_labels(9, 9, dtype=np.uint64), name="clahe.2")
    labels: Any = zarr.open_group(folder / "labels", mode="r").attrs["ome"]
    assert labels == {"version": "0.5", "labels": ["clahe.2", "plain"]}
    ome_zarr_models.v05.Labels.from_zarr(zarr.open_group(folder / "labels", mode="r"))


def test_unfinished_labels_are_hidden_and_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "a.ome.zarr"
    written(folder, random_labels(9, 9), name="first")
    create_labels(folder, name="second", axes="YX", shape=(9, 9))[...] = 7
    assert json.loads((folder / "labels" / "zarr.json").read_text())["attributes"]["ome"][
        "labels"
    ] == ["first"]
    assert not (folder / "labels" / "second").exists()
    place = written(folder, random_labels(4, 4), name="second")
    assert level_of(place).shape == (4, 4)
    assert not list((folder / "labels").glob(".*"))


def test_finished_labels_are_not_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "a.ome.zarr"
    written(folder, random_labels(9, 9))
    with pytest.raises(AiodError, match='has labels called "nuclei" already'):
        create_labels(folder, name="nuclei", axes="YX", shape=(9, 9))


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "a\\b", "a b", "a..b", "é", "a:b"]
)
def test_names_that_are_no_folder_everywhere_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(AiodError, match="cannot be the name of labels"):
        create_labels(tmp_path, name=name, axes="YX", shape=(9, 9))


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AiodError, match=r"cannot be written: not a directory"):
        create_labels(tmp_path / "file", name="nuclei", axes="YX", shape=(9, 9))


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(pyramid).failed == 0


def test_empty_chunks_take_no_place(tmp_path: Path) -> None:
    pixels = np.zeros((2048, 2048), np.uint32)
    pixels[:512, :512] = 1
    place = written(tmp_path / "a.ome.zarr", pixels)
    assert len(list((place / "0" / "c").rglob("*/*"))) == 1


def fill(level: zarr.Array[Any], pixels: Array, core: Box) -> None:
    write_box(level, core, pixels[core.slices])


@pytest.mark.parametrize("pool", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_tiles_are_written_by_several_at_a_time(tmp_path: Path, pool: Any) -> None:
    pixels = random_labels(700, 900)
    plan = Plan(pixels.shape, (192, 256), (8, 8))
    folder = tmp_path / "a.ome.zarr"
    chunks = chunks_for("YX", pixels.shape, plan.tile)
    level = create_labels(folder, name="nuclei", axes="YX", shape=pixels.shape, chunks=chunks)
    how = (
        {"mp_context": multiprocessing.get_context("spawn")} if pool is ProcessPoolExecutor else {}
    )
    with pool(2, **how) as workers:
        list(workers.map(partial(fill, level, pixels), [tile.core for tile in plan]))
        place, digest = finish_labels(folder, "nuclei", mapper=workers.map)
    assert digest == labels_digest(source_of(pixels))
    np.testing.assert_array_equal(level_of(place), pixels)
    np.testing.assert_array_equal(level_of(place, 1), pixels[::2, ::2])


@pytest.mark.parametrize(
    ("axes", "shape", "pixel_size"),
    [
        ("YX", (2100, 2600), {}),
        ("ZYX", (40, 1100, 1300), {"Z": 0.2, "Y": 0.2, "X": 0.2}),
        ("TZYX", (2, 17, 1030, 700), {"Z": 1.0, "Y": 0.2, "X": 0.2}),
    ],
)
def test_levels_made_by_several_at_a_time_are_every_second_pixel(
    tmp_path: Path, axes: str, shape: tuple[int, ...], pixel_size: dict[str, float]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 9, shape, np.uint32)
    folder = tmp_path / "a.ome.zarr"
    level = create_labels(folder, name="n", axes=axes, shape=shape, pixel_size=pixel_size)
    write_box(level, Box.whole(shape), pixels)
    with ThreadPoolExecutor(8) as pool:
        place, digest = finish_labels(folder, "n", mapper=pool.map)
    assert digest == labels_digest(source_of(pixels, axes))
    group = zarr.open_group(place, mode="r")
    datasets = multiscale_of(place)["datasets"]
    first = datasets[0]["coordinateTransformations"][0]["scale"]
    for dataset in datasets:
        scale = dataset["coordinateTransformations"][0]["scale"]
        steps = [round(n / m) for n, m in zip(scale, first, strict=True)]
        expected = pixels[tuple(slice(None, None, step) for step in steps)]
        np.testing.assert_array_equal(group[dataset["path"]], expected)
    assert len(datasets) > 2


@given(
    n=st.integers(1, 5000), tile=st.integers(1, 3000), axes=st.sampled_from(["YX", "ZYX", "TZYX"])
)
def test_tiles_are_whole_chunks(n: int, tile: int, axes: str) -> None:
    shape, tiles = (n,) * len(axes), (tile,) * len(axes)
    for chunk, free in zip(chunks_for(axes, shape, tiles), chunks_for(axes, shape), strict=True):
        assert 1 <= free <= n
        assert 1 <= chunk <= n
        assert tile >= n or tile % chunk == 0


# --- the digest -----------------------------------------------------------------------------------


def source_of(pixels: Array, axes: str = "YX") -> Source:
    return Source(axes, pixels.shape, pixels.dtype, lambda box: pixels[box.slices])


def test_the_digest_is_that_of_the_pixels_whatever_their_storage(tmp_path: Path) -> None:
    pixels = random_labels(300, 500)
    expected = labels_digest(source_of(pixels))
    for number, (dtype, chunks) in enumerate([("u4", (64, 64)), ("u8", (300, 11))]):
        place = written(tmp_path / f"{number}.ome.zarr", pixels.astype(dtype), chunks=chunks)
        level = zarr.open_array(place / "0", mode="r")
        assert labels_digest(labels_source(level, "YX", {})) == expected
        assert labels_digest(open_labels(place).source) == expected
    with ThreadPoolExecutor(2) as pool:
        assert labels_digest(source_of(pixels), mapper=pool.map) == expected
    assert labels_digest(source_of(np.asfortranarray(pixels))) == expected
    assert labels_digest(source_of(pixels.astype(">u4"))) == expected


def test_the_digest_is_written_down_once_and_for_all() -> None:
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert labels_digest(source_of(pixels)) == (
        "sha256:4478b38f9c4fa1231fc2414eacb3ab61a227d47286756730edc5110c560e9b21"
    )


@given(st.integers(0, 5), st.integers(0, 6), st.integers(1, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_the_digest_changes_with_any_pixel(y: int, x: int, by: int) -> None:
    pixels = random_labels(6, 7)
    other = pixels.copy()
    other[y, x] ^= np.uint32(by)
    assert labels_digest(source_of(other)) != labels_digest(source_of(pixels))


def test_the_digest_changes_with_axes_and_shape() -> None:
    pixels = np.zeros((4, 6), np.uint32)
    digests = {
        labels_digest(source_of(pixels)),
        labels_digest(source_of(pixels.reshape(6, 4))),
        labels_digest(source_of(pixels.reshape(4, 1, 6), "TYX")),
        labels_digest(source_of(pixels.reshape(4, 1, 6), "ZYX")),
    }
    assert len(digests) == 4


# --- reading --------------------------------------------------------------------------------------


def read_all(source: Source) -> Array:
    return source.read(Box.whole(source.shape))


@pytest.mark.parametrize("way", ["", "labels", "labels/nuclei"])
def test_what_was_written_is_read_wherever_one_points(tmp_path: Path, way: str) -> None:
    pixels, folder = random_labels(2, 40, 50), tmp_path / "a.ome.zarr"
    written(folder, pixels, "TYX", pixel_size={"Y": 0.5, "X": 0.25}, kind="semantic")
    found = open_labels(folder / way)
    assert (found.name, found.kind, found.path) == (
        "nuclei",
        "semantic",
        folder / "labels" / "nuclei",
    )
    assert found.source.axes == "TYX"
    assert found.source.pixel_size == {"Y": 0.5, "X": 0.25}
    assert found.source.dtype == np.uint32
    np.testing.assert_array_equal(read_all(found.source), pixels)


@pytest.mark.parametrize(("axes", "size", "levels"), [("TYX", {}, 3), ("ZYX", {"Z": 2.0}, 2)])
def test_smaller_levels_are_read_as_far_as_all_planes_are_there(
    tmp_path: Path, axes: str, size: dict[str, float], levels: int
) -> None:
    pixels = random_labels(3, 1100, 1501)
    place = written(tmp_path / "a.ome.zarr", pixels, axes, pixel_size={**size, "Y": 0.5, "X": 0.5})
    found = smaller_levels(open_labels(place))
    assert len(found) == levels
    for number, level in enumerate(found, start=1):
        assert level.axes == axes
        np.testing.assert_array_equal(read_all(level), pixels[:, :: 2**number, :: 2**number])


def test_labels_of_others_have_no_smaller_levels(tmp_path: Path) -> None:
    pixels = random_labels(600, 600)
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    old = old_labels(tmp_path / "b.zarr", pixels)
    assert smaller_levels(open_labels(tmp_path / "a.tif")) == []
    assert smaller_levels(open_labels(old)) == []


def test_of_several_labels_one_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "a.ome.zarr"
    for number, name in enumerate(["plain", "clahe"]):
        written(folder, np.full((4, 4), number, np.uint32), name=name)
    assert read_all(open_labels(folder, name="clahe").source).max() == 1
    assert open_labels(folder / "labels", name="plain").name == "plain"
    with pytest.raises(LabelsError, match=r"several labels\.\n  there are clahe and plain"):
        open_labels(folder)
    with pytest.raises(LabelsError, match='No labels are called "other"'):
        open_labels(folder, name="other")


def old_labels(folder: Path, pixels: Array) -> Path:
    """OME-Zarr 0.4 (zarr 2), as other programs write it: an image with labels in it."""
    image = zarr.open_group(folder, mode="w", zarr_format=2)
    labels = image.create_group("labels")
    labels.attrs["labels"] = ["cells"]
    group = labels.create_group("cells")
    group.create_array("s0", data=pixels, chunks=(16, 16))
    group.attrs["image-label"] = {"version": "0.4"}
    scale = {"type": "scale", "scale": [500.0, 250.0]}
    multiscale: dict[str, Any] = {
        "version": "0.4",
        "axes": [{"name": n, "type": "space", "unit": "nanometer"} for n in "yx"],
        "datasets": [{"path": "s0", "coordinateTransformations": [scale]}],
    }
    group.attrs["multiscales"] = [multiscale]
    return folder


@pytest.mark.parametrize("way", ["", "labels", "labels/cells"])
def test_labels_of_version_04_are_read(tmp_path: Path, way: str) -> None:
    pixels = random_labels(30, 40, dtype=np.int32)
    found = open_labels(old_labels(tmp_path / "b.zarr", pixels) / way)
    assert found.source.dtype == np.uint32
    assert found.source.pixel_size == {"Y": 0.5, "X": 0.25}
    assert found.kind is None
    np.testing.assert_array_equal(read_all(found.source), pixels)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "uint32"])
def test_labels_of_a_tiff_are_read(tmp_path: Path, dtype: str) -> None:
    pixels = random_labels(1, 3, 30, 40, dtype=dtype)
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels, metadata={"axes": "CZYX"})
    found = open_labels(tmp_path / "a.ome.tif")
    assert (found.name, found.source.axes, found.source.dtype.kind) == ("a", "TZYX", "u")
    np.testing.assert_array_equal(read_all(found.source), pixels)


def test_what_are_no_labels_is_a_sentence(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, 4)))
    with pytest.raises(LabelsError, match="array of Python"):
        open_labels(tmp_path / "a.npy")
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((8, 8), np.float32))
    with pytest.raises(LabelsError, match="labels are whole numbers"):
        open_labels(tmp_path / "b.tif")
    tifffile.imwrite(tmp_path / "c.tif", np.zeros((8, 8, 3), np.uint8), photometric="rgb")
    with pytest.raises(LabelsError, match=r"3 channels.*\n.*colours of a picture"):
        open_labels(tmp_path / "c.tif")
    zarr.open_group(tmp_path / "d.ome.zarr", mode="w").create_group("labels")
    with pytest.raises(LabelsError, match="holds no labels"):
        open_labels(tmp_path / "d.ome.zarr")
    with pytest.raises(AiodError, match="does not exist"):
        open_labels(tmp_path / "none.tif")
    (tmp_path / "d.ome.zarr" / "zarr.json").write_text("{")
    with pytest.raises(LabelsError, match="is not JSON"):
        open_labels(tmp_path / "d.ome.zarr")


def test_negative_numbers_are_refused_when_they_are_met(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8), np.int16)
    pixels[5, 5] = -3
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    source = open_labels(tmp_path / "a.tif").source
    with pytest.raises(LabelsError, match="holds the number -3"):
        read_all(source)


@pytest.mark.parametrize("name", ["../../secret", "/etc", "..", "a/../..", 5, None])
def test_a_list_of_labels_cannot_lead_out_of_its_folder(tmp_path: Path, name: Any) -> None:
    folder = tmp_path / "in" / "a.zarr"
    old_labels(tmp_path / "secret", random_labels(9, 9))
    group = zarr.open_group(folder, mode="w").create_group("labels")
    group.attrs["ome"] = {"version": "0.5", "labels": [name]}
    with pytest.raises(LabelsError, match="holds no labels"):
        open_labels(folder)


# --- napari ---------------------------------------------------------------------------------------

READ = """
import json, sys
from napari_ome_zarr import napari_get_reader
layers = [
    {
        "kind": kind,
        "shapes": [list(level.shape) for level in data],
        "sum": int(data[0].sum().compute()),
        "dtype": str(data[0].dtype),
        "scale": list(meta["scale"]),
        "name": meta.get("name"),
    }
    for data, meta, kind in napari_get_reader(sys.argv[1])()
]
print("LAYERS", json.dumps(layers))
"""


@pytest.mark.skipif(
    importlib.util.find_spec("napari_ome_zarr") is None, reason="napari-ome-zarr is not installed"
)
@pytest.mark.parametrize("way", ["", "labels", "labels/nuclei"])
def test_naparis_reader_gives_the_labels_wherever_one_points(tmp_path: Path, way: str) -> None:
    pixels, folder = random_labels(2, 600, 700), tmp_path / "run" / "cells.ome.zarr"
    written(folder, pixels, "TYX", pixel_size={"Y": 0.5, "X": 0.25})
    # In a process of its own: napari is no part of this one, and its import warns.
    done = subprocess.run(
        [sys.executable, "-c", READ, str(folder / way)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HOME": str(tmp_path), "NAPARI_CONFIG": ""},
    )
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("LAYERS ")]
    (layer,) = json.loads(line.removeprefix("LAYERS "))
    assert layer == {
        "kind": "labels",
        "shapes": [[2, 600, 700], [2, 300, 350], [2, 150, 175]],
        "sum": int(pixels.sum(dtype=np.int64)),
        "dtype": "uint32",
        "scale": [1.0, 0.5, 0.25],
        # Without a name napari takes the folder's, here "cells".
        "name": {"": None, "labels": "labels/nuclei", "labels/nuclei": "labels/"}[way],
    }
    assert sorted(path.name for path in folder.parent.iterdir()) == ["cells.ome.zarr"]
