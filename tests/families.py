"""Small manifests for tests, and where the tests' data lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"


def family(name: str = "Toy", **changes: Any) -> dict[str, Any]:
    """A small valid manifest without warnings but for its hash; `changes` replace its fields."""
    document: dict[str, Any] = {
        "name": name,
        "short_name": name.lower(),
        "metadata": {
            "description": f"{name} segments toys.",
            "pubs": [{"title": "On toys", "doi": "10.1234/toys"}],
            "license": {"code": "MIT", "weights": "CC-BY-4.0"},
        },
        "versions": {
            "v1": {
                "axes": "YX",
                "tasks": {"nuclei": {"locations": [{"location": "https://example.org/v1.pth"}]}},
            }
        },
        "params": [
            {"name": "Size", "arg_name": "size", "value": 3.5, "tooltip": "How large toys are."}
        ],
    }
    return {**document, **changes}
