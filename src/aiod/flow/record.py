"""What a run did, in full: the models of `run.json`, reading and writing it, and its digest.

`run.json` stands in the run folder. Paths of what lies in that folder are relative to it, with
slashes, so that the folder can be moved. Whoever has the file, the images and the registry can
repeat the run; the masks of both have the same digest where the model is deterministic.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
)

from aiod.errors import AiodError
from aiod.files import read_text, write_atomically
from aiod.registry.canonical import as_json
from aiod.words import counted, printable

FORMAT = 1
"""Raised when what a field means changes; a reader refuses what is newer than itself."""

FILE_NAME = "run.json"
_MAX_RECORD_BYTES = 200_000_000
_SHOWN_PROBLEMS = 5


class RecordError(AiodError):
    """A run.json that cannot be read, or that is none."""


def _as_text(value: Any) -> Any:
    """File names that are no UTF-8 (lone surrogates in Python) in letters that JSON can hold."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def _check_within(text: str) -> str:
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or "\\" in text or ":" in path.parts[0]:
        raise ValueError("must be a path inside the run folder")
    return text


Text = Annotated[str, BeforeValidator(_as_text)]
Within = Annotated[str, Field(min_length=1), AfterValidator(_check_within)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Digest = Annotated[str, Field(pattern="^[a-z0-9-]+:[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]
Axes = Annotated[str, Field(pattern="^T?C?Z?Y?X?$")]
Values = dict[str, JsonValue]
Shape = tuple[Annotated[int, Field(ge=1)], ...]


_OPTION = {
    "channels": "--channel",
    "pixel_size": "--pixel-size",
    "link_z": "--link-z",
    **{name: f"--{name}" for name in ("axes", "rescale", "tile", "halo")},
}
_DIFFERS = {
    "manifest": "the model's manifest has changed",
    "runner": "the model's runner has changed",
    "weights": "the weights are others",
    "environment": "the packages of the model's environment are others",
    "sets": "the steps before or after the model are others (--pre, --post)",
}


class Strict(BaseModel):
    """Unknown keys are refused, types are not coerced, nothing is changed afterwards."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class WeightsRecord(Strict):
    """The checkpoint that was used."""

    source: Annotated[Text | None, Field(description="Where it came from.")] = None
    sha256: Annotated[Sha256 | None, Field(description="Hash of the file.")] = None
    size: Annotated[Count | None, Field(description="Size of the file in bytes.")] = None


class LicenceRecord(Strict):
    """Under what terms the model may be used, as its manifest states it."""

    code: Annotated[Text | None, Field(description="Licence of the code.")] = None
    weights: Annotated[Text | None, Field(description="Licence of the weights.")] = None


class ModelRecord(Strict):
    """The model: who said what it is, and the exact files."""

    id: Annotated[Text, Field(description="family/version/task")]
    task: Annotated[Text, Field(description="What it segments.")]
    name: Annotated[Text, Field(description="Family and version for people.")]
    layer: Annotated[Text, Field(description="Layer of the registry that defines it.")]
    manifest_sha256: Annotated[Sha256, Field(description="Hash of the manifest.")]
    runner_sha256: Annotated[Sha256, Field(description="Hash of the runner, the script it ran in.")]
    weights: Annotated[
        WeightsRecord | None, Field(description="Its checkpoint; none for an algorithm.")
    ] = None
    licence: Annotated[LicenceRecord, Field(description="Terms of use.")] = LicenceRecord()


class ParametersRecord(Strict):
    """The model's parameters: what the user gave, and what the manifest gave for the others."""

    given: Annotated[Values, Field(description="By the user.")] = {}
    defaulted: Annotated[Values, Field(description="By the manifest.")] = {}


class EnvironmentRecord(Strict):
    """The isolated environment in which the model ran."""

    family: Annotated[Text, Field(description="The model family it was built for.")]
    digest: Annotated[Text, Field(description="Digest of the requirements.")]
    python: Annotated[Text, Field(description="Version of Python.")]
    packages: Annotated[tuple[Text, ...], Field(description='Each as "name==version".')]


class HostRecord(Strict):
    """The machine, and the libraries that cut the tiles and joined them."""

    platform: Annotated[Text, Field(description="Operating system and processor.")]
    cpus: Annotated[Count, Field(description="Processors that could be used.")]
    python: Annotated[Text, Field(description="Version of Python.")]
    packages: Annotated[dict[Text, Text], Field(description="Name -> version.")]


class StepRecord(Strict):
    """A step before or after the model."""

    name: Annotated[Text, Field(description="Its name, as --pre and --post know it.")]
    params: Annotated[Values, Field(description="All its parameters, defaults too.")] = {}


class SetRecord(Strict):
    """A named set of steps; each set gives labels of its own."""

    name: Annotated[Text, Field(description="Name of the set and of its labels.")]
    before: Annotated[tuple[StepRecord, ...], Field(description="Before the model.")] = ()
    after: Annotated[tuple[StepRecord, ...], Field(description="On the labels.")] = ()


class PlanRecord(Strict):
    """The tiles: numbers are pixels along the axes of one frame."""

    axes: Annotated[Axes, Field(description="What the numbers belong to.")]
    shape: Annotated[Shape, Field(description="Of one frame, as the model met it.")]
    tile: Annotated[Shape, Field(description="Size of a core.")]
    halo: Annotated[tuple[Count, ...], Field(description="Margin on each side.")]
    tiles: Annotated[Count, Field(description="Tiles of a frame.")]
    frames: Annotated[Count, Field(description="Time points, and planes done one by one.")] = 1


class GivenRecord(Strict):
    """What a user said of an image, by a samplesheet or an option, in place of its metadata."""

    axes: Annotated[Text | None, Field(description="Letters of its own axes.")] = None
    channels: Annotated[tuple[Text, ...], Field(description="Names, or numbers from 1.")] = ()
    pixel_size: Annotated[dict[Text, float], Field(description="Micrometres an axis.")] = {}
    expected: Annotated[dict[Text, int], Field(description="Sizes it must have.")] = {}


class ImageRecord(Strict):
    """One image with one set of steps: what it is, what came of it."""

    sample: Annotated[Text, Field(description="Its name in this run.")]
    set: Annotated[Text, Field(description="The set of steps.")]
    path: Annotated[Text, Field(description="Where the image was.")]
    status: Annotated[
        Literal["done", "failed", "unfinished"], Field(description="How far it came.")
    ]
    error: Annotated[Text | None, Field(description="Why it failed.")] = None
    given: Annotated[GivenRecord, Field(description="What the user said of it.")] = GivenRecord()
    fingerprint: Annotated[Digest | None, Field(description="Hash of the image.")] = None
    axes: Annotated[Axes | None, Field(description="Of the image.")] = None
    shape: Annotated[Shape | None, Field(description="Of the image.")] = None
    dtype: Annotated[Text | None, Field(description="Of the image.")] = None
    channels: Annotated[
        tuple[Text, ...], Field(description="Channels that went into the model, in its order.")
    ] = ()
    pixel_size: Annotated[
        dict[Literal["Z", "Y", "X"], Annotated[float, Field(gt=0)]],
        Field(description="Micrometres, where known."),
    ] = {}
    plan: Annotated[PlanRecord | None, Field(description="Its tiles.")] = None
    survey: Annotated[
        Values, Field(description="What was taken from the whole image for every tile.")
    ] = {}
    labels: Annotated[Within | None, Field(description="Its labels, in the run folder.")] = None
    labels_digest: Annotated[Digest | None, Field(description="Of the labels' pixels.")] = None
    objects: Annotated[Count | None, Field(description="Number of objects.")] = None
    outputs: Annotated[
        dict[Text, Within], Field(description="What else was written: overlay, csv, …")
    ] = {}
    certificate: Annotated[
        Values | None, Field(description="Agreement of random crops done without tiles.")
    ] = None
    seconds: Annotated[Seconds | None, Field(description="How long it took.")] = None
    predict_seconds: Annotated[Seconds | None, Field(description="Inside the model.")] = None
    memory: Annotated[
        Count | None, Field(description="Bytes that a process of the model had at most.")
    ] = None
    warnings: Annotated[tuple[Text, ...], Field(description="What to know of it.")] = ()

    @property
    def findings(self) -> Iterator[str]:
        """What the numbers of its labels say, in words."""
        if self.objects == 0:
            yield (
                "no object was found. Look at the picture: is it the right channel, are objects "
                "brighter than the background, does the model's diameter fit them?"
            )
        if (certificate := self.certificate) is not None:
            score = next(
                f"{words} {certificate[key]:.3f}"
                for key, words in (("f1_at_0.9", "F1 at IoU 0.9"), ("dice", "Dice"))
                if key in certificate
            )
            yield (
                f"random crops done without tiles ({certificate['crops']}) beside the result: "
                f"{score}, where 1 is the same."
            )


class RepeatRecord(Strict):
    """The run that this one repeats."""

    path: Annotated[Text, Field(description="Its run.json.")]
    request: Annotated[Digest, Field(description="Its digest.")]


class RunRecord(Strict):
    """All that is needed to repeat a run, and what came of it: the content of run.json."""

    format: Annotated[Literal[1], Field(description="Version of this format.")] = 1
    aiod: Annotated[Text, Field(description="Version of aiod.")]
    command: Annotated[tuple[Text, ...], Field(description="The command line, word by word.")]
    started: Annotated[Text, Field(description="When, ISO 8601 with the offset from UTC.")]
    model: Annotated[ModelRecord, Field(description="The model.")]
    parameters: Annotated[ParametersRecord, Field(description="Its parameters.")]
    options: Annotated[
        Values, Field(description="What else was asked for: tile, halo, rescale, channel, …")
    ] = {}
    sets: Annotated[tuple[SetRecord, ...], Field(description="Steps before and after.")]
    environment: Annotated[EnvironmentRecord, Field(description="Where the model ran.")]
    host: Annotated[HostRecord, Field(description="Where everything else ran.")]
    device: Annotated[Text, Field(description="cpu, cuda:0, mps")]
    images: Annotated[tuple[ImageRecord, ...], Field(description="What was done.")]
    request: Annotated[Digest | None, Field(description="Digest of what determines the masks.")] = (
        None
    )
    repeats: Annotated[RepeatRecord | None, Field(description="The run this repeats.")] = None
    seconds: Annotated[Seconds, Field(description="How long all of it took.")] = 0.0
    warnings: Annotated[tuple[Text, ...], Field(description="What to know of it.")] = ()


def canonical_digest(value: JsonValue | Mapping[str, Any]) -> str:
    """ "sha256:…" of plain JSON, whatever the order of its keys.

    >>> canonical_digest({"a": 1, "b": 2}) == canonical_digest({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def request_digest(record: RunRecord) -> str:
    """The digest of what determines the masks: two runs with the same one must give the same.

    In it: version of aiod, weights, runner, environment, parameters (given or defaulted alike),
    options, steps, and of each image its name, content, axes, channels and pixel size, and what the
    user said of these. Not in it: machine, device, times, paths, outcome.
    """
    images = sorted(
        (
            {
                "sample": image.sample,
                "set": image.set,
                "given": image.given.model_dump(mode="json"),
                "fingerprint": image.fingerprint,
                "axes": image.axes,
                "channels": image.channels,
                "pixel_size": image.pixel_size,
            }
            for image in record.images
        ),
        key=lambda image: (image["sample"], image["set"]),
    )
    return canonical_digest({**_settings(record), "images": images})


def _settings(record: RunRecord) -> dict[str, Any]:
    """What determines the masks beside the images."""
    model, weights = record.model, record.model.weights
    return {
        "aiod": record.aiod,
        "model": model.id,
        "manifest": model.manifest_sha256,
        "runner": model.runner_sha256,
        "weights": weights and (weights.sha256 or weights.source),
        "environment": record.environment.digest,
        "parameters": {**record.parameters.defaulted, **record.parameters.given},
        "options": record.options,
        "sets": sorted(
            (steps.model_dump(mode="json") for steps in record.sets), key=lambda s: s["name"]
        ),
    }


def differences(there: RunRecord, now: RunRecord) -> list[str]:
    """In what two runs differ beside their images, a few words each, the values where they are few.

    >>> differences(record, record)                # doctest: +SKIP
    []
    """
    told = []
    old, new = _settings(there), _settings(now)
    for name, value in new.items():
        if value == old[name]:
            continue
        if name in ("parameters", "options"):
            for key in dict.fromkeys([*old[name], *value]):
                was, now_is = (side.get(key) for side in (old[name], value))
                if was != now_is:
                    said = f"{_value(was)} there, {_value(now_is)} now"
                    told.append(f"{_OPTION.get(key, key)}: {said}")
        elif name in ("aiod", "model"):
            told.append(f"{name}: {old[name]} there, {value} now")
        else:
            told.append(_DIFFERS[name])
    return told


def _value(value: Any) -> str:
    return "not given" if value is None else json.dumps(value)


def sealed(record: RunRecord) -> RunRecord:
    """The record with its request's digest."""
    return record.model_copy(update={"request": request_digest(record)})


def within(path: Path, folder: Path) -> str:
    """A path as run.json has it: relative to the run folder where it lies in it, else absolute."""
    path, folder = path.absolute(), folder.absolute()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def write_record(record: RunRecord, folder: Path) -> Path:
    """Write `run.json` into the run folder, whole or not at all. Returns its path."""
    path = folder / FILE_NAME
    write_atomically(path, as_json(record.model_dump(mode="json")))
    return path


def read_record(path: Path | str) -> RunRecord:
    """The record of a run, from its run.json or from its folder.

    Raises RecordError for a file that is missing, too large, no JSON or no record of a run, or
    that a newer aiod wrote.
    """
    file = Path(path) / FILE_NAME if Path(path).is_dir() else Path(path)
    try:
        text = read_text(file, limit=_MAX_RECORD_BYTES)
    except AiodError as error:
        raise RecordError(
            error.what, hint="give the run.json of a run, or the folder that holds it"
        ) from error
    try:
        return RunRecord.model_validate_json(text)
    except ValidationError as error:
        raise _why(file, text, error) from error


def _why(file: Path, text: str, error: ValidationError) -> RecordError:
    hint = "give the run.json that `aiod run` wrote"
    problems = error.errors(include_url=False, include_context=False)
    if problems[0]["type"] == "json_invalid":
        what = printable(problems[0]["msg"].removeprefix("Invalid JSON: "))
        return RecordError(f"{file} is not JSON: {what}.", hint=hint)
    found = _format_of(text)
    if found is None:
        return RecordError(f"{file} is not the record of a run.", hint=hint)
    if found > FORMAT:
        return RecordError(
            f"{file} has format {found}; this aiod reads up to {FORMAT}.", hint="update aiod"
        )
    details = [
        printable(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}")[:200]
        for problem in problems[:_SHOWN_PROBLEMS]
    ]
    if len(problems) > _SHOWN_PROBLEMS:
        details.append(f"… and {counted(len(problems) - _SHOWN_PROBLEMS, 'more problem')}")
    return RecordError(
        f"{file} is the record of a run, but not a right one.", details=details, hint=hint
    )


def _format_of(text: str) -> int | None:
    """The format that a JSON text claims to have; None where it is no record at all."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or not {"aiod", "model", "images"} <= document.keys():
        return None
    found = document.get("format")
    return found if isinstance(found, int) and not isinstance(found, bool) else None
