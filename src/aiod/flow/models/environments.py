"""Isolated environments for models: one folder for each list of packages, built by uv, once.

::

    <cache>/environments/<family>-<digest>/            a virtual environment, built in place
                                          /aiod.json   its record, written last: it is ready

``<digest>`` stands for the packages, the Python and the platform. What has no record is an
interrupted build and is built anew. A cache that can only be read works as far as it goes.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet

from aiod.errors import AiodError, CacheError
from aiod.files import read_text, reason, write_atomically
from aiod.flow.models.header import Header, RunnerError, read_header
from aiod.flow.models.installer import chooses_torch, run_uv, settings
from aiod.progress import Progress, Step, silent
from aiod.registry.cache import file_mode, make_folder
from aiod.registry.layers import Layer
from aiod.registry.settings import cache_folder
from aiod.words import nearest

_RECORD = "aiod.json"
_MAX_RECORD_BYTES = 1_000_000
_FORMAT = 1  # part of the digest: environments of another format are others
# What the worker needs whether the runner names it or not.
_ALWAYS = {"appose": "appose>=0.12", "numpy": "numpy"}


@dataclass(frozen=True, slots=True)
class Environment:
    """A ready environment. `packages` are the lines of `uv pip freeze`: ``name==version``."""

    family: str
    python: Path
    digest: str
    packages: tuple[str, ...]

    def version_of(self, package: str) -> str | None:
        """The version of a package, None where it is not installed."""
        start = f"{package}=="
        return next((p[len(start) :] for p in self.packages if p.startswith(start)), None)

    @property
    def python_version(self) -> str:
        """The version of its Python, as the environment's own settings say."""
        settings = read_text(self.python.parent.parent / "pyvenv.cfg", limit=_MAX_RECORD_BYTES)
        found = re.search(r"^version(?:_info)?\s*=\s*(\S+)", settings, re.MULTILINE)
        return found[1] if found else "unknown"


@dataclass(frozen=True, slots=True)
class Found:
    """A folder of an environment: ready, being built by another process, or broken."""

    family: str
    folder: Path
    digest: str
    environment: Environment | None
    size: int
    date: str
    building: bool

    @property
    def state(self) -> str:
        return "ready" if self.environment else "building" if self.building else "broken"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an environment has to be, decided without running anything."""

    header: Header
    python: str
    digest: str

    @property
    def family(self) -> str:
        return self.header.family

    @property
    def folder(self) -> Path:
        return cache_folder() / "environments" / f"{self.family}-{self.digest}"


def wanted(runner: Path) -> Wanted:
    """The environment that a runner asks for on this machine. Raises RunnerError."""
    header = read_header(runner)
    python = _choose_python(header.requires_python)
    is_own = python == sys.executable
    parts = {
        "format": _FORMAT,
        "packages": header.listed if header.listed is not None else header.dependencies,
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}" if is_own else python,
        "platform": f"{sys.platform} {platform.machine()}",
        **({"excluded": header.excluded} if header.excluded else {}),
    }
    text = json.dumps(parts, sort_keys=True)
    return Wanted(header, python, hashlib.sha256(text.encode()).hexdigest()[:16])


def _choose_python(requires: str) -> str:
    """The interpreter that runs aiod, if the runner may use it; else what uv shall look for."""
    own = SpecifierSet(requires).contains(platform.python_version(), prereleases=True)
    return sys.executable if own else requires


def environment_for(
    runner: Path, *, progress: Progress = silent, again: bool = False
) -> Environment:
    """The environment of a runner, built where it is not here yet; `again` builds it anew.

    Two processes at once build it once. Raises RunnerError with uv's last lines in its details,
    and CacheError where the cache cannot be written.
    """
    want = wanted(runner)
    ready = None if again else _ready(want.folder)
    if ready is not None:
        return ready
    if _is_locked(want.folder):
        progress(Step(f"environment of {want.family}: another process builds it", 0, None))
    with _locked(want.folder, want.family):
        ready = None if again else _ready(want.folder)  # another process has just built it
        return ready or _build(want, progress)


def is_built(runner: Path) -> bool:
    """Whether the environment of a runner is on this machine. Raises RunnerError."""
    return _ready(wanted(runner).folder) is not None


@contextlib.contextmanager
def _locked(folder: Path, family: str) -> Iterator[None]:
    """Only one process at a time builds or removes an environment. Raises CacheError."""
    from filelock import FileLock

    root = folder.parent.parent
    try:
        make_folder(root, _lock_file(folder).parent)
        make_folder(root, folder.parent)
        lock = FileLock(_lock_file(folder), mode=file_mode(root))
        lock.acquire()
    except (OSError, CacheError) as error:
        why = reason(error) if isinstance(error, OSError) else ""
        raise CacheError(
            f"The cache {root} cannot be written: {why}." if why else str(error.args[0]),
            hint=f"ask its owner for `aiod env build {family}`, or set AIOD_CACHE to a folder "
            "of your own",
        ) from error
    try:
        yield
    finally:
        lock.release()


def _lock_file(folder: Path) -> Path:
    return folder.parent.parent / "locks" / f"{folder.name}.lock"


def _is_locked(folder: Path) -> bool:
    from filelock import FileLock, Timeout

    if not _lock_file(folder).exists():
        return False
    try:
        with FileLock(_lock_file(folder), timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a cache of others, where nothing can be removed either
        return False


def _build(want: Wanted, progress: Progress) -> Environment:
    """Build in place, since an environment holds its own path; only its record makes it ready."""
    folder, family = want.folder, want.family
    progress(Step(f"environment of {family}: preparing", 0, None, "packages"))
    _remove(folder)
    try:
        _install(want, progress)
        python = _python_of(folder)
        frozen = _uv(want, ("pip", "freeze", "--python", python), silent)
        packages = tuple(sorted(line.strip() for line in frozen.splitlines() if line.strip()))
        _write_record(want, packages)
    except OSError as error:
        raise RunnerError(
            f"The environment of {family} cannot be built in {folder}: {reason(error)}."
        ) from error
    except BaseException:
        with contextlib.suppress(CacheError):  # half an environment only takes space
            _remove(folder)
        raise
    return Environment(family, python, want.digest, packages)


def _install(want: Wanted, progress: Progress) -> None:
    header, folder = want.header, want.folder
    _uv(want, ("venv", "--no-project", "--python", want.python, folder), silent)
    packages: list[str | Path] = [
        text for name, text in _ALWAYS.items() if name not in header.names
    ]
    if header.listed is not None:
        packages += ["--requirements", header.list_file.absolute()]
    else:
        packages += header.dependencies
    if header.excluded:
        excluded = folder / "excluded.txt"
        excluded.write_text("\n".join(header.excluded) + "\n", encoding="utf-8")
        packages += ["--excludes", excluded]
    if "torch" in header.names and chooses_torch(settings(os.environ)):
        packages.append("--torch-backend=auto")
    # `install` checks the hashes that a list has and resolves what it leaves out, which `sync`
    # does not: the parts that a CUDA or ROCm build of torch needs.
    _uv(want, ("pip", "install", "--python", _python_of(folder), *packages), progress)


def _uv(want: Wanted, words: Iterable[str | Path], progress: Progress) -> str:
    return run_uv(
        list(words),
        family=want.family,
        folder=want.folder.parent,
        python=want.header.requires_python,
        progress=progress,
    )


def _python_of(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _write_record(want: Wanted, packages: tuple[str, ...]) -> None:
    record = {
        "family": want.family,
        "digest": want.digest,
        "packages": packages,
        "size": _size(want.folder),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    text = json.dumps(record, indent=2) + "\n"
    write_atomically(want.folder / _RECORD, text, mode=file_mode(want.folder.parent.parent))


def _size(folder: Path) -> int:
    total = 0
    for place, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118 -- 30,000 files
    return total


def _ready(folder: Path) -> Environment | None:
    record = _read_record(folder)
    python = _python_of(folder)
    if record is None or not python.exists():  # a link to a Python that was removed is broken too
        return None
    return Environment(record["family"], python, record["digest"], tuple(record["packages"]))


def _read_record(folder: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(read_text(folder / _RECORD, limit=_MAX_RECORD_BYTES))
    except (AiodError, ValueError, RecursionError):
        return None
    types = {"family": str, "digest": str, "packages": list, "size": int, "date": str}
    if not isinstance(record, dict) or any(
        not isinstance(record.get(name), kind) for name, kind in types.items()
    ):
        return None
    named = f"{record['family']}-{record['digest']}" == folder.name
    return record if named and all(isinstance(p, str) for p in record["packages"]) else None


def list_environments(root: Path | None = None) -> list[Found]:
    """Every environment of a cache, ready or not, by family."""
    found = []
    for folder in sorted(((root or cache_folder()) / "environments").glob("*-*")):
        family, _, digest = folder.name.rpartition("-")
        if re.fullmatch(r"[0-9a-f]{16}", digest) and folder.is_dir():
            record = _read_record(folder) or {"size": 0, "date": ""}
            ready = _ready(folder)
            size = record["size"] if ready else _size(folder)
            building = ready is None and _is_locked(folder)
            found.append(Found(family, folder, digest, ready, size, record["date"], building))
    return found


def remove_environments(found: Iterable[Found]) -> int:
    """Take environments away; the bytes freed. Raises CacheError."""
    freed = 0
    for item in found:
        with _locked(item.folder, item.family):
            _remove(item.folder)
        freed += item.size
    return freed


def _remove(folder: Path) -> None:
    """The record goes first, so that what is half removed is not taken for ready."""
    try:
        (folder / _RECORD).unlink(missing_ok=True)
        if folder.is_symlink():
            folder.unlink()
        elif folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise CacheError(f"{folder} cannot be removed: {reason(error)}.") from error


def runners_of(layers: Iterable[Layer]) -> dict[str, Path]:
    """Family -> its runner; where several layers have one, that of the last layer."""
    return {
        path.stem: path.absolute()
        for layer in layers
        for path in sorted(layer.runners.glob("*.py"))
        if path.stem.isidentifier() and not path.stem.startswith("_")
    }


def runner_for(family: str, layers: Iterable[Layer]) -> Path:
    """The runner of a family. Raises RunnerError, which names the likeliest other families."""
    runners = runners_of(layers)
    if family in runners:
        return runners[family]
    close = nearest(family, runners)
    known = ", ".join(sorted(runners)) or "none"
    raise RunnerError(
        f"No layer has a runner for {family}, so its models cannot be run.",
        details=[f"families with a runner: {known}"],
        hint=f"did you mean {close[0]}?" if close else None,
    )
