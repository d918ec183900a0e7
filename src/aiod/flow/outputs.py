"""What is made of finished labels: the picture to look at, and the exports that were asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from aiod.flow.record import ImageRecord, within
from aiod.flow.request import Ready
from aiod.flow.results.export import write_csv, write_geojson, write_tiff
from aiod.flow.results.labels import open_labels, smaller_levels
from aiod.flow.results.objects import measure_objects
from aiod.flow.results.overlay import Light, write_overlay

SUFFIXES = {"overlay": ".png", "tiff": ".tif", "geojson": ".geojson", "csv": ".csv"}


def write_outputs(
    record: ImageRecord,
    ready: Ready,
    folder: Path,
    exports: Sequence[str],
    *,
    planes_apart: bool,
    light: Light | None = None,
    mapper: Callable[..., Iterable[Any]] = map,
) -> ImageRecord:
    """Write the overlay and the `exports` that are not there yet; the record with their paths.

    Those that are there of other labels of that name, which these have replaced, are made anew too.
    `light` is what `light_of` the image gave, where that was asked before.
    Raises AiodError when a file cannot be written.
    """
    named = {k: folder / f"{record.sample}_{record.set}{end}" for k, end in SUFFIXES.items()}
    left = [k for k, path in named.items() if k not in record.outputs and path.is_file()]
    paths = {
        kind: named[kind]
        for kind in dict.fromkeys(["overlay", *exports, *left])
        if kind not in record.outputs or not (folder / record.outputs[kind]).is_file()
    }
    if not paths or record.labels is None:
        return record
    opened = open_labels(folder / record.labels)
    labels = opened.source
    image = ready.image.source
    if "overlay" in paths:
        write_overlay(
            ready.source,
            labels,
            paths["overlay"],
            smaller=smaller_levels(opened),
            light=light,
            rgb=ready.image.rgb and not ready.fit.gray,
            mapper=mapper,
        )
    if "tiff" in paths:
        write_tiff(labels, paths["tiff"], most=record.objects)
    if paths.keys() & {"csv", "geojson"}:
        objects = measure_objects(
            labels,
            image,
            channels=ready.image.channel_names,
            planes_apart=planes_apart,
            mapper=mapper,
        )
        if "csv" in paths:
            write_csv(objects, paths["csv"], sample=record.sample)
        if "geojson" in paths:
            write_geojson(
                labels,
                objects,
                paths["geojson"],
                sample=record.sample,
                class_name=record.set,
                semantic=opened.kind == "semantic",
            )
    outputs = {**record.outputs, **{kind: within(path, folder) for kind, path in paths.items()}}
    return record.model_copy(update={"outputs": outputs})
