"""Where the work is done: dask's workers, and beside each a process that keeps the model loaded.

A dask worker has two threads and one model: while the model looks at one tile, the other thread
reads the next or writes the last. On this machine the workers are threads of this process; on a
cluster they are processes elsewhere, which is why a task is a plain function of plain values, may
be done twice, and leaves its result in a file.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

from aiod.flow.models.workers import ModelError, Worker, WorkerSpec

_THREADS = 2
_AHEAD = 4
"""Short tasks that are handed to the cluster for each of its threads, so that none waits for us."""

_LARGEST_BATCH = 8
_ROUNDS = 3
"""Items of `map` are handed out in so many rounds at least, so that all threads end together."""
_SECONDS_A_TASK = 1.5
"""How long a task for some tiles may take: dask needs 5 ms for each, little beside it."""
_MOST_A_TASK = 64
_GROWTH = 4
"""How many times as many tiles as in the last task there are in the next, at most: those that were
there already take no time, and what comes after them may be slow."""
_AHEAD_OF_LONG = 2
_SECONDS = 0.2
"""How long a stop may go unnoticed."""

_SETTINGS = {
    "distributed.worker.profile.enabled": False,
    # Seconds-long pauses are a model at work in another process, not a worker in trouble.
    "distributed.admin.tick.limit": "1h",
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}
_NOWHERE = "127.0.0.1:0"
"""dask always listens for browsers: on this machine alone, on any port, with no pages to show."""

T = TypeVar("T")
R = TypeVar("R")


class Stopped(Exception):
    """The run was stopped from outside; what is finished is kept."""


class Engine:
    """A cluster with one model beside each worker. Use it as a context manager.

    So many `models` are loaded at once, the others when they are first asked. `map` and `unordered`
    may be called from several threads at once.
    """

    def __init__(self, workers: int, spec: WorkerSpec, *, models: int = 1) -> None:
        # A model takes as long to load as dask to import, in a process of its own.
        self._spec = spec
        for _ in range(models):
            _MODELS.warm(spec)
        from dask import config
        from distributed import Client, LocalCluster
        from distributed.utils import silence_logging_cmgr

        self.workers = workers
        self._stop = threading.Event()
        config.set(_SETTINGS)
        logging.getLogger("asyncio").addFilter(_is_news)  # a filter is added once at most
        # Not by the cluster's own `silence_logs`, which ends before its last words.
        self._ends = contextlib.ExitStack()
        self._ends.callback(_MODELS.forget, set(), spec)
        try:
            self._ends.enter_context(silence_logging_cmgr("CRITICAL"))
            self._cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=_THREADS,
                processes=False,
                dashboard_address=_NOWHERE,
                worker_dashboard_address=_NOWHERE,
                memory_limit=0,
                silence_logs=False,
            )
            self._client = Client(self._cluster, set_as_default=False)
        except BaseException:
            self._ends.close()
            raise

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        workers = {str(worker.id) for worker in self._cluster.workers.values()}
        with self._ends:
            _MODELS.close(workers)
            self._client.close(timeout=5)
            self._cluster.close(timeout=5)
            _MODELS.close(workers)  # one that a tile was just starting
            _MODELS.forget(workers, self._spec)

    def stop(self) -> None:
        """Let every `map` under way end with :class:`Stopped`."""
        self._stop.set()

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Like the builtin: results in the order of the items; the first error is raised.

        For work that is short beside a task of the cluster: items are handed out some at a time.
        """
        for results in self._ordered(partial(_call_each, function), self._batches(list(items))):
            yield from results

    def _batches(self, items: list[T]) -> list[list[T]]:
        size = min(_LARGEST_BATCH, max(1, len(items) // (_ROUNDS * self._threads)))
        return [items[start : start + size] for start in range(0, len(items), size)]

    def _ordered(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        ended: set[int] = set()
        waiting: list[Any] = []
        submit = self._submitter(function)
        rest = enumerate(items)
        told: queue.SimpleQueue[int] = queue.SimpleQueue()
        first = 0
        try:
            while True:
                for number, item in itertools.islice(rest, self._window - len(waiting)):
                    waiting.append(submit(item, partial(_tell, told, number)))
                if not waiting:
                    return
                while first not in ended:
                    ended |= self._next(told)
                yield waiting.pop(0).result()
                first += 1
        finally:
            self._client.cancel(waiting)

    def unordered(
        self, function: Callable[[list[T]], list[R | Exception]], items: Iterable[T]
    ) -> Iterator[tuple[T, R | Exception]]:
        """Each item with its result or its error, as they come.

        `function` gets some items at a time, as many as take it a moment: the first one by one, to
        see how long they take, and never so many that a worker is without work at the end.
        """
        waiting: dict[int, tuple[list[T], Any]] = {}
        submit = self._submitter(partial(_timed, function))
        rest = deque(items)
        numbers = itertools.count()
        told: queue.SimpleQueue[int] = queue.SimpleQueue()
        size = 1
        try:
            while True:
                while rest and len(waiting) < self._threads * _AHEAD_OF_LONG:
                    share = -(-len(rest) // self._threads)
                    batch = [rest.popleft() for _ in range(min(size, share))]
                    number = next(numbers)
                    waiting[number] = (batch, submit(batch, partial(_tell, told, number)))
                if not waiting:
                    return
                for number in self._next(told):
                    batch, future = waiting.pop(number)
                    if future.status == "error":  # of the cluster; those of the work are results
                        yield from ((item, future.exception()) for item in batch)
                        continue
                    seconds, results = future.result()
                    pace = int(_SECONDS_A_TASK * len(batch) / seconds)
                    size = max(1, min(pace, _GROWTH * len(batch), _MOST_A_TASK))
                    yield from zip(batch, results, strict=True)
        finally:
            self._client.cancel([future for _, future in waiting.values()])

    def _submitter(self, function: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
        """What hands an item to the cluster, and calls back when it is done.

        The function with all it holds is brought to every worker once instead of with each task.
        Workers that are threads of this process get the very object, which need not be picklable.
        """
        sent = self._client.scatter([function], broadcast=True, hash=False)[0]

        def submit(item: Any, then: Callable[[Any], None]) -> Any:
            future = self._client.submit(_call, sent, item, pure=False)
            future.add_done_callback(then)
            return future

        return submit

    @property
    def _threads(self) -> int:
        return self.workers * _THREADS

    @property
    def _window(self) -> int:
        return self._threads * _AHEAD

    def _next(self, told: queue.SimpleQueue[int]) -> set[int]:
        """Numbers of the tasks that have ended since; waits for one. Raises Stopped."""
        found: set[int] = set()
        while not found:
            if self._stop.is_set():
                raise Stopped
            with contextlib.suppress(queue.Empty):
                found.add(told.get(timeout=_SECONDS))
        with contextlib.suppress(queue.Empty):
            while True:
                found.add(told.get_nowait())
        return found


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a line of asyncio's log tells anything: not that dask gave up waiting as it closed.

    What it waited for is nobody's concern by then; asyncio says so when the memory is freed, which
    may be long after.
    """
    error = record.exc_info[0] if record.exc_info else None
    late = error is not None and issubclass(error, TimeoutError)
    return not (late and "exception was never retrieved" in record.getMessage())


def _tell(told: queue.SimpleQueue[int], number: int, _: Any) -> None:
    told.put(number)


def _call_each(function: Callable[[T], R], items: list[T]) -> list[R]:
    return [function(item) for item in items]


def _timed(
    function: Callable[[list[T]], list[R | Exception]], items: list[T]
) -> tuple[float, list[R | Exception]]:
    """Seconds, and the results."""
    started = time.monotonic()
    results = function(items)
    return max(time.monotonic() - started, 1e-9), results


def _call(function: Callable[[T], R], item: T) -> R:
    return function(item)


class Engines(Protocol):
    """What gives an engine for as long as it is needed: :class:`Engine`, or :class:`KeptEngine`."""

    def __call__(
        self, workers: int, spec: WorkerSpec, *, models: int = 1
    ) -> contextlib.AbstractContextManager[Engine]: ...


class KeptEngine:
    """Engines one after the other, of which the last stays warm for whoever asks for its like.

    Use it as a context manager, and from one thread at a time.
    """

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._kind: tuple[int, WorkerSpec] | None = None

    def __enter__(self) -> KeptEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def __call__(self, workers: int, spec: WorkerSpec, *, models: int = 1) -> Iterator[Engine]:
        """An engine, the last one where it is alike; one that was left by an error is ended."""
        if self._kind != (workers, spec) or self._engine is None:
            self.close()
            self._engine, self._kind = Engine(workers, spec, models=models), (workers, spec)
        try:
            yield self._engine
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the engine that is kept, with its models."""
        engine, self._engine, self._kind = self._engine, None, None
        if engine is not None:
            engine.__exit__()


class _Model(NamedTuple):
    """A model process, the turn of the one who uses it, and the thread that first loads it."""

    worker: Worker
    turn: threading.Lock
    loading: threading.Thread | None


class _Models:
    """The model processes of this process: one for each dask worker and specification."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[tuple[str, WorkerSpec], _Model] = {}
        self._closed: set[str] = set()
        self._warm: dict[WorkerSpec, list[tuple[Worker, threading.Thread]]] = {}

    def warm(self, spec: WorkerSpec) -> None:
        """Begin to load a model before there is a dask worker to ask for it."""
        worker = Worker(spec)
        thread = threading.Thread(target=_load, args=[worker], daemon=True)
        with self._lock:
            self._warm.setdefault(spec, []).append((worker, thread))
            thread.start()

    def get(self, key: tuple[str, WorkerSpec]) -> _Model:
        """Raises Stopped where the dask worker is ending: a tile that lost its model stays lost."""
        with self._lock:
            if key[0] in self._closed:
                raise Stopped
            if key not in self._found:
                warm = self._warm.get(key[1])
                worker, loading = warm.pop(0) if warm else (Worker(key[1]), None)
                self._found[key] = _Model(worker, threading.Lock(), loading)
            return self._found[key]

    def close(self, of: set[str]) -> None:
        """End the processes of some dask workers, also in the middle of a tile."""
        with self._lock:
            self._closed |= of
            found = [model.worker for key, model in self._found.items() if key[0] in of]
        # At the same time, as each is waited for: a process with torch takes half a second to end.
        ends = [threading.Thread(target=worker.close) for worker in found]
        for end in ends:
            end.start()
        for end in ends:
            end.join()

    def forget(self, of: set[str], spec: WorkerSpec) -> None:
        """Let go of the models of dask workers that have ended, and of any that none asked for."""
        with self._lock:
            warm = self._warm.pop(spec, [])
        for worker, loading in warm:
            while loading.is_alive():  # until its process is there to be ended
                worker.close()
                loading.join(_SECONDS)
            worker.close()
        with self._lock:
            self._found = {key: item for key, item in self._found.items() if key[0] not in of}


def _load(worker: Worker) -> None:
    with contextlib.suppress(ModelError):  # whoever asks it for a tile hears of it
        worker.load()


_MODELS = _Models()


@contextlib.contextmanager
def model_of(spec: WorkerSpec) -> Iterator[Worker]:
    """The model process of the dask worker that runs the calling task, for one caller at a time."""
    from distributed import get_worker

    key = (str(get_worker().id), spec)
    model = _MODELS.get(key)
    with model.turn:
        if model.loading is not None:
            model.loading.join()
        _MODELS.get(key)  # it may have been closed while this caller waited for its turn
        yield model.worker
