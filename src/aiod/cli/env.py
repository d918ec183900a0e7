"""The isolated environments that models run in: env list, build, clean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from aiod.cli.common import (
    json_option,
    load_registry,
    print_json,
    print_table,
    progress_bar,
    registries_given,
)
from aiod.words import byte_size, counted, printable

if TYPE_CHECKING:
    from pathlib import Path

    from aiod.errors import AiodError
    from aiod.flow.models.environments import Found


@click.group()
def env() -> None:
    """Look after the environments that models run in.

    Example: aiod env list
    """


@env.command("list")
@json_option
def env_list(as_json: bool) -> None:
    """List the environments in the cache.

    Example: aiod env list --json
    """
    from aiod.flow.models.environments import list_environments
    from aiod.registry.settings import cache_folder

    found = list_environments()
    used = _used()
    if as_json:
        environments = [_plain(item, item.folder.name in used) for item in found]
        print_json({"folder": str(cache_folder() / "environments"), "environments": environments})
        return
    if found:
        rows = [
            (
                item.family,
                item.state if item.folder.name in used else f"{item.state}, unused",
                str(len(item.environment.packages)) if item.environment else "",
                byte_size(item.size),
                item.date[:10],
                item.digest,
            )
            for item in found
        ]
        print_table(("Family", "State", "Packages", "Size", "Since", "Digest"), rows, wide=1)
    total = sum(item.size for item in found)
    told = f"{counted(len(found), 'environment')}, {byte_size(total)}, in "
    click.echo(f"{told}{cache_folder() / 'environments'}")


@env.command("build")
@click.argument("names", metavar="[MODEL_OR_FAMILY]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every family that has a runner.")
@click.option("--again", is_flag=True, help="Build anew what is there already.")
@json_option
def env_build(names: tuple[str, ...], everything: bool, again: bool, as_json: bool) -> None:
    """Build the environments of models, so that their first run need not.

    \b
    Examples:
      aiod env build cellpose stardist/2D_versatile_fluo
      UV_TORCH_BACKEND=cu128 aiod env build cellpose     for a machine with another GPU
    """
    from aiod.errors import AiodError
    from aiod.flow.models.environments import environment_for, list_environments

    runners = _chosen(names, everything)
    failed: list[AiodError] = []
    built = set()
    with progress_bar(show=not as_json) as progress:
        for runner in runners:
            try:
                ready = environment_for(runner, progress=progress, again=again)
                built.add(f"{ready.family}-{ready.digest}")
            except AiodError as error:
                failed.append(error)
    found = [item for item in list_environments() if item.folder.name in built]
    if as_json:
        environments = [_plain(item, used=True) for item in found]
        print_json({"environments": environments, "failed": [str(failure) for failure in failed]})
    else:
        for item in found:
            packages = counted(len(item.environment.packages) if item.environment else 0, "package")
            click.echo(f"{item.family}: {packages}, {byte_size(item.size)}, in {item.folder}")
        for failure in failed:
            click.echo(printable(f"\n{failure}"), err=True)
    if failed:
        raise click.exceptions.Exit(1)


@env.command("clean")
@click.argument("families", metavar="[FAMILY]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every environment in the cache.")
@click.option("--unused", is_flag=True, help="Those that no runner asks for any more.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def env_clean(families: tuple[str, ...], everything: bool, unused: bool, yes: bool) -> None:
    """Free space: broken environments, and what you name.

    Example: aiod env clean --unused
    """
    from aiod.errors import UsageError
    from aiod.flow.models.environments import list_environments, remove_environments

    found = list_environments()
    known = sorted({item.family for item in found})
    for family in families:
        if family not in known:
            raise UsageError(
                f"There is no environment of {family}.",
                details=[f"there are: {', '.join(known) or 'none'}"],
                hint="`aiod env list` shows them",
            )
    used = _used() if unused else set()
    doomed = [
        item
        for item in found
        if everything
        or item.family in families
        or item.state == "broken"
        or (unused and item.folder.name not in used)
    ]
    doomed = [item for item in doomed if not item.building]
    if not doomed:
        click.echo("Nothing to clean.")
        return
    for item in doomed:
        click.echo(printable(f"{item.family}: {item.state}, {byte_size(item.size)}, {item.folder}"))
    if not yes:
        click.confirm("Remove these?", abort=True)
    click.echo(f"{byte_size(remove_environments(doomed))} freed.")


def _chosen(names: tuple[str, ...], everything: bool) -> list[Path]:
    from aiod.errors import UsageError
    from aiod.flow.models.environments import runner_for, runners_of
    from aiod.registry.layers import find_layers

    if not names and not everything:
        raise UsageError("Which models?", hint="name models or families, or give --all")
    layers = find_layers(registries_given())
    registry = load_registry() if any("/" in name for name in names) else None
    chosen = list(runners_of(layers).values()) if everything else []
    for name in names:
        family = registry.get(name).family if registry is not None and "/" in name else name
        chosen.append(runner_for(family, layers))
    return list(dict.fromkeys(chosen))


def _used() -> set[str]:
    """Folder names of the environments that the runners of all layers ask for."""
    from aiod.errors import AiodError
    from aiod.flow.models.environments import runners_of, wanted
    from aiod.registry.layers import find_layers

    used = set()
    for runner in runners_of(find_layers(registries_given())).values():
        try:
            used.add(wanted(runner).folder.name)
        except AiodError as error:
            click.echo(printable(f"Passed over: {error.what}"), err=True)
    return used


def _plain(item: Found, used: bool) -> dict[str, object]:
    ready = item.environment
    return {
        "family": item.family,
        "digest": item.digest,
        "path": str(item.folder),
        "state": item.state,
        "used": used,
        "python": ready and str(ready.python),
        "packages": list(ready.packages) if ready else [],
        "size": item.size,
        "date": item.date,
    }


COMMANDS = (env,)
