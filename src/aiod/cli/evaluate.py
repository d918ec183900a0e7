"""How right labels are: eval."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiod.cli.common import json_option, print_json, print_table
from aiod.words import counted, printable

if TYPE_CHECKING:
    from aiod.flow.results.evaluate import ClassScores, InstanceScores

_FIGURES = (
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


@click.command("eval")
@click.argument("labels", type=click.Path(path_type=Path))
@click.argument("truth", type=click.Path(path_type=Path))
@click.option(
    "--csv",
    "table",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also write the figures as a table, one row a threshold (or a class).",
)
@click.option(
    "--semantic/--instances",
    default=None,
    help="Whether numbers are classes or objects; without it what the labels say of themselves.",
)
@json_option
def eval_command(
    labels: Path, truth: Path, table: Path | None, semantic: bool | None, as_json: bool
) -> None:
    """Compare labels with the truth: OME-Zarr or TIFF, whole numbers, 0 is the background.

    Objects: a match is an overlap (intersection over union, IoU) of at least the threshold. AP is
    matched / (matched + extra + missed), the average precision of the 2018 Data Science Bowl; PQ
    is the panoptic quality. Classes: Dice, IoU and Hausdorff distance.

    \b
    Examples:
      aiod eval out/cells.ome.zarr truth.tif
      aiod eval mito.tif truth.tif --semantic --csv figures.csv
    """
    from aiod.flow.results.evaluate import evaluate_instances, evaluate_semantic
    from aiod.flow.results.labels import open_labels

    ours, theirs = open_labels(labels), open_labels(truth)
    if semantic is None:
        semantic = "semantic" in (ours.kind, theirs.kind)
    rows: list[dict[str, Any]]
    result: dict[str, Any] = {"labels": str(labels), "truth": str(truth)}
    if semantic:
        classes = evaluate_semantic(ours.source, theirs.source)
        rows = [_row(item, _CLASS_FIGURES) for item in classes]
        result |= {"kind": "semantic", "classes": rows}
    else:
        scores = evaluate_instances(ours.source, theirs.source)
        rows = [_row(item, _FIGURES) for item in scores.matchings]
        result |= {"kind": "instance", **_row(scores, ("objects", "true_objects"))}
        result |= _row(scores, ("mean_ap", "mean_f1", "pq", "sq", "rq")) | {"thresholds": rows}
    if table is not None:
        _write(table, rows, _CLASS_FIGURES if semantic else _FIGURES)
    if as_json:
        print_json(result)
    elif semantic:
        _print_classes(classes)
    else:
        _print_instances(scores)
    if table is not None and not as_json:
        click.echo(printable(f"Written: {table}"))


def _row(item: object, names: tuple[str, ...]) -> dict[str, Any]:
    """Figures by name; what is not defined is null, as JSON has no NaN."""
    found = {name: getattr(item, name) for name in names}
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in found.items()
    }


def _write(path: Path, rows: list[dict[str, Any]], names: tuple[str, ...]) -> None:
    from aiod.files import write_atomically

    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue())


def _print_instances(scores: InstanceScores) -> None:
    print_table(
        (
            "IoU from",
            "matched",
            "extra",
            "missed",
            "precision",
            "recall",
            "F1",
            "AP",
            "IoU of matched",
        ),
        [
            (
                f"{item.iou:.2f}",
                f"{item.matched:,}",
                f"{item.extra:,}",
                f"{item.missed:,}",
                *map(_figure, (item.precision, item.recall, item.f1, item.ap, item.mean_iou)),
            )
            for item in scores.matchings
        ],
    )
    there = f"{counted(scores.objects, 'object')}, {scores.true_objects:,} in the truth."
    if not scores.objects and not scores.true_objects:
        click.echo("No objects here and none in the truth: there is nothing to measure.")
        return
    click.echo(there)
    click.echo(
        f"Mean AP over IoU 0.50…0.95: {_figure(scores.mean_ap)}. At IoU 0.50: "
        f"PQ {_figure(scores.pq)} = SQ {_figure(scores.sq)} × RQ {_figure(scores.rq)}."
    )


def _print_classes(classes: tuple[ClassScores, ...]) -> None:
    if not classes:
        click.echo("No class here and none in the truth: there is nothing to measure.")
        return
    unit = classes[0].unit
    print_table(
        ("class", "pixels", "in the truth", "Dice", "IoU", f"Hausdorff ({unit})", "95 %"),
        [
            (
                str(item.number),
                f"{item.pixels:,}",
                f"{item.true_pixels:,}",
                _figure(item.dice),
                _figure(item.iou),
                *map(_distance, (item.hausdorff, item.hausdorff_95)),
            )
            for item in classes
        ],
    )
    if any(math.isnan(item.hausdorff) for item in classes):
        click.echo("– where one of the images lacks the class.")


def _figure(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _distance(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


COMMANDS = (eval_command,)
