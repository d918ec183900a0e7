"""Descriptions of the BioImage Model Zoo as manifest entries, and the hostile ones."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from aiod.errors import AiodError
from aiod.registry.rdf import (
    MAX_DESCRIPTION_BYTES,
    Entry,
    described,
    entry_of,
    joined,
    kept_text,
    parse_description,
)
from packages import latest, older, sha256, text

BASE = "https://example.org/files/rdf.yaml"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a description says, reading it asks no server."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a server was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def read(description: dict[str, Any], base: str | None = BASE, weights: str | None = None) -> Entry:
    return entry_of(described(parse_description(text(description))), base, weights)


def test_a_description_becomes_an_entry() -> None:
    entry = read(latest())
    assert (entry.name, entry.slug, entry.axes, entry.task) == (
        "Calm nuclei",
        "calm-otter",
        "YX",
        "nuclei",
    )
    assert entry.weights.source == "https://example.org/files/weights.onnx"
    assert entry.weights.sha256 is not None
    assert entry.test is not None
    assert entry.test[1].source == "https://example.org/files/test_output.npy"
    assert entry.metadata == {
        "description": "Finds nuclei.",
        "authors": [{"name": "Ada Byron", "affiliation": "Oslo", "orcid": "0000-0002-1825-0097"}],
        "pubs": [{"title": "Cells, segmented", "doi": "10.1234/cells.2021"}],
        "url": "https://example.org/files/README.md",
        "repo": "https://example.org/code",
        "license": {"weights": "CC-BY-4.0"},
        "keywords": ["nuclei", "2D"],
        "output": "instance",
        "pixel_size": {"value": 0.5, "unit": "micrometer"},
        "halo": 64,
    }
    assert entry.params == {"output": 1, "objects": "foreground", "foreground": 1, "boundary": 2}
    assert "foreground, channel 2 for boundaries" in entry.notes[0]


def test_an_older_format_is_understood_too() -> None:
    entry = read(older())
    assert (entry.slug, entry.axes, entry.task) == ("quiet-newt", "CZYX", "boundaries")
    assert entry.weights.source.endswith("/weights.pt")
    assert entry.metadata["halo"] == [16, 64, 64]
    assert entry.metadata["authors"] == [{"name": "Ada Byron", "github": "ada"}]
    assert entry.metadata["pubs"] == [{"title": "Walls", "url": "https://example.org/walls"}]
    assert "pixel_size" not in entry.metadata


def channels(*names: str) -> dict[str, Any]:
    outputs = latest()["outputs"]
    outputs[0]["axes"][1]["channel_names"] = list(names)
    return latest(outputs=outputs)


@pytest.mark.parametrize(
    ("names", "expected", "kind"),
    [
        (("probability",), {"objects": "foreground", "foreground": 1, "boundary": 0}, "instance"),
        (("membrane",), {"objects": "boundary", "foreground": 1, "boundary": 1}, "instance"),
        (("borders", "fg"), {"objects": "foreground", "foreground": 2, "boundary": 1}, "instance"),
        (("background", "a", "b"), {"objects": "classes", "background": 1}, "semantic"),
        (("channel0", "channel1"), {"objects": "classes", "background": 0}, "semantic"),
    ],
)
def test_objects_are_made_of_what_the_channels_are_called(
    names: tuple[str, ...], expected: dict[str, Any], kind: str
) -> None:
    entry = read(channels(*names))
    assert {key: entry.params[key] for key in expected} == expected
    assert entry.metadata["output"] == kind
    assert any("taken for" in note for note in entry.notes)


def test_what_does_not_fit_a_manifest_is_left_out_and_told() -> None:
    changed = latest(
        cite=[{"text": "T", "url": "https://user:pass@example.org/x"}],
        license=None,
        tags=["nuclei", "cells"],
    )
    changed["inputs"][0]["axes"][2]["unit"] = "inch"
    changed["outputs"][0]["axes"][2]["unit"] = "inch"
    changed["inputs"][0]["axes"][3]["unit"] = "inch"
    changed["outputs"][0]["axes"][3]["unit"] = "inch"
    del changed["outputs"][0]["test_tensor"]
    entry = read(changed)
    assert entry.task is None  # nuclei or cells?
    assert entry.test is None
    assert not {"license", "pixel_size"} & entry.metadata.keys()
    assert entry.metadata["pubs"] == [{"title": "T"}]
    told = " ".join(entry.notes)
    for word in ("the URL of", "inch", "no test tensors"):
        assert word in told


def other_inputs(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    made = latest()
    change(made)
    return made


STATE_DICT = {
    "source": "weights.pt",
    "sha256": sha256(b""),
    "pytorch_version": "2.0",
    "architecture": {"import_from": "os", "callable": "system", "kwargs": {"command": "id"}},
}


def step(where: str, **named: Any) -> Callable[[dict[str, Any]], None]:
    def change(made: dict[str, Any]) -> None:
        tensor = made["inputs" if where == "preprocessing" else "outputs"][0]
        tensor.setdefault(where, []).append(named)

    return change


def longer(made: dict[str, Any]) -> None:
    made["outputs"][0]["axes"][2]["size"]["offset"] = 4


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda made: made.update(weights={"pytorch_state_dict": STATE_DICT}),
            "it has weights as pytorch_state_dict, and ONNX (in one file) or TorchScript is needed",
        ),
        (
            lambda made: made["inputs"].append(
                {**made["inputs"][0], "id": "second", "preprocessing": []}
            ),
            "it takes 2 arrays",
        ),
        (
            lambda made: made["inputs"][0].update(output_of="affable-shark"),
            "its input is the output of another model",
        ),
        (longer, "no output of it is as large as the image"),
        (
            step(
                "postprocessing",
                id="custom",
                source="evil.py",
                sha256=sha256(b""),
                callable="run",
                kwargs={},
            ),
            "a step in Python that the package brings",
        ),
        (
            step(
                "postprocessing",
                id="cellpose_flow_dynamics",
                kwargs={"cellprob_threshold": 0.0, "flow_threshold": 0.4},
            ),
            "",
        ),
    ],
)
def test_what_cannot_be_run_is_refused(change: Callable[[dict[str, Any]], None], told: str) -> None:
    with pytest.raises(AiodError) as caught:
        read(other_inputs(change))
    assert told in str(caught.value)
    assert "Next:" in str(caught.value)


def test_other_weights_can_be_asked_for() -> None:
    both = latest()
    both["weights"]["torchscript"] = {
        "source": "weights.pt",
        "sha256": sha256(b""),
        "pytorch_version": "2.0",
    }
    assert read(both).weights.source.endswith(".onnx")
    assert read(both, weights="torchscript").weights.source.endswith(".pt")
    with pytest.raises(AiodError, match="and TorchScript is needed"):
        read(latest(), weights="torchscript")


HOSTILE = {
    "a bomb": "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
    + "".join(
        f"{c}: &{c} [{','.join(['*' + p] * 10)}]\n"
        for p, c in zip("abcdefg", "bcdefgh", strict=True)
    )
    + "type: model\n",
    "a circle": "a: &a [*a]\ntype: model\n",
    "an object": "!!python/object/apply:os.system ['id']",
    "a list": "- a\n- b\n",
    "numbers as names": "1: 2\n",
    "not YAML": "a: [1, 2\nb: }",
    "very deep": "[" * 2000 + "]" * 2000,
    "two at once": "a: 1\n---\nb: 2\n",
    "too long": "a: " + "x" * MAX_DESCRIPTION_BYTES,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_text_that_is_made_to_do_harm_is_refused(name: str) -> None:
    with pytest.raises(AiodError):
        parse_description(HOSTILE[name])


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "dataset"},
        {"format_version": "9.9.9", "inputs": 3},
        {"inputs": []},
        {"weights": {}},
        {"name": 7},
        {"authors": "everybody"},
        {"config": {"bioimageio": 3}},
    ],
)
def test_a_description_that_is_none_is_a_sentence(changes: dict[str, Any]) -> None:
    with pytest.raises(AiodError):
        read(latest(**changes))


@pytest.mark.parametrize("path", ["../weights.onnx", "/etc/passwd", "a/../../b.onnx", "C:\\w.onnx"])
@pytest.mark.parametrize("base", [None, BASE])
def test_no_file_outside_the_package_is_named(path: str, base: str | None) -> None:
    changed = latest()
    changed["weights"]["onnx"]["source"] = path
    with pytest.raises(AiodError):
        read(changed, base)


def test_relative_files_are_those_beside_the_description() -> None:
    zenodo = "https://zenodo.org/api/records/12/files/rdf.yaml/content"
    assert joined(zenodo, "w.onnx") == "https://zenodo.org/api/records/12/files/w.onnx/content"
    assert joined(BASE, "a/w.onnx") == "https://example.org/files/a/w.onnx"
    assert joined(BASE, "http://other.org/w") == "http://other.org/w"


@pytest.mark.parametrize("make", [latest, older])
def test_a_kept_description_says_the_same(make: Callable[[], dict[str, Any]]) -> None:
    content = parse_description(text(make()))
    kept = kept_text(content, BASE)
    again = parse_description(kept)
    assert "https://example.org/files/test_input.npy" in kept
    assert parse_description(kept_text(content, None)) == content
    assert entry_of(described(again), BASE) == entry_of(described(content), BASE)


def test_without_the_extra_a_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ruyaml", None)
    with pytest.raises(AiodError, match=r'pip install "aiod-hub\[bioimageio\]"'):
        parse_description("type: model")
