"""What a user asks for, and what that comes to: decided from manifests and headers alone.

Nothing here downloads, builds or runs anything. A :class:`Request` is what a door hands over; what
`settle` makes of it is checked and complete, and can be shown before it is done (`--dry-run`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiod.errors import AiodError, UsageError
from aiod.files import read_bytes
from aiod.flow.fit import GRAY, Fit, FitError, check_dtype, check_fit, chosen
from aiod.flow.images.image import Image, open_image
from aiod.flow.images.inputs import Sample, find_samples
from aiod.flow.models.environments import runner_for
from aiod.flow.params import Arguments, arguments_for
from aiod.flow.profiles import DEFAULT_PROFILE, Profile, find_profile
from aiod.flow.results.multiscale import Kind
from aiod.flow.source import Source
from aiod.flow.steps.before import parse_step
from aiod.flow.steps.calls import StepCall
from aiod.flow.steps.chain import Measured, Prepared
from aiod.flow.tiles.job import Opening, seen_by_model
from aiod.flow.tiles.layout import plan_for
from aiod.flow.tiling import Plan
from aiod.registry import Model, Registry
from aiod.registry.defaults import default_models
from aiod.registry.metadata import Metadata
from aiod.registry.parameter_rules import HOST_DIAMETER
from aiod.registry.runners import read_runner
from aiod.words import listing

EXPORTS = ("tiff", "geojson", "csv")
MAKES_OBJECTS = "components"
"""The step after the model that turns classes into objects."""
_MAX_RUNNER_BYTES = 1_000_000
_MAX_MANIFEST_BYTES = 5_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a run is asked to do. Sizes are pixels; `pixel_size` is micrometres an axis.

    `model` is an id, or None for the default model of `task`. `before` and `after` are steps as
    they are typed; a `NAME=` in front puts a step into a set of that name. `params` may be text.
    `rescale` and `link_z` are as the model's manifest says where they are None.
    """

    model: str | None = None
    task: str | None = None
    inputs: Sequence[str | Path] = ()
    samplesheet: Path | None = None
    samples: Sequence[Sample] | None = None
    out: Path | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    before: Sequence[str] = ()
    after: Sequence[str] = ()
    axes: str | None = None
    pixel_size: Mapping[str, float] | None = None
    channels: Sequence[str] = ()
    rescale: bool | None = None
    link_z: bool | None = None
    tile: tuple[int, ...] | None = None
    halo: tuple[int, ...] | None = None
    exports: Sequence[str] = ()
    certify: int = 0
    device: str = "auto"
    workers: int | None = None
    profile: str = DEFAULT_PROFILE
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class StepSet:
    """Steps before and after the model that together give one label image an image."""

    name: str
    before: tuple[StepCall, ...]
    after: tuple[StepCall, ...]

    def kind_after(self, model: Kind) -> Kind:
        """What the labels are whose model gives `model`: steps on labels leave objects."""
        return "instance" if self.after else model


@dataclass(frozen=True, slots=True)
class Settled:
    """A request, checked: the model with all that is said of it, and how it is run."""

    request: Request
    model: Model
    metadata: Metadata
    arguments: Arguments
    sets: tuple[StepSet, ...]
    kind: Kind
    runner: Path
    runner_sha256: str
    manifest_sha256: str
    profile: Profile
    surveys: bool
    notes: tuple[str, ...]

    @property
    def passed(self) -> dict[str, Any]:
        """The arguments that the runner gets: all but the diameter that the host zooms by."""
        arguments = self.arguments.all
        if self.metadata.rescale == "always":
            arguments.pop(HOST_DIAMETER, None)
        return arguments

    @property
    def diameter(self) -> float | None:
        """The diameter that the image is zoomed by, None where it is not."""
        given = self.arguments.all.get(HOST_DIAMETER)
        if self.metadata.rescale == "always" and isinstance(given, int | float) and given > 0:
            return float(given)
        return None

    @property
    def link_z(self) -> bool:
        """Whether what overlaps from plane to plane is one object, where the model takes planes."""
        asked = self.request.link_z
        return bool(self.metadata.link_z) if asked is None else asked


@dataclass(frozen=True, slots=True)
class Ready:
    """An image that fits the model: how it is opened and read."""

    sample: Sample
    image: Image
    fit: Fit
    opening: Opening

    @property
    def source(self) -> Source:
        """The channels that the model gets, before any step."""
        return chosen(self.image.source, self.fit)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """What the channels are called that the model gets: their names, else numbers from 1."""
        if self.fit.gray:
            return (GRAY,)
        names = self.image.channel_names
        return tuple(names[index] or str(index + 1) for index in self.fit.channels or ())


@dataclass(frozen=True, slots=True)
class Refused:
    """An image that cannot be used, and why."""

    sample: Sample
    error: AiodError


def settle(request: Request, registry: Registry) -> Settled:
    """Check everything that does not depend on an image. Raises AiodError."""
    model = registry.get(_model_id(request, registry))
    metadata = registry.metadata_for(model)
    arguments = arguments_for(
        model.id, registry.params_for(model), registry.default_config(model), request.params
    )
    wrong = [export for export in request.exports if export not in EXPORTS]
    if wrong:
        raise UsageError(f'There is no export "{wrong[0]}".', hint=f"one of {listing(EXPORTS)}")
    sets = step_sets(request.before, request.after, model.task)
    kind = metadata.output or "instance"
    if kind == "semantic":
        _check_after_classes(model, sets)
    runner = runner_for(model.family, registry.layers)
    return Settled(
        request=request,
        model=model,
        metadata=metadata,
        arguments=arguments,
        sets=sets,
        kind=kind,
        runner=runner,
        runner_sha256=_sha256(runner, _MAX_RUNNER_BYTES),
        manifest_sha256=_sha256(registry.manifest_files(model)[-1][1], _MAX_MANIFEST_BYTES),
        profile=find_profile(request.profile, registry.layers),
        surveys=read_runner(runner).surveys,
        notes=(*_notes(model, metadata), *_notes_on_tiles(request)),
    )


def look(settled: Settled) -> tuple[list[Ready], list[Refused]]:
    """Open every image's header and check its fit. Raises AiodError where there is no image."""
    request = settled.request
    samples = (
        tuple(request.samples)
        if request.samples is not None
        else find_samples(request.inputs, samplesheet=request.samplesheet)
    )
    ready: list[Ready] = []
    refused: list[Refused] = []
    for sample in samples:
        try:
            ready.append(_ready(settled, sample))
        except AiodError as error:
            refused.append(Refused(sample, error))
    return ready, refused


def plan_of(settled: Settled, ready: Ready, steps: StepSet) -> Plan:
    """The tiles of one frame of what the model sees of an image; reads nothing."""
    source = _seen(ready, steps)
    request = settled.request
    return plan_for(
        tuple(source.sizes[axis] for axis in ready.fit.spatial),
        ready.fit.spatial,
        settled.metadata,
        settled.passed,
        tile=request.tile,
        halo=request.halo,
    )


def _seen(ready: Ready, steps: StepSet) -> Source:
    """What the model sees of an image, to ask its shape and dtype: nothing is measured for it."""
    without = Prepared(
        ready.fit.spatial, tuple(Measured(call.name, call.params) for call in steps.before)
    )
    return seen_by_model(ready.source, without, ready.fit)


def step_sets(before: Sequence[str], after: Sequence[str], name: str) -> tuple[StepSet, ...]:
    """Named sets of steps, in the order in which their names come up.

    Steps without a name belong to every set, before those of its own; where no step has a name
    there is one set, called `name`. `NAME=none` is a set without steps of its own.

    >>> [each.name for each in step_sets(["soft=gaussian:sigma=2", "raw=none"], [], "nuclei")]
    ['nuclei-soft', 'nuclei-raw']
    """
    common: dict[bool, list[StepCall]] = {True: [], False: []}
    named: dict[str, dict[bool, list[StepCall]]] = {}
    for texts, is_before in ((before, True), (after, False)):
        for text in texts:
            label, step = read_step(text, is_before=is_before)
            group = common if label is None else named.setdefault(label, {True: [], False: []})
            if step is not None:
                group[is_before].append(step)
    if not named:
        return (StepSet(name, tuple(common[True]), tuple(common[False])),)
    return tuple(
        StepSet(
            f"{name}-{label}",
            tuple(common[True] + group[True]),
            tuple(common[False] + group[False]),
        )
        for label, group in named.items()
    )


def _check_after_classes(model: Model, sets: Sequence[StepSet]) -> None:
    """Steps on labels act on objects: of classes they would first have to be made."""
    for steps in sets:
        if steps.after and steps.after[0].name != MAKES_OBJECTS:
            raise UsageError(
                f"{model.id} gives classes, and {steps.after[0].name} works on objects.",
                hint=f"--post {MAKES_OBJECTS} before it makes an object of each connected piece",
            )


def read_step(text: str, *, is_before: bool) -> tuple[str | None, StepCall | None]:
    """The set that a step belongs to, None for all; and the step, None for `none`.

    Raises UsageError.
    """
    label, step = _split_name(text)
    if step == "none":
        return label, None
    if is_before:
        return label, parse_step(step)
    from aiod.flow.steps.after import (
        parse_after,  # brings scipy, which most runs need later or never
    )

    return label, parse_after(step)


def _split_name(text: str) -> tuple[str | None, str]:
    """The set's name and the step of `soft=gaussian:sigma=2`; None for a step without a name."""
    head, equals, rest = text.partition("=")
    if not equals or ":" in head:
        return None, text.strip()
    name = head.strip()
    if not name.replace("-", "").replace("_", "").isalnum() or len(name) > 40:
        raise UsageError(
            f"{name!r} is no name for a set of steps.", hint="letters, digits, - and _"
        )
    return name, rest.strip()


def _model_id(request: Request, registry: Registry) -> str:
    if request.model is not None:
        return request.model
    if request.task is None:
        raise UsageError("Which model?", hint="`aiod list` shows them; or name a --task")
    models = registry.filter(task=request.task)  # says so where there is no such task
    defaults = default_models(registry.layers)
    if request.task not in defaults and not models:
        raise UsageError(
            f'There is no model for the task "{request.task}" yet.',
            hint="`aiod tasks` shows for which there are some, `aiod new family` adds one",
        )
    if request.task not in defaults:
        raise UsageError(
            f'There is no default model for the task "{request.task}".',
            hint=f"`aiod list --task {request.task}` shows the models for it",
        )
    return defaults[request.task]


def _ready(settled: Settled, sample: Sample) -> Ready:
    request = settled.request
    axes = sample.axes or request.axes
    size = sample.pixel_size or request.pixel_size
    image = open_image(sample.path, axes=axes, pixel_size=size)
    if misfits := sample.misfits(image.source.sizes):
        raise FitError(
            f"{sample.path.name} is not what the samplesheet says of it.", details=list(misfits)
        )
    fit = check_fit(
        image,
        settled.model.axes,
        settled.metadata,
        channels=sample.channels or tuple(request.channels),
        rescale=request.rescale,
        diameter=settled.diameter,
        link_z=settled.link_z,
    )
    known = tuple(sorted(size.items())) if size else None
    opening = Opening(sample.path, image.fingerprint, axes, known)
    ready = Ready(sample, image, fit, opening)
    plan_of(settled, ready, settled.sets[0])  # says now what is wrong with --tile or --halo
    for steps in settled.sets:
        check_dtype(sample.path.name, _seen(ready, steps).dtype, settled.metadata)
    return ready


def _notes(model: Model, metadata: Metadata) -> list[str]:
    """What to say once of a model before it runs: its licence, and whether it is out of date."""
    notes = []
    if model.needs_weights:
        licence = metadata.license.weights if metadata.license else None
        if licence is None:
            notes.append(
                f"The licence of the weights of {model.id} is not known: "
                "ask its authors before commercial use."
            )
        elif "-NC" in licence.upper():
            notes.append(f"The weights of {model.id} are for non-commercial use only ({licence}).")
    if model.status in ("deprecated", "experimental"):
        status = metadata.status
        reason = "" if status is None or isinstance(status, str) else f": {status.reason}"
        notes.append(f"{model.id} is {model.status}{reason.removesuffix(': None')}.")
    return notes


def _notes_on_tiles(request: Request) -> list[str]:
    if request.halo is None or min(request.halo) > 0:
        return []
    note = (
        "--halo 0: tiles see nothing of each other, so an object that a cut goes through is "
        "counted on both sides; a halo wider than an object joins it."
    )
    return [note]


def _sha256(path: Path, limit: int) -> str:
    return hashlib.sha256(read_bytes(path, limit=limit)).hexdigest()
