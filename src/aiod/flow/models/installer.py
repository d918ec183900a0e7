"""Running uv, which makes environments: its settings, its progress, its failures in sentences."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from aiod.errors import AiodError
from aiod.files import read_text
from aiod.flow.models.header import RunnerError
from aiod.progress import Progress, Step, silent
from aiod.registry.cache import free_bytes
from aiod.registry.settings import offline
from aiod.words import byte_size, counted

_LINES_KEPT = 200
_LINES_SHOWN = 12
_MAX_LINE = 2000

# What a user may have said to pip about where packages come from, and uv's word for it.
_FROM_PIP = {
    "PIP_FIND_LINKS": "UV_FIND_LINKS",
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    "PIP_NO_INDEX": "UV_NO_INDEX",
}
_SAYS_WHERE = frozenset(
    (
        "UV_TORCH_BACKEND",
        "UV_DEFAULT_INDEX",
        "UV_INDEX_URL",
        "UV_INDEX",
        "UV_EXTRA_INDEX_URL",
        "UV_FIND_LINKS",
        "UV_NO_INDEX",
    )
)
_SETTING = re.compile(
    r"^\s*(?:\[\[?)?(?:pip\.)?(index|index-url|extra-index-url|find-links|no-index|torch-backend)\b",
    re.MULTILINE,
)
_MAX_SETTINGS_BYTES = 1_000_000

# What uv's words mean, most telling first: (pattern, sentence, next step).
_CAUSES: tuple[tuple[str, str, str | None], ...] = (
    (
        r"no space left on device|os error 28\b|disk quota exceeded|os error 122\b",
        "the disk is full ({free} free in {folder})",
        "free some space (`aiod env clean`), or set AIOD_CACHE to a folder on another disk",
    ),
    (
        r"failed to download `\S*python-build",
        "Python {python} is not on this machine and cannot be downloaded",
        "install that Python, or check the network and the proxy (HTTPS_PROXY)",
    ),
    (
        r"no interpreter found|failed to inspect python|no download found|python downloads are",
        "there is no Python {python} here",
        "install that Python, or let uv download it (UV_PYTHON_DOWNLOADS=automatic)",
    ),
    (
        r"hash mismatch",
        "a package differs from the one that its list names by hash",
        "compare the index that packages come from with the list beside the runner",
    ),
    (
        r"network connectivity is disabled|network was disabled|--offline",
        "a package is not on this machine, and AIOD_OFFLINE forbids the network",
        "run `aiod env build {family}` once with a network",
    ),
    (
        r"dns error|failed to (connect|fetch)|error sending request|timed out|refused",
        "the packages cannot be downloaded",
        "check the network and the proxy (HTTPS_PROXY), then try again: nothing is lost",
    ),
    (
        r"no solution found|unsatisfiable|not compatible|no wheels? with|failed to build",
        "its packages do not exist for this machine, or do not fit together",
        None,
    ),
    (r"permission denied|read-only file system", "{folder} cannot be written", None),
)


def uv_binary() -> str:
    """The path of uv, which comes as a package. Raises RunnerError where it is missing."""
    try:
        import uv

        return os.fspath(uv.find_uv_bin())
    except (ImportError, FileNotFoundError) as error:
        raise RunnerError(
            "uv, which builds the environments of models, is not installed.",
            hint="pip install 'aiod-hub[run]'",
        ) from error


def settings(given: Mapping[str, str]) -> dict[str, str]:
    """The environment variables uv runs with: the user's own, and what we need of it.

    What a user told pip about where packages come from holds for uv too, unless uv was told.
    """
    variables = {name: value for name, value in given.items() if name != "VIRTUAL_ENV"}
    if _SAYS_WHERE.isdisjoint(variables):
        for theirs, ours in _FROM_PIP.items():
            if given.get(theirs, "").strip():
                between = "," if ours == "UV_FIND_LINKS" else " "
                variables[ours] = between.join(given[theirs].split())
    variables |= {"UV_COMPILE_BYTECODE": "1", "UV_NO_PROGRESS": "1"}
    if offline():
        variables |= {"UV_OFFLINE": "1", "UV_PYTHON_DOWNLOADS": "never"}
    return variables


def chooses_torch(variables: Mapping[str, str]) -> bool:
    """Whether uv is free to choose the build of torch (CPU, CUDA, ROCm) that fits this machine.

    It is not where the user says where packages come from, or that there is no network.
    """
    if not _SAYS_WHERE.isdisjoint(variables) or variables.get("UV_OFFLINE"):
        return False
    return not any(map(_says_where, _settings_files(variables)))


def _settings_files(variables: Mapping[str, str]) -> list[Path]:
    if variables.get("UV_NO_CONFIG"):
        return []
    if given := variables.get("UV_CONFIG_FILE"):
        return [Path(given)]
    homes = [variables.get("XDG_CONFIG_HOME"), variables.get("APPDATA")]
    folders = [Path(home) for home in homes if home]
    folders += [Path("~/.config").expanduser(), Path("/etc")]
    return [folder / "uv" / "uv.toml" for folder in folders]


def _says_where(file: Path) -> bool:
    try:
        return bool(_SETTING.search(read_text(file, limit=_MAX_SETTINGS_BYTES)))
    except AiodError:
        return False


def run_uv(
    words: Sequence[str | Path],
    *,
    family: str,
    folder: Path,
    python: str = "",
    progress: Progress = silent,
) -> str:
    """Run uv to its end and return what it prints; `folder` is where it works.

    Raises RunnerError with the cause in a sentence and uv's last lines in its details. Whatever
    `progress` raises stops uv.
    """
    command = [uv_binary(), "--color", "never", *(os.fspath(word) for word in words)]
    kept: deque[str] = deque(maxlen=_LINES_KEPT)
    with (
        tempfile.TemporaryFile() as printed,
        subprocess.Popen(  # noqa: S603 -- a list of words; uv is ours
            command,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=settings(os.environ),
            cwd=folder,  # away from the settings of whatever project the user stands in
            umask=0o022 if os.name == "posix" else -1,  # a lab shares the cache
        ) as process,
    ):
        assert process.stderr is not None
        try:
            while line := process.stderr.readline(_MAX_LINE):
                kept.append(line.rstrip())
                _report(line, family, progress)
        except BaseException:
            process.kill()
            raise
        if process.wait() == 0:
            printed.seek(0)
            return printed.read().decode(errors="replace")
    raise _failure([line for line in kept if line], family, folder, python)


def _report(line: str, family: str, progress: Progress) -> None:
    """Turn one of uv's lines into a report: it counts packages when it is done with a stage."""
    if found := re.match(r"(Resolved|Prepared|Installed) (\d+) package", line):
        stage, count = found[1], int(found[2])
        packages = counted(count, "package")
        if stage == "Resolved":
            progress(Step(f"environment of {family}: installing {packages}", 0, count, "packages"))
        elif stage == "Installed":
            what = f"environment of {family}: installing {packages}"
            progress(Step(what, count, count, "packages"))


def _failure(lines: list[str], family: str, folder: Path, python: str) -> RunnerError:
    text = "\n".join(lines)
    words = {
        "family": family,
        "folder": str(folder),
        "python": python or "of the wanted version",
        "free": byte_size(free_bytes(folder)),
    }
    for pattern, cause, hint in _CAUSES:
        if re.search(pattern, text, re.IGNORECASE):
            told = f"The environment of {family} cannot be built: {cause.format(**words)}."
            return RunnerError(
                told, details=lines[-_LINES_SHOWN:], hint=hint and hint.format(**words)
            )
    return RunnerError(
        f"The environment of {family} cannot be built.", details=lines[-_LINES_SHOWN:]
    )
