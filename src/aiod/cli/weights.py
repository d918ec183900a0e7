"""Weights on this machine: pull, cache, check-links."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aiod.cli.common import json_option, load_registry, print_json, print_table, progress_bar
from aiod.words import byte_size, counted, printable

if TYPE_CHECKING:
    from aiod.errors import AiodError
    from aiod.registry import Model, Registry
    from aiod.registry.cache import CachedFile
    from aiod.registry.pull import Weights


@click.command()
@click.argument("model_ids", metavar="[MODEL]...", nargs=-1)
@click.option("--task", help="Every model for this task.")
@click.option("--all", "everything", is_flag=True, help="Every model that you can reach.")
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Also fill DIR, which is a layer for machines without a network.",
)
@click.option(
    "--accept-changed",
    is_flag=True,
    help="Take a file that has changed since it was first downloaded.",
)
@json_option
def pull(
    model_ids: tuple[str, ...],
    task: str | None,
    everything: bool,
    folder: Path | None,
    accept_changed: bool,
    as_json: bool,
) -> None:
    """Bring the weights of models to this machine.

    \b
    Examples:
      aiod pull cellpose/cyto3 stardist/2D_versatile_fluo
      aiod pull --all --to /media/disk/aiod     then, on the cluster:
      AIOD_REGISTRIES=/media/disk/aiod AIOD_OFFLINE=1 aiod list
    """
    from aiod.errors import LocationError

    registry = load_registry()
    models = _chosen(registry, model_ids, task, everything)
    brought: list[Weights] = []
    failed: list[AiodError] = []
    with progress_bar(show=not as_json) as progress:
        if folder is not None:
            from aiod.registry.mirror import mirror

            brought, missing = mirror(
                registry, models, folder, progress=progress, accept_changed=accept_changed
            )
            failed += missing
        else:
            from aiod.registry.pull import pull as bring

            for model in models:
                try:
                    brought.append(
                        bring(registry, model, progress=progress, accept_changed=accept_changed)
                    )
                except LocationError as error:
                    failed.append(error)
    if as_json:
        print_json(
            {
                "models": [_plain(item) for item in brought],
                "failed": [str(failure) for failure in failed],
            }
        )
    else:
        _tell(brought, folder)
        for failure in failed:
            click.echo(printable(f"\n{failure}"), err=True)
    if failed:
        raise click.exceptions.Exit(1)


@click.group()
def cache() -> None:
    """Look after the weights on this machine.

    Example: aiod cache list
    """


@cache.command("list")
@json_option
def cache_list(as_json: bool) -> None:
    """List the files in the cache.

    Example: aiod cache list --json
    """
    from aiod.registry.cache import cached_files
    from aiod.registry.settings import cache_folder

    files = cached_files()
    if as_json:
        print_json({"folder": str(cache_folder()), "files": [_cached(item) for item in files]})
        return
    rows = [
        (
            item.family,
            item.path.name,
            byte_size(item.record.size) if item.record else "?",
            item.record.date[:10] if item.record else "?",
            item.problem or "",
        )
        for item in files
    ]
    if rows:
        print_table(("Family", "File", "Size", "Since", "Problem"), rows, wide=1)
    total = sum(item.record.size for item in files if item.record)
    click.echo(f"{counted(len(files), 'file')}, {byte_size(total)}, in {cache_folder()}")


@cache.command("verify")
@json_option
def cache_verify(as_json: bool) -> None:
    """Compute every file's hash anew and compare it with its record.

    Example: aiod cache verify
    """
    from aiod.registry.cache import cached_files, verify

    with progress_bar(show=not as_json) as progress:
        files = [verify(item, progress) for item in cached_files()]
    bad = [item for item in files if item.problem]
    if as_json:
        print_json([_cached(item) for item in files])
    else:
        for item in bad:
            click.echo(printable(f"{item.path}: {item.problem}"))
        click.echo(f"{counted(len(files), 'file')} checked, {len(bad)} with a problem.")
        if bad:
            click.echo("Next: `aiod cache clean --damaged`, then pull the models again.")
    if bad:
        raise click.exceptions.Exit(1)


@cache.command("clean")
@click.argument("model_ids", metavar="[MODEL]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every file in the cache.")
@click.option("--unused", is_flag=True, help="Files that no model of the registry names any more.")
@click.option("--damaged", is_flag=True, help="Files that differ from their record.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def cache_clean(
    model_ids: tuple[str, ...], everything: bool, unused: bool, damaged: bool, yes: bool
) -> None:
    """Free space: leftovers of interrupted downloads, and what you name.

    Example: aiod cache clean cellpose/cyto3
    """
    from aiod.registry.cache import cached_files, leftovers, remove, verify

    files = cached_files()
    doomed = []
    if everything:
        doomed = files
    elif model_ids or unused or damaged:
        registry = load_registry()
        paths = _cached_for(registry, [registry.get(model_id) for model_id in model_ids])
        used = _cached_for(registry, registry) if unused else set()
        doomed = [
            item
            for item in files
            if item.path in paths
            or (unused and item.path not in used)
            or (damaged and verify(item).problem)
        ]
    parts = leftovers()
    if not doomed and not parts:
        click.echo("Nothing to clean.")
        return
    for item in doomed:
        click.echo(printable(f"{item.family}: {item.path.name}"))
    if parts:
        click.echo(f"{counted(len(parts), 'leftover')} of interrupted work")
    if not yes:
        click.confirm("Remove these?", abort=True)
    freed = sum(map(remove, doomed)) + sum(map(remove, parts))
    click.echo(f"{byte_size(freed)} freed.")


@click.command("check-links")
@click.argument("model_ids", metavar="[MODEL]...", nargs=-1)
@click.option(
    "--hash",
    "with_hash",
    is_flag=True,
    help="Download whole files to compare their hashes; nothing is kept.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 600),
    default=20.0,
    show_default=True,
    help="How long a server may stay silent; a link gets three times that in all.",
)
@json_option
def check_links(model_ids: tuple[str, ...], with_hash: bool, seconds: float, as_json: bool) -> None:
    """Ask every server of the registry whether its files, pages and papers are still there.

    Example: aiod check-links cellpose --json
    """
    from aiod.registry.links import check, links_of

    links = links_of(load_registry(), model_ids)
    results = check(links, with_hash=with_hash, seconds=seconds)
    if as_json:
        print_json([result.as_dict() for result in results])
    else:
        if results:
            rows = [(item.state, item.link.kind, item.link.url) for item in results]
            print_table(("State", "Kind", "URL"), rows, wide=2)
        for item in results:
            if item.note:
                click.echo(printable(f"{item.link.url}: {item.note}"))
        bad = sum(not item.good for item in results)
        click.echo(f"{counted(len(results), 'link')} checked, {bad} with a problem.")
    if any(not item.good for item in results):
        raise click.exceptions.Exit(1)


def _chosen(
    registry: Registry, model_ids: tuple[str, ...], task: str | None, everything: bool
) -> list[Model]:
    from aiod.errors import UsageError

    if not model_ids and task is None and not everything:
        raise UsageError("Which models?", hint="name some, or give --task TASK or --all")
    chosen = [registry.get(model_id) for model_id in model_ids]
    if task is not None or everything:
        chosen += registry.filter(task=task, reachable=True)
    return list({model.id: model for model in chosen}.values())


def _cached_for(registry: Registry, models: Iterable[Model]) -> set[Path]:
    """Where the cache keeps the weights and the config of models, and what it unpacked of them."""
    from aiod.registry.cache import slot_for

    slots = [
        slot_for(model.family, str(place))
        for model in models
        for item in registry.locations_for(model)
        for place in (item.weights, item.config)
        if place is not None
    ]
    return {path for slot in slots for path in (slot.file, slot.content)}


def _tell(brought: list[Weights], folder: Path | None) -> None:
    if brought:
        rows = [
            (
                item.model_id,
                byte_size(item.size) if item.size is not None else "",
                str(item.path or "needs no weights"),
            )
            for item in brought
        ]
        print_table(("Model", "Size", "Where"), rows, wide=2)
    fresh = sum(item.fresh for item in brought)
    click.echo(f"{counted(len(brought), 'model')} here, {fresh} downloaded now.")
    if folder is not None:
        layer = shlex.quote(str(folder.absolute()))
        click.echo(f"Without a network: AIOD_REGISTRIES={layer} AIOD_OFFLINE=1 aiod list")


def _plain(item: Weights) -> dict[str, object]:
    return {
        "id": item.model_id,
        "path": item.path and str(item.path),
        "config": item.config and str(item.config),
        "sha256": item.sha256,
        "size": item.size,
        "source": item.source,
        "fresh": item.fresh,
    }


def _cached(item: CachedFile) -> dict[str, object]:
    from dataclasses import asdict

    record = asdict(item.record) if item.record else None
    return {
        "family": item.family,
        "path": str(item.path),
        "record": record,
        "problem": item.problem,
    }


COMMANDS = (pull, cache, check_links)
