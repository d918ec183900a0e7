"""A model's worker: what it answers, what it survives, and what is left of it."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from aiod.errors import UsageError
from aiod.flow.models import devices
from aiod.flow.models.devices import choose_device
from aiod.flow.models.environments import Environment
from aiod.flow.models.process import Tail
from aiod.flow.models.workers import ModelError, Worker, WorkerSpec
from people import IN_A_WORLD_OF_ITS_OWN

pytest_plugins = "toys"

GOOD = """
import numpy as np

def load(weights, *, config, device):
    return (weights, config, device)

def predict(model, image, *, axes, threshold=100):
    return (image > threshold).astype(np.int32)
"""
IMAGE = np.arange(6 * 8, dtype=np.uint16).reshape(6, 8) * 5
MakeWorker = Callable[..., Worker]


@dataclass(frozen=True)
class Histogram:
    values: np.ndarray[Any, Any]
    counts: np.ndarray[Any, Any]


@pytest.fixture
def make(toy_environment: Environment, tmp_path: Path) -> Iterator[MakeWorker]:
    """Start a worker with a runner of this text; `predict=` replaces the body of a good one's."""
    made: list[Worker] = []

    def make(text: str = GOOD, *, predict: str | None = None, **changes: Any) -> Worker:
        if predict is not None:
            body = "\n".join("    " + line for line in predict.strip().splitlines())
            text = f"""
import ctypes, os, resource, signal, subprocess, sys, threading, time, warnings
import numpy as np

def load(weights, *, config, device):
    return None

def predict(model, image, *, axes, bad=True):
    if not bad:
        return (image > 100).astype(np.int32)
{body}
"""
        runner = tmp_path / "toy.py"
        runner.write_text(text)
        spec = WorkerSpec(toy_environment.python, runner, None, None, "cpu", 1, 30.0, 30.0)
        made.append(Worker(replace(spec, **changes)))
        return made[-1]

    yield make
    for worker in made:
        worker.close()


PUPPET = """
import ctypes, os, resource, signal, subprocess, sys, threading, time, warnings
import numpy as np

def load(weights, *, config, device):
    return None

def predict(model, image, *, axes, do="return (image > 100).astype(np.int32)"):
    scope = {**globals(), "image": image, "axes": axes}
    exec("def act():\\n" + "\\n".join("    " + line for line in do.splitlines()), scope)
    return scope["act"]()
"""


@pytest.fixture(scope="module")
def puppet(
    toy_environment: Environment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worker]:
    """One worker for many tests, whose model does what it is told: `predicted(puppet, do=…)`."""
    runner = tmp_path_factory.mktemp("puppet") / "toy.py"
    runner.write_text(PUPPET)
    spec = WorkerSpec(toy_environment.python, runner, None, None, "cpu", 1, 30.0, 30.0)
    with Worker(spec) as worker:
        yield worker


def predicted(worker: Worker, **params: Any) -> np.ndarray[Any, Any]:
    return worker.predict(IMAGE, axes="YX", params=params).labels


def failure(worker: Worker, **params: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        worker.predict(IMAGE, axes="YX", params=params)
    assert "Traceback" not in str(caught.value)
    return caught.value


def is_gone(pid: int, seconds: float = 10) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state in "ZX":
            return True
        time.sleep(0.05)
    return False


def shared_memory() -> set[str]:
    folder = Path("/dev/shm")
    return {path.name for path in folder.glob("psm_*")} if folder.is_dir() else set()


# --- what a good model gets and gives ------------------------------------------------------------


def test_labels_have_the_spatial_shape_of_the_image_and_are_uint32(puppet: Worker) -> None:
    found = puppet.predict(IMAGE, axes="YX", params={"do": "return image > 50"})
    assert found.labels.dtype == np.uint32
    np.testing.assert_array_equal(found.labels, IMAGE > 50)
    assert 0 < found.seconds < 5
    assert found.messages == ()


@pytest.mark.parametrize(
    ("axes", "shape"), [("YX", (5, 7)), ("CYX", (2, 5, 7)), ("YXC", (5, 7, 3)), ("ZYX", (4, 5, 7))]
)
def test_channels_are_left_out_wherever_they_stand(
    puppet: Worker, axes: str, shape: tuple[int, ...]
) -> None:
    do = "return image.sum(axes.index('C')) if 'C' in axes else image"
    image = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    found = puppet.predict(image, axes=axes, params={"do": do}).labels
    expected = image.sum(axes.index("C")) if "C" in axes else image
    np.testing.assert_array_equal(found, expected)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    image=arrays.arrays(
        st.sampled_from(["u1", "<u2", ">u2", "i4", ">i4", "f4", "f8", "?", "u8", "f2"]),
        arrays.array_shapes(min_dims=2, max_dims=2, max_side=40),
        fill=st.nothing(),
    ),
    order=st.sampled_from("CF"),
)
def test_a_model_sees_exactly_the_pixels_it_is_sent(
    puppet: Worker, image: np.ndarray[Any, Any], order: Any
) -> None:
    """Whatever the dtype, the byte order and the strides; in one worker, blocks used again."""
    sent = np.array(image, order=order)[:, ::-1]
    do = "return np.full(image.shape, sum(image.tobytes()), np.uint64)"
    found = puppet.predict(sent, axes="YX", params={"do": do}).labels
    native = np.ascontiguousarray(sent).astype(sent.dtype.newbyteorder("="))
    raw = native.tobytes()
    assert int(found.flat[0]) == sum(raw) % 2**32
    assert int(found.flat[-1]) == sum(raw) % 2**32


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "<u2", ">u2", "i4", "u4", "i8", ">i8", "u8"])
def test_labels_of_any_whole_dtype_are_taken(puppet: Worker, dtype: str) -> None:
    labels = predicted(puppet, do=f"return (image > 100).astype('{dtype}')")
    np.testing.assert_array_equal(labels, IMAGE > 100)


def test_labels_are_taken_in_fortran_order_and_as_a_view(puppet: Worker) -> None:
    labels = predicted(puppet, do="return np.asfortranarray(image.astype('i8'))[::-1][::-1]")
    np.testing.assert_array_equal(labels, IMAGE)


def test_the_largest_label_is_the_largest_of_uint32(puppet: Worker) -> None:
    assert predicted(puppet, do="return np.full(image.shape, 2**32 - 1)").max() == 2**32 - 1


def test_load_gets_weights_config_and_device_as_texts(make: MakeWorker, tmp_path: Path) -> None:
    text = GOOD.replace("return (weights", "assert 0, (weights")
    worker = make(text, weights=Path("some/w.pth"), config=tmp_path / "c.yml", device="cuda:1")
    told = str(failure(worker))
    assert f"'{Path.cwd() / 'some' / 'w.pth'}', '{tmp_path / 'c.yml'}', 'cuda:1'" in told


def test_the_model_is_loaded_once(make: MakeWorker) -> None:
    worker = make(
        GOOD.replace("return (weights", "global n; n += 1; return (weights").replace(
            "return (image > threshold).astype(np.int32)", "return np.full(image.shape, n)"
        )
        + "\nn = 0"
    )
    assert {int(predicted(worker).max()) for _ in range(3)} == {1}


def test_a_tile_does_not_change_under_a_model_that_keeps_or_writes_it(make: MakeWorker) -> None:
    worker = make(predict="kept.append(image); image[:] = 3; return kept[0]")
    text = worker.spec.runner.read_text() + "\nkept = []\n"
    worker.spec.runner.write_text(text)
    before = IMAGE.copy()
    assert predicted(worker).max() == 3
    worker.predict(IMAGE[:2] * 0, axes="YX", params={"bad": False})
    np.testing.assert_array_equal(IMAGE, before)
    assert predicted(worker).max() == 3


def test_larger_tiles_and_answers_get_larger_blocks(puppet: Worker) -> None:
    params = {"do": "return image.astype('i8')"}
    for side in (1, 300, 1000, 3):
        image = np.random.default_rng(side).integers(0, 60_000, (side, side), "u2")
        np.testing.assert_array_equal(puppet.predict(image, axes="YX", params=params).labels, image)


def test_warnings_are_messages_of_the_prediction_once(puppet: Worker) -> None:
    do = (
        "for _ in range(9): warnings.warn('the cells are\\n small')\n"
        "warnings.warn('old', DeprecationWarning)\nprint('not a message')\nreturn image"
    )
    found = puppet.predict(IMAGE, axes="YX", params={"do": do})
    assert found.messages == ("the cells are small",)
    assert puppet.predict(IMAGE, axes="YX", params={}).messages == ()


# --- several tiles in one request ---------------------------------------------------------------


def test_several_tiles_in_one_request_get_what_each_gets_by_itself(puppet: Worker) -> None:
    params = {"do": "if image.any(): warnings.warn(f'bright {image.max()}')\nreturn image // 2"}
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 200, (side, 9), "u2") for side in (1, 300, 7)]
    images.append(np.zeros((5, 5), "u2"))
    together = puppet.predict_each(images, axes="YX", params=params)
    alone = [puppet.predict(image, axes="YX", params=params) for image in images]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one.labels, other.labels)
        assert one.labels.dtype == np.uint32
        assert one.messages == other.messages
    assert [len(found.messages) for found in together] == [1, 1, 1, 0]


def test_answers_of_several_tiles_may_be_too_large_for_the_block(make: MakeWorker) -> None:
    worker = make(predict="return image.astype('i8' if image.size > 10 else 'u1')")
    images = [np.full((side, side), side, "u1") for side in (3, 200, 2, 250)]
    found = worker.predict_each(images, axes="YX", params={})
    for image, prediction in zip(images, found, strict=True):
        np.testing.assert_array_equal(prediction.labels, image)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("raise ValueError('no such cell')", "failed on these 3 tiles: ValueError: no such cell"),
        ("return image[:2]", "returned labels of shape"),
        ("return None", "returned None"),
        ("return image / 3", "dtype float64"),
        ("return image.astype(int) - 9", "negative label"),
    ],
)
def test_where_one_of_several_tiles_fails_none_has_labels(
    puppet: Worker, wrong: str, words: str
) -> None:
    images = [np.full((4, 4), value, "u1") for value in (1, 7, 2)]
    params = {"do": f"if image[0, 0] == 7: {wrong}\nreturn image"}
    pid = puppet.pid
    with pytest.raises(ModelError, match=words):
        puppet.predict_each(images, axes="YX", params=params)
    assert puppet.pid == pid
    found = puppet.predict_each(images, axes="YX", params={"do": "return image"})
    assert [int(each.labels.max()) for each in found] == [1, 7, 2]


def test_several_tiles_have_the_time_of_one(make: MakeWorker) -> None:
    worker = make(predict="time.sleep(image[0, 0] / 10)\nreturn image", predict_seconds=2.0)
    assert len(worker.predict_each([np.ones((4, 4), "u1")] * 4, axes="YX", params={})) == 4
    with pytest.raises(ModelError, match="gave no answer within 2 s on these 30 tiles") as caught:
        worker.predict_each([np.full((4, 4), 9, "u1")] * 30, axes="YX", params={})
    assert caught.value.kind == "hung"


def test_a_model_may_write_each_answer_into_the_same_array(make: MakeWorker) -> None:
    worker = make(predict="kept[...] = image\nreturn kept")
    text = worker.spec.runner.read_text() + "\nkept = np.zeros((4, 4), np.int32)\n"
    worker.spec.runner.write_text(text)
    images = [np.full((4, 4), value, "u1") for value in (1, 7, 2)]
    found = worker.predict_each(images, axes="YX", params={})
    assert [int(each.labels.max()) for each in found] == [1, 7, 2]


# --- survey --------------------------------------------------------------------------------------

SURVEY = """
import numpy as np

def load(weights, *, config, device):
    pass

def survey(statistics, *, percent=50, of=0):
    values, counts = statistics[of]["values"], statistics[of]["counts"]
    middle = values[np.searchsorted(counts.cumsum(), counts.sum() * percent / 100)]
    return {"level": middle, "channels": len(statistics), "all": {"values": values[:2]}}

def predict(model, image, *, axes, level, channels=0, all=None, size=1):
    return (image > level).astype(int) * size
"""


def test_survey_gets_exact_histograms_and_its_finds_reach_predict(make: MakeWorker) -> None:
    worker = make(SURVEY)
    values, counts = np.unique(IMAGE, return_counts=True)
    histograms = [Histogram(values, counts), Histogram(values.astype("f4"), counts)]
    params = {"percent": 25, "size": 2}
    found = worker.survey(histograms, params)
    assert found == {"level": 55, "channels": 2, "all": {"values": [0, 5]}}
    assert type(found["level"]) is int
    labels = predicted(worker, **params, **found)
    np.testing.assert_array_equal(labels, (IMAGE > 55) * 2)


def test_a_runner_without_a_survey_finds_nothing(make: MakeWorker) -> None:
    assert make().survey([Histogram(np.arange(2), np.arange(2))], {"threshold": 1}) == {}


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        ("3", "survey returned a int where a dict of plain values is expected"),
        ("{'a': float('nan')}", 'survey returned nan under "a" where a finite number is expected'),
        ("{'a': np.array([1, np.inf])}", 'survey returned inf under "a"'),
        ("{'a': {'b': object()}}", 'survey returned a object under "a"; plain values'),
        ("{'a': ['x' * 100] * 20_000}", "survey returned more than 1,000,000 characters"),
    ],
)
def test_what_survey_must_not_return_is_a_sentence(
    make: MakeWorker, returned: str, told: str
) -> None:
    worker = make(f"{GOOD}\ndef survey(statistics):\n    return {returned}\n")
    with pytest.raises(ModelError, match=told) as caught:
        worker.survey([], {})
    assert caught.value.kind == "answer"
    assert predicted(worker).any()


# --- masks that overlap --------------------------------------------------------------------------


def overlapped(puppet: Worker, masks: Any, scores: Any) -> np.ndarray[Any, Any]:
    params = {"do": f"return np.array({masks!r}, bool), np.array({scores!r})"}
    shape = np.shape(masks)[1:]
    return puppet.predict(np.zeros(shape, "u1"), axes="YX", params=params).labels


def test_of_overlapping_masks_the_higher_score_wins(puppet: Worker) -> None:
    masks = [[[1, 1, 1, 0]], [[0, 1, 1, 1]]]
    assert overlapped(puppet, masks, [0.5, 0.4]).tolist() == [[1, 1, 1, 2]]
    assert overlapped(puppet, masks, [0.4, 0.5]).tolist() == [[1, 2, 2, 2]]


def test_of_equal_scores_the_smaller_mask_wins_then_the_earlier(puppet: Worker) -> None:
    assert overlapped(puppet, [[[0, 1, 1]], [[1, 1, 1]]], [1, 1]).tolist() == [[2, 1, 1]]
    assert overlapped(puppet, [[[1, 1, 1]], [[0, 1, 1]]], [1, 1]).tolist() == [[1, 2, 2]]
    assert overlapped(puppet, [[[1, 1, 0]], [[0, 1, 1]]], [1, 1]).tolist() == [[1, 1, 2]]


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    masks=arrays.arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 5))),
    data=st.data(),
)
def test_every_pixel_goes_to_the_best_mask_that_covers_it(
    puppet: Worker, masks: np.ndarray[Any, Any], data: st.DataObject
) -> None:
    count = len(masks)
    scores = data.draw(st.lists(st.sampled_from([0.1, 0.5, 2]), min_size=count, max_size=count))
    found = overlapped(puppet, masks.tolist(), scores)
    best = sorted(range(count), key=lambda i: (-scores[i], masks[i].sum(), i))
    for place in np.ndindex(masks.shape[1:]):
        covering = [i + 1 for i in best if masks[(i, *place)]]
        assert found[place] == (covering[0] if covering else 0)


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        ("np.zeros((0, 6, 8), bool), []", None),
        ("np.zeros((2, 6, 9), bool), [1, 2]", r"masks of shape \(2, 6, 9\) and dtype bool"),
        ("np.zeros((2, 6, 8), int), [1, 2]", "dtype int64 where .* bool are expected"),
        ("np.zeros((2, 6, 8), bool), [1]", "2 masks with scores of shape"),
        ("np.zeros((2, 6, 8), bool), ['a', 'b']", "dtype <U1 where one number a mask is expected"),
        ("np.zeros((2, 6, 8), bool), [1, np.nan]", "a score that is not finite"),
        ("[[1]], [2]", "a pair that starts with a list, not with masks"),
    ],
)
def test_pairs_that_are_no_masks_with_scores(
    puppet: Worker, returned: str, told: str | None
) -> None:
    do = f"return {returned}"
    if told is None:
        assert not predicted(puppet, do=do).any()
    else:
        error = failure(puppet, do=do)
        assert error.kind == "answer"
        assert re.search(told, str(error)), error


# --- answers that are none -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        ("None", "returned None where a numpy array of labels is expected"),
        ("[1, 2, 3]", "returned a list where"),
        ("{}", "returned a dict where"),
        ("3", "returned a int where"),
        ("np.float32(3)", "returned a numpy.float32 where"),
        ("image[:-1]", r"labels of shape \(5, 8\) for a tile of shape \(6, 8\)"),
        ("image.T", r"labels of shape \(8, 6\)"),
        ("image[None]", r"labels of shape \(1, 6, 8\)"),
        ("image * 1.0", "labels of dtype float64; labels are whole numbers"),
        ("np.full(image.shape, np.nan)", "labels of dtype float64"),
        ("image.astype(complex)", "labels of dtype complex128"),
        ("image.astype(object)", "labels of dtype object"),
        ("image.astype(str)", "labels of dtype <U"),
        ("image.astype(int) - 7", "a negative label, -7"),
        ("image.astype(int) + 2**32", "the label 42949\\d+; labels are below"),
        ("image.astype(np.uint64) + 2**63", "the label 9223372036854776043"),
    ],
)
def test_an_answer_that_is_none_is_a_sentence_and_the_next_tile_is_done(
    puppet: Worker, returned: str, told: str
) -> None:
    error = failure(puppet, do=f"return {returned}")
    assert error.kind == "answer"
    assert re.search(told, str(error)), error
    pid = puppet.pid
    np.testing.assert_array_equal(predicted(puppet), IMAGE > 100)
    assert puppet.pid == pid


# --- models that misbehave -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "noise",
    [
        "print('no newline', end='')",
        "sys.stdout.write('{\"task\": 1}')",
        "os.write(1, b'half a line')",
        "subprocess.run(['echo', 'from a child'])",
        "ctypes.CDLL(None).puts(b'from C'); ctypes.CDLL(None).fflush(None)",
        "os.write(1, bytes(range(256)))",
        "sys.stdout.close()",
        "sys.stdout = None; sys.stderr = None",
        "os.close(1)",
        "threading.Thread(target=print, args=('from a thread',)).start()",
    ],
)
def test_what_a_model_prints_never_reaches_the_protocol(make: MakeWorker, noise: str) -> None:
    worker = make(predict=f"{noise}\nreturn image")
    for _ in range(2):
        np.testing.assert_array_equal(predicted(worker), IMAGE)


def test_a_model_that_asks_on_stdin_hears_nothing(puppet: Worker) -> None:
    error = failure(puppet, do="input('Download 3 GB? [y/n]')")
    assert error.kind == "raised"
    assert "EOFError" in error.what
    assert predicted(puppet).any()


def test_a_model_that_prints_a_gigabyte_costs_the_host_no_memory(puppet: Worker) -> None:
    do = "for _ in range(1000): os.write(1, b'x' * 1_000_000)\nprint('the end')\n1 / 0"
    predicted(puppet)
    before = rss()
    error = failure(puppet, do=do)
    assert rss() - before < 60_000_000
    assert len(error.log) < 200_000
    assert "the end" in error.log
    assert all(len(line) <= 300 for line in error.details)


def rss() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@given(st.lists(st.binary(max_size=50)), st.integers(1, 40))
def test_a_tail_holds_the_last_bytes(parts: list[bytes], limit: int) -> None:
    tail, whole = Tail(limit), b""
    for part in parts:
        mark = tail.position
        tail.add(part)
        whole += part
        assert tail.since(mark) == part[-limit:].decode(errors="replace")
    assert tail.since(0) == whole[-limit:].decode(errors="replace")


def test_an_exception_is_told_in_one_sentence_with_its_traceback_in_the_log(
    puppet: Worker,
) -> None:
    error = failure(puppet, do="print('so far so good')\nraise KeyError('no\\n cells')")
    assert error.kind == "raised"
    assert re.match(r"toy failed on this tile: KeyError: .* \(\w+\.py:\d+\)\.$", error.what)
    assert "so far so good" in error.log
    assert 'return scope["act"]()' in error.log  # the line of the runner
    pid = puppet.pid
    assert predicted(puppet).any()
    assert puppet.pid == pid


@pytest.mark.parametrize(
    ("act", "told"),
    [
        ("sys.exit(3)", r"ended its process with sys.exit\(3\)"),
        ("sys.exit('no GPU')", r"sys.exit\('no GPU'\)"),
        ("os._exit(4)", "ended with exit code 4"),
        # The protocol's files among them: whoever notices first ends it, the host or itself.
        ("os.closerange(3, 99)", r"(was killed by SIGTERM|ended with exit code 1)"),
        ("os._exit(0)", "ended with exit code 0"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was killed by SIGSEGV"),
        ("os.abort()", "was killed by SIGABRT"),
        ("threading.Thread(target=os._exit, args=(5,)).start(); time.sleep(9)", "exit code 5"),
    ],
)
def test_a_model_that_takes_its_process_along_costs_that_tile_only(
    puppet: Worker, act: str, told: str
) -> None:
    error = failure(puppet, do=f"print('last words', flush=True)\n{act}")
    assert error.kind == "crashed"
    assert re.search(told, error.what), error
    assert "last words" in error.log
    assert predicted(puppet).any()


def test_a_segfault_leaves_the_place_where_it_happened(puppet: Worker) -> None:
    error = failure(puppet, do="ctypes.string_at(1)")
    assert error.kind == "crashed"
    assert "Segmentation fault" in error.log
    assert "toy.py" in error.log


@pytest.mark.parametrize(
    "hang",
    [
        "time.sleep(60)",
        "while True: pass",
        "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 60)); time.sleep(60)",
        "ctypes.PyDLL(None).sleep(60)",  # without letting Python's other threads run
        "os.kill(os.getpid(), signal.SIGSTOP); time.sleep(60)",
    ],
)
def test_a_model_that_hangs_is_stopped(make: MakeWorker, hang: str) -> None:
    worker = make(predict=hang, predict_seconds=1.0)
    worker.load()
    pid = worker.pid
    assert pid is not None
    started = time.monotonic()
    error = failure(worker)
    assert time.monotonic() - started < 6
    assert error.kind == "hung"
    assert error.what == "toy gave no answer within 1 s on this tile and was stopped."
    assert is_gone(pid)
    assert predicted(worker, bad=False).any()


def test_where_a_model_hangs_is_in_the_log(make: MakeWorker) -> None:
    assert "in predict" in failure(make(predict="time.sleep(60)", predict_seconds=0.5)).log


def test_a_model_that_leaves_processes_behind_is_taken_away_with_them(
    make: MakeWorker, tmp_path: Path
) -> None:
    note = tmp_path / "pid"
    child = "child = subprocess.Popen(['sleep', '300'])\n"
    child += f"open({str(note)!r}, 'w').write(str(child.pid))"
    worker = make(predict=f"{child}\nreturn image")
    predicted(worker)
    worker.close()
    assert is_gone(int(note.read_text()))
    worker = make(predict=f"{child}\ntime.sleep(60)", predict_seconds=0.5)
    assert failure(worker).kind == "hung"
    assert is_gone(int(note.read_text()))


@pytest.mark.parametrize(
    "act",
    [
        "resource.setrlimit(resource.RLIMIT_AS, (10**9, -1)); np.ones(10**12, 'u1')",
        "raise MemoryError",
        "raise type('OutOfMemoryError', (RuntimeError,), {})('CUDA')",
        "raise RuntimeError('CUDA out of memory. Tried to allocate 2 GiB')",
        "raise RuntimeError('CUDNN_STATUS_ALLOC_FAILED')",
        'raise RuntimeError("DefaultCPUAllocator: can\'t allocate memory")',
    ],
)
def test_too_little_memory_is_a_kind_of_its_own_that_the_worker_survives(
    puppet: Worker, act: str
) -> None:
    error = failure(puppet, do=act)
    assert error.kind == "memory"
    assert "out of memory on this tile" in error.what
    assert error.hint
    pid = puppet.pid
    assert predicted(puppet).any()
    assert puppet.pid == pid


def test_a_process_that_dies_for_want_of_memory_says_so(puppet: Worker) -> None:
    last = "terminate called after throwing an instance of 'std::bad_alloc'"
    error = failure(puppet, do=f'os.write(2, b"{last}")\nos.abort()')
    assert error.kind == "memory"
    assert "SIGABRT for want of memory" in error.what


def test_an_answer_whose_exception_cannot_be_told(puppet: Worker) -> None:
    do = "class Odd(Exception):\n    def __str__(self): 1 / 0\nraise Odd"
    assert failure(puppet, do=do).what.startswith("toy failed on this tile: Odd (toy.py:")
    assert predicted(puppet).any()


def test_endless_recursion_is_an_exception(puppet: Worker) -> None:
    error = failure(puppet, do="def f(): f()\nf()")
    assert error.kind == "raised"
    assert "RecursionError" in error.what
    assert len(error.log) < 50_000


# --- models that do not even load ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library' ("),
        ("def load(", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError: division by zero (toy.py:1)."),
        (
            GOOD.replace("return (weights", "raise OSError('no weights')#"),
            "OSError: no weights (toy.py:",
        ),
        (GOOD.replace("def load", "def lead"), "has no attribute 'load'"),
        (GOOD.replace("return (weights", "raise MemoryError#"), "MemoryError"),
    ],
)
def test_a_model_that_cannot_be_loaded_says_why(make: MakeWorker, text: str, told: str) -> None:
    worker = make(text)
    for _ in range(2):
        error = failure(worker)
        assert error.kind == "load"
        assert error.what.startswith("toy could not be loaded: ")
        assert told in error.what
        assert worker.pid is None
    worker.spec.runner.write_text(GOOD)
    assert predicted(worker).any()


def test_a_model_that_hangs_or_exits_while_it_is_loaded(make: MakeWorker) -> None:
    hangs = GOOD.replace("return (weights", "import time; time.sleep(60)#")
    error = failure(make(hangs, load_seconds=1.0))
    assert (error.kind, "while it was loaded" in error.what) == ("hung", True)
    error = failure(make(GOOD.replace("return (weights", "import os; os._exit(9)#")))
    assert (error.kind, error.what) == (
        "crashed",
        "The process of toy ended with exit code 9 while it was loaded.",
    )


def test_a_keyword_that_predict_does_not_take_is_told(make: MakeWorker) -> None:
    error = failure(make(), no_such=1)
    assert error.kind == "raised"
    assert "unexpected keyword argument 'no_such'" in error.what


def test_an_environment_without_python_or_without_appose(make: MakeWorker, tmp_path: Path) -> None:
    error = failure(make(python=tmp_path / "bin" / "python"))
    assert error.kind == "lost"
    assert "cannot be started" in error.what
    assert "no such file" in error.what
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True, timeout=60)
    error = failure(make(python=bare / "bin" / "python"))
    assert error.kind == "crashed"
    assert "No module named" in str(error)


# --- the process ---------------------------------------------------------------------------------


def test_a_worker_that_is_closed_leaves_nothing(make: MakeWorker, tmp_path: Path) -> None:
    before = shared_memory()
    with make() as worker:
        predicted(worker)
        assert shared_memory() == before  # without a name from the first tile on
        pid = worker.pid
        assert pid is not None
        scratch = Path(f"/proc/{pid}/cwd").readlink()
        assert scratch.is_dir()
    assert is_gone(pid, 0.5)
    assert not scratch.exists()
    worker.close()  # a second time is nothing
    assert predicted(worker).any()  # and it may be asked again
    assert sorted(path.name for path in tmp_path.iterdir()) == ["toy.py"]


def test_the_process_sees_threads_and_nothing_of_the_hosts_python(
    make: MakeWorker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "numpy.py").write_text("raise RuntimeError('the wrong numpy')")
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "PYTHONPATH": str(tmp_path),
        "PYTHONSTARTUP": "x",
        "UV_INDEX": "https://me:secret@example.org",
        "TORCH_HOME": "/some/where",
        "AIOD_OFFLINE": "1",
    }.items():
        monkeypatch.setenv(name, value)
    worker = make(
        predict="e = os.environ\nraise ValueError([sys.path, [e.get(n) for n in ('OMP_NUM_THREADS',"
        "'MKL_NUM_THREADS','PYTHONPATH','PYTHONSTARTUP','UV_INDEX','TORCH_HOME','HF_HUB_OFFLINE',"
        "'PYTHONNOUSERSITE')]])",
        threads=3,
    )
    told = failure(worker).what
    assert "['3', '3', None, None, None, '/some/where', '1', '1']" in told
    assert str(tmp_path) not in told
    assert "aiod" + os.sep + "flow" not in told


def test_the_terminals_ctrl_c_does_not_reach_the_model(make: MakeWorker) -> None:
    worker = make(predict="time.sleep(1)\nreturn image")
    worker.load()
    assert worker.pid is not None
    assert os.getsid(worker.pid) == worker.pid  # a session of its own
    os.kill(worker.pid, signal.SIGINT)
    assert predicted(worker).any()


def test_an_interrupted_host_stops_the_tile_at_once(make: MakeWorker) -> None:
    worker = make(predict="time.sleep(60)")
    worker.load()
    pid = worker.pid
    assert pid is not None
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    started = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            predicted(worker)
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    assert time.monotonic() - started < 5
    assert is_gone(pid)
    assert predicted(worker, bad=False).any()


HOST = """
import sys, os, threading, time
from pathlib import Path
import numpy as np
from aiod.flow.models.workers import Worker, WorkerSpec
python, runner, then = sys.argv[1:]
worker = Worker(WorkerSpec(Path(python), Path(runner), None, None, "cpu", 1, 30.0, 30.0))
worker.predict(np.ones((600, 600), "u2"), axes="YX", params={})
print(worker.pid, flush=True)
exec(then)
"""


BUSY = """
call = dict(args=(np.ones((2, 2)),), kwargs={"axes": "YX", "params": {"wait": 60}})
threading.Thread(target=worker.predict, daemon=True, **call).start()
"""


@pytest.mark.parametrize(
    ("then", "code"),
    [
        ("pass", 0),  # never closed, and yet the host ends
        ("1 / 0", 1),
        ("os._exit(3)", 3),
        ("os.kill(os.getpid(), 9)", -9),
        (BUSY + "time.sleep(.3); os.kill(os.getpid(), 9)", -9),
        ("os.fork() or (os.close(1), time.sleep(6)); os.kill(os.getpid(), 9)", -9),
    ],
)
def test_no_orphan_and_no_memory_is_left_however_the_host_ends(
    toy_environment: Environment, tmp_path: Path, then: str, code: int
) -> None:
    before = shared_memory()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    runner = tmp_path / "toy.py"
    runner.write_text(
        "import time\ndef load(w, *, config, device): pass\n"
        "def predict(m, image, *, axes, wait=0): time.sleep(wait); return (image > 0).astype(int)\n"
    )
    words = ["-W", "error", "-c", HOST, str(toy_environment.python), str(runner), then]
    with (tmp_path / "stderr").open("wb") as stderr:
        host = subprocess.run(
            [sys.executable, *words],
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**os.environ, "TMPDIR": str(scratch)},
            timeout=60,
        )
    assert host.returncode == code
    assert is_gone(int(host.stdout.split()[0]))
    assert shared_memory() == before
    assert list(scratch.iterdir()) == []
    told = (tmp_path / "stderr").read_text()
    assert "leaked" not in told
    assert "Warning" not in told
    if code == 0:
        assert told == ""


def test_a_worker_that_is_forgotten_ends(make: MakeWorker, toy_environment: Environment) -> None:
    spec = make().spec
    worker = Worker(spec)
    predicted(worker)
    pid = worker.pid
    assert pid is not None
    del worker
    gc.collect()
    assert is_gone(pid, 1)


def test_a_crash_in_the_middle_leaves_no_shared_memory(make: MakeWorker) -> None:
    before = shared_memory()
    worker = make(predict="os._exit(1)")
    for _ in range(3):
        failure(worker)
    assert shared_memory() == before


SMALL_MEMORY = """
import subprocess, sys
from pathlib import Path
import numpy as np
from aiod.flow.models.workers import ModelError, Worker, WorkerSpec
python, runner = map(Path, sys.argv[1:])
if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", "/dev/shm"]).returncode:
    sys.exit(77)
with Worker(WorkerSpec(python, runner, None, None, "cpu", 1, 30.0, 30.0)) as worker:
    try:
        worker.predict(np.ones((1024, 1024), "u2"), axes="YX", params={})
    except ModelError as error:
        print(error.kind, error)
    print(worker.predict(np.full((64, 64), 200, "u2"), axes="YX", params={}).labels.sum())
"""


@pytest.mark.skipif(not shutil.which("unshare"), reason="a small /dev/shm is Linux's tmpfs")
def test_too_little_shared_memory_is_an_error_and_not_the_end_of_the_host(make: MakeWorker) -> None:
    """As in a container with 64 MB there: whoever writes without asking is killed."""
    spec = make().spec
    words = [sys.executable, "-c", SMALL_MEMORY, str(spec.python), str(spec.runner)]
    made = subprocess.run(
        [*IN_A_WORLD_OF_ITS_OWN, *words], capture_output=True, text=True, timeout=60
    )
    if made.returncode == 77 or "unshare" in made.stderr:
        pytest.skip(f"no small disk can be mounted here: {made.stderr}")
    assert made.stdout.startswith("memory There is no shared memory for a tile of toy: no space"), (
        made.stderr
    )
    assert made.stdout.endswith("\n4096\n"), made.stderr


def test_errors_survive_the_way_between_processes(puppet: Worker) -> None:
    error = failure(puppet, do="raise ValueError('x')")
    again = pickle.loads(pickle.dumps(error))
    assert (again.what, again.kind, again.log, again.details, again.hint) == (
        error.what, error.kind, error.log, error.details, error.hint,
    )  # fmt: skip
    assert str(again) == str(error)


def test_several_workers_work_side_by_side(make: MakeWorker) -> None:
    workers = [make() for _ in range(2)]
    for _ in range(3):
        for worker in workers:
            assert predicted(worker).any()
    assert len({worker.pid for worker in workers}) == 2


def test_a_worker_in_a_process_of_the_pool(make: MakeWorker) -> None:
    spec = make().spec
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_labels_of, (spec,)) == int((IMAGE > 100).sum())


def _labels_of(spec: WorkerSpec) -> int:
    with Worker(spec) as worker:
        return int(predicted(worker).sum())


# --- devices -------------------------------------------------------------------------------------


def test_a_model_without_a_library_for_gpus_works_on_the_cpu(toy_environment: Environment) -> None:
    assert choose_device("auto", toy_environment) == "cpu"
    assert choose_device("CPU", toy_environment) == "cpu"
    for text in ("cuda", "cuda:1", "mps"):
        with pytest.raises(UsageError, match="no library that works on a GPU"):
            choose_device(text, toy_environment)


@pytest.mark.parametrize("text", ["gpu", "", "cuda:", "cuda:-1", "cpu:1", "mps:0", "cuda:1234"])
def test_a_device_that_is_none_is_refused(toy_environment: Environment, text: str) -> None:
    with pytest.raises(UsageError, match="is no device"):
        choose_device(text, toy_environment)


@pytest.fixture
def with_torch(tmp_path: Path) -> Callable[..., Environment]:
    """An environment with a library called torch, which says of itself what it is given."""

    def make(text: str, version: str = "2.7.1") -> Environment:
        folder = tmp_path / f"with{len(list(tmp_path.iterdir()))}"
        words = ["-m", "venv", "--without-pip", "--symlinks", str(folder)]
        subprocess.run([sys.executable, *words], check=True, timeout=60)
        (site,) = folder.glob("lib/python*/site-packages")
        (site / "torch.py").write_text(text)
        return Environment("toy", folder / "bin" / "python", "0", (f"torch=={version}",))

    return make


TORCH = """
from types import SimpleNamespace as Has
print("torch says hello")
cuda = Has(is_available=lambda: {cuda} > 0, device_count=lambda: {cuda})
backends = Has(mps=Has(is_available=lambda: {mps}))
"""


def test_devices_are_those_that_the_library_of_the_environment_sees(
    with_torch: Callable[..., Environment], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_GPU_FILES", ("null",))  # this machine may have one
    two, none, apple = (
        with_torch(TORCH.format(cuda=cuda, mps=mps)) for cuda, mps in ((2, 0), (0, 0), (0, 1))
    )
    assert choose_device("auto", two) == "cuda:0"
    assert choose_device("cuda", two) == "cuda:0"
    assert choose_device("cuda:1", two) == "cuda:1"
    assert choose_device("cpu", two) == "cpu"
    assert choose_device("auto", none) == "cpu"
    assert choose_device("auto", apple) == "mps"
    assert choose_device("mps", apple) == "mps"
    with pytest.raises(UsageError, match=r"toy sees 2 GPUs \(cuda:0 is the first\) here"):
        choose_device("cuda:2", two)
    with pytest.raises(UsageError, match=r"toy sees no GPU here\."):
        choose_device("cuda", none)
    with pytest.raises(UsageError, match=r"toy sees no Apple GPU here\."):
        choose_device("mps", none)


def test_a_library_that_cannot_be_asked_says_why(
    with_torch: Callable[..., Environment],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = with_torch("raise ImportError('libcudart.so is missing')")
    with pytest.raises(UsageError, match=r"torch cannot be asked \(ImportError: libcudart.so is"):
        choose_device("cuda", broken)
    monkeypatch.setattr(devices, "_GPU_FILES", ("null",))
    assert choose_device("auto", broken) == "cpu"
    assert "toy works on the CPU: torch cannot be asked" in caplog.text


def test_a_torch_for_the_cpu_only_is_told(
    with_torch: Callable[..., Environment],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(devices, "_GPU_FILES", ("no-such",))
    plain = with_torch(TORCH.format(cuda=0, mps=0), "2.7.1+cpu")
    assert choose_device("auto", plain) == "cpu"
    assert caplog.text == ""
    monkeypatch.setattr(devices, "_GPU_FILES", ("null",))
    assert choose_device("auto", plain) == "cpu"
    assert "aiod env build toy --again" in caplog.text
    with pytest.raises(UsageError, match=r"has torch 2.7.1\+cpu, which works on the CPU only"):
        choose_device("cuda", plain)


@pytest.mark.parametrize(("error", "told"), [(TimeoutError("Timeout"), 0), (KeyError("a"), 1)])
def test_what_dask_no_longer_waits_for_is_no_news(
    error: Exception, told: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio
    import gc
    import logging

    from aiod.flow.tiles.engine import _is_news

    log = logging.getLogger("asyncio")
    monkeypatch.setattr(log, "filters", [*log.filters, _is_news])

    async def forget() -> None:
        asyncio.get_running_loop().create_future().set_exception(error)
        gc.collect()

    with caplog.at_level(logging.ERROR):
        asyncio.run(forget())
    assert len([each for each in caplog.records if each.name == "asyncio"]) == told
