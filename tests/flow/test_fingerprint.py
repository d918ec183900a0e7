"""An image is known again by its bytes: all of them, or a sample where they are many."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from aiod.flow.images import fingerprint as module
from aiod.flow.images.fingerprint import BLOCK_BYTES, WHOLE_BYTES, fingerprint


def test_of_one_file_it_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"cells")
    assert fingerprint([tmp_path / "a"]) == "sha256:" + hashlib.sha256(b"cells").hexdigest()


def test_of_several_files_their_names_count_and_their_order_does_not(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(b"cells")
    a, b, c = (tmp_path / name for name in "abc")
    assert fingerprint([a, b]) == fingerprint([b, a]) != fingerprint([a, c])
    (tmp_path / "moved").mkdir()
    for name in ("a", "b"):
        (tmp_path / "moved" / name).write_bytes(b"cells")
    assert fingerprint([tmp_path / "moved" / "a", tmp_path / "moved" / "b"]) == fingerprint([a, b])


def test_a_huge_file_is_sampled(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as stream:
        stream.truncate(100 * WHOLE_BYTES)  # 27 GB, none of which takes a disk's room
    began = time.perf_counter()
    first = fingerprint([path])
    assert time.perf_counter() - began < 3
    assert first.startswith("sampled-sha256:")
    for position in (0, 100 * WHOLE_BYTES - 1):
        with path.open("r+b") as stream:
            stream.seek(position)
            stream.write(b"1")
        assert fingerprint([path]) != first
        with path.open("r+b") as stream:
            stream.seek(position)
            stream.write(b"\0")
    assert fingerprint([path]) == first
    os.truncate(path, 100 * WHOLE_BYTES - 1)
    assert fingerprint([path]) != first


def test_of_many_files_that_are_much_together_each_size_and_a_sample_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WHOLE_BYTES", 3 * BLOCK_BYTES)
    files = [tmp_path / str(number) for number in range(40)]
    for file in files:
        file.write_bytes(bytes(BLOCK_BYTES // 8))
    (tmp_path / "zarr.json").write_text("{}")
    files.append(tmp_path / "zarr.json")
    first = fingerprint(files)
    assert first.startswith("sampled-sha256:")
    (tmp_path / "zarr.json").write_text("[]")
    assert fingerprint(files) != first
    (tmp_path / "zarr.json").write_text("{}")
    files[7].write_bytes(bytes(BLOCK_BYTES // 8 + 1))
    assert fingerprint(files) != first
