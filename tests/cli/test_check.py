"""validate, fmt and upgrade as commands."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from terminal import aiod, fails, works

from aiod.registry import read_document
from aiod.registry.canonical import to_text
from aiod.registry.layers import SHIPPED
from families import family

MakeLayer = Callable[..., Path]


@pytest.fixture
def good(make_layer: MakeLayer) -> Path:
    """A manifest with warnings only, in canonical form."""
    lab = make_layer("lab")
    path = lab / "manifests" / "toy.json"
    path.write_text(to_text(family()))
    return path


@pytest.fixture
def bad(good: Path) -> Path:
    """A manifest with two errors beside the good one."""
    document = family("Bad")
    document["versions"]["v1"]["tasks"] = {"Nuclei": {"locations": []}}
    path = good.with_name("bad.json")
    path.write_text(to_text(document))
    return path


OLD: dict[str, Any] = {
    "name": "Old net",
    "short_name": "oldnet",
    "versions": [
        {
            "name": "v1",
            "tasks": [{"task": "Nuclei", "location": "https://example.org/1", "config_path": None}],
        }
    ],
    "params": [{"name": "Size", "short_name": "size", "value": 3}],
}


# -- validate ------------------------------------------------------------------------------------


def test_validate_without_a_path_checks_the_layers_added_else_the_shipped_one(good: Path) -> None:
    files = len(list((SHIPPED.folder / "manifests").glob("*.json")))
    assert f"{files} files checked: 0 errors" in works("validate", "--quiet")
    text = works("--registry", good.parents[1], "validate", "--quiet")
    assert "1 file checked: 0 errors" in text


def test_validate_of_a_good_file_works_and_strict_counts_its_warnings(good: Path) -> None:
    text = works("validate", good)
    assert "1 file checked: 0 errors, " in text
    assert "warning" in text
    done = aiod("validate", good, "--strict")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert works("validate", good, "--quiet").splitlines() == [text.splitlines()[-1]]


def test_validate_names_file_line_and_column_and_fails(bad: Path) -> None:
    done = aiod("validate", bad.parent)
    assert done.returncode == 1
    line = next(n for n, text in enumerate(bad.read_text().splitlines(), 1) if "Nuclei" in text)
    assert f"{bad}:{line}:" in done.stdout
    assert 'did you mean "nuclei"?' in done.stdout
    assert "^" in done.stdout
    assert "2 files checked" in done.stdout
    assert done.stderr == ""


def test_validate_for_scripts_is_json_on_stdout_alone(bad: Path) -> None:
    done = aiod("validate", bad, "--format", "json")
    assert done.returncode == 1
    problems = json.loads(done.stdout)
    assert {problem["severity"] for problem in problems} >= {"error"}
    assert set(problems[0]) == {
        "severity",
        "code",
        "file",
        "line",
        "column",
        "width",
        "where",
        "found",
        "expected",
        "hint",
        "source",
        "message",
    }
    assert "1 file checked" in done.stderr
    assert works("validate", SHIPPED.folder, "--quiet", "--format", "json") == "[]\n"


def test_validate_for_github_annotates_lines(bad: Path) -> None:
    done = aiod("validate", bad, "--format", "github", "--quiet")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines
    assert all(line.startswith("::error file=") and ",line=" in line for line in lines)


def test_validate_knows_the_tasks_of_layers(make_layer: MakeLayer, good: Path) -> None:
    institute = make_layer("institute")
    (institute / "manifests" / "tasks.json").write_text('{"wing": "Wings"}')
    document = family()
    document["versions"]["v1"]["tasks"] = {"wing": {"location": "https://example.org/w"}}
    good.write_text(to_text(document))
    assert aiod("validate", good).returncode == 1
    works("--registry", institute, "validate", good)


def test_validate_of_nothing_is_a_sentence(tmp_path: Path) -> None:
    assert "holds no manifests" in fails("validate", tmp_path)
    assert "does not exist" in fails("validate", tmp_path / "gone.json")


@pytest.mark.parametrize("style", ["text", "json", "github"])
@pytest.mark.parametrize(
    "content",
    [b"", b"\x00", b"\xff", b"{", b"[" * 9999, b'"\x1b[31m', b'{"name": "\\ud800"}', b"nul", b"7"],
    ids=repr,
)
def test_validate_of_any_rubbish_is_problems_and_never_a_traceback(
    tmp_path: Path, content: bytes, style: str
) -> None:
    path = tmp_path / "rubbish.json"
    path.write_bytes(content)
    done = aiod("validate", path, "--format", style)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stdout
    assert "rubbish.json" in done.stdout


# -- fmt -----------------------------------------------------------------------------------------


def test_fmt_writes_the_canonical_form_and_a_second_time_changes_nothing(good: Path) -> None:
    canonical = good.read_text()
    good.write_text(json.dumps(dict(reversed(json.loads(canonical).items()))))
    good.chmod(0o640)
    assert works("fmt", good) == f"changed: {good}\n1 file, 1 changed.\n"
    assert good.read_text() == canonical
    assert stat.S_IMODE(good.stat().st_mode) == 0o640
    assert works("fmt", good) == "1 file, 0 changed.\n"


def test_fmt_check_writes_nothing_and_fails_where_a_file_would_change(good: Path) -> None:
    works("fmt", "--check", good)
    text = json.dumps(json.loads(good.read_text()))
    good.write_text(text)
    done = aiod("fmt", "--check", good)
    assert done.returncode == 1
    assert done.stdout == f"would change: {good}\n1 file, 1 to change.\n"
    assert good.read_text() == text


def test_fmt_takes_files_folders_layers_and_the_current_one(good: Path) -> None:
    for words, folder in ((["lab"], good.parents[2]), (["manifests"], good.parents[1])):
        assert works("fmt", *words, cwd=folder) == "1 file, 0 changed.\n"
    assert works("fmt", cwd=good.parents[1]) == "1 file, 0 changed.\n"
    assert "is no layer" in fails("fmt", cwd=good.parents[2])


def test_fmt_leaves_the_list_of_tasks_alone(good: Path) -> None:
    tasks = good.with_name("tasks.json")
    tasks.write_text('{"wing":"Wings"}')
    works("fmt", good.parent)
    assert tasks.read_text() == '{"wing":"Wings"}'


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "is not JSON"), ("[]", "is not a manifest"), ('{"a": NaN}', "is not JSON")],
)
def test_fmt_leaves_what_is_no_manifest_as_it_is(good: Path, content: str, said: str) -> None:
    good.write_text(content)
    text = fails("fmt", good)
    assert said in text
    assert f"aiod validate {good}" in text
    assert good.read_text() == content


def test_the_shipped_manifests_are_canonical() -> None:
    assert works("fmt", "--check", SHIPPED.folder).endswith(" 0 to change.\n")


# -- upgrade -------------------------------------------------------------------------------------


def test_upgrade_rewrites_an_old_form_in_place_and_says_what_it_changed(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps(OLD))
    text = works("upgrade", path)
    assert text.startswith(f"{path}: ")
    assert len(text.splitlines()) > 3
    document = read_document(path)
    assert document["versions"]["v1"]["tasks"]["nuclei"]
    assert document["params"][0]["arg_name"] == "size"
    assert path.read_text() == to_text(document)
    assert works("upgrade", path) == f"{path}: up to date\n"


def test_an_old_form_that_is_loaded_names_the_command(tmp_path: Path) -> None:
    manifests = tmp_path / "lab" / "manifests"
    manifests.mkdir(parents=True)
    (manifests / "old.json").write_text(json.dumps(OLD))
    done = aiod("--registry", tmp_path / "lab", "list")
    assert done.returncode == 0
    told = done.stderr.splitlines()[0]
    assert told.startswith(f"Passed over {manifests}/old.json:")
    assert f"aiod upgrade {manifests}/old.json" in told
    assert "aiod upgrade" in aiod("validate", manifests).stdout


def test_upgrade_leaves_a_manifest_of_today_to_the_byte(good: Path) -> None:
    before = good.read_bytes()
    assert works("upgrade", good) == f"{good}: up to date\n"
    assert good.read_bytes() == before


def test_upgrade_goes_on_after_a_file_that_it_cannot_read(tmp_path: Path) -> None:
    broken, old = tmp_path / "broken.json", tmp_path / "old.json"
    broken.write_text("{")
    old.write_text(json.dumps(OLD))
    done = aiod("upgrade", broken, old)
    assert done.returncode == 1
    assert f"{broken}: left as it is" in done.stderr
    assert broken.read_text() == "{"
    assert read_document(old)["short_name"] == "oldnet"


def test_upgrade_says_what_is_left_to_mend_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps({**OLD, "mystery": 1}))
    done = aiod("upgrade", path)
    assert done.returncode == 1
    assert "still to mend by hand" in done.stderr
    assert "mystery" in done.stderr
    assert json.loads(path.read_text())["mystery"] == 1


def test_fmt_goes_on_after_a_file_that_it_cannot_read(good: Path) -> None:
    bad = good.with_name("bad.json")
    bad.write_text('{"name": ' + "[" * 900 + "]" * 900 + "}")
    good.write_text(json.dumps(json.loads(good.read_text())))
    done = aiod("fmt", bad, good)
    assert done.returncode == 1
    assert f"changed: {good}" in done.stdout
    assert "Traceback" not in done.stderr
    assert f"{bad}: left as it is" in done.stderr
    assert "Traceback" not in aiod("upgrade", bad).stderr
