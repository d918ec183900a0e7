"""`aiod new …`: every question answered at a real terminal, every answer given as an option."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from terminal import Terminal, aiod, fails, works

from aiod.registry import load, read_document

WEIGHTS = b"weights" * 999
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
URL = "https://example.org/toy.pth"


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """An empty layer with a file of weights."""
    folder = tmp_path / "lab"
    (folder / "manifests").mkdir(parents=True)
    (folder / "weights").mkdir()
    (folder / "weights" / "toy.pth").write_bytes(WEIGHTS)
    return folder


FAMILY = {
    "name": "Toy net",
    "short-name": "toy",
    "description": "Segments toys.",
    "version": "v1",
    "axes": "ZYX",
    "task": "nuclei",
    "location": "../weights/toy.pth",
    "config-path": "toy.yaml",
    "output": "semantic",
    "code-license": "MIT",
    "weights-license": "CC-BY-4.0",
    "author": "Ada Byron",
    "title": "On toys",
    "doi": "10.1234/toys",
    "param": '{"name": "Size", "arg_name": "size", "value": 3.5, "tooltip": "How large."}',
}


def _options(answers: dict[str, str], *without: str) -> list[str]:
    return [
        word
        for name, answer in answers.items()
        if name not in without
        for word in (f"--{name}", answer)
    ]


def _read(lab: Path, family: str = "toy") -> dict[str, Any]:
    return read_document(lab / "manifests" / f"{family}.json")


# -- at the keyboard -----------------------------------------------------------------------------


def test_a_family_is_made_by_answering_questions_and_wrong_answers_are_asked_again(
    lab: Path,
) -> None:
    """Each question, a wrong answer, the sentence that says why, the right answer."""
    conversation = [
        ("Name of the family", "x" * 51, "at most 50 characters", "Toy net"),
        ("Short name in ids", "Toy-Net", "lower-case letters, digits and _", "toy"),
        ("What it segments, in which images", None, "", "Segments toys."),
        ("Name of its first version", "a/b", "without slashes", "v1"),
        ("Axes of the array", "ZZYX", "Y and X among them", "ZYX"),
        ("What does it segment?", "nucleii", "did you mean nuclei?", "nuclei"),
        ("Where are the weights?", "htps://typo", "did you mean https://?", None),
        ("Where are the weights?", "../gone.pth", "no such file", "../weights/toy.pth"),
        ("Add a parameter", "perhaps", "expected y or n", "y"),
        ("Label in forms", "x" * 51, "at most 50 characters", "Cell size"),
        ("Keyword of the runner", "two words", "argument name", "cell_size"),
        ("Default value, as JSON", "otsu", "text wants double quotes", '"otsu"'),
        ("What does turning it do", None, "", "Turns it."),
        ("Add a parameter", None, "", ""),
        ("Who made it?", None, "", "Ada Byron, Alan Turing"),
        ("Title as published", None, "", "On toys"),
        ("Bare DOI", "none yet", "bare DOI", "https://doi.org/10.1234/toys"),
        ("Licence of the code", "BSD", "SPDX", "BSD-3-Clause"),
        ("Licence of the trained weights", "CC", "SPDX", ""),
        ("instance: every object", "both", "semantic", "semantic"),
    ]
    with Terminal("new", "family", "--to", lab, columns=200) as terminal:
        for question, wrong, sentence, right in conversation:
            terminal.wait_for(question)
            if wrong is not None:
                terminal.type(wrong)
                terminal.wait_for(sentence)
            if wrong is not None and right is not None:
                terminal.wait_for(question)
            if right is not None:
                terminal.type(right)
        terminal.wait_for("Write ")
        assert '+  "name": "Toy net",' in terminal.seen
        assert not list((lab / "manifests").iterdir())
        terminal.type("y")
        assert terminal.finish() == 0
    assert "Traceback" not in terminal.seen
    assert _read(lab) == {
        "name": "Toy net",
        "short_name": "toy",
        "metadata": {
            "description": "Segments toys.",
            "authors": [{"name": "Ada Byron"}, {"name": "Alan Turing"}],
            "pubs": [{"title": "On toys", "doi": "10.1234/toys"}],
            "license": {"code": "BSD-3-Clause"},
            "output": "semantic",
        },
        "versions": {
            "v1": {
                "axes": "ZYX",
                "tasks": {
                    "nuclei": {
                        "locations": [
                            {
                                "location": "../weights/toy.pth",
                                "sha256": SHA256,
                                "size": len(WEIGHTS),
                            }
                        ]
                    }
                },
            }
        },
        "params": [
            {
                "name": "Cell size",
                "arg_name": "cell_size",
                "value": "otsu",
                "tooltip": "Turns it.",
            }
        ],
    }
    assert works("validate", lab, "--quiet").endswith("0 errors, 1 warning.\n")


def test_enter_takes_the_default(lab: Path) -> None:
    with Terminal("new", "family", "--to", lab, columns=200) as terminal:
        for question, answer in (
            ("Name of the family", "Toy Net"),
            ("[toy_net]: ", ""),
            ("What it segments, in which images", "Toys."),
            ("[v1]: ", ""),
            ("[YX]: ", ""),
            ("What does it segment?", "cyto"),
            ("Nothing for an algorithm", ""),
            ("Add a parameter", ""),
            ("Who made it?", ""),
            ("Title as published", ""),
            ("Licence of the code", ""),
            ("[instance]: ", ""),
            ("Write ", "y"),
        ):
            terminal.wait_for(question)
            terminal.type(answer)
        assert terminal.finish() == 0
    assert _read(lab, "toy_net")["versions"] == {
        "v1": {"axes": "YX", "tasks": {"cyto": {"weights": False}}}
    }


def test_answers_given_as_options_are_not_asked(lab: Path) -> None:
    answers = {"family": "cellpose", "version": "embryo", "task": "cyto", "location": ""}
    with Terminal("new", "version", "--to", lab, *_options(answers), columns=200) as terminal:
        assert "Name of the new version" not in terminal.wait_for("in a sentence or two")
        terminal.type("Embryos.")
        terminal.wait_for("[CYX]: ")
        terminal.type("")
        terminal.wait_for("Write ")
        terminal.type("y")
        assert terminal.finish() == 0
    assert load([lab]).get("cellpose/embryo").description == "Embryos."


def test_a_family_that_there_is_not_is_asked_again_with_the_nearest(lab: Path) -> None:
    with Terminal("new", "location", "--to", lab, columns=200) as terminal:
        terminal.wait_for("Short name of the family")
        terminal.type("celpose")
        terminal.wait_for("did you mean cellpose or cellposesam?")
        terminal.type("cellpose")
        terminal.wait_for("Name or slug of the version")
        terminal.type("cyto3")
        terminal.wait_for("Where are the weights?")
        terminal.type("../weights/toy.pth")
        terminal.wait_for("Write ")
        terminal.type("y")
        assert terminal.finish() == 0
    (first, _) = load([lab]).locations_for("cellpose/cyto3")
    assert (first.layer, first.sha256) == ("lab", SHA256)


def test_no_at_the_end_writes_nothing(lab: Path) -> None:
    with Terminal("new", "family", "--to", lab, *_options(FAMILY)) as terminal:
        terminal.wait_for("Write ")
        terminal.type("n")
        assert terminal.finish() == 1
    assert "Nothing was written." in terminal.seen
    assert list((lab / "manifests").iterdir()) == []


def test_the_end_of_the_input_is_a_clear_error(lab: Path) -> None:
    text = fails("new", "family", "--to", lab, stdin="Toy\n")
    assert "There was no answer for --short-name." in text
    text = fails("new", "family", "--to", lab, *_options(FAMILY))
    assert "Nothing was written.\nNext: --yes writes without asking" in text
    text = fails("new", "family", "--to", lab, *_options(FAMILY, "param"))
    assert "There was no answer for --param." in text
    assert list((lab / "manifests").iterdir()) == []


# -- as options ----------------------------------------------------------------------------------


def test_every_answer_can_be_given_as_an_option(lab: Path) -> None:
    text = works("new", "family", "--to", lab, "--yes", *_options(FAMILY))
    manifest = lab / "manifests" / "toy.json"
    assert f"Written. Next: aiod validate {manifest}\n" in text
    assert text.endswith(f"then try it: aiod --registry {manifest.parents[1]} test toy\n")
    document = _read(lab)
    assert document["params"] == [json.loads(FAMILY["param"])]
    assert document["metadata"]["authors"] == [{"name": "Ada Byron"}]
    (location,) = document["versions"]["v1"]["tasks"]["nuclei"]["locations"]
    assert location == {
        "location": "../weights/toy.pth",
        "config_path": "toy.yaml",
        "sha256": SHA256,
        "size": len(WEIGHTS),
    }
    assert (lab / "runners" / "toy.py").exists()
    assert "0 errors, 0 warnings." in works("validate", lab, "--strict")
    assert "0 changed." in works("fmt", lab)


@pytest.mark.parametrize("missing", ["name", "description", "task", "location"])
def test_an_answer_without_a_default_that_is_missing_names_itself(lab: Path, missing: str) -> None:
    text = fails("new", "family", "--to", lab, "--yes", *_options(FAMILY, missing))
    assert text.startswith(f"Error: --{missing} is missing.\nNext: ")
    assert list((lab / "manifests").iterdir()) == []


def test_a_doi_goes_with_a_title(lab: Path) -> None:
    text = fails("new", "family", "--to", lab, "--yes", *_options(FAMILY, "title"))
    assert "--title is missing" in text


@pytest.mark.parametrize(
    ("option", "wrong", "said"),
    [
        ("name", "", "--name '' does not fit"),
        ("short-name", "../evil", "--short-name '../evil' does not fit"),
        ("version", "a/b", "without slashes"),
        ("axes", "AB", "letters of TCZYX"),
        ("task", "Nuclei", "did you mean nuclei?"),
        ("location", "htps://x", "did you mean https://?"),
        ("location", "../gone", "no such file"),
        ("code-license", "mine", "SPDX"),
        ("doi", "nonsense", "bare DOI"),
        ("param", "{", "is not JSON"),
        ("param", "[]", "is not a JSON object"),
        ("param", '{"name": "two words", "value": 1}', "would not be a valid manifest"),
        ("param", '{"name": "x", "value": NaN}', "is not JSON"),
        ("config-path", "gopher://x", "would not be a valid manifest"),
    ],
)
def test_a_wrong_option_is_a_sentence_and_nothing_is_written(
    lab: Path, option: str, wrong: str, said: str
) -> None:
    answers = {**FAMILY, option: wrong}
    assert said in fails("new", "family", "--to", lab, "--yes", *_options(answers))
    assert list((lab / "manifests").iterdir()) == []
    assert not (lab / "runners").exists()


def test_a_dry_run_shows_the_change_and_writes_nothing(lab: Path) -> None:
    text = works("new", "family", "--to", lab, "--dry-run", "--yes", *_options(FAMILY))
    assert f"+++ {lab}/manifests/toy.json" in text
    assert f"+++ {lab}/runners/toy.py" in text
    assert "--- /dev/null" in text
    assert "+def predict(model, image, *, axes, size=3.5):" in text
    assert list((lab / "manifests").iterdir()) == []


def test_version_task_and_location_as_options(lab: Path) -> None:
    works("new", "family", "--to", lab, "--yes", *_options(FAMILY))
    version = {"family": "toy", "version": "Version 2", "slug": "v2", "description": "Newer."}
    more = {"task": "cyto", "axes": "YX", "location": URL}
    works("new", "version", "--to", lab, "--yes", "--no-hash", *_options(version | more))
    task = {"family": "toy", "version": "v2", "task": "mito", "location": ""}
    works("new", "task", "--to", lab, "--yes", *_options(task))
    place = {"family": "toy", "version": "v2", "task": "cyto", "location": "../weights/toy.pth"}
    text = works("new", "location", "--to", lab, "--yes", "--first", *_options(place))
    assert f'+              "sha256": "{SHA256}",' in text
    assert text.endswith(f"then try it: aiod --registry {lab} test toy/v2\n")
    assert f"--- {lab}/manifests/toy.json" in text
    assert _read(lab)["versions"]["Version 2"] == {
        "slug": "v2",
        "axes": "YX",
        "metadata": {"description": "Newer."},
        "tasks": {
            "cyto": {
                "locations": [
                    {
                        "location": "../weights/toy.pth",
                        "sha256": SHA256,
                        "size": len(WEIGHTS),
                    },
                    {"location": URL},
                ]
            },
            "mito": {"weights": False},
        },
    }


@pytest.mark.parametrize(
    ("command", "given", "missing"),
    [
        ("version", {"family": "cellpose"}, "version"),
        ("version", {"family": "cellpose", "version": "x"}, "description"),
        ("task", {"family": "cellpose", "version": "cyto3"}, "task"),
        ("location", {"family": "cellpose", "version": "cyto3"}, "location"),
        ("location", {}, "family"),
    ],
)
def test_each_command_names_the_option_that_is_missing(
    lab: Path, command: str, given: dict[str, str], missing: str
) -> None:
    text = fails("new", command, "--to", lab, "--yes", *_options(given))
    assert f"--{missing} is missing." in text


@pytest.mark.parametrize("command", ["version", "task", "location"])
def test_a_family_that_there_is_not_is_a_sentence(lab: Path, command: str) -> None:
    answers = {"family": "celpose", "version": "x", "task": "cyto", "location": URL}
    text = fails("new", command, "--to", lab, "--yes", *_options(answers))
    assert "did you mean cellpose or cellposesam?" in text


def test_families_and_tasks_of_further_layers_are_known(lab: Path, tmp_path: Path) -> None:
    institute = tmp_path / "institute"
    works(
        "new",
        "family",
        "--to",
        institute,
        "--yes",
        "--no-hash",
        *_options(FAMILY, "location"),
        "--location",
        "",
    )
    (institute / "manifests" / "tasks.json").write_text('{"wing": "Wings"}')
    answers = {"family": "toy", "version": "v2", "description": "x", "task": "wing", "location": ""}
    works("--registry", institute, "new", "version", "--to", lab, "--yes", *_options(answers))
    assert load([institute, lab]).get("toy/v2/wing").layers == ("lab",)


def test_what_exists_is_refused(lab: Path) -> None:
    works("new", "family", "--to", lab, "--yes", *_options(FAMILY))
    before = (lab / "manifests" / "toy.json").read_bytes()
    assert "exists already" in fails("new", "family", "--to", lab, "--yes", *_options(FAMILY))
    version = {"family": "toy", "version": "v1", "description": "x", "task": "cyto", "axes": "YX"}
    text = fails("new", "version", "--to", lab, "--yes", *_options(version | {"location": ""}))
    assert 'has a version "v1" already' in text
    assert (lab / "manifests" / "toy.json").read_bytes() == before


def test_the_layer_is_the_current_folder_unless_another_is_named(lab: Path, tmp_path: Path) -> None:
    works("new", "family", "--yes", *_options(FAMILY), cwd=lab)
    assert (lab / "manifests" / "toy.json").exists()
    text = fails("new", "family", "--yes", *_options(FAMILY), cwd=tmp_path)
    assert "is no layer: it has no folder manifests/" in text
    assert "--to DIR" in text
    works(
        "new",
        "family",
        "--yes",
        "--to",
        "fresh",
        *_options(FAMILY, "location"),
        "--location",
        "",
        cwd=tmp_path,
    )
    assert (tmp_path / "fresh" / "manifests" / "toy.json").exists()


def test_a_remote_file_that_cannot_be_read_says_how_to_go_on(lab: Path) -> None:
    answers = {**FAMILY, "location": "http://127.0.0.1:9/toy.pth"}
    text = fails("new", "family", "--to", lab, "--yes", *_options(answers))
    assert "http://127.0.0.1:9/toy.pth: the server cannot be reached" in text
    assert "--no-hash" in text
    works("new", "family", "--to", lab, "--yes", "--no-hash", *_options(answers))
    (location,) = _read(lab)["versions"]["v1"]["tasks"]["nuclei"]["locations"]
    assert "sha256" not in location


def test_a_diff_is_shown_and_never_obeyed(lab: Path) -> None:
    answers = {**FAMILY, "description": "red \x1b[31m", "name": "Toy \x1b[0m"}
    done = aiod("new", "family", "--to", lab, "--yes", *_options(answers))
    assert "\x1b" not in done.stdout
