"""A request as the line that one would type for it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from aiod.flow.profiles import DEFAULT_PROFILE
from aiod.flow.request import Request


def command_of(request: Request) -> list[str]:
    """The words of `aiod run …` that ask for the same; `shlex.join` makes a line of them.

    Raises ValueError for a request of `samples`, which only a samplesheet could say.
    """
    if request.samples is not None:
        raise ValueError("samples have no place on a command line")
    return ["aiod", "run", *_words(request)]


def _words(request: Request) -> Iterator[str]:
    if request.model is not None:
        yield request.model
    yield from map(str, request.inputs)
    given: list[tuple[str, Any]] = [
        ("--task", request.task if request.model is None else None),
        ("--samplesheet", request.samplesheet),
        *(("--param", f"{name}={_value(value)}") for name, value in request.params.items()),
        *(("--pre", step) for step in request.before),
        *(("--post", step) for step in request.after),
        *(("--channel", channel) for channel in request.channels),
        ("--axes", request.axes),
        ("--pixel-size", _pixel_size(request)),
        ("--tile", _sizes(request.tile)),
        ("--halo", _sizes(request.halo)),
        *(("--export", export) for export in request.exports),
        ("--certify", request.certify or None),
        ("--device", request.device if request.device != "auto" else None),
        ("--workers", request.workers),
        ("--profile", request.profile if request.profile != DEFAULT_PROFILE else None),
        ("--timeout", request.timeout),
        ("--out", request.out),
    ]
    for option, value in given:
        if value is not None:
            yield from (option, str(value))
    for option, wanted in (("rescale", request.rescale), ("link-z", request.link_z)):
        if wanted is not None:
            yield f"--{option}" if wanted else f"--no-{option}"


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _sizes(sizes: Sequence[int] | None) -> str | None:
    return None if sizes is None else ",".join(map(str, sizes))


def _pixel_size(request: Request) -> str | None:
    """Micrometres of Z where they are given, then Y and X."""
    size = request.pixel_size
    if not size:
        return None
    return ",".join(repr(float(size[axis])) for axis in "ZYX" if axis in size)
