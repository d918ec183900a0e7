"""OME-Zarr is read where its metadata say, chunk by chunk, and executes nothing."""

from __future__ import annotations

import json
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiod.flow.images.image import ImageError, open_image
from aiod.flow.source import Box, Pixels
from pictures import STACK, ome_zarr


def whole(path: Path, **how: Any) -> Pixels:
    source = open_image(path, **how).source
    return source.read(Box.whole(source.shape))


def refused(path: Path, **how: Any) -> ImageError:
    with pytest.raises(ImageError) as caught:
        whole(path, **how)
    assert caught.value.what.endswith(".")
    return caught.value


def rewrite(file: Path, **changes: Any) -> None:
    """Change fields of a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_box_reads_the_chunks_that_it_meets_and_no_others(tmp_path: Path) -> None:
    path = ome_zarr(tmp_path / "a.zarr", STACK, axes="CZYX", chunks=(1, 1, 16, 16))
    source = open_image(path).source
    for chunk in (path / "0" / "c").rglob("*"):
        if chunk.is_file() and chunk.relative_to(path / "0" / "c").parts != ("1", "2", "0", "1"):
            chunk.write_bytes(b"no chunk")
    box = Box((1, 2, 3, 17), (2, 3, 16, 32))
    np.testing.assert_array_equal(source.read(box), STACK[box.slices])
    with pytest.raises(ImageError, match="damaged"):
        source.read(Box((1, 2, 3, 15), (2, 3, 16, 32)))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_scale_counts_in_its_units(tmp_path: Path, version: str) -> None:
    path = tmp_path / "a.zarr"
    ome_zarr(path, STACK, axes="CZYX", version=version, scale=(1, 900, 325, 325), unit="nanometer")
    assert open_image(path).source.pixel_size == {"Z": 0.9, "Y": 0.325, "X": 0.325}


def test_scales_of_a_level_and_of_all_levels_are_multiplied(tmp_path: Path) -> None:
    path = ome_zarr(tmp_path / "a.zarr", STACK, axes="CZYX", scale=(1, 1, 2, 2))
    document = json.loads((path / "zarr.json").read_text())
    document["attributes"]["ome"]["multiscales"][0]["coordinateTransformations"] = [
        {"type": "scale", "scale": [1, 3, 0.25, 0.25]}
    ]
    (path / "zarr.json").write_text(json.dumps(document))
    assert open_image(path).source.pixel_size == {"Z": 3.0, "Y": 0.5, "X": 0.5}


def test_a_scale_without_unit_is_not_used_and_told(tmp_path: Path) -> None:
    path = ome_zarr(tmp_path / "a.zarr", STACK, axes="CZYX", scale=(1, 1, 0.5, 0.5), unit=None)
    image = open_image(path)
    assert image.source.pixel_size == {}
    assert image.warnings == (
        "Its scale (Y 0.5 and X 0.5) has no unit and is not used; --pixel-size gives it.",
    )


def test_an_array_inside_has_the_axes_of_its_image(tmp_path: Path) -> None:
    path = ome_zarr(tmp_path / "a.zarr", STACK, axes="CZYX", scale=(1, 1, 0.5, 0.5))
    image = open_image(path / "0")
    assert image.source.axes == "CZYX"
    assert image.source.pixel_size["Y"] == 0.5


def test_arrays_without_ome_metadata(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=STACK[0, 0])
    assert open_image(tmp_path / "a.zarr").source.axes == "YX"
    zarr.create_array(tmp_path / "b.zarr", data=STACK[0])
    assert "does not say" in refused(tmp_path / "b.zarr").what
    np.testing.assert_array_equal(whole(tmp_path / "b.zarr", axes="ZYX"), STACK[0])
    names = ["z", "y", "x"]
    zarr.create_array(tmp_path / "c.zarr", data=STACK[0], dimension_names=names)
    assert open_image(tmp_path / "c.zarr").source.axes == "ZYX"


def test_axes_are_known_by_their_type(tmp_path: Path) -> None:
    path = ome_zarr(tmp_path / "a.zarr", STACK, axes="CZYX")
    document = json.loads((path / "zarr.json").read_text())
    axes = document["attributes"]["ome"]["multiscales"][0]["axes"]
    axes[0], axes[1] = {"name": "fluor", "type": "channel"}, {"name": "when", "type": "time"}
    (path / "zarr.json").write_text(json.dumps(document))
    assert open_image(path).source.axes == "TCYX"
    axes[0] = {"name": "angle"}
    (path / "zarr.json").write_text(json.dumps(document))
    assert "what one of its axes is" in refused(path).what


def test_the_first_image_of_bioformats2raw(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.attrs["ome"] = {"version": "0.5", "bioformats2raw.layout": 3}
    for name in ("0", "1"):
        ome_zarr(tmp_path / "a.zarr" / name, STACK, axes="CZYX")
    image = open_image(tmp_path / "a.zarr")
    assert image.source.shape == STACK.shape
    assert image.warnings == ("It holds several images; the first (0) is read.",)


@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        ({"plate": {"wells": [{"path": "A/1"}, {"path": "A/2"}]}}, "is a plate of 2 wells"),
        ({"well": {"images": [{"path": "0"}, {"path": "1"}]}}, "a well with the images 0 and 1"),
        ({"labels": ["cells", "nuclei"]}, "a collection of labels: cells and nuclei"),
        ({}, "without an image"),
        ({"multiscales": []}, "damaged"),
        ({"multiscales": 3}, "damaged"),
        ({"multiscales": [{}]}, "damaged"),
        ({"multiscales": [{"datasets": [{"path": "9"}]}]}, "damaged"),
        ({"multiscales": [{"datasets": [{"path": "../other.zarr"}]}]}, "damaged"),
        ({"multiscales": [{"datasets": [{"path": "/etc"}]}]}, "damaged"),
        ({"multiscales": [{"datasets": [{"path": "0"}], "axes": ["y", "x"]}]}, "damaged"),
    ],
)
def test_groups_that_are_no_image(tmp_path: Path, attributes: dict[str, Any], says: str) -> None:
    path = ome_zarr(tmp_path / "a.zarr", STACK, axes="CZYX")
    ome_zarr(tmp_path / "other.zarr", STACK, axes="CZYX")
    rewrite(path / "zarr.json", attributes={"ome": {"version": "0.5", **attributes}})
    assert says in refused(path).what


def test_chunks_that_are_not_there_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    ome_zarr(path, np.zeros((64, 64), "uint8"), axes="YX", fill_value=0)
    assert "None of its chunks is there" in open_image(path).warnings[0]


def test_a_damaged_chunk_is_an_image_error(tmp_path: Path) -> None:
    path = ome_zarr(tmp_path / "a.zarr", STACK, axes="CZYX")
    chunk = path / "0" / "c" / "0" / "0" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:20])
    assert "cannot be read: its content is damaged" in refused(path).what


@pytest.mark.parametrize("name", ["zarr.json", "0/zarr.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"attributes": 3}', "\x00"])
def test_metadata_that_are_none(tmp_path: Path, name: str, content: str) -> None:
    path = ome_zarr(tmp_path / "a.zarr", STACK, axes="CZYX")
    (path / name).write_text(content)
    refused(path)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("executed"),))


@pytest.mark.parametrize(
    "changes",
    [
        {"compressor": {"id": "pickle"}},
        {"filters": [{"id": "pickle"}]},
        {"filters": [{"id": "delta", "dtype": "<u2"}, {"id": "pickle"}]},
        {"dtype": "|O", "filters": [{"id": "pickle"}]},
    ],
)
def test_pickled_chunks_are_never_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = ome_zarr(tmp_path / "a.zarr", STACK[0, 0], axes="YX", version="0.4", compressors=None)
    for chunk in (path / "0").rglob("[0-9]*"):
        if chunk.is_file():
            chunk.write_bytes(pickle.dumps(Evil()))
    rewrite(path / "0" / ".zarray", **changes)
    # zarr 3 would refuse them too, for want of a type that fits; that is not for us to rely on
    error = refused(path)
    assert '"pickle"' in error.what or "of the type" in error.what
    assert not Path("executed").exists()


@pytest.mark.parametrize("dtype", ["complex64", "<U4", "M8[s]", [("a", "u1"), ("b", "u2")]])
def test_what_is_no_number_is_no_pixel(tmp_path: Path, dtype: Any) -> None:
    path = ome_zarr(tmp_path / "a.zarr", STACK[0, 0], axes="YX", version="0.4")
    kind = np.dtype(dtype if isinstance(dtype, str) else [tuple(field) for field in dtype])
    rewrite(path / "0" / ".zarray", dtype=kind.str if isinstance(dtype, str) else kind.descr)
    assert "its pixels are of the type" in refused(path).what


@pytest.mark.parametrize(
    ("version", "changes"),
    [
        ("0.4", {"chunks": [1 << 20, 1 << 20]}),
        ("0.4", {"chunks": [1 << 40, 1 << 40]}),
        ("0.4", {"chunks": [0, 0]}),
        ("0.4", {"shape": [0, 40]}),
        ("0.4", {"shape": [-5, 40]}),
        ("0.4", {"shape": [40]}),
        (
            "0.5",
            {
                "chunk_grid": {
                    "name": "regular",
                    "configuration": {"chunk_shape": [1 << 20, 1 << 20]},
                }
            },
        ),
        ("0.5", {"shape": [0, 45]}),
        ("0.5", {"data_type": "complex64"}),
        ("0.5", {"data_type": {"name": "numpy.datetime64", "configuration": {"unit": "s"}}}),
        ("0.5", {"codecs": [{"name": "numcodecs.pickle", "configuration": {}}]}),
    ],
)
def test_arrays_that_ask_for_the_impossible_take_no_memory(
    tmp_path: Path, version: str, changes: dict[str, Any]
) -> None:
    path = ome_zarr(tmp_path / "a.zarr", STACK[0, 0], axes="YX", version=version)
    rewrite(path / "0" / ("zarr.json" if version == "0.5" else ".zarray"), **changes)
    tracemalloc.start()
    try:
        refused(path)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.text(max_size=4) | st.floats(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
_PLACES = [
    ("attributes",),
    ("attributes", "ome"),
    ("attributes", "ome", "multiscales"),
    *(("attributes", "ome", "multiscales", 0, key) for key in ("axes", "datasets")),
    ("attributes", "ome", "multiscales", 0, "axes", 1),
    ("attributes", "ome", "multiscales", 0, "axes", 1, "name"),
    ("attributes", "ome", "multiscales", 0, "axes", 1, "unit"),
    ("attributes", "ome", "multiscales", 0, "datasets", 0, "path"),
    ("attributes", "ome", "multiscales", 0, "datasets", 0, "coordinateTransformations"),
    ("attributes", "ome", "multiscales", 0, "datasets", 0, "coordinateTransformations", 0, "scale"),
    ("attributes", "ome", "omero"),
]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(_PLACES), value=_JSON)
def test_whatever_the_metadata_hold_nothing_but_an_image_error_leaves(
    tmp_path: Path, place: tuple[Any, ...], value: Any
) -> None:
    path = ome_zarr(tmp_path / "a.zarr", STACK[0], axes="ZYX")
    document = json.loads((path / "zarr.json").read_text())
    document["attributes"]["ome"]["omero"] = {}
    parent = document
    for key in place[:-1]:
        parent = parent[key]
    parent[place[-1]] = value
    (path / "zarr.json").write_text(json.dumps(document))
    try:
        read = whole(path)
    except ImageError:
        return
    assert sorted(read.shape) == sorted(STACK[0].shape)
