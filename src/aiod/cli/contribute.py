"""Contributing models: validate, new, fmt, upgrade."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiod.cli.common import load_registry, print_json, progress_bar, registries_given
from aiod.errors import AiodError, UsageError
from aiod.words import counted, listing, printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiod.registry.edit import Change

_PATHS = click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH]...")


@click.command()
@_PATHS
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
@click.option("--format", "style", type=click.Choice(["text", "json", "github"]), default="text",
              show_default=True, help="github annotates the lines of a pull request.")  # fmt: skip
@click.option("--quiet", is_flag=True, help="Errors only.")
def validate(paths: tuple[Path, ...], strict: bool, style: str, quiet: bool) -> None:
    """Check manifests, folders of manifests, or layers; without PATH every layer in use.

    Example: aiod validate manifests/mymodel.json --strict
    """
    from aiod.registry.layers import find_layers
    from aiod.registry.validate import validate as check

    layers = find_layers(registries_given())
    checked = check(
        paths or [layer.folder for layer in layers], tasks=dict(load_registry(quiet=True).tasks)
    )
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
    from aiod.files import read_text, write_atomically
    from aiod.registry.canonical import to_text
    from aiod.registry.jsontext import IrregularJSON, parse
    from aiod.registry.schema import MAX_MANIFEST_BYTES

    changed = []
    files = _manifests(paths)
    for path in files:
        before = read_text(path, limit=MAX_MANIFEST_BYTES)
        try:
            document = parse(before)
        except IrregularJSON as error:
            raise AiodError(f"{path} is not JSON.", hint=f"`aiod validate {path}`") from error
        if not isinstance(document, dict):
            raise AiodError(f"{path} is not a manifest.", hint=f"`aiod validate {path}`")
        after = to_text(document)
        if after != before:
            changed.append(path)
            if not check:
                write_atomically(path, after)
    for path in changed:
        click.echo(f"{'would change' if check else 'changed'}: {path}")
    click.echo(f"{counted(len(files), 'file')}, {len(changed)} {'to change' if check else 'changed'}.")
    if check and changed:
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...",
                type=click.Path(path_type=Path, dir_okay=False))  # fmt: skip
def upgrade(files: tuple[Path, ...]) -> None:
    """Rewrite manifests of an older form in place into today's, and say what changed.

    Example: aiod upgrade manifests/*.json
    """
    from aiod.files import read_text, write_atomically
    from aiod.registry.canonical import to_text
    from aiod.registry.explain import explain
    from aiod.registry.jsontext import IrregularJSON, parse
    from aiod.registry.manifest import line_of
    from aiod.registry.schema import MAX_MANIFEST_BYTES
    from aiod.registry.upgrade import upgrade as rewrite

    tasks = load_registry(quiet=True).tasks
    failed = False
    for path in files:
        try:
            text = read_text(path, limit=MAX_MANIFEST_BYTES)
            document = parse(text)
            if not isinstance(document, dict):
                raise IrregularJSON("not an object")
        except (AiodError, IrregularJSON) as error:
            hint = f" (`aiod validate {path}`)" if isinstance(error, IrregularJSON) else ""
            click.echo(printable(f"{path}: left as it is: {error}{hint}"), err=True)
            failed = True
            continue
        new, changes = rewrite(document, tasks)
        if changes:
            write_atomically(path, to_text(new))
        click.echo(f"{path}: " + (f"{counted(len(changes), 'change')}" if changes else "up to date"))
        for change in changes:
            click.echo(printable(f"  {change}"))
        left = explain(to_text(new), str(path), tasks, lint=False)
        for problem in left:
            click.echo(printable(f"  still to mend by hand: {line_of(problem)}"), err=True)
        failed |= bool(left)
    if failed:
        raise click.exceptions.Exit(1)


@click.group()
def new() -> None:
    """Add a model by answering questions; every answer can also be given as an option.

    \b
    Example: aiod new version --to /shared/lab --family cellpose --version embryo \\
                 --task cyto --axes CYX --location weights/embryo --description "…"
    """


def _common(function: Callable[..., None]) -> Callable[..., None]:
    """The options that every `aiod new …` has."""
    options = (
        click.option("--to", "layer", type=click.Path(path_type=Path, file_okay=False),
                     metavar="DIR", help="The layer to write to; else the current folder."),
        click.option("--no-hash", is_flag=True, help="Do not read the weights for their hash."),
        click.option("--dry-run", is_flag=True, help="Show the change and write nothing."),
        click.option("--yes", is_flag=True, help="Do not ask before writing."),
    )  # fmt: skip
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
@click.option("--param", "params", multiple=True, metavar="JSON",
              help='A parameter, such as \'{"name": "Diameter", "arg_name": "diameter", '
              '"value": 30.0}\'; may be repeated.')  # fmt: skip
@_common
def new_family(**given: Any) -> None:
    """Add a model family: a manifest, and the beginning of its runner.

    Example: aiod new family --to /shared/lab
    """
    from aiod.registry.edit import add_family
    from aiod.registry.schema import License, Manifest, Metadata, Publication, Version
    from aiod.words import family_slug

    layer = _layer(given["layer"])
    ask = _Questions(given)
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
        "license": _without_none({
            "code": ask("code_license", License, "code", optional=True),
            "weights": ask("weights_license", License, "weights", optional=True)
            if location else None,
        }),
        "output": ask("output", Metadata, "output", default="instance"),
    }  # fmt: skip
    _write(given, lambda **how: add_family(
        layer, name, version, description=description, task=task, short_name=short, axes=axes,
        location=location, config_path=given["config_path"],
        metadata={key: value for key, value in metadata.items() if value}, params=params, **how,
    ))  # fmt: skip


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

    layer = _layer(given["layer"])
    ask = _Questions(given)
    family = ask.family()
    version = ask.plain("version", "Name of the new version.")
    description = ask("description", Metadata, "description")
    axes = ask("axes", Version, "axes", default=_usual_axes(family))
    task = ask.task()
    location = ask.location(layer)
    _write(given, lambda **how: add_version(
        layer, family, version, task=task, location=location, description=description, axes=axes,
        slug=given["slug"], config_path=given["config_path"], **how,
    ))  # fmt: skip


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

    layer = _layer(given["layer"])
    ask = _Questions(given)
    family = ask.family()
    version = ask.plain("version", "Name or slug of the version.")
    task = ask.task()
    location = ask.location(layer)
    _write(given, lambda **how: add_task(
        layer, family, version, task=task, location=location, config_path=given["config_path"],
        **how,
    ))  # fmt: skip


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

    layer = _layer(given["layer"])
    ask = _Questions(given)
    family = ask.family()
    version = ask.plain("version", "Name or slug of the version.")
    location = ask.location(layer, needed=True)
    _write(given, lambda **how: add_location(
        layer, family, version, location=str(location), task=given["task"],
        config_path=given["config_path"], first=given["first"], **how,
    ))  # fmt: skip


class _Questions:
    """Answers from options where they are given, else from the person at the keyboard.

    The questions are the schema's own descriptions, and its checks judge each answer.
    """

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        self.asking = not given["yes"]
        self.registry = load_registry(quiet=True)

    def __call__(
        self, option: str, model: Any, field: str, *, default: str | None = None,
        optional: bool = False,
    ) -> Any:  # fmt: skip
        from aiod.registry.edit import wrong_answer

        def check(answer: str) -> str | None:
            return None if optional and not answer else wrong_answer(model, field, answer)

        words = model.model_fields[field].description or field
        return self.ask(option, words, check, default="" if optional else default) or None

    def plain(self, option: str, words: str, default: str | None = None) -> str:
        from aiod.registry import forms

        def check(answer: str) -> str | None:
            import re

            fits = 1 <= len(answer) <= 50 and re.match(forms.VERSION_NAME, answer)
            return None if fits else f"expected {forms.IN_WORDS[forms.VERSION_NAME]} (1-50 letters)"

        return self.ask(option, words, check, default=default)

    def task(self) -> str:
        from aiod.words import nearest

        tasks = self.registry.tasks

        def check(answer: str) -> str | None:
            close = nearest(answer, tasks)
            hint = f"; did you mean {close[0]}?" if close else ""
            return None if answer in tasks else f"expected one of {listing(tasks)}{hint}"

        return self.ask("task", f"What does it segment? One of {listing(tasks)}.", check)

    def family(self) -> str:
        def check(answer: str) -> str | None:
            try:
                self.registry.family(answer)
            except AiodError as error:
                return str(error)
            return None

        return self.ask("family", "Short name of the family (see `aiod list`).", check)

    def location(self, layer: Path, *, needed: bool = False) -> str | None:
        from aiod.registry.edit import wrong_answer
        from aiod.registry.locations import resolve, why_unreachable
        from aiod.registry.schema import LocationEntry

        def check(answer: str) -> str | None:
            if not answer:
                return "expected a URL or a path" if needed else None
            return wrong_answer(LocationEntry, "location", answer) or why_unreachable(
                resolve(answer, layer / "manifests")
            )

        words = "Where are the weights? A URL, or a path (relative to the manifest)."
        if not needed:
            words += " Nothing for an algorithm without weights."
        return self.ask("location", words, check, default=None if needed else "") or None

    def authors(self) -> list[dict[str, str]]:
        if not self.asking:
            return []
        names = self.ask("author", "Who made it? Names, separated by commas.", default="")
        return [{"name": name.strip()} for name in names.split(",") if name.strip()]

    def publication(self, model: Any) -> list[dict[str, str]]:
        title = self("title", model, "title", optional=True)
        if not title:
            return []
        doi = self("doi", model, "doi", optional=True)
        return [{"title": title, **({"doi": doi} if doi else {})}]

    def parameters(self) -> list[dict[str, Any]]:
        from aiod.registry.edit import wrong_answer
        from aiod.registry.schema import Parameter
        from aiod.words import family_slug

        found: list[dict[str, Any]] = []
        while click.confirm("Add a parameter (a knob that users may turn)?", default=False):
            name = self.once("  Label in forms", lambda a: wrong_answer(Parameter, "name", a))
            argument = self.once(
                "  Keyword of the runner", lambda a: wrong_answer(Parameter, "arg_name", a),
                default=family_slug(name),
            )  # fmt: skip
            value = self.once("  Default value, as JSON (0.5, true, \"otsu\", [1, 2])", _not_json)
            tooltip = self.once("  What does turning it do to the result?", default="")
            item = {"name": name, "arg_name": argument, "value": json.loads(value)}
            found.append({**item, **({"tooltip": tooltip} if tooltip else {})})
        return found

    def ask(
        self, option: str, words: str, check: Callable[[str], str | None] | None = None,
        *, default: str | None = None,
    ) -> str:  # fmt: skip
        answer = self.given.get(option)
        flag = f"--{option.replace('_', '-')}"
        if answer is not None or not self.asking:
            if answer is None:
                answer = default
            if answer is None:
                raise UsageError(f"{flag} is missing.", hint=words)
            if check and (wrong := check(answer)):
                raise UsageError(f"{flag} {answer!r} does not fit: {wrong}.")
            return str(answer)
        try:
            return self.once(words, check, default=default)
        except click.Abort as error:
            raise UsageError(f"There was no answer for {flag}.", hint=words) from error

    def once(
        self, words: str, check: Callable[[str], str | None] | None = None,
        default: str | None = None,
    ) -> str:  # fmt: skip
        while True:
            answer = str(click.prompt(words, default=default, show_default=bool(default))).strip()
            wrong = check(answer) if check else None
            if wrong is None:
                return answer
            click.echo(printable(f"  {wrong}"))


def _layer(given: Path | None) -> Path:
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


def _usual_axes(family: str) -> str | None:
    models = load_registry(quiet=True).family(family).models
    return models[0].axes if models else None


def _parameter(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UsageError(f"--param {text!r} is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise UsageError(f"--param {text!r} is not a JSON object.")
    return value


def _not_json(text: str) -> str | None:
    try:
        json.loads(text)
    except ValueError as error:
        return f"not JSON ({error}); text wants double quotes"
    return None


def _write(given: dict[str, Any], add: Callable[..., Change | Iterable[Change]]) -> None:
    with progress_bar() as progress:
        planned = add(hashed=not given["no_hash"], dry_run=True, progress=progress)
    changes = list(planned) if isinstance(planned, tuple) else [planned]
    for change in changes:
        click.echo(printable(change.diff))
    if given["dry_run"]:
        return
    if not given["yes"]:
        click.confirm(f"Write {listing([str(item.path) for item in changes], 'and')}?", abort=True)
    for change in changes:
        change.write()
    written = changes[0].path
    click.echo(f"Written. Next: aiod validate {written}")


def _manifests(paths: tuple[Path, ...]) -> list[Path]:
    from aiod.registry.tasks import TASKS_FILE

    files: list[Path] = []
    for path in paths or (_layer(None),):
        folder = path / "manifests" if (path / "manifests").is_dir() else path
        files += sorted(folder.glob("*.json")) if path.is_dir() else [path]
    return [path for path in files if path.name != TASKS_FILE]


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


COMMANDS = (validate, new, fmt, upgrade)
