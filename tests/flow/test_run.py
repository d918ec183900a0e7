"""Runs as a program asks for them: a toy model in a real environment, real files, real workers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy import ndimage
from skimage.measure import label
from test_stitch import same_labels
from toylab import Image, blobs, labels_of, lines, pieces, save

from aiod.errors import AiodError, UsageError
from aiod.flow.models.workers import Prediction, Worker
from aiod.flow.record import read_record
from aiod.flow.request import Request
from aiod.flow.results.labels import open_labels
from aiod.flow.results.pyramid import labels_digest
from aiod.flow.run import Done, run
from aiod.flow.tiles.journal import Journal
from aiod.flow.tiles.stitch import Numbering
from aiod.progress import Step
from aiod.registry import load

pytest_plugins = "labs"


def test_tiles_give_the_labels_of_the_whole_image_and_a_full_record(
    go: Callable[..., Done], picture: tuple[Path, Image]
) -> None:
    path, image = picture
    done = go("plane", path, tile=(32, 48), certify=3, exports=("csv", "tiff", "geojson"))
    labels = labels_of(done)
    assert same_labels(labels, pieces(image))
    (made,) = read_record(done.folder).images
    assert made.status == "done"
    assert made.objects == labels.max() == pieces(image).max()
    assert made.plan is not None
    assert made.plan.tiles == 15
    assert made.labels_digest == labels_digest(open_labels(done.folder / str(made.labels)).source)
    assert made.survey == {"median": float(np.median(image))}
    assert made.certificate is not None
    assert made.certificate["f1_at_0.9"] == 1.0
    assert set(made.outputs) == {"overlay", "csv", "tiff", "geojson"}
    assert all((done.folder / file).stat().st_size for file in made.outputs.values())
    assert np.array_equal(np.squeeze(tifffile.imread(done.folder / made.outputs["tiff"])), labels)
    assert any(name.startswith("scipy==") for name in done.record.environment.packages)
    assert (done.folder / "methods.md").read_text()
    assert (done.folder / "citations.bib").exists()
    assert not list(done.folder.glob(".aiod/cells/nuclei/tiles*"))


def test_the_same_request_is_answered_from_the_finished_run(
    go: Callable[..., Done], picture: tuple[Path, Image], tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    params = {"calls": str(calls)}
    first = go("plane", picture[0], params=params, tile=(64,))
    number = len(lines(calls))
    again = go("plane", picture[0], params=params, tile=(64,))
    assert len(lines(calls)) == number == 9
    assert (first.earlier, again.earlier) == (0, 1)
    assert again.record.images == first.record.images
    more = go("plane", picture[0], params=params, tile=(64,), exports=("csv",))
    assert len(lines(calls)) == number
    assert "csv" in more.record.images[0].outputs


def test_no_export_of_an_earlier_image_of_that_name_stays_beside_new_labels(
    go: Callable[..., Done], picture: tuple[Path, Image]
) -> None:
    path, image = picture
    exports = ("csv", "tiff", "geojson")
    first = go("plane", path, exports=exports)
    save(path, image[::-1], "YX")  # another image, where that one was
    second = go("plane", path)
    (before,), (after,) = first.record.images, second.record.images
    assert before.labels_digest != after.labels_digest
    assert set(after.outputs) == {"overlay", *exports}
    written = tifffile.imread(second.folder / after.outputs["tiff"])
    assert np.array_equal(np.squeeze(written), labels_of(second))


def test_a_run_tells_of_the_images_that_were_asked_for(
    go: Callable[..., Done], picture: tuple[Path, Image], tmp_path: Path
) -> None:
    other = save(tmp_path / "other.ome.tif", blobs((40, 50)), "YX")
    go("plane", picture[0])
    done = go("plane", other)
    assert [image.sample for image in done.record.images] == ["cells", "other"]
    assert [image.sample for image in done.images] == ["other"]


def test_finished_labels_are_certified_without_their_tiles(
    go: Callable[..., Done], picture: tuple[Path, Image], tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    params = {"calls": str(calls)}
    for crops, number in ((0, 9), (3, 12), (2, 12), (5, 17)):
        done = go("plane", picture[0], params=params, tile=(64,), certify=crops)
        assert len(lines(calls)) == number
    assert done.record.images[0].certificate is not None
    assert done.record.images[0].certificate["crops"] == 5
    shrunk = go("plane", picture[0], tile=(64,), before=("downsample",), out="small")
    more = go("plane", picture[0], tile=(64,), before=("downsample",), out="small", certify=1)
    assert more.record.images[0].certificate is not None
    assert more.record.images[0].labels_digest == shrunk.record.images[0].labels_digest


def test_an_image_that_has_changed_is_done_again(
    go: Callable[..., Done], picture: tuple[Path, Image]
) -> None:
    go("plane", picture[0])
    other = blobs((150, 130), seed=5)
    save(picture[0], other, "YX")
    assert same_labels(labels_of(go("plane", picture[0])), pieces(other))


def test_a_run_that_was_stopped_goes_on_where_it_was(
    lab: Path, picture: tuple[Path, Image], tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    request = Request(
        model="toy/plane",
        inputs=[picture[0]],
        out=tmp_path / "out",
        params={"calls": str(calls)},
        tile=(32,),
        workers=1,
    )

    def stop(step: Step) -> None:
        if step.unit == "tiles" and step.done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(request, load([lab]), progress=stop)
    journal = Journal(tmp_path / "out/.aiod/cells/nuclei/tiles")
    journal.look()
    finished = len(list(journal))
    before = len(lines(calls))
    assert 6 <= finished < 25
    done = run(request, load([lab]))
    assert same_labels(labels_of(done), pieces(picture[1]))
    assert len(lines(calls)) - before == 25 - finished


def test_pixels_that_the_model_does_not_take_are_refused_unless_a_step_gives_them(
    go: Callable[..., Done], tmp_path: Path
) -> None:
    path = save(tmp_path / "cells.ome.tif", blobs((150, 130)).astype(np.uint16), "YX")
    with pytest.raises(AiodError, match=r"takes pixels of uint8; .* uint16\. --pre to_uint8 "):
        go("bytes", path)
    (made,) = go("bytes", path, before=("to_uint8",)).record.images
    assert made.status == "done"


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tiles each request to a model had."""
    numbers: list[int] = []
    asked = Worker.predict_each

    def ask(self: Worker, images: Any, **more: Any) -> list[Prediction]:
        numbers.append(len(images))
        return asked(self, images, **more)

    monkeypatch.setattr(Worker, "predict_each", ask)
    return numbers


def test_a_quick_model_gets_several_tiles_at_a_time(
    go: Callable[..., Done], tmp_path: Path, requests: list[int]
) -> None:
    image = blobs((400, 400))
    path, calls = save(tmp_path / "cells.ome.tif", image, "YX"), tmp_path / "calls"
    done = go("plane", path, tile=(20,), params={"calls": str(calls)})
    assert same_labels(labels_of(done), pieces(image))
    assert len(lines(calls)) == sum(requests) == 400
    assert max(requests) > 4
    assert set(requests[:2]) == {1}  # nobody knows how quick it is


def test_a_slow_model_gets_one_tile_at_a_time(
    go: Callable[..., Done], tmp_path: Path, requests: list[int]
) -> None:
    path = save(tmp_path / "cells.ome.tif", blobs((60, 40)), "YX")
    go("plane", path, tile=(10,), params={"seconds": 0.8})
    assert requests == [1] * 24


@pytest.mark.parametrize("trouble", ["raise", "kill", "shape"])
def test_a_tile_that_fails_among_many_costs_that_tile_only(
    go: Callable[..., Done], tmp_path: Path, requests: list[int], trouble: str
) -> None:
    image = blobs((400, 400))
    image[226:230, 226:230] = 250
    path, there = save(tmp_path / "cells.ome.tif", image, "YX"), tmp_path / "there"
    there.touch()
    params = {"trouble": trouble, "while_there": str(there)}
    (made,) = go("plane", path, tile=(20,), params=params).record.images
    assert max(requests) > 4
    assert "1 tile of 400 failed" in str(made.error)
    assert "(Y 220–240, X 220–240)" in str(made.error)
    there.unlink()
    assert same_labels(labels_of(go("plane", path, tile=(20,), params=params)), pieces(image))


@pytest.mark.parametrize("trouble", ["raise", "kill", "shape", "float", "negative", "hang"])
def test_a_tile_that_fails_costs_that_tile_only_and_is_tried_again(
    go: Callable[..., Done], tmp_path: Path, trouble: str
) -> None:
    image = blobs((96, 96))
    image[40:44, 40:44] = 250
    path = save(tmp_path / "cells.ome.tif", image, "YX")
    there, calls = tmp_path / "there", tmp_path / "calls"
    there.touch()
    options: dict[str, Any] = {
        "params": {"trouble": trouble, "while_there": str(there), "calls": str(calls)},
        "tile": (32,),
        "timeout": 3.0,
    }
    done = go("plane", path, **options)
    (made,) = done.record.images
    assert made.status == "unfinished"
    assert done.failed == (made,)
    assert made.error is not None
    assert "1 tile of 9 failed" in made.error
    assert "cells, tile 5 (Y 32–64, X 32–64)" in made.error
    labels = labels_of(done)
    assert not labels[32:64, 32:64].any()
    outside = np.ones_like(image, bool)
    outside[32:64, 32:64] = False
    assert np.array_equal((labels > 0)[outside], (image > 100)[outside])
    there.unlink()
    before = len(lines(calls))
    mended = go("plane", path, **options)
    assert len(lines(calls)) == before + 1
    assert mended.record.images[0].status == "done"
    assert same_labels(labels_of(mended), pieces(image))


def test_what_a_model_prints_does_no_harm(go: Callable[..., Done], tmp_path: Path) -> None:
    image = blobs((40, 40))
    image[5, 5] = 250
    there = tmp_path / "there"
    there.touch()
    path = save(tmp_path / "cells.ome.tif", image, "YX")
    done = go("plane", path, params={"trouble": "print", "while_there": str(there)}, timeout=20.0)
    assert same_labels(labels_of(done), pieces(image))


def test_too_little_memory_means_smaller_tiles(
    go: Callable[..., Done], picture: tuple[Path, Image]
) -> None:
    done = go("plane", picture[0], params={"most": 4000})
    assert same_labels(labels_of(done), pieces(picture[1]))
    assert "memory" in " ".join(done.record.images[0].warnings)


def test_a_survey_sees_the_whole_image(
    go: Callable[..., Done], picture: tuple[Path, Image]
) -> None:
    done = go("plane", picture[0], params={"above_median": True}, tile=(40,))
    assert same_labels(labels_of(done), pieces(picture[1], float(np.median(picture[1]))))


def test_one_bad_image_does_not_stop_the_others(
    go: Callable[..., Done], picture: tuple[Path, Image], tmp_path: Path
) -> None:
    content = picture[0].read_bytes()
    (tmp_path / "broken.tif").write_bytes(content[: len(content) // 2])
    (tmp_path / "notes.txt").write_text("no image")
    done = go("plane", picture[0], tmp_path / "broken.tif", tmp_path / "notes.txt")
    states = {image.sample: image.status for image in done.record.images}
    assert states == {"cells": "done", "broken": "failed", "notes": "failed"}
    assert all(image.error for image in done.failed)


def test_many_images_at_once(go: Callable[..., Done], tmp_path: Path) -> None:
    images = [blobs((40, 50), seed) for seed in range(12)]
    paths = [save(tmp_path / f"well{n}.ome.tif", image, "YX") for n, image in enumerate(images)]
    done = go("plane", *paths)
    made = {image.sample: image.objects for image in done.record.images}
    assert made == {f"well{n}": pieces(image).max() for n, image in enumerate(images)}


def test_time_series_and_stacks_are_done_plane_by_plane(
    go: Callable[..., Done], tmp_path: Path
) -> None:
    image = np.stack([np.stack([blobs((40, 60), 10 * t + z) for z in range(3)]) for t in range(2)])
    done = go("plane", save(tmp_path / "movie.ome.tif", image, "TZYX"), tile=(25,))
    labels = labels_of(done)
    assert labels.shape == image.shape
    assert len(np.unique(labels)) - 1 == labels.max() == done.record.images[0].objects
    for t in range(2):
        for z in range(3):
            assert same_labels(labels[t, z], pieces(image[t, z]))


def test_steps_on_labels_of_planes_lose_no_plane(go: Callable[..., Done], tmp_path: Path) -> None:
    image = np.stack([np.stack([blobs((40, 60), 10 * t + z) for z in range(5)]) for t in range(2)])
    path = save(tmp_path / "movie.ome.tif", image, "TZYX")
    done = go("plane", path, tile=(25,), after=("components",), workers=3)
    labels = labels_of(done)
    assert labels.max() == done.record.images[0].objects
    for t in range(2):
        for z in range(5):
            assert same_labels(labels[t, z], pieces(image[t, z]))


def test_planes_are_linked_by_overlap(go: Callable[..., Done], tmp_path: Path) -> None:
    image = np.zeros((4, 60, 60), np.uint8)
    image[0:3, 10:30, 10:30] = 200  # one object through three planes, across a seam
    image[2:4, 40:50, 40:50] = 200
    image[3, 12:30, 12:30] = 200
    image[1, 45:50, 0:5] = 200  # in one plane only
    done = go("plane", save(tmp_path / "stack.ome.tif", image, "ZYX"), tile=(20,), link_z=True)
    assert same_labels(labels_of(done), pieces(image))
    assert done.record.images[0].objects == 3


def test_after_linking_steps_on_labels_see_the_whole_volume(
    go: Callable[..., Done], tmp_path: Path
) -> None:
    image = blobs((20, 70, 80))
    path = save(tmp_path / "stack.ome.tif", image, "ZYX")
    after = ("components", "fill_holes", "min_size:size=100", "clear_border:z=true")
    options: dict[str, Any] = {"params": {"threshold": 160}, "tile": (30,), "link_z": True}
    plain = go("plane", path, out="plain", **options)
    done = go("plane", path, after=after, **options)
    whole = label(labels_of(plain), connectivity=3, background=0)
    filled = np.zeros_like(whole)
    for number in range(1, int(whole.max()) + 1):
        filled[ndimage.binary_fill_holes(whole == number) & (whole == 0)] = number
    filled += whole
    sizes = np.bincount(filled.ravel())
    inside = np.pad(np.zeros_like(filled[1:-1, 1:-1, 1:-1], bool), 1, constant_values=True)
    open_ones = np.unique(filled[inside])
    kept = (filled > 0) & (sizes >= 100)[filled] & ~np.isin(filled, open_ones)
    assert kept.any()
    assert same_labels(labels_of(done), np.where(kept, filled, 0))
    assert done.record.images[0].objects == labels_of(done).max() < labels_of(plain).max()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"link_z": True},
        {"after": ("components", "smooth", "fill_holes")},
        {"link_z": True, "after": ("components", "clear_border")},
    ],
)
def test_where_there_is_no_object_there_is_none(
    go: Callable[..., Done], tmp_path: Path, options: dict[str, Any]
) -> None:
    path = save(tmp_path / "stack.ome.tif", np.zeros((3, 40, 50), np.uint8), "ZYX")
    done = go("plane", path, tile=(20,), exports=("csv", "tiff", "geojson"), certify=2, **options)
    assert not labels_of(done).any()
    assert done.record.images[0].objects == 0
    assert done.failed == ()


@pytest.mark.parametrize(
    ("tile", "halo"), [((1,), (2,)), ((7,), (40,)), ((1000,), (1000,)), ((5, 30), (0, 0))]
)
def test_tiles_and_halos_may_have_any_size(
    go: Callable[..., Done], tmp_path: Path, tile: tuple[int, ...], halo: tuple[int, ...]
) -> None:
    image = blobs((14, 17)) if tile == (1,) else blobs((60, 45))
    done = go("plane", save(tmp_path / "a.ome.tif", image, "YX"), tile=tile, halo=halo)
    labels = labels_of(done)
    assert np.array_equal(labels > 0, image > 100)
    if halo[0]:
        assert same_labels(labels, pieces(image))


def test_labels_past_32_bits_stay_what_they_are(
    go: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = 2**32 + 5
    image = blobs((3, 60, 45))
    path = save(tmp_path / "a.ome.tif", image, "ZYX")
    table = Numbering.table

    def high(self: Numbering, tile: int) -> Image:
        found = table(self, tile)
        return np.where(found > 0, found.astype(np.uint64) + far, 0).astype(np.uint64)

    with monkeypatch.context() as patch:
        patch.setattr(Numbering, "dtype", np.dtype(np.uint64))
        patch.setattr(Numbering, "table", high)
        done = go("plane", path, tile=(20,), out="high")
        more = go("plane", path, tile=(20,), after=("min_size:1",), out="after")
    assert labels_of(done).dtype == np.uint64
    assert labels_of(done).max() > 2**32
    assert same_labels(labels_of(done), labels_of(more))
    assert labels_of(more).max() == done.record.images[0].objects


def test_a_model_for_stacks_takes_them_whole(go: Callable[..., Done], tmp_path: Path) -> None:
    image = blobs((20, 50, 60))
    path = save(tmp_path / "stack.ome.tif", image, "ZYX")
    done = go("stack", path, tile=(8, 20, 20))
    assert same_labels(labels_of(done), pieces(image))


def test_channels_are_chosen_by_name_or_number(go: Callable[..., Done], tmp_path: Path) -> None:
    image = np.stack([blobs((40, 50), seed) for seed in range(3)])
    names = {"Channel": {"Name": ["DAPI", "GFP", "RFP"]}}
    path = save(tmp_path / "three.ome.tif", image, "CYX", **names)
    with pytest.raises(AiodError, match=r"3 channels \(DAPI, GFP and RFP\)[\s\S]*--channel DAPI"):
        go("plane", path)
    by_name = go("plane", path, channels=("gfp",), out="name")
    by_number = go("plane", path, channels=("2",), out="number")
    assert same_labels(labels_of(by_name), pieces(image[1]))
    assert np.array_equal(labels_of(by_name), labels_of(by_number))
    assert by_name.record.images[0].channels == ("GFP",)
    both = go("colour", path, channels=("RFP", "DAPI"), out="both")
    assert same_labels(labels_of(both), pieces(image[[0, 2]].max(axis=0)))


def test_a_colour_picture_can_be_taken_as_gray(go: Callable[..., Done], tmp_path: Path) -> None:
    from PIL import Image as Picture

    image = np.stack([blobs((40, 50), seed) for seed in range(3)], axis=-1)
    Picture.fromarray(image).save(tmp_path / "tissue.png")
    with pytest.raises(AiodError, match=r"red, green and blue[\s\S]*--channel gray"):
        go("plane", tmp_path / "tissue.png")
    done = go("plane", tmp_path / "tissue.png", channels=("gray",))
    gray = np.rint(image @ np.array([0.2125, 0.7154, 0.0721], np.float32)).astype(np.uint8)
    assert same_labels(labels_of(done), pieces(gray))


def test_masks_come_back_at_full_size_after_rescaling(
    go: Callable[..., Done], picture: tuple[Path, Image]
) -> None:
    path, image = picture
    done = go("half", path, rescale=True, tile=(40,))
    labels = labels_of(done)
    assert labels.shape == image.shape
    assert done.record.images[0].plan is not None
    assert done.record.images[0].plan.shape == (75, 65)
    smooth = image > 100
    assert ((labels > 0) == smooth).mean() > 0.95
    plain = go("half", path, out="plain")
    assert any("--rescale" in warning for warning in plain.record.images[0].warnings)


def test_a_diameter_zooms_where_the_model_wants_it_and_is_not_passed_on(
    go: Callable[..., Done], picture: tuple[Path, Image]
) -> None:
    path, image = picture
    done = go("zoomed", path, params={"diameter": 20})
    (made,) = done.record.images
    assert made.plan is not None
    assert (made.plan.shape, made.plan.halo) == ((75, 65), (6, 6))
    assert ((labels_of(done) > 0) == (image > 100)).mean() > 0.95
    assert done.record.parameters.given == {"diameter": 20.0}
    assert go("zoomed", path, out="plain").record.images[0].objects == pieces(image).max()


def test_planes_are_linked_where_the_model_says_so_unless_the_user_does_not_want_it(
    go: Callable[..., Done], tmp_path: Path
) -> None:
    stack = np.repeat(blobs((1, 60, 70)), 4, axis=0)
    path = save(tmp_path / "stack.ome.tif", stack, "ZYX")
    count = pieces(stack[0]).max()
    linked, apart = go("zoomed", path), go("zoomed", path, out="apart", link_z=False)
    assert linked.record.images[0].objects == count
    assert apart.record.images[0].objects == 4 * count
    assert go("plane", path, out="plane").record.images[0].objects == 4 * count
    assert not any("--link-z" in note for note in linked.record.images[0].warnings)


def test_sets_of_steps_give_a_result_each(
    go: Callable[..., Done], picture: tuple[Path, Image]
) -> None:
    before = ("raw=none", "small=downsample:factor=2", "soft=gaussian:sigma=2")
    done = go("plane", picture[0], before=before, after=("min_size:30",), tile=(32,))
    assert [image.set for image in done.record.images] == [
        "nuclei-raw",
        "nuclei-small",
        "nuclei-soft",
    ]
    raw = pieces(picture[1])
    kept = np.isin(raw, np.flatnonzero(np.bincount(raw.ravel()) >= 30)) & (raw > 0)
    assert same_labels(labels_of(done), np.where(kept, raw, 0))
    assert labels_of(done, 1).shape == picture[1].shape
    assert sorted(p.name for p in (done.folder / "cells.ome.zarr" / "labels").iterdir()) == [
        "nuclei-raw",
        "nuclei-small",
        "nuclei-soft",
        "zarr.json",
    ]


def test_classes_are_cropped_to_their_tiles(
    go: Callable[..., Done], picture: tuple[Path, Image]
) -> None:
    done = go("classes", picture[0], params={"kind": "semantic"}, tile=(32,))
    expected = (picture[1] > 100).astype(int) + (picture[1] > 200)
    assert np.array_equal(labels_of(done), expected)
    assert done.record.images[0].objects is None


def test_objects_are_made_of_classes_before_other_steps_on_labels(
    go: Callable[..., Done], picture: tuple[Path, Image]
) -> None:
    with pytest.raises(UsageError, match=r"gives classes[\s\S]*--post components before it"):
        go("classes", picture[0], params={"kind": "semantic"}, after=("min_size:30",))
    done = go(
        "classes",
        picture[0],
        params={"kind": "semantic"},
        after=("objects=components", "objects=min_size:30", "classes=none"),
        tile=(32,),
    )
    classes = (picture[1] > 100).astype(int) + (picture[1] > 200)
    whole = label(classes, connectivity=2, background=0)
    kept = np.isin(whole, np.flatnonzero(np.bincount(whole.ravel()) >= 30)) & (whole > 0)
    assert [image.set for image in done.record.images] == ["nuclei-classes", "nuclei-objects"]
    assert np.array_equal(labels_of(done), classes)
    assert same_labels(labels_of(done, 1), np.where(kept, whole, 0))
    assert [image.objects for image in done.record.images] == [None, labels_of(done, 1).max()]
    kinds = [open_labels(done.folder / str(image.labels)).kind for image in done.record.images]
    assert kinds == ["semantic", "instance"]


def test_of_overlapping_masks_the_one_with_the_higher_score_has_the_pixel(
    go: Callable[..., Done], picture: tuple[Path, Image]
) -> None:
    done = go("plane", picture[0], params={"kind": "masks"})
    assert labels_of(done).max() == 2
    assert len(np.unique(labels_of(done)[75:])) == 1


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((50, 40), np.uint16),
        np.full((1, 1), 7, np.uint8),
        np.full((1, 90), 200, np.uint8),
        blobs((50, 40)).astype(np.int16) - 50,
        blobs((50, 40)).astype(np.uint16) * 16,  # 12 bits
        blobs((50, 40)).astype(np.float32),
        blobs((50, 40)).astype(np.float64),
        np.where(blobs((50, 40)) > 150, np.nan, blobs((50, 40)).astype(np.float32)),
    ],
    ids=["black", "one pixel", "one line", "signed", "12 bit", "float32", "float64", "nan"],
)
def test_unusual_pixels_are_segmented_like_any_others(
    go: Callable[..., Done], tmp_path: Path, image: Image
) -> None:
    tifffile.imwrite(tmp_path / "odd.tif", image)
    done = go("plane", tmp_path / "odd.tif", tile=(16,))
    said = [words for words in done.record.images[0].warnings if "NaN or infinite" in words]
    assert bool(said) == (not np.isfinite(image).all())
    expected = pieces(np.nan_to_num(image, nan=0.0))
    assert same_labels(labels_of(done).reshape(image.shape), expected)


def test_a_folder_with_another_run_is_left_alone(
    go: Callable[..., Done], picture: tuple[Path, Image]
) -> None:
    done = go("plane", picture[0])
    record = (done.folder / "run.json").read_bytes()
    with pytest.raises(UsageError, match="holds another run") as caught:
        go("plane", picture[0], params={"threshold": 50}, tile=(64,))
    assert caught.value.details == (
        "threshold: 100 there, 50 now",
        "--tile: not given there, [64] now",
    )
    with pytest.raises(UsageError, match="holds another run") as caught:
        go("classes", picture[0])
    assert "model: toy/plane/nuclei there, toy/classes/nuclei now" in caught.value.details
    assert (done.folder / "run.json").read_bytes() == record


def test_a_folder_in_use_by_another_run_is_left_alone(
    go: Callable[..., Done], picture: tuple[Path, Image], tmp_path: Path
) -> None:
    from filelock import FileLock

    (tmp_path / "out" / ".aiod").mkdir(parents=True)
    with FileLock(tmp_path / "out" / ".aiod" / ".lock"), pytest.raises(UsageError, match="in use"):
        go("plane", picture[0])


def test_a_run_without_a_folder_gets_one_of_its_own(
    lab: Path, picture: tuple[Path, Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one = run(Request(model="toy/plane", inputs=[picture[0]]), load([lab]))
    same = run(Request(model="toy/plane", inputs=[picture[0]]), load([lab]))
    other = run(Request(model="toy/plane", inputs=[picture[0]], halo=(9,)), load([lab]))
    assert one.folder == same.folder != other.folder
    assert one.folder.parent == Path("aiod-out")
