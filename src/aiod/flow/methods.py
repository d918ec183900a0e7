"""The paragraph on methods that a paper may carry, and its references, from the record of a run.

Citations are keys of the BibTeX, written as Markdown of Pandoc has them: [@key].
"""

from __future__ import annotations

from typing import Any

from aiod.errors import AiodError
from aiod.flow.record import ImageRecord, PlanRecord, RunRecord, SetRecord, StepRecord
from aiod.registry.catalogue import Registry
from aiod.registry.cite import STYLES, references
from aiod.registry.tasks import TASK_NAMES
from aiod.words import counted, listing

_SHORT_HASH = 12
_NAMED_PACKAGES = ("torch", "tensorflow", "cellpose", "stardist", "scikit-image", "scipy", "numpy")
_AIOD = "aiod"

SOFTWARE: tuple[dict[str, Any], ...] = (
    {
        "id": _AIOD,
        "type": "software",
        "title": "AI OnDemand: any segmentation model on any image, on any machine",
        "author": [{"literal": "The AIoD developers"}],
    },
    {
        "id": "moore2023omezarr",
        "type": "article",
        "title": "OME-Zarr: a cloud-optimized bioimaging file format with international "
        "community support",
        "author": [{"family": "Moore", "given": "Josh"}, {"literal": "others"}],
        "issued": {"date-parts": [[2023]]},
        "DOI": "10.1007/s00418-023-02209-1",
        "URL": "https://doi.org/10.1007/s00418-023-02209-1",
    },
    {
        "id": "vanderwalt2014scikitimage",
        "type": "article",
        "title": "scikit-image: image processing in Python",
        "author": [{"family": "van der Walt", "given": "Stéfan"}, {"literal": "others"}],
        "issued": {"date-parts": [[2014]]},
        "DOI": "10.7717/peerj.453",
        "URL": "https://doi.org/10.7717/peerj.453",
    },
)
"""What is cited beside the model, as CSL-JSON items."""


def methods_of(record: RunRecord, registry: Registry) -> str:
    """What was done, in two to five sentences of a paper's methods section.

    Nothing of it is guessed: what the record does not hold is left out. A model whose manifest
    names no publication is named without a reference.
    """
    cited, _ = _cited(record, registry)
    sentences = [
        _of_model(record, [item["id"] for item in cited]),
        _of_parameters(record),
        *_of_steps(record.sets),
        *_of_tiles(record),
        _of_software(record),
    ]
    return " ".join(sentences) + "\n"


def bibtex_of(record: RunRecord, registry: Registry) -> str:
    """The references of `methods_of` as BibTeX: the model's, then those of the software.

    Where the manifest names nothing to cite, a comment says so.
    """
    cited, why = _cited(record, registry)
    version = {"note": f"Version {record.aiod}"}
    software = [item | version if item["id"] == _AIOD else item for item in _software(record)]
    text = STYLES["bibtex"]([*cited, *software])
    return f"% {why}\n\n{text}\n" if why else f"{text}\n"


def _cited(record: RunRecord, registry: Registry) -> tuple[list[dict[str, Any]], str | None]:
    """The model's references, or why there are none."""
    try:
        return references(registry, [registry.get(record.model.id)]), None
    except AiodError as error:
        return [], error.what


def _software(record: RunRecord) -> list[dict[str, Any]]:
    """What beside the model is cited; scikit-image where a step used it."""
    steps = any(each.before or each.after for each in record.sets)
    return [item for item in SOFTWARE if steps or "scikit" not in item["id"]]


def _of_model(record: RunRecord, keys: list[str]) -> str:
    task = TASK_NAMES.get(record.model.task, record.model.task)
    weights = record.model.weights
    details = [record.model.id]
    if weights and weights.sha256:
        details.append(f"weights SHA-256 {weights.sha256[:_SHORT_HASH]}…")
    samples = {image.sample for image in record.images if image.status == "done"}
    where = f" in {counted(len(samples), 'image')}" if samples else ""
    found = [image.objects for image in record.images if image.objects is not None]
    once = len(record.sets) == 1 and len(found) == len(samples) > 0
    number = f" ({counted(sum(found), 'object')})" if once else ""
    return (
        f"We segmented {task[:1].lower()}{task[1:]}{where}{number} with {record.model.name} "
        f"({', '.join(details)}){_citation(keys)}, "
        f"run by aiod {record.aiod}{_citation([_AIOD])}."
    )


def _of_parameters(record: RunRecord) -> str:
    given = [
        f"{name} = {_shown(value)}"
        for name, value in record.parameters.given.items()
        if record.parameters.defaulted.get(name, None) != value
    ]
    if not given:
        return "All parameters had the model's defaults."
    verb = "was" if len(given) == 1 else "were"
    rest = "; all others had the model's defaults" if record.parameters.defaulted else ""
    return f"{listing(given, 'and')} {verb} set{rest}."


def _of_steps(sets: tuple[SetRecord, ...]) -> list[str]:
    """One sentence for all sets of steps; none where there are no steps."""
    told = [(each.name, text) for each in sets if (text := _of_set(each))]
    if not told:
        return []
    cite = _citation(["vanderwalt2014scikitimage"])
    if len(sets) == 1:
        text = told[0][1]
        return [f"{text[0].upper()}{text[1:]}{cite}."]
    parts = listing([f'"{name}": {text}' for name, text in told], "and")
    return [f"There were {counted(len(sets), 'set')} of steps{cite}: {parts}."]


def _of_set(steps: SetRecord) -> str:
    before = f"images were preprocessed by {_steps(steps.before)}" if steps.before else ""
    after = f"labels were postprocessed by {_steps(steps.after)}" if steps.after else ""
    return " and ".join(part for part in (before, after) if part)


def _steps(steps: tuple[StepRecord, ...]) -> str:
    return ", then ".join(
        step.name.replace("_", " ")
        + (
            f" ({', '.join(f'{name} = {_shown(value)}' for name, value in step.params.items())})"
            if step.params
            else ""
        )
        for step in steps
    )


def _of_tiles(record: RunRecord) -> list[str]:
    """How images were cut; nothing where each went whole through the model."""
    plans = [image.plan for image in record.images if image.plan is not None]
    cut = list(dict.fromkeys(_sizes(plan) for plan in plans if plan.tiles > 1))
    if not cut:
        return []
    tile, halo = cut[0]
    more = "; others in tiles of their own size" if len(cut) > 1 else ""
    certificate = _of_certificates(record.images)
    how = f"in tiles of {tile} pixels with a halo of {halo} pixels on each side"
    joined = "whose objects were joined by their overlap in the halos"
    return [f"Images were processed {how}, {joined}{more}{certificate}."]


def _sizes(plan: PlanRecord) -> tuple[str, str]:
    """Tile and halo in words, "512 × 512 (Y × X)" and "64"."""
    axes = " × ".join(plan.axes)
    tile = " × ".join(map(str, plan.tile)) + f" ({axes})"
    same = len(set(plan.halo)) == 1
    return tile, str(plan.halo[0]) if same else " × ".join(map(str, plan.halo)) + f" ({axes})"


def _of_certificates(images: tuple[ImageRecord, ...]) -> str:
    if any(image.certificate for image in images):
        return ", and random crops processed without tiles were compared with the result"
    return ""


def _of_software(record: RunRecord) -> str:
    pinned = dict(package.partition("==")[::2] for package in record.environment.packages)
    versions = [f"{name} {pinned[name]}" for name in _NAMED_PACKAGES if name in pinned]
    inside = f", {', '.join(versions)}" if versions else ""
    kind = {"cpu": "a CPU", "mps": "an Apple GPU"}.get(record.device, "a GPU")
    return (
        f"The model ran on {kind} with Python {record.environment.python}{inside}; labels were "
        f"stored as OME-Zarr{_citation(['moore2023omezarr'])}."
    )


def _citation(keys: list[str]) -> str:
    return f" [{'; '.join(f'@{key}' for key in keys)}]" if keys else ""


def _shown(value: Any) -> str:
    """A parameter's value as people write it.

    >>> _shown(True), _shown(None), _shown([1, 2]), _shown(0.5)
    ('on', 'none', '1 × 2', '0.5')
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple):
        return " × ".join(map(_shown, value))
    return str(value)
