"""Runs every benchmark and writes the page: python benchmarks/write.py docs/benchmarks.md"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import pipeline
from figures import HEAD, Figure

import plugin
import registry

SECTIONS = {
    "The registry, beside aiod-registry 0.2 (`python benchmarks/registry.py`)": registry.figures,
    "The pipeline (`python benchmarks/pipeline.py`)": pipeline.figures,
    "The napari plugin (`xvfb-run python benchmarks/plugin.py`)": plugin.figures,
}


def main() -> None:
    machine = f"{os.cpu_count()} shared cores, Python {platform.python_version()}"
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`. Ratios are medians over processes that take turns on one",
        f"machine; the seconds are that machine's ({machine}) and mean little elsewhere.",
    ]
    for title, figures in SECTIONS.items():
        lines += ["", f"## {title}", "", *HEAD, *rows(figures())]
    Path(sys.argv[1]).write_text("\n".join(lines) + "\n", encoding="utf-8")


def rows(figures: Iterator[Figure]) -> Iterator[str]:
    for figure in figures:
        print(figure.row(), flush=True)
        yield figure.row()


if __name__ == "__main__":
    main()
