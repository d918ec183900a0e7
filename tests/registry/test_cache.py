"""The cache: names that stay inside it, modes for a lab, records that may be hostile."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aiod.errors import CacheError
from aiod.registry import cache
from aiod.registry.cache import (
    CachedFile,
    Slot,
    cached_files,
    file_name,
    keep_record,
    leftovers,
    locked,
    make_folder,
    remove,
    sha256_of,
    slot_for,
    verify,
)
from aiod.words import RESERVED
from people import an_ordinary_user, names, umask


def bits(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def filled(url: str = "https://a.org/x.pth", data: bytes = b"weights", family: str = "toy") -> Slot:
    """A file as a download leaves it."""
    slot = slot_for(family, url)
    make_folder(slot.root, slot.file.parent)
    slot.file.write_bytes(data)
    slot.file.chmod(cache.file_mode(slot.root))
    keep_record(slot, hashlib.sha256(data).hexdigest())
    return slot


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://a.org/weights.pth", "weights.pth"),
        ("https://a.org/a/weights%20v1.pth?download=1#x", "weights_v1.pth"),
        ("https://a.org/..%2f..%2fetc%2fpasswd", "passwd"),
        ("https://a.org/%2e%2e", "weights"),
        ("https://a.org/", "weights"),
        ("https://a.org", "weights"),
        ("https://a.org?x=/y", "weights"),
        ("https://a.org/.bashrc", "bashrc"),
        ("https://a.org/-rf", "rf"),
        ("https://a.org/CON", "file_CON"),
        ("https://a.org/nul.pth", "file_nul.pth"),
        ("https://a.org/a%00b%0a.pth", "a_b_.pth"),
        ("https://a.org/weights%5cx.pth", "weights_x.pth"),
        ("https://a.org/" + "a" * 500 + ".pth", "a" * 96 + ".pth"),
        ("https://a.org/" + "a." + "b" * 99, "b" * 99),
        ("https://[::::]/x.pth", "x.pth"),
        ("/data/100%25#1.zip", "100_25_1.zip"),
    ],
)
def test_the_name_of_a_url_is_safe_on_every_system(url: str, name: str) -> None:
    assert file_name(url) == name


@given(st.text())
@example("https://a.org/..")
@example("https://a.org/%2f%2e%2e%2f")
@example("\ud800")
def test_whatever_a_url_is_its_file_stays_in_the_cache(text: str) -> None:
    for source in (text, f"https://a.org/{text}"):
        slot = Slot(Path("/cache"), "toy", source)
        for path in (slot.file, slot.part, slot.record_file, slot.content):
            assert Path(os.path.normpath(path)) == path
            assert path.parent.parent == Path("/cache/weights/toy")
            assert len(path.name) < 120
            assert not path.name.startswith((".", "-"))
            assert not RESERVED.match(path.name)
        assert slot.first_hash_file.parent == Path("/cache/hashes")
        assert slot.lock_file.parent == Path("/cache/locks")


def test_two_urls_with_one_file_name_do_not_meet() -> None:
    assert filled("https://a.org/x.pth").file != filled("https://b.org/x.pth").file
    assert len(cached_files()) == 2


def test_a_record_is_believed_while_the_file_is_as_it_was() -> None:
    slot = filled()
    record = slot.record()
    assert record is not None
    assert (record.url, record.size) == ("https://a.org/x.pth", 7)
    slot.file.write_bytes(b"weighty")
    os.utime(slot.file, ns=(1, 1))
    assert slot.record() is None
    slot.file.unlink()
    assert slot.record() is None
    assert slot.first_record() == record


@pytest.mark.parametrize("mask", [0o077, 0o027, 0o022])
def test_the_group_can_read_whatever_the_umask_is(mask: int, tmp_path: Path) -> None:
    with umask(mask):
        slot = filled()
        with locked(slot):
            pass
    assert bits(slot.root) & 0o050 == 0o050
    for path in slot.root.rglob("*"):
        assert bits(path) == (0o755 if path.is_dir() else 0o644), path


def test_the_group_can_write_where_it_may_write_the_cache_folder(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o2770)
    with umask(0o077):
        slot = filled()
        with locked(slot):
            pass
    for path in slot.root.rglob("*"):
        assert bits(path) == (0o2775 if path.is_dir() else 0o664), path


def test_a_cache_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o555)
    with an_ordinary_user(), pytest.raises(CacheError) as caught, locked(slot_for("toy", "x")):
        pass
    assert caught.value.what == f"The cache {tmp_path}/cache cannot be written: permission denied."
    assert "AIOD_CACHE" in str(caught.value.hint)


def test_a_cache_that_is_a_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(CacheError, match="cannot be written"), locked(slot_for("toy", "x")):
        pass
    assert cached_files() == []


def test_damage_is_found_by_looking_closely() -> None:
    slot = filled()
    modified = slot.file.stat().st_mtime_ns
    slot.file.write_bytes(b"wEights")
    os.utime(slot.file, ns=(modified, modified))
    (item,) = cached_files()
    assert item.problem is None
    assert str(verify(item).problem).startswith(f"sha256 {sha256_of(slot.file)} instead of")


def test_what_is_wrong_at_first_sight_is_seen_without_reading() -> None:
    gone, short, spoilt = (filled(f"https://a.org/{name}") for name in ("a", "b", "c"))
    gone.file.unlink()
    short.file.write_bytes(b"few")
    spoilt.record_file.write_text("{")
    assert [item.problem for item in cached_files()] == [
        "the file is gone",
        "3 bytes instead of 7",
        "its record cannot be read",
    ]
    assert [verify(item) for item in cached_files()] == cached_files()


def good_record(**changes: Any) -> str:
    record = {"url": "u", "sha256": "a" * 64, "size": 7, "date": "2026-01-01", "modified_ns": 1}
    return json.dumps({**record, **changes})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        "[" * 100_000,
        good_record(size=-1),
        good_record(size=10**400),
        good_record(size=True),
        good_record(size="7"),
        good_record(sha256="A" * 64),
        good_record(sha256="../" * 20),
        good_record(evil=1),
        good_record(url=5),
        good_record() + " " * 200_000,
        '{"size": NaN}',
    ],
)
def test_a_hostile_record_is_not_believed(text: str) -> None:
    slot = filled()
    slot.record_file.write_text(text)
    assert slot.record() is None
    assert cached_files()[0].problem == "its record cannot be read"


def test_a_record_that_is_a_pipe_or_a_folder_is_not_waited_for() -> None:
    for make in (os.mkfifo, os.mkdir):
        slot = filled()
        slot.record_file.unlink()
        make(slot.record_file)
        assert slot.record() is None
        assert cached_files()[0].problem == "its record cannot be read"
        shutil.rmtree(slot.root)


@pytest.mark.parametrize("name", ["config.json", "x.json.json", "x.part", "x.content", "x.tag"])
def test_a_file_may_be_called_like_what_stands_beside_files(name: str) -> None:
    slot = filled(f"https://a.org/{name}")
    assert [(item.path, item.problem) for item in cached_files()] == [(slot.file, None)]
    assert leftovers() == []


def test_what_interrupted_work_leaves_is_found() -> None:
    slot = filled("https://a.org/x.zip")
    folder = slot.file.parent
    slot.content.mkdir()
    left = [".x.zip.content-abc", ".x.zip.json.12-ab", "tmpabc", "x.zip.part", "x.zip.part.tag"]
    (folder / left[0]).mkdir()
    for name in left[1:]:
        (folder / name).write_text("")
    whole = filled("https://a.org/y.pth")
    whole.record_file.unlink()
    assert sorted(leftovers()) == sorted([*(folder / name for name in left), whole.file])
    for path in leftovers():
        remove(path)
    assert names(folder) == ["x.zip", "x.zip.content", "x.zip.json"]


def test_what_is_just_being_brought_is_no_leftover() -> None:
    slot = slot_for("toy", "https://a.org/x.pth")
    with locked(slot):
        slot.part.write_bytes(b"half")
        assert leftovers() == []
    assert leftovers() == [slot.part]


def test_removing_takes_a_file_with_all_that_belongs_to_it() -> None:
    slot = filled("https://a.org/x.zip")
    slot.content.mkdir()
    (slot.content / "x").write_bytes(b"content")
    other = filled("https://a.org/y.pth")
    (item,) = (item for item in cached_files() if item.path == slot.file)
    assert remove(item) > 14
    assert not slot.file.parent.exists()
    assert other.record() is not None
    assert slot.first_record() is not None  # remembered for good


def test_what_was_unpacked_of_an_archive_elsewhere_is_listed() -> None:
    slot = slot_for("toy", "/data/x.zip")
    slot.content.mkdir(parents=True)
    (item,) = cached_files()
    assert item == CachedFile("toy", slot.content, None)
    assert verify(item) == item
    remove(item)
    assert cached_files() == []


def test_a_link_is_removed_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").write_text("precious")
    slot = filled()
    slot.file.unlink()
    slot.file.symlink_to(tmp_path / "mine" / "x")
    slot.content.symlink_to(tmp_path / "mine")
    (slot.file.parent / "left").symlink_to(tmp_path / "mine")
    remove(cached_files()[0])
    for path in leftovers():
        remove(path)
    assert not slot.file.parent.exists()
    assert (tmp_path / "mine" / "x").read_text() == "precious"


def test_a_record_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    slot = filled()
    for path in (slot.record_file, slot.first_hash_file):
        path.unlink()
        path.symlink_to(tmp_path / "mine")
    keep_record(slot, "a" * 64)
    assert (tmp_path / "mine").read_text() == "precious"
    assert slot.record() is not None


def test_what_cannot_be_removed_is_a_sentence() -> None:
    slot = filled()
    slot.file.parent.chmod(0o555)
    with (
        an_ordinary_user(),
        pytest.raises(CacheError, match="cannot be removed: permission denied"),
    ):
        remove(cached_files()[0])


def test_a_folder_that_cannot_be_entered_is_no_traceback() -> None:
    slot = filled()
    slot.file.parent.chmod(0o444)
    with an_ordinary_user():
        assert all(item.problem for item in cached_files())
        leftovers()
    slot.file.parent.chmod(0o755)


def test_the_free_space_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert cache.free_bytes(tmp_path / "a" / "b") > 0
