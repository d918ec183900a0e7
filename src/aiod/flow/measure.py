"""What the whole image says that tiles have to agree on, taken before the first of them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from aiod.flow.record import canonical_digest
from aiod.flow.request import Ready
from aiod.flow.steps.calls import StepCall
from aiod.flow.steps.chain import Prepared, measure_steps
from aiod.flow.steps.histogram import Histogram, Map, histograms
from aiod.flow.tiles.job import seen_by_model
from aiod.progress import Progress

_REMEMBERED = 16


@dataclass(frozen=True, slots=True)
class Measures:
    """Steps with their statistics, and of each channel that the model sees its exact histogram.

    `histograms` is empty for a model that does not survey the image.
    """

    prepared: Prepared
    histograms: tuple[Histogram, ...] = ()


Measuring = Callable[..., Measures]
"""What measures an image: :func:`measure`, or a :class:`Memory` of it."""


def measure(
    ready: Ready,
    before: Sequence[StepCall],
    *,
    surveys: bool,
    mapper: Map = map,
    progress: Progress,
) -> Measures:
    """Read the image block by block, as often as steps and model need it. Raises AiodError."""
    prepared = measure_steps(
        ready.source, before, spatial=ready.fit.spatial, mapper=mapper, progress=progress
    )
    if not surveys:
        return Measures(prepared)
    seen = seen_by_model(ready.source, prepared, ready.fit)
    return Measures(prepared, histograms(seen, mapper=mapper, progress=progress))


@dataclass(slots=True)
class Memory:
    """Measures of images that were measured before, the last ones; for many looks at one image."""

    _known: OrderedDict[str, Measures] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(
        self,
        ready: Ready,
        before: Sequence[StepCall],
        *,
        surveys: bool,
        mapper: Map = map,
        progress: Progress,
    ) -> Measures:
        key = canonical_digest(
            {
                "fingerprint": ready.image.fingerprint,
                "axes": [ready.image.source.axes, ready.opening.axes],
                "channels": list(ready.fit.channels or ()),
                "gray": ready.fit.gray,
                "spatial": ready.fit.spatial,
                "factors": dict(ready.fit.factors),
                "before": [str(call) for call in before],
                "surveys": surveys,
            }
        )
        with self._lock:
            found = self._known.get(key)
        if found is None:
            found = measure(ready, before, surveys=surveys, mapper=mapper, progress=progress)
        with self._lock:
            self._known[key] = found
            self._known.move_to_end(key)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return found
