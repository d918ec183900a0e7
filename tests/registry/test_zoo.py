"""Packages of the BioImage Model Zoo: found wherever they may be, and brought into a layer."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiod.errors import AiodError
from aiod.registry import load
from aiod.registry.pull import pull
from aiod.registry.zoo import Import, prepare, servers
from packages import WEIGHTS, files_of, folder_of, latest, npy, older, sha256, text, zip_of
from server import Server, endless, status


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture(autouse=True)
def _zoo(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The zoo and Zenodo are on loopback."""
    monkeypatch.setitem(servers, "collection", server.url("/zoo/{id}/files/rdf.yaml"))
    monkeypatch.setitem(servers, "ids", server.url("/id_map.json"))
    monkeypatch.setitem(servers, "zenodo", server.url("/api/records/{number}"))


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    folder = tmp_path / "lab"
    (folder / "manifests").mkdir(parents=True)
    return folder


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def put(server: Server, folder: str, description: dict[str, Any], end: str = "") -> str:
    """A package on the server, file by file; the URL of its description."""
    for name, data in files_of(description).items():
        server.put(f"{folder}/{name}{end}", data)
    return server.put(f"{folder}/rdf.yaml{end}", text(description).encode())


def entry(found: Import) -> dict[str, Any]:
    (version,) = json.loads(found.change.after)["versions"].values()
    assert isinstance(version, dict)
    return version


@pytest.mark.parametrize("kind", ["folder", "zip", "rdf.yaml", "zip without a suffix"])
@pytest.mark.parametrize("make", [latest, older])
def test_a_package_on_disk_comes_into_the_layer(
    kind: str, make: Any, lab: Path, tmp_path: Path, scratch: Path
) -> None:
    folder = folder_of(tmp_path / "package", make())
    (folder / "evil.py").write_text("raise SystemExit")
    source = {
        "folder": folder,
        "rdf.yaml": folder / "rdf.yaml",
        "zip": zip_of(tmp_path / "package.zip", make()),
        "zip without a suffix": zip_of(tmp_path / "download", make()),
    }[kind]
    found = prepare(lab, str(source), scratch)
    assert not list(lab.rglob("*.json"))  # nothing is written yet
    found.write()
    slug = found.model.partition("/")[2]
    home = lab / "weights" / "bioimageio" / slug
    weights = next(iter(make()["weights"].values()))["source"]
    assert {path.name for path in home.iterdir()} == {
        "rdf.yaml",
        weights,
        "test_input.npy",
        "test_output.npy",
    }
    registry = load([lab])
    model = registry.get(found.model)
    (location,) = registry.locations_for(model)
    assert (location.sha256, location.size) == (sha256(WEIGHTS), len(WEIGHTS))
    brought = pull(registry, model)
    assert brought.path == home / weights
    assert brought.config == home / "rdf.yaml"
    test = registry.test_for(model)
    assert test is not None
    assert test.input.path == home / "test_input.npy"


def test_a_model_is_found_by_its_id(server: Server, lab: Path, scratch: Path) -> None:
    put(server, "/zoo/calm-otter/files", latest())
    found = prepare(lab, "calm-otter", scratch)
    version = entry(found)
    (location,) = version["tasks"]["nuclei"]["locations"]
    assert location == {
        "location": server.url("/zoo/calm-otter/files/weights.onnx"),
        "config_path": "../weights/bioimageio/calm-otter/rdf.yaml",
        "sha256": sha256(WEIGHTS),
    }
    assert version["metadata"]["test"] == {
        "input": server.url("/zoo/calm-otter/files/test_input.npy"),
        "expected": server.url("/zoo/calm-otter/files/test_output.npy"),
    }
    found.write()
    registry = load([lab])
    assert pull(registry, found.model).sha256 == sha256(WEIGHTS)
    assert not any("README" in path for path in server.counts)  # nor anything else


def test_an_id_of_the_list_leads_elsewhere(server: Server, lab: Path, scratch: Path) -> None:
    url = put(server, "/old", older())
    ids = {"quiet-newt": {"source": url}, "10.9999/walls": {"source": url}}
    server.put("/id_map.json", json.dumps(ids).encode())
    for source in ("quiet-newt", "10.9999/walls", "https://doi.org/10.9999/walls"):
        found = prepare(lab, source, scratch)
        (location,) = entry(found)["tasks"]["boundaries"]["locations"]
        assert location["location"] == server.url("/old/weights.pt")
    with pytest.raises(AiodError, match="did you mean quiet-newt"):
        prepare(lab, "quiet-nevvt", scratch)


def test_a_doi_of_zenodo_is_a_record_with_files(server: Server, lab: Path, scratch: Path) -> None:
    url = put(server, "/api/records/77/files", latest(), "/content")
    record = {"files": [{"key": "rdf.yaml", "links": {"self": url}}, "nonsense", {"key": 3}]}
    server.put("/api/records/77", json.dumps(record).encode())
    found = prepare(lab, "10.5281/zenodo.77", scratch)
    found.write()
    registry = load([lab])
    (location,) = registry.locations_for(registry.get(found.model))
    assert str(location.weights).endswith("/api/records/77/files/weights.onnx/content")
    assert pull(registry, found.model).sha256 == sha256(WEIGHTS)
    server.put("/api/records/78", json.dumps({"files": []}).encode())
    with pytest.raises(AiodError, match=r"has no rdf\.yaml and no zip"):
        prepare(lab, "10.5281/zenodo.78", scratch)
    with pytest.raises(AiodError, match="nor a DOI of Zenodo"):
        prepare(lab, "10.1234/else", scratch)


def test_a_zip_behind_a_url_is_unpacked(
    server: Server, lab: Path, scratch: Path, tmp_path: Path
) -> None:
    data = zip_of(tmp_path / "p.zip", latest()).read_bytes()
    found = prepare(lab, server.put("/package.zip", data), scratch)
    (location,) = entry(found)["tasks"]["nuclei"]["locations"]
    assert location["location"] == "../weights/bioimageio/calm-otter/weights.onnx"


def test_values_that_differ_from_the_familys_are_written(
    lab: Path, scratch: Path, tmp_path: Path
) -> None:
    found = prepare(lab, str(folder_of(tmp_path / "p", latest())), scratch)
    params = {p["arg_name"]: p for p in entry(found)["tasks"]["nuclei"]["params"]}
    assert params["boundary"]["value"] == 2
    assert params["objects"]["default"] == "foreground"
    described = latest()
    described["outputs"][0]["axes"][1]["channel_names"] = ["background", "cells", "yeast"]
    classes = folder_of(tmp_path / "q", described)
    found = prepare(lab, str(classes), scratch, version="Kinds", task="cyto")
    params = {p["arg_name"]: p for p in entry(found)["tasks"]["cyto"]["params"]}
    assert params["objects"]["value"] == ["classes"]
    assert found.model == "bioimageio/kinds"


def test_it_must_be_clear_what_is_segmented(lab: Path, scratch: Path, tmp_path: Path) -> None:
    package = str(folder_of(tmp_path / "p", latest(tags=["2D"])))
    with pytest.raises(AiodError, match="What does it segment"):
        prepare(lab, package, scratch)
    assert "cyto" in entry(prepare(lab, package, scratch, task="cyto"))["tasks"]
    with pytest.raises(AiodError, match="not be a valid manifest"):
        prepare(lab, package, scratch, task="toenails")


def test_a_model_is_not_added_twice(lab: Path, scratch: Path, tmp_path: Path) -> None:
    package = str(folder_of(tmp_path / "p", latest()))
    prepare(lab, package, scratch).write()
    with pytest.raises(AiodError, match='has a version "Calm nuclei" already'):
        prepare(lab, package, scratch)


def test_weights_that_are_not_those_described_are_refused(
    lab: Path, scratch: Path, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path / "p", latest())
    (folder / "weights.onnx").write_bytes(b"others")
    with pytest.raises(AiodError, match="is not the file that the description means"):
        prepare(lab, str(folder), scratch)
    (folder / "weights.onnx").unlink()
    with pytest.raises(AiodError, match="has no file"):
        prepare(lab, str(folder), scratch)
    (folder / "weights.onnx").symlink_to("/etc/hostname")
    with pytest.raises(AiodError, match="has no file"):
        prepare(lab, str(folder), scratch)


def test_an_archive_that_leads_outside_is_refused(lab: Path, scratch: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr("rdf.yaml", text(latest()))
        archive.writestr("../../weights.onnx", npy(0))
    with pytest.raises(AiodError, match="leads outside"):
        prepare(lab, str(tmp_path / "p.zip"), scratch)
    (tmp_path / "q.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(AiodError, match="broken"):
        prepare(lab, str(tmp_path / "q.zip"), scratch)


def test_what_is_no_package_is_a_sentence(
    server: Server, lab: Path, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    server.put("/endless/rdf.yaml", endless())
    server.put("/gone/rdf.yaml", status(410))
    server.put("/binary/rdf.yaml", b"\xff\xfe\x00")
    for source, told in (
        (str(tmp_path / "empty"), r"it has no rdf\.yaml"),
        (str(tmp_path / "nothing.zip"), "no such file"),
        ("no-such-model", "gives no"),
        (server.url("/endless/rdf.yaml"), "has more than"),
        (server.url("/gone/rdf.yaml"), "cannot be read"),
        (server.url("/binary/rdf.yaml"), "not UTF-8"),
    ):
        with pytest.raises(AiodError, match=told):
            prepare(lab, source, scratch)
    monkeypatch.setenv("AIOD_OFFLINE", "1")
    before = len(server.asked)
    for source in ("calm-otter", "10.5281/zenodo.77", server.url("/zoo/x/files/rdf.yaml")):
        with pytest.raises(AiodError, match="AIOD_OFFLINE"):
            prepare(lab, source, scratch)
    assert len(server.asked) == before
