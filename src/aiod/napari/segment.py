"""The widget that segments: any model of the registry on a layer or on files.

It holds no pipeline: what is filled in becomes a request, which a process of its own does (see
`aiod.flow.host`); what that tells is shown.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtCore import QEvent, QSize, Qt, Signal
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QScrollArea, QVBoxLayout, QWidget

from aiod.errors import AiodError, UsageError
from aiod.flow.command import command_of
from aiod.flow.protocol import Message
from aiod.flow.record import ImageRecord, RunRecord
from aiod.flow.request import Request, step_sets
from aiod.napari.adding import warm_up
from aiod.napari.background import in_another_turn, in_background
from aiod.napari.form import RunForm, buttons, of_picture
from aiod.napari.growing import Growing
from aiod.napari.notice import Notice, Report, in_a_window
from aiod.napari.picture import Seen, picture_of
from aiod.napari.progress import Outcome, Progress
from aiod.napari.region import region_in_view
from aiod.napari.results import (
    Frame,
    Shown,
    labels_of_run,
    previews,
    show_prepared,
    show_preview,
)
from aiod.napari.work import COPIES, Asked, Work
from aiod.words import byte_size, counted, printable

_MOST_PREVIEWED = 2048
"""Pixels of Y and X that a look takes at most, in the middle of what is in view."""
_SECONDS_AT_REST = 1.0
"""After the widget was opened, until the window is held up once so that no run has to."""
_HINT = (
    "Open an image, or File > Open Sample > AI OnDemand. Then press Preview to try the model on "
    "what you see, and Run for all of it."
)


class Segment(QWidget):
    """The form of a run, from the model to its results."""

    done = Signal()
    """What was asked for has ended, well or not."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._work = Work()
        self._growing = Growing(napari_viewer, None, self)
        self._looks: list[Any] = []
        self._several = self._docked = False
        self.form = RunForm(napari_viewer)
        self.notice, self.progress, self.table = Notice(), Progress(), Outcome()
        self._report = Report(self.notice)
        self._lay_out()
        self.form.failed.connect(self.notice.fail)
        self._work.began.connect(self._begin)
        self._work.told.connect(self._hear)
        self._work.failed.connect(self._note_problem)
        self._work.ended.connect(self._end)
        self._set_busy(busy=False)
        self.destroyed.connect(partial(Work.close, self._work))  # which it keeps until then
        if self.form.source.layer is None:
            self.notice.say(_HINT)
        in_another_turn(warm_up, asker=self, after=_SECONDS_AT_REST)

    # --- what is asked for ----------------------------------------------------------------------

    def run(self) -> None:
        """Segment all of the image, or the files."""
        self._ask("run")

    def preview(self) -> None:
        """Segment what is in view of the layer."""
        self._ask("preview")

    def plan(self) -> None:
        """Say what a run would do: tiles, memory, and how long it may take."""
        self._ask("plan")

    def cancel(self) -> None:
        """Stop what is under way; what is finished is kept."""
        if self._work.stop():
            self.progress.setFormat("stopping…")

    @property
    def busy(self) -> bool:
        """Whether something is under way."""
        return self._work.busy

    @property
    def pid(self) -> int | None:
        """The number of the process that does the work, while it runs."""
        return self._work.pid

    def tell_command(self, hear: Callable[[str], Any]) -> None:
        """Call `hear` with the lines of a terminal that do the same. Raises AiodError."""
        seen, request = self.form.source.seen, self.form.request()
        if not seen:
            hear(shlex.join(command_of(request)))
            return

        def lines() -> str:
            pictures = [picture_of(each, Path.home() / COPIES) for _, each in seen]
            return "\n".join(shlex.join(command_of(of_picture(request, p))) for p in pictures)

        in_background(lines, hear, self.notice.fail, asker=self)

    def _ask(self, do: str) -> None:
        """Check the form, then ask the process: for each layer, one after the other."""
        if self.busy:
            return
        self._report.begin()
        try:
            seen = self.form.source.seen
            if do == "preview" and not seen:
                raise UsageError(
                    "A preview is of what you see.", hint="choose an image layer above"
                )
            request = self.form.request()
        except AiodError as error:
            self.notice.fail(error)
            self.done.emit()
            return
        self._several = len(seen) > 1
        asked = [] if seen else [Asked(do, request)]
        for layer, each in seen:
            try:
                asked.append(self._asked(do, request, layer, each))
            except AiodError as error:  # the others can be looked at all the same
                self._report.add_problem(layer.name, error)
        if do == "run":
            self.table.begin()
        self._set_busy(busy=True)
        self._work.begin(asked)

    def _asked(self, do: str, request: Request, layer: Any, seen: Seen) -> Asked:
        frame, region = Frame.of(layer, seen.drawn_axes), None
        if do == "preview":
            region = region_in_view(self._viewer, layer, seen.drawn_axes, _MOST_PREVIEWED)
        model = self.form.choice.model
        sets = step_sets(request.before, request.after, model.task) if model else ()
        return Asked(do, request, seen, frame, region, tuple(steps.name for steps in sets))

    # --- what is told ---------------------------------------------------------------------------

    def _begin(self, asked: Asked) -> None:
        last, growing = self._growing, Growing(self._viewer, asked.frame, self)
        self._growing = growing
        self.progress.begin(f"reading {printable(asked.seen.name)}…" if asked.seen else "")
        try:
            last.end()
            if asked.do == "run":
                growing.begin(asked.sets)
        finally:  # whatever other plugins think of it
            growing.then(partial(self._work.start, asked))  # reading slows the window

    def _hear(self, asked: Asked, message: Message) -> None:
        said = message.said
        match said.get("event"):
            case "step":
                self.progress.show_step(said)
            case "note":
                self.notice.say(in_a_window(said["text"]), kind="warning")
            case "tile":
                self._growing.add(message)
            case "prepared" if asked.frame is not None:
                show_prepared(self._viewer, asked.frame, message, self)
            case "preview" if asked.frame is not None:
                self._show_look(asked.frame, message)
            case "plan":
                self._show_plan(said)
            case "done":
                self._show_done(asked, said)

    def _show_look(self, frame: Frame, message: Message) -> None:
        show_preview(self._viewer, frame, message, self)
        said = message.said
        found = "" if said["objects"] is None else f"{counted(said['objects'], 'object')} in view, "
        self._report.add(f"{said['set']}: {found}{said['seconds']:.1f} s of the model.")
        self._report.show(several=self._several)

    def _show_plan(self, said: Mapping[str, Any]) -> None:
        plan = said["plan"]
        memory = max((row["memory"] for row in plan["rows"]), default=0)
        lines = [
            f"{row['sample']}: {row['shape']}, {counted(row['tiles'], 'tile')} of {row['tile']}, "
            f"halo {row['halo']}, {byte_size(row['memory'])} a worker"
            for row in plan["rows"]
        ]
        sentence = f"{said['sentence']} {byte_size(memory)} a worker beside the model."
        left_out = [in_a_window(error) for error in plan["errors"]]
        self._report.add(sentence, "\n".join([*lines, *plan["notes"]]), warnings=left_out)
        self._work.go_on()

    def _show_done(self, asked: Asked, said: Mapping[str, Any]) -> None:
        if "record" not in said:
            self._work.go_on()
            return
        record, folder = (
            RunRecord.model_validate(dict(said["record"]), strict=False),
            said["folder"],
        )
        # The folder may hold other images too, of the same settings.
        images = [image for image in record.images if image.sample in said["samples"]]
        finish = partial(self._finish, asked, images, Path(folder))
        if asked.frame is None:
            finish()
            return
        in_background(
            partial(labels_of_run, Path(folder), images, asked.frame, self._growing.make_room()),
            partial(self._show_labels, asked, Path(folder), finish),
            partial(self._work.fail, asked),
            asker=self,
        )

    def _show_labels(
        self, asked: Asked, folder: Path, finish: Callable[[], object], shown: Sequence[Shown]
    ) -> None:
        """Show label images and hide looks at parts, then finish.

        Each in another turn of Qt's loop, which else would draw them all before anybody is heard.
        The looks go when all is done: napari takes a fifth of a second to remove a layer.
        """
        assert asked.frame is not None
        growing = self._growing
        acts: list[Callable[[], object]] = [partial(growing.finish, each) for each in shown]
        looks = previews(self._viewer, asked.frame, self)
        acts += [partial(self._hide, layer) for layer in looks]

        def act() -> None:
            if asked is not self._work.current:
                return
            if not acts:
                finish()
                return
            try:
                acts.pop(0)()
            except Exception as error:  # noqa: BLE001 -- of napari or of another plugin
                what = f"The labels are in {_from_home(folder)}, but napari cannot show them"
                self._work.fail(asked, AiodError(f"{what}: {error}."))
                return
            in_another_turn(act, asker=self)

        in_another_turn(act, asker=self)

    def _hide(self, look: Any) -> None:
        self._looks.append(look)
        look.visible = False

    def _take_looks(self) -> None:
        """Take hidden looks away, each in a turn of its own."""
        look = self._looks.pop() if self._looks else None
        if look in self._viewer.layers:
            self._viewer.layers.remove(look)
        if self._looks:
            in_another_turn(self._take_looks, asker=self)

    def _finish(self, asked: Asked, images: Sequence[ImageRecord], folder: Path) -> None:
        self.table.add(images)
        failed = [image for image in images if image.status != "done"]
        if failed:
            what = f"{counted(len(failed), 'image')} of {len(images)} could not be finished."
            details = [f"{image.sample}: {image.error}" for image in failed]
            if len(images) == 1:
                what, *details = str(failed[0].error).splitlines()
            self._work.fail(asked, AiodError(what, details=details))
            return
        said = [*(w for i in images for w in i.findings), *(w for i in images for w in i.warnings)]
        warnings = [in_a_window(f"{w[0].upper()}{w[1:]}") for w in said]
        self._report.add(f"Done. Results in {_from_home(folder)}", warnings=warnings)
        self._work.go_on()

    def _note_problem(self, asked: Asked, error: BaseException) -> None:
        self._report.add_problem(asked.frame.layer if asked.frame else "", error)

    def _end(self, stopped: bool) -> None:
        """Be ready for what is asked next."""
        if stopped:
            self._report.only("Stopped. Run goes on where it was.")
        self._set_busy(busy=False)
        self._report.show(several=self._several)
        self._growing.end()
        in_another_turn(self._take_looks, asker=self)
        self.done.emit()

    # --- how it looks ---------------------------------------------------------------------------

    def _lay_out(self) -> None:
        body = QWidget()
        column = QVBoxLayout(body)
        column.setContentsMargins(0, 0, 0, 0)
        column.setAlignment(Qt.AlignmentFlag.AlignTop)
        column.addWidget(self.form)
        column.addLayout(
            buttons(
                ("Plan", "What a run would do: tiles, memory, about how long", self.plan),
                ("Copy command", "The line of a terminal that does the same", self._copy),
                ("Load…", "All of this form from a project file", self.form.ask_to_load),
                ("Save…", "All of this form to a project file", self.form.ask_to_save),
            )
        )
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setFrameShape(QScrollArea.Shape.NoFrame)
        area.setWidget(body)
        self.preview_button = QPushButton("Preview")
        self.preview_button.setToolTip("Segment what you see, to try parameters")
        self.run_button = QPushButton("Run")
        self.run_button.setToolTip("Segment all of it")
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip("Stop; Run goes on where it was")
        row = QHBoxLayout()
        for button, act in (
            (self.preview_button, self.preview),
            (self.run_button, self.run),
            (self.cancel_button, self.cancel),
        ):
            button.clicked.connect(lambda _=False, act=act: act())
            row.addWidget(button)
        layout = QVBoxLayout(self)
        layout.addWidget(area, 1)
        layout.addLayout(row)
        layout.addWidget(self.progress)
        layout.addWidget(self.notice)
        layout.addWidget(self.table)
        self.setMinimumWidth(340)

    def event(self, event: Any) -> bool:
        """Napari only takes a widget out of a dock that is closed: then the work ends with it."""
        if event.type() == QEvent.Type.ParentChange and hasattr(self, "_docked"):
            if self._docked and self.parent() is None:
                self._work.close()
                self._growing.end()  # what has come is the user's
                while self._looks:
                    self._take_looks()
                self.deleteLater()
            self._docked = self.parent() is not None
        return bool(super().event(event))

    def sizeHint(self) -> QSize:  # noqa: N802 -- Qt's name
        """As wide as its fields need, beside an image that wants the room."""
        return QSize(380, 700)

    def _set_busy(self, *, busy: bool) -> None:
        for button in (self.preview_button, self.run_button):
            button.setEnabled(not busy)
        self.cancel_button.setEnabled(busy)
        self.progress.setVisible(busy)

    def _copy(self) -> None:
        self._tried(lambda: self.tell_command(self._put))

    def _put(self, line: str) -> None:
        QGuiApplication.clipboard().setText(line)
        self.notice.say("Copied.", details=line)

    def _tried(self, act: Any) -> None:
        self.notice.clear()
        try:
            act()
        except AiodError as error:
            self.notice.fail(error)


def _from_home(path: Path) -> str:
    """A path as people say it: ~ for their home."""
    home = Path.home()
    return str(Path("~", path.relative_to(home)) if path.is_relative_to(home) else path)
