"""Labels for other programs: read back, they are exactly the labels."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import shapely
import tifffile
from numpy.typing import NDArray
from skimage.measure import label, regionprops

from aiod.errors import AiodError
from aiod.flow.images.image import open_image
from aiod.flow.results import export
from aiod.flow.results.export import write_csv, write_geojson, write_tiff
from aiod.flow.results.objects import measure_objects
from aiod.flow.source import Box, Source

Array = NDArray[Any]


def source_of(array: Array, axes: str = "YX", **pixel_size: float) -> Source:
    return Source(axes, array.shape, array.dtype, lambda box: array[box.slices], pixel_size)


def blobs(*shape: int, seed: int = 0) -> Array:
    """Touching, ragged objects with holes; some in pieces."""
    noise = np.random.default_rng(seed).random(shape)
    labels: Array = label(noise > 0.35, connectivity=1).astype(np.uint32)
    labels[labels > 40] %= 40
    return labels


# --- TIFF -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axes", "shape"), [("YX", (700, 1100)), ("ZYX", (3, 40, 50)), ("TZYX", (2, 3, 40, 50))]
)
@pytest.mark.parametrize("most", [None, 39])
@pytest.mark.parametrize("slab_bytes", [0, 20_000, 10**9])
def test_a_tiff_read_back_is_the_labels(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    axes: str,
    shape: tuple[int, ...],
    most: int | None,
    slab_bytes: int,
) -> None:
    monkeypatch.setattr(export, "_SLAB_BYTES", slab_bytes)
    labels = blobs(*shape)
    path = tmp_path / "labels.ome.tif"
    write_tiff(source_of(labels, axes, Y=0.5, X=0.25), path, most=most)
    read = tifffile.imread(path)
    assert read.dtype == (np.uint32 if most is None else np.uint16)
    np.testing.assert_array_equal(read, labels)
    image = open_image(path)
    assert image.source.pixel_size == {"Y": 0.5, "X": 0.25}
    assert image.source.read(Box.whole(image.source.shape)).reshape(shape).tolist() == read.tolist()
    assert [path.name for path in tmp_path.iterdir()] == ["labels.ome.tif"]


def test_a_tiff_is_tiled_compressed_and_knows_its_pixel_size(tmp_path: Path) -> None:
    labels = np.zeros((3, 2000, 2000), np.uint32)
    write_tiff(source_of(labels, "ZYX", Z=2.0, Y=0.5, X=0.25), tmp_path / "a.tif")
    assert (tmp_path / "a.tif").stat().st_size < labels.nbytes / 100
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        page = tiff.pages.first
        assert page.tile == (512, 512)
        assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        assert page.resolution == (40_000, 20_000)
        assert tiff.is_ome
        assert not tiff.is_bigtiff
        pixels = ET.fromstring(str(tiff.ome_metadata)).find(".//{*}Pixels")
    assert pixels is not None
    assert {a: pixels.get(f"PhysicalSize{a}") for a in "XYZ"} == {
        "X": "0.25",
        "Y": "0.5",
        "Z": "2.0",
    }
    assert pixels.get("PhysicalSizeXUnit", "µm") == "µm"


def test_a_tiff_past_four_gigabytes_is_a_bigtiff(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_BIG_TIFF_BYTES", 1000)
    write_tiff(source_of(blobs(40, 50)), tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.is_bigtiff
        np.testing.assert_array_equal(tiff.asarray(), blobs(40, 50))


def test_a_tiff_of_64_bits_is_read_back(tmp_path: Path) -> None:
    labels = blobs(40, 50).astype(np.uint64) + 2**40
    write_tiff(source_of(labels), tmp_path / "a.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), labels)


def test_a_tiff_that_cannot_be_finished_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(b"old")

    def read(box: Box) -> Array:
        raise OSError(28, "No space left on device")

    with pytest.raises(AiodError, match=r"a\.tif cannot be written: no space left on device"):
        write_tiff(Source("YX", (900, 900), np.dtype("u4"), read), path)
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["a.tif"]


# --- GeoJSON --------------------------------------------------------------------------------------

RING = {
    "type": "array",
    "minItems": 4,
    "items": {
        "type": "array",
        "prefixItems": [{"type": "integer", "minimum": 0}] * 2,
        "items": False,
        "minItems": 2,
    },
}
POLYGON = {"type": "array", "minItems": 1, "items": RING}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "features"],
    "properties": {
        "type": {"const": "FeatureCollection"},
        "features": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "id", "geometry", "properties"],
                "additionalProperties": False,
                "properties": {
                    "type": {"const": "Feature"},
                    "id": {"type": "string", "pattern": "^[0-9a-f-]{36}$"},
                    "geometry": {
                        "type": "object",
                        "required": ["type", "coordinates"],
                        "oneOf": [
                            {"properties": {"type": {"const": "Polygon"}, "coordinates": POLYGON}},
                            {
                                "properties": {
                                    "type": {"const": "MultiPolygon"},
                                    "coordinates": {
                                        "type": "array",
                                        "minItems": 2,
                                        "items": POLYGON,
                                    },
                                }
                            },
                        ],
                    },
                    "properties": {
                        "type": "object",
                        "required": ["objectType", "isLocked", "name", "measurements"],
                        "properties": {
                            "objectType": {"enum": ["detection", "annotation"]},
                            "isLocked": {"const": False},
                            "name": {"type": "string"},
                            "measurements": {
                                "type": "object",
                                "additionalProperties": {"type": "number"},
                            },
                            "classification": {
                                "type": "object",
                                "required": ["name"],
                            },
                        },
                    },
                },
            },
        },
    },
}


def features_of(
    tmp_path: Path, labels: Source, image: Source | None = None, **how: Any
) -> list[dict[str, Any]]:
    """The features as written, after a check of all that GeoJSON and QuPath ask for."""
    path = tmp_path / "a.geojson"
    planes_apart = how.pop("planes_apart", False)
    objects = measure_objects(labels, image, planes_apart=planes_apart)
    write_geojson(labels, objects, path, **how)
    document = json.loads(path.read_text(), parse_constant=pytest.fail)
    jsonschema.validate(document, SCHEMA, jsonschema.Draft202012Validator)
    features: list[dict[str, Any]] = document["features"]
    assert len({feature["id"] for feature in features}) == len(features)
    assert all(shapely.geometry.shape(f["geometry"]).is_valid for f in features)
    return features


def rasterised(features: list[dict[str, Any]], axes: str, shape: tuple[int, ...]) -> Array:
    labels = np.zeros(shape, np.uint32)
    y, x = np.mgrid[: shape[-2], : shape[-1]] + 0.5
    for feature in features:
        plane = feature["geometry"].get("plane", {"z": 0, "t": 0})
        frame = labels[tuple(plane[axis.lower()] for axis in axes[:-2])]
        inside = shapely.contains_xy(shapely.geometry.shape(feature["geometry"]), x, y)
        assert not frame[inside].any()
        frame[inside] = int(feature["properties"]["name"])
    return labels


@pytest.mark.parametrize("block", [7, 16, 1024])
@pytest.mark.parametrize(
    ("axes", "shape", "apart"),
    [
        ("YX", (40, 50), False),
        ("YX", (1, 1), False),
        ("ZYX", (4, 20, 30), False),
        ("ZYX", (4, 20, 30), True),
        ("TYX", (3, 20, 30), False),
        ("TZYX", (2, 3, 20, 30), True),
        ("TZYX", (1, 1, 20, 30), False),
    ],
)
def test_polygons_filled_again_are_the_labels_whatever_the_blocks(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    block: int,
    axes: str,
    shape: tuple[int, ...],
    apart: bool,
) -> None:
    monkeypatch.setattr(export, "_BLOCK", block)
    monkeypatch.setattr(export, "_SLAB_BYTES", 2 * 4 * block * block)  # two planes at a time
    labels = blobs(*shape)
    features = features_of(tmp_path, source_of(labels, axes), planes_apart=apart)
    np.testing.assert_array_equal(rasterised(features, axes, shape), labels)
    planes = labels.reshape(-1, *shape[-2:])
    assert len(features) == sum(len(np.setdiff1d(plane, 0)) for plane in planes)


def test_an_object_across_many_blocks_is_one_feature_with_its_holes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_BLOCK", 8)
    labels = np.full((40, 40), 3, np.uint32)
    labels[5:30, 6:29] = 0
    labels[10:20, 10:20] = 3
    (feature,) = features_of(tmp_path, source_of(labels))
    assert feature["geometry"]["type"] == "MultiPolygon"
    assert [len(polygon) for polygon in feature["geometry"]["coordinates"]] == [2, 1]


def test_features_are_detections_with_their_measurements(tmp_path: Path) -> None:
    labels = np.zeros((10, 10), np.uint32)
    labels[2:4, 3:6] = 5
    image = np.full((10, 10), 7, np.uint8)
    (feature,) = features_of(
        tmp_path,
        source_of(labels, Y=0.5, X=0.5),
        source_of(image),
        sample="cells",
        class_name="nuclei",
    )
    assert feature["geometry"] == {
        "type": "Polygon",
        "coordinates": [[[3, 2], [6, 2], [6, 4], [3, 4], [3, 2]]],
    }
    properties = feature["properties"]
    assert properties["objectType"] == "detection"
    assert properties["name"] == "5"
    assert properties["classification"] == {"name": "nuclei"}
    assert properties["measurements"]["id"] == 5
    assert properties["measurements"]["area_um2"] == 1.5
    assert properties["measurements"]["mean_intensity"] == 7


def test_classes_are_annotations(tmp_path: Path) -> None:
    (feature,) = features_of(tmp_path, source_of(np.ones((3, 3), np.uint32)), semantic=True)
    assert feature["properties"]["objectType"] == "annotation"


def test_planes_stand_where_qupath_looks_for_them(tmp_path: Path) -> None:
    labels = np.ones((2, 2, 3, 3), np.uint32)
    features = features_of(tmp_path, source_of(labels, "TZYX"))
    assert [feature["geometry"].get("plane") for feature in features] == [
        None,
        {"c": -1, "z": 1, "t": 0},
        {"c": -1, "z": 0, "t": 1},
        {"c": -1, "z": 1, "t": 1},
    ]


def test_ids_are_the_same_each_time_and_differ_from_sample_to_sample(tmp_path: Path) -> None:
    labels = source_of(blobs(9, 9))
    one, again, other = (
        {feature["id"] for feature in features_of(tmp_path, labels, sample=name)}
        for name in ("a", "a", "b")
    )
    assert one == again
    assert not one & other


def test_what_is_not_a_number_is_left_out(tmp_path: Path) -> None:
    labels, image = np.ones((3, 3), np.uint32), np.full((3, 3), np.nan)
    (feature,) = features_of(tmp_path, source_of(labels), source_of(image))
    assert "mean_intensity" not in feature["properties"]["measurements"]


def test_no_objects_are_an_empty_collection(tmp_path: Path) -> None:
    assert features_of(tmp_path, source_of(np.zeros((9, 9), np.uint32))) == []


def test_objects_of_other_labels_are_refused(tmp_path: Path) -> None:
    none = measure_objects(source_of(np.zeros((9, 9), np.uint32)))
    with pytest.raises(ValueError, match="not those of the labels"):
        write_geojson(source_of(blobs(9, 9)), none, tmp_path / "a.geojson")
    assert not list(tmp_path.iterdir())


# --- CSV ------------------------------------------------------------------------------------------


def rows_of(tmp_path: Path, labels: Source, image: Source | None = None, **how: Any) -> Any:
    channels = how.pop("channels", ())
    write_csv(measure_objects(labels, image, channels=channels), tmp_path / "a.csv", **how)
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, strict=True))


def test_a_csv_has_a_row_an_object_and_units_in_its_header(tmp_path: Path) -> None:
    labels = blobs(40, 50)
    image = np.random.default_rng(1).integers(0, 65536, (40, 50)).astype(np.uint16)
    rows = rows_of(tmp_path, source_of(labels, Y=0.3, X=0.3), source_of(image), sample="cells")
    expected = regionprops(labels.astype(int), image)
    assert list(rows[0]) == [
        "sample",
        "id",
        "area_um2",
        "centroid_y_um",
        "centroid_x_um",
        "bbox_min_y_um",
        "bbox_min_x_um",
        "bbox_max_y_um",
        "bbox_max_x_um",
        "mean_intensity",
    ]
    assert [int(row["id"]) for row in rows] == [p.label for p in expected]
    for row, p in zip(rows, expected, strict=True):
        assert row["sample"] == "cells"
        assert float(row["mean_intensity"]) == pytest.approx(p.intensity_mean, rel=1e-15)
        assert float(row["area_um2"]) == p.area * (0.3 * 0.3)
        assert float(row["centroid_y_um"]) == pytest.approx(p.centroid[0] * 0.3, rel=1e-15)


def test_a_csv_is_of_rfc_4180_and_utf_8(tmp_path: Path) -> None:
    rows = rows_of(
        tmp_path,
        source_of(np.ones((3, 3), np.uint32)),
        source_of(np.full((1, 3, 3), np.nan), "CYX"),
        sample='Zellen, "größer"\n2',
        channels=("µ-opsin",),
    )
    assert rows[0]["sample"] == 'Zellen, "größer"\n2'
    assert rows[0]["mean_intensity_µ-opsin"] == ""
    raw = (tmp_path / "a.csv").read_bytes()
    assert raw.startswith(b"sample,id,area_px,")
    assert raw.endswith(b"\r\n")


@pytest.mark.parametrize(
    "name", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "=cmd|' /C calc'!A0"]
)
def test_no_name_is_a_formula_to_a_spreadsheet(tmp_path: Path, name: str) -> None:
    rows = rows_of(tmp_path, source_of(np.ones((3, 3), np.uint32)), sample=name)
    assert rows[0]["sample"] == "'" + name


def test_a_csv_of_no_objects_has_its_header(tmp_path: Path) -> None:
    assert rows_of(tmp_path, source_of(np.zeros((3, 3), np.uint32))) == []
    assert (tmp_path / "a.csv").read_text().startswith("sample,id,area_px")


def test_rows_of_a_film_say_their_time(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, source_of(np.ones((2, 3, 3), np.uint32), "TYX"))
    assert [(row["id"], row["t"]) for row in rows] == [("1", "0"), ("1", "1")]
