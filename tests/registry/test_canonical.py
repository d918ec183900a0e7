"""The canonical form: one way to write a manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiod.registry.canonical import as_json, canonical, to_text
from aiod.registry.jsontext import parse
from aiod.registry.metadata import PixelSize
from aiod.registry.schema import LocationEntry, Manifest, Parameter, TaskEntry
from aiod.registry.shape import fields_of, model_at
from families import DATA, family

VALID = sorted((DATA / "valid").glob("*.json"))
each_valid = pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)


@each_valid
def test_the_canonical_form_says_the_same(path: Path) -> None:
    document = json.loads(path.read_text())
    assert parse(to_text(document)) == document


@each_valid
def test_the_canonical_form_of_the_canonical_form_is_itself(path: Path) -> None:
    once = to_text(json.loads(path.read_text()))
    assert to_text(json.loads(once)) == once


@each_valid
def test_what_has_a_meaning_keeps_its_order(path: Path) -> None:
    document = json.loads(path.read_text())
    new = json.loads(to_text(document))
    assert list(new["versions"]) == list(document["versions"])
    for name, version in document["versions"].items():
        assert list(new["versions"][name]["tasks"]) == list(version["tasks"])
    assert new.get("params") == document.get("params")


def test_fields_stand_in_the_order_of_the_schema() -> None:
    document = json.loads((DATA / "valid" / "order.json").read_text())
    assert to_text(document).splitlines()[:14] == [
        "{",
        '  "name": "Order",',
        '  "metadata": {',
        '    "description": "Fields in an order of its own.",',
        '    "keywords": [',
        '      "z",',
        '      "a"',
        "    ]",
        "  },",
        '  "versions": {',
        '    "z": {',
        '      "axes": "YX",',
        '      "tasks": {',
        '        "nuclei": {',
    ]


def test_unknown_fields_come_last_and_stay() -> None:
    new = canonical({"zoo": 1, **family(), "ark": 2})
    assert list(new)[-2:] == ["zoo", "ark"]


def test_text_stays_readable_and_numbers_as_they_are() -> None:
    text = as_json({"a": "Zellkörper 細胞 µ", "b": [1, 1.0, 1e-7, 10**20]})
    assert text == (
        '{\n  "a": "Zellkörper 細胞 µ",\n'
        '  "b": [\n    1,\n    1.0,\n    1e-07,\n    100000000000000000000\n  ]\n}\n'
    )


def test_what_is_no_text_stays_escaped() -> None:
    text = as_json({"a": "\ud83d", "b": "é"})
    assert text.encode()
    assert json.loads(text) == {"a": "\ud83d", "b": "é"}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*fields_of(Manifest), "v1", "tasks", "x"]), inner)
        ),
        max_leaves=12,
    )
)
@settings(deadline=None)
def test_any_document_has_a_canonical_form(document: Any) -> None:
    once = canonical(document)
    assert once == document
    assert as_json(canonical(once)) == as_json(once)


def test_each_path_has_its_model() -> None:
    assert model_at(()) is Manifest
    assert model_at(("params", 0)) is Parameter
    assert model_at(("versions", "any name", "tasks", "cyto")) is TaskEntry
    assert model_at(("versions", "v", "tasks", "t", "locations", 3)) is LocationEntry
    assert model_at(("versions", "v", "metadata", "pixel_size")) is PixelSize
    assert model_at(("versions",)) is None
    assert model_at(("params",)) is None
    assert model_at(("params", "0")) is None
    assert model_at(("nothing", "like", 1, "this")) is None
