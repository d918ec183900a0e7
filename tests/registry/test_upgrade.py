"""Manifests of older forms: a file in tests/data/old is a test."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from aiod.errors import ManifestError
from aiod.registry.canonical import to_text
from aiod.registry.explain import explain
from aiod.registry.lint import MISSING_SENTENCE
from aiod.registry.manifest import read_document
from aiod.registry.tasks import TASK_NAMES
from aiod.registry.upgrade import old_form, upgrade
from families import DATA, family
from mutants import mutated

OLD = sorted((DATA / "old").glob("*.json"))
VALID = sorted((DATA / "valid").glob("*.json"))
each_old = pytest.mark.parametrize("path", OLD, ids=lambda path: path.stem)


def upgraded(path: Path) -> tuple[dict[str, Any], list[str]]:
    return upgrade(json.loads(path.read_text()), TASK_NAMES)


def contents(value: Any) -> Iterator[str]:
    """Every single value of a document and every name in it, in small letters, without nulls."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in ("location_type", "task"):
                yield key
                yield from contents(item)
        yield value.get("task", "").casefold()
    elif isinstance(value, list):
        for item in value:
            yield from contents(item)
    elif value is not None:
        yield value if isinstance(value, str) else repr(value)


@each_old
def test_loading_an_old_form_fails_with_one_line_that_names_the_command(path: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        read_document(path)
    (line,) = caught.value.details
    assert "`aiod upgrade" in line
    assert line.startswith(str(path))
    if old_form(json.loads(path.read_text())):
        assert line.endswith(f"(run `aiod upgrade {path}`)")


@each_old
def test_an_upgraded_manifest_is_valid(path: Path) -> None:
    new, changes = upgraded(path)
    errors = explain(to_text(new), "new.json", TASK_NAMES, lint=False)
    assert [error.as_text() for error in errors] == []
    assert changes


@each_old
def test_upgrading_leaves_what_it_was_given_as_it_was(path: Path) -> None:
    document = json.loads(path.read_text())
    before = copy.deepcopy(document)
    upgrade(document, TASK_NAMES)
    assert document == before


@each_old
def test_a_second_upgrade_changes_nothing(path: Path) -> None:
    new, _ = upgraded(path)
    assert upgrade(new, TASK_NAMES) == (new, [])


@each_old
def test_nothing_is_lost(path: Path) -> None:
    new, _ = upgraded(path)
    renamed = {"short_name", "type", "arg_name", "location", "blob-finder"}
    lost = set(contents(json.loads(path.read_text()))) - set(contents(new)) - renamed
    assert {word for word in lost if word.casefold() not in TASK_NAMES} <= {""}


@each_old
def test_versions_and_parameters_keep_their_order(path: Path) -> None:
    old, (new, _) = json.loads(path.read_text()), upgraded(path)
    versions = old["versions"]
    names = [item["name"] for item in versions] if isinstance(versions, list) else list(versions)
    assert list(new["versions"]) == names
    assert [item["name"] for item in new.get("params", [])] == [
        item["name"] for item in old.get("params", [])
    ]


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_a_manifest_of_today_is_no_old_form(path: Path) -> None:
    assert old_form(json.loads(path.read_text())) is None


def test_versions_and_tasks_become_tables() -> None:
    new, changes = upgraded(DATA / "old" / "versions_and_tasks_as_lists.json")
    assert new["short_name"] == "blob_finder"
    assert new["versions"] == {
        "small": {
            "tasks": {
                "nuclei": {
                    "locations": [
                        {
                            "location": "/shared/blobs/small.pth",
                            "config_path": "/shared/blobs/small.yaml",
                        }
                    ]
                },
                "cyto": {"locations": [{"location": "/shared/blobs/small_cyto.pth"}]},
            }
        },
        "large v1.0": {
            "tasks": {"nuclei": {"locations": [{"location": "https://example.org/large.pth"}]}}
        },
    }
    assert new["params"][0] == {
        "name": "Threshold",
        "arg_name": "threshold",
        "value": 0.5,
        "tooltip": "",
    }
    assert new["metadata"] == {"description": MISSING_SENTENCE}
    assert changes == [
        'short_name "blob-finder" is "blob_finder" now, as it names the runner',
        "versions are a table by name now (2 versions)",
        "tasks are a table by short name now (in 2 versions)",
        "short_name is arg_name now (in 2 parameters)",
        'task "Nuclei" of version "small" is "nuclei" now',
        'task "NUCLEI" of version "large v1.0" is "nuclei" now',
        "location is a list of locations now (in 3 tasks)",
        "the description was missing; a note in its place says so",
    ]


def test_parallel_lists_become_pairs() -> None:
    new, _ = upgraded(DATA / "old" / "parallel_lists.json")
    tasks = {name: version["tasks"] for name, version in new["versions"].items()}
    places = {name: table["mito"]["locations"] for name, table in tasks.items()}
    assert [place.get("config_path") for place in places["as many"]] == [
        "https://example.org/m.yaml",
        "/shared/m.yaml",
    ]
    assert [place.get("config_path") for place in places["fewer"]] == [
        *("https://example.org/f.yaml", None, None)
    ]
    assert [place["config_path"] for place in places["one for all"]] == ["o.yaml", "o.yaml"]
    assert places["none"] == [{"location": "n.pth"}]


def test_a_missing_description_is_noted_at_its_place_and_validate_warns_of_it() -> None:
    new, changes = upgraded(DATA / "old" / "arg_name_of_the_family.json")
    assert 'the description of version "v1" was missing; a note in its place says so' in changes
    warnings = explain(to_text(new), "new.json", TASK_NAMES)
    assert [item.code for item in warnings].count("no-description") == 2


def test_a_parameter_that_was_called_by_its_name_gets_an_argument() -> None:
    new, _ = upgraded(DATA / "old" / "arg_name_of_the_family.json")
    assert list(new["params"][0].items())[:2] == [
        *(("name", "Cell diameter"), ("arg_name", "cell_diameter"))
    ]
    assert "arg_name" not in new["params"][1]


def test_what_cannot_be_known_is_left_for_a_person() -> None:
    more_configs = {"location": ["a.pth"], "config_path": ["a.yaml", "b.yaml"]}
    twice = [{"name": "v1", "tasks": []}, {"name": "v1", "tasks": []}]
    both_cases = {"Cyto": {"location": "a.pth"}, "cyto": {"location": "b.pth"}}
    left: list[Any] = [
        {"v1": {"tasks": {"cyto": more_configs}}},
        twice,
        [{"tasks": []}],
        [3],
        {"v1": {"tasks": {"organoids": {"locations": [{"location": "a.pth"}]}}}},
    ]
    for versions in left:
        document = family(versions=versions)
        assert upgrade(document, TASK_NAMES) == (document, [])
    new, _ = upgrade(family(versions={"v1": {"tasks": both_cases}}), TASK_NAMES)
    assert list(new["versions"]["v1"]["tasks"]) == ["Cyto", "cyto"]


@pytest.mark.parametrize("odd", [3, "text", None, [], {}, [3], [[]], {"a": {"tasks": [3]}}])
def test_an_odd_document_is_never_a_crash(odd: Any) -> None:
    for field in ("versions", "params", "metadata", "short_name", "name", "arg_name"):
        document = {**family(), field: odd}
        new, _ = upgrade(document, TASK_NAMES)
        assert upgrade(new, TASK_NAMES)[1] == []
        old_form(document)


@given(mutated())
@settings(deadline=None, max_examples=200)
def test_whatever_was_upgraded_is_upgraded_once(document: dict[str, Any]) -> None:
    before = json.dumps(document)
    new, changes = upgrade(document, TASK_NAMES)
    assert json.dumps(document) == before
    assert upgrade(new, TASK_NAMES)[1] == []
    assert changes or json.dumps(new) == before
