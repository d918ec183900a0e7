"""Records that several processes append to one folder: whole or not there, and never another's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiod.flow.tiles.journal import SUFFIX, Journal, Key

keys = st.tuples(st.integers(0, 10**9), st.integers(0, 10**12 - 1))
records = st.lists(st.tuples(keys, st.binary(max_size=200)), min_size=1, max_size=8)

WRITER = """
import sys
from pathlib import Path
from aiod.flow.tiles.journal import Journal

journal = Journal(Path(sys.argv[1]))
for number in range(200):
    journal.append([((int(sys.argv[2]), number), b"%d" % number * 50)])
"""


def read(journal: Journal) -> dict[Key, list[bytes]]:
    return {key: [record.read() for record in journal.records(key)] for key in journal}


@given(st.lists(records, max_size=4), st.integers(0, 300))
def test_what_was_appended_is_read_and_half_a_record_at_the_end_is_none(
    appended: list[list[tuple[Key, bytes]]], cut: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        ours, theirs = Journal(Path(name)), Journal(Path(name))
        expected: dict[Key, list[bytes]] = {}
        for some in appended:
            ours.append(some)
            for key, content in some:
                expected.setdefault(key, []).append(content)
        theirs.look()
        assert read(ours) == read(theirs) == expected
        for path in Path(name).glob(f"*{SUFFIX}"):
            path.write_bytes(path.read_bytes()[: -cut or None])
        after = Journal(Path(name))
        after.look()
        found = read(after)
        assert all(contents == expected[key][: len(contents)] for key, contents in found.items())
        whole = sum(map(len, expected.values()))
        assert sum(map(len, found.values())) <= whole - (cut > 0 and whole > 0)


@given(st.binary(max_size=300))
def test_a_file_of_anything_is_read_without_a_fault(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / f"any{SUFFIX}").write_bytes(content)
        journal = Journal(Path(name))
        journal.look()
        for contents in read(journal).values():
            assert all(each in content for each in contents)


def test_processes_append_beside_each_other(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(number)])
        for number in range(3)
    ]
    journal = Journal(tmp_path)
    while any(writer.poll() is None for writer in writers):
        journal.look()  # sees only whole records, however far they are
        assert all(contents == [b"%d" % key[1] * 50] for key, contents in read(journal).items())
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    journal.look()
    assert list(journal) == [(frame, tile) for frame in range(3) for tile in range(200)]
    assert len(list(tmp_path.iterdir())) == 3


def test_threads_append_to_one_file(tmp_path: Path) -> None:
    journal = Journal(tmp_path)

    def append(number: int) -> None:
        for tile in range(50):
            journal.append([((number, tile), bytes([number]) * tile)])

    threads = [threading.Thread(target=append, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(tmp_path.iterdir())) == 1
    assert read(journal) == {(n, t): [bytes([n]) * t] for n in range(4) for t in range(50)}


def test_records_of_a_folder_that_was_removed_are_gone_and_never_taken_for_new_ones(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "tiles"
    folder.mkdir()
    journal = Journal(folder)
    journal.append([((0, 0), b"old"), ((0, 1), b"old")])
    shutil.rmtree(folder)
    folder.mkdir()
    journal.append([((0, 1), b"new")])
    journal.look()
    assert read(journal) == {(0, 1): [b"new"]}


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs a limit on the size of a file")
def test_a_write_that_fails_halfway_leaves_what_was_there(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    journal = Journal(tmp_path)
    journal.append([((0, 0), b"first")])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            journal.append([((0, 1), os.urandom(50)), ((0, 2), os.urandom(500))])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert read(journal) == {(0, 0): [b"first"]}
    journal.append([((0, 1), b"second")])
    other = Journal(tmp_path)
    other.look()
    assert read(other) == {(0, 0): [b"first"], (0, 1): [b"second"]}
