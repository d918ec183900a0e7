"""list, show, tasks and cite, as a person and as a script see them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from terminal import aiod, fails, plain, works

from aiod.registry import load
from families import family

MakeLayer = Callable[..., Path]
SUMMARY = {
    "id": "toy/v1/nuclei",
    "family": "toy",
    "name": "Toy",
    "version": "v1",
    "task": "nuclei",
    "axes": "YX",
    "description": "Toy segments toys.",
    "status": None,
    "layers": ["lab"],
    "needs_weights": True,
    "reachable": True,
    "unreachable_because": None,
}


@pytest.fixture
def private(make_layer: MakeLayer) -> Path:
    """A layer with one model that everybody reaches and one that nobody does."""
    document = family()
    document["versions"]["secret"] = {"axes": "ZYX", "tasks": {"cyto": {"location": "/no/secret"}}}
    document["versions"]["otsu"] = {"tasks": {"mito": {"weights": False}}}
    return make_layer("lab", document)


def _ids(text: str) -> list[str]:
    return [item["id"] for item in json.loads(text)]


# -- list ----------------------------------------------------------------------------------------


def test_list_names_every_family_that_can_be_reached() -> None:
    text = works("list")
    for name in load().families:
        assert f"{name}/" in text
    count, families = len(load().filter(reachable=True)), len(load().families)
    assert f"{count} models of {families} families." in text


def test_list_as_json_is_stable(private: Path) -> None:
    found = json.loads(works("--registry", private, "list", "--json", "--search", "toys"))
    assert found[0] == SUMMARY
    assert [item["id"] for item in found] == ["toy/v1/nuclei", "toy/otsu/mito"]


def test_a_model_that_cannot_be_reached_is_hidden_and_all_shows_it_with_the_reason(
    private: Path,
) -> None:
    text = works("--registry", private, "list", "--search", "toys")
    assert "secret" not in text
    assert "1 model not reachable from here: `aiod list --all`." in text
    text = works("--registry", private, "list", "--search", "toys", "--all")
    assert "toy/secret/cyto" in text
    assert "/no/secret: no such file or directory" in " ".join(text.split())
    found = json.loads(works("--registry", private, "list", "--all", "--json", "--search", "toys"))
    secret = next(item for item in found if item["version"] == "secret")
    assert secret["reachable"] is False
    assert secret["unreachable_because"] == "/no/secret: no such file or directory"


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        (["--task", "cyto", "--all"], ["toy/secret/cyto"]),
        (["--axes", "XYZ", "--all"], ["toy/secret/cyto"]),
        (["--task", "mito"], ["toy/otsu/mito"]),
        (["--axes", "TCZYX"], []),
    ],
)
def test_list_filters_by_task_axes_and_words(
    private: Path, options: list[str], ids: list[str]
) -> None:
    text = works("--registry", private, "list", "--search", "segments TOYS", "--json", *options)
    assert _ids(text) == ids


def test_an_empty_list_says_so() -> None:
    assert works("list", "--search", "no-such-word").startswith("0 models of 0 families.")
    assert works("list", "--search", "no-such-word", "--json") == "[]\n"


# -- show ----------------------------------------------------------------------------------------


def test_show_tells_what_a_biologist_wants_to_know() -> None:
    text = works("show", "cellpose/cyto3")
    registry = load()
    for said in ("Cellpose cyto3", "CYX", "BSD-3-Clause", "aiod cite cellpose/cyto3", "diameter"):
        assert said in text
    assert " ".join(registry.get("cellpose/cyto3").description.split()) in " ".join(text.split())
    facts = text.split("Parameters")[0]
    assert "auto" not in facts  # what is unknown is not shown


def test_show_names_the_layer_of_each_location_and_manifest(make_layer: MakeLayer) -> None:
    overlay: dict[str, Any] = {
        "name": "Cellpose",
        "metadata": {"description": "Ours."},
        "versions": {"cyto3": {"tasks": {"cyto": {"location": "../cyto3"}}}},
    }
    lab = make_layer("lab", overlay)
    (lab / "cyto3").write_bytes(b"x")
    text = " ".join(works("--registry", lab, "show", "cellpose/cyto3", COLUMNS="300").split())
    assert f"{lab}/cyto3 [lab]" in text
    assert "https://www.cellpose.org/models/cyto3 [aiod]" in text
    assert "aiod: " in text
    found = json.loads(works("--registry", lab, "show", "cellpose/cyto3", "--json"))
    assert found["layers"] == ["aiod", "lab"]
    assert [item["layer"] for item in found["locations"]] == ["lab", "aiod"]
    assert found["manifests"][0]["layer"] == "aiod"
    assert Path(found["manifests"][0]["file"]).name == "cellpose.json"


def test_show_names_the_layer_that_a_version_comes_from(make_layer: MakeLayer) -> None:
    overlay: dict[str, Any] = {
        "name": "Cellpose",
        "metadata": {"description": "Ours."},
        "versions": {"embryo": {"tasks": {"cyto": {"location": "https://example.org/e"}}}},
    }
    lab = make_layer("lab", overlay)
    text = works("--registry", lab, "show", "cellpose/embryo", COLUMNS="300")
    assert f"lab: {lab}/manifests/manifest0.json" in text
    table = works("--registry", lab, "show", "cellpose", COLUMNS="200")
    row = next(line for line in table.splitlines() if "cellpose/embryo" in line)
    assert "lab" in row.split()


def test_show_as_json_is_stable(private: Path) -> None:
    found = json.loads(works("--registry", private, "show", "toy/v1", "--json"))
    assert {key: found[key] for key in SUMMARY} == SUMMARY
    assert set(found) - set(SUMMARY) == {
        "metadata",
        "params",
        "defaults",
        "locations",
        "manifests",
    }
    assert found["defaults"] == {"size": 3.5}
    assert found["locations"] == [
        {
            "location": "https://example.org/v1.pth",
            "config": None,
            "sha256": None,
            "size": None,
            "layer": "lab",
            "unreachable_because": None,
        }
    ]
    assert found["metadata"]["license"] == {"code": "MIT", "weights": "CC-BY-4.0"}


def test_show_of_a_family_lists_its_versions(private: Path) -> None:
    text = works("--registry", private, "show", "toy")
    for part in ("toy/v1", "toy/otsu", "toy/secret", "Toy segments toys."):
        assert part in text
    assert len(json.loads(works("--registry", private, "show", "toy", "--json"))) == 3


def test_show_says_why_a_model_cannot_be_reached_and_that_an_algorithm_needs_none(
    private: Path,
) -> None:
    assert "not reachable" in works("--registry", private, "show", "toy/secret")
    assert "none needed" in works("--registry", private, "show", "toy/otsu")


def test_deprecation_bounds_choices_and_units_are_shown(make_layer: MakeLayer) -> None:
    document = family()
    document["metadata"] |= {
        "status": {"state": "deprecated", "reason": "Too old.", "successor": "toy/v2"},
        "pixel_size": {"value": [1.0, 0.5], "unit": "micrometer"},
        "object_diameter": 30,
    }
    document["params"] = [
        {
            "name": "Size",
            "arg_name": "size",
            "value": 3,
            "minimum": 1,
            "maximum": 9,
            "unit": "pixels",
            "advanced": True,
            "tooltip": "How large.",
        },
        {"name": "mode", "value": ["a", "b"], "default": "b"},
        {"name": "flag", "value": True},
        {"name": "auto", "value": None, "dtype": "int"},
    ]
    text = " ".join(works("--registry", make_layer("lab", document), "show", "toy").split())
    for said in (
        "deprecated; reason: Too old.; successor: toy/v2",
        "1.0, 0.5 micrometer",
        "30 pixels",
        "3 pixels",
        "Size (advanced): How large. From 1 to 9.",
        "One of a, b.",
        "flag true",
        "auto auto",
    ):
        assert said in text


EVIL = "[red]bold[/red] \x1b[31mX\x1b]0;owned\x07 \x9b2J \u202ereverse [link=file:///x]y[/link]"


@pytest.mark.parametrize("command", [("list", "--all"), ("show", "toy"), ("show", "toy/v1/cyto")])
@pytest.mark.parametrize("as_json", [False, True])
def test_what_a_terminal_would_obey_is_shown_and_never_obeyed(
    make_layer: MakeLayer, command: tuple[str, ...], as_json: bool
) -> None:
    command = (*command, "--search", "reverse") if command[0] == "list" else command
    document = family()
    document["name"] = EVIL[:30]
    document["metadata"]["description"] = EVIL
    document["metadata"]["authors"] = [{"name": EVIL}]
    document["params"][0] |= {"name": EVIL[:40], "tooltip": EVIL, "unit": EVIL}
    document["versions"]["v1"]["tasks"]["cyto"] = {"location": "/x[red]y"}
    lab = make_layer("lab", document)
    text = works("--registry", lab, *command, *(["--json"] if as_json else []), COLUMNS="400")
    assert not set("\x1b\x07\x9b\u202e") & set(text)
    assert "[red]bold[/red]" in text
    if as_json:
        assert EVIL in [
            item["description"] for item in json.loads(text if text[0] == "[" else f"[{text}]")
        ]
    elif command[0] == "show":
        assert r"\u001b[31mX\u001b]0;owned\u0007 \u009b2J \u202ereverse" in text


# -- tasks and cite ------------------------------------------------------------------------------


def test_tasks_are_listed_with_their_names_and_models(make_layer: MakeLayer) -> None:
    lab = make_layer("lab", family())
    (lab / "manifests" / "tasks.json").write_text('{"wing": "Wing discs"}')
    text = works("--registry", lab, "tasks")
    assert "Mitochondria" in text
    assert "Wing discs" in text
    found = json.loads(works("--registry", lab, "tasks", "--json"))
    assert [item["task"] for item in found][-1] == "wing"
    assert found[-1] == {"task": "wing", "name": "Wing discs", "models": 0, "default": None}
    nuclei = next(item for item in found if item["task"] == "nuclei")
    assert nuclei["models"] == len(load([lab]).filter(task="nuclei"))
    assert nuclei["default"] == "unet/nuclei-mini/nuclei"


def test_the_model_that_runs_when_nobody_names_one_is_told() -> None:
    assert "`aiod run --task nuclei` takes unet/nuclei-mini.\n" in works("list", "--task", "nuclei")
    assert "`aiod run --task" not in works("list", "--task", "drop")
    assert "unet/nuclei-mini/nuclei" in works("tasks", COLUMNS="120")


@pytest.mark.parametrize(
    ("style", "start"), [("apa", "Schmidt, U., Weigert, M."), ("bibtex", "@misc{"), ("csl", "[")]
)
def test_cite_says_what_to_cite(style: str, start: str) -> None:
    assert works("cite", "stardist/2D_versatile_fluo", "--format", style).startswith(start)


def test_cite_writes_apa_unless_told_otherwise(make_layer: MakeLayer) -> None:
    lab = make_layer("lab", family())
    assert works("--registry", lab, "cite", "toy") == (
        "On toys. (n.d.). https://doi.org/10.1234/toys\n"
    )


def test_cite_of_a_model_that_names_nothing_is_a_sentence(make_layer: MakeLayer) -> None:
    lab = make_layer("lab", family(metadata={"description": "Toys."}))
    assert "names nothing to cite" in fails("--registry", lab, "cite", "toy")


def test_a_title_is_never_obeyed_by_the_terminal(make_layer: MakeLayer) -> None:
    document = family()
    document["metadata"]["pubs"] = [{"title": EVIL}]
    lab = make_layer("lab", document)
    for style in ("apa", "bibtex", "csl"):
        text = works("--registry", lab, "cite", "toy", "--format", style)
        assert not set("\x1b\x07\x9b\u202e") & set(text)


def test_help_of_a_person_and_of_a_script_say_the_same(private: Path) -> None:
    done = aiod("--registry", private, "list", "--search", "toys")
    assert plain(done.stdout) == done.stdout
    assert done.stderr == ""
