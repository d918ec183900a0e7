"""Other users than the one who runs the tests, for whom permissions hold; and what they see."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

# capabilities(7): what lets root read and write whatever it likes
_DAC_OVERRIDE, _DAC_READ_SEARCH, _FOWNER = 1, 2, 3
_VERSION_3 = 0x20080522

# A process run so may mount disks, which vanish with it.
IN_A_WORLD_OF_ITS_OWN = ("unshare", "--user", "--map-root-user", "--mount")


class _Head(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Bits(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


@contextlib.contextmanager
def an_ordinary_user() -> Iterator[None]:
    """Permission bits hold for this thread, and for those it starts, as for anybody but root."""
    if os.name != "posix" or os.geteuid() != 0:
        yield
        return
    assert sys.platform == "linux"
    libc = ctypes.CDLL(None, use_errno=True)
    head, bits = _Head(_VERSION_3, 0), (_Bits * 2)()

    def call(function: str) -> None:
        if getattr(libc, function)(ctypes.byref(head), bits):
            raise OSError(ctypes.get_errno(), function)

    call("capget")
    before = bits[0].effective
    for capability in (_DAC_OVERRIDE, _DAC_READ_SEARCH, _FOWNER):
        bits[0].effective &= ~(1 << capability)
    call("capset")
    try:
        yield
    finally:
        bits[0].effective = before
        call("capset")


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def names(folder: Path) -> list[str]:
    """What lies in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())
