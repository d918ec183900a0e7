"""The methods paragraph says what was done, no more, and every key it cites is in the BibTeX."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_record import image_record, run_record

from aiod.flow.methods import bibtex_of, methods_of
from aiod.flow.record import (
    EnvironmentRecord,
    ParametersRecord,
    PlanRecord,
    RunRecord,
    SetRecord,
    StepRecord,
)
from aiod.registry import load
from aiod.registry.catalogue import Registry

MakeLayer = Callable[..., Path]


def family(**changes: Any) -> dict[str, Any]:
    """The manifest of the model that the records of these tests are about."""
    tasks = {"nuclei": {"locations": [{"location": "https://example.org/v1.pth"}]}}
    return {
        "name": "Toy",
        "short_name": "toy",
        "versions": {"v1": {"axes": "YX", "tasks": tasks}},
        **changes,
    }


@pytest.fixture
def registry(make_layer: MakeLayer) -> Registry:
    pub = {"title": "On toys", "year": 2021, "authors": [{"name": "Ada Byron"}]}
    metadata = {"description": "Toys.", "pubs": [pub]}
    return load([make_layer("lab", family(metadata=metadata))])


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.\]])(?<=\.) (?=[A-Z]|size)", text.strip())


def test_the_paragraph_of_a_usual_run(registry: Registry) -> None:
    environment = EnvironmentRecord(
        family="toy", digest="ab", python="3.13.1", packages=("numpy==2.4.0", "torch==2.9.0")
    )
    assert methods_of(run_record(environment=environment), registry) == (
        "We segmented nuclei in 1 image (1,234 objects) with Toy v1 (toy/v1/nuclei, weights "
        "SHA-256 0123456789ab…) [@byron2021toys], run by aiod 0.2.0 [@aiod]. "
        "size = 4.5 was set; all others had the model's defaults. "
        "Images were preprocessed by median (radius = 2) [@vanderwalt2014scikitimage]. "
        "Images were processed in tiles of 512 × 512 (Y × X) pixels with a halo of 64 pixels on "
        "each side, whose objects were joined by their overlap in the halos. "
        "The model ran on a CPU with Python 3.13.1, torch 2.9.0, numpy 2.4.0; labels were stored "
        "as OME-Zarr [@moore2023omezarr].\n"
    )


def test_what_was_not_done_is_not_said(registry: Registry) -> None:
    whole = PlanRecord(axes="YX", shape=(9, 9), tile=(9, 9), halo=(0, 0), tiles=1)
    text = methods_of(
        run_record(
            parameters=ParametersRecord(defaulted={"size": 3.5}),
            sets=(SetRecord(name="nuclei"),),
            images=(image_record(plan=whole),),
        ),
        registry,
    )
    assert "All parameters had the model's defaults." in text
    assert not re.search("tiles|preprocessed|postprocessed|scikit", text)


CASES: dict[str, dict[str, Any]] = {
    "usual": {},
    "no images": {"images": ()},
    "failed": {"images": (image_record(status="failed", plan=None, objects=None),)},
    "two sets": {
        "sets": (
            SetRecord(name="plain", after=(StepRecord(name="fill_holes"),)),
            SetRecord(name="clahe", before=(StepRecord(name="clahe", params={"clip": 5}),)),
        )
    },
    "steps before and after": {
        "sets": (
            SetRecord(
                name="nuclei",
                before=(StepRecord(name="downsample", params={"factor": [2, 2]}),),
                after=(StepRecord(name="min_size", params={"pixels": 9}),),
            ),
        )
    },
    "several plans": {
        "images": (
            image_record(sample="a"),
            image_record(
                sample="b",
                plan=PlanRecord(
                    axes="ZYX", shape=(9,) * 3, tile=(3,) * 3, halo=(1, 2, 2), tiles=27
                ),
                certificate={"crops": 3},
            ),
        )
    },
    "mps": {"device": "mps"},
    "cuda": {"device": "cuda:0"},
}


@pytest.mark.parametrize("case", CASES)
def test_two_to_five_sentences_whose_keys_are_in_the_bibtex(registry: Registry, case: str) -> None:
    record: RunRecord = run_record(**CASES[case])
    text, references = methods_of(record, registry), bibtex_of(record, registry)
    assert 2 <= len(sentences(text)) <= 5, text
    assert "None" not in text
    assert "{" not in text
    cited = set(re.findall(r"@(\w+)", text))
    entries = re.findall(r"^@misc\{(\w+),$", references, re.MULTILINE)
    assert cited == set(entries)
    assert len(entries) == len(set(entries))


def test_steps_are_told_in_their_order(registry: Registry) -> None:
    text = methods_of(run_record(**CASES["steps before and after"]), registry)
    assert (
        "Images were preprocessed by downsample (factor = 2 × 2) and labels were postprocessed by "
        "min size (pixels = 9)"
    ) in text


def test_sets_are_told_by_name(registry: Registry) -> None:
    text = methods_of(run_record(**CASES["two sets"]), registry)
    assert "There were 2 sets of steps" in text
    assert '"plain": labels were postprocessed by fill holes' in text


def test_a_default_that_was_given_is_no_change(registry: Registry) -> None:
    parameters = ParametersRecord(given={"size": 3.5}, defaulted={"size": 3.5})
    assert "All parameters had" in methods_of(run_record(parameters=parameters), registry)


@pytest.mark.parametrize("change", [{}, {"short_name": "other", "name": "Other"}])
def test_a_model_with_nothing_to_cite_is_still_described(
    make_layer: MakeLayer, change: dict[str, Any]
) -> None:
    registry = load([make_layer("lab", family(metadata={"description": "Toys."}, **change))])
    text, references = methods_of(run_record(), registry), bibtex_of(run_record(), registry)
    assert "with Toy v1 (toy/v1/nuclei, weights SHA-256 0123456789ab…), run by aiod" in text
    assert references.startswith("% ")
    assert "@misc{aiod," in references


def test_the_bibtex_names_the_version_of_aiod(registry: Registry) -> None:
    assert "note = {Version 0.2.0}" in bibtex_of(run_record(), registry)
