"""What commands share: the registry with its layers, tables, progress bars, JSON."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiod.errors import UsageError
from aiod.words import counted, printable

if TYPE_CHECKING:
    from aiod.progress import Progress
    from aiod.registry import Registry

_BETWEEN = 3
"""Columns of a terminal between two columns of a table."""
_LEAST_WIDE = 12

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")


def load_registry(layer: Path | None = None, *, quiet: bool = False) -> Registry:
    """The registry with the layers of `--registry`, and `layer` last if it is one already.

    Files passed over are told on stderr.
    """
    from aiod.registry import load

    last = [layer] if layer is not None and (layer / "manifests").is_dir() else []
    registry = load([*registries_given(), *last])
    if registry.problems and not quiet:
        files = sorted({problem.file for problem in registry.problems})
        for file in files[:5]:
            first = next(item for item in registry.problems if item.file == file)
            hint = f"; {first.hint}" if first.hint else ""
            told = f"Passed over {file}:{first.line}: {first.sentence}{hint}"
            click.echo(printable(told), err=True)
        more = f" (of {counted(len(files), 'file')})" if len(files) > 5 else ""
        click.echo(f"`aiod validate` shows all problems{more}.", err=True)
    return registry


def registries_given() -> tuple[str, ...]:
    """The folders of `--registry`."""
    context = click.get_current_context()
    return tuple((context.find_root().obj or {}).get("registries", ()))


def layer_folder(given: Path | None) -> Path:
    """The layer that a command writes to: `--to`, else the current folder or this checkout."""
    folder = (given or Path()).absolute()
    for candidate in (folder, folder / "src" / "aiod"):
        if (candidate / "manifests").is_dir():
            return candidate
    if given is None:
        raise UsageError(
            f"{folder} is no layer: it has no folder manifests/.",
            hint="name one with --to DIR; a new folder will do",
        )
    return folder


def print_json(value: Any) -> None:
    """JSON on stdout; what a terminal would obey is escaped, which means the same in JSON."""
    click.echo(printable(json.dumps(value, indent=2, ensure_ascii=not _utf8(), default=str)))


def print_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], *, wide: int = 0, brief: bool = False
) -> None:
    """A table on stdout; column number `wide` takes the space that is left.

    There it wraps; `brief` gives each row one line and ends what is too long with an ellipsis.
    Where the other columns alone are wider than the terminal, every cell wraps: no letter is lost.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    cells = [[printable(cell) for cell in row] for row in rows]
    fits = room_left(headings, cells, wide=wide) >= _LEAST_WIDE
    padding = (0, 1) if fits else (0, 0)
    table = Table(
        box=SIMPLE_HEAD, pad_edge=False, header_style="bold", expand=fits, padding=padding
    )
    for index, heading in enumerate(headings):
        free = fits and index == wide
        table.add_column(
            heading,
            no_wrap=fits and (brief or not free),
            overflow="ellipsis" if brief and free else "fold",
            ratio=1 if free else None,
            min_width=_LEAST_WIDE if free else None,
        )
    for row in cells:
        table.add_row(*map(Text, row))
    console().print(table)


def room_left(headings: Sequence[str], rows: Sequence[Sequence[str]], *, wide: int) -> int:
    """How many letters a table leaves for its column `wide` on this terminal."""
    from rich.cells import cell_len

    columns = list(zip(headings, *rows, strict=True))
    others = sum(max(map(cell_len, column)) for i, column in enumerate(columns) if i != wide)
    width: int = console().width
    return width - others - _BETWEEN * len(columns)


def console() -> Any:
    """A terminal of any width; 100 columns where neither it nor COLUMNS says how many."""
    from rich.console import Console

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 100
    return Console(width=width, highlight=False, soft_wrap=False)


@contextlib.contextmanager
def progress_bar(*, show: bool = True) -> Iterator[Progress]:
    """A callback that draws a bar on stderr for each piece of work it hears of.

    Where stderr is no terminal, as in a cluster's log, only pieces of news are told.
    """
    from aiod.progress import Step, silent

    def tell(step: Step) -> None:
        if not step.unit:
            click.echo(printable(step.what), err=True)

    if not show or not sys.stderr.isatty():
        yield tell if show else silent
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bars:
        known: dict[str, Any] = {}

        def report(step: Step) -> None:
            if not step.unit:
                bars.console.print(printable(step.what), markup=False, highlight=False)
                return
            if step.what not in known:
                known[step.what] = bars.add_task(printable(step.what), total=step.total)
            bars.update(known[step.what], completed=step.done, total=step.total)

        yield report


def _utf8() -> bool:
    return "utf" in (getattr(sys.stdout, "encoding", "") or "").lower()
