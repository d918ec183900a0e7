"""Bringing models from other collections into a layer: import."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aiod.cli.common import json_option, layer_folder, print_json, progress_bar, registries_given
from aiod.errors import UsageError
from aiod.words import byte_size, printable

if TYPE_CHECKING:
    from aiod.registry.zoo import Import


@click.group("import")
def import_models() -> None:
    """Bring a model from another collection into a layer of yours.

    Example: aiod import bioimageio --to /shared/lab affable-shark
    """


@import_models.command("bioimageio")
@click.argument("source")
@click.option(
    "--to",
    "layer",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="The layer to write to; else the current folder.",
)
@click.option("--task", help="What it segments, where its tags do not say it (see `aiod tasks`).")
@click.option("--version", help="Name of the new version; else the model's own.")
@click.option(
    "--weights",
    type=click.Choice(["onnx", "torchscript"]),
    help="Which of its weights; else ONNX where there are any.",
)
@click.option("--dry-run", is_flag=True, help="Show the change and write nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before writing.")
@json_option
def import_bioimageio(
    source: str,
    layer: Path | None,
    task: str | None,
    version: str | None,
    weights: str | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Add a model of the BioImage Model Zoo as a version of the family bioimageio.

    SOURCE is its id in the zoo, its DOI, the URL of its rdf.yaml or of a zip, or such a file or
    folder on this machine. Weights in ONNX or TorchScript can be run; no code of a package is.

    \b
    Examples:
      aiod import bioimageio --to /shared/lab affable-shark
      aiod import bioimageio --to /shared/lab --task nuclei --yes model.zip
    """
    from aiod.registry.zoo import prepare

    folder = layer_folder(layer)
    with tempfile.TemporaryDirectory(prefix="aiod-import-") as scratch:
        with progress_bar(show=not as_json) as progress:
            found = prepare(
                folder,
                source,
                Path(scratch),
                task=task,
                version=version,
                weights_format=weights,
                registries=registries_given(),
                progress=progress,
            )
        if not as_json:
            _show(found)
        if not dry_run:
            if not (yes or as_json) and not _agreed(f"Write {found.change.path}?"):
                raise UsageError("Nothing was written.", hint="--yes writes without asking")
            found.write()
    if as_json:
        print_json(
            {
                "model": found.model,
                "manifest": found.change.path,
                "files": [found.home / "rdf.yaml", *found.files],
                "notes": found.notes,
                "written": not dry_run,
            }
        )
    elif not dry_run:
        click.echo(printable(f"Written. Next: aiod --registry {folder} test {found.model}"))


def _show(found: Import) -> None:
    click.echo(printable(found.change.diff))
    for target, file in found.files.items():
        click.echo(printable(f"{target}: {byte_size(file.stat().st_size)}"))
    for note in found.notes:
        click.echo(printable(note))


def _agreed(question: str) -> bool:
    try:
        return click.confirm(printable(question))
    except click.Abort:  # no answer is no yes
        return False


COMMANDS = (import_models,)
