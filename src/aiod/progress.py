"""How far long work has come: one callback, so that every door shows the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """One report: `done` of `total` `unit`s of the work called `what`.

    `total` is None where it is not known. A step without a `unit` is a piece of news, told once.
    A door may raise from the callback to stop the work.
    """

    what: str
    done: int
    total: int | None
    unit: str = "bytes"


Progress = Callable[[Step], None]


def silent(step: Step) -> None:
    """The callback of whoever does not watch."""
