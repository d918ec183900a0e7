"""Rules that tie fields together. Each broken rule has its example in tests/data/invalid; here
stand the edges: what is just right, and what is just wrong."""

from __future__ import annotations

import math
from typing import Any

import pytest

from aiod.registry.parameter_rules import HOST_ARGUMENTS, argument_of
from aiod.registry.rules import broken_rules, needs_weights, short_name_of, slug_of
from aiod.registry.tasks import TASK_NAMES
from families import family


def broken(document: dict[str, Any]) -> list[str]:
    return [finding.code for finding in broken_rules(document, TASK_NAMES)]


def of_parameter(**fields: Any) -> list[str]:
    return broken(family(params=[{"name": "size", "value": 3, **fields}]))


def of_versions(**versions: dict[str, Any]) -> list[str]:
    return broken(family(versions=versions))


def algorithm(**fields: Any) -> dict[str, Any]:
    return {"weights": False, "tasks": {"cyto": {}}, **fields}


def test_a_good_manifest_breaks_no_rule() -> None:
    assert broken(family()) == []


@pytest.mark.parametrize("document", [{}, {"versions": 3}, {"versions": {"v": None}, "params": 1}])
def test_what_has_a_wrong_type_is_left_to_the_schema(document: dict[str, Any]) -> None:
    assert broken(document) == []


def test_a_default_is_one_of_the_choices() -> None:
    assert of_parameter(value=["a", "b"], default="b") == []
    assert of_parameter(value=["a", "b"], default="c") == ["default"]
    assert of_parameter(value=["a", "b"], default=None) == []
    assert of_parameter(value=[1, 2.5], default=1.0) == []
    assert of_parameter(value=[1, 2.5], default=3) == ["default"]


def test_a_default_outside_its_choices_is_found_by_type_first() -> None:
    assert of_parameter(value=[0, 1], default=False) == ["default"]
    assert of_parameter(value=[False, True], default=0) == ["default"]
    assert of_parameter(value=["1"], default=1) == ["default"]
    assert of_parameter(value=["1"], default=["1"]) == ["default"]


def test_choices_are_all_of_one_type_and_numbers_are_one() -> None:
    assert of_parameter(value=[1, 2.5]) == []
    assert of_parameter(value=[True, False]) == []
    assert of_parameter(value=[1, True]) == ["choices"]
    assert of_parameter(value=["a", 1]) == ["choices"]
    assert of_parameter(value=["a", None]) == ["choices"]
    assert of_parameter(value=[["a"], ["b"]]) == ["choices"]
    assert of_parameter(value=[{"a": 1}]) == ["choices"]


def test_each_choice_is_there_once() -> None:
    assert of_parameter(value=[1, 1.0]) == ["choices"]
    assert of_parameter(value=["a", "A"]) == []


def test_there_is_at_least_one_choice() -> None:
    assert of_parameter(value=[]) == ["empty-choices"]
    assert of_parameter(value=["a"]) == []


@pytest.mark.parametrize(
    ("value", "dtypes"),
    [
        (3, {"int", "float"}),
        (3.5, {"float"}),
        (True, {"bool"}),
        ("3", {"str"}),
        (None, {"str", "int", "float", "bool", "list", "tuple"}),
        ([1, 2], {"int", "float"}),
        ([1, 2.5], {"float"}),
        (["a"], {"str"}),
        ([True], {"bool"}),
    ],
)
def test_a_dtype_agrees_with_the_value(value: Any, dtypes: set[str]) -> None:
    for dtype in ("str", "int", "float", "bool", "list", "tuple"):
        assert of_parameter(value=value, dtype=dtype) == ([] if dtype in dtypes else ["dtype"])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_are_finite(value: float) -> None:
    assert of_parameter(value=value) == ["value"]
    assert of_parameter(value=[1.5, value]) == ["choices"]


def test_null_needs_a_dtype() -> None:
    assert of_parameter(value=None) == ["missing-dtype"]
    assert of_parameter(value=None, dtype=None) == ["missing-dtype"]


def test_values_keep_their_bounds_which_are_part_of_the_range() -> None:
    assert of_parameter(minimum=3, maximum=3) == []
    assert of_parameter(minimum=3.01) == ["bounds"]
    assert of_parameter(maximum=2.99) == ["bounds"]
    assert of_parameter(value=[1, 2, 3], minimum=2, maximum=2) == ["bounds", "bounds"]
    assert of_parameter(minimum=4, maximum=2) == ["bounds"]
    assert of_parameter(value=None, dtype="float", minimum=0) == []


def test_only_numbers_have_bounds() -> None:
    assert of_parameter(value="a", minimum=0) == ["bounds"]
    assert of_parameter(value=True, maximum=1) == ["bounds"]
    assert of_parameter(value=["a"], step=1) == ["bounds"]
    assert of_parameter(value=None, dtype="str", step=1) == ["bounds"]


def test_the_number_of_a_channel_counts_from_its_start() -> None:
    channel = {"param_type": "channel"}
    assert of_parameter(**channel, value=0) == []
    assert of_parameter(**channel, value=-1) == []
    assert of_parameter(**channel, value=-2) == ["channel"]
    assert of_parameter(**channel, value=0, channel_start=0) == []
    assert of_parameter(**channel, value=-1, channel_start=0) == ["channel"]
    assert of_parameter(**channel, value=1.0) == ["channel"]
    assert of_parameter(**channel, value=True) == ["channel"]
    assert of_parameter(**channel, value=[0, 1]) == ["channel"]
    assert of_parameter(**channel, value=None, dtype="int") == []


def test_what_is_no_channel_has_no_words_for_one() -> None:
    assert of_parameter(channel_start=0) == ["channel"]
    assert of_parameter(channel_start_label="Grayscale") == ["channel"]


def test_what_a_manifest_of_the_peer_writes_without_meaning_is_let_pass() -> None:
    """aiod-registry writes its defaults for channels into every parameter that it dumps."""
    assert of_parameter(channel_start=-1, channel_start_label="original", param_type=None) == []


def test_arguments_are_unique_in_their_list() -> None:
    one, other = {"name": "A", "arg_name": "a", "value": 1}, {"name": "a", "value": 2}
    assert broken(family(params=[one, other])) == ["duplicate-argument"]
    task = {"weights": False, "params": [other]}
    assert broken(family(params=[one], versions={"v": {"tasks": {"cyto": task}}})) == []


def test_an_argument_can_be_written_in_python() -> None:
    for name in ("size", "Größe", "_size", "size2"):
        assert of_parameter(name=name) == []
    for name in ("Cell size", "2d", "a-b", "class", "None"):
        assert of_parameter(name=name) == ["arg-name"]
        assert of_parameter(name=name, arg_name="size") == []


@pytest.mark.parametrize("argument", sorted(HOST_ARGUMENTS))
def test_what_the_host_passes_is_no_parameter(argument: str) -> None:
    assert of_parameter(arg_name=argument) == ["arg-name"]
    assert of_parameter(name=argument) == ["arg-name"]


def test_parameters_of_a_task_keep_the_rules_too() -> None:
    task = {"weights": False, "params": [{"name": "size", "value": []}]}
    assert of_versions(v1={"tasks": {"cyto": task}}) == ["empty-choices"]


def test_weights_are_somewhere_or_not_needed() -> None:
    place, places = {"location": "a.pth"}, {"locations": [{"location": "a.pth"}]}
    for good in (place, places, {"weights": False}, {**place, "config_path": "a.yaml"}):
        assert of_versions(v1={"tasks": {"cyto": good}}) == []
    assert of_versions(v1={"tasks": {"cyto": {}}}) == ["missing-locations"]
    assert of_versions(v1={"tasks": {"cyto": {"location": None}}}) == ["missing-locations"]
    for bad in (
        {**place, **places},
        {"weights": False, **place},
        {"weights": False, **places},
        {**places, "config_path": "a.yaml"},
    ):
        assert of_versions(v1={"tasks": {"cyto": bad}}) == ["locations"]


def test_an_algorithm_needs_no_weights_in_any_task() -> None:
    assert of_versions(v1=algorithm()) == []
    assert of_versions(v1=algorithm(tasks={"cyto": {"location": "a.pth"}})) == ["locations"]
    assert not needs_weights({}, {"weights": False})
    assert not needs_weights({"weights": False}, {})
    assert needs_weights({"weights": None}, {})


def test_tasks_are_known_and_exact() -> None:
    assert of_versions(v1=algorithm(tasks={task: {} for task in TASK_NAMES})) == []
    for task in ("Cyto", "cyto ", "cell", ""):
        assert of_versions(v1=algorithm(tasks={task: {}})) == ["unknown-task"]
    own = family(versions={"v1": algorithm(tasks={"organoids": {}})})
    assert list(broken_rules(own, {**TASK_NAMES, "organoids": "Organoids"})) == []


def test_versions_have_slugs_of_their_own() -> None:
    assert of_versions(v1=algorithm(), v2=algorithm()) == []
    assert of_versions(**{"v 1": algorithm(), "v-1": algorithm()}) == []
    assert of_versions(**{"v 1": algorithm(), "v_1": algorithm()}) == ["slug-collision"]
    assert of_versions(v1=algorithm(), V1=algorithm()) == ["slug-collision"]
    assert of_versions(v1=algorithm(), other=algorithm(slug="V1")) == ["slug-collision"]
    assert of_versions(v1=algorithm(slug="one"), one=algorithm(slug="two")) == ["slug-collision"]


def test_a_name_without_a_slug_asks_for_one() -> None:
    for name in ("細胞", "..", "con", "a..b", "—"):
        assert of_versions(**{name: algorithm()}) == ["slug"]
        assert of_versions(**{name: algorithm(slug="cells")}) == []


def test_a_short_name_follows_from_the_name_or_is_asked_for() -> None:
    document = family()
    del document["short_name"]
    for name, short in (("Cellpose-SAM", "cellpose_sam"), ("Ärzte 2", "arzte_2")):
        assert broken({**document, "name": name}) == []
        assert short_name_of({**document, "name": name}) == short
    for name in ("3D U-Net", "細胞", "!"):
        assert broken({**document, "name": name}) == ["short-name"]
        assert broken({**document, "name": name, "short_name": "cells"}) == []


def test_one_config_file() -> None:
    assert broken(family(config="a.yaml")) == broken(family(config_path="a.yaml")) == []
    assert broken(family(config="a.yaml", config_path="a.yaml")) == ["config"]


@pytest.mark.parametrize(("axes", "count"), [("YX", 2), ("CYX", 2), ("ZYX", 3), ("TCZYX", 3)])
def test_lists_have_a_number_for_each_spatial_axis(axes: str, count: int) -> None:
    def version(numbers: int) -> dict[str, Any]:
        size = {"value": [1.0] * numbers, "unit": "micrometer"}
        return algorithm(axes=axes, metadata={"pixel_size": size, "halo": [1] * numbers})

    assert of_versions(v1=version(count)) == []
    assert of_versions(v1=version(5 - count)) == ["spatial-axes"] * 2
    entry = {"metadata": {"halo": [1] * (5 - count)}}
    assert of_versions(v1=algorithm(axes=axes, tasks={"cyto": entry})) == ["spatial-axes"]


def test_lists_of_the_family_fit_the_axes_of_the_versions_that_inherit_them() -> None:
    def family_of(halo: Any, **versions: Any) -> list[str]:
        document = family(versions=versions)
        document["metadata"] |= {"halo": halo, "pixel_size": {"value": halo, "unit": "micrometer"}}
        return [f"{item.path[1]}: {item.found}" for item in broken_rules(document, TASK_NAMES)]

    plane, stack, unknown = algorithm(axes="CYX"), algorithm(axes="ZYX"), algorithm()
    own = {"description": "A", "halo": [1, 8, 8]}
    size = {"pixel_size": {"value": [1, 1, 1], "unit": "micrometer"}}
    assert family_of([8, 8], plane=plane, unknown=unknown) == []
    assert family_of(8, plane=plane, stack=stack) == []
    assert family_of([8, 8], plane=plane, stack=stack, other=stack) == [
        'halo: 2 numbers, inherited by "stack" (ZYX) and "other" (ZYX)',
        'pixel_size: 2 numbers, inherited by "stack" (ZYX) and "other" (ZYX)',
    ]
    assert family_of([8, 8], stack={**stack, "metadata": own | size}) == []
    assert family_of([8, 8], stack={**stack, "metadata": size}) == [
        'halo: 2 numbers, inherited by "stack" (ZYX)'
    ]
    tasks: dict[str, Any] = {"cyto": {"metadata": own | size}}
    assert family_of([8, 8], stack={**stack, "tasks": tasks}) == []
    tasks["nuclei"] = {}
    assert len(family_of([8, 8], stack={**stack, "tasks": tasks})) == 2


def test_names_that_follow_from_others() -> None:
    assert argument_of({"name": "size"}) == argument_of({"name": "S", "arg_name": "size"}) == "size"
    assert slug_of("MitoNet Mini v1", {}) == "mitonet_mini_v1"
    assert slug_of("MitoNet Mini v1", {"slug": "mini"}) == "mini"
