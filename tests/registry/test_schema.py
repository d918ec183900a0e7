"""Good manifests are read as they are: a file in tests/data/valid is a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from aiod.registry import forms
from aiod.registry.canonical import canonical
from aiod.registry.explain import explain
from aiod.registry.jsontext import parse
from aiod.registry.manifest import read_document, read_manifest
from aiod.registry.schema import Manifest
from aiod.registry.tasks import TASK_NAMES
from families import DATA, family

VALID = sorted((DATA / "valid").glob("*.json"))
each_valid = pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)


def in_order(value: Any) -> str:
    """A value with the order of its keys and 1 apart from 1.0."""
    return json.dumps(value)


@each_valid
def test_a_good_manifest_has_no_errors(path: Path) -> None:
    assert explain(path.read_text(), path.name, TASK_NAMES, lint=False) == []


@each_valid
def test_load_and_dump_change_nothing(path: Path) -> None:
    document = json.loads(path.read_text())
    dumped = read_manifest(path).model_dump(exclude_unset=True, by_alias=True)
    assert dumped == document
    assert in_order(dumped) == in_order(canonical(document))
    again = Manifest.model_validate(dumped).model_dump(exclude_unset=True, by_alias=True)
    assert in_order(again) == in_order(dumped)


@each_valid
def test_loading_writes_nothing_into_the_document(path: Path) -> None:
    document = parse(path.read_text())
    Manifest.model_validate(document)
    assert in_order(document) == in_order(json.loads(path.read_text()))


@each_valid
def test_a_document_keeps_its_keys_in_order(path: Path) -> None:
    assert in_order(read_document(path)) == in_order(json.loads(path.read_text()))


def test_a_manifest_cannot_be_changed() -> None:
    manifest = Manifest.model_validate(family())
    for field in Manifest.model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(manifest, field, "Other")


def test_every_field_has_a_description() -> None:
    schema = Manifest.model_json_schema(by_alias=True)
    for name, definition in {**schema["$defs"], "Manifest": schema}.items():
        for field, rules in definition["properties"].items():
            assert rules["description"].endswith((".", "…", "?")), f"{name}.{field}"


def refused(document: dict[str, Any]) -> bool:
    try:
        Manifest.model_validate(document)
    except ValidationError:
        return True
    return False


@pytest.mark.parametrize("number", [True, False])
@pytest.mark.parametrize(
    ("field", "more"),
    [
        ("minimum", {}),
        ("maximum", {}),
        ("step", {}),
        ("channel_start", {"param_type": "channel", "value": 0}),
    ],
)
def test_true_and_false_are_no_numbers(field: str, more: dict[str, Any], number: bool) -> None:
    parameter = {"name": "size", "value": 3, **more, field: number}
    assert refused(family(params=[parameter]))


def test_a_list_may_be_given_for_no_object_and_text_for_no_number() -> None:
    assert refused(family(versions=[]))
    assert refused(family(params={}))
    assert refused(family(metadata={"description": "A", "object_diameter": "30"}))
    assert refused(family(metadata={"description": "A", "pubs": [{"title": "A", "year": 2021.5}]}))


GOOD_LOCATIONS = (
    "https://example.org/a.pth",
    "http://localhost:8000/a",
    "https://example.org?download=1",
    "https://[::1]:8000/a.pth",
    "file:///shared/a.pth",
    "file://localhost/shared/a.pth",
    "/shared/a.pth",
    "weights/a.pth",
    "../a.pth",
    "a file.pth",
    "C:\\models\\a.pth",
    "c:/models/a.pth",
    "\\\\server\\share\\a.pth",
    "$(touch hacked)",  # a file of this name: nothing is ever executed
    "細胞.pth",
)
BAD_LOCATIONS = (
    "",
    " ",
    "\t\n",
    "htps://example.org/a.pth",
    "ftp://example.org/a.pth",
    "s3://bucket/a.pth",
    "javascript:alert(1)",
    "HTTPS//example.org\n",
    "https://",
    "https:///a.pth",
    "https:a.pth",
    "https://user:secret@example.org/a.pth",
    "https://example.org/a b.pth",
    "https://example.org/a.pth\n",
    "https://example.org\\@evil.org/",
    "file://server/a.pth",
    "file:a.pth",
    " /shared/a.pth",
    "/shared/a.pth\n",
    "/shared/\x00.pth",
    "/shared/\x1b[31m.pth",
)


def with_location(location: str) -> dict[str, Any]:
    return family(versions={"v1": {"tasks": {"cyto": {"location": location}}}})


@pytest.mark.parametrize("location", GOOD_LOCATIONS)
def test_a_location_is_a_url_or_a_path(location: str) -> None:
    assert not refused(with_location(location))


@pytest.mark.parametrize("location", BAD_LOCATIONS)
def test_other_locations_are_refused(location: str) -> None:
    assert refused(with_location(location))


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (
            forms.check_version_slug,
            ("v1", "2D_versatile", "a.b-c", "a" * 50, "V", "a-", "console"),
            *(
                (
                    "",
                    ".",
                    "..",
                    "a..b",
                    "a.",
                    ".a",
                    "-a",
                    "_a",
                    "a/b",
                    "a b",
                    "con",
                    "LPT1.txt",
                    "é",
                ),
            ),
        ),
        (
            forms.check_doi,
            ("10.1038/s41592-020-01018-x", "10.1234/(a)b<c>"),
            ("", "10.1/a", "10.1234/", "doi:10.1234/a", "10.1234/a b", "10.1234/a\n"),
        ),
        (
            forms.check_orcid,
            ("0000-0002-1825-0097", "0000-0002-1694-233X"),
            ("0000-0002-1825-0098", "0000-0002-1694-233x", "0000000218250097", "", "X"),
        ),
        (
            forms.check_licence,
            ("MIT", "CC-BY-NC-4.0", "Apache-2.0 OR MIT", "LicenseRef-Academic"),
            ("", "mit", "MIT or Apache-2.0", "Apache 2", "GPL", "(" * 5000, "MIT\n"),
        ),
        (
            forms.check_axes,
            ("YX", "XY", "ZYX", "CYX", "TCZYX"),
            ("", "Y", "ZX", "YXX", "yx", "YXS", "Y X", "YX\n"),
        ),
    ],
)
def test_forms_of_identifiers(check: Any, good: tuple[str, ...], bad: tuple[str, ...]) -> None:
    for text in good:
        assert check(text) == text
    for text in bad:
        with pytest.raises(ValueError):
            check(text)
        with pytest.raises(ValueError):
            check(f"{text}\n")


@given(st.text(max_size=60) | st.sampled_from(["../a", "a/b", "C:", "con", "a\n", "nul.a", "a."]))
@settings(deadline=None)
def test_a_slug_never_leaves_its_folder(slug: str) -> None:
    version = {"slug": slug, "tasks": {"cyto": {"weights": False}}}
    if not refused(family(versions={"v1": version})):
        assert Path("/cache", slug).resolve().parent == Path("/cache")
        assert len(slug) <= 50
        assert not set(slug) & set('<>:"/\\|?*\n ')
    if not refused(family(short_name=slug)):
        assert slug.isidentifier()
        assert slug.isascii()
        assert slug == slug.lower()


@given(st.lists(st.integers(0, 9), min_size=15, max_size=15), st.integers(0, 14), st.integers(1, 9))
@settings(deadline=None)
def test_one_wrong_digit_of_an_orcid_is_always_noticed(
    digits: list[int], place: int, shift: int
) -> None:
    def ids(numbers: list[int]) -> list[str]:
        body = "".join(map(str, numbers))
        wholes = [body + check for check in "0123456789X"]
        return ["-".join(whole[i : i + 4] for i in (0, 4, 8, 12)) for whole in wholes]

    def right(candidate: str) -> bool:
        try:
            return forms.check_orcid(candidate) == candidate
        except ValueError:
            return False

    (orcid,) = filter(right, ids(digits))  # exactly one check digit is right
    digits[place] = (digits[place] + shift) % 10
    (other,) = filter(right, ids(digits))
    assert other[-1] != orcid[-1]
