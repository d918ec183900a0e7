"""What tests of whole runs share: a lab with a toy model, in an environment that is built once.

A test module takes it with ``pytest_plugins = "labs"``.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from toylab import NAMES, RUNNER, VALUES, Image, blobs, save

from aiod.flow.request import Request
from aiod.flow.run import Done, run
from aiod.progress import Progress, silent
from aiod.registry import load


@pytest.fixture(scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for all tests here, so that the toy's environment is built once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def _nothing_left() -> Iterator[None]:
    """After a run, no process of a model is left."""
    import psutil

    yield
    workers = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
            if "inside.py" in " ".join(child.cmdline()):
                workers.append(child)
    _, left = psutil.wait_procs(workers, timeout=5)
    assert not left


@pytest.fixture
def lab(_cache: Path, _nothing_left: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A layer with the toy: versions for planes, channels, stacks, and classes."""
    monkeypatch.setenv("AIOD_CACHE", str(_cache))
    folder = tmp_path / "lab"
    (folder / "manifests").mkdir(parents=True)
    (folder / "runners").mkdir()
    (folder / "runners" / "toy.py").write_text(RUNNER)

    def version(axes: str, **metadata: Any) -> dict[str, Any]:
        metadata = {"description": "Toys.", "halo": 6, **metadata}
        tasks = {"nuclei": {"weights": False}}
        return {"axes": axes, "metadata": metadata, "tasks": tasks}

    manifest = {
        "name": "Toy",
        "short_name": "toy",
        "metadata": {"description": "Toys.", "license": {"code": "MIT"}},
        "versions": {
            "plane": version("YX"),
            "colour": version("YXC"),
            "stack": version("ZYX"),
            "half": version("YX", pixel_size={"value": 0.5, "unit": "micrometer"}),
            "classes": version("YX", output="semantic"),
            "bytes": version("YX", dtypes=["uint8"]),
            "zoomed": version("YX", rescale="always", object_diameter=10, link_z=True),
        },
        "params": [
            {"name": "diameter", "value": None, "dtype": "float"},
            *(
                {
                    "name": name,
                    "value": VALUES.get(name, ""),
                    "tooltip": "What the toy is told.",
                }
                for name in NAMES
            ),
        ],
    }
    (folder / "manifests" / "toy.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def go(lab: Path, tmp_path: Path) -> Callable[..., Done]:
    def go(
        model: str | None,
        *inputs: Path,
        out: str = "out",
        progress: Progress = silent,
        **options: Any,
    ) -> Done:
        request = Request(
            model=model and f"toy/{model}",
            inputs=inputs,
            out=tmp_path / out,
            **{"workers": 2, **options},
        )
        return run(request, load([lab]), progress=progress)

    return go


@pytest.fixture
def picture(tmp_path: Path) -> tuple[Path, Image]:
    image = blobs((150, 130))
    return save(
        tmp_path / "cells.ome.tif", image, "YX", PhysicalSizeX=0.25, PhysicalSizeY=0.25
    ), image
