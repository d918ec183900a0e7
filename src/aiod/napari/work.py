"""What is asked for, layer after layer, and the process of its own that does it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

from aiod.errors import AiodError
from aiod.flow.command import command_of
from aiod.flow.hosted import Hosted
from aiod.flow.protocol import Message, request_to_json
from aiod.flow.request import Request
from aiod.flow.run import OUT
from aiod.napari.background import in_background
from aiod.napari.form import of_picture
from aiod.napari.picture import Picture, Seen, picture_of
from aiod.napari.results import Frame
from aiod.registry.settings import cache_folder

COPIES = Path("aiod-out", "images")
"""Where the pixels of layers are kept that no file holds, below the user's home."""
_PATIENCE = 1500
"""Milliseconds after which a stop that has not come about ends the process."""


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What is asked for: of a layer, as it was and lay then, or of the request's own files.

    `do` is plan, preview or run; a preview is of a `region` of pixels. `sets` are the names of the
    label images that come of it.
    """

    do: str
    request: Request
    seen: Seen | None = None
    frame: Frame | None = None
    region: Mapping[str, tuple[int, int]] | None = None
    sets: tuple[str, ...] = ()


class Work(QObject):
    """Does what is asked for, one after the other.

    `began` tells of each as its turn comes, and waits for `start`; then `told` tells of the
    messages of the process. It goes on to the next with `go_on`, or by itself where one has
    `failed`. At last it has `ended`, which says whether it was stopped.
    """

    began = Signal(object)
    told = Signal(object, object)
    failed = Signal(object, object)
    ended = Signal(bool)
    _heard = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._heard.connect(self._hear)  # from the thread that reads to the window's
        self._start()
        self._waiting: deque[Asked] = deque()
        self._number = 0
        self._sent = self._stopping = self._several = False
        self._stems: set[str] = set()
        self._pid: int | None = None
        self.current: Asked | None = None

    @property
    def busy(self) -> bool:
        """Whether something is under way."""
        return self.current is not None

    @property
    def pid(self) -> int | None:
        """The number of the process while it runs."""
        return self._hosted.pid

    def begin(self, asked: Sequence[Asked]) -> None:
        """Do these, one after the other."""
        if cache_folder() != self._cache:  # which a process has for life
            self.close()
            self._start()
        self._waiting = deque(asked)
        self._several = len(asked) > 1
        self._stems.clear()
        self.go_on()

    def go_on(self) -> None:
        """The current one is done: begin the next, or end."""
        if not self._waiting:
            self._end(stopped=False)
            return
        asked = self.current = self._waiting.popleft()
        self._number += 1
        self._sent = self._stopping = False
        self.began.emit(asked)

    def start(self, asked: Asked) -> None:
        """Read the layer of what has begun, then ask the process; unless it was stopped since."""
        if asked is not self.current:
            return
        if asked.seen is None:
            self._send(asked, asked.request)
            return
        in_background(
            partial(picture_of, asked.seen, Path.home() / COPIES),
            partial(self._go_with, asked),
            partial(self.fail, asked),
            asker=self,
        )

    def fail(self, asked: Asked, error: BaseException) -> None:
        """The current one cannot be done: tell of it, then go on."""
        if asked is self.current:
            self.failed.emit(asked, error)
            self.go_on()

    def stop(self) -> bool:
        """Stop all; whether the process must be waited for."""
        self._waiting.clear()
        if self.busy and self._sent:
            self._hosted.stop()
            self._stopping = True
            QTimer.singleShot(_PATIENCE, partial(self._insist, self.current))
        elif self.busy:  # the layer is still being read
            self._end(stopped=True)
        return self._stopping

    def close(self, _: Any = None) -> None:
        """End the process beside the window, which need not wait for it."""
        threading.Thread(target=self._hosted.close).start()

    def _start(self) -> None:
        self._cache = cache_folder()
        self._hosted = Hosted(self._heard.emit, folder=Path.home())

    def _insist(self, asked: Asked | None) -> None:
        """End the process where it does not stop, as while packages come in or in a long tile."""
        if self._stopping and asked is self.current:
            self._hosted.kill()

    def _end(self, *, stopped: bool) -> None:
        self.current = None
        self._stopping = False
        self._waiting.clear()
        self.ended.emit(stopped)

    def _apart(self, asked: Asked, picture: Picture) -> Request:
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

    def _go_with(self, asked: Asked, picture: Picture) -> None:
        """Ask for a layer that was read, unless that was cancelled since."""
        if asked is self.current:
            self._send(asked, self._apart(asked, picture))

    def _send(self, asked: Asked, request: Request) -> None:
        said = {"id": self._number, "do": asked.do, "request": request_to_json(request)}
        try:
            self._pid = self._hosted.ask(
                {**said, "region": asked.region, "command": command_of(request)}
            )
        except AiodError as error:
            self.fail(asked, error)
        else:
            self._sent = True

    def _hear(self, message: Message) -> None:
        said, asked = message.said, self.current
        if asked is None or (said.get("event") != "lost" and said.get("id") != self._number):
            return
        match said.get("event"):
            case "stopped":
                self._end(stopped=True)
            case "lost" if not self._sent or said.get("pid") != self._pid:
                pass  # one before: the next request starts another one
            case "lost" if self._stopping:
                self._end(stopped=True)
            case "lost":
                self.fail(
                    asked,
                    AiodError(
                        "The process that does the work was lost.",
                        details=[str(said.get("words", ""))],
                        hint="press Run again: what is finished is kept",
                    ),
                )
            case "failed":
                self.fail(asked, _error_of(said))
            case _:
                self.told.emit(asked, message)


def _error_of(said: Mapping[str, Any]) -> BaseException:
    if said.get("defect"):
        return AiodError(
            f"This is a defect of aiod: {said['what']}. Please report it.", details=said["details"]
        )
    return AiodError(said["what"], details=said["details"], hint=said["hint"])
