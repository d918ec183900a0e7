"""A look at a part gives what the run gives there, and does only what is needed for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import disk
from test_stitch import same_labels
from toylab import Image, blobs, labels_of, lines, save

from aiod.errors import UsageError
from aiod.flow.measure import Memory
from aiod.flow.preview import Preview, Region, preview
from aiod.flow.request import Request
from aiod.flow.run import Done, run
from aiod.flow.tiles.arrival import Arrival
from aiod.flow.tiles.engine import KeptEngine
from aiod.progress import Step
from aiod.registry import load

pytest_plugins = "labs"

HIGH = {"threshold": 150}
"""Small blobs, none of which reaches through more than two tiles."""


@pytest.fixture
def engines() -> Iterator[KeptEngine]:
    with KeptEngine() as engines:
        yield engines


@pytest.fixture
def look(lab: Path, engines: KeptEngine, tmp_path: Path) -> Callable[..., list[Preview]]:
    memory = Memory()

    def look(model: str, image: Path, region: Region, **options: Any) -> list[Preview]:
        progress = options.pop("progress", lambda _: None)
        tell = options.pop("tell", lambda _: None)
        request = Request(model=f"toy/{model}", inputs=[image], **{"workers": 2, **options})
        return preview(
            request,
            load([lab]),
            region,
            tmp_path / "previews",
            progress=progress,
            tell=tell,
            engines=engines,
            measuring=memory,
        )

    return look


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("plane", {}),
        ("plane", {"before": ("downsample:factor=2",)}),
        ("plane", {"before": ("clahe:clip_limit=3",), "params": {"above_median": True}}),
        ("plane", {"after": ("fill_holes", "min_size:40")}),
        ("half", {"rescale": True}),
        ("zoomed", {"params": {"diameter": 7}}),
        ("plane", {"params": {"above_median": True, "threshold": 0}}),
        ("classes", {"params": {"kind": "semantic"}}),
    ],
)
def test_a_look_is_what_the_run_gives_there(
    go: Callable[..., Done],
    look: Callable[..., list[Preview]],
    picture: tuple[Path, Image],
    model: str,
    options: dict[str, Any],
) -> None:
    options = {"tile": (32, 48), **options}
    options["params"] = {**HIGH, **options.get("params", {})}
    whole = labels_of(go(model, picture[0], **options))
    (seen,) = look(model, picture[0], {"Y": (50, 100), "X": (40, 90)}, **options)
    assert seen.axes[-2:] == "YX"
    assert (seen.box.start[-2:], seen.box.stop[-2:]) == ((50, 40), (100, 90))
    assert seen.labels.shape == seen.box.shape
    expected, labels = whole[50:100, 40:90], np.squeeze(seen.labels)
    assert (labels > 0).any()
    if model == "classes":
        np.testing.assert_array_equal(labels, expected)
        assert seen.objects is None
    else:
        assert same_labels(labels, expected)
        assert seen.objects == len(np.unique(expected[expected > 0])) == seen.labels.max()


@pytest.mark.parametrize(("model", "axes"), [("plane", "TYX"), ("plane", "ZYX"), ("stack", "ZYX")])
def test_of_films_and_stacks_one_plane_can_be_looked_at(
    go: Callable[..., Done],
    look: Callable[..., list[Preview]],
    tmp_path: Path,
    model: str,
    axes: str,
) -> None:
    path = save(tmp_path / "many.ome.tif", blobs((5, 70, 80)), axes)
    tile = (3, 40, 40) if model == "stack" else (40, 40)
    whole = labels_of(go(model, path, tile=tile, params=HIGH))
    (seen,) = look(model, path, {axes[0]: (3, 4), "X": (10, 60)}, tile=tile, params=HIGH)
    assert dict(zip(seen.axes, seen.labels.shape, strict=True))[axes[0]] == 1
    assert same_labels(np.squeeze(seen.labels), whole[3, :, 10:60])


def test_what_the_model_sees_after_the_steps_comes_along(
    look: Callable[..., list[Preview]], tmp_path: Path
) -> None:
    film = blobs((3, 90, 80))
    path = save(tmp_path / "film.ome.tif", film, "TYX")
    region = {"T": (1, 2), "Y": (20, 61), "X": (10, 50)}
    (plain,) = look("plane", path, region, params=HIGH)
    assert plain.prepared is None
    (seen,) = look("plane", path, region, params=HIGH, before=("median:radius=2",))
    assert seen.prepared is not None
    assert seen.prepared.start == {"T": 1, "Z": 0, "Y": 20, "X": 10}
    whole = ndimage.median_filter(film[1], footprint=disk(2))
    np.testing.assert_array_equal(np.squeeze(seen.prepared.pixels), whole[20:61, 10:50])
    (seen,) = look("plane", path, region, params=HIGH, before=("downsample:factor=2",))
    assert seen.prepared is not None
    halves = film[1].reshape(45, 2, 40, 2).mean((1, 3))
    np.testing.assert_allclose(np.squeeze(seen.prepared.pixels), halves[10:31, 5:25], atol=1)
    assert seen.prepared.step == {"T": 1, "Z": 1, "Y": 2, "X": 2}
    assert seen.prepared.start == {"T": 1, "Z": 0, "Y": 20, "X": 10}


def test_what_the_model_sees_is_read_in_blocks_and_can_be_stopped(
    look: Callable[..., list[Preview]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = blobs((5, 90, 80))
    path = save(tmp_path / "stack.ome.tif", stack, "ZYX")
    steps = ("median:radius=2",)
    said: list[Step] = []
    monkeypatch.setattr("aiod.flow.preview._BLOCK", {"Z": 2, "Y": 32, "X": 32})
    (seen,) = look("plane", path, {}, params=HIGH, before=steps, progress=said.append)
    assert seen.prepared is not None
    whole = np.stack([ndimage.median_filter(plane, footprint=disk(2)) for plane in stack])
    np.testing.assert_array_equal(np.squeeze(seen.prepared.pixels), whole)
    assert [step.done for step in said if step.what == "what the model sees"] == list(range(27))

    def stop(step: Step) -> None:
        if step.what == "what the model sees" and step.done == 5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        look("plane", path, {}, params=HIGH, before=steps, progress=stop)


def test_what_the_model_sees_is_left_out_where_it_is_too_large(
    look: Callable[..., list[Preview]],
    picture: tuple[Path, Image],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aiod.flow.preview._MOST_PREPARED", 1000)
    notes: list[str] = []
    (seen,) = look("plane", picture[0], {}, before=("gaussian:sigma=2",), tell=notes.append)
    assert seen.prepared is None
    assert seen.labels.any()
    assert any("too large to be shown" in note for note in notes)


def test_several_sets_of_steps_are_looked_at_together(
    look: Callable[..., list[Preview]], picture: tuple[Path, Image]
) -> None:
    seen = look("plane", picture[0], {}, before=("raw=none", "soft=gaussian:sigma=2"))
    assert [each.set for each in seen] == ["nuclei-raw", "nuclei-soft"]
    assert not np.array_equal(seen[0].labels, seen[1].labels)


def test_only_new_tiles_are_done_by_a_model_that_stays_loaded(
    look: Callable[..., list[Preview]],
    picture: tuple[Path, Image],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TOY_LOAD", f"count:{tmp_path / 'loads'}")
    measured: list[Step] = []

    def progress(step: Step) -> None:
        if step.unit == "boxes":
            measured.append(step)

    def tiles(region: Region, **params: Any) -> int:
        calls = tmp_path / "calls"
        before = len(lines(calls))
        given = {"calls": str(calls), **HIGH, **params}
        how = {"tile": (32, 32), "workers": 1, "progress": progress}
        look("plane", picture[0], region, params=given, **how)
        return len(lines(calls)) - before

    assert tiles({"Y": (0, 30), "X": (0, 30)}) == 1
    assert len(measured) > 0
    measured.clear()
    loads = len(lines(tmp_path / "loads"))
    assert tiles({"Y": (0, 30), "X": (0, 60)}) == 1
    assert tiles({"Y": (0, 30), "X": (0, 60)}) == 0
    assert tiles({"Y": (0, 30), "X": (0, 60)}, threshold=160) == 2
    assert measured == []
    assert len(lines(tmp_path / "loads")) == loads


def test_a_look_beside_the_image_is_a_sentence(
    look: Callable[..., list[Preview]], picture: tuple[Path, Image]
) -> None:
    with pytest.raises(UsageError, match="Nothing of the image is in view"):
        look("plane", picture[0], {"Y": (500, 600)})


def test_an_engine_that_an_error_went_through_is_not_used_again(
    look: Callable[..., list[Preview]], engines: KeptEngine, picture: tuple[Path, Image]
) -> None:
    look("plane", picture[0], {"Y": (0, 20)}, params=HIGH)

    def stop(_: Step) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        look("plane", picture[0], {}, params={"threshold": 170}, tile=(32,), progress=stop)
    (seen,) = look("plane", picture[0], {}, params={"threshold": 170}, tile=(32,))
    assert seen.objects


def test_each_tile_is_told_of_with_its_labels(
    lab: Path, picture: tuple[Path, Image], tmp_path: Path
) -> None:
    path, image = picture
    painted = np.zeros(image.shape, np.uint32)
    told: list[int] = []

    def watch(arrival: Arrival) -> None:
        assert (arrival.sample, arrival.set, arrival.axes[-2:]) == ("cells", "nuclei", "YX")
        assert arrival.shape[-2:] == image.shape
        told.append(arrival.place.tile)
        painted[arrival.box.slices[-2:]] = np.squeeze(arrival.labels())

    request = Request(model="toy/plane", inputs=[path], out=tmp_path / "out", tile=(32, 48))
    done = run(request, load([lab]), watch=watch)
    assert sorted(told) == list(range(15))
    np.testing.assert_array_equal(painted > 0, labels_of(done) > 0)
