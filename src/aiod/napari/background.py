"""Work beside the window: done by a thread, told of in the window's own.

A window that computes is frozen. What takes longer than a blink is handed to :func:`in_background`;
what comes of it is handed back where widgets may be touched.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from qtpy.compat import isalive
from qtpy.QtCore import QObject, QTimer, Signal

from aiod.errors import AiodError

T = TypeVar("T")


class _Post(QObject):
    """Brings what a thread found to the thread that made this object: the window's."""

    _ended = Signal(object, object)

    def __init__(
        self,
        done: Callable[[Any], Any],
        failed: Callable[[Exception], Any],
        asker: QObject | None,
    ) -> None:
        super().__init__()
        self._done, self._failed, self._asker = done, failed, asker
        self._ended.connect(self._deliver)  # its own method: runs in its own thread

    def send(self, found: Any, error: Exception | None) -> None:
        self._ended.emit(found, error)

    def _deliver(self, found: Any, error: Exception | None) -> None:
        _WAITING.discard(self)
        if self._asker is not None and not isalive(self._asker):
            return
        if error is None:
            try:
                self._done(found)
            except AiodError as wrong:
                self._failed(wrong)
        else:
            self._failed(error)


_WAITING: set[_Post] = set()
"""Those whose thread has not ended: without a name Qt would forget them."""


def in_background(
    work: Callable[[], T],
    done: Callable[[T], Any],
    failed: Callable[[Exception], Any],
    *,
    asker: QObject | None = None,
) -> None:
    """Call `work` in a thread, then `done` with what it gave, or `failed` with what it raised.

    Both are called in the window's thread; neither where the widget that is the `asker` was
    destroyed meanwhile. `work` must not touch a widget or a layer.
    """
    post = _Post(done, failed, asker)
    _WAITING.add(post)

    def run() -> None:
        try:
            found = work()
        except Exception as error:  # noqa: BLE001 -- it is told of in the window
            post.send(None, error)
        else:
            post.send(found, None)

    threading.Thread(target=run, daemon=True).start()


def in_another_turn(act: Callable[[], object], *, asker: QObject, after: float = 0.0) -> None:
    """Call `act` in another turn of Qt's loop, so that others are listened to before.

    That is the next one, or one `after` so many seconds. It is not called where the widget that is
    the `asker` was destroyed meanwhile.
    """
    timer = QTimer(asker)  # which goes with it
    timer.setSingleShot(True)
    timer.timeout.connect(act)
    timer.timeout.connect(timer.deleteLater)
    timer.start(math.ceil(1000 * after))
