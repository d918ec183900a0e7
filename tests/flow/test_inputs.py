"""What a user names becomes samples: each image once, in order, with a name fit for a file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toylab import blobs, save

from aiod.errors import AiodError
from aiod.flow.images.inputs import Sample, find_samples
from aiod.flow.images.names import safe_name, sample_names, stem
from aiod.flow.images.zarrs import is_zarr
from aiod.flow.run import Done
from people import an_ordinary_user
from pictures import STACK, ome_zarr

pytest_plugins = "labs"


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    """A folder with images, other files, hidden ones and folders."""
    folder = tmp_path / "plate"
    for name in (
        *("t10.tif", "t2.TIF", "T1.ome.tif", "b.png", "a.jpeg", "c.nd2"),
        *("notes.csv", "Thumbs.db", ".hidden.tif", "._t2.TIF"),
        *("day1/t1.tif", "day1/deep/t1.tif", "day2/t1.tif", ".cache/t1.tif"),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"never opened here")
    ome_zarr(folder / "z.zarr", STACK, axes="CZYX")
    ome_zarr(folder / "z.zarr" / "labels" / "cells", STACK[0], axes="ZYX")
    ome_zarr(folder / "bare", STACK, axes="CZYX")
    return folder


def names(*paths: Path | str, below: Path) -> list[str]:
    return [sample.path.relative_to(below).as_posix() for sample in find_samples(paths)]


def refused(*paths: Path | str, samplesheet: Path | None = None) -> AiodError:
    with pytest.raises(AiodError) as caught:
        find_samples(paths, samplesheet=samplesheet)
    assert caught.value.what.endswith((".", ":"))
    return caught.value


# Files, folders and patterns

IN_FOLDER = ["a.jpeg", "b.png", "bare", "c.nd2", "T1.ome.tif", "t2.TIF", "t10.tif", "z.zarr"]


def test_a_folder_stands_for_the_images_directly_in_it_in_natural_order(plate: Path) -> None:
    assert names(plate, below=plate) == IN_FOLDER


def test_named_files_keep_their_order_and_may_have_any_suffix(plate: Path) -> None:
    paths = [plate / "t10.tif", plate / "notes.csv", plate / "a.jpeg"]
    assert [sample.path for sample in find_samples(paths)] == paths


def test_the_same_file_is_one_sample(plate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(plate)
    (plate / "link.tif").symlink_to(plate / "t10.tif")
    again: list[Path | str] = [
        plate / "t10.tif",
        "t10.tif",
        "./day1/../t10.tif",
        "link.tif",
        plate / "t*.tif",
    ]
    assert [sample.name for sample in find_samples(again)] == ["t10"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("t*.tif", ["t10.tif"]),
        ("t?.TIF", ["t2.TIF"]),
        ("[ab].*", ["a.jpeg", "b.png"]),
        ("*", ["day1/t1.tif", "day2/t1.tif", *IN_FOLDER]),
        ("day*", ["day1/t1.tif", "day2/t1.tif"]),
        ("day*/", ["day1/t1.tif", "day2/t1.tif"]),
        ("**/t1.tif", ["day1/deep/t1.tif", "day1/t1.tif", "day2/t1.tif"]),
        ("**/*.zarr", ["z.zarr"]),
        ("z.zarr/labels/*", ["z.zarr/labels/cells"]),
        ("*.csv", ["notes.csv"]),
    ],
)
def test_patterns_that_the_shell_left_as_they_are(
    plate: Path, pattern: str, expected: list[str]
) -> None:
    assert sorted(names(f"{plate}/{pattern}", below=plate)) == sorted(expected)


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "a[1].tif").write_bytes(b"")
    (tmp_path / "a1.tif").write_bytes(b"")
    assert names(tmp_path / "a[1].tif", below=tmp_path) == ["a[1].tif"]


def test_a_home_folder_is_written_as_a_tilde(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.tif").write_bytes(b"")
    assert find_samples(["~/a.tif"])[0].path == tmp_path / "a.tif"


def test_what_a_run_wrote_into_a_folder_is_no_image_of_it(
    tmp_path: Path, go: Callable[..., Done]
) -> None:
    folder = tmp_path / "plate"
    folder.mkdir()
    for name in "ab":
        save(folder / f"{name}.ome.tif", blobs((40, 50)), "YX")
    ome_zarr(folder / "z.zarr", STACK[0], axes="ZYX")  # its labels go into it
    given = ["a.ome.tif", "b.ome.tif", "z.zarr"]
    paths: list[Path | str] = [folder, str(folder / "*"), folder / "a.ome.tif"]
    assert names(*paths, below=folder) == given
    first = go("plane", folder, out=folder, exports=("tiff",))
    assert not first.failed
    assert len(list(folder.glob("*.png"))) == 3
    assert names(*paths, below=folder) == given
    again = go("plane", folder, out=folder, exports=("tiff",))
    assert (again.earlier, again.samples) == (3, first.samples)


def test_paths_that_lead_nowhere(plate: Path) -> None:
    error = refused(plate / "t11.tif")
    assert error.what == f"{plate / 't11.tif'} does not exist."
    assert error.hint is not None
    assert error.hint.startswith("did you mean")
    assert "is an address" in refused("https://example.org/a.tif").what
    assert "No image matches" in refused(f"{plate}/x*.tif").what
    assert "is no pattern" in refused(f"{plate}/**x").what
    assert refused(f"{plate}/.c*").details == ("found: 1 match, none of which is an image",)
    assert refused().what == "No image was named."
    refused("a\0b.tif")
    refused("")


def test_a_folder_without_an_image_is_told_what_it_has_instead(plate: Path) -> None:
    (plate / "empty").mkdir()
    error = refused(plate / "empty")
    assert error.what == f"{plate / 'empty'} holds no image."
    assert error.details == ("found: 0 entries",)
    for name in ("a.csv", "b.csv", "c.txt"):
        (plate / "empty" / name).write_text("")
    assert refused(plate / "empty").details == ("found: 3 entries, among them 2 .csv and 1 .txt",)
    (plate / "empty" / "inner").mkdir()
    assert "/**/*.tif" in str(refused(plate / "empty").hint)


def test_what_may_not_be_read(plate: Path) -> None:
    (plate / "day1").chmod(0)
    try:
        with an_ordinary_user():
            assert "cannot be read: permission denied" in refused(plate / "day1").what
            sample = find_samples([plate / "day1" / "t1.tif"])  # told of when its turn comes
            assert len(sample) == 1
    finally:
        (plate / "day1").chmod(0o700)


def test_a_broken_link_is_told_of_when_its_turn_comes(tmp_path: Path) -> None:
    (tmp_path / "a.tif").symlink_to(tmp_path / "a.tif")
    assert len(find_samples([tmp_path / "a.tif"])) == 1
    assert len(find_samples([tmp_path])) == 1


# Names


def test_names_come_from_files(plate: Path) -> None:
    paths = ["T1.ome.tif", "z.zarr", "b.png", "z.zarr/labels/cells", "bare"]
    found = find_samples([plate / path for path in paths])
    assert [sample.name for sample in found] == ["T1", "z", "b", "z_labels_cells", "bare"]
    assert is_zarr(plate / "bare")


def test_files_of_one_name_get_their_folders_or_a_number(plate: Path) -> None:
    found = find_samples([plate / "day1" / "t1.tif", plate / "day2" / "t1.tif", plate / "b.png"])
    assert [sample.name for sample in found] == ["day1_t1", "day2_t1", "b"]
    for name in ("b.tif", "B.jpg"):
        (plate / name).write_bytes(b"")
    found = find_samples([plate / "b.png", plate / "b.tif", plate / "B.jpg"])
    assert [sample.name for sample in found] == ["plate_b", "plate_b_2", "plate_B_3"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cells 1", "cells_1"),
        ("../../etc/passwd", "etc_passwd"),
        ("a\\b:c*d?e", "a_b_c_d_e"),
        ("con", "image_con"),
        ("NUL.txt", "image_NUL.txt"),
        ("", "image"),
        ("...", "image"),
        (".hidden", "hidden"),
        ("-rf", "rf"),
        ("Zähler µ", "Zähler_μ"),
        ("a\u202eb", "a_b"),
        ("x" * 500, "x" * 100),
        ("細" * 100, "細" * 60),
    ],
)
def test_names_that_every_system_takes(text: str, expected: str) -> None:
    assert safe_name(text) == expected


@given(st.lists(st.tuples(st.text(max_size=300), st.just(Path("a.tif"))), max_size=8))
def test_any_names_become_different_names_of_files(known: list[tuple[str, Path]]) -> None:
    found = sample_names(known)
    assert len({name.casefold() for name in found}) == len(known)
    for name in found:
        assert re.fullmatch(r"[\w+=@][\w.+=@-]*", name)
        assert ".." not in name
        assert not name.endswith(".")
        assert len(name.encode()) < 200
        assert os.path.basename(name) == name  # noqa: PTH119


def test_a_stem_is_never_empty() -> None:
    assert stem(Path("cells.v2.ome.tiff")) == "cells.v2"
    assert stem(Path("cells.2024.czi")) == "cells.2024"
    assert stem(Path(".zarr")) != ""
    assert stem(Path("slide.0325")) == "slide.0325"


# Sizes that AIoD's samplesheet states


def test_sizes_that_are_not_as_stated_are_told() -> None:
    sample = Sample("a", Path("a.tif"), expected={"Z": 1, "Y": 37, "X": 44, "C": 2})
    assert sample.misfits({"C": 3, "Y": 37, "X": 45}) == (
        "X is 45 instead of 44",
        "C is 3 instead of 2",
    )
    assert Sample("a", Path("a.tif")).misfits({"Y": 3, "X": 3}) == ()
