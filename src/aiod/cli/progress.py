"""Long work on a terminal: a bar for each piece of it, with rate and time left.

Where stderr is no terminal, as in a cluster's log, lines instead: at the start and at the end of a
piece of work, now and then in between, and of a batch only how many images are done.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from aiod.words import byte_size, printable

if TYPE_CHECKING:
    from aiod.progress import Progress, Step

_IMAGES = "images"
_QUIET_SECONDS = 10.0
"""Between two lines about the same piece of work in a log."""


@contextlib.contextmanager
def bars(*, show: bool = True) -> Iterator[Progress]:
    """A callback that shows what it hears of; it may be called by several threads."""
    from aiod.progress import silent

    if not show:
        yield silent
    elif sys.stderr.isatty():
        with _drawn() as progress:
            yield progress
    else:
        yield _told()


@contextlib.contextmanager
def _drawn() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    lock = threading.Lock()
    known: dict[str, Any] = {}
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[amount]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as drawn:

        def report(step: Step) -> None:
            with lock:
                if step.what not in known:
                    known[step.what] = drawn.add_task(
                        printable(step.what), total=step.total, amount=_amount(step, None)
                    )
                bar = known[step.what]
                speed = next((task.speed for task in drawn.tasks if task.id == bar), None)
                drawn.update(
                    bar, completed=step.done, total=step.total, amount=_amount(step, speed)
                )
                ended = step.total is not None and step.done >= step.total
                if ended and step.what != _IMAGES:  # a plate has more images than a screen lines
                    drawn.remove_task(known.pop(step.what))

        yield report


def _told(clock: Callable[[], float] = time.monotonic) -> Progress:
    """A callback that writes lines; in a batch, of an image only what takes long."""
    lock = threading.Lock()
    told: dict[str, float] = {}
    batch = False

    def report(step: Step) -> None:
        nonlocal batch
        now = clock()
        ended = step.total is not None and step.done >= step.total
        with lock:
            batch = batch or step.what == _IMAGES
            part = batch and step.what != _IMAGES
            if step.what not in told:
                if ended:
                    return
                told[step.what] = now
                due = not part
            else:
                due = (ended and not part) or now - told[step.what] >= _QUIET_SECONDS
            if due:
                told[step.what] = now
                amount = f": {_amount(step, None)}" if step.done or step.total else ""
                click.echo(printable(f"{step.what}{amount}"), err=True)
            if ended:
                del told[step.what]

    return report


def _amount(step: Step, speed: float | None) -> str:
    if step.unit == "bytes":
        done = byte_size(step.done)
        total = f" of {byte_size(step.total)}" if step.total is not None else ""
        return f"{done}{total}" + (f", {byte_size(int(speed))}/s" if speed else "")
    total = f"/{step.total:,}" if step.total is not None else ""
    return f"{step.done:,}{total} {step.unit}" + (f", {speed:.1f}/s" if speed else "")
