"""The form of a model's parameters, made from its manifest when the model is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QLabel, QVBoxLayout, QWidget
from superqt import QCollapsible

from aiod.flow.params import kind_of
from aiod.napari.fields import Field, Knob, knob_of
from aiod.registry import Parameter
from aiod.registry.catalogue import default_of

_KINDS: Mapping[str, type] = {"int": int, "float": float, "bool": bool}
_FIRST_CHANNEL = "original"


class ParameterForm(QWidget):
    """A field for each parameter; the advanced ones are folded away."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.knobs: dict[str, Knob] = {}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._parts: list[QWidget] = []

    def build(self, parameters: Sequence[Parameter], channels: Sequence[str] = ()) -> None:
        """Show these parameters with their defaults; `channels` are those of the image."""
        for part in self._parts:
            self.layout().removeWidget(part)
            part.deleteLater()
        self._parts, self.knobs = [], {}
        plain = [each for each in parameters if not each.advanced]
        advanced = [each for each in parameters if each.advanced]
        if plain:
            self._add(self._page(plain, channels))
        if advanced:
            fold = QCollapsible("Advanced")
            fold.addWidget(self._page(advanced, channels))
            self._add(fold)
        if not parameters:
            self._add(QLabel("This model has nothing to set."))

    @property
    def given(self) -> dict[str, Any]:
        """The values that are not the defaults, by argument name."""
        return {name: k.value for name, k in self.knobs.items() if k.value != k.field.value}

    def give(self, values: Mapping[str, Any]) -> list[str]:
        """Show these values, the defaults of all others; the names of those that do not fit."""
        self.reset()
        wrong = []
        for name, value in values.items():
            try:
                self.knobs[name].value = value
            except (KeyError, ValueError, TypeError):
                wrong.append(name)
        return wrong

    def reset(self) -> None:
        """Show the defaults."""
        for knob in self.knobs.values():
            knob.reset()

    def _page(self, parameters: Sequence[Parameter], channels: Sequence[str]) -> QWidget:
        page = QWidget()
        form = QFormLayout(page)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for parameter in parameters:
            knob = knob_of(field_of_parameter(parameter, channels))
            knob.widget.changed.connect(self.changed.emit)
            label = QLabel(knob.field.label)
            label.setWordWrap(True)
            label.setToolTip(knob.field.tooltip)
            form.addRow(label, knob.widget.native)
            self.knobs[knob.field.name] = knob
        return page

    def _add(self, part: QWidget) -> None:
        self.layout().addWidget(part)
        self._parts.append(part)


def field_of_parameter(parameter: Parameter, channels: Sequence[str] = ()) -> Field:
    """The field of a manifest's parameter. Lists are typed as text, such as [1, 2]."""
    kind = kind_of(parameter)
    unit = f" ({parameter.unit})" if parameter.unit else ""
    default = default_of(parameter)
    choices: tuple[Any, ...] = ()
    if parameter.param_type == "channel":
        choices = tuple(_channel_choices(parameter, channels))
    elif isinstance(parameter.value, list) and kind not in ("list", "tuple"):
        choices = tuple(parameter.value)
    return Field(
        name=parameter.arg_name or parameter.name,
        label=parameter.name + unit,
        kind=_KINDS.get(kind, str),
        value=default if kind not in ("list", "tuple") or default is None else str(default),
        optional=parameter.value is None,
        minimum=parameter.minimum,
        maximum=parameter.maximum,
        step=parameter.step,
        choices=choices,
        tooltip=parameter.tooltip or "",
    )


def _channel_choices(parameter: Parameter, channels: Sequence[str]) -> list[tuple[str, int]]:
    """What a channel may be: the model's own first entry, then the channels of the image."""
    first = -1 if parameter.channel_start is None else parameter.channel_start
    default = default_of(parameter)
    count = max(len(channels), default - first if isinstance(default, int) else 0)
    names = [channels[n] if n < len(channels) else f"channel {n + 1}" for n in range(count)]
    entries = [parameter.channel_start_label or _FIRST_CHANNEL, *names]
    return [(name, first + n) for n, name in enumerate(entries)]
