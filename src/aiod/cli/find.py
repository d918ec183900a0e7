"""Finding models: list, show, tasks, cite."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from aiod.cli.common import console, json_option, load_registry, print_json, print_table
from aiod.words import counted, printable

if TYPE_CHECKING:
    from aiod.registry import Model, Registry


@click.command("list")
@click.option("--task", help="Only models for this task (see `aiod tasks`).")
@click.option("--axes", help="Only models that take these axes, such as YX or ZYX.")
@click.option("--search", metavar="WORDS", help="Only models that speak of these words.")
@click.option("--all", "everything", is_flag=True, help="Also models that you cannot reach.")
@json_option
def list_models(
    task: str | None, axes: str | None, search: str | None, everything: bool, as_json: bool
) -> None:
    """List the models that you can use.

    Example: aiod list --task nuclei --axes ZYX
    """
    registry = load_registry()
    found = registry.filter(task=task, axes=axes, text=search)
    reasons = {model.id: model.why_unreachable() for model in found}
    models = [model for model in found if everything or reasons[model.id] is None]
    if as_json:
        print_json([_summary(model, reasons[model.id]) for model in models])
        return
    if models:
        rows = [
            (short_id, model.task, model.axes or "?", _standing(model, reasons[model.id]))
            for short_id, model in _short_ids(registry, models)
        ]
        print_table(("Model", "Task", "Axes", "Description"), rows, wide=3, brief=True)
    for model in models:
        if reason := reasons[model.id]:
            click.echo(printable(f"{model.id} is not reachable: {reason}"))
    families = len({model.family for model in models})
    advice = "`aiod show MODEL` tells more about one."
    if not models:
        advice = "Try other or fewer words; `aiod tasks` lists what models segment."
    click.echo(
        f"{counted(len(models), 'model')} of {counted(families, 'family', 'families')}. {advice}"
    )
    from aiod.registry.defaults import default_models

    ids = {model.id: short_id for short_id, model in _short_ids(registry, models)}
    for name, default in default_models(registry.layers).items():
        if default in ids and (task or len(ids) < len(registry)):
            click.echo(printable(f"`aiod run --task {name}` takes {ids[default]}."))
    if hidden := len(found) - len(models):
        click.echo(f"{counted(hidden, 'model')} not reachable from here: `aiod list --all`.")


@click.command()
@click.argument("model_id", metavar="MODEL")
@json_option
def show(model_id: str, as_json: bool) -> None:
    """Show what is known about a model, or about a family.

    Example: aiod show cellpose/cyto3
    """
    registry = load_registry()
    if "/" not in model_id and (as_json or len(registry.family(model_id).models) > 1):
        _show_family(registry, model_id, as_json)
        return
    model = registry.get(model_id)
    details = _details(registry, model)
    if as_json:
        print_json(details)
        return
    out = console()
    title = f"{model.family_name} {model.version}: {registry.tasks[model.task]}"
    click.secho(printable(title), bold=True)
    click.echo(printable(f"{model.id}\n\n{model.description}\n"))
    _, manifest = registry.manifests_of(model.family)[0]
    if manifest.usage_guide:
        click.echo(printable(f"{manifest.usage_guide}\n"))
    facts = _facts(registry, model, details).items()
    _print_pairs(out, [(key, _said(value)) for key, value in facts if value])
    if details["params"]:
        click.secho("\nParameters", bold=True)
        print_table(
            ("Argument", "Value", "What it does"),
            [_parameter_row(item, details["defaults"]) for item in details["params"]],
            wide=2,
        )


@click.command()
@json_option
def tasks(as_json: bool) -> None:
    """List the tasks: what models can segment.

    Example: aiod tasks
    """
    registry = load_registry()
    from aiod.registry.defaults import default_models

    defaults = default_models(registry.layers)
    counts = dict.fromkeys(registry.tasks, 0)
    for model in registry:
        counts[model.task] += 1
    if as_json:
        print_json(
            [
                {"task": task, "name": name, "models": counts[task], "default": defaults.get(task)}
                for task, name in registry.tasks.items()
            ]
        )
        return
    rows = [
        (task, name, str(counts[task]), defaults.get(task, ""))
        for task, name in registry.tasks.items()
    ]
    print_table(("Task", "Name", "Models", "Default"), rows, wide=1)


@click.command()
@click.argument("model_ids", metavar="MODEL...", nargs=-1, required=True)
@click.option(
    "--format",
    "style",
    type=click.Choice(["apa", "bibtex", "csl"]),
    default="apa",
    show_default=True,
    help="How to write it; csl is JSON for reference managers.",
)
def cite(model_ids: tuple[str, ...], style: str) -> None:
    """Show what to cite when you have used a model, or several.

    Example: aiod cite stardist/2D_versatile_fluo --format bibtex
    """
    from aiod.registry.cite import citation

    text = citation(load_registry(), model_ids, style)
    if style == "csl":
        print_json(json.loads(text))
    else:
        click.echo(printable(text))


def _summary(model: Model, reason: str | None) -> dict[str, Any]:
    return {
        "id": model.id,
        "family": model.family,
        "name": model.family_name,
        "version": model.version,
        "task": model.task,
        "axes": model.axes,
        "description": model.description,
        "status": model.status,
        "layers": list(model.layers),
        "needs_weights": model.needs_weights,
        "reachable": reason is None,
        "unreachable_because": reason,
    }


def _short_ids(registry: Registry, models: Sequence[Model]) -> list[tuple[str, Model]]:
    """Each model with its id, without the task where its version has only one."""
    families = {model.family for model in models}
    tasks = Counter(
        (model.family, model.slug) for name in families for model in registry.family(name).models
    )
    return [
        (model.id if tasks[model.family, model.slug] > 1 else f"{model.family}/{model.slug}", model)
        for model in models
    ]


def _standing(model: Model, reason: str | None) -> str:
    from aiod.registry.pull import is_here
    from aiod.registry.settings import offline

    notes = [model.status] if model.status in ("experimental", "deprecated") else []
    if reason:
        notes.append("not reachable")
    elif offline() and not is_here(model):
        notes.append("not on this machine")
    return f"({', '.join(notes)}) {model.description}" if notes else model.description


def _details(registry: Registry, model: Model) -> dict[str, Any]:
    from aiod.registry.flatten import plain
    from aiod.registry.locations import why_unreachable

    return {
        **_summary(model, model.why_unreachable()),
        "metadata": plain(registry.metadata_for(model)),
        "params": [plain(parameter) for parameter in registry.params_for(model)],
        "defaults": registry.default_config(model),
        "locations": [
            {
                "location": str(item.weights),
                "config": str(item.config) if item.config else None,
                "sha256": item.sha256,
                "size": item.size,
                "layer": item.layer,
                "unreachable_because": why_unreachable(item.weights),
            }
            for item in registry.locations_for(model)
        ],
        "manifests": [
            {"layer": layer, "file": str(path)} for layer, path in registry.manifest_files(model)
        ],
    }


_NOT_STATED = "not stated: ask its authors before you use it commercially"


def _facts(registry: Registry, model: Model, details: dict[str, Any]) -> dict[str, Any]:
    from aiod.words import byte_size

    metadata = details["metadata"]
    licence = metadata.get("license") or {}
    pixel = metadata.get("pixel_size")
    status = metadata.get("status")
    if isinstance(status, dict):
        status = "; ".join(
            f"{key}: {value}" if key != "state" else str(value) for key, value in status.items()
        )
    weights = []
    for item in details["locations"]:
        size = f" ({byte_size(item['size'])})" if item["size"] else ""
        reason = str(item["unreachable_because"] or "").removeprefix(f"{item['location']}: ")
        unreachable = f" - not reachable: {reason}" if reason else ""
        weights.append(f"{item['location']}{size} [{item['layer']}]{unreachable}")
    card, verified = metadata.get("card") or {}, metadata.get("verified")
    people = [author["name"] for author in metadata.get("authors") or []]
    return {
        "Axes": model.axes,
        "Output": metadata.get("output"),
        "Pixel size": f"{_said(pixel['value'])} {pixel['unit']}" if pixel else None,
        "Object diameter": f"{metadata['object_diameter']:g} pixels"
        if metadata.get("object_diameter")
        else None,
        "Status": status,
        "Licence of code": licence.get("code") or _NOT_STATED,
        "Licence of weights": (licence.get("weights") or _NOT_STATED)
        if model.needs_weights
        else None,
        "Weights": weights if model.needs_weights else "none needed",
        "Trained on": card.get("training_data"),
        "Performance": card.get("performance"),
        "Not for": card.get("not_for"),
        "Verified": f"{verified['by']}: {verified['how']}" if verified else None,
        "Authors": ", ".join(people),
        "Keywords": ", ".join(metadata.get("keywords") or []),
        "Home page": metadata.get("url"),
        "Source code": metadata.get("repo"),
        "To cite": f"aiod cite {model.id}" if metadata.get("pubs") else None,
        "Layer": [f"{layer}: {path}" for layer, path in registry.manifest_files(model)],
    }


def _parameter_row(item: dict[str, Any], defaults: dict[str, Any]) -> tuple[str, str, str]:
    value = item["value"]
    argument = item.get("arg_name") or item["name"]
    unit = f" {item['unit']}" if item.get("unit") else ""
    extra = f" One of {_said(value)}." if isinstance(value, list) else ""
    bounds = [
        f"{words} {item[key]:g}"
        for key, words in (("minimum", "from"), ("maximum", "to"))
        if item.get(key) is not None
    ]
    if bounds:
        extra += f" {' '.join(bounds).capitalize()}."
    advanced = " (advanced)" if item.get("advanced") else ""
    return (
        argument,
        _said(defaults[argument]) + unit,
        f"{item['name']}{advanced}: {item.get('tooltip') or ''}{extra}",
    )


def _show_family(registry: Registry, short_name: str, as_json: bool) -> None:
    family = registry.family(short_name)
    if as_json:
        print_json([_details(registry, model) for model in family.models])
        return
    click.secho(printable(family.name), bold=True)
    click.echo(printable(f"{family.description}\n"))
    _, manifest = registry.manifests_of(short_name)[0]
    if manifest.usage_guide:
        click.echo(printable(f"{manifest.usage_guide}\n"))
    rows = [
        (
            model.id,
            model.axes or "?",
            ", ".join(model.layers),
            _standing(model, model.why_unreachable()),
        )
        for model in family.models
    ]
    print_table(("Model", "Axes", "Layer", "Description"), rows, wide=3)


def _print_pairs(out: Any, pairs: list[tuple[str, str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in pairs:
        table.add_row(Text(key, style="dim"), Text(printable(value)))
    out.print(table)


def _said(value: Any) -> str:
    """A value of a manifest as a line: lists of lines stay lines."""
    if value is None:
        return "auto"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        lines = all(isinstance(item, str) and " " in item for item in value)
        return ("\n" if lines else ", ").join(_said(item) for item in value)
    return str(value)


COMMANDS = (list_models, show, tasks, cite)
