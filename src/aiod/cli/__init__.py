"""The command `aiod`. Each command stands in a module of its own group and holds no logic.

Modules here import only click at their top: what a command needs is imported when it runs, so
that `aiod --help` is quick.
"""

from __future__ import annotations

import atexit
import errno
import gc
import importlib
import io
import itertools
import os
import sys

import click

from aiod.errors import AiodError
from aiod.files import reason
from aiod.words import printable

_COMMANDS = {
    "run": ("run", "steps", "rerun", "verify", "view"),
    "evaluate": ("eval",),
    "find": ("list", "show", "tasks", "cite"),
    "weights": ("pull", "cache", "check-links"),
    "env": ("env",),
    "trial": ("test",),
    "new": ("new",),
    "zoo": ("import",),
    "check": ("validate", "fmt", "upgrade"),
    "maintain": ("export", "schema"),
}
"""Module -> its commands: only the module of the command that is run is imported."""

_OBJECTS_UNTIL_GARBAGE = 20_000
"""New ones, until Python looks among them for garbage."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- click's signature
        return sorted(itertools.chain.from_iterable(_COMMANDS.values()))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        for module, names in _COMMANDS.items():
            if cmd_name in names:
                made: tuple[click.Command, ...]
                made = importlib.import_module(f"aiod.cli.{module}").COMMANDS
                return dict(zip(names, made, strict=True))[cmd_name]
        return None


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="aiod-hub", prog_name="aiod")
@click.option(
    "--registry",
    "registries",
    metavar="DIR",
    multiple=True,
    help="Add a layer: a folder with manifests/*.json. May be given again.",
)
@click.option("--debug", is_flag=True, help="Show where in the program an error came up.")
@click.pass_context
def cli(context: click.Context, registries: tuple[str, ...], debug: bool) -> None:
    """AI OnDemand: any segmentation model on any image, in one line.

    \b
    Segment an image:    aiod run --task nuclei image.tif
    Find a model:        aiod list --task nuclei
    Read about it:       aiod show cellpose/cyto3
    Bring its weights:   aiod pull cellpose/cyto3
    Add one of yours:    aiod new version
    """
    context.obj = {"registries": registries}
    if debug:
        import logging

        logging.basicConfig(level=logging.DEBUG)


def main() -> None:
    """Run a command; a user's mistake is a sentence and exit code 1, never a traceback."""
    debug = "--debug" in sys.argv[1:]
    # Nearly all of the 200,000 objects that imports make stay to the end: looking among them for
    # garbage, again and again and once more as Python ends, would take half a second of a run.
    gc.set_threshold(_OBJECTS_UNTIL_GARBAGE)
    atexit.register(gc.freeze)
    for stream in (sys.stdout, sys.stderr):  # a letter that a terminal lacks is no reason to stop
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        sys.exit(cli.main(standalone_mode=False) or 0)
    except AiodError as error:
        if debug:
            raise
        click.echo(click.style("Error: ", fg="red", bold=True) + printable(str(error)), err=True)
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        sys.exit(130)
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        if debug:
            raise
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            subject = f"{error.filename}: " if error.filename else ""
            click.echo(printable(f"Error: {subject}{reason(error)}."), err=True)
            sys.exit(1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left to write goes nowhere
        click.echo(f"Error: The output cannot be written: {reason(error)}.", err=True)
        sys.exit(1)
