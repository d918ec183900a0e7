"""A run again, from its record alone; and whether the masks of two runs are the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from aiod.errors import AiodError
from aiod.flow.images.image import open_image
from aiod.flow.images.inputs import Sample
from aiod.flow.record import (
    ImageRecord,
    RepeatRecord,
    RunRecord,
    SetRecord,
    StepRecord,
    read_record,
    request_digest,
)
from aiod.flow.request import EXPORTS, Request
from aiod.flow.results.labels import open_labels
from aiod.flow.results.pyramid import labels_digest
from aiod.flow.steps.calls import StepCall

State = Literal["same", "changed", "missing"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the labels of an image are those that a record tells of, and why not."""

    sample: str
    set: str
    state: State
    why: str = ""


def request_of(record: RunRecord, *, out: Path | None = None) -> Request:
    """The request that gives a run once more: same model, parameters, steps, images and tiles."""
    options = record.options
    return Request(
        model=record.model.id,
        samples=tuple(_samples(record)),
        out=out,
        params=record.parameters.given,
        before=tuple(_texts(record, "before")),
        after=tuple(_texts(record, "after")),
        axes=_text(options.get("axes")),
        pixel_size=options.get("pixel_size"),  # type: ignore[arg-type]  # as options_of wrote it
        channels=tuple(options.get("channels") or ()),  # type: ignore[arg-type]
        rescale=_flag(options.get("rescale")),
        link_z=_flag(options.get("link_z")),
        tile=_sizes(options.get("tile")),
        halo=_sizes(options.get("halo")),
        exports=sorted({key for image in record.images for key in image.outputs} & set(EXPORTS)),
    )


def changes_since(record: RunRecord) -> list[str]:
    """A sentence for each image that is no longer what it was when the run was made."""
    found = []
    for image in record.images:
        if image.fingerprint is None:
            continue
        try:
            now = open_image(image.path, axes=image.given.axes).fingerprint
        except AiodError as error:
            found.append(error.what)
            continue
        if now != image.fingerprint:
            found.append(f"{image.path} has changed since the run.")
    return list(dict.fromkeys(found))


def repeat_record(record: RunRecord, path: Path) -> RepeatRecord:
    """How a run names the one that it repeats."""
    return RepeatRecord(path=str(path.absolute()), request=request_digest(record))


def verify(path: Path, other: Path | None = None) -> list[Verdict]:
    """Whether the labels in a run's folder are those of its record.

    With `other`, the record of another run, or where the run repeats another, they are compared
    with that one's. Raises AiodError for a record that cannot be read, and where the record of the
    run that was repeated is no longer that one.
    """
    record = read_record(path)
    folder = path if path.is_dir() else path.parent
    expected: dict[tuple[str, str], ImageRecord] = {_name(i): i for i in record.images}
    if other is not None:
        expected = {_name(image): image for image in read_record(other).images}
    elif record.repeats is not None:
        expected = {_name(image): image for image in _repeated(record.repeats).images}
    found = [_verdict(image, expected.get(_name(image)), folder) for image in record.images]
    known = {_name(image) for image in record.images}
    return found + [
        Verdict(*name, state="missing", why="this run does not have it")
        for name in expected
        if name not in known
    ]


def _repeated(repeats: RepeatRecord) -> RunRecord:
    first = read_record(repeats.path)
    if request_digest(first) != repeats.request:
        raise AiodError(
            f"{repeats.path} is no longer the record of the run that was repeated.",
            hint="`aiod verify RUN_JSON OTHER_RUN_JSON` compares with it all the same",
        )
    return first


def _name(image: ImageRecord) -> tuple[str, str]:
    return image.sample, image.set


def _verdict(image: ImageRecord, expected: ImageRecord | None, folder: Path) -> Verdict:
    name = _name(image)
    if expected is None:
        return Verdict(*name, state="missing", why="the other run does not have it")
    if image.labels is None or expected.labels_digest is None:
        return Verdict(*name, state="missing", why=f"it is {image.status}, without labels")
    try:
        digest = labels_digest(open_labels(folder / image.labels).source)
    except AiodError as error:
        return Verdict(*name, state="missing", why=error.what)
    if digest == expected.labels_digest:
        return Verdict(*name, state="same")
    if digest != image.labels_digest:
        return Verdict(*name, state="changed", why="the labels were changed after the run")
    return Verdict(
        *name, state="changed", why=f"{image.objects} objects instead of {expected.objects}"
    )


def _samples(record: RunRecord) -> Iterable[Sample]:
    seen = set()
    for image in record.images:
        if image.sample not in seen:
            seen.add(image.sample)
            yield Sample(
                name=image.sample,
                path=Path(image.path),
                axes=image.given.axes,
                channels=image.given.channels,
                pixel_size=image.given.pixel_size or None,
                expected=image.given.expected or None,
            )


def _texts(record: RunRecord, when: Literal["before", "after"]) -> Iterable[str]:
    """Steps as they are typed: with the name of their set where there are several."""
    prefix = f"{record.model.task}-"
    for steps in record.sets:
        name = steps.name.removeprefix(prefix) if steps.name.startswith(prefix) else None
        calls = _calls(steps, when)
        if name is not None and not calls and when == "before":
            yield f"{name}=none"
        for call in calls:
            text = str(StepCall(call.name, call.params))  # type: ignore[arg-type]  # plain values
            yield text if name is None else f"{name}={text}"


def _calls(steps: SetRecord, when: Literal["before", "after"]) -> tuple[StepRecord, ...]:
    return steps.before if when == "before" else steps.after


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _sizes(value: Any) -> tuple[int, ...] | None:
    return tuple(value) if isinstance(value, list) else None
