"""Steps before and after the model, in their order, each for all results or for a named one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLineEdit,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from aiod.flow.request import read_step
from aiod.flow.steps.after import AFTER
from aiod.flow.steps.before import STEPS
from aiod.flow.steps.calls import HasForm, StepCall, form_of
from aiod.napari.fields import Knob, calm, field_of, knob_of

_NOTHING = "none"
_ADD = "Add a step…"


class StepsEditor(QWidget):
    """A list of steps; `texts` are what `--pre` or `--post` of the command line would be given."""

    changed = Signal()

    def __init__(self, *, before: bool) -> None:
        super().__init__()
        self._before = before
        self._known: Mapping[str, HasForm] = STEPS if before else AFTER
        self.rows: list[StepRow] = []
        self._list = QVBoxLayout()
        self._adder = QComboBox()
        calm(self._adder)
        self._adder.addItem(_ADD)
        for name in (*self._known, _NOTHING):
            self._adder.addItem(_label(name), name)
        self._adder.setToolTip(
            "Steps are done in their order. Those with a name in front belong to a result of that "
            f'name; "{_NOTHING}" with a name is a result without steps of its own.'
        )
        self._adder.activated.connect(self._add_chosen)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(self._list)
        layout.addWidget(self._adder)

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(row.text for row in self.rows)

    def show_texts(self, texts: Sequence[str]) -> None:
        """Show these steps instead. Raises UsageError for one that there is not."""
        read = [read_step(text, is_before=self._before) for text in texts]
        for row in list(self.rows):
            self.remove(row)
        for label, call in read:
            self.add(call.name if call else _NOTHING, label=label or "", call=call)

    def add(self, name: str, *, label: str = "", call: StepCall | None = None) -> StepRow:
        """A new step at the end, with its defaults unless a call says otherwise."""
        row = StepRow(name, self._known.get(name), label, call)
        row.moved.connect(lambda by: self.move_row(row, by))
        row.removed.connect(lambda: self.remove(row))
        row.changed.connect(self.changed.emit)
        self.rows.append(row)
        self._list.addWidget(row)
        self.changed.emit()
        return row

    def remove(self, row: StepRow) -> None:
        self.rows.remove(row)
        self._list.removeWidget(row)
        row.deleteLater()
        self.changed.emit()

    def move_row(self, row: StepRow, by: int) -> None:
        """Bring a step further up or down, as far as there is room."""
        place = min(max(0, self.rows.index(row) + by), len(self.rows) - 1)
        self.rows.remove(row)
        self.rows.insert(place, row)
        self._list.removeWidget(row)
        self._list.insertWidget(place, row)
        self.changed.emit()

    def _add_chosen(self, index: int) -> None:
        name = self._adder.itemData(index)
        self._adder.setCurrentIndex(0)
        if name is not None:
            self.add(name)


class StepRow(QFrame):
    """One step: the result it is for, its parameters, and buttons to move and remove it."""

    changed = Signal()
    moved = Signal(int)
    removed = Signal()

    def __init__(self, name: str, step: HasForm | None, label: str, call: StepCall | None) -> None:
        super().__init__()
        self.setFrameShape(QFrame.Shape.StyledPanel)
        self.name = name
        self.knobs: dict[str, Knob] = {}
        self.label = QLineEdit(label)
        self.label.setPlaceholderText("all results")
        self.label.setToolTip("A name here makes a result of its own with this step.")
        self.label.textChanged.connect(lambda _: self.changed.emit())
        title = QComboBox()
        title.addItem(_label(name))
        title.setEnabled(False)
        head = QHBoxLayout()
        head.addWidget(title, 2)
        head.addWidget(self.label, 2)
        for text, tip, act in (
            ("↑", "Earlier", lambda: self.moved.emit(-1)),
            ("↓", "Later", lambda: self.moved.emit(1)),
            ("✕", "Remove", self.removed.emit),
        ):
            button = QToolButton()
            button.setText(text)
            button.setToolTip(tip)
            button.clicked.connect(lambda _=False, act=act: act())
            head.addWidget(button)
        form = QFormLayout(self)
        form.setContentsMargins(4, 4, 4, 4)
        form.addRow(head)
        for entry in form_of(step.function) if step is not None else ():
            knob = knob_of(field_of(entry))
            if call is not None:
                knob.value = call.params[entry.name]
            knob.widget.changed.connect(self.changed.emit)
            form.addRow(knob.field.label, knob.widget.native)
            self.knobs[entry.name] = knob

    @property
    def text(self) -> str:
        """The step as it is typed."""
        values = {name: knob.value for name, knob in self.knobs.items()}
        step = str(StepCall(self.name, values))
        label = self.label.text().strip()
        return f"{label}={step}" if label else step


def _label(name: str) -> str:
    return name.replace("_", " ").capitalize() if name != _NOTHING else "No step"
