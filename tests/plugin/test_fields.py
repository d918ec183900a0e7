"""Fields hold what a form says of them: type, bounds, choices, and none where that is allowed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest

from aiod.flow.steps.calls import Bounds, form_of
from aiod.napari.fields import Field, field_of, knob_of


def step(
    image: Any,
    *,
    sigma: Annotated[float, Bounds(above=0, maximum=100), "pixels"] = 2.0,
    count: Annotated[int, Bounds(minimum=3)] = 5,
    how: Literal["mean", "most"] = "most",
    whole: bool = True,
) -> Any: ...


def test_each_parameter_of_a_step_is_a_field_with_its_bounds(qtbot: Any) -> None:
    knobs = {entry.name: knob_of(field_of(entry)) for entry in form_of(step)}
    assert {name: knob.value for name, knob in knobs.items()} == {
        "sigma": 2.0,
        "count": 5,
        "how": "most",
        "whole": True,
    }
    sigma = knobs["sigma"].widget
    assert sigma.min == pytest.approx(0.1)
    assert sigma.max == 100
    assert sigma.tooltip == "pixels"
    assert knobs["count"].widget.min == 3
    assert tuple(knobs["how"].widget.choices) == ("mean", "most")


def test_a_value_out_of_bounds_cannot_be_entered(qtbot: Any) -> None:
    knob = knob_of(Field("n", "N", float, 2.0, minimum=1, maximum=3))
    with pytest.raises(ValueError):
        knob.value = 4.0


@pytest.mark.parametrize(("kind", "given"), [(float, 24.5), (int, 24), (str, "DAPI")])
def test_an_optional_field_is_empty_until_something_is_given(
    qtbot: Any, kind: type, given: Any
) -> None:
    knob = knob_of(Field("diameter", "Diameter", kind, None, optional=True, minimum=2))
    assert knob.value is None
    knob.value = given
    assert knob.value == given
    knob.reset()
    assert knob.value is None
