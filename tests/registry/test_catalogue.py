"""The registry as a program sees it: ids, filters, parameters, metadata, locations."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiod.errors import ManifestError, UnknownModelError, UsageError
from aiod.registry import TASK_NAMES, Model, Registry, load
from aiod.registry.merge import Family
from families import family

MakeLayer = Callable[..., Path]


@pytest.fixture(scope="module")
def shipped() -> Registry:
    return load()


@pytest.fixture
def toys(make_layer: MakeLayer) -> Registry:
    """Two versions; the first has two tasks, one of them with words and knobs of its own."""
    document = family(config="toy.yaml")
    document["metadata"] |= {
        "keywords": ["wood"],
        "status": "stable",
        "pixel_size": {"value": 0.5, "unit": "micrometer"},
    }
    document["params"].append(
        {"name": "Mode", "arg_name": "mode", "value": ["fast", "exact"], "default": "exact"}
    )
    document["params"].append({"name": "Limit", "value": None, "dtype": "int"})
    document["params"].append({"name": "Kind", "value": [3, 1, 2]})
    document["versions"] = {
        "Big Toy": {
            "axes": "ZYX",
            "metadata": {"description": "Big ones.", "halo": 8, "keywords": ["tin"]},
            "tasks": {
                "nuclei": {"location": "https://example.org/big.pth"},
                "cyto": {
                    "location": "nowhere.pth",
                    "params": [{"name": "speed", "value": 2}],
                    "metadata": {"description": "Big cells.", "status": "experimental"},
                },
            },
        },
        "small": {"axes": "YXC", "slug": "s", "tasks": {"mito": {"weights": False}}},
    }
    return load([make_layer("lab", document)])


def test_iterating_gives_every_model_once(shipped: Registry) -> None:
    models = list(shipped)
    assert len(models) == len(shipped) == len({model.id for model in models})
    assert all(isinstance(model, Model) for model in models)
    assert all(model.id in shipped for model in models)


def test_a_model_that_cannot_be_reached_is_there_too(toys: Registry) -> None:
    model = toys.get("toy/big_toy/cyto")
    assert model in list(toys)
    assert not model.reachable
    assert "nowhere.pth: no such file or directory" in str(model.why_unreachable())


def test_families_are_named_in_the_order_of_the_layers(toys: Registry) -> None:
    assert toys.families[0] == "bioimageio"
    assert toys.families[-1] == "toy"
    assert toys.family("toy").name == "Toy"
    assert isinstance(toys.family("toy"), Family)


@pytest.mark.parametrize(
    "model_id",
    ["toy/Big Toy/cyto", "toy/big_toy/cyto"],
)
def test_a_version_goes_by_name_or_slug(toys: Registry, model_id: str) -> None:
    assert toys.get(model_id).id == "toy/big_toy/cyto"


@pytest.mark.parametrize("model_id", ["toy/small", "toy/s", "toy/s/mito", "toy/s/"])
def test_the_task_may_be_left_out_where_there_is_one(toys: Registry, model_id: str) -> None:
    assert toys.get(model_id).id == "toy/s/mito"
    assert model_id in toys


def test_the_version_may_be_left_out_where_there_is_one(make_layer: MakeLayer) -> None:
    assert load([make_layer("lab", family())]).get("toy").id == "toy/v1/nuclei"


def test_an_id_that_leaves_something_open_lists_what_it_may_mean(toys: Registry) -> None:
    with pytest.raises(UnknownModelError, match="leaves the task open") as caught:
        toys.get("toy/big_toy")
    assert caught.value.details == ("toy/big_toy/nuclei", "toy/big_toy/cyto")
    with pytest.raises(UnknownModelError, match="leaves the version open"):
        toys.get("toy")
    assert "toy" not in toys


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("celpose/cyto3", "cellpose"),
        ("Cellpose/cyto3", "cellpose"),
        ("cellpose/cyt3", "cellpose/cyto3/cyto"),
        ("cellpose/cyto3/nuclei", "cellpose/cyto3/cyto"),
        ("cellpose/cyto3/cyto/more", "cellpose/cyto3/cyto"),
        ("stardist/2D_versatile_flou/nuclei", "stardist/2D_versatile_fluo/nuclei"),
        ("cellposesam/cpsam/nucleus", "cellposesam/cpsam/nuclei"),
    ],
)
def test_a_wrong_id_lists_the_nearest_right_ones(
    shipped: Registry, wrong: str, nearest: str
) -> None:
    with pytest.raises(UnknownModelError) as caught:
        shipped.get(wrong)
    assert nearest in str(caught.value)
    assert wrong not in shipped


@pytest.mark.parametrize("wrong", ["", "/", "//", "zzzz", "../../etc/passwd", "\0", 7, None])
def test_nonsense_is_no_id(shipped: Registry, wrong: object) -> None:
    assert wrong not in shipped
    with pytest.raises(UnknownModelError):
        shipped.get(str(wrong))


def test_an_unknown_model_is_a_key_error_with_words(shipped: Registry) -> None:
    with pytest.raises(KeyError) as caught:
        shipped.get("nothing")
    assert str(caught.value).startswith('There is no model family "nothing".\nNext: ')


def test_filter_by_task(toys: Registry) -> None:
    found = toys.filter(task="mito")
    assert "toy/s/mito" in [model.id for model in found]
    assert {model.task for model in found} == {"mito"}


@pytest.mark.parametrize(("wrong", "said"), [("Nuclei", "nuclei"), ("xyz", "mito, er")])
def test_a_task_that_there_is_not_names_the_right_ones(
    shipped: Registry, wrong: str, said: str
) -> None:
    with pytest.raises(UnknownModelError, match=f'There is no task "{wrong}"') as caught:
        shipped.filter(task=wrong)
    assert said in str(caught.value.hint)


@pytest.mark.parametrize("axes", ["ZYX", "zyx", "XYZ"])
def test_filter_by_axes_in_any_order_and_case(toys: Registry, axes: str) -> None:
    assert [model.id for model in toys.filter(axes=axes, text="toy")] == [
        "toy/big_toy/nuclei",
        "toy/big_toy/cyto",
    ]


@pytest.mark.parametrize("axes", ["ABC", "Y X", "ÄYX"])
def test_letters_that_are_no_axes_are_a_usage_error(shipped: Registry, axes: str) -> None:
    with pytest.raises(UsageError, match="There are no axes"):
        shipped.filter(axes=axes)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("toy", ["toy/big_toy/nuclei", "toy/big_toy/cyto", "toy/s/mito"]),
        ("BIG TOY cells", ["toy/big_toy/cyto"]),
        ("toy tin", ["toy/big_toy/nuclei", "toy/big_toy/cyto"]),
        ("toy wood", ["toy/s/mito"]),
        ("toy mitochondria", ["toy/s/mito"]),
        ("toy submarine", []),
    ],
)
def test_filter_by_text_finds_models_that_all_its_words_speak_of(
    toys: Registry, text: str, ids: list[str]
) -> None:
    assert [model.id for model in toys.filter(text=text)] == ids


def test_filter_by_whether_this_user_can_reach_it(toys: Registry) -> None:
    yes = [model.id for model in toys.filter(text="toy", reachable=True)]
    no = [model.id for model in toys.filter(text="toy", reachable=False)]
    assert yes == ["toy/big_toy/nuclei", "toy/s/mito"]
    assert no == ["toy/big_toy/cyto"]


def test_filters_go_together_and_none_gives_all(toys: Registry) -> None:
    assert toys.filter() == tuple(toys)
    assert toys.filter(text="") == tuple(toys)
    found = toys.filter(task="nuclei", axes="ZYX", text="toy", reachable=True)
    assert [model.id for model in found] == ["toy/big_toy/nuclei"]


def test_parameters_are_the_tasks_own_else_the_familys(toys: Registry) -> None:
    assert [item.name for item in toys.params_for("toy/big_toy/cyto")] == ["speed"]
    assert [item.name for item in toys.params_for("toy/big_toy/nuclei")] == [
        "Size",
        "Mode",
        "Limit",
        "Kind",
    ]


def test_the_default_config_is_what_a_runner_gets_when_nothing_is_changed(toys: Registry) -> None:
    assert toys.default_config("toy/s") == {"size": 3.5, "mode": "exact", "Limit": None, "Kind": 3}
    assert toys.default_config(toys.get("toy/big_toy/cyto")) == {"speed": 2}


def test_metadata_is_inherited_field_by_field(toys: Registry) -> None:
    metadata = toys.metadata_for("toy/big_toy/cyto")
    assert metadata.description == "Big cells."
    assert metadata.status == "experimental"
    assert metadata.halo == 8
    assert metadata.keywords == ["tin"]
    assert metadata.pixel_size is not None
    assert metadata.pixel_size.value == 0.5
    assert toys.metadata_for("toy/s").keywords == ["wood"]
    assert toys.metadata_for("toy/s").halo is None


def test_a_null_inherits_as_a_missing_field_does(make_layer: MakeLayer) -> None:
    document = family()
    document["versions"]["v1"]["metadata"] = {"description": "One.", "pubs": None}
    document["versions"]["v1"]["tasks"]["nuclei"]["params"] = None
    registry = load([make_layer("lab", document)])
    assert registry.metadata_for("toy/v1").pubs
    assert registry.default_config("toy/v1") == {"size": 3.5}


def test_a_family_config_goes_with_every_location_that_has_none(make_layer: MakeLayer) -> None:
    document = family(config_path="toy.yaml")
    document["versions"]["v1"]["tasks"]["nuclei"]["locations"].append(
        {"location": "v1.pth", "config_path": "own.yaml", "size": 3}
    )
    lab = make_layer("lab", document)
    first, second = load([lab]).locations_for("toy/v1")
    assert str(first.config) == str(lab / "manifests" / "toy.yaml")
    assert str(second.config) == str(lab / "manifests" / "own.yaml")
    assert (first.layer, first.size, second.size) == ("lab", None, 3)


def test_an_algorithm_has_no_locations_and_is_always_reachable(toys: Registry) -> None:
    assert toys.locations_for("toy/s") == ()
    assert toys.get("toy/s").reachable


def test_the_manifests_that_have_a_say_are_named(toys: Registry) -> None:
    ((layer, path),) = toys.manifest_files("toy/s")
    assert (layer, path.name) == ("lab", "toy.json")


@pytest.mark.parametrize("name", ["layers", "tasks", "problems", "families", "_sources", "new"])
def test_nothing_in_a_registry_can_be_set(shipped: Registry, name: str) -> None:
    with pytest.raises(AttributeError, match="does not change"):
        setattr(shipped, name, ())
    with pytest.raises(AttributeError, match="does not change"):
        delattr(shipped, name)


def test_tasks_and_models_are_read_only(shipped: Registry) -> None:
    with pytest.raises(TypeError):
        shipped.tasks["new"] = "New"  # type: ignore[index]
    with pytest.raises(TypeError):
        TASK_NAMES["new"] = "New"  # type: ignore[index]
    model = shipped.get("cellpose/cyto3")
    with pytest.raises(AttributeError):
        model.task = "nuclei"  # type: ignore[misc]
    hash(model)


def test_what_a_registry_hands_out_is_the_callers_own(toys: Registry) -> None:
    def everything() -> tuple[Any, ...]:
        return (
            toys.params_for("toy/s"),
            toys.metadata_for("toy/s"),
            toys.default_config("toy/s"),
            [manifest for _, manifest in toys.manifests_of("toy")],
        )

    before = everything()
    params, metadata, config, manifests = everything()
    params[1].value.append("other")
    metadata.keywords.append("other")
    config["size"] = -1
    manifests[0].versions.clear()
    assert everything() == before


def test_the_eight_tasks_of_aiod_are_known_by_their_short_names() -> None:
    assert {"mito", "er", "ne", "everything", "nuclei", "cyto", "drop", "boundaries"} <= set(
        TASK_NAMES
    )


@pytest.mark.parametrize("changed", ["valid", "broken", "gone"])
def test_a_manifest_that_changed_since_it_was_loaded_is_an_error_that_says_so(
    make_layer: MakeLayer, changed: str
) -> None:
    lab = make_layer("lab", family())
    path = lab / "manifests" / "toy.json"
    registry = load([lab])
    document = family()
    document["params"][0]["value"] = 9.0
    if changed == "gone":
        path.unlink()
    else:
        path.write_text(json.dumps(document) if changed == "valid" else "{")
    with pytest.raises(ManifestError, match=r"toy\.json (has changed|can no longer)") as caught:
        registry.params_for("toy/v1")
    assert caught.value.hint == "load the registry again"
    again = load([lab])
    if changed == "valid":
        assert again.default_config("toy/v1") == {"size": 9.0}
    else:
        assert "toy/v1" not in again


def test_a_manifest_replaced_by_one_of_the_same_size_and_time_is_noticed(
    make_layer: MakeLayer,
) -> None:
    lab = make_layer("lab", family())
    path = lab / "manifests" / "toy.json"
    registry = load([lab])
    status = path.stat()
    path.write_text(path.read_text().replace("3.5", "4.5"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(ManifestError, match="has changed"):
        registry.params_for("toy/v1")
    assert load([lab]).default_config("toy/v1") == {"size": 4.5}


def test_a_model_is_in_its_registry_and_one_folder_may_be_named_plainly(
    make_layer: Callable[..., Path],
) -> None:
    registry = load(str(make_layer("lab", family())))
    assert all(model in registry for model in registry)
    assert "toy/v1" in registry


def test_a_word_is_searched_from_its_start() -> None:
    found = {model.family for model in load().filter(text="cell wall")}
    assert found == {"panseg"}
    assert "cellpose" not in {model.family for model in load().filter(text="MIT")}


def test_a_task_by_its_display_name_is_recognised() -> None:
    with pytest.raises(UnknownModelError) as caught:
        load().filter(task="mitochondria")
    assert caught.value.hint == 'did you mean "mito"?'
