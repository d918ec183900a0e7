"""How right labels are: eval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aiod.cli.common import json_option, print_json, print_table
from aiod.words import printable


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
    from aiod.flow.results.figures import class_table, instance_table, row_of, write_table
    from aiod.flow.results.labels import open_labels

    ours, theirs = open_labels(labels), open_labels(truth)
    if semantic is None:
        semantic = "semantic" in (ours.kind, theirs.kind)
    result: dict[str, Any] = {"labels": str(labels), "truth": str(truth)}
    if semantic:
        found = class_table(evaluate_semantic(ours.source, theirs.source))
        result |= {"kind": "semantic", "classes": found.rows}
    else:
        scores = evaluate_instances(ours.source, theirs.source)
        found = instance_table(scores)
        result |= {"kind": "instance", **row_of(scores, ("objects", "true_objects"))}
        result |= row_of(scores, ("mean_ap", "mean_f1", "pq", "sq", "rq"))
        result |= {"thresholds": found.rows}
    if table is not None:
        write_table(found, table)
    if as_json:
        print_json(result)
        return
    if found.cells:
        print_table(found.headings, found.cells)
    for sentence in found.sentences:
        click.echo(sentence)
    if table is not None:
        click.echo(printable(f"Written: {table}"))


COMMANDS = (eval_command,)
