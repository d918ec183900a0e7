"""For those who keep a registry: export, schema."""

from __future__ import annotations

from pathlib import Path

import click

from aiod.cli.common import load_registry
from aiod.errors import UsageError
from aiod.words import counted, printable


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR")
@click.option(
    "--format",
    "style",
    type=click.Choice(["aiod"]),
    default="aiod",
    show_default=True,
    help="aiod: what the package aiod-registry 0.2 loads.",
)
def export(folder: Path, style: str) -> None:
    """Write all manifests in another registry's format.

    Example: aiod export --format aiod exported/
    """
    from aiod.registry.export import export as write

    exported = write(load_registry(), folder, style)
    for sentence in exported.left_out:
        click.echo(printable(f"left out {sentence}"), err=True)
    click.echo(f"{counted(len(exported.files), 'manifest')} written to {folder}.")


@click.command()
@click.option(
    "--to",
    "path",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Write it to a file, or as schema.json to a folder.",
)
@click.option("--check", is_flag=True, help="Write nothing; fail if the file is stale.")
def schema(path: Path | None, check: bool) -> None:
    """Print the JSON Schema of manifests, for editors; tasks of your layers are in it.

    Example: aiod schema --to /shared/lab
    """
    from aiod.files import write_atomically
    from aiod.registry.reference import schema_text

    text = schema_text(load_registry(quiet=True).tasks)
    if path is None:
        if check:
            raise UsageError("--check needs a file to check.", hint="name it with --to PATH")
        click.echo(text, nl=False)
        return
    target = path / "schema.json" if path.is_dir() else path
    if check:
        if not target.is_file() or target.read_bytes() != text.encode():
            raise UsageError(f"{target} is stale.", hint=f"`aiod schema --to {target}`")
        click.echo(f"{target} is up to date.")
        return
    write_atomically(target, text)
    click.echo(f"{target} written.")


COMMANDS = (export, schema)
