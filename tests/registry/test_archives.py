"""Archives: a good one becomes a folder, a hostile one a sentence, and nothing lands elsewhere."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiod.errors import LocationError
from aiod.registry import archives
from aiod.registry.archives import is_archive, unpack
from people import names, umask

FILES = {"config.json": b"{}", "weights_best.h5": b"weights" * 100, "deep/er/x": b""}


def make_zip(
    path: Path, *members: tuple[str | zipfile.ZipInfo, bytes], deflate: bool = True
) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if deflate else 0) as content:
        for name, data in members:
            content.writestr(name, data)
    return path


def make_tar(path: Path, *members: tuple[str | tarfile.TarInfo, bytes]) -> Path:
    kind = path.suffix.lstrip(".").replace("tgz", "gz")
    with tarfile.open(path, f"w:{'' if kind == 'tar' else kind}") as content:  # type: ignore[call-overload]
        for given_, data in members:
            info = tarfile.TarInfo(given_) if isinstance(given_, str) else given_
            if info.isreg():
                info.size = len(data)
            content.addfile(info, io.BytesIO(data))
    return path


def kind(name: str, type_: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = type_, link
    return info


def mode(name: str, bits: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = bits << 16
    return info


def content_of(folder: Path) -> dict[str, bytes]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def why_not(archive: Path) -> str:
    """The reason for which an archive is refused; and it leaves no trace, here or above."""
    folder = archive.parent / "cache"
    folder.mkdir(exist_ok=True)
    (folder / "neighbour").write_text("untouched")
    before = sorted(archive.parent.rglob("*")), sorted(archive.parent.parent.iterdir())
    with pytest.raises(LocationError) as caught:
        unpack(archive, folder / "x.content")
    assert (sorted(archive.parent.rglob("*")), sorted(archive.parent.parent.iterdir())) == before
    assert (folder / "neighbour").read_text() == "untouched"
    assert archive.name in caught.value.what
    return caught.value.what


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.tgz", "x.tar.bz2", "x.tar.xz"])
def test_a_good_archive_becomes_a_folder(name: str, tmp_path: Path) -> None:
    make = make_zip if name.endswith("zip") else make_tar
    unpack(make(tmp_path / name, *FILES.items()), tmp_path / "x.content")
    assert content_of(tmp_path / "x.content") == FILES
    assert names(tmp_path) == sorted([name, "x.content"])


def test_an_archive_of_the_folder_itself_is_good(tmp_path: Path) -> None:
    """As ``tar -C folder .`` and ``zip -r x.zip .`` make it."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x").write_bytes(b"weights")
    with tarfile.open(tmp_path / "x.tgz", "w:gz") as content:
        content.add(tmp_path / "folder", ".")
    make_zip(tmp_path / "x.zip", ("./", b""), ("./x", b"weights"))
    for name in ("x.tgz", "x.zip"):
        unpack(tmp_path / name, tmp_path / "x.content")
        assert content_of(tmp_path / "x.content") == {"x": b"weights"}


@pytest.mark.parametrize(
    ("name", "unpacked"),
    [
        ("2D_versatile_fluo.zip", True),
        ("X.ZIP", True),
        ("x.tar.gz", True),
        ("sam.pth", False),
        ("model.pt", False),
        ("model.safetensors", False),
        ("zip", False),
        ("x.gz", False),
    ],
)
def test_what_is_unpacked_goes_by_the_name(name: str, unpacked: bool) -> None:
    """PyTorch's weights are zip files that must stay whole."""
    assert is_archive(name) is unpacked


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "a/../../evil",
        "..",
        "/evil",
        "//evil",
        "..\\evil",
        "a\\b",
        "C:/evil",
        "C:evil",
        "x:stream",
    ],
)
def test_a_path_that_leads_outside_is_refused(name: str, tmp_path: Path) -> None:
    good = ("good", b"x")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    said = why_not(make_zip(below / "x.zip", good, (name, b"evil")))
    assert "a path that leads outside" in said
    assert "a path that leads outside" in why_not(make_tar(below / "x.tar.gz", good, (name, b"!")))
    assert not (tmp_path / "a" / "evil").exists()


def test_a_zip_may_hold_no_link_and_no_device(tmp_path: Path) -> None:
    for bits in (stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK):
        said = why_not(make_zip(tmp_path / "x.zip", (mode("x", bits | 0o777), b"/etc/passwd")))
        assert said == "The archive x.zip holds a link or a device: 'x'."


@pytest.mark.parametrize(
    "type_", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_a_tar_may_hold_no_link_and_no_device(type_: bytes, tmp_path: Path) -> None:
    evil = kind("x", type_, "/etc/passwd")
    said = why_not(make_tar(tmp_path / "x.tar", (evil, b""), ("x/y", b"through the link")))
    assert said == "The archive x.tar holds a link or a device: 'x'."


def test_one_path_twice_is_refused(tmp_path: Path) -> None:
    twice = [("x", b"1"), ("x", b"2")]
    assert why_not(make_tar(tmp_path / "x.tar", *twice)).endswith("holds one path twice.")
    with pytest.warns(UserWarning, match="Duplicate"):
        archive = make_zip(tmp_path / "x.zip", *twice)
    assert why_not(archive).endswith("holds one path twice.")
    assert why_not(make_tar(tmp_path / "y.tar", ("x", b"1"), ("x/y", b"2")))


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_FILES", 10)
    members = [(str(number), b"") for number in range(11)]
    for archive in (make_zip(tmp_path / "x.zip", *members), make_tar(tmp_path / "x.tar", *members)):
        assert "holds more than 10 files" in why_not(archive)


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz", "x.tar.bz2", "x.tar.xz"])
def test_a_bomb_is_stopped_at_its_bound(name: str, tmp_path: Path) -> None:
    make = make_zip if name.endswith("zip") else make_tar
    archive = make(tmp_path / name, ("zeros", bytes(101_000_000)))
    assert archive.stat().st_size < 1_000_000
    assert "holds more than 100.0 MB" in why_not(archive)


def test_a_zip_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", ("x", bytes(1_000_000)))
    data = archive.read_bytes().replace(struct.pack("<I", 1_000_000), struct.pack("<I", 10))
    archive.write_bytes(data)
    assert "is broken" in why_not(archive)


@pytest.mark.parametrize("opened", [gzip.open, bz2.open, lzma.open])
def test_a_tar_with_a_name_of_gigabytes_is_no_danger(
    opened: Callable[..., io.BufferedIOBase], tmp_path: Path
) -> None:
    """tarfile reads such a name at once: a few kilobytes would take all memory."""
    head = tarfile.TarInfo("././@LongLink")
    head.type, head.size = tarfile.GNUTYPE_LONGNAME, 30_000_000
    with opened(tmp_path / "x.tar.gz", "wb") as stream:
        stream.write(head.tobuf(tarfile.GNU_FORMAT) + b"a" * head.size)
    assert "is broken" in why_not(tmp_path / "x.tar.gz")


def test_a_locked_zip_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", ("x", b"weights"))
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x03\x04") + 6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)
    assert why_not(archive) == "The archive x.zip is locked by a password."


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.tar.bz2", "x.tar.xz"])
def test_what_is_broken_or_no_archive_is_a_sentence(name: str, tmp_path: Path) -> None:
    make = make_zip if name.endswith("zip") else make_tar
    archive = make(tmp_path / name, ("x", os.urandom(50_000)))
    whole = archive.read_bytes()
    spoilt = bytearray(whole)
    spoilt[2000:2100] = bytes(100) if name != "x.tar" else bytes(spoilt[2000:2100])
    for data in (whole[: len(whole) // 2], b"<html>Not found</html>", b"", b"\xff" * 600):
        archive.write_bytes(data)
        if data or name != "x.tar":
            assert why_not(archive)
    if name != "x.tar":  # which has no checksum of its content
        archive.write_bytes(spoilt)
        assert why_not(archive)


def test_a_name_that_no_system_takes_is_a_sentence(tmp_path: Path) -> None:
    assert why_not(make_tar(tmp_path / "x.tar", ("a" * 300, b"x")))
    assert why_not(make_zip(tmp_path / "x.zip", ("a" * 300, b"x")))


def test_a_missing_archive_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(LocationError, match=r"x\.zip cannot be unpacked: no such file"):
        unpack(tmp_path / "x.zip", tmp_path / "x.content")


def test_a_mode_in_an_archive_means_nothing(tmp_path: Path) -> None:
    """No setuid, nothing that only its owner can read, nothing executable."""
    with umask(0o077):
        unpack(
            make_zip(tmp_path / "x.zip", (mode("deep/x", stat.S_IFREG | 0o4777), b"weights")),
            tmp_path / "own",
        )
        unpack(tmp_path / "x.zip", tmp_path / "shared", mode=0o664)
    assert stat.S_IMODE((tmp_path / "own" / "deep" / "x").stat().st_mode) == 0o644
    for folder in ("own", "own/deep"):
        assert stat.S_IMODE((tmp_path / folder).stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "shared" / "deep" / "x").stat().st_mode) == 0o664
    for folder in ("shared", "shared/deep"):
        assert stat.S_IMODE((tmp_path / folder).stat().st_mode) == 0o775


def test_what_an_earlier_unpacking_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "x.content").mkdir()
    (tmp_path / "x.content" / "old").write_bytes(b"old")
    unpack(make_zip(tmp_path / "x.zip", ("new", b"new")), tmp_path / "x.content")
    assert content_of(tmp_path / "x.content") == {"new": b"new"}


def test_a_link_in_place_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").write_text("precious")
    (tmp_path / "x.content").symlink_to(tmp_path / "mine")
    with contextlib.suppress(LocationError):
        unpack(make_zip(tmp_path / "x.zip", ("x", b"new")), tmp_path / "x.content")
    assert (tmp_path / "mine" / "x").read_text() == "precious"


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(["x.zip", "x.tar", "x.tar.gz", "x.tar.xz"]),
    edits=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=8),
    cut=st.integers(0, 5000),
)
def test_a_mutated_archive_is_unpacked_or_a_sentence(
    tmp_path: Path, name: str, edits: list[tuple[int, int]], cut: int
) -> None:
    make = make_zip if name.endswith("zip") else make_tar
    archive = make(tmp_path / name, *FILES.items())
    data = bytearray(archive.read_bytes())
    for place, value in edits:
        data[place % len(data)] = value
    archive.write_bytes(data[: max(1, len(data) - cut % 300)])
    (tmp_path / "cache").mkdir(exist_ok=True)
    with contextlib.suppress(LocationError):
        unpack(archive, tmp_path / "cache" / "x.content")
    assert not [item for item in names(tmp_path) if not item.startswith(("x.", "cache"))]
    for folder in (tmp_path / "cache").glob("*"):
        shutil.rmtree(folder)


def test_folders_nested_without_end_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    archive = tmp_path / "deep.zip"
    with zipfile.ZipFile(archive, "w") as content:
        content.writestr("a/" * 1900 + "f", b"x")
    with pytest.raises(LocationError, match="nested more than"):
        unpack(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["deep.zip"]
