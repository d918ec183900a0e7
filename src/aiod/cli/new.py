"""Adding models: `aiod new family`, `version`, `task`, `location`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiod.cli.common import layer_folder, progress_bar, registries_given
from aiod.cli.questions import Questions
from aiod.errors import UsageError
from aiod.words import listing, printable

if TYPE_CHECKING:
    from aiod.registry import Registry
    from aiod.registry.changes import Change


@click.group()
def new() -> None:
    """Add a model by answering questions; every answer can also be given as an option.

    \b
    Example: aiod new version --to /shared/lab --family cellpose --version embryo \\
                 --task cyto --axes CYX --location ../weights/embryo --description "…"
    """


def _common(function: Callable[..., None]) -> Callable[..., None]:
    """The options that every `aiod new …` has."""
    options = (
        click.option(
            "--to",
            "layer",
            type=click.Path(path_type=Path, file_okay=False),
            metavar="DIR",
            help="The layer to write to; else the current folder.",
        ),
        click.option("--no-hash", is_flag=True, help="Do not read the weights for their hash."),
        click.option("--dry-run", is_flag=True, help="Show the change and write nothing."),
        click.option("--yes", is_flag=True, help="Do not ask before writing."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@new.command("family")
@click.option("--name", help="Name of the family.")
@click.option("--short-name", help="Its name in ids and files; else derived from the name.")
@click.option("--description", help="What it segments, in which images.")
@click.option("--version", help="Name of its first version.")
@click.option("--task", help="What it segments (see `aiod tasks`).")
@click.option("--axes", help="Axes that the network takes, such as YX.")
@click.option("--location", help="URL or path of the weights; '' for an algorithm without any.")
@click.option("--config-path", help="URL or path of a config file.")
@click.option("--output", type=click.Choice(["instance", "semantic"]), help="Kind of labels.")
@click.option("--code-license", help="SPDX id, such as BSD-3-Clause.")
@click.option("--weights-license", help="SPDX id, such as CC-BY-4.0.")
@click.option("--author", "authors", multiple=True, help="A person who made it; may be repeated.")
@click.option("--doi", help="DOI of the publication to cite.")
@click.option("--title", help="Title of that publication.")
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="JSON",
    help='A parameter, such as \'{"name": "Diameter", "arg_name": "diameter", '
    '"value": 30.0}\'; may be repeated.',
)
@_common
def new_family(**given: Any) -> None:
    """Add a model family: a manifest, and the beginning of its runner.

    Example: aiod new family --to /shared/lab
    """
    from aiod.registry.edit import add_family
    from aiod.registry.schema import License, Manifest, Metadata, Publication, Version
    from aiod.words import family_slug

    layer = layer_folder(given["layer"])
    ask = Questions(given, layer)
    name = ask("name", Manifest, "name")
    short = ask("short_name", Manifest, "short_name", default=family_slug(name))
    description = ask("description", Metadata, "description")
    version = ask.plain("version", "Name of its first version, such as v1.", default="v1")
    axes = ask("axes", Version, "axes", default="YX")
    task = ask.task()
    location = ask.location(layer)
    params = [_parameter(text) for text in given["params"]]
    if ask.asking and not params:
        params = ask.parameters()
    metadata = {
        "authors": [{"name": author} for author in given["authors"]] or ask.authors(),
        "pubs": ask.publication(Publication),
        "license": _without_none(
            {
                "code": ask("code_license", License, "code", optional=True),
                "weights": ask("weights_license", License, "weights", optional=True)
                if location
                else None,
            }
        ),
        "output": ask("output", Metadata, "output", default="instance"),
    }
    _write(
        given,
        lambda **how: add_family(
            layer,
            name,
            version,
            description=description,
            task=task,
            short_name=short,
            axes=axes,
            location=location,
            config_path=given["config_path"],
            metadata={key: value for key, value in metadata.items() if value},
            params=params,
            **how,
        ),
    )


@new.command("version")
@click.option("--family", help="Short name of the family.")
@click.option("--version", help="Name of the new version.")
@click.option("--slug", help="Its short form in ids; else derived from the name.")
@click.option("--description", help="What is special about it.")
@click.option("--task", help="What it segments (see `aiod tasks`).")
@click.option("--axes", help="Axes that the network takes, such as YX.")
@click.option("--location", help="URL or path of the weights; '' for an algorithm without any.")
@click.option("--config-path", help="URL or path of a config file.")
@_common
def new_version(**given: Any) -> None:
    """Add a version to a family, for example one that you have trained further.

    Example: aiod new version --to /shared/lab --family cellpose
    """
    from aiod.registry.edit import add_version
    from aiod.registry.schema import Metadata, Version

    layer = layer_folder(given["layer"])
    ask = Questions(given, layer)
    family = ask.family()
    version = ask.plain("version", "Name of the new version.")
    description = ask("description", Metadata, "description")
    axes = ask("axes", Version, "axes", default=_usual_axes(ask.registry, family))
    task = ask.task()
    location = ask.location(layer)
    _write(
        given,
        lambda **how: add_version(
            layer,
            family,
            version,
            task=task,
            location=location,
            description=description,
            axes=axes,
            slug=given["slug"],
            config_path=given["config_path"],
            **how,
        ),
    )


@new.command("task")
@click.option("--family", help="Short name of the family.")
@click.option("--version", help="Name or slug of the version.")
@click.option("--task", help="The further task (see `aiod tasks`).")
@click.option("--location", help="URL or path of the weights; '' for an algorithm without any.")
@click.option("--config-path", help="URL or path of a config file.")
@_common
def new_task(**given: Any) -> None:
    """Add a task to a version.

    Example: aiod new task --to /shared/lab --family cellpose --version cyto3 --task nuclei
    """
    from aiod.registry.edit import add_task

    layer = layer_folder(given["layer"])
    ask = Questions(given, layer)
    family = ask.family()
    version = ask.plain("version", "Name or slug of the version.")
    task = ask.task()
    location = ask.location(layer)
    _write(
        given,
        lambda **how: add_task(
            layer,
            family,
            version,
            task=task,
            location=location,
            config_path=given["config_path"],
            **how,
        ),
    )


@new.command("location")
@click.option("--family", help="Short name of the family.")
@click.option("--version", help="Name or slug of the version.")
@click.option("--task", help="The task, where the version has several.")
@click.option("--location", help="URL or path of the weights.")
@click.option("--config-path", help="URL or path of a config file.")
@click.option("--first", is_flag=True, help="Try this location before the others.")
@_common
def new_location(**given: Any) -> None:
    """Add a place where the weights of a model lie; its hash and size are computed.

    Example: aiod new location --to /shared/lab --family cellpose --version cyto3
    """
    from aiod.registry.edit import add_location

    layer = layer_folder(given["layer"])
    ask = Questions(given, layer)
    family = ask.family()
    version = ask.plain("version", "Name or slug of the version.")
    location = ask.location(layer, needed=True)
    _write(
        given,
        lambda **how: add_location(
            layer,
            family,
            version,
            location=str(location),
            task=given["task"],
            config_path=given["config_path"],
            first=given["first"],
            **how,
        ),
    )


def _usual_axes(registry: Registry, family: str) -> str | None:
    models = registry.family(family).models
    return models[0].axes if models else None


def _parameter(text: str) -> dict[str, Any]:
    from aiod.registry.jsontext import IrregularJSON, parse

    try:
        value = parse(text)
    except IrregularJSON as error:
        raise UsageError(f"--param {text!r} is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise UsageError(f"--param {text!r} is not a JSON object.")
    return value


def _write(given: dict[str, Any], add: Callable[..., Change | tuple[Change, ...]]) -> None:
    with progress_bar() as progress:
        planned = add(
            hashed=not given["no_hash"],
            dry_run=True,
            registries=registries_given(),
            progress=progress,
        )
    changes = planned if isinstance(planned, tuple) else (planned,)
    for change in changes:
        click.echo(printable(change.diff))
    if given["dry_run"]:
        return
    files = listing([str(item.path) for item in changes], "and")
    if not given["yes"] and not _agreed(printable(f"Write {files}?")):
        raise UsageError("Nothing was written.", hint="--yes writes without asking")
    for change in changes:
        change.write()
    written = changes[0].path
    click.echo(f"Written. Next: aiod validate {written}")


def _agreed(question: str) -> bool:
    try:
        return click.confirm(question)
    except click.Abort:  # no answer is no yes
        return False


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


COMMANDS = (new,)
