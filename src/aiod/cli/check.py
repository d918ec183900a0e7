"""Checking and mending manifests: validate, fmt, upgrade."""

from __future__ import annotations

from pathlib import Path

import click

from aiod.cli.common import layer_folder, load_registry, print_json, registries_given
from aiod.errors import AiodError
from aiod.words import counted, printable

_PATHS = click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH]...")


@click.command()
@_PATHS
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    show_default=True,
    help="github annotates the lines of a pull request.",
)
@click.option("--quiet", is_flag=True, help="Errors only.")
def validate(paths: tuple[Path, ...], strict: bool, style: str, quiet: bool) -> None:
    """Check manifests, folders of manifests, or layers.

    Without PATH the layers that you have added, else the shipped one.

    Example: aiod validate manifests/mymodel.json --strict
    """
    from aiod.registry.layers import find_layers
    from aiod.registry.validate import validate as check

    shipped, *added = find_layers(registries_given())
    chosen = paths or [layer.folder for layer in added or [shipped]]
    checked = check(chosen, tasks=load_registry(quiet=True).tasks)
    problems = [item for item in checked.problems if not quiet or item.severity == "error"]
    errors, warnings = checked.count("error"), checked.count("warning")
    if style == "json":
        print_json([problem.as_dict() for problem in problems])
    elif style == "github":
        for problem in problems:
            click.echo(problem.as_github())
    else:
        for problem in problems:
            click.echo(problem.as_text() + "\n")
    click.echo(
        f"{counted(len(checked.files), 'file')} checked: "
        f"{counted(errors, 'error')}, {counted(warnings, 'warning')}.",
        err=style != "text",
    )
    if errors or (strict and warnings):
        raise click.exceptions.Exit(1)


@click.command()
@_PATHS
@click.option("--check", is_flag=True, help="Write nothing; fail if a file would change.")
def fmt(paths: tuple[Path, ...], check: bool) -> None:
    """Write manifests in their canonical form: fields in order, two spaces, UTF-8.

    Example: aiod fmt manifests/*.json
    """
    from aiod.files import write_atomically
    from aiod.registry.canonical import to_text
    from aiod.registry.manifest import read_any

    changed, bad = 0, 0
    files = _manifests(paths)
    for path in files:
        try:
            before, document = read_any(path)
        except AiodError as error:
            click.echo(printable(f"{path}: left as it is: {error}"), err=True)
            bad += 1
            continue
        after = to_text(document)
        if after != before:
            changed += 1
            if not check:
                write_atomically(path, after)
            click.echo(printable(f"{'would change' if check else 'changed'}: {path}"))
    click.echo(f"{counted(len(files), 'file')}, {changed} {'to change' if check else 'changed'}.")
    if bad or (check and changed):
        raise click.exceptions.Exit(1)


@click.command()
@click.argument(
    "files",
    nargs=-1,
    required=True,
    metavar="FILE...",
    type=click.Path(path_type=Path, dir_okay=False),
)
def upgrade(files: tuple[Path, ...]) -> None:
    """Rewrite manifests of an older form in place into today's, and say what changed.

    Example: aiod upgrade manifests/*.json
    """
    from aiod.files import write_atomically
    from aiod.registry.canonical import to_text
    from aiod.registry.explain import explain
    from aiod.registry.manifest import line_of, read_any
    from aiod.registry.upgrade import old_form
    from aiod.registry.upgrade import upgrade as rewrite

    tasks = load_registry(quiet=True).tasks
    failed = False
    for path in files:
        try:
            _, document = read_any(path)
        except AiodError as error:
            click.echo(printable(f"{path}: left as it is: {error}"), err=True)
            failed = True
            continue
        new, changes = rewrite(document, tasks)
        if changes:
            write_atomically(path, to_text(new))
        said = counted(len(changes), "change") if changes else "up to date"
        click.echo(printable(f"{path}: {said}"))
        for change in changes:
            click.echo(printable(f"  {change}"))
        if stuck := old_form(new):
            words = f"{stuck.words}, in which a name is missing or stands twice"
            click.echo(printable(f"  still to mend by hand: {words}"), err=True)
            failed = True
            continue
        left = explain(to_text(new), str(path), tasks, lint=False)
        for problem in left:
            click.echo(printable(f"  still to mend by hand: {line_of(problem)}"), err=True)
        failed |= bool(left)
    if failed:
        raise click.exceptions.Exit(1)


def _manifests(paths: tuple[Path, ...]) -> list[Path]:
    from aiod.registry.layers import NO_MANIFESTS

    files: list[Path] = []
    for path in paths or (layer_folder(None),):
        folder = path / "manifests" if (path / "manifests").is_dir() else path
        files += sorted(folder.glob("*.json")) if path.is_dir() else [path]
    return [path for path in files if path.name not in NO_MANIFESTS]


COMMANDS = (validate, fmt, upgrade)
