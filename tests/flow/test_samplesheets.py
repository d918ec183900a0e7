"""Samplesheets are read as laboratories write them, and every mistake has its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiod.errors import AiodError
from aiod.flow.images.inputs import find_samples


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.tif", "b.tif", "deep/c, d.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"never opened here")
    return tmp_path


def sheet(folder: Path, text: str, *, encoding: str = "utf-8") -> Path:
    path = folder / "samples.csv"
    path.write_bytes(text.encode(encoding))
    return path


def refused(folder: Path, text: str) -> AiodError:
    with pytest.raises(AiodError) as caught:
        find_samples([], samplesheet=sheet(folder, text))
    return caught.value


def test_a_sheet_names_samples_and_what_its_images_do_not_say(folder: Path) -> None:
    text = (
        "sample,image,axes,channel,pixel_size\n"
        'control,a.tif,zyx,DAPI,"2,0.325,0.325"\n'
        'treated,"deep/c, d.tif",,"DAPI, GFP",300nm\n'
        ",b.tif,,2,\n"
    )
    first, second, third = find_samples([], samplesheet=sheet(folder, text))
    assert (first.name, first.path, first.axes) == ("control", folder / "a.tif", "ZYX")
    assert first.channels == ("DAPI",)
    assert first.pixel_size == {"Z": 2.0, "Y": 0.325, "X": 0.325}
    assert (second.name, second.path) == ("treated", folder / "deep" / "c, d.tif")
    assert (second.axes, second.channels) == (None, ("DAPI", "GFP"))
    assert second.pixel_size == pytest.approx({"Y": 0.3, "X": 0.3})
    assert (third.name, third.channels, third.pixel_size) == ("b", ("2",), None)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("start", ["", "\ufeff", "\n\n"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_sheets_of_any_program(folder: Path, separator: str, start: str, end: str) -> None:
    lines = [" Sample ,IMAGE", '"one", a.tif', "", ",", "two,b.tif", ""]
    text = start + end.join(lines).replace(",", separator)
    found = find_samples([], samplesheet=sheet(folder, text))
    assert [(sample.name, sample.path.name) for sample in found] == [
        ("one", "a.tif"),
        ("two", "b.tif"),
    ]


def test_the_sheets_of_aiod_say_how_large_images_are(folder: Path) -> None:
    text = f"img_path,num_slices,height,width,channels\n{folder}/a.tif,1,37,45,2\nb.tif,,,,\n"
    first, second = find_samples([], samplesheet=sheet(folder, text))
    assert first.expected == {"Z": 1, "Y": 37, "X": 45, "C": 2}
    assert second.expected is None
    assert first.misfits({"Z": 1, "Y": 37, "X": 40, "C": 2}) == ("X is 40 instead of 45",)


def test_one_image_may_be_several_samples_of_different_channels(folder: Path) -> None:
    text = "sample,image,channel\nx,a.tif,1\ny,a.tif,2\ny,a.tif,2\n"
    found = find_samples([folder / "b.tif"], samplesheet=sheet(folder, text))
    assert [(sample.name, sample.channels) for sample in found] == [
        ("b", ()),
        ("x", ("1",)),
        ("y", ("2",)),
    ]


def test_samples_of_one_name_are_told_apart(folder: Path) -> None:
    found = find_samples([], samplesheet=sheet(folder, "sample,image\nx,a.tif\nX,b.tif\n"))
    assert [sample.name for sample in found] == ["x", "X_2"]


def test_every_row_that_cannot_be_used_is_named_with_its_line(folder: Path) -> None:
    text = (
        "sample,image,axes,pixel_size\n"
        "ok,a.tif,,\n"
        "gone,nowhere.tif,,\n"
        '"two\nlines",b.tif,QQ,\n'
        ",,,1\n"
        "far,https://example.org/a.tif,,\n"
        "big,a.tif,,huge\n"
        "many,a.tif,,1,2\n"
    )
    error = refused(folder, text)
    path = folder / "samples.csv"
    assert error.what == f"{path} has 6 rows that cannot be used."
    assert error.details == (
        f"{path}:3: {folder / 'nowhere.tif'} does not exist",
        f'{path}:4: "QQ" names no axes',
        f"{path}:6: the cell of image is empty",
        f"{path}:7: https://example.org/a.tif is an address, and images are read from disks",
        f'{path}:8: "huge" is no pixel size: it is not one, two or three numbers',
        f"{path}:9: 5 cells, and the header names 4 columns",
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no column with images"),
        ("a.tif\nb.tif\n", "names no column with images"),
        ("sample,image\n", "names no image: it has no row"),
        ("sample,image,image\nx,a.tif,b.tif\n", "names the column image twice"),
        ("sample,image,pixelsize\nx,a.tif,1\n", '"pixelsize", which is not known'),
        ('sample,image\n"x,a.tif\n', "samples.csv:2 cannot be read"),
        ("sample;image;pixel_size\nx;a.tif;0,325\n", "rows that cannot be used|1 row that cannot"),
        ("img_path,height\na.tif,tall\n", "1 row that cannot be used"),
        ("img_path,height\na.tif,0\n", "1 row that cannot be used"),
    ],
)
def test_sheets_that_cannot_be_used(folder: Path, text: str, says: str) -> None:
    error = refused(folder, text)
    assert str(folder / "samples.csv") in error.what
    with pytest.raises(AiodError, match=says):
        raise error


def test_other_columns_are_left_alone(folder: Path) -> None:
    text = "sample,image,condition,dose_mg\nx,a.tif,control,3\n"
    assert len(find_samples([], samplesheet=sheet(folder, text))) == 1


def test_a_decimal_comma_is_not_guessed_at(folder: Path) -> None:
    error = refused(folder, "sample;image;pixel_size\nx;a.tif;0,325\n")
    assert "may be one number or two; write 0.325 or 1,1" in error.details[0]


def test_other_encodings_and_missing_sheets_are_sentences(folder: Path) -> None:
    with pytest.raises(AiodError, match="is not UTF-8 text"):
        find_samples(
            [], samplesheet=sheet(folder, "sample,image\nZähler,a.tif\n", encoding="latin-1")
        )
    with pytest.raises(AiodError, match=r"samplesheet .* does not exist"):
        find_samples([], samplesheet=folder / "gone.csv")
