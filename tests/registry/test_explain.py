"""What a person is told about a bad manifest: each example lies beside its message.

A file NAME.json in tests/data/invalid with its NAME.txt is a test.
"""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiod.errors import AiodError, ManifestError
from aiod.registry.explain import explain
from aiod.registry.jsontext import IrregularJSON, parse
from aiod.registry.manifest import line_of, read_document, read_manifest
from aiod.registry.problems import Problem, path_in_words
from aiod.registry.schema import Manifest
from aiod.registry.tasks import TASK_NAMES
from families import DATA, family
from mutants import JSON, mutated

INVALID = sorted((DATA / "invalid").glob("*.json"))
BAD_TEXTS = [path.read_text() for path in INVALID]


def refused(text: str) -> bool:
    """Whether the loader takes this text for a manifest or not."""
    try:
        Manifest.model_validate(parse(text), context={"tasks": TASK_NAMES})
    except (IrregularJSON, ValueError):
        return True
    return False


def explained(text: str) -> list[Problem]:
    """The problems of a text, each of which lies inside it."""
    problems = explain(text, "a.json", TASK_NAMES)
    lines = text.split("\n")
    for problem in problems:
        assert 1 <= problem.line <= len(lines)
        line = lines[problem.line - 1].rstrip("\r")
        assert problem.source == line
        # One behind the end of the line is where something is missing.
        assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1
        assert problem.width >= 1
        assert problem.as_text().count("\n") <= 5
        assert "\n" not in line_of(problem)
    return problems


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_a_bad_manifest_gives_its_message(path: Path) -> None:
    problems = explain(path.read_text(), path.name, TASK_NAMES)
    message = "\n\n".join(problem.as_text() for problem in problems) + "\n"
    assert message == path.with_suffix(".txt").read_text()


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_a_bad_manifest_is_refused_unless_it_has_warnings_only(path: Path) -> None:
    problems = explained(path.read_text())
    warnings_only = all(problem.severity == "warning" for problem in problems)
    assert warnings_only == path.stem.startswith("warning_")
    assert refused(path.read_text()) != warnings_only
    if warnings_only:
        assert read_document(path)
    else:
        with pytest.raises(ManifestError, match="is not a manifest as it should be") as caught:
            read_manifest(path)
        lines = [line_of(item) for item in explain(path.read_text(), str(path), TASK_NAMES)]
        assert set(caught.value.details) <= set(lines)
        assert str(path) in str(caught.value.hint)


def test_each_message_has_its_example() -> None:
    assert {path.stem for path in (DATA / "invalid").glob("*.txt")} == {p.stem for p in INVALID}


def test_sentences_speak_no_python() -> None:
    python = re.compile(r"\b(None|True|False|dict|str|NoneType|[a-z]+_error|pydantic|Input)\b")
    for path in INVALID:
        if not path.stem.startswith("json_python"):
            for problem in explain(path.read_text(), path.name, TASK_NAMES):
                assert not python.findall(re.sub('"[a-z]+"', "", problem.sentence)), path.stem


def test_one_mistake_is_reported_once() -> None:
    once = [path for path in INVALID if path.stem not in ("several_at_once", "warning_no_licence")]
    for path in once:
        assert len(explain(path.read_text(), path.name, TASK_NAMES)) == 1, path.stem


def test_all_mistakes_are_reported_at_once_in_the_order_of_the_file() -> None:
    path = DATA / "invalid" / "several_at_once.json"
    problems = explain(path.read_text(), path.name, TASK_NAMES)
    assert [problem.line for problem in problems] == [2, 7, 11, 16, 29]


def test_a_misspelt_field_is_not_missing_too() -> None:
    document = family()
    for misspelt, right in (("versons", "versions"), ("metdata", "metadata"), ("parms", "params")):
        changed = {misspelt if key == right else key: value for key, value in document.items()}
        (problem,) = (p for p in explained(json.dumps(changed)) if p.severity == "error")
        assert problem.code == "unknown-field"
        assert problem.hint == f'did you mean "{right}"?'


def test_rules_look_into_a_misspelt_field() -> None:
    document = family()
    document["parms"] = document.pop("params")
    document["parms"][0]["arg_name"] = "image"
    text = json.dumps(document, indent=1)
    errors = [item for item in explained(text) if item.severity == "error"]
    assert [item.code for item in errors] == ["unknown-field", "arg-name"]
    assert '"arg_name": "image"' in errors[1].source


def test_a_caret_stands_below_what_is_meant_in_long_and_wide_lines() -> None:
    name = "細胞" * 5 + "\t" + "é" * 5
    text = json.dumps({"name": "W", "description" * 9: 1, name: 2}, ensure_ascii=False)
    for problem in explained(text):
        source, caret = problem.as_text().split("\n")[1:3]
        assert source.index("|") == caret.index("|")
        assert caret.rstrip().endswith("^")
    (wide,) = (item for item in explained(text) if "細胞" in item.found)
    assert wide.as_text().split("\n")[2].count("^") == 2 * 10 + len(r"\t") + 5 + 2


def test_what_a_manifest_says_never_reaches_the_terminal_raw() -> None:
    name = "\x1b[2J\u202e\r\n::error::"
    text = json.dumps({"name": name * 9, name: 1, "versions": {name: {name: 1}}}).replace(
        "\\u001b", "\x7f"
    )
    for problem in explained(text):
        for said in (problem.as_text(), problem.sentence, problem.as_dict()["message"]):
            assert not set(said) & set("\x1b\x7f\u202e\r")
        assert "\n" not in problem.as_github()


def test_a_problem_as_an_annotation_and_for_scripts() -> None:
    problem = Problem(
        *("error", "axes", "lab/a,b.json", 3, 5, 4, 'version "a:b", axes', "50% of it", "YX"),
        hint="two\nlines",
    )
    assert problem.as_github() == (
        "::error file=lab/a%2Cb.json,line=3,col=5,endColumn=9,title=axes"
        '::50%25 of it in version "a:b", axes; expected YX. two%0Alines'
    )
    assert problem.as_dict()["message"] == (
        'in version "a:b", axes; expected YX. two\\nlines'.join(("50% of it ", ""))
    )
    assert json.loads(json.dumps(problem.as_dict()))["line"] == 3


def test_a_path_is_said_in_words() -> None:
    path = ("versions", "cyto3", "tasks", "cyto", "locations", 0, "sha256")
    assert path_in_words(path) == 'version "cyto3", task "cyto", 1st of locations, sha256'
    assert path_in_words(("params", 11, "value", 1)) == "12th of params, 2nd of value"
    assert path_in_words((2,)) == "3rd of the list"
    assert path_in_words(("versions", 1)) == "2nd of versions"
    assert path_in_words(("versions",)) == "versions"
    assert path_in_words(()) == ""


def test_other_line_ends_do_not_shift_the_lines() -> None:
    for path in INVALID:
        text = path.read_text()
        if "\n" in text and "unterminated" not in path.stem:
            expected = [(p.line, p.column, p.found) for p in explained(text)]
            windows = [(p.line, p.column, p.found) for p in explained(text.replace("\n", "\r\n"))]
            assert windows == expected


@given(mutated(), st.sampled_from([None, 1]))
@settings(deadline=None, max_examples=400)
def test_a_mutated_manifest_is_explained_exactly_when_it_is_refused(
    document: Any, indent: int | None
) -> None:
    text = json.dumps(document, indent=indent)
    errors = [problem for problem in explained(text) if problem.severity == "error"]
    assert bool(errors) == refused(text)


@given(JSON.map(json.dumps) | st.text(max_size=40))
@settings(deadline=None, max_examples=200)
def test_any_text_is_explained_and_no_such_text_is_a_manifest(text: str) -> None:
    assert any(problem.severity == "error" for problem in explained(text))
    assert refused(text)


@given(st.sampled_from(BAD_TEXTS), st.data())
@settings(deadline=None, max_examples=200)
def test_a_text_cut_or_patched_anywhere_is_explained_exactly_when_it_is_refused(
    text: str, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 12)))
    patched = text[:start] + data.draw(st.sampled_from(["", '"', ",", "}", "\x00", "é"]))
    patched += "" if data.draw(st.booleans()) else text[end:]
    errors = [problem for problem in explained(patched) if problem.severity == "error"]
    assert bool(errors) == refused(patched)


@given(raw=st.binary(max_size=60) | mutated().map(lambda document: json.dumps(document).encode()))
@settings(deadline=None, max_examples=200)
def test_only_our_own_error_leaves_the_loader(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.json"
    path.write_bytes(raw)
    with contextlib.suppress(AiodError):
        assert isinstance(read_manifest(path), Manifest)
