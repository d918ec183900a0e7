"""A form of a function: a knob for each of its parameters, one below the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QWidget

from aiod.flow.steps.calls import form_of
from aiod.napari.fields import Knob, field_of, knob_of


class Knobs(QWidget):
    """The knobs of a function's keyword-only parameters, by name; `changed` tells of each turn."""

    changed = Signal()

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.knobs: dict[str, Knob] = {}
        layout = rows()
        self.setLayout(layout)
        for entry in form_of(function):
            knob = knob_of(field_of(entry))
            self.knobs[entry.name] = knob
            layout.addRow(knob.field.label, knob.widget.native)
            knob.widget.changed.connect(self._tell)

    @property
    def values(self) -> dict[str, Any]:
        """The parameters as the function takes them."""
        return {name: knob.value for name, knob in self.knobs.items()}

    def _tell(self, _: Any) -> None:
        self.changed.emit()


def rows() -> QFormLayout:
    """Labels at the left, fields at the right as wide as there is room."""
    layout = QFormLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    return layout
