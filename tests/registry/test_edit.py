"""Adding to a layer from Python, as training code registers what it made."""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from aiod.errors import AiodError, ManifestError, UnknownModelError, UsageError
from aiod.progress import Step
from aiod.registry import load, read_document
from aiod.registry.canonical import to_text
from aiod.registry.edit import add_family, add_location, add_task, add_version
from aiod.registry.fingerprint import fingerprint
from aiod.registry.runners import read_runner
from aiod.registry.validate import validate
from families import family

MakeLayer = Callable[..., Path]
WEIGHTS = b"weights of a toy" * 1000
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
URL = "https://example.org/weights.pth"


@pytest.fixture
def lab(make_layer: MakeLayer) -> Path:
    """An empty layer with a file and a folder of weights."""
    folder = make_layer("lab")
    (folder / "weights" / "folder").mkdir(parents=True)
    (folder / "weights" / "toy.pth").write_bytes(WEIGHTS)
    return folder


def _files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _new(lab: Path, **changes: Any) -> Any:
    """A family with the least that one needs."""
    given = {"description": "Toys.", "task": "nuclei", "axes": "YX", "location": URL}
    return add_family(lab, "Toy", "v1", **{**given, "hashed": False, **changes})


def _read(lab: Path, name: str = "toy") -> dict[str, Any]:
    return read_document(lab / "manifests" / f"{name}.json")


@contextmanager
def _server(status: int = 200, body: bytes = WEIGHTS, length: int | None = None) -> Iterator[str]:
    """The address of a real server on this machine that gives one answer to everything."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/toy.pth"
        finally:
            server.shutdown()
            thread.join()


# -- families ------------------------------------------------------------------------------------


def test_a_new_family_is_a_manifest_in_canonical_form_and_a_runner(lab: Path) -> None:
    manifest, runner = _new(lab)
    assert manifest.path == lab / "manifests" / "toy.json"
    assert runner.path == lab / "runners" / "toy.py"
    assert manifest.path.read_text() == to_text(_read(lab))
    assert _read(lab) == {
        "name": "Toy",
        "short_name": "toy",
        "metadata": {"description": "Toys."},
        "versions": {"v1": {"axes": "YX", "tasks": {"nuclei": {"locations": [{"location": URL}]}}}},
    }
    assert "toy/v1/nuclei" in load([lab])


def test_a_layer_that_does_not_exist_yet_is_made(tmp_path: Path) -> None:
    _new(tmp_path / "new" / "lab")
    assert "toy/v1" in load([tmp_path / "new" / "lab"])


def test_a_layer_with_a_schema_gets_manifests_that_point_to_it(lab: Path) -> None:
    (lab / "schema.json").write_text("{}")
    _new(lab)
    assert next(iter(_read(lab).items())) == ("$schema", "../schema.json")


def test_everything_given_for_a_family_is_in_its_manifest(lab: Path) -> None:
    params = [{"value": [1, 2], "name": "Size", "arg_name": "size", "default": 2}]
    metadata = {"license": {"code": "MIT"}, "authors": [{"name": "Ada Byron"}]}
    _new(lab, short_name="t", config_path="c.yaml", metadata=metadata, params=params)
    document = _read(lab, "t")
    assert document["metadata"] == {"description": "Toys.", **metadata}
    assert document["params"] == params
    (location,) = document["versions"]["v1"]["tasks"]["nuclei"]["locations"]
    assert location == {"location": URL, "config_path": "c.yaml"}


def test_a_family_without_a_location_is_an_algorithm(lab: Path) -> None:
    _new(lab, location=None)
    assert not load([lab]).get("toy/v1").needs_weights


@pytest.mark.parametrize(
    "params",
    [
        [],
        [{"name": "Size", "arg_name": "size", "value": 3.5}],
        [
            {"name": "Mode", "arg_name": "mode", "value": ["a 'b'", 'c "d" \\n \n é']},
            {"name": "Pick", "arg_name": "pick", "value": [1, 2], "default": 2},
            {"name": "On", "arg_name": "on", "value": True},
            {"name": "auto", "value": None, "dtype": "float"},
            {"name": "größe", "value": -1e-300},
        ],
    ],
)
@pytest.mark.parametrize("name", ["Toy", 'A """quoted""" {name} \\', "Ünï 玩具 \x00 \x1b[0m\n"])
def test_the_skeleton_of_a_runner_parses_and_passes_validate(
    lab: Path, name: str, params: list[dict[str, Any]]
) -> None:
    add_family(lab, name, "v1", description="Toys.", task="nuclei", short_name="toy", params=params)
    text = (lab / "runners" / "toy.py").read_text(encoding="utf-8")
    functions = [node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    assert functions == ["load", "predict"]
    assert text.startswith("# /// script\n")
    runner = read_runner(lab / "runners" / "toy.py")
    assert set(runner.accepted) == {item.get("arg_name", item["name"]) for item in params}
    checked = validate([lab])
    assert checked.count("error") == 0, [problem.as_text() for problem in checked.problems]


def test_the_skeletons_defaults_are_those_of_the_manifest(lab: Path) -> None:
    params = [
        {"name": "a", "value": ["x", "y"], "default": "y"},
        {"name": "b", "value": [3, 1]},
        {"name": "c", "value": None, "dtype": "int"},
        {"name": "d", "value": False},
        {"name": "e", "value": "say \"hi\" \\ 'ho'\n"},
    ]
    _new(lab, params=params)
    tree = ast.parse((lab / "runners" / "toy.py").read_text())
    predict = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "predict")
    defaults = {
        argument.arg: ast.literal_eval(default)
        for argument, default in zip(predict.args.kwonlyargs, predict.args.kw_defaults, strict=True)
        if default is not None
    }
    assert defaults == load([lab]).default_config("toy/v1")


def test_a_runner_that_is_there_already_is_left_alone(lab: Path) -> None:
    (lab / "runners").mkdir()
    (lab / "runners" / "toy.py").write_text("mine")
    assert len(_new(lab)) == 1
    assert (lab / "runners" / "toy.py").read_text() == "mine"


def test_a_family_may_come_without_a_runner(lab: Path) -> None:
    assert len(_new(lab, runner=False)) == 1
    assert not (lab / "runners").exists()


def test_a_family_that_the_layer_has_is_refused(lab: Path) -> None:
    _new(lab)
    before = _files(lab)
    with pytest.raises(UsageError, match=r"exists already: .*toy\.json") as caught:
        _new(lab, description="Others.")
    assert "aiod new version --family toy" in str(caught.value.hint)
    (lab / "manifests" / "toy.json").rename(lab / "manifests" / "renamed.json")
    with pytest.raises(UsageError, match=r"exists already: .*renamed\.json"):
        _new(lab)
    assert len(_files(lab)) == len(before)


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "Nuclei"},
        {"axes": "XX"},
        {"description": ""},
        {"location": "htps://typo"},
        {"location": ""},
        {"short_name": "../../evil"},
        {"metadata": {"license": {"code": "nonsense"}}},
        {"metadata": {"unknown": 1}},
        {"params": [{"name": "x"}]},
        {"params": [{"name": "two words", "value": 1}]},
        {"params": [{"name": "a", "value": 1}, {"name": "a", "value": 2}]},
        {"config_path": "gopher://x"},
    ],
)
def test_what_would_not_be_valid_is_refused_and_nothing_is_written(
    lab: Path, changes: dict[str, Any]
) -> None:
    before = _files(lab.parent)
    with pytest.raises(ManifestError, match="would not be a valid manifest") as caught:
        _new(lab, **changes)
    assert caught.value.details
    assert {path: _files(lab.parent).get(path) for path in before} == before
    assert not list(lab.parent.rglob("*evil*"))
    assert list((lab / "manifests").iterdir()) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, Path("x")])
def test_what_json_cannot_say_is_refused(lab: Path, value: Any) -> None:
    with pytest.raises(ManifestError, match=r"cannot be written to \S+ as JSON"):
        _new(lab, params=[{"name": "x", "value": value}])
    assert list((lab / "manifests").iterdir()) == []


def test_a_dry_run_writes_nothing_and_gives_what_it_would_write(lab: Path) -> None:
    before = _files(lab)
    manifest, runner = _new(lab, dry_run=True)
    assert _files(lab) == before
    assert manifest.before is None
    assert "+++ " + str(lab / "manifests" / "toy.json") in manifest.diff
    assert '+  "name": "Toy",' in manifest.diff
    manifest.write()
    runner.write()
    assert "toy/v1" in load([lab])


# -- versions ------------------------------------------------------------------------------------


def test_a_version_is_added_at_the_end_and_the_rest_stays_as_it_was(lab: Path) -> None:
    _new(lab)
    before = _read(lab)
    change = add_version(
        lab,
        "toy",
        "Version 2",
        task="cyto",
        location="../weights/toy.pth",
        axes="ZYX",
        slug="v2",
        description="Trained further.",
        config_path="c.yaml",
        metadata={"keywords": ["more"]},
    )
    after = _read(lab)
    assert list(after["versions"]) == ["v1", "Version 2"]
    assert after["versions"].pop("Version 2") == {
        "slug": "v2",
        "axes": "ZYX",
        "metadata": {"description": "Trained further.", "keywords": ["more"]},
        "tasks": {
            "cyto": {
                "locations": [
                    {
                        "location": "../weights/toy.pth",
                        "config_path": "c.yaml",
                        "sha256": SHA256,
                        "size": len(WEIGHTS),
                    }
                ]
            }
        },
    }
    assert after == before
    assert change.after == (lab / "manifests" / "toy.json").read_text() == to_text(_read(lab))
    assert [line for line in change.diff.splitlines()[2:] if line.startswith("-")] == []


def test_a_version_of_a_shipped_family_becomes_a_small_manifest_in_the_lab_layer(
    lab: Path,
) -> None:
    add_version(lab, "cellpose", "embryo", task="cyto", location="../weights/toy.pth", axes="CYX")
    registry = load([lab])
    model = registry.get("cellpose/embryo")
    assert model.layers == ("lab",)
    assert registry.params_for(model) == registry.params_for("cellpose/cyto3")
    assert list(_read(lab, "cellpose")["versions"]) == ["embryo"]
    assert not (lab / "runners").exists()
    assert validate([lab]).count("error") == 0


@pytest.mark.parametrize(
    ("version", "slug"),
    [("v1", None), ("V1", None), ("other", "v1"), ("v1", "other")],
)
def test_a_version_that_exists_is_refused_by_name_and_slug(
    lab: Path, version: str, slug: str | None
) -> None:
    _new(lab)
    before = _files(lab)
    with pytest.raises(UsageError, match='has a version "v1" already'):
        add_version(lab, "toy", version, task="nuclei", location=URL, slug=slug, hashed=False)
    assert _files(lab) == before


def test_a_version_that_an_earlier_layer_has_is_refused_too(lab: Path) -> None:
    with pytest.raises(UsageError, match="in the layer aiod") as caught:
        add_version(lab, "cellpose", "cyto3", task="cyto", location=URL, hashed=False)
    assert "aiod new location" in str(caught.value.hint)
    assert list((lab / "manifests").iterdir()) == []


def test_a_family_that_there_is_not_names_the_nearest(lab: Path) -> None:
    with pytest.raises(UnknownModelError, match="celpose") as caught:
        add_version(lab, "celpose", "x", task="cyto", location=URL, hashed=False)
    assert "cellpose" in str(caught.value.hint)


def test_metadata_of_a_version_needs_a_description(lab: Path) -> None:
    _new(lab)
    with pytest.raises(UsageError, match="needs a description"):
        add_version(lab, "toy", "v2", task="cyto", location=None, metadata={"keywords": ["x"]})


def test_a_version_is_not_added_to_a_manifest_that_is_broken(lab: Path) -> None:
    path = lab / "manifests" / "toy.json"
    path.write_text('{"name": "Toy", "mine": "unsaved work"')
    with pytest.raises(ManifestError, match=r"toy\.json"):
        add_version(lab, "toy", "v2", task="cyto", location=None)
    assert path.read_text() == '{"name": "Toy", "mine": "unsaved work"'


def test_a_lab_task_can_be_used_in_a_manifest_of_any_name(lab: Path) -> None:
    (lab / "manifests" / "tasks.json").write_text('{"wing": "Wings"}')
    _new(lab, task="wing")
    (lab / "manifests" / "toy.json").rename(lab / "manifests" / "a.json")
    add_version(lab, "toy", "v2", task="wing", location=None)
    assert [model.id for model in load([lab]).filter(task="wing")] == [
        "toy/v1/wing",
        "toy/v2/wing",
    ]


# -- tasks and locations -------------------------------------------------------------------------


def test_a_task_is_added_to_a_version_by_name_or_slug(lab: Path) -> None:
    _new(lab)
    add_version(lab, "toy", "Version 2", task="cyto", location=None)
    add_task(lab, "toy", "version_2", task="mito", location=URL, hashed=False)
    add_task(lab, "toy", "Version 2", task="er", location=None, metadata={"description": "ER too."})
    tasks = _read(lab)["versions"]["Version 2"]["tasks"]
    assert tasks == {
        "cyto": {"weights": False},
        "mito": {"locations": [{"location": URL}]},
        "er": {"weights": False, "metadata": {"description": "ER too."}},
    }


def test_a_task_can_be_added_over_a_shipped_version(lab: Path) -> None:
    add_task(lab, "cellpose", "cyto3", task="nuclei", location="../weights/toy.pth")
    registry = load([lab])
    assert registry.get("cellpose/cyto3/nuclei").layers == ("lab",)
    assert registry.get("cellpose/cyto3/cyto").layers == ("aiod",)


@pytest.mark.parametrize("family_name", ["toy", "cellpose"])
def test_a_task_that_the_version_has_is_refused(lab: Path, family_name: str) -> None:
    _new(lab)
    version, task = ("v1", "nuclei") if family_name == "toy" else ("cyto3", "cyto")
    with pytest.raises(UsageError, match=f'has the task "{task}" already'):
        add_task(lab, family_name, version, task=task, location=URL, hashed=False)


def test_a_version_that_there_is_not_lists_those_there_are(lab: Path) -> None:
    for add in (add_task, add_location):
        with pytest.raises(UnknownModelError, match='no version "v9"') as caught:
            add(lab, "stardist", "v9", task="nuclei", location=URL, hashed=False)
        assert "2D_versatile_fluo" in str(caught.value.hint)


def test_a_location_goes_last_or_first(lab: Path) -> None:
    _new(lab)
    add_location(lab, "toy", "v1", location="../weights/toy.pth")
    add_location(lab, "toy", "v1", location="../weights/folder", first=True)
    (entry,) = _read(lab)["versions"]["v1"]["tasks"].values()
    assert [item["location"] for item in entry["locations"]] == [
        "../weights/folder",
        URL,
        "../weights/toy.pth",
    ]
    assert entry["locations"][2]["sha256"] == SHA256


def test_the_short_form_of_a_location_becomes_a_list(make_layer: MakeLayer) -> None:
    document = family()
    document["versions"]["v1"]["tasks"] = {
        "nuclei": {"location": URL, "config_path": "c.yaml"},
        "cyto": {"location": None, "locations": [{"location": URL}]},
    }
    lab = make_layer("lab", document)
    for task in ("nuclei", "cyto"):
        add_location(lab, "toy", "v1", task=task, location="https://b.org/x", hashed=False)
    assert _read(lab)["versions"]["v1"]["tasks"] == {
        "nuclei": {
            "locations": [
                {"location": URL, "config_path": "c.yaml"},
                {"location": "https://b.org/x"},
            ]
        },
        "cyto": {"locations": [{"location": URL}, {"location": "https://b.org/x"}]},
    }


def test_a_labs_copy_of_shipped_weights_is_tried_first(lab: Path) -> None:
    add_location(lab, "cellpose", "cyto3", location="../weights/toy.pth")
    locations = load([lab]).locations_for("cellpose/cyto3")
    assert [item.layer for item in locations] == ["lab", "aiod"]
    assert (locations[0].sha256, locations[0].size) == (SHA256, len(WEIGHTS))


def test_a_location_that_makes_no_sense_is_refused(lab: Path) -> None:
    _new(lab)
    add_task(lab, "toy", "v1", task="cyto", location=None)
    with pytest.raises(UsageError, match="several tasks") as caught:
        add_location(lab, "toy", "v1", location=URL, hashed=False)
    assert caught.value.hint == "name one: nuclei or cyto"
    with pytest.raises(UsageError, match="is an algorithm"):
        add_location(lab, "toy", "v1", task="cyto", location=URL, hashed=False)
    with pytest.raises(UsageError, match=r"has the location \S+ already"):
        add_location(lab, "toy", "v1", task="nuclei", location=URL, hashed=False)
    with pytest.raises(UnknownModelError, match='has no task "mito"'):
        add_location(lab, "toy", "v1", task="mito", location=URL, hashed=False)


# -- hash and size -------------------------------------------------------------------------------


def test_hash_and_size_of_a_local_file_are_computed(lab: Path) -> None:
    steps: list[Step] = []
    assert fingerprint("../weights/toy.pth", lab / "manifests", steps.append) == (
        SHA256,
        len(WEIGHTS),
    )
    assert steps[-1].done == len(WEIGHTS)


def test_a_folder_of_weights_has_no_hash(lab: Path) -> None:
    _new(lab, location="../weights/folder", hashed=True)
    (entry,) = _read(lab)["versions"]["v1"]["tasks"]["nuclei"]["locations"]
    assert entry == {"location": "../weights/folder"}


def test_hash_and_size_of_a_remote_file_are_computed(lab: Path) -> None:
    steps: list[Step] = []
    with _server() as url:
        _new(lab, location=url, hashed=True, progress=steps.append)
    (entry,) = _read(lab)["versions"]["v1"]["tasks"]["nuclei"]["locations"]
    assert entry == {"location": url, "sha256": SHA256, "size": len(WEIGHTS)}
    assert (steps[-1].done, steps[-1].total) == (len(WEIGHTS), len(WEIGHTS))


@pytest.mark.parametrize(
    "answer",
    [{"status": 404}, {"status": 500}, {"length": len(WEIGHTS) + 1}],
    ids=["missing", "broken", "truncated"],
)
def test_a_remote_file_that_cannot_be_read_whole_is_an_error(
    lab: Path, answer: dict[str, Any]
) -> None:
    with _server(**answer) as url, pytest.raises(AiodError, match="cannot be read") as caught:
        _new(lab, location=url, hashed=True)
    assert "--no-hash" in str(caught.value.hint)
    assert list((lab / "manifests").iterdir()) == []


def test_a_server_that_is_not_there_and_a_file_that_is_not_there_are_errors(lab: Path) -> None:
    with _server() as url:
        pass
    for location in (url, "../weights/gone.pth", "a\0b"):
        with pytest.raises(AiodError, match="cannot be read"):
            fingerprint(location, lab / "manifests")


def test_offline_no_server_is_asked(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOD_OFFLINE", "1")
    with _server() as url, pytest.raises(AiodError, match="AIOD_OFFLINE"):
        fingerprint(url, lab)
    _new(lab, location=URL, hashed=False)


def test_training_code_registers_its_model_in_one_call(lab: Path) -> None:
    """The docstring's example, as it stands there."""
    add_version(
        lab,
        "cellpose",
        "embryo",
        task="cyto",
        location="../weights/toy.pth",
        axes="CYX",
        description="cyto3 trained further on 40 embryo images.",
    )
    model = load([lab]).get("cellpose/embryo")
    assert model.reachable
    assert model.description == "cyto3 trained further on 40 embryo images."


# -- answers -------------------------------------------------------------------------------------


def test_what_is_written_is_json_with_letters_as_they_are(lab: Path) -> None:
    _new(lab, description="Größe in µm")
    text = (lab / "manifests" / "toy.json").read_text(encoding="utf-8")
    assert "Größe in µm" in text
    assert text.endswith("}\n")
    assert json.loads(text)["metadata"]["description"] == "Größe in µm"


def test_trainings_that_end_together_all_register_their_models(tmp_path: Path) -> None:
    layer = tmp_path / "lab"
    program = (
        "import sys; from aiod.registry.edit import add_version;"
        f"add_version({str(layer)!r}, 'cellpose', sys.argv[1], task='cyto', location=None)"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", program, f"run{number}"]) for number in range(6)
    ]
    assert [writer.wait(timeout=60) for writer in writers] == [0] * 6
    document = read_document(layer / "manifests" / "cellpose.json")
    assert sorted(document["versions"]) == [f"run{number}" for number in range(6)]


def test_a_change_that_would_undo_anothers_is_refused(tmp_path: Path) -> None:
    layer = tmp_path / "lab"
    planned = add_version(layer, "cellpose", "one", task="cyto", location=None, dry_run=True)
    add_version(layer, "cellpose", "two", task="cyto", location=None)
    with pytest.raises(UsageError, match="has changed meanwhile"):
        planned.write()
    assert "two" in read_document(layer / "manifests" / "cellpose.json")["versions"]


def test_a_version_may_bring_its_own_parameters(tmp_path: Path) -> None:
    params = [{"name": "Diameter", "arg_name": "diameter", "value": 45.0}]
    add_version(tmp_path, "cellpose", "big", task="cyto", location=None, params=params)
    assert load(tmp_path).default_config("cellpose/big") == {"diameter": 45.0}


def test_a_missing_hash_is_added_to_a_location_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"weights")
    place = str(tmp_path / "weights")
    add_version(tmp_path, "cellpose", "x", task="cyto", location=place, hashed=False)
    add_location(tmp_path, "cellpose", "x", location=place)
    (location,) = load(tmp_path).locations_for("cellpose/x")
    assert location.sha256 == hashlib.sha256(b"weights").hexdigest()
    assert location.size == 7
