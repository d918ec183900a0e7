"""The command line as a whole: help, errors, pipes, terminals of every kind."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from terminal import AIOD, Terminal, aiod, fails, works

from aiod.cli import cli
from families import family

MakeLayer = Callable[..., Path]


def _commands(
    group: click.Group = cli, above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*above, name), command
        if isinstance(command, click.Group):
            yield from _commands(command, (*above, name))


COMMANDS = dict(_commands())


def test_a_command_is_what_its_name_says() -> None:
    assert {words[-1] for words in COMMANDS} == {command.name for command in COMMANDS.values()}
    assert all(words[-1] == command.name for words, command in COMMANDS.items())


def test_the_commands_of_the_issue_are_there() -> None:
    names = {" ".join(words) for words in COMMANDS}
    assert names >= {
        "list",
        "show",
        "tasks",
        "cite",
        "pull",
        "cache list",
        "cache verify",
        "cache clean",
        "check-links",
        "validate",
        "fmt",
        "upgrade",
        "export",
        "schema",
        "new family",
        "new version",
        "new task",
        "new location",
    }


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(words: tuple[str, ...]) -> None:
    command = COMMANDS[words]
    with click.Context(command, info_name=" ".join(words)) as context:
        text = command.get_help(context)
    assert re.search(r"Examples?:\s+aiod ", text)
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, f"{option.opts} says nothing"


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_example_names_a_command_and_options_that_there_are(words: tuple[str, ...]) -> None:
    _, _, text = (COMMANDS[words].help or "").replace("\\\n", " ").partition("Example")
    examples = re.findall(r"(?:: |^ *)aiod (.*)", text, re.MULTILINE)
    assert examples
    for example in examples:
        said = example.split()
        assert tuple(said[: len(words)]) == words
        deepest = COMMANDS.get(tuple(said[:2])) or COMMANDS[(said[0],)]
        known = {name for option in deepest.params for name in option.opts}
        assert {word for word in said if word.startswith("--")} <= known


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_lists_the_commands(option: str) -> None:
    text = works(option)
    for name in cli.list_commands(click.Context(cli)):
        assert re.search(rf"^  {name} ", text, re.MULTILINE), name
    assert "aiod list --task nuclei" in text


def test_without_a_command_help_is_shown() -> None:
    assert "Usage: aiod" in fails(code=2)


def test_the_version() -> None:
    assert re.fullmatch(r"aiod, version \d+\.\d+\.\d+\n", works("--version"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nothing",), "No such command 'nothing'"),
        (("list", "--nothing"), "No such option"),
        (("list", "surplus"), "unexpected extra argument"),
        (("show",), "Missing argument 'MODEL'"),
        (("cite", "cellpose/cyto3", "--format", "mla"), "'mla' is not one of 'apa'"),
        (("upgrade",), "Missing argument"),
        (("export",), "Missing argument"),
        (("new", "nothing"), "No such command"),
    ],
)
def test_a_command_that_there_is_not_is_told_with_exit_code_2(
    words: tuple[str, ...], said: str
) -> None:
    assert said in fails(*words, code=2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("show", "celpose"), 'There is no model family "celpose".\nNext: did you mean cellpose'),
        (("show", "cellpose/cyt3"), "cellpose/cyto3/cyto"),
        (("cite", "cellpose"), "leaves the version open"),
        (("list", "--task", "Nuclei"), 'did you mean "nuclei"?'),
        (("list", "--axes", "QQ"), 'There are no axes "QQ"'),
        (("validate", "/no/such/place"), "/no/such/place does not exist"),
        (("fmt", "/no/such/place.json"), "/no/such/place.json cannot be read"),
        (("upgrade", "/no/such/place.json"), "/no/such/place.json"),
        (("schema", "--check"), "--check needs a file"),
        (("schema", "--to", "/proc/no/such/place.json"), "cannot be written"),
        (("export", "/proc/no/such/place"), "cannot be written"),
        (("--registry", "/no/such/place", "list"), "The layer /no/such/place does not exist"),
        (("new", "version", "--yes", "--to", "lab"), "--family is missing"),
    ],
)
def test_a_mistake_is_one_clear_sentence_with_exit_code_1(
    words: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    text = fails(*words, cwd=tmp_path)
    assert said in text
    assert text.count("Error: ") <= 1
    assert len(text.splitlines()) <= 10


def test_a_config_file_that_makes_no_sense_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("registries = 7")
    assert "is not a list of folders" in fails("list")


def test_debug_shows_where_in_the_program_an_error_came_up() -> None:
    done = aiod("--debug", "show", "nothing")
    assert done.returncode == 1
    assert "UnknownModelError" in done.stderr


def test_a_layer_can_be_given_more_than_once(make_layer: MakeLayer) -> None:
    one, two = make_layer("one", family()), make_layer("two", family("Kit"))
    text = works("--registry", one, "--registry", two, "list", "--search", "segments", "--json")
    assert {"toy/v1/nuclei", "kit/v1/nuclei"} <= {item["id"] for item in json.loads(text)}


def test_layers_of_the_settings_are_used(make_layer: MakeLayer, tmp_path: Path) -> None:
    one, two = make_layer("one", family()), make_layer("two", family("Kit"))
    (tmp_path / "config.toml").write_text('registries = ["one"]')
    listed = os.pathsep.join([str(two), str(tmp_path / "gone")])
    done = aiod("list", "--json", AIOD_REGISTRIES=listed)
    assert {"toy/v1/nuclei", "kit/v1/nuclei"} <= {item["id"] for item in json.loads(done.stdout)}
    assert f"Passed over {tmp_path / 'gone'}" in done.stderr
    assert done.returncode == 0
    assert one != two


def test_a_bad_file_is_told_on_stderr_and_the_rest_works(make_layer: MakeLayer) -> None:
    lab = make_layer("lab", family())
    bad = lab / "manifests" / "bad.json"
    bad.write_text('{\n  "name": "Bad",\n  "name": "\x1b[31mRed"\n}')
    done = aiod("--registry", lab, "show", "toy/v1", "--json")
    assert json.loads(done.stdout)["id"] == "toy/v1/nuclei"
    assert f"Passed over {bad}:" in done.stderr
    assert "aiod validate" in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("command", ["list", "tasks", "list --json", "schema", "show cellpose"])
def test_a_reader_that_has_seen_enough_is_no_error(command: str) -> None:
    script = f"set -o pipefail; {AIOD} {command} | head -1 > /dev/null"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr == ""


@pytest.mark.parametrize(
    "command",
    [("list", "--all"), ("show", "cellpose/cyto3"), ("show", "stardist"), ("tasks",)]
    + [("cite", "empanada/mitonet_v1", "--format", style) for style in ("apa", "bibtex", "csl")],
    ids=" ".join,
)
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", ""])
def test_a_locale_without_utf_8_is_no_reason_to_stop(
    command: tuple[str, ...], encoding: str
) -> None:
    text = works(*command, LC_ALL="C", PYTHONIOENCODING=encoding)
    if command[-1] == "csl":
        assert json.loads(text)


def test_errors_are_said_in_a_locale_without_utf_8() -> None:
    text = fails("show", "größe", LC_ALL="C", PYTHONIOENCODING="ascii")
    assert "There is no model family" in text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full disk to write to")
@pytest.mark.parametrize("command", ["list", "schema", "show sam --json"])
def test_a_full_disk_is_a_sentence(command: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [AIOD, *command.split()], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.stderr == "Error: The output cannot be written: no space left on device.\n"
    assert done.returncode == 1


@pytest.mark.parametrize("command", ["list", "show cellpose/cyto3", "show sam", "tasks"])
@pytest.mark.parametrize("columns", [60, 40])
def test_tables_fit_a_narrow_terminal(command: str, columns: int) -> None:
    with Terminal(*command.split(), columns=columns) as terminal:
        assert terminal.finish() == 0
    rows = [line for line in terminal.seen.splitlines() if "─" in line]
    assert all(len(line.rstrip()) <= columns for line in rows)
    assert rows


def test_columns_are_heeded_in_a_pipe_too() -> None:
    lines = works("tasks", COLUMNS="60").splitlines()
    assert max(map(len, lines)) <= 60


def test_colours_are_for_terminals_only() -> None:
    assert "\x1b" not in works("show", "cellpose/cyto3") + works("list")


def test_ctrl_c_stops_without_a_traceback(tmp_path: Path) -> None:
    with Terminal("new", "family", "--to", tmp_path / "lab") as terminal:
        terminal.wait_for("Name of the family")
        terminal.interrupt()
        assert terminal.finish() != 0
    assert "Traceback" not in terminal.seen
    assert not (tmp_path / "lab").exists()
