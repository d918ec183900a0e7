"""Fields of forms, made from what the lower floors say of a parameter; nothing is written twice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from magicgui.widgets import create_widget
from qtpy.QtCore import QEvent, QObject, Qt

from aiod.flow.steps.calls import Entry

_MOST = 1e9
_WHOLE = 2**31 - 1
_MOST_PLACES = 10


@dataclass(frozen=True, slots=True)
class Field:
    """One field: `kind` is bool, int, float or str; `optional` ones may be left empty (None)."""

    name: str
    label: str
    kind: type
    value: Any = None
    optional: bool = False
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: tuple[Any, ...] = ()
    tooltip: str = ""


def field_of(entry: Entry) -> Field:
    """The field of a line of a step's form (see `aiod.flow.steps.calls`)."""
    step = _step(entry.kind, entry.default)
    low = entry.bounds.minimum
    if low is None and entry.bounds.above is not None:
        low = entry.bounds.above + step
    return Field(
        name=entry.name,
        label=entry.name.replace("_", " ").capitalize(),
        kind=entry.kind,
        value=entry.default,
        minimum=low,
        maximum=entry.bounds.maximum,
        step=step,
        choices=entry.choices,
        tooltip=entry.text,
    )


@dataclass
class Knob:
    """A field with its widget. Its value is None where an optional one is left to the model."""

    field: Field
    widget: Any

    @property
    def value(self) -> Any:
        found = self.widget.value
        if self.field.optional and self.field.kind in (int, float):
            return None if found <= self.widget.min else found
        if self.field.optional and found == "":
            return None
        return found

    @value.setter
    def value(self, value: Any) -> None:
        if value is None:
            numeric = self.field.kind in (int, float)
            value = self.widget.min if numeric else ""
        elif self.field.kind is float:
            if not math.isfinite(value):
                raise ValueError(f"{value} is no number")
            _give_room(self.widget.native, value)
        self.widget.value = value

    def reset(self) -> None:
        self.value = self.field.value


def knob_of(field: Field) -> Knob:
    """The widget of a field, with its bounds, its step and its tooltip, showing its value."""
    options: dict[str, Any] = {"tooltip": field.tooltip} if field.tooltip else {}
    if field.choices:
        options |= {"choices": list(field.choices)}
    elif field.kind in (int, float):
        options |= _bounds(field)
    knob = Knob(
        field,
        create_widget(annotation=field.kind, name=field.name, label=field.label, options=options),
    )
    calm(knob.widget.native)
    if field.kind is float and not field.choices:
        for number in (knob.widget.step, field.minimum):
            _give_room(knob.widget.native, number or 0.0)
    if field.optional and field.kind in (int, float):
        knob.widget.native.setSpecialValueText("automatic")
    if field.value is not None or field.optional:
        knob.reset()
    return knob


def _bounds(field: Field) -> dict[str, Any]:
    """What a box for numbers is told. The lowest value of an optional one means none."""
    most = _WHOLE if field.kind is int else _MOST
    step = field.step or _step(field.kind, field.value)
    low = -most if field.minimum is None else field.minimum
    return {
        "widget_type": "SpinBox" if field.kind is int else "FloatSpinBox",
        "min": low - step if field.optional else low,
        "max": most if field.maximum is None else field.maximum,
        "step": step,
    }


def calm(widget: Any) -> None:
    """Let the mouse wheel scroll the form: it turns a field only where that was clicked into."""
    widget.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    widget.installEventFilter(_WHEELS)


class _Wheels(QObject):
    def eventFilter(self, widget: Any, event: Any) -> bool:  # noqa: N802 -- Qt's name
        if event.type() == QEvent.Type.Wheel and not widget.hasFocus():
            event.ignore()
            return True
        return False


_WHEELS = _Wheels()


def _give_room(box: Any, number: float) -> None:
    """Have a box for numbers show one as it is, and a place more to type."""
    _, _, places = f"{number:.{_MOST_PLACES}f}".rstrip("0").partition(".")
    box.setDecimals(max(box.decimals(), min(_MOST_PLACES, len(places) + 1)))


def _step(kind: type, value: Any) -> float:
    """One for whole numbers; for others about a twentieth of the value, a round number.

    >>> _step(float, 2.0), _step(float, 0.22), _step(int, 500)
    (0.1, 0.01, 1.0)
    """
    if kind is int:
        return 1.0
    size = abs(value) if isinstance(value, int | float) and value else 1.0
    return float(10 ** math.floor(math.log10(size / 5)))
