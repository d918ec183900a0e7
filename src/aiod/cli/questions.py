"""The questions of `aiod new`: the schema's own descriptions, its checks judging each answer."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from aiod.cli.common import load_registry
from aiod.errors import AiodError, UsageError
from aiod.words import listing, printable


class Questions:
    """Answers from options where they are given, else from the person at the keyboard.

    The questions are the schema's own descriptions, and its checks judge each answer.
    """

    def __init__(self, given: dict[str, Any], layer: Path) -> None:
        self.given = given
        self.layer = layer
        self.asking = not given["yes"]
        self.registry = load_registry(layer, quiet=True)

    def __call__(
        self,
        option: str,
        model: Any,
        field: str,
        *,
        default: str | None = None,
        optional: bool = False,
    ) -> Any:
        from aiod.registry.answers import as_written, wrong_answer

        def check(answer: str) -> str | None:
            if optional and not answer:
                return None
            return wrong_answer(model, field, as_written(field, answer))

        words = model.model_fields[field].description or field
        if optional and self.asking:
            words += " (Enter for none)"
        answer = self.ask(option, words, check, default="" if optional else default)
        return as_written(field, answer) if answer else None

    def plain(self, option: str, words: str, default: str | None = None) -> str:
        from aiod.registry import forms

        def check(answer: str) -> str | None:
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
                return f"expected the short name of a family; {error.hint}"
            return None

        return self.ask("family", "Short name of the family (see `aiod list`).", check)

    def location(self, *, needed: bool = False) -> str | None:
        from aiod.registry.answers import from_here, why_silent, wrong_answer
        from aiod.registry.locations import resolve, why_unreachable
        from aiod.registry.schema import LocationEntry

        def check(answer: str) -> str | None:
            if not answer:
                return "expected a URL or a path" if needed else None
            wrong = wrong_answer(LocationEntry, "location", answer)
            if wrong or self.given.get("no_hash"):
                return wrong
            place = resolve(from_here(answer, self.layer), self.layer / "manifests")
            silent = why_silent(place)
            return why_unreachable(place) or (silent and f"{silent} (or leave it out: --no-hash)")

        words = "Where are the weights? A URL, or a path (from here, or from the manifest)."
        if not needed:
            words += " Nothing for an algorithm without weights."
        # A script that leaves the location out has forgotten it; '' says that there is none.
        default = "" if self.asking and not needed else None
        answer = self.ask("location", words, check, default=default)
        return from_here(answer, self.layer) if answer else None

    def authors(self) -> list[dict[str, str]]:
        if not self.asking:
            return []
        names = self.ask("author", "Who made it? Names, separated by commas.", default="")
        return [{"name": name.strip()} for name in names.split(",") if name.strip()]

    def publication(self, model: Any) -> list[dict[str, str]]:
        title = self("title", model, "title", optional=True)
        if not title:
            if self.given["doi"]:
                raise UsageError("--title is missing.", hint="--doi goes with the title")
            return []
        doi = self("doi", model, "doi", optional=True)
        return [{"title": title, **({"doi": doi} if doi else {})}]

    def parameters(self) -> list[dict[str, Any]]:
        from aiod.registry.answers import wrong_answer
        from aiod.registry.jsontext import parse
        from aiod.registry.parameter_rules import broken_parameters
        from aiod.registry.schema import Parameter
        from aiod.words import family_slug

        found: list[dict[str, Any]] = []
        more = "Add a parameter (a knob that users may turn)? [y/N]"
        while self.once(more, _not_yes_or_no, default="").lower().startswith("y"):
            name = self.once("  Label in forms", lambda a: wrong_answer(Parameter, "name", a))
            argument = self.once(
                "  Keyword of the runner",
                lambda a: wrong_answer(Parameter, "arg_name", a),
                default=family_slug(name),
            )
            value = self.once('  Default value, as JSON (0.5, true, "otsu", [1, 2])', _not_json)
            tooltip = self.once("  What does turning it do to the result?", default="")
            item = {"name": name, "arg_name": argument, "value": parse(value)}
            item |= {"tooltip": tooltip} if tooltip else {}
            broken = next(broken_parameters([*found, item], ()), None)
            if broken is None:
                found.append(item)
            else:  # what ties the answers together: ask for this parameter once more
                click.echo(printable(f"  {broken.found}; expected {broken.expected}"))
        return found

    def ask(
        self,
        option: str,
        words: str,
        check: Callable[[str], str | None] | None = None,
        *,
        default: str | None = None,
    ) -> str:
        answer = self.given.get(option)
        flag = f"--{option.replace('_', '-')}"
        if answer is not None or not self.asking:
            if answer is None:
                answer = default
            if answer is None:
                raise UsageError(f"{flag} is missing.", hint=words)
            if check and (wrong := check(answer)):
                stop = "" if wrong.endswith("?") else "."
                raise UsageError(f"{flag} {answer!r} does not fit: {wrong}{stop}")
            return str(answer)
        return self.once(words, check, default=default, flag=flag)

    def once(
        self,
        words: str,
        check: Callable[[str], str | None] | None = None,
        default: str | None = None,
        flag: str = "--param",
    ) -> str:
        while True:
            try:
                given = click.prompt(words.rstrip("."), default=default, show_default=bool(default))
            except click.Abort as error:
                click.echo()  # the question's line ends here
                raise UsageError(f"There was no answer for {flag}.", hint=words) from error
            answer = str(given).strip()
            wrong = check(answer) if check else None
            if wrong is None:
                return answer
            click.echo(printable(f"  {wrong}"))


def _not_yes_or_no(text: str) -> str | None:
    return None if text.lower() in ("", "y", "yes", "n", "no") else "expected y or n"


def _not_json(text: str) -> str | None:
    from aiod.registry.jsontext import IrregularJSON, parse

    try:
        parse(text)
    except IrregularJSON as error:
        return f"not JSON ({error}); text wants double quotes"
    return None
