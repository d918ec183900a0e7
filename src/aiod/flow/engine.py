"""Where the work is done: dask's workers, and beside each a process that keeps the model loaded.

A dask worker has two threads and one model: while the model looks at one tile, the other thread
reads the next or writes the last. On this machine the workers are threads of this process; on a
cluster they are processes elsewhere, which is why a task is a plain function of plain values, may
be done twice, and leaves its result in a file.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from aiod.flow.workers import Worker, WorkerSpec

_THREADS = 2
_AHEAD = 4
"""Tasks that are handed to the cluster for each of its threads, so that none waits for us."""

T = TypeVar("T")
R = TypeVar("R")


class Stopped(Exception):
    """The run was stopped from outside; what is finished is kept."""


class Engine:
    """A cluster with one model beside each worker. Use it as a context manager.

    `map` and `unordered` may be called from several threads at once.
    """

    def __init__(self, workers: int) -> None:
        from dask import config
        from distributed import Client, LocalCluster

        self.workers = workers
        self._stop = threading.Event()
        # Seconds-long pauses are a model at work in another process, not a worker in trouble.
        config.set({"distributed.admin.tick.limit": "1h"})
        self._cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=_THREADS,
            processes=False,
            dashboard_address=None,
            memory_limit=0,
            silence_logs="CRITICAL",
        )
        self._client = Client(self._cluster, set_as_default=False)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        close_models()
        self._client.close(timeout=5)
        self._cluster.close(timeout=5)

    def stop(self) -> None:
        """Let every `map` under way end with :class:`Stopped`."""
        self._stop.set()

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Like the builtin: results in the order of the items; the first error is raised."""
        waiting: list[Any] = []
        rest = iter(items)
        try:
            while True:
                waiting += [
                    self._client.submit(function, item, pure=False)
                    for item in itertools.islice(rest, self._window - len(waiting))
                ]
                if not waiting:
                    return
                self._wait(waiting[0])
                yield waiting.pop(0).result()
        finally:
            self._client.cancel(waiting)

    def unordered(
        self, function: Callable[[T], R], items: Iterable[T]
    ) -> Iterator[tuple[T, R | Exception]]:
        """Each item with its result or its error, as they come."""
        from distributed import wait

        waiting: dict[Any, T] = {}
        rest = iter(items)
        try:
            while True:
                for item in itertools.islice(rest, self._window - len(waiting)):
                    waiting[self._client.submit(function, item, pure=False)] = item
                if not waiting:
                    return
                self._check()
                with contextlib.suppress(TimeoutError):
                    wait(list(waiting), timeout=0.5, return_when="FIRST_COMPLETED")
                for future in [item for item in waiting if item.done()]:
                    item = waiting.pop(future)
                    error = future.exception() if future.status == "error" else None
                    yield item, error if error is not None else future.result()
        finally:
            self._client.cancel(list(waiting))

    @property
    def _window(self) -> int:
        return self.workers * _THREADS * _AHEAD

    def _wait(self, future: Any) -> None:
        from distributed import wait

        while not future.done():
            self._check()
            with contextlib.suppress(TimeoutError):
                wait([future], timeout=0.5)

    def _check(self) -> None:
        if self._stop.is_set():
            raise Stopped


_models: dict[tuple[str, WorkerSpec], tuple[Worker, threading.Lock]] = {}
_models_lock = threading.Lock()


@contextlib.contextmanager
def model_of(spec: WorkerSpec) -> Iterator[Worker]:
    """The model process of the dask worker that runs the calling task, for one caller at a time."""
    from distributed import get_worker

    key = (str(get_worker().id), spec)
    with _models_lock:
        if key not in _models:
            _models[key] = (Worker(spec), threading.Lock())
        worker, lock = _models[key]
    with lock:
        yield worker


def close_models() -> None:
    """End every model process of this process."""
    with _models_lock:
        models = [worker for worker, _ in _models.values()]
        _models.clear()
    for worker in models:
        worker.close()
