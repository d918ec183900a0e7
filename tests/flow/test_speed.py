"""A plan says about how long a run will take, once a run or a preview has shown how fast it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toylab import Image

from aiod.flow.dryrun import DryRun, plan_rows
from aiod.flow.preview import preview
from aiod.flow.request import Request
from aiod.flow.run import Done
from aiod.registry import load

pytest_plugins = "labs"

SLOW = {"seconds": 0.3}
"""What the toy model waits for each tile."""


@pytest.fixture(autouse=True)
def speeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where speeds are kept: nothing is known yet."""
    monkeypatch.setattr("aiod.flow.speed.cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache" / "speeds"


@pytest.fixture
def plan(lab: Path, picture: tuple[Path, Image]) -> Callable[..., DryRun]:
    def plan(**options: Any) -> DryRun:
        given = {"tile": (32, 48), "workers": 1, "params": SLOW, **options}
        return plan_rows(Request(model="toy/plane", inputs=[picture[0]], **given), load([lab]))

    return plan


def test_before_anything_was_run_no_time_is_told(plan: Callable[..., DryRun]) -> None:
    assert plan().seconds is None
    assert "About" not in plan().sentence
    assert plan().as_dict()["seconds"] is None


def test_a_run_tells_how_long_the_next_takes(
    plan: Callable[..., DryRun], go: Callable[..., Done], picture: tuple[Path, Image]
) -> None:
    done = go("plane", picture[0], tile=(32, 48), params=SLOW, workers=1)
    (image,) = done.record.images
    (row,) = plan().rows
    assert row.seconds is not None
    assert row.seconds == pytest.approx(image.predict_seconds, rel=0.3)
    assert row.seconds == pytest.approx(0.3 * row.tiles, rel=0.3)
    assert (
        f"15 tiles. About {round(row.seconds)} s, as fast as it was here last." in plan().sentence
    )
    assert plan(workers=3).seconds == pytest.approx(row.seconds / 3, abs=0.01)
    assert plan(workers=100).seconds == pytest.approx(row.seconds / 15, abs=0.01)  # of 15 tiles
    both = plan(before=("raw=none", "soft=gaussian:sigma=2"))
    assert both.seconds == pytest.approx(2 * row.seconds, abs=0.01)


def test_a_preview_tells_it_too(
    plan: Callable[..., DryRun], lab: Path, picture: tuple[Path, Image], tmp_path: Path
) -> None:
    request = Request(model="toy/plane", inputs=[picture[0]], tile=(32, 48), workers=1, params=SLOW)
    preview(request, load([lab]), {"Y": (0, 10), "X": (0, 10)}, tmp_path / "previews")
    seconds = plan().seconds
    assert seconds is not None
    assert 0.3 * 15 / 2 < seconds < 0.3 * 15 * 4  # judged by a tile at the corner, with less halo


def test_another_device_or_profile_is_another_speed(
    plan: Callable[..., DryRun], go: Callable[..., Done], picture: tuple[Path, Image]
) -> None:
    go("plane", picture[0], tile=(32, 48), workers=1)
    assert plan().seconds is not None
    assert plan(device="cpu").seconds is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"seconds": NaN, "device": "cpu"}', '{"seconds": -1, "device": "cpu"}',
             '{"seconds": 1}', '{"seconds": "fast", "device": 3}', "x" * 20_000],
)  # fmt: skip
def test_what_cannot_be_read_is_as_if_it_were_not_there(
    plan: Callable[..., DryRun],
    go: Callable[..., Done],
    picture: tuple[Path, Image],
    speeds: Path,
    text: str,
) -> None:
    go("plane", picture[0], tile=(64, 64), workers=1)
    (file,) = speeds.iterdir()
    file.write_text(text)
    assert plan().seconds is None


def test_a_cache_that_cannot_be_written_stops_no_run(
    go: Callable[..., Done], picture: tuple[Path, Image], speeds: Path
) -> None:
    speeds.parent.write_text("no folder")
    assert not go("plane", picture[0], tile=(64, 64), workers=1).failed
