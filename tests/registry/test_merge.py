"""What several layers make of one family: the rules of `aiod.registry.merge`, one by one."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiod.registry import Registry, load
from families import family

MakeLayer = Callable[..., Path]
CITED = {"title": "On toys", "doi": "10.1234/toys"}


def _task(*locations: str, **more: Any) -> dict[str, Any]:
    return {"locations": [{"location": location} for location in locations], **more}


def _overlay(versions: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A later layer's manifest of the family of `conftest.family`, with nothing but versions."""
    document = {"name": "Toy", "metadata": {"description": "Toys of the lab."}}
    return {**document, "versions": versions, **more}


def _places(registry: Registry, model: str) -> list[str]:
    return [str(item.weights) for item in registry.locations_for(model)]


def test_a_later_layer_adds_a_family(make_layer: MakeLayer) -> None:
    registry = load([make_layer("base", family()), make_layer("lab", family("Kit"))])
    assert registry.get("kit/v1").layers == ("lab",)
    assert registry.get("toy/v1").layers == ("base",)


def test_a_later_layer_adds_a_version(make_layer: MakeLayer) -> None:
    versions = {"v2": {"axes": "ZYX", "tasks": {"nuclei": _task("https://example.org/v2")}}}
    registry = load([make_layer("base", family()), make_layer("lab", _overlay(versions))])
    assert [model.id for model in registry.family("toy").models] == [
        "toy/v1/nuclei",
        "toy/v2/nuclei",
    ]
    assert registry.get("toy/v2").layers == ("lab",)
    assert registry.get("toy/v2").axes == "ZYX"
    assert registry.get("toy/v1").layers == ("base",)


def test_a_later_layer_adds_a_task_and_leaves_the_others_as_they_are(
    make_layer: MakeLayer,
) -> None:
    before = load([make_layer("base", family())]).get("toy/v1/nuclei")
    versions = {
        "v1": {
            "axes": "CYX",
            "metadata": {"description": "Cells too.", "status": "experimental"},
            "tasks": {"cyto": _task("https://example.org/cyto")},
        }
    }
    registry = load([make_layer("base"), make_layer("lab", _overlay(versions))])
    assert registry.get("toy/v1/nuclei") == before
    added = registry.get("toy/v1/cyto")
    assert (added.axes, added.description, added.status) == ("CYX", "Cells too.", "experimental")
    assert added.layers == ("lab",)


def test_a_later_layer_puts_its_locations_first(make_layer: MakeLayer) -> None:
    versions = {"v1": {"tasks": {"nuclei": _task("../weights/v1.pth", "https://lab.org/v1.pth")}}}
    base, lab = make_layer("base", family()), make_layer("lab", _overlay(versions))
    registry = load([base, lab])
    assert _places(registry, "toy/v1") == [
        str(lab / "weights" / "v1.pth"),
        "https://lab.org/v1.pth",
        "https://example.org/v1.pth",
    ]
    assert [item.layer for item in registry.locations_for("toy/v1")] == ["lab", "lab", "base"]
    model = registry.get("toy/v1")
    assert model.layers == ("base", "lab")
    assert [str(place) for place in model.locations] == _places(registry, "toy/v1")


def test_locations_alone_change_nothing_else(make_layer: MakeLayer) -> None:
    base = make_layer("base", family())
    before = load([base])
    versions = {"v1": {"axes": "YX", "tasks": {"nuclei": _task("x")}}}
    params = [{"name": "Speed", "arg_name": "speed", "value": 1}]
    after = load([base, make_layer("lab", _overlay(versions, params=params))])
    assert after.params_for("toy/v1") == before.params_for("toy/v1")
    assert after.metadata_for("toy/v1") == before.metadata_for("toy/v1")
    old, new = before.get("toy/v1"), after.get("toy/v1")
    assert (new.axes, new.description) == (old.axes, old.description)


@pytest.mark.parametrize("own", [{"axes": "ZYX"}, {"metadata": {"description": "Of fish."}}])
def test_words_or_axes_of_a_version_make_it_another_model(
    make_layer: MakeLayer, own: dict[str, Any]
) -> None:
    versions = {"v1": {**own, "tasks": {"nuclei": _task("https://lab.org/fish")}}}
    registry = load([make_layer("base", family()), make_layer("lab", _overlay(versions))])
    assert _places(registry, "toy/v1") == ["https://lab.org/fish"]
    assert registry.get("toy/v1").layers == ("lab",)
    assert registry.get("toy/v1").axes == own.get("axes", "YX")
    assert registry.default_config("toy/v1") == {"size": 3.5}


def test_the_latest_of_three_layers_comes_first(make_layer: MakeLayer) -> None:
    layers = [make_layer("base", family())]
    for name in ("institute", "lab"):
        versions = {"v1": {"tasks": {"nuclei": _task(f"https://{name}.org/v1.pth")}}}
        layers.append(make_layer(name, _overlay(versions)))
    registry = load(layers)
    assert _places(registry, "toy/v1") == [
        "https://lab.org/v1.pth",
        "https://institute.org/v1.pth",
        "https://example.org/v1.pth",
    ]
    assert registry.get("toy/v1").layers == ("base", "lab", "institute")


def test_a_location_that_two_layers_give_is_tried_once_and_is_the_later_layers(
    make_layer: MakeLayer,
) -> None:
    entry = {"location": "https://example.org/v1.pth", "sha256": "0" * 64}
    versions = {"v1": {"tasks": {"nuclei": {"locations": [entry]}}}}
    registry = load([make_layer("base", family()), make_layer("lab", _overlay(versions))])
    (location,) = registry.locations_for("toy/v1")
    assert (location.layer, location.sha256) == ("lab", "0" * 64)


def test_own_params_replace_the_task_whole(make_layer: MakeLayer) -> None:
    params = [{"name": "Speed", "arg_name": "speed", "value": 1}]
    versions = {"v1": {"tasks": {"nuclei": _task("https://lab.org/v1", params=params)}}}
    registry = load([make_layer("base", family()), make_layer("lab", _overlay(versions))])
    assert _places(registry, "toy/v1") == ["https://lab.org/v1"]
    assert registry.default_config("toy/v1") == {"speed": 1}
    assert registry.get("toy/v1").layers == ("lab",)
    assert registry.get("toy/v1").axes == "YX"


def test_own_metadata_replaces_the_task_whole(make_layer: MakeLayer) -> None:
    metadata = {"description": "Trained again."}
    versions = {"v1": {"tasks": {"nuclei": _task("https://lab.org/v1", metadata=metadata)}}}
    registry = load([make_layer("base", family()), make_layer("lab", _overlay(versions))])
    assert _places(registry, "toy/v1") == ["https://lab.org/v1"]
    assert registry.get("toy/v1").description == "Trained again."
    assert registry.get("toy/v1").layers == ("lab",)


def test_an_algorithm_replaces_a_network_and_a_network_an_algorithm(make_layer: MakeLayer) -> None:
    algorithm = _overlay({"v1": {"tasks": {"nuclei": {"weights": False}}}})
    base, lab = make_layer("base", family()), make_layer("lab", algorithm)
    registry = load([base, lab])
    assert not registry.get("toy/v1").needs_weights
    assert registry.get("toy/v1").reachable
    assert registry.locations_for("toy/v1") == ()
    network = _overlay({"v1": {"tasks": {"nuclei": _task("https://mine.org/v1")}}})
    registry = load([base, lab, make_layer("mine", network)])
    assert registry.get("toy/v1").needs_weights
    assert _places(registry, "toy/v1") == ["https://mine.org/v1"]


def test_what_a_layer_gives_for_the_family_holds_for_what_it_adds(make_layer: MakeLayer) -> None:
    versions = {"v2": {"tasks": {"nuclei": _task("https://lab.org/v2")}}}
    params = [{"name": "Speed", "arg_name": "speed", "value": 1}]
    overlay = _overlay(versions, params=params, config="lab.yaml")
    overlay["metadata"]["license"] = {"weights": "CC0-1.0"}
    lab = make_layer("lab", overlay)
    registry = load([make_layer("base", family()), lab])
    assert registry.default_config("toy/v2") == {"speed": 1}
    assert registry.default_config("toy/v1") == {"size": 3.5}
    licence = registry.metadata_for("toy/v2").license
    assert licence is not None
    assert (licence.code, licence.weights) == (None, "CC0-1.0")
    (location,) = registry.locations_for("toy/v2")
    assert str(location.config) == str(lab / "manifests" / "lab.yaml")


def test_where_a_layer_gives_none_the_earlier_layers_holds(make_layer: MakeLayer) -> None:
    versions = {"v2": {"tasks": {"nuclei": _task("https://lab.org/v2")}}}
    base = make_layer("base", family(config="base.yaml"))
    registry = load([base, make_layer("lab", _overlay(versions))])
    assert registry.default_config("toy/v2") == {"size": 3.5}
    (location,) = registry.locations_for("toy/v2")
    assert str(location.config) == str(base / "manifests" / "base.yaml")
    metadata = registry.metadata_for("toy/v2")
    assert metadata.description == "Toys of the lab."
    assert metadata.pubs is not None
    assert metadata.pubs[0].title == CITED["title"]


def test_a_version_that_is_replaced_keeps_the_axes_that_its_layer_does_not_give(
    make_layer: MakeLayer,
) -> None:
    versions = {"v1": {"tasks": {"nuclei": _task("x", params=[])}}}
    registry = load([make_layer("base", family()), make_layer("lab", _overlay(versions))])
    assert registry.get("toy/v1").axes == "YX"
    assert registry.default_config("toy/v1") == {}


def test_paths_are_relative_to_the_manifest_that_gives_them(make_layer: MakeLayer) -> None:
    base_document = family()
    base_document["versions"]["v1"]["tasks"]["nuclei"] = {"location": "v1.pth", "config_path": "c"}
    versions = {"v1": {"tasks": {"nuclei": _task("v1.pth")}}}
    base, lab = make_layer("base", base_document), make_layer("lab", _overlay(versions))
    registry = load([base, lab])
    first, second = registry.locations_for("toy/v1")
    assert first.weights.path == lab / "manifests" / "v1.pth"
    assert first.config is None
    assert second.weights.path == base / "manifests" / "v1.pth"
    assert second.config is not None
    assert second.config.path == base / "manifests" / "c"


def test_the_same_version_is_the_same_slug_else_the_same_name(make_layer: MakeLayer) -> None:
    document = family()
    document["versions"] = {"First one": {**document["versions"]["v1"], "slug": "one"}}
    base = make_layer("base", document)
    for name, renamed in (
        ("by_slug", {"Renamed": {"slug": "ONE"}}),
        ("by_name", {"First one": {}}),
    ):
        versions = {
            key: {**value, "tasks": {"nuclei": _task("https://lab.org/1")}}
            for key, value in renamed.items()
        }
        registry = load([base, make_layer(name, _overlay(versions))])
        (model,) = registry.family("toy").models
        assert (model.id, model.version) == ("toy/one/nuclei", "First one")
        assert len(model.locations) == 2
        assert len(registry.locations_for(model)) == 2


def test_slugs_and_names_that_cross_make_no_id_twice(make_layer: MakeLayer) -> None:
    document = family()
    version = document["versions"]["v1"]
    document["versions"] = {"A": {**version, "slug": "y"}}
    versions = {
        "A": {"slug": "x", "tasks": {"nuclei": _task("https://lab.org/x")}},
        "B": {"slug": "y", "tasks": {"nuclei": _task("https://lab.org/y")}},
    }
    registry = load([make_layer("base", document), make_layer("lab", _overlay(versions))])
    ids = [model.id for model in registry.family("toy").models]
    assert ids == ["toy/y/nuclei", "toy/x/nuclei"]
    assert _places(registry, "toy/y") == ["https://lab.org/y", "https://example.org/v1.pth"]
    assert _places(registry, "toy/x") == ["https://lab.org/x"]


def test_the_shipped_layer_can_be_added_to_like_any_other(make_layer: MakeLayer) -> None:
    overlay = {
        "name": "Cellpose",
        "metadata": {"description": "Ours."},
        "versions": {
            "cyto3": {"tasks": {"cyto": _task("../cyto3")}},
            "embryo": {"axes": "CYX", "tasks": {"cyto": _task("../embryo")}},
        },
    }
    lab = make_layer("lab", overlay)
    registry = load([lab])
    assert registry.get("cellpose/cyto3").layers == ("aiod", "lab")
    assert _places(registry, "cellpose/cyto3")[0] == str(lab / "cyto3")
    assert registry.params_for("cellpose/embryo") == registry.params_for("cellpose/cyto3")


_TEXT = st.sampled_from(["One.", "Two.", "Three."])
_METADATA = st.fixed_dictionaries(
    {"description": _TEXT},
    optional={
        "status": st.sampled_from(["stable", "experimental", None]),
        "keywords": st.sampled_from([[], ["x"], ["y", "z"], None]),
    },
)
_ENTRY = st.one_of(
    st.just({"weights": False}),
    st.fixed_dictionaries(
        {"location": st.sampled_from(["https://a.org/1", "b", "c"])},
        optional={
            "metadata": _METADATA,
            "params": st.sampled_from([[], [{"name": "p", "value": 1}], None]),
        },
    ),
)
_VERSION = st.fixed_dictionaries(
    {"tasks": st.dictionaries(st.sampled_from(["nuclei", "cyto"]), _ENTRY, min_size=1)},
    optional={"axes": st.sampled_from(["YX", "ZYX", None]), "metadata": _METADATA},
)
_MANIFEST = st.fixed_dictionaries(
    {
        "name": st.just("Toy"),
        "metadata": _METADATA,
        "versions": st.dictionaries(st.sampled_from(["a", "b"]), _VERSION, min_size=1),
    },
    optional={"params": st.sampled_from([[], [{"name": "q", "value": 2}], None])},
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(documents=st.lists(_MANIFEST, min_size=1, max_size=3))
def test_lists_and_details_always_agree_whatever_the_layers_give(
    tmp_path: Path, documents: list[dict[str, Any]]
) -> None:
    folders = []
    for index, document in enumerate(documents):
        folder = tmp_path / f"layer{index}"
        (folder / "manifests").mkdir(parents=True, exist_ok=True)
        (folder / "manifests" / "toy.json").write_text(json.dumps(document))
        folders.append(folder)
    registry = load(folders)
    assert registry.problems == ()
    models = registry.family("toy").models
    assert len({model.id for model in models}) == len(models)
    for model in models:
        metadata = registry.metadata_for(model)
        assert model.description == metadata.description
        assert model.status == metadata.status
        assert model.keywords == tuple(metadata.keywords or ())
        found = registry.locations_for(model)
        assert model.needs_weights == bool(found)
        if found:
            assert [item.weights for item in found] == list(model.locations)
            assert {item.layer for item in found} <= set(model.layers)


def test_loading_changes_no_manifest(make_layer: MakeLayer) -> None:
    document = family()
    before = copy.deepcopy(document)
    lab = make_layer("lab", document)
    text = (lab / "manifests" / "toy.json").read_bytes()
    registry = load([lab])
    registry.metadata_for("toy/v1")
    ((_, manifest),) = registry.manifests_of("toy")
    assert manifest.model_dump(exclude_unset=True, by_alias=True) == before
    assert (lab / "manifests" / "toy.json").read_bytes() == text
