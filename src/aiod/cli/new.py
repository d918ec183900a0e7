"""Adding models: `aiod new family`, `version`, `task`, `location`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from aiod.cli.common import layer_folder, progress_bar, registries_given
from aiod.cli.questions import Questions
from aiod.errors import UsageError
from aiod.words import listing, printable, version_slug

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


_FAMILY = click.option("--family", help="Short name of the family.")
_EXISTING = click.option("--version", help="Name or slug of the version.")
_TASK = click.option("--task", help="What it segments (see `aiod tasks`).")
_AXES = click.option("--axes", help="Axes that the network takes, such as YX.")
_WEIGHTS = click.option(
    "--location",
    help="URL or path of the weights, from the manifest on; '' for an algorithm without any.",
)
_CONFIG = click.option("--config-path", help="URL or path of a config file.")
_COMMON = (
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


class Addition(NamedTuple):
    """What a command has asked for: `add` takes how, and gives the changes.

    `version` is the name or slug of the version that it is about; None for a whole family.
    """

    add: Callable[..., Change | tuple[Change, ...]]
    version: str | None = None


def _asking(questions: Callable[[Questions], Addition]) -> Callable[..., None]:
    """A command that asks for what its options leave open, shows the change and writes it."""

    @wraps(questions)
    def command(**given: Any) -> None:
        ask = Questions(given, layer_folder(given["layer"]))
        _write(given, questions(ask))

    for option in reversed(_COMMON):
        command = option(command)
    return command


@new.command("family")
@click.option("--name", help="Name of the family.")
@click.option("--short-name", help="Its name in ids and files; else derived from the name.")
@click.option("--description", help="What it segments, in which images.")
@click.option("--version", help="Name of its first version.")
@_TASK
@_AXES
@_WEIGHTS
@_CONFIG
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
@_asking
def new_family(ask: Questions) -> Addition:
    """Add a model family: a manifest, and the beginning of its runner.

    Example: aiod new family --to /shared/lab
    """
    from aiod.registry.edit import add_family
    from aiod.registry.metadata import License, Metadata, Publication
    from aiod.registry.schema import Manifest, Version
    from aiod.words import family_slug

    name = ask("name", Manifest, "name")
    short = ask("short_name", Manifest, "short_name", default=family_slug(name))
    description = ask("description", Metadata, "description")
    version = ask.plain("version", "Name of its first version, such as v1.", default="v1")
    axes = ask("axes", Version, "axes", default="YX")
    task = ask.task()
    location = ask.location()
    params = [_parameter(text) for text in ask.given["params"]]
    if ask.asking and not params:
        params = ask.parameters()
    metadata = {
        "authors": [{"name": author} for author in ask.given["authors"]] or ask.authors(),
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
    add = partial(
        add_family,
        ask.layer,
        name,
        version,
        description=description,
        task=task,
        short_name=short,
        axes=axes,
        location=location,
        config_path=ask.given["config_path"],
        metadata={key: value for key, value in metadata.items() if value},
        params=params,
    )
    return Addition(add)


@new.command("version")
@_FAMILY
@click.option("--version", help="Name of the new version.")
@click.option("--slug", help="Its short form in ids; else derived from the name.")
@click.option("--description", help="What is special about it.")
@_TASK
@_AXES
@_WEIGHTS
@_CONFIG
@_asking
def new_version(ask: Questions) -> Addition:
    """Add a version to a family, for example one that you have trained further.

    Example: aiod new version --to /shared/lab --family cellpose
    """
    from aiod.registry.edit import add_version
    from aiod.registry.metadata import Metadata
    from aiod.registry.schema import Version

    family = ask.family()
    version = ask.plain("version", "Name of the new version.")
    add = partial(
        add_version,
        ask.layer,
        family,
        version,
        description=ask("description", Metadata, "description"),
        axes=ask("axes", Version, "axes", default=_usual_axes(ask.registry, family)),
        task=ask.task(),
        location=ask.location(),
        slug=ask.given["slug"],
        config_path=ask.given["config_path"],
    )
    return Addition(add, ask.given["slug"] or version_slug(version))


@new.command("task")
@_FAMILY
@_EXISTING
@_TASK
@_WEIGHTS
@_CONFIG
@_asking
def new_task(ask: Questions) -> Addition:
    """Add a task to a version.

    Example: aiod new task --to /shared/lab --family cellpose --version cyto3 --task nuclei
    """
    from aiod.registry.edit import add_task

    family, version = ask.family(), ask.plain("version", "Name or slug of the version.")
    add = partial(
        add_task,
        ask.layer,
        family,
        version,
        task=ask.task(),
        location=ask.location(),
        config_path=ask.given["config_path"],
    )
    return Addition(add, version_slug(version))


@new.command("location")
@_FAMILY
@_EXISTING
@click.option("--task", help="The task, where the version has several.")
@click.option("--location", help="URL or path of the weights.")
@_CONFIG
@click.option("--first", is_flag=True, help="Try this location before the others.")
@_asking
def new_location(ask: Questions) -> Addition:
    """Add a place where the weights of a model lie; its hash and size are computed.

    Example: aiod new location --to /shared/lab --family cellpose --version cyto3
    """
    from aiod.registry.edit import add_location

    family, version = ask.family(), ask.plain("version", "Name or slug of the version.")
    add = partial(
        add_location,
        ask.layer,
        family,
        version,
        location=str(ask.location(needed=True)),
        task=ask.given["task"],
        config_path=ask.given["config_path"],
        first=ask.given["first"],
    )
    return Addition(add, version_slug(version))


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


def _write(given: dict[str, Any], addition: Addition) -> None:
    from aiod.registry.layers import SHIPPED

    with progress_bar() as progress:
        planned = addition.add(
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
    folder = written.parents[1]
    layer = "" if folder.resolve() == SHIPPED.folder.resolve() else f"--registry {folder} "
    click.echo(f"Written. Next: aiod validate {written}")
    model = "/".join(filter(None, [written.stem, addition.version]))
    click.echo(f"then try it: aiod {layer}test {model}")


def _agreed(question: str) -> bool:
    try:
        return click.confirm(question)
    except click.Abort:  # no answer is no yes
        return False


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


COMMANDS = (new,)
