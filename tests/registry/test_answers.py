"""Answers as people give them become what a manifest wants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aiod.registry.answers import as_written, from_here, why_silent, wrong_answer
from aiod.registry.locations import resolve
from aiod.registry.metadata import Author, Metadata
from aiod.registry.schema import Manifest, Parameter, Version
from server import Server


@pytest.mark.parametrize(
    ("field", "answer", "written"),
    [
        ("axes", "zyx", "ZYX"),
        ("doi", "https://doi.org/10.1234/abc", "10.1234/abc"),
        ("doi", "nothing", "nothing"),
        ("orcid", "https://orcid.org/0000-0002-1825-0097", "0000-0002-1825-0097"),
        ("code", "mit", "MIT"),
        ("weights", "CC BY 4.0", "CC-BY-4.0"),
        ("weights", "mine", "mine"),
        ("description", " Cells. ", "Cells."),
    ],
)
def test_what_stands_around_an_answer_is_left_out(field: str, answer: str, written: str) -> None:
    assert as_written(field, answer) == written


def test_a_path_from_the_current_folder_is_written_from_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = tmp_path / "lab"
    (layer / "weights").mkdir(parents=True)
    (layer / "weights" / "a.pth").touch()
    (tmp_path / "b.pth").touch()
    monkeypatch.chdir(tmp_path)
    assert from_here("lab/weights/a.pth", layer) == "../weights/a.pth"
    assert from_here("b.pth", layer) == str(tmp_path / "b.pth")
    for as_it_is in ("../weights/a.pth", "nowhere.pth", "https://example.org/a.pth"):
        assert from_here(as_it_is, layer) == as_it_is


def test_a_server_that_does_not_give_the_file_is_noticed_at_once(tmp_path: Path) -> None:
    with Server() as server:
        good = server.put("/a.pth", b"weights")
        assert why_silent(resolve(good, tmp_path)) is None
        missing = why_silent(resolve(good.replace("a.pth", "b.pth"), tmp_path))
        assert missing is not None
        assert "404" in missing
    assert why_silent(resolve("a.pth", tmp_path)) is None


@pytest.mark.parametrize(
    ("model", "field", "right", "wrong", "said"),
    [
        (Manifest, "name", "Toy", "", "an empty text"),
        (Manifest, "short_name", "toy_2", "Toy", "lower-case letters"),
        (Metadata, "description", "Toys.", "", "empty"),
        (Version, "axes", "CYX", "CYY", "Y and X"),
        (Author, "orcid", "0000-0002-1825-0097", "0000-0002-1825-0098", "ORCID"),
        (Parameter, "arg_name", "size", "two words", "argument name"),
    ],
)
def test_a_wrong_answer_is_told_in_words(
    model: Any, field: str, right: str, wrong: str, said: str
) -> None:
    assert wrong_answer(model, field, right) is None
    sentence = wrong_answer(model, field, wrong)
    assert sentence is not None
    assert said in sentence
