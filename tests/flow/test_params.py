"""Parameters a user gives, as text or as values, against what the manifest says of them."""

from __future__ import annotations

from typing import Any

import pytest

from aiod.errors import UsageError
from aiod.flow.params import arguments_for, parse_assignments
from aiod.registry.schema import Parameter

PARAMETERS = [
    Parameter(name="Diameter", arg_name="diameter", value=30.0, minimum=0, unit="pixels"),
    Parameter(name="Iterations", arg_name="niter", value=200, minimum=1, maximum=2000),
    Parameter(name="Mode", arg_name="mode", value=["fast", "exact"], default="exact"),
    Parameter(name="Scales", arg_name="scales", value=[1, 2, 4], default=2),
    Parameter(name="In 3D", arg_name="do_3d", value=False),
    Parameter(name="Guess", arg_name="guess", value=None, dtype="float"),
    Parameter(name="Offsets", arg_name="offsets", value=None, dtype="list"),
    Parameter(name="Prefix", arg_name="prefix", value="a"),
]
DEFAULTS = {
    "diameter": 30.0,
    "niter": 200,
    "mode": "exact",
    "scales": 2,
    "do_3d": False,
    "guess": None,
    "offsets": None,
    "prefix": "a",
}


def given(**values: Any) -> dict[str, Any]:
    return dict(arguments_for("toy/v1", PARAMETERS, DEFAULTS, values).given)


def test_what_is_not_given_stays_as_the_manifest_says() -> None:
    arguments = arguments_for("toy/v1", PARAMETERS, DEFAULTS, {"diameter": "12.5"})
    assert arguments.given == {"diameter": 12.5}
    assert arguments.defaulted == {k: v for k, v in DEFAULTS.items() if k != "diameter"}
    assert arguments.all == {**DEFAULTS, "diameter": 12.5}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("diameter", "30", 30.0),
        ("diameter", 30, 30.0),
        ("niter", "100", 100),
        ("niter", "1e2", 100),
        ("mode", "fast", "fast"),
        ("scales", "4", 4),
        ("do_3d", "yes", True),
        ("do_3d", "False", False),
        ("guess", "none", None),
        ("guess", "0.25", 0.25),
        ("offsets", "[1, 2]", [1, 2]),
        ("prefix", "12", "12"),
    ],
)
def test_text_is_read_as_the_type_of_the_parameter(name: str, text: Any, value: Any) -> None:
    found = given(**{name: text})[name]
    assert found == value
    assert type(found) is type(value)


def test_a_parameter_goes_by_its_name_in_forms_too() -> None:
    assert arguments_for("toy/v1", PARAMETERS, DEFAULTS, {"in 3d": "true"}).given == {"do_3d": True}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("diameter", "-1", "diameter: found -1.0; expected at least 0 pixels"),
        ("diameter", "wide", 'diameter: found "wide"; expected a number'),
        ("diameter", "nan", 'diameter: found "nan"; expected a number'),
        ("diameter", float("inf"), "diameter: found Infinity; expected a number"),
        ("diameter", "true", "diameter: found true; expected a number"),
        ("niter", "2.5", "niter: found 2.5; expected a whole number"),
        ("niter", "5000", "niter: found 5000; expected at most 2000"),
        ("mode", "slow", 'mode: found "slow"; expected fast or exact'),
        ("do_3d", "perhaps", 'do_3d: found "perhaps"; expected true or false'),
        ("offsets", "1", "offsets: found 1; expected a list such as [1, 2]"),
        ("niter", "none", 'niter: found "none"; expected a whole number'),
        ("diametre", "3", "diametre: no such parameter; did you mean diameter?"),
        ("zzz", "3", "zzz: no such parameter; there are diameter, niter"),
    ],
)
def test_what_is_wrong_is_said_with_what_was_expected(name: str, value: Any, words: str) -> None:
    with pytest.raises(UsageError) as error:
        given(**{name: value})
    assert words in "\n".join(error.value.details)
    assert "aiod show toy/v1" in str(error.value)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(UsageError) as error:
        given(diameter="-1", niter="0", mode="slow")
    assert len(error.value.details) == 3


def test_a_model_without_parameters_says_so() -> None:
    with pytest.raises(UsageError, match="the model has no parameters"):
        arguments_for("toy/v1", [], {}, {"diameter": 3})


def test_assignments_are_names_and_values() -> None:
    assert parse_assignments(["a=1", "b = x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    with pytest.raises(UsageError, match="--param diameter=30"):
        parse_assignments(["diameter"])
