"""Whether models do here what their manifests promise: test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from aiod.cli.common import json_option, load_registry, print_json, progress_bar
from aiod.words import byte_size, counted, printable

if TYPE_CHECKING:
    from aiod.flow.trial import Trial
    from aiod.registry import Model, Registry


_INDENT = " " * 8


@click.command("test")
@click.argument("names", nargs=-1, metavar="[MODEL]...")
@click.option("--task", metavar="TASK", help="All models for this task.")
@click.option(
    "--available", is_flag=True, help="Pass over models whose weights are not on this machine."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@json_option
def test_command(
    names: tuple[str, ...], task: str | None, available: bool, device: str, as_json: bool
) -> None:
    """Try models: do weights and environment arrive, is the result right, do tiles change it?

    MODEL is an id, or a family for all of its models. Each runs on the input of its manifest's
    `test`, else on a sample image, once whole and once in tiles. The line of a model says what
    came out; a promise that is not kept follows it. The exit code is 1 if there is any.

    \b
    Examples:
      aiod test classical/otsu-watershed
      aiod test --task nuclei --available --json
    """
    from aiod.flow.trial import try_model
    from aiod.registry.pull import is_here

    registry = load_registry()
    models = _chosen(registry, names, task)
    if available:
        models = [model for model in models if is_here(model)]
    done: list[Trial] = []
    for model in models:
        with progress_bar(show=not as_json) as progress:
            trial = try_model(model, registry, device=device, progress=progress)
        done.append(trial)
        if not as_json:
            _print(trial)
    failed = sum(not trial.passed for trial in done)
    if as_json:
        print_json([trial.as_dict() for trial in done])
    else:
        click.echo(f"{counted(len(done), 'model')} tried, {failed:,} failed.")
    if failed:
        raise click.exceptions.Exit(1)


def _chosen(registry: Registry, names: tuple[str, ...], task: str | None) -> list[Model]:
    if not names and task is None:
        raise click.UsageError("Which models? Name them, a family, or a --task.")
    found: list[Model] = []
    for name in names:
        found += registry.family(name).models if "/" not in name else [registry.get(name)]
    if task is not None:
        of_task = registry.filter(task=task)
        found = [model for model in found if model in of_task] if names else list(of_task)
    return list(dict.fromkeys(found))


def _print(trial: Trial) -> None:
    told = {check.about: check.told for check in trial.checks if check.state != "failed"}
    figures = [told[about] for about in ("labels", "result", "tiles") if about in told]
    if trial.seconds is not None:
        figures.append(f"{trial.seconds:.2f} s in the model")
    if trial.memory:
        figures.append(byte_size(trial.memory))
    word = click.style("passed", fg="green") if trial.passed else click.style("FAILED", fg="red")
    click.echo(f"{word}  {printable(trial.model)}  {printable('; '.join(figures))}")
    for check in trial.checks:
        if check.state == "failed":
            words = check.told.replace("\n", f"\n{_INDENT}  ")
            click.echo(printable(f"{_INDENT}{check.about}: {words}"))


COMMANDS = (test_command,)
