"""Files, folders and layers checked at once; runners compared with their manifests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aiod
from aiod.errors import AiodError, ManifestError, UsageError
from aiod.registry.problems import Problem
from aiod.registry.runners import read_runner
from aiod.registry.skeleton import runner_skeleton
from aiod.registry.tasks import TASK_NAMES, read_tasks
from aiod.registry.validate import validate
from families import family

MakeLayer = Callable[..., Path]
HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
RUNNER = """
def load(weights, *, config, device):
    return None


def predict(model, image, *, axes, size=3.5):
    return image
"""


def complete(name: str = "Toy", **changes: Any) -> dict[str, Any]:
    """A manifest without any warning."""
    document = family(name, **changes)
    for version in document["versions"].values():
        for place in version["tasks"].get("nuclei", {}).get("locations", []):
            place["sha256"] = HASH
    return document


def with_runner(layer: Path, text: str = RUNNER, name: str = "toy") -> Path:
    (layer / "runners").mkdir(exist_ok=True)
    (layer / "runners" / f"{name}.py").write_text(text)
    return layer


def said(*paths: Path) -> list[tuple[str, str, str]]:
    """(severity, code, name of the file) of each problem."""
    problems = validate(paths).problems
    return [(item.severity, item.code, Path(item.file).name) for item in problems]


def only(*paths: Path) -> Problem:
    (problem,) = validate(paths).problems
    return problem


def test_a_good_layer_has_no_problems(make_layer: MakeLayer) -> None:
    layer = with_runner(make_layer("lab", complete()))
    checked = validate([layer])
    assert checked.problems == ()
    assert checked.files == (layer / "manifests" / "toy.json",)


def test_all_problems_of_all_files_come_at_once(make_layer: MakeLayer) -> None:
    layer = make_layer("lab", {**family("A"), "name": ""}, family("B", metadata={}), family("C"))
    found = said(layer / "manifests")
    codes = [(code, name) for severity, code, name in found if severity == "error"]
    assert codes == [("empty", "a.json"), ("missing-field", "b.json")]
    checked = validate([layer / "manifests"])
    assert len(checked.files) == 3
    assert checked.count("error") == 2
    assert checked.count("warning") == len(checked.problems) - 2


def test_a_single_file_is_checked_without_its_runner(make_layer: MakeLayer) -> None:
    layer = make_layer("lab", complete())
    assert said(layer / "manifests" / "toy.json") == []


def test_a_folder_of_manifests_needs_no_runners_unless_it_has_some(make_layer: MakeLayer) -> None:
    layer = make_layer("lab", complete())
    assert said(layer / "manifests") == []
    with_runner(layer, RUNNER.replace("size", "width"))
    assert {code for _, code, _ in said(layer / "manifests")} == {"not-accepted", "never-set"}


def test_a_path_that_is_not_there_or_holds_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="missing does not exist"):
        validate([tmp_path / "missing"])
    with pytest.raises(UsageError, match="holds no manifests"):
        validate([tmp_path])


def test_a_file_that_cannot_be_read_is_one_problem_among_others(make_layer: MakeLayer) -> None:
    layer = make_layer("lab", complete("A"), complete("B"))
    (layer / "manifests" / "a.json").write_bytes(b'{"name": "\xff"}')
    (layer / "manifests" / "c.json").mkdir()
    (layer / "manifests" / "d.json").symlink_to("nowhere.json")
    problems = validate([layer / "manifests"]).problems
    assert [Path(item.file).name for item in problems] == ["a.json", "c.json", "d.json"]
    assert all(item.severity == "error" for item in problems)
    assert "UTF-8" in problems[0].as_text()


def test_two_families_with_one_short_name_are_an_error(make_layer: MakeLayer) -> None:
    layer = make_layer("lab", complete())
    second = layer / "manifests" / "zoo.json"
    second.write_text(json.dumps(complete("Zoo", short_name="toy"), indent=2))
    problem = only(layer / "manifests")
    assert (problem.code, problem.severity, problem.line) == ("duplicate-family", "error", 3)
    assert problem.found == 'the short_name "toy", which toy.json has already'
    assert problem.source == '  "short_name": "toy",'


def test_a_short_name_that_follows_from_the_name_counts_too(make_layer: MakeLayer) -> None:
    document = complete("TOY")
    del document["short_name"]
    layer = make_layer("lab", complete(), document)
    assert [code for _, code, _ in said(layer / "manifests")] == ["duplicate-family"]


def test_a_layer_may_bring_tasks(make_layer: MakeLayer) -> None:
    tasks = {"organoids": {"locations": [{"location": "a.pth", "sha256": HASH}]}}
    layer = make_layer("lab", complete(versions={"v1": {"tasks": tasks}}))
    assert [code for _, code, _ in said(layer / "manifests")] == ["unknown-task"]
    (layer / "manifests" / "tasks.json").write_text('{"organoids": "Organoids"}')
    assert said(layer / "manifests") == []
    assert said(layer / "manifests" / "toy.json") == []


def test_a_bad_list_of_tasks_is_an_error_of_that_file(make_layer: MakeLayer) -> None:
    layer = make_layer("lab", complete())
    (layer / "manifests" / "tasks.json").write_text('{"Organoids": ""}')
    assert said(layer / "manifests") == [("error", "tasks", "tasks.json")]


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"A": "A"}', '{"a": 3}', '{"a": " "}', '{"a": "A", "a": "B"}', '{"../a": "A"}'],
)
def test_a_list_of_tasks_is_strict(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tasks.json"
    path.write_text(text)
    with pytest.raises(ManifestError, match=r"tasks\.json"):
        read_tasks(path)


def test_tasks_keep_their_order_and_cannot_be_changed(tmp_path: Path) -> None:
    path = tmp_path / "tasks.json"
    path.write_text('{"z": "Z", "a": "A"}')
    assert list(read_tasks(path).items()) == [("z", "Z"), ("a", "A")]
    with pytest.raises(TypeError):
        TASK_NAMES["x"] = "X"  # type: ignore[index]


def test_a_missing_runner_is_said_at_the_family(make_layer: MakeLayer) -> None:
    problem = only(make_layer("lab", complete()))
    assert (problem.code, problem.line) == ("no-runner", 3)
    assert problem.found == "no runner for toy"
    assert problem.expected.endswith("toy.py")


def test_a_runner_that_no_manifest_names_is_needless(make_layer: MakeLayer) -> None:
    layer = with_runner(with_runner(make_layer("lab", complete())), name="zoo")
    assert said(layer) == [("error", "needless-runner", "zoo.py")]
    (layer / "runners" / "zoo.py").rename(layer / "runners" / "_shared.py")
    assert said(layer) == []


def test_a_parameter_that_the_runner_does_not_accept(make_layer: MakeLayer) -> None:
    layer = with_runner(make_layer("lab", complete()), RUNNER.replace(", size=3.5", ""))
    problem = only(layer)
    assert (problem.severity, problem.code) == ("error", "not-accepted")
    assert problem.found == 'the argument "size", which toy.py does not accept'
    assert problem.source.strip() == '"arg_name": "size",'


def test_an_argument_that_no_manifest_sets_is_said_in_the_runner(make_layer: MakeLayer) -> None:
    runner = RUNNER.replace("size=3.5", "size=3.5, width=2")
    problem = only(with_runner(make_layer("lab", complete()), runner))
    assert (problem.severity, problem.code, problem.line) == ("error", "never-set", 6)
    assert problem.as_text().splitlines()[1:3] == [
        "     6 | def predict(model, image, *, axes, size=3.5, width=2):",
        "       |                                              ^^^^^",
    ]


def test_parameters_of_tasks_reach_the_runner_too(make_layer: MakeLayer) -> None:
    document = complete()
    entry = document["versions"]["v1"]["tasks"]["nuclei"]
    entry["params"] = [{"name": "width", "value": 2, "tooltip": "How wide."}]
    layer = with_runner(make_layer("lab", document))
    assert only(layer).found == 'the argument "width", which toy.py does not accept'
    with_runner(layer, RUNNER.replace("size=3.5", "size=3.5, width=2"))
    assert said(layer) == []


def test_a_runner_that_takes_any_keyword_accepts_all(make_layer: MakeLayer) -> None:
    runner = RUNNER.replace("size=3.5", "**options")
    assert said(with_runner(make_layer("lab", complete()), runner)) == []


def test_a_survey_takes_parameters_and_gives_arguments(make_layer: MakeLayer) -> None:
    runner = RUNNER.replace("size=3.5", "low, high")
    for given in ('{"low": 0, "high": 1}', "dict(low=0, high=1)"):
        survey = f"\n\ndef survey(statistics, *, size):\n    return {given}\n"
        assert said(with_runner(make_layer("lab", complete()), runner + survey)) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def load(:", "toy.py:1: not Python"),
        ("x = 1\0", "not Python"),
        ("(" * 500, "not Python"),
        ("def load(): ...", "has no function predict"),
        ("import predict", "has no function load and no function predict"),
        ("class A:\n    def load(self): ...\n    def predict(self): ...", "has no function load"),
    ],
)
def test_what_is_no_runner_is_an_error(make_layer: MakeLayer, text: str, message: str) -> None:
    layer = with_runner(make_layer("lab", complete()), text)
    problem = only(layer)
    assert problem.code == "runner"
    assert message in problem.found
    with pytest.raises(AiodError, match="toy"):
        read_runner(layer / "runners" / "toy.py")


def test_a_runner_is_never_imported(make_layer: MakeLayer, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    layer = with_runner(make_layer("lab", complete()), f"open({str(ran)!r}, 'w').close()\n{RUNNER}")
    assert said(layer) == []
    assert not ran.exists()


def test_a_runner_is_read_without_a_word_about_its_style(tmp_path: Path) -> None:
    path = tmp_path / "toy.py"
    path.write_text(f'pattern = "\\d"\n{RUNNER}')  # Python itself warns of this escape
    assert read_runner(path).accepted == {"size": 7}


def test_a_runner_needs_what_is_not_installed_and_is_read_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "toy.py"
    path.write_text(f"import no_such_library\n{RUNNER}")
    runner = read_runner(path)
    assert runner.accepted == {"size": 7}
    assert runner.refuses("width")
    assert not runner.refuses("size")


def test_the_skeleton_of_a_runner_fits_its_manifest(make_layer: MakeLayer, tmp_path: Path) -> None:
    keywords = {"size": 3.5, "mode": "fä\"st'", "flag": True, "none": None, "whole": 3}
    params = [
        {"name": name, "value": value, "tooltip": "A knob."} for name, value in keywords.items()
    ]
    params[3]["dtype"] = "float"
    layer = make_layer("lab", complete(params=params))
    for name in ("Toy", 'T"""oy', "Toy\\", "細胞"):
        assert said(with_runner(layer, runner_skeleton(name, "YX", keywords))) == []
    assert "axes as the manifest says" in runner_skeleton("Toy", None, {})


def test_the_shipped_layer_has_no_errors() -> None:
    checked = validate([Path(aiod.__file__).parent])
    assert [item.as_text() for item in checked.problems if item.severity == "error"] == []
    assert len(checked.files) >= 8


def test_a_problem_of_a_layer_is_in_the_order_of_its_files(make_layer: MakeLayer) -> None:
    layer = make_layer("lab", family("B"), family("A"))
    names = [name for _, _, name in said(layer / "manifests")]
    assert names == sorted(names)


def test_two_files_named_one_by_one_are_one_layer_still(make_layer: Callable[..., Path]) -> None:
    layer = make_layer("lab", family("Toy"))
    twin = layer / "manifests" / "twin.json"
    twin.write_text((layer / "manifests" / "toy.json").read_text())
    checked = validate([layer / "manifests" / "toy.json", twin])
    assert [p.code for p in checked.problems if p.severity == "error"] == ["duplicate-family"]


def test_what_only_adds_to_a_shipped_family_inherits_its_licence_and_papers(
    make_layer: Callable[..., Path],
) -> None:
    bare = family("Cellpose", metadata={"description": "Ours."}, params=[])
    codes = {problem.code for problem in validate([make_layer("lab", bare)]).problems}
    assert "no-hash" in codes
    assert codes.isdisjoint({"no-weights-licence", "no-code-licence", "no-publication"})


def test_a_runner_beside_additions_to_a_shipped_family_takes_its_parameters_too(
    make_layer: Callable[..., Path],
) -> None:
    layer = make_layer("lab", family("Cellpose", params=None))
    (layer / "runners").mkdir()
    (layer / "runners" / "cellpose.py").write_text(
        "def load(weights, *, config, device): ...\n"
        "def predict(model, image, *, axes, diameter=30.0): ...\n"
    )
    errors = [p for p in validate([layer]).problems if p.severity == "error"]
    assert errors == []


def test_a_manifest_of_thousands_of_mistakes_is_judged(tmp_path: Path) -> None:
    params = [{"name": f"P{n}", "tool_tip": "x", "vlaue": 1} for n in range(2000)]
    path = tmp_path / "many.json"
    path.write_text(json.dumps(family(params=params)))
    codes = [problem.code for problem in validate([path]).problems]
    assert codes.count("unknown-field") == 4000
