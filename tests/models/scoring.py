"""Images written, labels read, and how well they agree with the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from aiod.flow.results.labels import open_labels
from aiod.flow.run import Done
from aiod.flow.source import Box


def f1(labels: NDArray[Any], truth: NDArray[Any], iou: float = 0.5) -> float:
    """F1 of the objects that overlap by more than `iou`, which pairs them uniquely from 0.5 on."""
    found, first = np.unique(labels, return_inverse=True)
    known, second = np.unique(truth, return_inverse=True)
    pairs = first.ravel().astype(np.int64) * len(known) + second.ravel()
    both = np.bincount(pairs, minlength=len(found) * len(known)).reshape(len(found), len(known))
    union = both.sum(axis=1, keepdims=True) + both.sum(axis=0, keepdims=True) - both
    hits = both / union > iou
    hits = hits[found > 0][:, known > 0]
    objects = int((found > 0).sum() + (known > 0).sum())
    return 2 * int(hits.sum()) / objects if objects else 1.0


def save(path: Path, image: NDArray[Any], axes: str) -> Path:
    tifffile.imwrite(path, image, metadata={"axes": axes}, ome=True, photometric="minisblack")
    return path


def labels_of(done: Done) -> NDArray[Any]:
    """The labels of the only image of a run."""
    (made,) = done.record.images
    source = open_labels(done.folder / str(made.labels)).source
    return np.squeeze(source.read(Box.whole(source.shape)))


def seconds_of(done: Done) -> str:
    """How long a run took, and the model in it."""
    (made,) = done.record.images
    return f"{done.record.seconds:.0f} s, of which {made.predict_seconds or 0:.0f} s in the model"
