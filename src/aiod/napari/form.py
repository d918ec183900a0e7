"""All that is filled in before a run: model, image, parameters, steps, place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget
from superqt import QCollapsible

from aiod.errors import AiodError, UsageError
from aiod.flow.profiles import profile_files
from aiod.flow.request import Request
from aiod.napari.choice import ModelChoice
from aiod.napari.parameters import ParameterForm
from aiod.napari.picture import Picture
from aiod.napari.place import PlaceForm
from aiod.napari.project import (
    Project,
    load_parameters,
    load_project,
    save_parameters,
    save_project,
)
from aiod.napari.source import SourceForm
from aiod.napari.steps import StepsEditor
from aiod.registry import load
from aiod.words import listing, printable

_YAML = "Settings (*.yaml *.yml)"


class RunForm(QWidget):
    """The parts of the form below each other; `request` is what they say together.

    `failed` tells of an AiodError that came of what the user clicked here.
    """

    failed = Signal(object)

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self.registry = load()
        self.choice = ModelChoice(self.registry)
        self.source = SourceForm(viewer)
        self.parameters = ParameterForm()
        self.before, self.after = StepsEditor(before=True), StepsEditor(before=False)
        self.place = PlaceForm(list(profile_files(self.registry.layers)))
        self.place.failed.connect(self.failed)
        self.choice.chosen.connect(self._show_parameters)
        self.source.turned.connect(self._show_channels)
        self._lay_out()
        self._show_parameters()

    def request(self, *, complete: bool = True) -> Request:
        """What the form says; a layer goes by its name. Raises AiodError.

        Where it need not be `complete` it may be of no image.
        """
        model = self.choice.model
        if model is None:
            raise UsageError("No model is chosen.", hint="choose a task and a model above")
        options = {**self.source.options, **self.place.options}
        if complete and not options["inputs"]:
            raise UsageError("There is no image.", hint="open one, or name files above")
        return Request(
            model=model.id,
            params=self.parameters.given,
            before=self.before.texts,
            after=self.after.texts,
            **options,
        )

    def reload(self) -> None:
        """Read the registry again: a manifest may have come or changed."""
        self.registry = load()
        self.choice.show_registry(self.registry)

    def save_project(self, path: Path) -> None:
        """Write all that the form says. Raises AiodError."""
        source = self.source
        together = source.chosen is not None and source.chosen.together
        request, cache = self.request(complete=False), self.place.cache.text()
        save_project(path, Project(request, source.names, together=together, cache=cache))

    def load_project(self, path: Path) -> None:
        """Show what was saved. Raises AiodError, and shows what it can."""
        project = load_project(path)
        request = project.request
        if request.model is not None:
            self.choice.choose(request.model)
        options = {name: getattr(request, name) for name in Request.__dataclass_fields__}
        try:
            paths = [str(path) for path in request.inputs]
            self.source.choose(*project.layers, together=project.together, paths=paths)
            self.source.show_options(options)
            self.before.show_texts(request.before)
            self.after.show_texts(request.after)
            self.place.show_options(options)
            self.place.show_cache(project.cache)
        except (ValueError, TypeError, OverflowError) as error:
            raise UsageError(f"{path} holds what cannot be: {str(error)[:200]}.") from error
        self._refuse(self.parameters.give(request.params))

    def save_parameters(self, path: Path) -> None:
        save_parameters(path, self.parameters.given)

    def load_parameters(self, path: Path) -> None:
        """Show parameters from a file. Raises UsageError for those that the model has not."""
        self._refuse(self.parameters.give(load_parameters(path)))

    def _refuse(self, wrong: Sequence[str]) -> None:
        if wrong:
            raise UsageError(
                f"The model cannot take {listing(map(printable, wrong), 'and')} from this file.",
                hint="the other settings are shown",
            )

    def _show_parameters(self) -> None:
        model = self.choice.model
        found = self.registry.params_for(model) if model is not None else ()
        self.parameters.build(found, self.source.names_of_channels)

    def _show_channels(self) -> None:
        """Another image has other channels to pick; all else stays as it was filled in."""
        given = self.parameters.given
        self._show_parameters()
        self.parameters.give(given)

    # --- files --------------------------------------------------------------------------------

    def ask_to_load(self) -> None:
        """Have the user choose a project, and show it."""
        self._with_path(QFileDialog.getOpenFileName, "Load a form", self.load_project)

    def ask_to_save(self) -> None:
        """Have the user say where all of the form is written."""
        self._with_path(QFileDialog.getSaveFileName, "Save the form", self.save_project)

    def _ask_to_load_parameters(self) -> None:
        self._with_path(QFileDialog.getOpenFileName, "Load parameters", self.load_parameters)

    def _ask_to_save_parameters(self) -> None:
        self._with_path(QFileDialog.getSaveFileName, "Save parameters", self.save_parameters)

    def _with_path(self, ask: Any, title: str, act: Callable[[Path], None]) -> None:
        path, _ = ask(self, title, "", _YAML)
        if path:
            try:
                act(Path(path))
            except AiodError as error:
                self.failed.emit(error)

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setAlignment(Qt.AlignmentFlag.AlignTop)
        column.addWidget(self.choice)
        column.addWidget(self.source)
        heading = QLabel("Parameters")
        font = heading.font()
        font.setBold(True)
        heading.setFont(font)
        column.addWidget(heading)
        column.addWidget(self.parameters)
        column.addLayout(
            buttons(
                ("Defaults", "The values of the model's manifest", self.parameters.reset),
                ("Load…", "Parameters from a YAML file", self._ask_to_load_parameters),
                ("Save…", "Parameters to a YAML file", self._ask_to_save_parameters),
            )
        )
        for title, part in (
            ("Before the model", self.before),
            ("After the model", self.after),
            ("Where", self.place),
        ):
            fold = QCollapsible(title)
            fold.addWidget(part)
            column.addWidget(fold)


def of_picture(request: Request, picture: Picture) -> Request:
    """A request of a layer as one of the file that holds it, which says its axes and pixel size."""
    channels = picture.channels or request.channels
    if len(picture.channels) > 1 and request.channels:  # of layers that are the file's channels
        channels = tuple(picture.channels[int(number) - 1] for number in request.channels)
    return replace(
        request,
        inputs=(str(picture.path),),
        channels=channels,
        axes=None,
        pixel_size=None,
    )


def buttons(*entries: tuple[str, str, Callable[[], Any]]) -> QHBoxLayout:
    """Buttons in a row: what stands on them, what that means, what it does."""
    row = QHBoxLayout()
    for text, tip, act in entries:
        button = QPushButton(text)
        button.setToolTip(tip)
        button.clicked.connect(lambda _=False, act=act: act())
        row.addWidget(button)
    return row
