"""Steps as text: read, checked against signatures, written back."""

from __future__ import annotations

import doctest
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiod.errors import AiodError, UsageError
from aiod.flow.steps import calls
from aiod.flow.steps.calls import Bounds, HasForm, StepCall, Value, form_of, make_call, parse_call


def blur(
    pixels: Any,
    *,
    sigma: Annotated[float, Bounds(above=0, maximum=9), "how wide"] = 1.0,
    times: Annotated[int, Bounds(minimum=1), "how often"] = 1,
    mode: Literal["near", "far"] = "near",
    deep: bool = False,
) -> None:
    """A step of these tests."""


def plain(pixels: Any) -> None:
    """A step without parameters."""


@dataclass(frozen=True)
class Form:
    function: Any
    check: Any = None


STEPS: dict[str, HasForm] = {
    "blur": Form(blur, lambda *, sigma, times, **_: "too much" if sigma * times > 20 else None),
    "plain": Form(plain),
}


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(calls).failed == 0


def test_a_signature_is_a_form() -> None:
    sigma, times, mode, deep = form_of(blur)
    assert (sigma.name, sigma.kind, sigma.default, sigma.text) == ("sigma", float, 1.0, "how wide")
    assert sigma.bounds == Bounds(above=0, maximum=9)
    assert times.kind is int
    assert (mode.kind, mode.choices) == (str, ("near", "far"))
    assert deep.kind is bool
    assert form_of(plain) == ()


@pytest.mark.parametrize(
    ("text", "given_params"),
    [
        ("blur", {}),
        ("blur:", {}),
        ("blur:2.5", {"sigma": 2.5}),
        (" blur : sigma = 2 , times=3.0", {"sigma": 2.0, "times": 3}),
        ("blur:mode=far,deep=Yes", {"mode": "far", "deep": True}),
        ("blur:3,deep=false", {"sigma": 3.0, "deep": False}),
    ],
)
def test_what_is_not_given_has_its_default(text: str, given_params: dict[str, Value]) -> None:
    defaults: dict[str, Value] = {"sigma": 1.0, "times": 1, "mode": "near", "deep": False}
    assert parse_call(text, STEPS) == StepCall("blur", {**defaults, **given_params})


@given(
    st.floats(0, 9, exclude_min=True),
    st.integers(1, 2),
    st.sampled_from(["near", "far"]),
    st.booleans(),
)
@settings(deadline=None)
def test_a_call_reads_back_from_its_text(sigma: float, times: int, mode: str, deep: bool) -> None:
    call = make_call("blur", {"sigma": sigma, "times": times, "mode": mode, "deep": deep}, STEPS)
    assert parse_call(str(call), STEPS) == call


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("blurr", r"no step called \"blurr\".*blur and plain.*did you mean blur\?"),
        ("", r"no step called"),
        ("blur:sigm=1", r"did you mean sigma\?"),
        ("blur:sigma=0", r"sigma: found \"0\"; expected more than 0"),
        ("blur:sigma=10", r"at most 9"),
        ("blur:times=0", r"at least 1"),
        ("blur:times=1.5", r"expected a whole number"),
        ("blur:sigma=wide", r"expected a number"),
        ("blur:sigma=nan", r"expected a number"),
        ("blur:sigma=inf", r"expected a number"),
        ("blur:sigma=", r"expected a number"),
        ("blur:mode=middle", r"expected near or far"),
        ("blur:deep=maybe", r"true or false"),
        ("blur:sigma=1,2", r"\"2\" where KEY=VALUE was expected.*write it as blur:sigma=1,times=1"),
        ("blur:sigma=1,sigma=2", r"gives sigma twice"),
        ("blur:sigma=9,times=3", r"too much"),
        ("plain:a=1", r"no such parameter; it has none.*write plain alone"),
        ("plain:1", r"where KEY=VALUE was expected"),
        ("blur:" + "9" * 3000, r"letters cannot be meant"),
    ],
)
def test_what_is_wrong_is_said_with_what_is_right(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=f"(?s){said}"):
        parse_call(text, STEPS)


@pytest.mark.parametrize("value", [True, None, [1], {}, 10**400])
def test_values_of_other_kinds_are_no_numbers(value: object) -> None:
    with pytest.raises(UsageError, match="expected a number"):
        make_call("blur", {"sigma": value}, STEPS)


@given(st.text(max_size=40).map(lambda rest: "blur:" + rest) | st.text(max_size=40))
@settings(deadline=None)
def test_any_text_is_a_call_or_a_sentence(text: str) -> None:
    try:
        assert parse_call(text, STEPS).name in STEPS
    except AiodError as error:
        if not error.what.endswith("."):
            raise
