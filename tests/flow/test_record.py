"""run.json: strict models, written whole, read with sentences, and a digest of the request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from aiod.flow.record import (
    EnvironmentRecord,
    HostRecord,
    ImageRecord,
    LicenceRecord,
    ModelRecord,
    ParametersRecord,
    PlanRecord,
    RecordError,
    RunRecord,
    SetRecord,
    StepRecord,
    WeightsRecord,
    canonical_digest,
    read_record,
    request_digest,
    sealed,
    within,
    write_record,
)

HASH = "0123456789abcdef" * 4


def image_record(**changes: Any) -> ImageRecord:
    fields: dict[str, Any] = {
        "sample": "cells",
        "set": "nuclei",
        "path": "/data/cells.tif",
        "status": "done",
        "fingerprint": f"sha256:{HASH}",
        "axes": "YX",
        "shape": (2048, 2048),
        "dtype": "uint16",
        "channels": ("DAPI",),
        "pixel_size": {"Y": 0.325, "X": 0.325},
        "plan": PlanRecord(
            axes="YX", shape=(2048, 2048), tile=(512, 512), halo=(64, 64), tiles=16, frames=1
        ),
        "survey": {"threshold": 812.5},
        "labels": "cells.ome.zarr/labels/nuclei",
        "labels_digest": f"sha256:{HASH}",
        "objects": 1234,
        "outputs": {"overlay": "cells.png"},
        "seconds": 3.5,
        "warnings": ("Its pixel size is not known.",),
    }
    return ImageRecord(**{**fields, **changes})


def run_record(**changes: Any) -> RunRecord:
    fields: dict[str, Any] = {
        "aiod": "0.2.0",
        "command": ("aiod", "run", "toy/v1", "cells.tif"),
        "started": "2026-03-01T12:00:00+00:00",
        "model": ModelRecord(
            id="toy/v1/nuclei",
            task="nuclei",
            name="Toy v1",
            layer="lab",
            manifest_sha256=HASH,
            runner_sha256=HASH,
            weights=WeightsRecord(source="https://example.org/v1.pth", sha256=HASH, size=3),
            licence=LicenceRecord(code="MIT", weights="CC-BY-4.0"),
        ),
        "parameters": ParametersRecord(given={"size": 4.5}, defaulted={"smooth": True}),
        "sets": (
            SetRecord(
                name="nuclei", before=(StepRecord(name="median", params={"radius": 2}),), after=()
            ),
        ),
        "environment": EnvironmentRecord(
            family="toy", digest="ab12", python="3.13.1", packages=("numpy==2.4.0",)
        ),
        "host": HostRecord(
            platform="Linux x86_64", cpus=2, python="3.11.7", packages={"numpy": "2.4.6"}
        ),
        "device": "cpu",
        "images": (image_record(),),
        "seconds": 12.25,
    }
    return RunRecord(**{**fields, **changes})


def test_what_is_written_is_read_as_it_was(tmp_path: Path) -> None:
    record = sealed(run_record())
    path = write_record(record, tmp_path)
    assert path == tmp_path / "run.json"
    assert read_record(path) == record
    assert read_record(tmp_path) == record


def test_writing_again_changes_no_byte(tmp_path: Path) -> None:
    first = write_record(run_record(), tmp_path).read_bytes()
    assert write_record(read_record(tmp_path), tmp_path).read_bytes() == first


def test_nothing_but_the_record_is_left_in_the_folder(tmp_path: Path) -> None:
    write_record(run_record(), tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]


def test_a_file_name_that_is_no_text_can_be_recorded(tmp_path: Path) -> None:
    record = run_record(images=(image_record(path="/data/\udcff.tif"),))
    write_record(record, tmp_path)
    assert read_record(tmp_path).images[0].path == "/data/\\udcff.tif"


@pytest.mark.parametrize("field", ["model", "parameters", "environment", "host", "images"])
def test_unknown_keys_are_refused_everywhere(tmp_path: Path, field: str) -> None:
    document = json.loads(write_record(run_record(), tmp_path).read_text())
    (document[field][0] if field == "images" else document[field])["surprise"] = 1
    (tmp_path / "run.json").write_text(json.dumps(document))
    with pytest.raises(RecordError, match=r"not a right one\.\n  .*surprise: Extra inputs"):
        read_record(tmp_path)


def test_a_record_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        run_record().device = "mps"  # type: ignore[misc]


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../other/labels", "a/../../b", "C:/labels", "a\\..\\b", ""]
)
def test_outputs_stay_in_the_run_folder(path: str) -> None:
    with pytest.raises(ValidationError):
        image_record(labels=path)
    with pytest.raises(ValidationError):
        image_record(outputs={"csv": path})


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_only_finite_numbers_are_recorded(number: float) -> None:
    for values in ({"a": number}, {"a": [{"b": number}]}):
        with pytest.raises(ValidationError, match="finite"):
            image_record(survey=values)


def test_paths_in_the_run_folder_are_relative_to_it(tmp_path: Path) -> None:
    assert within(tmp_path / "run" / "a b" / "c.png", tmp_path / "run") == "a b/c.png"
    assert within(tmp_path / "image.tif", tmp_path / "run") == str(tmp_path / "image.tif")


def test_what_is_no_record_is_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    with pytest.raises(RecordError, match="cannot be read: no such file"):
        read_record(tmp_path)
    for text, sentence in {
        "": "is not JSON",
        "{": "is not JSON",
        "[]": "is not the record of a run",
        '{"name": "Toy"}': "is not the record of a run",
        "[" * 100_000: "is not JSON",
        '{"aiod": "9", "model": {}, "images": [], "format": 2}': "has format 2; .* up to 1",
        '{"aiod": "9", "model": {}, "images": [], "format": true}': "is not the record",
    }.items():
        file.write_text(text)
        with pytest.raises(RecordError, match=sentence) as caught:
            read_record(file)
        assert "run.json" in str(caught.value)


def test_a_record_of_wrong_values_names_the_first_of_them(tmp_path: Path) -> None:
    document = json.loads(write_record(run_record(), tmp_path).read_text())
    document["images"][0]["objects"] = "many"
    document["model"] = {}
    (tmp_path / "run.json").write_text(json.dumps(document))
    with pytest.raises(RecordError) as caught:
        read_record(tmp_path)
    assert "model.id: Field required" in caught.value.details
    assert caught.value.details[-1].startswith("… and ")


def test_a_terminal_is_not_made_to_obey_a_record(tmp_path: Path) -> None:
    document = json.loads(write_record(run_record(), tmp_path).read_text())
    document["\x1b[31m"] = 1
    (tmp_path / "run.json").write_text(json.dumps(document))
    with pytest.raises(RecordError) as caught:
        read_record(tmp_path)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"device": "cuda:0"},
        {"started": "2027-01-01T00:00:00+00:00"},
        {"command": ("aiod", "rerun", "run.json")},
        {"seconds": 1.0},
        {"warnings": ("Slow.",)},
        {"images": (image_record(path="/elsewhere/cells.tif", objects=1, status="unfinished"),)},
        {"parameters": ParametersRecord(given={"smooth": True, "size": 4.5})},
    ],
)
def test_what_does_not_determine_the_masks_leaves_the_digest(change: dict[str, Any]) -> None:
    assert request_digest(run_record(**change)) == request_digest(run_record())


@pytest.mark.parametrize(
    "change",
    [
        {"aiod": "0.3.0"},
        {"parameters": ParametersRecord(given={"size": 5.5}, defaulted={"smooth": True})},
        {"options": {"tile": [256, 256]}},
        {"sets": (SetRecord(name="nuclei"),)},
        {"images": (image_record(fingerprint="sha256:" + "0" * 64),)},
        {"images": (image_record(channels=("GFP",)),)},
        {"images": (image_record(pixel_size={}),)},
        {"images": ()},
    ],
)
def test_what_determines_the_masks_changes_the_digest(change: dict[str, Any]) -> None:
    assert request_digest(run_record(**change)) != request_digest(run_record())


def test_the_order_of_images_leaves_the_digest() -> None:
    a, b = image_record(sample="a"), image_record(sample="b")
    assert request_digest(run_record(images=(a, b))) == request_digest(run_record(images=(b, a)))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_the_digest_of_json_survives_writing_and_reading(value: dict[str, Any]) -> None:
    again = json.loads(json.dumps(dict(reversed(value.items()))))
    assert canonical_digest(again) == canonical_digest(value)
