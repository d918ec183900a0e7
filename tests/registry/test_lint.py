"""Warnings: what a manifest may leave out. Their words stand in tests/data/invalid/warning_*."""

from __future__ import annotations

from typing import Any

import pytest

from aiod.registry.lint import MISSING_SENTENCE, warnings_of
from families import family

HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


def version(*locations: str, **fields: Any) -> dict[str, Any]:
    places = [{"location": location, "sha256": HASH} for location in locations or ["a.pth"]]
    return {"tasks": {"cyto": {"locations": places}}, **fields}


def warned(document: dict[str, Any]) -> list[str]:
    return [finding.code for finding in warnings_of(document)]


def with_metadata(**changes: Any) -> dict[str, Any]:
    metadata = {key: value for key, value in {**family()["metadata"], **changes}.items() if value}
    return family(metadata=metadata, versions={"v1": version(), "v2": version()})


def test_a_complete_manifest_has_no_warnings() -> None:
    assert warned(with_metadata()) == []


def test_the_manifest_of_the_tests_lacks_a_hash_only() -> None:
    assert warned(family()) == ["no-hash"]


def test_what_the_whole_family_lacks_is_said_once() -> None:
    assert warned(with_metadata(pubs=None)) == ["no-publication"]
    assert warned(with_metadata(license=None)) == ["no-code-licence", "no-weights-licence"]
    assert warned(with_metadata(license={"code": "MIT"})) == ["no-weights-licence"]


def test_what_one_version_gives_the_others_still_lack() -> None:
    document = with_metadata(pubs=None)
    document["versions"]["v2"]["metadata"] = {"description": "A", "pubs": [{"title": "On v2"}]}
    (finding,) = warnings_of(document)
    assert (finding.code, finding.path) == ("no-publication", ("versions", "v1"))


def test_a_version_that_empties_its_publications_has_none() -> None:
    document = with_metadata()
    document["versions"]["v2"]["metadata"] = {"description": "A", "pubs": []}
    (finding,) = warnings_of(document)
    assert (finding.code, finding.path) == ("no-publication", ("versions", "v2"))


def test_an_algorithm_needs_no_licence_of_weights_and_no_hash() -> None:
    document = with_metadata(license={"code": "MIT"})
    document["versions"] = {"v1": {"weights": False, "tasks": {"cyto": {}}}}
    assert warned(document) == []
    document["versions"] = {"v1": {"tasks": {"cyto": {"weights": False}}}}
    assert warned(document) == []


@pytest.mark.parametrize(
    "location",
    ["/home/ada/a.pth", "~/a.pth", "file:///a.pth", "C:\\a.pth", "D:/a.pth", "\\\\server\\a.pth"],
)
def test_private_paths_only(location: str) -> None:
    document = {**with_metadata(), "versions": {"v1": version(location)}}
    assert warned(document) == ["private-paths"]
    for public in ("https://example.org/a.pth", "weights/a.pth"):
        assert warned({**document, "versions": {"v1": version(location, public)}}) == []


@pytest.mark.parametrize(
    "location",
    ["www.example.org/a.pth", "WWW.x/a.pth", "example.org/a.pth", "data.uni-x.ac.uk/files/a?b=c"],
)
def test_a_host_without_a_scheme_is_no_path(location: str) -> None:
    document = {**with_metadata(), "versions": {"v1": version(location)}}
    (finding,) = warnings_of(document)
    assert (finding.code, finding.path[-2:]) == ("no-scheme", (0, "location"))
    assert f'did you mean "https://{location}"?' in str(finding.hint)
    for there in (f"./{location}", f"https://{location}"):
        assert warned({**document, "versions": {"v1": version(there)}}) == []
    assert warned({**with_metadata(), "config": location}) == ["no-scheme"]
    document["versions"]["v1"] = version()
    document["versions"]["v1"]["tasks"]["cyto"]["locations"][0]["config_path"] = location
    assert warned(document) == ["no-scheme"]


@pytest.mark.parametrize(
    "location",
    ["a.pth", "weights/a.pth", "../weights/www.example.org/a.pth", "v1.2/a.pth",
     "model.pt/data.pkl", "example.org", "www.pth", "a.zarr/0", "cyto 2.0 (old.com)/a.pth"],
)  # fmt: skip
def test_true_relative_paths_are_none_of_a_host(location: str) -> None:
    assert warned({**with_metadata(), "versions": {"v1": version(location)}}) == []


def test_each_location_without_a_hash_is_named_in_either_form() -> None:
    places = [{"location": "a.pth"}, {"location": "b.pth", "sha256": HASH}, {"location": "c.pth"}]
    document = with_metadata()
    document["versions"] = {"v1": {"tasks": {"cyto": {"locations": places}}}}
    paths = [finding.path[-3:] for finding in warnings_of(document)]
    assert paths == [("locations", 0, "location"), ("locations", 2, "location")]
    document["versions"] = {"v1": {"tasks": {"cyto": {"location": "a.pth"}}}}
    assert warned(document) == ["no-hash"]


def test_deprecated_models_say_what_to_use_instead() -> None:
    good = {"state": "deprecated", "reason": "Old.", "successor": "toy/v2"}
    assert warned(with_metadata(status=good)) == []
    assert warned(with_metadata(status="stable")) == []
    assert warned(with_metadata(status={"state": "experimental"})) == []
    for bad in ("deprecated", {**good, "reason": None}, {**good, "successor": None}):
        assert warned(with_metadata(status=bad)) == ["deprecated"]
    document = with_metadata()
    document["versions"]["v1"]["metadata"] = {"description": "A", "status": "deprecated"}
    document["versions"]["v2"]["tasks"]["cyto"]["metadata"] = {"status": "deprecated"}
    assert warned(document) == ["deprecated", "deprecated"]


def test_parameters_of_families_and_tasks_have_tooltips() -> None:
    document = with_metadata()
    bare: list[dict[str, Any]] = [{"name": "size", "value": 1}]
    document["params"] = [*bare, {"name": "a", "value": 1, "tooltip": ""}]
    document["versions"]["v1"]["tasks"]["cyto"]["params"] = bare
    assert warned(document) == ["no-tooltip"] * 3


def test_the_note_that_something_is_missing_is_no_description() -> None:
    assert warned(with_metadata(description=MISSING_SENTENCE)) == ["no-description"]
    assert warned(with_metadata(pubs=[{"title": "Title missing"}])) == ["no-title"]


@pytest.mark.parametrize("odd", [3, "text", None, [], {}, [3], {"a": 3}, [[]], {"a": {"b": 3}}])
def test_what_has_a_wrong_type_is_passed_over(odd: Any) -> None:
    for field in ("metadata", "params", "versions"):
        assert isinstance(warned(family(**{field: odd})), list)
    for field in ("license", "pubs", "status"):
        assert isinstance(warned(family(metadata={"description": "A", field: odd})), list)
    for entry in (odd, {"locations": odd}, {"location": odd}, {"params": odd}, {"metadata": odd}):
        assert isinstance(warned(family(versions={"v1": {"tasks": {"cyto": entry}}})), list)
