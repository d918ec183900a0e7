"""What the tests share: nothing of the machine they run on, and small real layers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# How long an example takes is the machine's affair. The gate tries the same examples each time;
# `pytest --hypothesis-profile explore` looks for new ones.
settings.register_profile("gate", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, derandomize=False, max_examples=1000)
settings.load_profile("gate")


@pytest.fixture(autouse=True)
def _own_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache and settings of the test's own, no layers but the shipped one."""
    monkeypatch.setenv("AIOD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AIOD_CONFIG", str(tmp_path / "config.toml"))
    for name in ("AIOD_REGISTRIES", "AIOD_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def make_layer(tmp_path: Path) -> Callable[..., Path]:
    """Write manifests to a new layer folder called `layer` and return the folder."""

    def make(layer: str = "lab", *documents: dict[str, Any]) -> Path:
        folder = tmp_path / layer
        (folder / "manifests").mkdir(parents=True, exist_ok=True)
        for index, document in enumerate(documents):
            name = document.get("short_name", f"manifest{index}")
            (folder / "manifests" / f"{name}.json").write_text(json.dumps(document, indent=2))
        return folder

    return make
