"""Fixtures for real libraries and real training: run only when asked for, `make test-models`.

Each family is trained for a few minutes on synthetic cells, in its own environment, and the
checkpoint is registered in a lab's layer; from there on everything is as users have it. What was
measured is printed at the end, as docs/models.md has it.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiod.flow.models.environments import Environment, environment_for
from aiod.registry.layers import SHIPPED

HERE = Path(__file__).parent
_TRAINING_SECONDS = 3600
_REFUSES = "http://127.0.0.1:9"  # nothing listens on the port named discard
_figures: list[str] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """These tests take a quarter of an hour: they run when this folder is named."""
    named = [Path(argument.partition("::")[0]).resolve() for argument in config.args]
    if not any(path.is_relative_to(HERE) for path in named):
        config.hook.pytest_deselected(items=[i for i in items if i.path.is_relative_to(HERE)])
        items[:] = [item for item in items if not item.path.is_relative_to(HERE)]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _figures:
        terminalreporter.section("what was measured")
        for line in _figures:
            terminalreporter.write_line(line)


@pytest.fixture
def tell() -> Callable[[str], None]:
    """Print a line at the end."""
    return _figures.append


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of all tests here: each environment is built once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def environment(cache: Path) -> Callable[[str], Environment]:
    """The environment of a shipped family, built from its list."""

    def build(family: str) -> Environment:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AIOD_CACHE", str(cache))
            built = environment_for(SHIPPED.runners / f"{family}.py")
        versions = ", ".join(
            f"{name} {version}"
            for name in ("cellpose", "torch", "stardist", "tensorflow", "keras", "numpy")
            if (version := built.version_of(name))
        )
        line = f"environment of {family}: {versions}"
        if line not in _figures:
            _figures.append(line)
        return built

    return build


@pytest.fixture(scope="session")
def train(
    environment: Callable[[str], Environment], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Run `train_<family>.py` in the family's environment; what it made."""

    def run(family: str, name: str, *words: str) -> Path:
        made = tmp_path_factory.mktemp("weights") / name
        script = HERE / f"train_{family}.py"
        done = subprocess.run(
            [environment(family).python, script, made, *words],
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
            timeout=_TRAINING_SECONDS,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        _figures.append(done.stdout.strip().splitlines()[-1])
        return made

    return run


@pytest.fixture
def lab(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Path]]:
    """Add a version of a family to a layer called lab, where the weights lie in a folder.

    Runs find no network that answers and an empty home: a library that wanted to download
    something would fail, one that wrote something would leave it there.
    """
    folder, home = tmp_path / "lab", tmp_path / "home"
    (folder / "manifests").mkdir(parents=True)
    home.mkdir()
    monkeypatch.setenv("AIOD_CACHE", str(cache))
    monkeypatch.setenv("AIOD_REGISTRIES", str(folder))
    monkeypatch.setenv("AIOD_OFFLINE", "1")
    monkeypatch.setenv("HOME", str(home))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, _REFUSES)
        monkeypatch.setenv(name.upper(), _REFUSES)

    def add(family: str, version: str, axes: str, weights: Path, **task: Any) -> Path:
        shipped = json.loads((SHIPPED.manifests / f"{family}.json").read_text("utf-8"))
        path = folder / "manifests" / f"{family}.json"
        document = {
            "name": shipped["name"],
            "short_name": family,
            "metadata": {"description": "Trained in a test.", "license": {"weights": "CC0-1.0"}},
            "versions": {},
        }
        if path.exists():
            document = json.loads(path.read_text("utf-8"))
        location: dict[str, Any] = {"location": str(weights)}
        if weights.is_file():
            location["sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
        document["versions"][version] = {
            "axes": axes,
            "metadata": {"description": "Synthetic cells."},
            "tasks": {"cyto": {"locations": [location], **task}},
        }
        path.write_text(json.dumps(document, indent=2), "utf-8")
        return folder

    yield add
    left = [path.name for path in home.rglob("*") if path.is_file()]
    assert not [name for name in left if name.endswith((".npy", ".h5", ".zip", "torch_0"))], left
