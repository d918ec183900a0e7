"""A model's environment: read from its runner, built once by uv, used by everybody."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aiod.errors import CacheError
from aiod.flow.models.environments import (
    Environment,
    environment_for,
    list_environments,
    remove_environments,
    runner_for,
    runners_of,
    wanted,
)
from aiod.flow.models.header import RunnerError, read_header
from aiod.flow.models.installer import chooses_torch, settings
from aiod.progress import Step
from aiod.registry.layers import Layer
from people import IN_A_WORLD_OF_ITS_OWN, an_ordinary_user, names

pytest_plugins = "toys"

NUMPY = f"numpy=={np.__version__}"
MakeRunner = Callable[..., Path]


def header(*lines: str) -> str:
    return "\n".join(["# /// script", *(f"# {line}" for line in lines), "# ///", '"""A toy."""\n'])


# The packages are those of toys.py, so that `built` is the environment of such a runner.
GOOD = header('requires-python = ">=3.11"', f'dependencies = ["appose>=0.12", "{NUMPY}"]')


@pytest.fixture
def runner(tmp_path: Path) -> Path:
    return write(tmp_path / "lab" / "runners" / "toy.py", GOOD)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def built(toy_environment: Environment, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the environment that is built for all tests, its cache in use."""
    folder = toy_environment.python.parents[1]
    monkeypatch.setenv("AIOD_CACHE", str(folder.parents[1]))
    return folder


# --- the header ----------------------------------------------------------------------------------


def test_a_header_says_which_python_and_which_packages(tmp_path: Path) -> None:
    text = header(
        'requires-python = ">=3.11,<3.13"',
        "dependencies = [",
        '  "cellpose==3.1.1.2",',
        "  'Torch==2.7.1; sys_platform != \"darwin\"',  # a comment",
        "]",
        "",
        "[tool.uv]",
        'exclude-newer = "2026-01-01T00:00:00Z"',
        'exclude-dependencies = ["napari"]',
    )
    found = read_header(write(tmp_path / "toy.py", "#!/usr/bin/env python\n\n" + text))
    assert found.requires_python == ">=3.11,<3.13"
    assert found.dependencies == (
        "cellpose==3.1.1.2",
        'Torch==2.7.1; sys_platform != "darwin"',
    )
    assert found.names == {"cellpose", "torch"}
    assert found.listed is None
    assert found.excluded == ("napari",)
    assert read_header(write(tmp_path / "toy.py", GOOD)).excluded == ()
    assert read_header(write(tmp_path / "win.py", text.replace("\n", "\r\n"))).names == found.names


def test_the_list_beside_a_runner_tells_the_names(tmp_path: Path) -> None:
    write(tmp_path / "toy.txt", "# a list\ntorch==2.7.1\nNum_Py==2.0 \\\n    --hash=sha256:00\n")
    assert read_header(write(tmp_path / "toy.py", GOOD)).names == {"torch", "num-py"}


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ('"""No header."""\n', 1, "has no header"),
        ("", 1, "has no header"),
        (GOOD + GOOD, 1, "has 2 headers"),
        (header('dependencies = ["numpy"').replace("# ///\n", ""), 1, "has no header"),
        ("\n\n" + header("requires-python = '>=3.11'", "dependencies = [nump]"), 5, "not TOML"),
        (header("dependencies = 'numpy'"), 2, "dependencies is not a list of texts"),
        (header("dependencies = [1]"), 2, "dependencies is not a list of texts"),
        (header("dependencies = [", "  'numpy',", "  'num py',", "]"), 4, "is no dependency"),
        (header("dependencies = []", "requires-python = 3.11"), 3, "requires-python is not"),
        (header("dependencies = []", "requires-python = '3.11'"), 3, 'not such as ">=3.11'),
        (header("dependencies = [" + "'a'," * 1001 + "]"), 2, "more than 1000 dependencies"),
        (header("[tool.uv]", "exclude-dependencies = 'a'"), 3, "is not a list of names"),
        (header("[tool.uv]", "exclude-dependencies = ['--index']"), 3, "is no name of a package"),
    ],
)
def test_a_mistake_in_a_header_is_told_with_file_and_line(
    tmp_path: Path, text: str, line: int, told: str
) -> None:
    path = write(tmp_path / "toy.py", text)
    with pytest.raises(RunnerError, match=re.escape(told)) as caught:
        read_header(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")


def test_a_runner_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="no such file"):
        read_header(tmp_path / "toy.py")
    with pytest.raises(RunnerError, match="larger than"):
        read_header(write(tmp_path / "large.py", "#" * 1_000_001))
    (tmp_path / "toy.txt").mkdir()
    with pytest.raises(RunnerError, match="is not a file"):
        read_header(write(tmp_path / "toy.py", GOOD))


# --- which environment it is ---------------------------------------------------------------------


def test_the_same_packages_are_the_same_environment_whatever_else_changes(runner: Path) -> None:
    before = wanted(runner).digest
    runner.write_text(GOOD + "\ndef load(): ...\n")
    assert wanted(runner).digest == before
    runner.write_text(GOOD.replace(NUMPY, "numpy"))
    assert wanted(runner).digest != before


def test_a_list_beside_the_runner_decides(runner: Path) -> None:
    write(runner.with_suffix(".txt"), f"{NUMPY}\n")
    before = wanted(runner).digest
    runner.write_text(GOOD.replace(NUMPY, "numpy"))
    assert wanted(runner).digest == before
    write(runner.with_suffix(".txt"), "numpy\n")
    assert wanted(runner).digest != before


def test_our_own_python_is_taken_where_the_runner_allows_it(runner: Path) -> None:
    assert wanted(runner).python == sys.executable
    own = wanted(runner).digest
    runner.write_text(GOOD.replace(">=3.11", "==2.7.*"))
    assert wanted(runner).python == "==2.7.*"
    assert wanted(runner).digest != own


# --- building ------------------------------------------------------------------------------------


def test_an_environment_has_what_the_header_asks_for_and_is_built_once(
    tmp_path: Path, runner: Path
) -> None:
    before = names(runner.parent)
    steps: list[Step] = []
    made = environment_for(runner, progress=steps.append)
    told = [(step.what, step.done, step.total, step.unit) for step in steps]
    assert told == [
        ("environment of toy: preparing", 0, None, "packages"),
        ("environment of toy: installing 2 packages", 0, 2, "packages"),
        ("environment of toy: installing 2 packages", 2, 2, "packages"),
    ]
    assert made.python.is_relative_to(tmp_path / "cache" / "environments" / f"toy-{made.digest}")
    assert [item.partition("==")[0] for item in made.packages] == ["appose", "numpy"]
    assert made.version_of("numpy") == np.__version__
    assert made.version_of("num") is None
    script = "import sys, numpy, appose; print(numpy.__version__, sys.prefix)"
    run = subprocess.run([made.python, "-c", script], capture_output=True, text=True, timeout=60)
    assert run.stdout.split() == [np.__version__, str(made.python.parents[1])]
    steps.clear()
    assert environment_for(runner, progress=steps.append) == made
    assert not steps
    assert names(runner.parent) == before  # nothing is written beside a runner


def test_what_the_header_excludes_is_left_out_though_others_ask_for_it(tmp_path: Path) -> None:
    asked = "dependencies = ['appose==0.12.0', 'importlib-metadata==8.7.0']"
    left_out = header(asked, "[tool.uv]", "exclude-dependencies = ['zipp']")
    with_it = environment_for(write(tmp_path / "toy.py", header(asked)))
    without = environment_for(write(tmp_path / "toy.py", left_out))
    assert with_it.version_of("zipp")
    assert without.version_of("importlib-metadata") == "8.7.0"
    assert without.version_of("zipp") is None
    assert without.digest != with_it.digest


def test_what_is_half_built_or_broken_is_built_anew(built: Path, runner: Path) -> None:
    made = environment_for(runner)
    record = built / "aiod.json"
    good = record.read_text()
    for bad in ("", "[]", "{", good.replace('"toy"', '"boy"'), good.replace('"packages"', '"p"')):
        record.write_text(bad)
        assert [item.state for item in list_environments()] == ["broken"]
    (built / "junk").write_text("of the first try")
    assert environment_for(runner) == made
    assert not (built / "junk").exists()
    made.python.unlink()
    made.python.symlink_to("/a/python/that/was/removed")
    assert [item.state for item in list_environments()] == ["broken"]
    assert environment_for(runner) == made
    assert made.python.exists()


BUILD = """
import sys
from pathlib import Path
from aiod.flow.models.environments import environment_for
environment_for(Path(sys.argv[1]), progress=lambda step: print(step.what, flush=True))
print("ready")
"""


def building(runner: Path, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, str(runner)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
        start_new_session=True,
    )


def test_two_processes_at_once_build_it_once(runner: Path) -> None:
    both = [building(runner), building(runner)]
    told = [process.communicate(timeout=120)[0].splitlines() for process in both]
    assert [lines[-1] for lines in told] == ["ready", "ready"]
    assert sum("environment of toy: preparing" in lines for lines in told) == 1


def test_who_waits_for_another_process_is_told(runner: Path) -> None:
    process = building(runner)
    assert process.stdout is not None
    process.stdout.readline()
    steps: list[Step] = []
    environment_for(runner, progress=steps.append)
    process.communicate(timeout=60)
    assert [step.what for step in steps] == ["environment of toy: another process builds it"]


def test_a_build_that_is_killed_leaves_nothing_that_is_taken_for_ready(runner: Path) -> None:
    process = building(runner)
    assert process.stdout is not None
    while "installing" not in process.stdout.readline():
        assert process.poll() is None
    assert [item.state for item in list_environments()] == ["building"]
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    assert [item.state for item in list_environments()] == ["broken"]
    assert environment_for(runner).version_of("numpy")


def test_whoever_watches_may_stop_a_build(tmp_path: Path, runner: Path) -> None:
    def stop(step: Step) -> None:
        if "installing" in step.what:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        environment_for(runner, progress=stop)
    assert list_environments() == []


def test_a_shared_cache_that_can_only_be_read_is_used_as_it_is(
    built: Path, runner: Path, tmp_path: Path
) -> None:
    made = environment_for(runner)
    root = built.parents[1]
    folders = [root, *(path for path in root.rglob("*") if path.is_dir() and not path.is_symlink())]
    modes = {path: path.stat().st_mode for path in folders}
    try:
        for path in folders:
            path.chmod(0o555)
        with an_ordinary_user():
            assert environment_for(runner) == made
            assert [item.state for item in list_environments()] == ["ready"]
            runner.write_text(GOOD.replace(NUMPY, "numpy>2"))
            with pytest.raises(CacheError, match="cannot be written") as caught:
                environment_for(runner)
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    assert "aiod env build toy" in str(caught.value)


def test_a_lab_that_cannot_be_written_and_a_strict_umask_are_no_obstacle(
    runner: Path, tmp_path: Path
) -> None:
    runner.parent.chmod(0o555)
    before = os.umask(0o077)
    try:
        with an_ordinary_user():
            made = environment_for(runner)
    finally:
        os.umask(before)
        runner.parent.chmod(0o755)
    assert made.python.parents[1].stat().st_mode & 0o055 == 0o055


def test_hashes_of_a_list_are_verified_where_it_has_them(runner: Path) -> None:
    listed = runner.with_suffix(".txt")
    digits = "0" * 64
    listed.write_text(f"{NUMPY}\nappose==0.12.0 \\\n    --hash=sha256:{digits}\n")
    with pytest.raises(RunnerError, match="differs from the one that its list names") as caught:
        environment_for(runner)
    assert any(digits in line for line in caught.value.details)
    assert list_environments() == []  # half an environment only takes space
    good = re.search(r"sha256:(?!0{64})[0-9a-f]{64}", "\n".join(caught.value.details))
    assert good is not None
    listed.write_text(f"{NUMPY}\nappose==0.12.0 \\\n    --hash={good[0]}\n")
    assert environment_for(runner).version_of("appose") == "0.12.0"


# --- what goes wrong -----------------------------------------------------------------------------


def why_not(runner: Path, text: str) -> RunnerError:
    runner.write_text(text)
    with pytest.raises(RunnerError) as caught:
        environment_for(runner)
    assert "Traceback" not in str(caught.value)
    assert list_environments() == []
    return caught.value


def test_a_python_that_is_nowhere_is_a_sentence(
    runner: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    error = why_not(runner, GOOD.replace(">=3.11", ">=3.99"))
    assert error.what == "The environment of toy cannot be built: there is no Python >=3.99 here."


def test_packages_that_do_not_exist_or_do_not_fit(runner: Path) -> None:
    error = why_not(runner, header('dependencies = ["numpy==999"]'))
    assert "its packages do not exist for this machine, or do not fit together" in error.what
    assert "numpy" in str(error)


def test_without_a_network(runner: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "empty"))
    monkeypatch.setenv("AIOD_OFFLINE", "1")
    error = why_not(runner, GOOD)
    assert "AIOD_OFFLINE forbids the network" in error.what
    assert error.hint == "run `aiod env build toy` once with a network"
    monkeypatch.delenv("AIOD_OFFLINE")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    assert "the packages cannot be downloaded" in why_not(runner, GOOD).what


def test_offline_packages_come_from_uvs_cache(
    built: Path, runner: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIOD_CACHE", str(tmp_path / "other"))
    monkeypatch.setenv("AIOD_OFFLINE", "1")
    assert environment_for(runner).version_of("numpy")


def test_without_uv(runner: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uv", None)
    error = why_not(runner, GOOD)
    assert "uv, which builds the environments of models, is not installed." in error.what
    assert error.hint == "pip install 'aiod-hub[run]'"


SMALL_DISK = """
import os, subprocess, sys
from pathlib import Path
from aiod.flow.models.environments import environment_for
from aiod.errors import AiodError
disk, runner = sys.argv[1:]
if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", disk]).returncode:
    sys.exit(77)
os.environ["AIOD_CACHE"] = disk + "/cache"
try:
    environment_for(Path(runner))
except AiodError as error:
    print(error)
print(os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize > 7_000_000)
"""


@pytest.mark.skipif(not shutil.which("unshare"), reason="a small disk is made with Linux's tmpfs")
def test_a_full_disk_is_a_sentence_and_left_as_it_was(runner: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        [*IN_A_WORLD_OF_ITS_OWN, sys.executable, "-c", SMALL_DISK, str(disk), str(runner)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    if made.returncode == 77 or "unshare" in made.stderr:
        pytest.skip(f"no small disk can be mounted here: {made.stderr}")
    assert "The environment of toy cannot be built: the disk is full (" in made.stdout
    assert made.stdout.endswith("True\n")


# --- what the user told uv and pip ---------------------------------------------------------------


def test_what_pip_was_told_about_places_holds_for_uv_unless_uv_was_told() -> None:
    told = settings({"PIP_FIND_LINKS": "/a /b", "PIP_INDEX_URL": "https://i", "HOME": "/h"})
    assert told["UV_FIND_LINKS"] == "/a,/b"
    assert told["UV_DEFAULT_INDEX"] == "https://i"
    assert told["UV_COMPILE_BYTECODE"] == "1"
    assert told["HOME"] == "/h"
    assert "UV_OFFLINE" not in told
    told = settings({"PIP_FIND_LINKS": "/a", "UV_INDEX": "https://mine"})
    assert "UV_FIND_LINKS" not in told


def test_offline_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOD_OFFLINE", "1")
    told = settings({})
    assert (told["UV_OFFLINE"], told["UV_PYTHON_DOWNLOADS"]) == ("1", "never")


def test_uv_chooses_the_build_of_torch_unless_the_user_says_where_packages_come_from(
    tmp_path: Path,
) -> None:
    own = {"XDG_CONFIG_HOME": str(tmp_path), "UV_CONFIG_FILE": str(tmp_path / "none")}
    assert chooses_torch(own)
    for name in ("UV_TORCH_BACKEND", "UV_FIND_LINKS", "UV_INDEX", "UV_DEFAULT_INDEX", "UV_OFFLINE"):
        assert not chooses_torch({**own, name: "1"})
    assert not chooses_torch(settings({**own, "PIP_FIND_LINKS": "/wheels"}))
    file = write(tmp_path / "uv" / "uv.toml", "preview = true\n")
    for text, chooses in {
        "preview = true": True,
        '[[index]]\nurl = "https://lab"': False,
        'index-url = "https://lab"': False,
        "[pip]\ntorch-backend = 'cpu'": False,
    }.items():
        file.write_text(text)
        assert chooses_torch({**own, "UV_CONFIG_FILE": str(file)}) is chooses


# --- layers and lists ----------------------------------------------------------------------------


def test_the_runner_of_the_last_layer_counts(tmp_path: Path) -> None:
    layers = [Layer(name, tmp_path / name) for name in ("first", "second", "empty")]
    for place in ("first/toy", "second/toy", "first/boy", "first/__init__", "first/a-b"):
        write(tmp_path / Path(place).parent / "runners" / f"{Path(place).name}.py", GOOD)
    assert runners_of(layers) == {
        "boy": tmp_path / "first" / "runners" / "boy.py",
        "toy": tmp_path / "second" / "runners" / "toy.py",
    }
    assert runner_for("toy", layers).is_relative_to(tmp_path / "second")
    with pytest.raises(RunnerError, match="No layer has a runner for tiy") as caught:
        runner_for("tiy", layers)
    assert "boy, toy" in str(caught.value)
    assert caught.value.hint == "did you mean toy?"


def test_environments_are_listed_and_removed(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "environments"
    for name in ("toy-0123456789abcdef", "my_toy-0123456789abcdef"):
        write(folder / name / "bin" / "python", "")
    record = {
        "family": "toy",
        "digest": "0123456789abcdef",
        "packages": ["numpy==2"],
        "size": 42,
        "date": "2026-01-01",
    }
    write(folder / "toy-0123456789abcdef" / "aiod.json", json.dumps(record))
    (folder / "not-an-environment").mkdir()
    found = list_environments()
    assert [(item.family, item.state, item.size) for item in found] == [
        ("my_toy", "broken", 0),
        ("toy", "ready", 42),
    ]
    assert remove_environments(found) == 42
    assert names(folder) == ["not-an-environment"]
