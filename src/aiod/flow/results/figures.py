"""What an evaluation comes to, as every door shows it and writes it: a table and some sentences."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiod.files import write_atomically
from aiod.flow.results.evaluate import ClassScores, InstanceScores
from aiod.words import counted

_INSTANCE_FIGURES = (
    "iou",
    "matched",
    "extra",
    "missed",
    "precision",
    "recall",
    "f1",
    "ap",
    "mean_iou",
    "pq",
)
_CLASS_FIGURES = (
    "number",
    "pixels",
    "true_pixels",
    "dice",
    "iou",
    "hausdorff",
    "hausdorff_95",
    "unit",
)


@dataclass(frozen=True, slots=True)
class Table:
    """One row a threshold or a class: `cells` are for people, under their `headings`.

    `rows` hold all digits by the `names` that files use, None for what is not defined, as JSON has
    no NaN. `sentences` say what the table comes to.
    """

    headings: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    sentences: tuple[str, ...]
    names: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]


def instance_table(scores: InstanceScores) -> Table:
    """The table of objects, a row a threshold."""
    cells = tuple(
        (
            f"{item.iou:.2f}",
            f"{item.matched:,}",
            f"{item.extra:,}",
            f"{item.missed:,}",
            *map(_figure, (item.precision, item.recall, item.f1, item.ap, item.mean_iou)),
        )
        for item in scores.matchings
    )
    sentences: tuple[str, ...]
    if scores.objects or scores.true_objects:
        there = f"{counted(scores.objects, 'object')}, {scores.true_objects:,} in the truth."
        means = (
            f"Mean AP over IoU 0.50…0.95: {_figure(scores.mean_ap)}. At IoU 0.50: "
            f"PQ {_figure(scores.pq)} = SQ {_figure(scores.sq)} × RQ {_figure(scores.rq)}."
        )
        sentences = (there, means)
    else:
        sentences = ("No objects here and none in the truth: there is nothing to measure.",)
    counts = ("IoU from", "matched", "extra", "missed")
    return Table(
        headings=(*counts, "precision", "recall", "F1", "AP", "IoU of matched"),
        cells=cells,
        sentences=sentences,
        names=_INSTANCE_FIGURES,
        rows=tuple(row_of(item, _INSTANCE_FIGURES) for item in scores.matchings),
    )


def class_table(classes: Sequence[ClassScores]) -> Table:
    """The table of classes, a row a class."""
    sentences: tuple[str, ...] = ()
    if not classes:
        sentences = ("No class here and none in the truth: there is nothing to measure.",)
    elif any(math.isnan(item.hausdorff) for item in classes):
        sentences = ("– where one of the images lacks the class.",)
    unit = classes[0].unit if classes else "pixels"
    return Table(
        headings=("class", "pixels", "in the truth", "Dice", "IoU", f"Hausdorff ({unit})", "95 %"),
        cells=tuple(
            (
                str(item.number),
                f"{item.pixels:,}",
                f"{item.true_pixels:,}",
                *map(_figure, (item.dice, item.iou)),
                *map(_distance, (item.hausdorff, item.hausdorff_95)),
            )
            for item in classes
        ),
        sentences=sentences,
        names=_CLASS_FIGURES,
        rows=tuple(row_of(item, _CLASS_FIGURES) for item in classes),
    )


def row_of(item: object, names: Sequence[str]) -> dict[str, Any]:
    """Figures by name, None for what is not defined."""
    found = {name: getattr(item, name) for name in names}
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in found.items()
    }


def write_table(table: Table, path: Path) -> None:
    """The rows as CSV under a line of names. Raises AiodError where it cannot be written."""
    text = io.StringIO()
    writer = csv.DictWriter(text, table.names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table.rows)
    write_atomically(path, text.getvalue())


def _figure(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _distance(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"
