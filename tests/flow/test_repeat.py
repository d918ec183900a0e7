"""Runs repeated from their records, and whether the masks of two runs are the same."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from test_stitch import same_labels
from toylab import Image, blobs, labels_of, pieces, save

from aiod.errors import AiodError
from aiod.flow.record import read_record, write_record
from aiod.flow.repeat import changes_since, repeat_record, request_of, verify
from aiod.flow.run import Done, run
from aiod.registry import load

pytest_plugins = "labs"

Go = Callable[..., Done]


@pytest.fixture
def again(lab: Path, tmp_path: Path) -> Callable[[Done], Done]:
    """Repeats a run from what its folder holds."""

    def again(first: Done) -> Done:
        record = read_record(first.folder)
        request = request_of(record, out=tmp_path / "again")
        repeats = repeat_record(record, first.folder / "run.json")
        return run(request, load([lab]), repeats=repeats)

    return again


def sheet(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_run_is_repeated_from_its_record_alone(
    go: Callable[..., Done], lab: Path, picture: tuple[Path, Image], tmp_path: Path
) -> None:
    first = go(
        "half",
        picture[0],
        params={"threshold": 120},
        before=("soft=gaussian:sigma=1", "raw=none"),
        after=("min_size:5",),
        rescale=True,
        tile=(50,),
    )
    request = request_of(first.record, out=tmp_path / "again")
    again = run(
        request, load([lab]), repeats=repeat_record(first.record, first.folder / "run.json")
    )
    assert again.record.request == first.record.request
    assert {verdict.state for verdict in verify(again.folder)} == {"same"}
    level = again.folder / str(again.record.images[0].labels) / "0"
    shutil.rmtree(level / "c")
    states = {verdict.set: verdict.state for verdict in verify(again.folder)}
    assert states == {"nuclei-raw": "changed", "nuclei-soft": "same"}


def test_what_was_said_of_an_image_is_said_again(
    go: Go, again: Callable[[Done], Done], tmp_path: Path
) -> None:
    image = np.stack([blobs((40, 50), seed) for seed in range(3)])
    tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(image, 0, 1), metadata={"axes": "QYX"})
    names = {"Channel": {"Name": ["DAPI", "DAPI", "1"]}}
    save(tmp_path / "b.ome.tif", image, "CYX", **names)
    text = "sample,image,axes,channel,pixel_size\none,a.tif,YCX,3,0.5\ntwo,b.ome.tif,,2,\n"
    first = go("plane", samplesheet=sheet(tmp_path / "s.csv", text))
    assert [made.given.model_dump() for made in first.record.images] == [
        {"axes": "YCX", "channels": ("3",), "pixel_size": {"Y": 0.5, "X": 0.5}, "expected": {}},
        {"axes": None, "channels": ("2",), "pixel_size": {}, "expected": {}},
    ]
    assert same_labels(labels_of(first), pieces(image[2]))
    assert same_labels(labels_of(first, 1), pieces(image[1]))
    assert changes_since(read_record(first.folder)) == []
    other = again(first)
    assert other.record.request == first.record.request
    assert [made.labels_digest for made in other.record.images] == [
        made.labels_digest for made in first.record.images
    ]
    assert {verdict.state for verdict in verify(other.folder)} == {"same"}


def test_options_are_kept_with_the_images_they_were_for(
    go: Go, again: Callable[[Done], Done], tmp_path: Path
) -> None:
    image = blobs((30, 40))
    tifffile.imwrite(tmp_path / "a.tif", image)
    first = go("half", tmp_path / "a.tif", axes="XY", pixel_size={"Y": 1.0, "X": 1.0}, rescale=True)
    assert first.record.images[0].shape == (40, 30)
    assert again(first).record.images[0].labels_digest == first.record.images[0].labels_digest


def test_an_image_that_was_refused_is_refused_again(
    go: Go, again: Callable[[Done], Done], tmp_path: Path
) -> None:
    for name in "ab":
        save(tmp_path / f"{name}.tif", blobs((40, 50)), "YX")
    text = "img_path,num_slices,height,width,channels\na.tif,1,40,50,1\nb.tif,1,99,50,1\n"
    first = go("plane", samplesheet=sheet(tmp_path / "s.csv", text))
    other = again(first)
    for done in (first, other):
        assert [made.status for made in done.record.images] == ["done", "failed"]
        assert "Y is 40 instead of 99" in str(done.record.images[1].error)


def test_other_axes_in_a_samplesheet_are_another_image(go: Go, tmp_path: Path) -> None:
    image = blobs((40, 40))
    image[:5] = 0
    tifffile.imwrite(tmp_path / "a.tif", image)
    for axes, expected in (("YX", image), ("XY", image.T)):
        text = f"sample,image,axes\na,a.tif,{axes}\n"
        done = go("plane", samplesheet=sheet(tmp_path / "s.csv", text))
        assert same_labels(labels_of(done), pieces(expected))


def test_sets_and_steps_are_the_same_in_a_repeated_run(
    go: Go, again: Callable[[Done], Done], picture: tuple[Path, Image]
) -> None:
    first = go(
        "plane",
        picture[0],
        before=(
            "gaussian:sigma=0.1",
            "b=none",
            "a=normalise:low=0.5",
            "c_d-e=subtract_background:radius=9",
        ),
        after=("z=smooth", "b=clear_border:z=true", "min_size:size=2.5"),
    )
    other = again(first)
    assert other.record.sets == first.record.sets
    assert other.record.request == first.record.request
    assert other.record.images[0].labels_digest == first.record.images[0].labels_digest


def test_masks_are_not_compared_with_a_record_that_is_another_now(
    go: Go, again: Callable[[Done], Done], picture: tuple[Path, Image]
) -> None:
    first = go("plane", picture[0])
    other = again(first)
    parameters = first.record.parameters.model_copy(update={"given": {"threshold": 1}})
    write_record(first.record.model_copy(update={"parameters": parameters}), first.folder)
    with pytest.raises(AiodError, match="no longer the record of the run that was repeated"):
        verify(other.folder)
    assert [verdict.state for verdict in verify(other.folder, first.folder)] == ["same"]
