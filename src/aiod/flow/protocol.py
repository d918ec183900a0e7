"""What a window and the process that works for it say to each other.

Each message is a line of JSON; one that carries pixels says how many bytes follow the line. Both
ends are ours, and what does not read like a message ends the talk all the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import IO, Any

import numpy as np
from pydantic import TypeAdapter

from aiod.flow.request import Request
from aiod.flow.source import Pixels

_MOST_LINE = 1 << 26
_MOST_BYTES = 1 << 31
_BYTES = "bytes"


@dataclass(frozen=True, slots=True)
class Message:
    """One message: what is said, and pixels where there are any."""

    said: Mapping[str, Any]
    pixels: Pixels | None = None


def write(stream: IO[bytes], said: Mapping[str, Any], pixels: Pixels | None = None) -> None:
    """Send one message; `pixels` are plain numbers."""
    if pixels is None:
        stream.write(json.dumps(said).encode() + b"\n")
    else:
        body = np.ascontiguousarray(pixels)
        how = {_BYTES: body.nbytes, "dtype": body.dtype.str, "shape": body.shape}
        stream.write(json.dumps({**said, **how}).encode() + b"\n")
        stream.write(body.data)
    stream.flush()


def read(stream: IO[bytes]) -> Message | None:
    """The next message; None at the end. Raises ValueError for what is none."""
    line = stream.readline(_MOST_LINE)
    if not line.endswith(b"\n"):
        return None
    said = json.loads(line)
    if not isinstance(said, dict):
        raise ValueError("no message")
    if _BYTES not in said:
        return Message(said)
    count, dtype, shape = int(said[_BYTES]), np.dtype(said["dtype"]), tuple(said["shape"])
    if not 0 <= count <= _MOST_BYTES or dtype.kind not in "uif":
        raise ValueError("no pixels")
    body = stream.read(count)
    if len(body) < count:
        return None
    return Message(said, np.frombuffer(body, dtype).reshape(shape))


@lru_cache(maxsize=1)
def _requests() -> TypeAdapter[Request]:
    return TypeAdapter(Request)


def request_to_json(request: Request) -> dict[str, Any]:
    """A request as plain JSON."""
    made: dict[str, Any] = _requests().dump_python(request, mode="json")
    return made


def request_from_json(said: Any) -> Request:
    """The request that plain JSON says. Raises pydantic's ValidationError."""
    return _requests().validate_python(said)
