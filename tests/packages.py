"""Packages of the BioImage Model Zoo, written by tests: descriptions in two formats, and files."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

WEIGHTS = b"\x08\x08weights" * 99


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def space(name: str, halo: int = 0, **size: Any) -> dict[str, Any]:
    """A spatial axis of an output, as long as that of the input."""
    told = {"type": "space", "id": name, "size": {"tensor_id": "raw", "axis_id": name}, **size}
    return {**told, "halo": halo} if halo else told


def latest(**changes: Any) -> dict[str, Any]:
    """A description in format 0.5: one channel of light in, foreground and boundary out."""
    long = {"min": 64, "step": 16}
    return {
        "type": "model",
        "format_version": "0.5.4",
        "id": "calm-otter",
        "name": "Calm nuclei",
        "description": "Finds nuclei.",
        "authors": [{"name": "Ada Byron", "affiliation": "Oslo", "orcid": "0000-0002-1825-0097"}],
        "cite": [{"text": "Cells, segmented", "doi": "10.1234/cells.2021"}],
        "license": "CC-BY-4.0",
        "git_repo": "https://example.org/code",
        "documentation": {"source": "README.md"},
        "tags": ["nuclei", "2D"],
        "inputs": [
            {
                "id": "raw",
                "axes": [
                    {"type": "batch"},
                    {"type": "channel", "channel_names": ["light"]},
                    {"type": "space", "id": "y", "size": long, "unit": "micrometer", "scale": 0.5},
                    {"type": "space", "id": "x", "size": long, "unit": "micrometer", "scale": 0.5},
                ],
                "preprocessing": [
                    {"id": "zero_mean_unit_variance", "kwargs": {"axes": ["x", "y"]}}
                ],
                "test_tensor": {"source": "test_input.npy"},
            }
        ],
        "outputs": [
            {
                "id": "answer",
                "axes": [
                    {"type": "batch"},
                    {"type": "channel", "channel_names": ["foreground", "boundary"]},
                    space("y", 24, scale=0.5, unit="micrometer"),
                    space("x", 24, scale=0.5, unit="micrometer"),
                ],
                "test_tensor": {"source": "test_output.npy"},
            }
        ],
        "weights": {
            "onnx": {
                "source": "weights.onnx",
                "sha256": sha256(WEIGHTS),
                "opset_version": 15,
            }
        },
        **changes,
    }


def older(**changes: Any) -> dict[str, Any]:
    """A description in format 0.4: a stack with two channels in, its boundaries out."""
    return {
        "type": "model",
        "format_version": "0.4.10",
        "name": "Old walls",
        "description": "Finds walls.",
        "authors": [{"name": "Ada Byron", "github_user": "ada"}],
        "cite": [{"text": "Walls", "url": "https://example.org/walls"}],
        "license": "MIT",
        "documentation": "README.md",
        "covers": [],
        "tags": ["membrane"],
        "timestamp": "2021-03-01T12:00:00",
        "config": {"bioimageio": {"nickname": "quiet-newt"}},
        "inputs": [
            {
                "name": "raw",
                "axes": "bczyx",
                "data_type": "float32",
                "data_range": [float("-inf"), float("inf")],
                "shape": {"min": [1, 2, 8, 32, 32], "step": [0, 0, 4, 8, 8]},
                "preprocessing": [
                    {
                        "name": "scale_range",
                        "kwargs": {
                            "mode": "per_sample",
                            "axes": "zyx",
                            "min_percentile": 1,
                            "max_percentile": 99.8,
                        },
                    }
                ],
            }
        ],
        "outputs": [
            {
                "name": "walls",
                "axes": "bczyx",
                "data_type": "float32",
                "data_range": [float("-inf"), float("inf")],
                "halo": [0, 0, 2, 8, 8],
                "shape": {
                    "reference_tensor": "raw",
                    "scale": [1.0, 0.0, 1.0, 1.0, 1.0],
                    "offset": [0.0, 0.5, 0.0, 0.0, 0.0],
                },
                "postprocessing": [{"name": "sigmoid"}],
            }
        ],
        "test_inputs": ["test_input.npy"],
        "test_outputs": ["test_output.npy"],
        "weights": {"torchscript": {"source": "weights.pt", "sha256": sha256(WEIGHTS)}},
        **changes,
    }


def files_of(description: dict[str, Any]) -> dict[str, bytes]:
    """The files that a description of here names."""
    weights = next(iter(description["weights"].values()))["source"]
    return {
        str(weights): WEIGHTS,
        "test_input.npy": npy(np.zeros((1, 1, 64, 64), np.float32)),
        "test_output.npy": npy(np.zeros((1, 2, 64, 64), np.float32)),
        "README.md": b"# Words\n",
    }


def npy(array: Any) -> bytes:
    import io

    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def text(description: dict[str, Any]) -> str:
    """A description as YAML, of which JSON is a part but for the infinite."""
    return json.dumps(description).replace("-Infinity", "-.inf").replace("Infinity", ".inf")


def folder_of(path: Path, description: dict[str, Any]) -> Path:
    """A package as a folder."""
    path.mkdir(parents=True)
    (path / "rdf.yaml").write_text(text(description))
    for name, data in files_of(description).items():
        (path / name).write_bytes(data)
    return path


def zip_of(path: Path, description: dict[str, Any]) -> Path:
    """A package as a zip."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("rdf.yaml", text(description))
        for name, data in files_of(description).items():
            archive.writestr(name, data)
    return path
