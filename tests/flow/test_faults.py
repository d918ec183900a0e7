"""What goes wrong around a run: processes that die, files that change, disks that fill up.

Whatever happens, finished tiles are not done twice, and nothing wrong is said to be done.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import random
import shutil
import threading
import time
import weakref
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import psutil
import pytest
from test_stitch import same_labels
from toylab import Image, blobs, labels_of, lines, pieces, save

from aiod.errors import AiodError, UsageError
from aiod.flow.models.workers import ModelError
from aiod.flow.record import read_record
from aiod.flow.run import Done
from aiod.flow.tiles import job
from aiod.flow.tiles.assemble import join_tiles
from aiod.flow.tiles.blocks import Block, BlockStore
from aiod.flow.tiles.engine import Engine
from aiod.flow.tiles.journal import SUFFIX, Journal
from aiod.flow.tiling import Plan
from aiod.progress import Step

pytest_plugins = "labs"

Go = Callable[..., Done]


def tile_files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f".aiod/*/*/tiles/*{SUFFIX}"))


def finished_in(folder: Path) -> list[tuple[int, int]]:
    """Frame and tile of each tile that a folder keeps."""
    journal = Journal(folder)
    journal.look()
    return list(journal)


def at_tile(number: int, act: Callable[[], object]) -> Callable[[Step], None]:
    """A progress that acts once, when so many tiles are done."""
    once: list[bool] = []

    def progress(step: Step) -> None:
        if step.unit == "tiles" and step.done >= number and not once:
            once.append(True)
            act()

    return progress


def kill_models() -> None:
    for child in psutil.Process().children(recursive=True):
        if "inside.py" in " ".join(child.cmdline()):
            child.kill()


def stop() -> None:
    raise KeyboardInterrupt


def test_a_run_stopped_in_its_outputs_does_no_tile_again(
    go: Go, picture: tuple[Path, Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    options: dict[str, Any] = {"params": {"calls": str(calls)}, "tile": (50,)}
    with monkeypatch.context() as patch:
        patch.setattr("aiod.flow.outputs.write_overlay", lambda *_, **__: stop())
        with pytest.raises(KeyboardInterrupt):
            go("plane", picture[0], **options)
    assert len(lines(calls)) == 9
    done = go("plane", picture[0], **options)
    assert len(lines(calls)) == 9
    assert same_labels(labels_of(done), pieces(picture[1]))
    assert "overlay" in done.record.images[0].outputs


@pytest.mark.parametrize("where", ["join_tiles", "finish_labels"])
def test_a_run_stopped_after_its_tiles_does_none_again(
    go: Go,
    picture: tuple[Path, Image],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    calls = tmp_path / "calls"
    options: dict[str, Any] = {"params": {"calls": str(calls)}, "tile": (50,)}
    with monkeypatch.context() as patch:
        patch.setattr(f"aiod.flow.segment.{where}", lambda *_, **__: stop())
        with pytest.raises(KeyboardInterrupt):
            go("plane", picture[0], **options)
    done = go("plane", picture[0], **options)
    assert len(lines(calls)) == 9
    assert same_labels(labels_of(done), pieces(picture[1]))
    assert not tile_files(done.folder)


def test_a_tile_that_vanishes_before_the_labels_are_written_is_no_background(
    go: Go, lab: Path, picture: tuple[Path, Image], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def without_one(*words: Any, **more: Any) -> Any:
        tile_files(tmp_path / "out")[0].unlink()
        return join_tiles(*words, **more)

    with monkeypatch.context() as patch:
        patch.setattr("aiod.flow.segment.join_tiles", without_one)
        (made,) = go("plane", picture[0], tile=(50,)).record.images
    assert made.status == "failed"
    assert "is gone" in str(made.error)
    assert same_labels(labels_of(go("plane", picture[0], tile=(50,))), pieces(picture[1]))


PLAN = Plan((4, 4), (2, 2), (1, 1))


def test_a_tile_that_the_system_does_not_let_be_read_may_be_there(tmp_path: Path) -> None:
    store = BlockStore(tmp_path, PLAN, objects=True)
    assert store.known(0, 0) is None
    (tmp_path / f"loop{SUFFIX}").symlink_to(tmp_path / f"loop{SUFFIX}")
    with pytest.raises(AiodError, match="cannot be read"):
        store.look()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"shape": [3, 3]', b'"shape": [300000, 300000]'),
        (b'"shape": [3, 3]', b'"shape": [9]'),
        (b'"dtype": "|u1"', b'"dtype": "|i1"'),
        (b'"dtype": "|u1"', b'"dtype": "O"'),
        (b'"count": 2', b'"count": -1'),
        (b'"count": 2', b'"count": 1e999'),
        (b'"count": 2', b'"count": [[[]]]'),
        (b'"crc32": ', b'"crc32": 1'),
        (b'"codec": "lz4f"', b'"codec": "zstd"'),
    ],
)
def test_a_record_that_is_not_the_tile_of_the_plan_is_none(
    tmp_path: Path, old: bytes, new: bytes
) -> None:
    store = BlockStore(tmp_path / "one", PLAN, objects=True)
    store.folder.mkdir()
    labels = np.zeros((3, 3), np.uint32)
    labels[0, 0], labels[2, 2] = 1, 2
    store.save([((0, 0), Block(2, 0.5), labels)])
    assert store.known(0, 0) == Block(2, 0.5)
    (content,) = contents(store.folder)
    assert old in content
    other = BlockStore(tmp_path / "other", PLAN, objects=True)
    write_journal(other.folder, content.replace(old, new))
    assert other.has(0, 0)
    assert other.known(0, 0) is None
    with pytest.raises(AiodError, match="damaged"):
        other.labels(0, 0)
    other.save([((0, 0), Block(2, 0.5), labels)])
    assert other.known(0, 0) == Block(2, 0.5)
    assert np.array_equal(other.labels(0, 0), labels)


def test_a_tile_with_more_labels_than_objects_or_more_pixels_is_damaged(tmp_path: Path) -> None:
    bomb = imagecodecs.lz4f_encode(bytes(1 << 26))
    many = imagecodecs.lz4f_encode(np.full((3, 3), 7, np.uint32).tobytes())
    head = {"count": 1, "seconds": 0, "parts": 1, "notes": [], "shape": [3, 3], "dtype": "<u4"}
    for number, body in enumerate((bomb, many)):
        line = json.dumps({**head, "codec": "lz4f", "crc32": zlib.crc32(body)}).encode()
        store = BlockStore(tmp_path / str(number), PLAN, objects=True)
        write_journal(store.folder, line + b"\n" + body)
        assert store.known(0, 0) == Block(1, 0)
        with pytest.raises(AiodError, match="damaged"):
            store.labels(0, 0)


def contents(folder: Path) -> list[bytes]:
    """The records of a folder's only file, which are of tiles that none follows."""
    (path,) = folder.glob(f"*{SUFFIX}")
    return [path.read_bytes().partition(b"\n")[2]]


def write_journal(folder: Path, content: bytes) -> None:
    folder.mkdir()
    (folder / f"old{SUFFIX}").write_bytes(b"0 0 %d\n" % len(content) + content)


def test_an_image_that_is_replaced_during_a_run_is_not_said_to_be_done(
    go: Go, picture: tuple[Path, Image]
) -> None:
    path, other = picture[0], blobs((150, 130), seed=5)
    progress = at_tile(2, lambda: save(path, other, "YX"))
    (made,) = go("plane", path, tile=(50,), workers=1, progress=progress).record.images
    assert made.status == "failed"
    assert "was changed while it was segmented" in str(made.error)
    assert not tile_files(path.parent / "out")
    save(path, picture[1], "YX", PhysicalSizeX=0.25, PhysicalSizeY=0.25)
    assert same_labels(labels_of(go("plane", path, tile=(50,))), pieces(picture[1]))


def test_tiles_of_another_image_are_not_taken_from_behind_a_link(
    go: Go, picture: tuple[Path, Image], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        go("plane", picture[0], tile=(50,), workers=1, progress=at_tile(4, stop))
    tiles = tmp_path / "out" / ".aiod" / "cells" / "nuclei" / "tiles"
    tiles.rename(tmp_path / "elsewhere")
    tiles.symlink_to(tmp_path / "elsewhere")
    other = blobs((150, 130), seed=5)
    save(picture[0], other, "YX")
    assert same_labels(labels_of(go("plane", picture[0], tile=(50,))), pieces(other))
    assert len(finished_in(tmp_path / "elsewhere")) >= 4


def test_a_model_that_dies_at_every_start_is_not_started_for_every_tile(
    go: Go, picture: tuple[Path, Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_LOAD", f"die:{tmp_path / 'starts'}")
    with pytest.raises(AiodError, match=r"exit code 3 while it was loaded"):
        go("plane", picture[0], tile=(10,))
    assert len(lines(tmp_path / "starts")) <= 6
    assert not (tmp_path / "out" / "run.json").exists()
    monkeypatch.delenv("TOY_LOAD")
    assert same_labels(labels_of(go("plane", picture[0])), pieces(picture[1]))


def test_images_done_before_a_model_cannot_be_loaded_are_in_the_record(
    go: Go, picture: tuple[Path, Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "b.ome.tif", picture[1], "YX")

    def trouble() -> None:
        monkeypatch.setenv("TOY_LOAD", f"die:{tmp_path / 'starts'}")
        kill_models()

    go("plane", picture[0])
    with pytest.raises(AiodError, match="while it was loaded"):
        go("plane", picture[0], path, tile=None, progress=at_tile(0, trouble))
    (made,) = read_record(tmp_path / "out").images
    assert (made.sample, made.status) == ("cells", "done")


def test_a_model_that_dies_once_in_its_survey_is_asked_again(
    go: Go, picture: tuple[Path, Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "once").touch()
    monkeypatch.setenv("TOY_SURVEY", str(tmp_path / "once"))
    assert same_labels(labels_of(go("plane", picture[0])), pieces(picture[1]))
    assert not (tmp_path / "once").exists()


def test_stopping_does_not_wait_for_a_model_that_is_being_loaded(
    go: Go, picture: tuple[Path, Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = tmp_path / "starts"
    monkeypatch.setenv("TOY_LOAD", f"hang:{starts}")
    since: list[float] = []

    def progress(step: Step) -> None:
        until = time.monotonic() + 30
        while not starts.exists() and time.monotonic() < until:
            time.sleep(0.05)
        since.append(time.monotonic())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go("plane", picture[0], progress=progress)
    assert time.monotonic() - since[0] < 12


def test_a_model_that_is_killed_from_outside_is_started_again(
    go: Go, picture: tuple[Path, Image], tmp_path: Path
) -> None:
    progress = at_tile(3, kill_models)
    done = go("plane", picture[0], params={"seconds": 0.1}, tile=(40,), progress=progress)
    assert same_labels(labels_of(done), pieces(picture[1]))
    assert done.record.images[0].status == "done"


def test_a_model_that_never_has_memory_says_so(go: Go, picture: tuple[Path, Image]) -> None:
    (made,) = go("plane", picture[0], params={"most": 10}, tile=(75,)).record.images
    assert made.status == "failed"
    assert "ran out of memory" in str(made.error)
    assert "--tile" in str(made.error)


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "no space left on device"),
        (MemoryError(), "too little memory"),
    ],
    ids=["disk", "memory"],
)
def test_a_full_disk_or_memory_costs_the_images_that_do_not_fit(
    go: Go,
    picture: tuple[Path, Image],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trouble: Exception,
    words: str,
) -> None:
    written = job.Written.__call__

    def full(self: job.Written, piece: job.Piece) -> Any:
        if self.job.name == "cells":
            raise trouble
        return written(self, piece)

    path = save(tmp_path / "b.ome.tif", picture[1], "YX")
    with monkeypatch.context() as patch:
        patch.setattr(job.Written, "__call__", full)
        done = go("plane", picture[0], path, tile=(50,))
    assert {image.sample: image.status for image in done.record.images} == {
        "b": "done",
        "cells": "failed",
    }
    assert words in str(done.failed[0].error)
    (kept,) = {path.parent for path in tile_files(done.folder)}
    assert len(finished_in(kept)) == 9


def test_a_model_that_cannot_be_loaded_any_more_is_not_tried_with_each_tile(
    go: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, loads = save(tmp_path / "cells.ome.tif", blobs((300, 300)), "YX"), tmp_path / "loads"
    with pytest.raises(KeyboardInterrupt):
        go("plane", path, tile=(15,), progress=at_tile(200, stop))

    def spoil() -> None:
        monkeypatch.setenv("TOY_LOAD", f"die:{loads}")
        kill_models()

    with pytest.raises(ModelError) as caught:
        go("plane", path, tile=(15,), progress=at_tile(150, spoil))
    assert caught.value.kind == "load"
    assert len(lines(loads)) < 20


def test_tiles_that_fail_do_not_keep_their_pixels(
    go: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "cells.ome.tif", np.full((90, 90), 250, np.uint8), "YX")
    held: list[weakref.ref[Any]] = []
    read = job.read_frame

    def kept(*words: Any) -> Any:
        image = read(*words)
        held.append(weakref.ref(image))
        return image

    alive: list[int] = []

    def progress(step: Step) -> None:
        if step.unit == "tiles" and step.done == 36:
            gc.collect()
            alive.append(sum(each() is not None for each in held))

    monkeypatch.setattr(job, "read_frame", kept)
    params = {"trouble": "raise", "while_there": str(path)}
    (made,) = go("plane", path, tile=(15,), params=params, progress=progress).record.images
    assert made.status == "failed"
    assert len(held) >= 36
    assert alive
    assert alive[0] < 8


def test_an_image_may_be_called_lock(go: Go, tmp_path: Path) -> None:
    image = blobs((40, 40))
    done = go("plane", save(tmp_path / "lock.tif", image, "YX"))
    assert same_labels(labels_of(done), pieces(image))


def test_a_folder_whose_record_is_damaged_is_told_of_and_its_labels_are_kept(
    go: Go, picture: tuple[Path, Image]
) -> None:
    done = go("plane", picture[0])
    (done.folder / "run.json").write_text("{")
    with pytest.raises(UsageError, match=r"is not JSON[\s\S]*remove its run.json"):
        go("plane", picture[0])
    (done.folder / "run.json").unlink()
    assert go("plane", picture[0]).earlier == 1


def test_images_of_an_earlier_run_stay_in_the_record_of_their_folder(
    go: Go, picture: tuple[Path, Image], tmp_path: Path
) -> None:
    go("plane", picture[0])
    path = save(tmp_path / "b.ome.tif", picture[1], "YX")
    done = go("plane", path)
    assert [image.sample for image in done.record.images] == ["b", "cells"]
    shutil.rmtree(done.folder / "cells.ome.zarr")
    assert [image.sample for image in go("plane", path).record.images] == ["b"]


def test_labels_of_another_image_of_the_same_name_are_not_overwritten(
    go: Go, picture: tuple[Path, Image], tmp_path: Path
) -> None:
    done = go("plane", picture[0])
    (tmp_path / "more").mkdir()
    other = save(tmp_path / "more" / "cells.ome.tif", blobs((40, 40)), "YX")
    with pytest.raises(UsageError, match="labels of another image called cells"):
        go("plane", other)
    assert same_labels(labels_of(done), pieces(picture[1]))
    moved = picture[0].rename(tmp_path / "more" / "cells.ome.tif")
    again = go("plane", moved)
    assert again.earlier == 1
    assert again.record.images[0].path == str(moved)


def test_a_file_where_labels_should_be_is_told_of(
    go: Go, picture: tuple[Path, Image], tmp_path: Path
) -> None:
    (tmp_path / "out" / "cells.ome.zarr" / "labels").mkdir(parents=True)
    (tmp_path / "out" / "cells.ome.zarr" / "labels" / "nuclei").write_text("mine")
    (made,) = go("plane", picture[0]).record.images
    assert made.status == "failed"
    assert "labels/nuclei, of an earlier run, cannot be removed" in str(made.error)
    assert (tmp_path / "out" / "cells.ome.zarr" / "labels" / "nuclei").read_text() == "mine"


@pytest.mark.parametrize("name", ["with space", "Zellen µm – 细胞", "two\nlines", "100%;'$(x)"])
def test_any_name_will_do(go: Go, tmp_path: Path, name: str) -> None:
    image = blobs((40, 40))
    (tmp_path / name).mkdir()
    path = save(tmp_path / name / f"{name}.tif", image, "YX")
    path.chmod(0o444)
    done = go("plane", path, out=f"{name}/out", exports=("csv", "tiff", "geojson"))
    assert same_labels(labels_of(done), pieces(image))


def test_a_name_that_is_no_text_will_do(go: Go, tmp_path: Path) -> None:
    image = blobs((40, 40))
    path = save(tmp_path / "a.tif", image, "YX").rename(tmp_path / os.fsdecode(b"caf\xe9.tif"))
    done = go("plane", path, exports=("csv", "tiff", "geojson"))
    assert same_labels(labels_of(done), pieces(image))


def test_nothing_is_left_of_an_engine(go: Go, picture: tuple[Path, Image]) -> None:
    me = psutil.Process()
    outside: list[Any] = []

    def look() -> None:
        outside.extend(
            each.laddr.ip for each in me.net_connections() if each.status == psutil.CONN_LISTEN
        )

    go("plane", picture[0], out="first")  # what is made once a process is made now
    before = (threading.active_count(), me.num_fds())
    for number in range(3):
        with pytest.raises(KeyboardInterrupt):
            go("plane", picture[0], out=f"a{number}", tile=(50,), progress=at_tile(2, stop))
        go("plane", picture[0], out=f"b{number}", tile=(50,), progress=at_tile(2, look))
    time.sleep(1)
    assert threading.active_count() <= before[0] + 1
    assert me.num_fds() <= before[1] + 3
    assert set(outside) <= {"127.0.0.1"}


def test_an_engine_that_cannot_start_leaves_no_model(
    lab: Path, monkeypatch: pytest.MonkeyPatch, go: Go, picture: tuple[Path, Image]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EADDRINUSE, "taken")

    monkeypatch.setattr("distributed.LocalCluster", refuse)
    with pytest.raises(OSError, match="taken"):
        go("plane", picture[0])


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_labels_do_not_depend_on_the_order_of_tiles(
    go: Go, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "cells.ome.tif", blobs((150, 130)), "YX")
    first = go("plane", path, tile=(24,), out="first", workers=1)
    unordered = Engine.unordered

    def shuffled(self: Engine, function: Any, items: Any) -> Any:
        return unordered(self, function, random.Random(workers).sample(list(items), 42))

    monkeypatch.setattr(Engine, "unordered", shuffled)
    other = go("plane", path, tile=(24,), out="other", workers=workers)
    assert other.record.images[0].labels_digest == first.record.images[0].labels_digest
