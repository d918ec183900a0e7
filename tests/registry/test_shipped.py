"""The manifests that come with aiod."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import aiod
from aiod.registry.canonical import to_text
from aiod.registry.explain import explain
from aiod.registry.layers import NO_MANIFESTS
from aiod.registry.manifest import read_manifest
from aiod.registry.rules import short_name_of
from aiod.registry.tasks import TASK_NAMES

MANIFESTS = Path(aiod.__file__).parent / "manifests"
SHIPPED = [path for path in sorted(MANIFESTS.glob("*.json")) if path.name not in NO_MANIFESTS]
each_shipped = pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)

VERSIONS = {
    "classical": {
        "otsu-watershed",
        "otsu-watershed-3d",
        "local-watershed",
        "local-watershed-3d",
        "voronoi-otsu",
        "voronoi-otsu-3d",
        "ridge",
        "ridge-3d",
    },
    "cellpose": {"cyto3", "nuclei", "cyto1", "cyto2"},
    "cellposesam": {"cpsam"},
    "unet": {"nuclei-mini"},
    "instanseg": {"fluorescence_nuclei_and_cells", "single_channel_nuclei", "brightfield_nuclei"},
    "nellie": {"organelles", "organelles-3d"},
    "stardist": {
        "2D_versatile_fluo",
        "2D_versatile_he",
        "2D_paper_dsb2018",
        "2D_demo",
        "3D_demo",
    },
    "sam": {"vit_h", "vit_l", "vit_b", "MedSAM", "MicroSAM-Boundaries", "MicroSAM-Organelles"},
    "sam2": {"hiera_tiny", "hiera_small", "hiera_base", "hiera_large"},
    "empanada": {"MitoNet v1", "MitoNet Mini v1", "NucleoNet v1", "DropNet v1"},
}


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document


@each_shipped
def test_a_shipped_manifest_has_no_errors(path: Path) -> None:
    problems = explain(path.read_text(), path.name, TASK_NAMES)
    assert [item.as_text() for item in problems if item.severity == "error"] == []


@each_shipped
def test_a_shipped_manifest_is_in_canonical_form(path: Path) -> None:
    assert path.read_text() == to_text(read(path)), "run `aiod fmt src/aiod`"


@each_shipped
def test_a_shipped_manifest_is_called_as_its_family(path: Path) -> None:
    assert short_name_of(read(path)) == path.stem


@each_shipped
def test_each_parameter_has_a_tooltip_and_each_family_a_publication(path: Path) -> None:
    codes = {item.code for item in explain(path.read_text(), path.name, TASK_NAMES)}
    assert not codes & {"no-tooltip", "no-publication", "no-description", "no-title", "deprecated"}


@each_shipped
def test_editors_find_the_schema_beside_the_manifests(path: Path) -> None:
    assert (path.parent / read(path)["$schema"]).resolve() == MANIFESTS.parent / "schema.json"


@each_shipped
def test_weights_can_be_reached_by_everyone(path: Path) -> None:
    for version in read_manifest(path).versions.values():
        for task in version.tasks.values():
            if version.weights is False:  # an algorithm: there is nothing to reach
                continue
            assert task.locations
            assert any(
                place.location.startswith("https://") or (MANIFESTS / place.location).is_file()
                for place in task.locations
            )


@each_shipped
def test_each_version_says_its_axes(path: Path) -> None:
    for name, version in read_manifest(path).versions.items():
        assert version.axes, name


def test_the_families_and_versions_that_were_promised_are_there() -> None:
    found = {path.stem: set(read(path)["versions"]) for path in SHIPPED}
    for family, versions in VERSIONS.items():
        assert versions <= found[family]
    assert len(found["stardist"]) == 5
    assert len(found["panseg"]) == 17


def test_the_tasks_of_aiod_are_there() -> None:
    expected = {"mito", "er", "ne", "everything", "nuclei", "cyto", "drop", "boundaries"}
    assert expected <= set(TASK_NAMES)


def test_no_two_shipped_parameters_disagree_about_a_name() -> None:
    for path in SHIPPED:
        manifest = read_manifest(path)
        names = [item.name for item in manifest.params or ()]
        assert len(names) == len(set(names)), path.stem
