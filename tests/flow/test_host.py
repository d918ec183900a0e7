"""The process that works for a window: what it tells, how it stops, that nothing of it stays."""

from __future__ import annotations

import io
import json
import queue
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from test_stitch import same_labels
from toylab import Image, labels_of, lines

from aiod.errors import AiodError
from aiod.flow import protocol
from aiod.flow.hosted import Hosted
from aiod.flow.protocol import Message
from aiod.flow.record import RunRecord
from aiod.flow.request import Request
from aiod.flow.run import Done
from aiod.flow.tiles.arrival import thinned, thinned_shape

pytest_plugins = "labs"

SECONDS = 60


class Talk:
    """What a window does: asks, and reads until the answer is whole."""

    def __init__(self) -> None:
        self.heard: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.hosted = Hosted(self.heard.put)

    def ask(self, do: str, request: Request, **said: Any) -> None:
        self.hosted.ask({"do": do, "request": protocol.request_to_json(request), **said})

    def until(self, *events: str) -> list[Message]:
        found: list[Message] = []
        while not found or found[-1].said["event"] not in events:
            found.append(self.heard.get(timeout=SECONDS))
        return found

    def answer(self, do: str, request: Request, **said: Any) -> list[Message]:
        self.ask(do, request, **said)
        return self.until("done", "failed", "plan", "stopped", "lost")


@pytest.fixture
def talk(lab: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Talk]:
    monkeypatch.setenv("AIOD_REGISTRIES", str(lab))
    talk = Talk()
    yield talk
    talk.hosted.close()


@pytest.fixture
def request_for(picture: tuple[Path, Image], tmp_path: Path) -> Callable[..., Request]:
    def make(**options: Any) -> Request:
        given = {"out": tmp_path / "out", "tile": (32, 48), "workers": 1, **options}
        return Request(model="toy/plane", inputs=[str(picture[0])], **given)

    return make


def of(messages: list[Message], event: str) -> list[Message]:
    return [message for message in messages if message.said["event"] == event]


def test_a_run_tells_its_tiles_its_progress_and_its_record(
    talk: Talk, request_for: Callable[..., Request], picture: tuple[Path, Image]
) -> None:
    heard = talk.answer("run", request_for(), id=7)
    assert {message.said["id"] for message in heard} == {7}
    done = heard[-1].said
    assert (done["event"], done["samples"]) == ("done", ["cells"])
    record = RunRecord.model_validate_json(json.dumps(done["record"]))
    labels = labels_of(Done(Path(done["folder"]), record, 0))
    painted = np.zeros(picture[1].shape, np.uint32)
    for tile in of(heard, "tile"):
        assert tile.pixels is not None
        (top, left), (height, width) = tile.said["start"][-2:], tile.pixels.shape[-2:]
        painted[top : top + height, left : left + width] = np.squeeze(tile.pixels)
        assert tile.said["whole"][-2:] == list(picture[1].shape)
    np.testing.assert_array_equal(painted > 0, labels > 0)
    steps = [s.said for s in of(heard, "step") if s.said["unit"] == "tiles"]
    assert (steps[-1]["done"], steps[-1]["total"]) == (15, 15)


def test_looks_keep_the_model_loaded(
    talk: Talk,
    request_for: Callable[..., Request],
    go: Callable[..., Done],
    picture: tuple[Path, Image],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TOY_LOAD", f"count:{tmp_path / 'loads'}")
    region = {"Y": [40, 90], "X": [20, 100]}
    for threshold in (150, 160):
        request = request_for(params={"threshold": threshold})
        heard = talk.answer("preview", request, region=region)
        (seen,) = of(heard, "preview")
        assert heard[-1].said["event"] == "done"
    assert len(lines(tmp_path / "loads")) == 1
    monkeypatch.delenv("TOY_LOAD")
    whole = labels_of(go("plane", picture[0], tile=(32, 48), params={"threshold": 160}))
    assert seen.pixels is not None
    assert seen.said["start"][-2:] == [40, 20]
    assert same_labels(np.squeeze(seen.pixels), whole[40:90, 20:100])


def test_a_plan_is_told_without_anything_being_done(
    talk: Talk, request_for: Callable[..., Request], tmp_path: Path
) -> None:
    (answer,) = talk.answer("plan", request_for())
    assert answer.said["plan"]["rows"][0]["tiles"] == 15
    assert "15 tiles" in answer.said["sentence"]
    assert not (tmp_path / "out").exists()


def test_what_a_user_did_wrong_is_told_in_words_and_the_next_request_is_done(
    talk: Talk, request_for: Callable[..., Request], tmp_path: Path
) -> None:
    failed = talk.answer("run", request_for(params={"treshold": 3}))[-1].said
    assert failed["event"] == "failed"
    assert failed["what"] == "toy/plane/nuclei cannot be run with these parameters."
    assert failed["details"] == ["treshold: no such parameter; did you mean threshold?"]
    assert "defect" not in failed
    talk.hosted.ask({"do": "run", "request": {"model": 3}})
    assert talk.until("failed")[-1].said["defect"]
    assert talk.answer("run", request_for())[-1].said["event"] == "done"


def test_a_stop_is_heard_at_once_and_the_run_goes_on_later(
    talk: Talk, request_for: Callable[..., Request], tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    slow = request_for(params={"seconds": 1.0, "calls": str(calls)})
    talk.ask("run", slow)
    talk.until("tile")
    asked = time.monotonic()
    talk.hosted.stop()
    heard = talk.until("stopped", "done", "failed")
    assert heard[-1].said["event"] == "stopped"
    assert time.monotonic() - asked < 10  # a tile alone waits for one second, the rest for 14
    begun = len(lines(calls))
    assert begun < 15
    heard = talk.answer("run", slow)
    assert heard[-1].said["event"] == "done"
    assert len(lines(calls)) <= 15 + 1  # the tile that was under way is done again
    assert len(of(heard, "tile")) == 15


def test_a_process_that_is_lost_is_told_of_and_replaced(
    talk: Talk, request_for: Callable[..., Request]
) -> None:
    talk.ask("run", request_for(params={"seconds": 1.0}))
    talk.until("tile")
    assert talk.hosted.pid is not None
    process = psutil.Process(talk.hosted.pid)
    models = process.children(recursive=True)
    process.kill()
    lost = talk.until("lost")[-1].said
    assert (lost["code"], lost["pid"]) == (-9, process.pid)
    psutil.wait_procs(models, timeout=15)
    assert not any(model.is_running() for model in models)
    assert talk.answer("run", request_for())[-1].said["event"] == "done"


def test_a_process_that_cannot_be_started_is_told_of_and_tried_again(
    talk: Talk, request_for: Callable[..., Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("sys.executable", "/nowhere/python")
        with pytest.raises(AiodError, match="cannot be started: no such file"):
            talk.ask("plan", request_for())
    assert talk.answer("plan", request_for())[-1].said["event"] == "plan"


@pytest.mark.parametrize("end", ["closed", "killed"])
def test_what_was_kept_for_looks_goes_with_the_process(
    talk: Talk,
    request_for: Callable[..., Request],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    end: str,
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    assert talk.answer("preview", request_for(), region={})[-1].said["event"] == "done"
    assert any(scratch.rglob("*preview*"))
    if end == "closed":
        talk.hosted.close()
    else:
        talk.hosted.kill()
        talk.until("lost")
    until = time.monotonic() + SECONDS
    while any(scratch.iterdir()) and time.monotonic() < until:
        time.sleep(0.1)
    assert list(scratch.iterdir()) == []


def test_it_and_its_models_step_back_where_the_window_needs_a_processor(
    talk: Talk, request_for: Callable[..., Request]
) -> None:
    talk.ask("run", request_for(params={"seconds": 1.0}))
    talk.until("tile")
    process = psutil.Process(talk.hosted.pid)
    family = [process, *process.children(recursive=True)]
    assert len(family) > 1
    assert all(each.nice() > psutil.Process().nice() for each in family)
    groups = [Path(f"/proc/{each.pid}/autogroup") for each in family]
    if groups[0].exists():  # Linux that shares its processors among sessions first
        for _ in range(50):  # which it may have to ask for several times
            nice = {group.read_text().split()[-1] for group in groups}
            if nice == {"10"}:
                break
            time.sleep(0.1)
        assert nice == {"10"}


def test_closing_in_the_middle_leaves_no_process(
    talk: Talk, request_for: Callable[..., Request]
) -> None:
    talk.ask("run", request_for(params={"seconds": 1.0}))
    talk.until("tile")
    assert talk.hosted.pid is not None
    process = psutil.Process(talk.hosted.pid)
    family = [process, *process.children(recursive=True)]
    assert len(family) > 1
    talk.hosted.close()
    _, left = psutil.wait_procs(family, timeout=15)
    assert left == []


def test_closing_while_packages_come_leaves_no_installer(
    talk: Talk,
    request_for: Callable[..., Request],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes all calls and says nothing
        for name in ("UV_FIND_LINKS", "PIP_FIND_LINKS", "UV_INDEX", "PIP_EXTRA_INDEX_URL"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{silent.getsockname()[1]}/simple")
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
        monkeypatch.setenv("AIOD_CACHE", str(tmp_path / "cache"))
        talk.ask("run", request_for())
        caller, _ = silent.accept()
        with caller:
            assert talk.hosted.pid is not None
            host = psutil.Process(talk.hosted.pid)
            installers = [p for p in host.children(recursive=True) if "uv" in p.name()]
            assert installers
            begun = time.monotonic()
            talk.hosted.close()
            _, left = psutil.wait_procs([host, *installers], timeout=5)
            assert left == []
            assert time.monotonic() - begun < 25


@pytest.mark.parametrize(
    "line", [b"[]\n", b"{\n", b'{"bytes": -1, "dtype": "<u4", "shape": [1]}\n', b"\xff\n"]
)
def test_what_is_no_message_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):
        protocol.read(io.BytesIO(line))


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8"])
def test_pixels_arrive_as_they_were_sent(dtype: str) -> None:
    pixels = np.arange(24, dtype=dtype).reshape(2, 3, 4)[:, ::2]
    stream = io.BytesIO()
    protocol.write(stream, {"event": "tile"}, pixels)
    protocol.write(stream, {"event": "done"})
    stream.seek(0)
    first, second = protocol.read(stream), protocol.read(stream)
    assert first is not None
    assert first.pixels is not None
    np.testing.assert_array_equal(first.pixels, pixels)
    assert second == Message({"event": "done"})
    assert protocol.read(stream) is None


@pytest.mark.parametrize("thin", [1, 2, 3, 7])
def test_thinned_tiles_make_the_thinned_image(thin: int) -> None:
    image = np.arange(23 * 31).reshape(23, 31)
    result = np.zeros(thinned_shape(image.shape, thin), int)
    for top in range(0, 23, 5):
        for left in range(0, 31, 6):
            (y, x), part = thinned(image[top : top + 5, left : left + 6], (top, left), thin)
            result[y : y + part.shape[0], x : x + part.shape[1]] = part
    np.testing.assert_array_equal(result, image[::thin, ::thin])
