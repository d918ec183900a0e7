"""The widget that segments: any model of the registry on a layer or on files.

It holds no pipeline: what is filled in becomes a request, which a process of its own does (see
`aiod.flow.host`); what that tells is shown.
"""

from __future__ import annotations

import shlex
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtCore import QEvent, QObject, QSize, Qt, QTimer, Signal
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import (
    QHBoxLayout,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from aiod.errors import AiodError, UsageError
from aiod.flow.command import command_of
from aiod.flow.hosted import Hosted
from aiod.flow.protocol import Message, request_to_json
from aiod.flow.record import ImageRecord, RunRecord
from aiod.flow.request import Request
from aiod.flow.run import OUT
from aiod.napari.background import in_background
from aiod.napari.form import RunForm, buttons, of_picture
from aiod.napari.notice import Notice, in_a_window, sentence_of
from aiod.napari.picture import Picture, Seen, picture_of
from aiod.napari.region import region_in_view
from aiod.napari.results import (
    Frame,
    Growing,
    Shown,
    labels_of_run,
    previews,
    show_prepared,
    show_preview,
)
from aiod.words import byte_size, counted, printable

_PATIENCE = 2500
"""Milliseconds after which a stop that is not heard of ends the process."""
_MOST_PREVIEWED = 2048
"""Pixels of Y and X that a look takes at most, in the middle of what is in view."""
_COPIES = Path("aiod-out", "images")
_HINT = (
    "Open an image, or File > Open Sample > AI OnDemand. Then press Preview to try the model on "
    "what you see, and Run for all of it."
)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is asked for: of a layer, as it was and lay then, or of the request's own files."""

    do: str
    request: Request
    seen: Seen | None = None
    frame: Frame | None = None
    region: Mapping[str, tuple[int, int]] | None = None


class _Ear(QObject):
    """Brings messages from the thread that reads them to the window's."""

    heard = Signal(object)


class Segment(QWidget):
    """The form of a run, from the model to its results."""

    done = Signal()
    """What was asked for has ended, well or not."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._ear = _Ear()
        self._ear.heard.connect(self._hear)
        self._hosted = Hosted(self._ear.heard.emit, folder=Path.home())
        self._id = 0
        self._busy = self._sent = self._stopping = False
        self._waiting: deque[_Asked] = deque()
        self._frame: Frame | None = None
        self._growing = Growing(napari_viewer, None, self)
        self._begun: dict[str, tuple[float, int]] = {}
        self._said: list[tuple[str, str]] = []
        self._problems: list[tuple[str, BaseException]] = []
        self._several = False
        self._stems: set[str] = set()
        self._docked = False
        self.form = RunForm(napari_viewer)
        self.notice = Notice()
        self.progress = QProgressBar()
        self.table = QTableWidget(0, 3)
        self._lay_out()
        self.form.failed.connect(self.notice.fail)
        self._set_busy(busy=False)
        self.destroyed.connect(partial(_close, self._hosted))
        if self.form.source.layer is None:
            self.notice.say(_HINT)

    # --- what is asked for ----------------------------------------------------------------------

    def run(self) -> None:
        """Segment all of the image, or the files."""
        self._ask("run")

    def preview(self) -> None:
        """Segment what is in view of the layer."""
        self._ask("preview")

    def plan(self) -> None:
        """Say what a run would do: tiles and memory."""
        self._ask("plan")

    def cancel(self) -> None:
        """Stop what is under way; what is finished is kept."""
        self._waiting.clear()
        if self._busy and self._sent:
            self._hosted.stop()
            self._stopping = True
            self.progress.setFormat("stopping…")
            QTimer.singleShot(_PATIENCE, partial(self._insist, self._id))
        elif self._busy:  # the layer is still being read
            self._id += 1
            self._stopped()

    def _insist(self, number: int) -> None:
        """End the process where it does not hear of a stop, as while packages come in."""
        if self._busy and self._stopping and number == self._id:
            self._hosted.kill()

    @property
    def busy(self) -> bool:
        """Whether something is under way."""
        return self._busy

    def tell_command(self, hear: Callable[[str], Any]) -> None:
        """Call `hear` with the lines of a terminal that do the same. Raises AiodError."""
        seen, request = self.form.source.seen, self.form.request()
        if not seen:
            hear(shlex.join(command_of(request)))
            return

        def lines() -> str:
            pictures = [picture_of(each, Path.home() / _COPIES) for _, each in seen]
            return "\n".join(shlex.join(command_of(of_picture(request, p))) for p in pictures)

        in_background(lines, hear, self.notice.fail, asker=self)

    def _ask(self, do: str) -> None:
        """Check the form, then ask the process: for each layer, one after the other."""
        if self._busy:
            return
        self.notice.clear()
        try:
            seen = self.form.source.seen
            if do == "preview" and not seen:
                raise UsageError(
                    "A preview is of what you see.", hint="choose an image layer above"
                )
            request = self.form.request()
            asked = [self._asked(do, request, layer, each) for layer, each in seen]
        except AiodError as error:
            self.notice.fail(error)
            self.done.emit()
            return
        self._waiting = deque(asked or [_Asked(do, request)])
        self._said.clear()
        self._problems.clear()
        self._stems.clear()
        self._several = len(asked) > 1
        if do == "run":
            self.table.setRowCount(0)
        self._set_busy(busy=True)
        self._next()

    def _asked(self, do: str, request: Request, layer: Any, seen: Seen) -> _Asked:
        frame, region = Frame.of(layer, seen.drawn_axes), None
        if do == "preview":
            region = region_in_view(self._viewer, layer, seen.drawn_axes, _MOST_PREVIEWED)
        return _Asked(do, request, seen, frame, region)

    def _next(self) -> None:
        """Have the pixels of the next layer in a file, then ask the process."""
        asked = self._waiting.popleft()
        self._begun.clear()
        self._frame = asked.frame
        self._growing = Growing(self._viewer, self._frame, self)
        self._id += 1
        self._sent = self._stopping = False
        number = self._id
        if asked.seen is None:
            self._send(number, asked, asked.request)
            return
        self.progress.setRange(0, 0)
        self.progress.setFormat(f"reading {printable(asked.seen.name)}…")
        in_background(
            partial(picture_of, asked.seen, Path.home() / _COPIES),
            lambda picture: self._send(number, asked, self._apart(asked, picture)),
            lambda error: self._end(error) if number == self._id else None,
            asker=self,
        )

    def _apart(self, asked: _Asked, picture: Picture) -> Request:
        """The request of a layer; with others it needs a folder of its own where they would clash.

        That is where files are called alike, or where the settings name other channels.
        """
        request = of_picture(asked.request, picture)
        stem = picture.path.stem
        clash = stem in self._stems or request.out is not None
        self._stems.add(stem)
        if not (self._several and clash and asked.seen):
            return request
        own = "".join(c if c.isalnum() or c in "-_" else "_" for c in asked.seen.name)
        return replace(request, out=(request.out or Path.home() / OUT) / own)

    def _send(self, number: int, asked: _Asked, request: Request) -> None:
        """Ask for what the form said when the button was pressed, unless it was cancelled since."""
        if number != self._id or not self._busy:
            return
        said = {"id": number, "do": asked.do, "request": request_to_json(request)}
        self._sent = True
        self._hosted.ask({**said, "region": asked.region, "command": command_of(request)})

    # --- what is told ---------------------------------------------------------------------------

    def _hear(self, message: Message) -> None:
        said = message.said
        if said.get("event") != "lost" and said.get("id") != self._id:
            return
        match said.get("event"):
            case "step":
                self._show_step(said)
            case "note":
                self.notice.say(in_a_window(said["text"]), kind="warning")
            case "tile":
                self._growing.add(message)
            case "prepared":
                if self._frame is not None:
                    show_prepared(self._viewer, self._frame, message, self)
            case "preview":
                self._show_look(message)
            case "plan":
                self._show_plan(said)
            case "done":
                self._show_done(said)
            case "stopped":
                self._growing.refresh()
                self._stopped()
            case "failed":
                self._end(_error_of(said))
            case "lost" if self._stopping:
                self._stopped()
            case "lost" if self._busy:
                self._end(
                    AiodError(
                        "The process that does the work was lost.",
                        details=[str(said.get("words", ""))],
                        hint="press Run again: what is finished is kept",
                    )
                )

    def _show_step(self, said: Mapping[str, Any]) -> None:
        what, done, total, unit = (said[key] for key in ("what", "done", "total", "unit"))
        now = time.monotonic()
        first, already = self._begun.setdefault(what, (now, done))
        rate = (done - already) / (now - first) if now > first else 0.0
        # A bar draws itself at once, and all of the window with it: here it waits for its turn.
        self.progress.setUpdatesEnabled(False)
        self.progress.setRange(0, 1000 if total else 0)
        self.progress.setFormat(_progress_words(what, done, total, unit, rate))
        self.progress.setValue(int(1000 * done / total) if total else 0)
        self.progress.setUpdatesEnabled(True)

    def _show_look(self, message: Message) -> None:
        if self._frame is None:
            return
        show_preview(self._viewer, self._frame, message, self)
        said = message.said
        found = "" if said["objects"] is None else f"{counted(said['objects'], 'object')} in view, "
        self._said.append((f"{said['set']}: {found}{said['seconds']:.1f} s of the model.", ""))
        self._say()

    def _show_plan(self, said: Mapping[str, Any]) -> None:
        plan = said["plan"]
        memory = max((row["memory"] for row in plan["rows"]), default=0)
        lines = [
            f"{row['sample']}: {row['shape']}, {counted(row['tiles'], 'tile')} of {row['tile']}, "
            f"halo {row['halo']}, {byte_size(row['memory'])} a worker"
            for row in plan["rows"]
        ]
        sentence = f"{said['sentence']} {byte_size(memory)} a worker beside the model."
        self._said.append((sentence, "\n".join([*lines, *plan["notes"], *plan["errors"]])))
        self._end()

    def _show_done(self, said: Mapping[str, Any]) -> None:
        if "record" not in said:
            self._end()
            return
        record = RunRecord.model_validate(dict(said["record"]), strict=False)
        folder, number = Path(said["folder"]), self._id
        # The folder may hold other images too, of the same settings.
        images = [image for image in record.images if image.sample in said["samples"]]
        if self._frame is None:
            self._finish(images, folder, ())
            return
        in_background(
            partial(labels_of_run, folder, images, self._frame),
            lambda shown: self._finish(images, folder, shown) if number == self._id else None,
            lambda error: self._end(error) if number == self._id else None,
            asker=self,
        )

    def _finish(self, images: Sequence[ImageRecord], folder: Path, shown: Sequence[Shown]) -> None:
        if self._frame is not None:
            for each in shown:
                self._growing.finish(each)
            for layer in previews(self._viewer, self):
                self._viewer.layers.remove(layer)
        first = self.table.rowCount()
        self.table.setRowCount(first + len(images))
        self.table.setVisible(True)
        for row, image in enumerate(images, start=first):
            objects = "–" if image.objects is None else f"{image.objects:,}"
            seconds = "–" if image.seconds is None else f"{image.seconds:.1f} s"
            for column, text in enumerate((f"{image.sample} · {image.set}", objects, seconds)):
                self.table.setItem(row, column, QTableWidgetItem(printable(text)))
        self.table.resizeRowsToContents()
        failed = [image for image in images if image.status != "done"]
        if failed:
            what = f"{counted(len(failed), 'image')} of {len(images)} could not be finished."
            details = [f"{image.sample}: {image.error}" for image in failed]
            if len(images) == 1:
                what, *details = str(failed[0].error).splitlines()
            self._end(AiodError(what, details=details))
            return
        warnings = list(dict.fromkeys(w for image in images for w in image.warnings))
        self._said.append(
            (f"Done. Results in {_from_home(folder)}", in_a_window("\n".join(warnings)))
        )
        self._end()

    def _stopped(self) -> None:
        self._stopping = False
        self._waiting.clear()
        self._said[:] = [("Stopped. Run goes on where it was.", "")]
        self._end()

    def _end(self, error: BaseException | None = None) -> None:
        """Go on with the next layer, or be ready for what is asked next."""
        if error is not None:
            self._problems.append((self._frame.layer if self._frame else "", error))
        if self._waiting:
            self._next()
            return
        self._set_busy(busy=False)
        self._say()
        self.done.emit()

    def _say(self) -> None:
        """Show the errors, else what there is to say of all layers."""
        if self._problems and not self._several:
            self.notice.fail(self._problems[0][1])
        elif self._problems:
            layers = counted(len(self._problems), "layer")
            told = [f"{name}: {_words_of(error)}" for name, error in self._problems]
            details = in_a_window("\n".join([*told[1:], *(said for said, _ in self._said)]))
            self.notice.say(
                in_a_window(f"{layers} could not be finished. {told[0]}"),
                details=details,
                kind="error",
            )
        elif self._said:
            sentences, rest = (
                "\n".join(dict.fromkeys(filter(None, each)))
                for each in zip(*self._said, strict=True)
            )
            self.notice.say(sentences, details=rest)
        else:
            self.notice.clear()

    # --- how it looks ---------------------------------------------------------------------------

    def _lay_out(self) -> None:
        body = QWidget()
        column = QVBoxLayout(body)
        column.setContentsMargins(0, 0, 0, 0)
        column.setAlignment(Qt.AlignmentFlag.AlignTop)
        column.addWidget(self.form)
        column.addLayout(
            buttons(
                ("Plan", "What a run would do: tiles and memory", self.plan),
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
        self.table.setHorizontalHeaderLabels(["Image", "Objects", "Time"])
        self.table.verticalHeader().setVisible(False)
        self.table.horizontalHeader().setStretchLastSection(True)
        self.table.setMaximumHeight(110)
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.table.setVisible(False)
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
                _close(self._hosted)
                self.deleteLater()
            self._docked = self.parent() is not None
        return bool(super().event(event))

    def sizeHint(self) -> QSize:  # noqa: N802 -- Qt's name
        """As wide as its fields need, beside an image that wants the room."""
        return QSize(380, 700)

    def _set_busy(self, *, busy: bool) -> None:
        self._busy = busy
        for button in (self.preview_button, self.run_button):
            button.setEnabled(not busy)
        self.cancel_button.setEnabled(busy)
        self.progress.setVisible(busy)
        if busy:
            self.progress.setRange(0, 0)
            self.progress.setFormat("")

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


def _close(hosted: Hosted, _: Any = None) -> None:
    """End the process beside the window, which need not wait for it."""
    threading.Thread(target=hosted.close).start()


def _words_of(error: BaseException) -> str:
    if isinstance(error, AiodError):
        return "\n".join((sentence_of(error), *error.details))
    return "".join(traceback.format_exception(error))


def _error_of(said: Mapping[str, Any]) -> BaseException:
    if said.get("defect"):
        return AiodError(
            f"This is a defect of aiod: {said['what']}. Please report it.", details=said["details"]
        )
    return AiodError(said["what"], details=said["details"], hint=said["hint"])


def _from_home(path: Path) -> str:
    """A path as people say it: ~ for their home."""
    home = Path.home()
    return str(Path("~", path.relative_to(home)) if path.is_relative_to(home) else path)


def _progress_words(what: str, done: int, total: int | None, unit: str, rate: float) -> str:
    """How far it has come, how fast, and how long it will take.

    >>> _progress_words("cells", 12, 64, "tiles", 4.0)
    'cells: 12 of 64 tiles, 4.0/s, 13 s left'
    """
    if unit == "bytes":
        amount = byte_size(done) + (f" of {byte_size(total)}" if total else "")
        speed = f", {byte_size(int(rate))}/s" if rate else ""
    else:
        amount = f"{done:,}" + (f" of {total:,}" if total else "") + (f" {unit}" if unit else "")
        speed = f", {rate:.1f}/s" if rate else ""
    left = f", {_time(((total or 0) - done) / rate)} left" if rate and total else ""
    return printable(f"{what}: {amount}{speed}{left}")


def _time(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole} s" if whole < 100 else f"{round(whole / 60)} min"
