"""Exporting: the real package aiod-registry 0.2 loads every file we write."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from aiod_registry.utils import load_manifests, resolve_version

from aiod.errors import UsageError
from aiod.registry import Registry, load
from aiod.registry.export import Exported, export
from families import family

MakeLayer = Callable[..., Path]
AIOD_TASKS = {"mito", "er", "ne", "everything", "nuclei", "cyto", "drop", "boundaries"}


def _agree(registry: Registry, exported: Exported) -> None:
    """The peer reads the same models, locations, parameters and defaults as we do."""
    peer = load_manifests(list(exported.files))
    told = {
        f"{short}/{entry.slug}/{task}"
        for short, manifest in peer.items()
        for entry in manifest.versions.values()
        for task in entry.tasks
    }
    ours = {
        model.id: model for model in registry if model.needs_weights and model.task in AIOD_TASKS
    }
    assert told == set(ours)
    for model in ours.values():
        manifest = peer[model.family]
        name = resolve_version(manifest, model.slug)
        assert resolve_version(manifest, model.version) == name == model.version
        assert manifest.versions[name].axes == model.axes
        entry = manifest.versions[name].tasks[model.task]
        assert [(item.location, item.config_path) for item in entry.locations] == [
            (str(item.weights), str(item.config) if item.config else None)
            for item in registry.locations_for(model)
        ]
        mine = registry.params_for(model)
        assert [item.name for item in entry.params or ()] == [item.name for item in mine]
        defaults = {}
        for parameter in entry.params or ():
            value = parameter.value
            if isinstance(value, list):
                value = value[0] if parameter.default is None else parameter.default
            defaults[parameter.arg_name] = value
        assert defaults == registry.default_config(model)
        said = (entry.metadata or manifest.metadata).description
        assert said == registry.metadata_for(model).description


def test_the_peer_is_the_real_package() -> None:
    assert version("aiod-registry") == "0.2.0"


def test_the_shipped_registry_is_loaded_by_the_peer(tmp_path: Path) -> None:
    registry = load()
    exported = export(registry, tmp_path / "out")
    with_weights = {model.family for model in registry if model.needs_weights}
    assert [path.stem for path in exported.files] == [
        name for name in registry.families if name in with_weights
    ]
    assert sorted((tmp_path / "out").iterdir()) == sorted(exported.files)
    _agree(registry, exported)


def test_tricky_content_is_loaded_by_the_peer(make_layer: MakeLayer, tmp_path: Path) -> None:
    document: dict[str, Any] = family(
        "Spielzeug „neu“ é 玩具",
        short_name="spiel",
        usage_guide="Erst lesen:\n\ttäglich \\ \"so\" {x} 'y' \u2028",
        config="configs/family.yaml",
        **{"$schema": "../schema.json"},
    )
    document["metadata"] = {
        "description": "Größe: ±1 µm – „gut“ 🎲",
        "authors": [
            {"name": "Ada Byron"},
            {"name": "Alan", "affiliation": "Bletchley", "orcid": "0000-0002-1825-0097"},
            {"name": "Grace", "email": "grace@example.org", "url": "https://example.org/g"},
        ],
        "pubs": [
            {"title": "No URL, no DOI"},
            {"title": "A DOI only", "doi": "10.1002/(SICI)1#2<3?4>5;6%7"},
            {"title": "A URL only", "url": "https://example.org/ü?q=1#a"},
            {"title": "All", "url": "https://example.org/", "year": 2020, "info": "Data"},
        ],
        "url": "http://[::1]:8080/x",
        "repo": "https://example.org:99999/no-such-port",
        "license": {"code": "MIT", "weights": "CC0-1.0"},
        "keywords": ["a"],
        "status": {"state": "deprecated", "reason": "Old.", "successor": "x/y"},
        "output": "semantic",
        "pixel_size": {"value": [2, 1, 1], "unit": "nanometer"},
        "halo": 4,
    }
    document["params"] = [
        {"name": "choices", "value": ["a", "b"], "default": "b", "advanced": True},
        {"name": "first", "value": [3, 1]},
        {"name": "mixed", "value": [1, 0.5], "default": 0.5, "dtype": "float"},
        {"name": "auto", "value": None, "dtype": "tuple"},
        {"name": "yes", "value": True, "dtype": "bool"},
        {"name": "empty", "value": ""},
        {"name": "wide", "value": 3, "dtype": "float", "minimum": 0, "maximum": 9, "unit": "px"},
        {
            "name": "Channel",
            "arg_name": "channel",
            "value": 0,
            "param_type": "channel",
            "channel_start": 0,
            "channel_start_label": "Grau",
        },
    ]
    document["versions"] = {
        "Grösse 1": {
            "axes": "TCZYX",
            "metadata": {"description": "Own words.", "pubs": [{"title": "Also no URL"}]},
            "tasks": {
                "nuclei": {
                    "locations": [
                        {"location": "../w 1/ü.pth", "config_path": "c.yaml", "size": 1},
                        {"location": "https://example.org/w", "sha256": "0" * 64},
                        {"location": "file:///data/w%201"},
                    ],
                    "params": [],
                },
                "cyto": {
                    "location": "/data/$(touch evil)`x`",
                    "metadata": {"description": "Cells.", "authors": []},
                    "params": [{"name": "own", "value": 1}],
                },
                "wing": {"location": "https://example.org/wing"},
            },
        },
        "threshold": {"weights": False, "tasks": {"nuclei": {}, "mito": {}}},
        "bare": {"slug": "B-2.0", "tasks": {"er": {"location": "x"}}},
    }
    lab = make_layer("lab", document)
    (lab / "manifests" / "tasks.json").write_text('{"wing": "Wings"}')
    registry = load([lab])
    assert registry.problems == ()
    exported = export(registry, tmp_path / "out")
    _agree(registry, exported)
    said = "\n".join(exported.left_out)
    assert 'spiel/grosse_1/wing: the format has no task "wing"' in said
    assert "spiel/threshold/nuclei: it needs no weights, which the format cannot say" in said
    assert "spiel/threshold/mito: it needs no weights" in said
    assert 'spiel: "No URL, no DOI": the format has no publication without a URL' in said
    assert 'spiel: "Also no URL": the format has no publication without a URL' in said
    assert "spiel: https://example.org:99999/no-such-port: not a URL" in said
    assert len([words for words in exported.left_out if words.startswith("spiel")]) == 6
    assert (tmp_path / "out" / "spiel.json").read_bytes().isascii()
    assert not (Path.cwd() / "evil").exists()


def test_layers_are_exported_as_what_they_make_together(
    make_layer: MakeLayer, tmp_path: Path
) -> None:
    entry = {"locations": [{"location": "../weights/cyto3"}]}
    overlay = {
        "name": "Cellpose",
        "metadata": {"description": "Ours.", "repo": "https://example.org/ours"},
        "params": [{"name": "speed", "value": 1}],
        "config": "ours.yaml",
        "versions": {
            "cyto3": {"tasks": {"cyto": entry}},
            "embryo": {"axes": "YX", "tasks": {"cyto": entry, "nuclei": entry}},
        },
    }
    registry = load([make_layer("lab", overlay)])
    _agree(registry, export(registry, tmp_path / "out"))


def test_a_family_of_algorithms_is_left_out_whole(make_layer: MakeLayer, tmp_path: Path) -> None:
    versions = {"otsu": {"axes": "YX", "tasks": {"nuclei": {"weights": False}}}}
    registry = load([make_layer("lab", family(versions=versions))])
    exported = export(registry, tmp_path / "out")
    assert not (tmp_path / "out" / "toy.json").exists()
    assert [words for words in exported.left_out if words.startswith("toy")] == [
        "toy/otsu/nuclei: it needs no weights, which the format cannot say",
    ]


def test_exporting_twice_writes_the_same(tmp_path: Path) -> None:
    first = export(load(), tmp_path / "a")
    second = export(load(), tmp_path / "a")
    assert first == second
    assert all(json.loads(path.read_text())["short_name"] == path.stem for path in second.files)


def test_an_unknown_format_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match='no format "bioimageio"') as caught:
        export(load(), tmp_path, "bioimageio")
    assert caught.value.hint == "one of aiod"


def test_an_export_never_overwrites_a_layer(tmp_path: Path) -> None:
    layer = tmp_path / "lab"
    (layer / "manifests").mkdir(parents=True)
    path = layer / "manifests" / "toy.json"
    path.write_text(json.dumps(family()))
    before = path.read_bytes()
    registry = load([layer])
    for folder in (layer, layer / "manifests"):
        with pytest.raises(UsageError, match="would be overwritten"):
            export(registry, folder)
    assert path.read_bytes() == before
