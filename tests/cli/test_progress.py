"""What is told of long work where stderr is no terminal."""

from __future__ import annotations

import pytest

from aiod.cli.progress import _told
from aiod.progress import Step


class Clock:
    """Time that goes on when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_piece_of_work_is_told_at_its_start_now_and_then_and_at_its_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    report = _told(clock)
    for done in range(31):
        clock.now = float(done)
        report(Step("slide", done, 30, "tiles"))
    assert capsys.readouterr().err.splitlines() == [
        "slide: 0/30 tiles",
        "slide: 10/30 tiles",
        "slide: 20/30 tiles",
        "slide: 30/30 tiles",
    ]


def test_of_a_batch_only_what_takes_long_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    report = _told(clock)
    report(Step("images", 0, 3, "images"))
    for number, name in enumerate(("a", "b"), 1):
        report(Step(name, 0, 1, "tiles"))
        report(Step(name, 1, 1, "tiles"))
        report(Step("images", number, 3, "images"))
    report(Step("huge", 0, 400, "tiles"))
    clock.now = 11.0
    report(Step("huge", 200, 400, "tiles"))
    report(Step("huge", 400, 400, "tiles"))
    report(Step("images", 3, 3, "images"))
    assert capsys.readouterr().err.splitlines() == [
        "images: 0/3 images",
        "huge: 200/400 tiles",
        "images: 3/3 images",
    ]


def test_what_has_no_number_yet_is_told_without_one(capsys: pytest.CaptureFixture[str]) -> None:
    _told()(Step("environment of toy: preparing", 0, None, "packages"))
    assert capsys.readouterr().err == "environment of toy: preparing\n"
