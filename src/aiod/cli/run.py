"""Running models: run, rerun, verify, view."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiod.cli.common import json_option, load_registry, print_json, print_table, room_left
from aiod.words import byte_size, counted, printable

if TYPE_CHECKING:
    from aiod.flow.request import Request
    from aiod.flow.run import Done
    from aiod.progress import Progress
    from aiod.registry import Registry

_path = click.Path(path_type=Path)
STOPPED = 130


@click.command()
@click.argument("targets", metavar="MODEL IMAGE...", nargs=-1)
@click.option("--task", help="Run the default model for a task; then only images are named.")
@click.option(
    "--samplesheet", type=_path, metavar="CSV", help="Images, one a line, and their names."
)
@click.option("-o", "--out", type=_path, metavar="DIR", help="The run folder.")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="A model parameter.")
@click.option("--pre", "before", multiple=True, metavar="STEP", help="A step before the model.")
@click.option("--post", "after", multiple=True, metavar="STEP", help="A step on the labels.")
@click.option(
    "--channel",
    "channels",
    multiple=True,
    metavar="NAME|N",
    help="Channels for the model, by name or counted from 1.",
)
@click.option("--axes", metavar="LETTERS", help="What the image's axes are, such as ZYX.")
@click.option(
    "--pixel-size", metavar="MICROMETRES", help="0.325, or one number an axis: 2,0.325,0.325."
)
@click.option(
    "--rescale/--no-rescale",
    default=None,
    help="Resample to the pixel size the model was trained on; else as the model says.",
)
@click.option(
    "--link-z/--no-link-z",
    default=None,
    help="Join the planes of a stack that a 2D model did; else as the model says.",
)
@click.option(
    "--tile", metavar="PIXELS", help="Size of a piece done at a time: 512, or one number an axis."
)
@click.option(
    "--halo",
    metavar="PIXELS",
    help="Margin that a tile sees around itself: 64, or one number an axis.",
)
@click.option(
    "--export",
    "exports",
    multiple=True,
    type=click.Choice(["tiff", "geojson", "csv"]),
    help="Also write labels or objects in this form.",
)
@click.option(
    "--certify",
    type=click.IntRange(0, 1000),
    default=0,
    metavar="N",
    help="Compare N random crops, done without tiles, with the result.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@click.option("--workers", type=click.IntRange(1, 1024), help="Model processes at a time.")
@click.option("--profile", default="local", show_default=True, help="Where to run.")
@click.option(
    "--timeout", type=click.FloatRange(0.1), metavar="SECONDS", help="What a tile may take."
)
@click.option("--dry-run", is_flag=True, help="Check everything and show the tiles; run nothing.")
@json_option
def run(targets: tuple[str, ...], dry_run: bool, as_json: bool, **options: Any) -> None:
    """Segment images: any size, on this computer, in one line.

    \b
    Examples:
      aiod run cellpose/cyto3 slide.ome.tif --param diameter=30 -o out/
      aiod run --task nuclei plate/*.tif --export csv
      aiod run stardist/2D_versatile_fluo --samplesheet samples.csv

    `aiod show MODEL` explains a model's parameters. Steps have parameters too:
    --pre clahe:clip_limit=5 --pre downsample:factor=2 --post min_size:50
    (`aiod steps` lists them).
    Named sets of steps give a result each: --pre raw=none --pre soft=gaussian:sigma=2.
    """
    from aiod.flow.run import run as run_flow

    registry = load_registry()
    request = _request(targets, options)
    if dry_run:
        _show_plan(request, registry, as_json=as_json)
        return
    told: set[str] = set()
    with _watched(told, show=not as_json) as (progress, tell):
        done = run_flow(
            request, registry, progress=progress, tell=tell, command=("aiod", *sys.argv[1:])
        )
    _report(done, told, as_json=as_json)


@click.command()
@click.argument("record", metavar="RUN_JSON", type=_path)
@click.option("-o", "--out", type=_path, metavar="DIR", help="The new run folder.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@click.option("--workers", type=click.IntRange(1, 1024), help="Model processes at a time.")
@json_option
def rerun(record: Path, out: Path | None, device: str, workers: int | None, as_json: bool) -> None:
    """Repeat a run from its record, into a folder of its own.

    Example: aiod rerun out/run.json -o again/
    """
    from dataclasses import replace

    from aiod.errors import UsageError
    from aiod.flow.record import read_record
    from aiod.flow.repeat import changes_since, repeat_record, request_of
    from aiod.flow.run import run as run_flow

    first = read_record(record)
    folder = (record if record.is_dir() else record.parent).absolute()
    target = out or folder.with_name(f"{folder.name}-again")
    if target.absolute() == folder:
        raise UsageError("A run is not repeated into its own folder.", hint="-o DIR names another")
    told: set[str] = set()
    with _watched(told, show=not as_json) as (progress, tell):
        for change in changes_since(first):
            tell(change)
        request = replace(request_of(first, out=target), device=device, workers=workers)
        done = run_flow(
            request,
            load_registry(),
            progress=progress,
            tell=tell,
            command=("aiod", *sys.argv[1:]),
            repeats=repeat_record(first, folder / "run.json"),
        )
    _report(done, told, as_json=as_json)
    if not as_json:
        click.echo(f"Are the masks the same?  aiod verify {shlex.quote(str(done.folder))}")


@click.command()
@click.argument("record", metavar="RUN_JSON", type=_path)
@click.argument("other", metavar="[OTHER_RUN_JSON]", type=_path, required=False)
@json_option
def verify(record: Path, other: Path | None, as_json: bool) -> None:
    """Say whether masks are the same: as recorded, as in a run repeated, as in another.

    Example: aiod verify again/run.json
    """
    from dataclasses import asdict

    from aiod.flow.repeat import verify as verify_run

    verdicts = verify_run(record, other)
    same = sum(item.state == "same" for item in verdicts)
    if as_json:
        print_json([asdict(item) for item in verdicts])
    else:
        print_table(
            ("Image", "Labels", "Masks", "Why"),
            [(item.sample, item.set, item.state, item.why) for item in verdicts],
            wide=3,
        )
        click.echo(f"{same} of {counted(len(verdicts), 'label image')} the same.")
    if same < len(verdicts) or not verdicts:
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("record", metavar="RUN_JSON", type=_path)
@click.option("--sample", help="Which image, where the run has several.")
def view(record: Path, sample: str | None) -> None:
    """Look at an image with its labels in napari, where it is installed.

    Example: aiod view out/
    """
    from aiod.flow.results.view import view_run

    view_run(record, sample)


@click.command()
@json_option
def steps(as_json: bool) -> None:
    """List the steps before (--pre) and after (--post) a model, with their parameters.

    Example: aiod steps
    """
    from aiod.flow.steps.forms import forms

    found = forms()
    if as_json:
        print_json(found)
        return
    for option, group in found.items():
        for name, form in group.items():
            click.echo(f"{option} {name}   {form['does']}")
            for entry in form["parameters"]:
                default = "" if entry["default"] is None else f"={entry['default']}"
                click.echo(f"      {entry['name']}{default}   {entry['text']}")
        click.echo()


def _request(targets: tuple[str, ...], options: Mapping[str, Any]) -> Request:
    from aiod.errors import UsageError
    from aiod.flow.images.inputs import parse_pixel_size
    from aiod.flow.params import parse_assignments
    from aiod.flow.request import Request
    from aiod.flow.tiles.layout import parse_sizes

    chosen = dict(options)
    inputs = targets
    model = None
    if chosen["task"] is None:
        if not targets:
            raise UsageError(
                "Which model, and which images?",
                hint="aiod run MODEL IMAGE..., or aiod run --task nuclei IMAGE...",
            )
        model, *rest = targets
        inputs = tuple(rest)
        if Path(model).exists() and not _is_model(model):
            images = shlex.quote(model) + (" ..." if rest else "")
            raise UsageError(
                f"Which model? {model} is a file or folder.",
                hint=f"aiod run MODEL {images}, or aiod run --task nuclei {images}",
            )
    elif targets and not Path(targets[0]).exists() and _is_model(targets[0]):
        raise UsageError(
            f"--task {chosen['task']} chooses a model, and {targets[0]} is one too.",
            hint="leave one of the two out",
        )
    if not inputs and chosen["samplesheet"] is None:
        raise UsageError("Which images?", hint="name files or folders, or give --samplesheet CSV")
    size = chosen.pop("pixel_size")
    for name in ("tile", "halo"):
        chosen[name] = parse_sizes(chosen[name], f"--{name}") if chosen[name] else None
    chosen["params"] = parse_assignments(chosen["params"])
    return Request(
        model=model,
        inputs=inputs,
        pixel_size=parse_pixel_size(size) if size else None,
        **chosen,
    )


def _is_model(text: str) -> bool:
    """Whether a word is a model's id, or the beginning of one."""
    from aiod.errors import UnknownModelError, UsageError

    if "/" not in text:
        return False
    try:
        load_registry(quiet=True).get(text)
    except UnknownModelError:
        return False
    except UsageError:  # it leaves the version or the task open
        return True
    return True


def _show_plan(request: Request, registry: Registry, *, as_json: bool) -> None:
    from aiod.flow.dryrun import plan_rows

    plan = plan_rows(request, registry)
    if as_json:
        print_json(plan.as_dict())
    else:
        for note in plan.notes:
            click.echo(printable(note), err=True)
        rows = [
            (
                row.sample,
                row.set,
                row.shape,
                str(row.tiles),
                row.tile,
                row.halo,
                byte_size(row.memory),
            )
            for row in plan.rows
        ]
        print_table(
            ("Image", "Labels", "Shape", "Tiles", "Tile (px)", "Halo (px)", "Memory a worker"), rows
        )
        click.echo(plan.sentence)
        for error in plan.errors:
            click.echo(printable(f"\n{error}"), err=True)
    if plan.errors:
        raise click.exceptions.Exit(1)


def _report(done: Done, told: set[str], *, as_json: bool) -> None:
    """The table at the end: what was found, where it lies, how to look at it."""
    if as_json:
        print_json({"folder": str(done.folder), **done.record.model_dump(mode="json")})
    else:
        _print_images(done)
        for image in done.images:
            news = [warning for warning in image.warnings if warning not in told]
            for sentence in (*news, *image.findings):
                click.echo(printable(f"{image.sample}: {sentence}"), err=True)
        for image in done.failed:
            click.echo(printable(f"\n{image.sample}: {image.error}"), err=True)
        _where(done)
    if done.failed:
        raise click.exceptions.Exit(1)


def _print_images(done: Done) -> None:
    """A row for each label image; paths begin at the run folder where they are too long to copy."""
    headings = ("Image", "Labels", "Objects", "Time", "Where")
    rows = [
        (
            printable(image.sample),
            image.set,
            "–" if image.objects is None else f"{image.objects:,}",
            "–" if image.seconds is None else f"{image.seconds:.1f} s",
            str(done.folder / image.labels) if image.labels else image.status,
        )
        for image in done.images
    ]
    if max(len(row[-1]) for row in rows) > room_left(headings, rows, wide=4):
        within = [image.labels or image.status for image in done.images]
        rows = [(*row[:-1], where) for row, where in zip(rows, within, strict=True)]
        headings = (*headings[:-1], "Where in the folder")
    print_table(headings, rows, wide=4)


def _where(done: Done) -> None:
    if done.earlier:
        click.echo(f"{counted(done.earlier, 'label image')} finished before, taken as it is.")
    click.echo(f"Folder:   {done.folder}")
    for key, heading in (("overlay", "Picture"), ("csv", "Table"), ("geojson", "Outlines")):
        paths = [image.outputs[key] for image in done.images if key in image.outputs]
        if paths:
            more = f"   (and {len(paths) - 1:,} more)" if len(paths) > 1 else ""
            click.echo(printable(f"{heading + ':':<10}{done.folder / paths[0]}{more}"))
    click.echo(f"Record:   {done.folder / 'run.json'}   (methods.md and citations.bib beside it)")
    if any(image.labels for image in done.images):
        click.echo(f"Look:     aiod view {shlex.quote(str(done.folder))}")


@contextlib.contextmanager
def _watched(told: set[str], *, show: bool) -> Iterator[tuple[Progress, Any]]:
    """Progress and sentences on stderr; the sentences are kept in `told`.

    Ctrl-C leaves a run that goes on with the same command.
    """

    def tell(sentence: str) -> None:
        told.add(sentence)
        click.echo(printable(sentence), err=True)

    from aiod.cli.progress import bars

    try:
        with bars(show=show) as progress:
            yield progress, tell
    except KeyboardInterrupt:
        click.echo("Stopped. The same command goes on where it was.", err=True)
        raise click.exceptions.Exit(STOPPED) from None


COMMANDS = (run, steps, rerun, verify, view)
