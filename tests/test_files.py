"""Reading what may be hostile, writing whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import aiod
from aiod.errors import AiodError
from aiod.files import read_bytes, read_text, write_atomically


def test_a_file_is_read_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_atomically(path, "Größe 細胞\n")
    assert read_text(path, limit=100) == "Größe 細胞\n"
    assert path.read_bytes() == "Größe 細胞\n".encode()


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf{}")
    assert read_text(path, limit=100) == "{}"


def test_other_encodings_are_refused_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"{\n\n  \xff")
    with pytest.raises(AiodError, match=r"a\.json:3 is not UTF-8 text: byte 0xff") as caught:
        read_text(path, limit=100)
    assert "UTF-8" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("file", "kind"), [("nuclei_2d.ome.tif", "a TIFF"), ("../weights/nuclei-mini.onnx", None)]
)
def test_an_image_in_the_place_of_a_text_is_called_one(file: str, kind: str | None) -> None:
    samples = Path(aiod.__file__).parent / "samples"
    with pytest.raises(AiodError, match=f"is {kind}, and text" if kind else "is not UTF-8 text"):
        read_text(samples / file, limit=10_000_000)


def test_a_file_may_be_as_long_as_the_limit_and_no_longer(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"x" * 100)
    assert len(read_bytes(path, limit=100)) == 100
    with pytest.raises(AiodError, match="larger than 99 bytes"):
        read_bytes(path, limit=99)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a device without end")
def test_an_endless_file_is_not_read() -> None:
    with pytest.raises(AiodError, match="is not a file"):
        read_bytes("/dev/zero", limit=100)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(AiodError, match="is not a file"):
        read_bytes(tmp_path / "pipe", limit=100)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(AiodError, match=r"missing\.json cannot be read: no such file"):
        read_text(tmp_path / "missing.json", limit=100)
    with pytest.raises(AiodError, match=str(tmp_path)):
        read_text(tmp_path, limit=100)


def test_folders_are_made_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.json"
    write_atomically(path, [b"one ", b"two"])
    assert path.read_bytes() == b"one two"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_in_the_middle_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def parts() -> Iterator[bytes]:
        yield b"new"
        raise ConnectionError("the server went away")

    with pytest.raises(AiodError, match="the server went away"):
        write_atomically(path, parts())
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


WRITER = """
import sys, time
from pathlib import Path
from aiod.files import write_atomically

def parts():
    yield b"new" * 1_000_000
    print("half", flush=True)
    time.sleep(60)
    yield b"rest"

write_atomically(Path(sys.argv[1]), parts())
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_writer_that_is_killed_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "half\n"
        writer.kill()
    assert writer.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


@pytest.mark.skipif(os.name != "posix", reason="needs permission bits")
def test_permissions_stay_unless_others_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_atomically(path, "1", mode=0o640)
    assert path.stat().st_mode & 0o777 == 0o640
    write_atomically(path, "2")
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")
def test_a_linked_file_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target.json", tmp_path / "link.json"
    target.write_text("old")
    link.symlink_to(target)
    write_atomically(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AiodError, match=r"a\.json cannot be written"):
        write_atomically(tmp_path / "file" / "a.json", "new")


def test_a_name_as_long_as_the_disk_allows_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / f"{'n' * 240}.json"
    write_atomically(path, "new")
    assert path.read_text() == "new"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs something that is no file")
def test_what_is_no_file_is_not_replaced_by_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(AiodError, match="is not replaced"):
            write_atomically(tmp_path / name, "text")
    assert (tmp_path / "pipe").is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "pipe"]
