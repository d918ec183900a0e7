"""schema.json and docs/schema.md: fresh, and in agreement with the models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from jsonschema import Draft202012Validator

import aiod
from aiod.registry.explain import explain
from aiod.registry.jsontext import IrregularJSON, parse
from aiod.registry.layers import NO_MANIFESTS
from aiod.registry.reference import example_text, json_schema, schema_page, schema_text
from aiod.registry.schema import Manifest
from aiod.registry.tasks import TASK_NAMES
from families import DATA
from mutants import mutated

PACKAGE = Path(aiod.__file__).parent
SCHEMA: dict[str, Any] = json.loads((PACKAGE / "schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)
GOOD = [
    *sorted((DATA / "valid").glob("*.json")),
    *(
        path
        for path in sorted((PACKAGE / "manifests").glob("*.json"))
        if path.name not in NO_MANIFESTS
    ),
]
# What ties several fields together, or needs a list or a check digit, is for `aiod validate`.
BEYOND_JSON_SCHEMA = {
    "algorithm_with_locations",
    "arg_name_is_a_keyword",
    "arg_name_of_the_host",
    "arg_name_twice",
    "bounds_of_a_text",
    "channel_below_the_first",
    "channel_is_a_text",
    "channel_start_without_channel",
    "choice_below_minimum",
    "choices_of_several_types",
    "config_and_config_path",
    "config_path_beside_locations",
    "default_beside_a_single_value",
    "default_of_another_type",
    "default_outside_choices",
    "dtype_disagrees",
    "dtype_int_of_a_float",
    "dtype_list_of_choices",
    "dtype_of_a_list_value",
    "halo_of_other_axes",
    "halo_of_the_family_for_other_axes",
    "licence_in_wrong_case",
    "licence_misspelled",
    "licence_unknown",
    "location_file_url_of_another_machine",
    "location_without_a_host",
    "locations_and_location",
    "lone_surrogate",
    "minimum_above_maximum",
    "name_cannot_be_an_argument",
    "no_location",
    "null_without_dtype",
    "orcid_with_wrong_check_digit",
    "pixel_size_of_other_axes",
    "short_name_cannot_be_derived",
    "slug_cannot_be_derived",
    "slug_is_a_device_of_windows",
    "slugs_collide",
    "slugs_collide_by_letter_case",
    "value_above_maximum",
}


def test_schema_json_is_fresh() -> None:
    fresh = (PACKAGE / "schema.json").read_text() == schema_text()
    assert fresh, "schema.json is stale: run `make generated`"


def test_the_page_about_the_schema_is_fresh() -> None:
    page = Path(__file__).parents[2] / "docs" / "schema.md"
    assert page.read_text() == schema_page(), "docs/schema.md is stale: run `make generated`"


def test_schema_json_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_good_manifests_pass_an_independent_validator(path: Path) -> None:
    errors = VALIDATOR.iter_errors(json.loads(path.read_text()))
    assert [f"{list(error.path)}: {error.message}" for error in errors] == []


def test_an_independent_validator_refuses_what_json_schema_can_say() -> None:
    passed = set()
    for path in (DATA / "invalid").glob("*.json"):
        try:
            document = parse(path.read_text())
        except IrregularJSON:
            continue
        if not path.stem.startswith("warning_") and VALIDATOR.is_valid(document):
            passed.add(path.stem)
    assert passed == BEYOND_JSON_SCHEMA


@given(mutated())
@settings(deadline=None, max_examples=200)
def test_what_the_models_take_an_independent_validator_takes_too(document: dict[str, Any]) -> None:
    try:
        Manifest.model_validate(document)
    except ValueError:
        return
    assert [error.message for error in VALIDATOR.iter_errors(document)] == []


def test_warnings_are_no_errors_for_an_independent_validator_either() -> None:
    for path in (DATA / "invalid").glob("warning_*.json"):
        assert VALIDATOR.is_valid(json.loads(path.read_text())), path.stem


def test_an_editor_offers_each_task_with_its_name() -> None:
    tasks = SCHEMA["$defs"]["Version"]["properties"]["tasks"]
    assert {name: entry["description"] for name, entry in tasks["properties"].items()} == dict(
        TASK_NAMES
    )
    own = json_schema({**TASK_NAMES, "organoids": "Organoids"})
    assert "organoids" in own["$defs"]["Version"]["properties"]["tasks"]["properties"]


def test_an_editor_shows_words_for_each_field() -> None:
    for definition in [SCHEMA, *SCHEMA["$defs"].values()]:
        assert definition["additionalProperties"] is False
        for name, field in definition["properties"].items():
            assert field.get("description"), name


def test_the_explained_manifest_is_good_and_each_field_of_it_is_known() -> None:
    problems = explain(example_text(), "tiny_nuclei.json", TASK_NAMES)
    assert [item.as_text() for item in problems if item.severity == "error"] == []
    assert VALIDATOR.is_valid(json.loads(example_text()))


def test_the_page_shows_each_field_with_an_example() -> None:
    rows = [line.split(" | ") for line in schema_page().splitlines() if line.startswith("| `")]
    fields = {row[0].strip("| `") for row in rows if len(row) == 4}
    for definition in [SCHEMA, *SCHEMA["$defs"].values()]:
        assert set(definition["properties"]) <= fields
    for row in (row for row in rows if len(row) == 4):
        example = json.loads(row[3].removesuffix(" |").strip("`").replace("\\|", "|"))
        assert example is not None


def test_examples_of_fields_are_valid() -> None:
    def check(name: str, definition: dict[str, Any]) -> None:
        for field, rules in definition["properties"].items():
            for example in rules.get("examples", ()):
                here = {**rules, "$defs": SCHEMA["$defs"]}
                assert Draft202012Validator(here).is_valid(example), f"{name}.{field}"

    check("Manifest", SCHEMA)
    for name, definition in SCHEMA["$defs"].items():
        check(name, definition)


def test_the_models_and_the_schema_name_the_same_fields() -> None:
    aliases = {field.alias or name for name, field in Manifest.model_fields.items()}
    assert set(SCHEMA["properties"]) == aliases
