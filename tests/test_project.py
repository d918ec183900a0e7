"""What stands around the code: workflows, hooks, the gate."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


def workflow(name: str) -> dict[str, Any]:
    text = (ROOT / ".github" / "workflows" / name).read_text("utf-8")
    loaded: dict[str, Any] = yaml.load(text, yaml.BaseLoader)  # "on" stays a word
    return loaded


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def pull_request(tmp_path: Path) -> Path:
    """A repository of its own that holds this project's manifests."""
    folder = tmp_path / "fork"
    manifests = folder / "src" / "aiod" / "manifests"
    manifests.mkdir(parents=True)
    for path in (ROOT / "src" / "aiod" / "manifests").glob("*.json"):
        (manifests / path.name).write_bytes(path.read_bytes())
    (folder / "src" / "aiod" / "schema.json").write_bytes(
        (ROOT / "src" / "aiod" / "schema.json").read_bytes()
    )
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "base")
    return folder


def run_steps(folder: Path) -> tuple[int, str]:
    """The shell steps of the manifest workflow, as a runner would run them one by one."""
    world = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    world["BASE"] = git(folder, "rev-list", "--max-parents=0", "HEAD")
    status, printed = 0, ""
    for step in workflow("manifests.yml")["jobs"]["validate"]["steps"]:
        if "run" in step and "pip install" not in step["run"]:
            done = subprocess.run(
                ["bash", "-eo", "pipefail", "-c", step["run"]],
                cwd=folder,
                env=world,
                capture_output=True,
                text=True,
            )
            status, printed = status or done.returncode, printed + done.stdout
    return status, printed


def test_the_manifest_workflow_runs_at_every_push_to_a_pull_request() -> None:
    event = workflow("manifests.yml")["on"]["pull_request"]
    assert {"opened", "synchronize", "reopened"} <= set(event["types"])
    assert "pull_request_target" not in workflow("manifests.yml")["on"]


def test_the_manifest_workflow_is_content_with_a_good_change(pull_request: Path) -> None:
    path = pull_request / "src" / "aiod" / "manifests" / "cellpose.json"
    path.write_text(path.read_text("utf-8").replace("Typical width", "The usual width"), "utf-8")
    git(pull_request, "commit", "--quiet", "--all", "-m", "words")
    status, printed = run_steps(pull_request)
    assert status == 0
    assert "::error" not in printed


def test_the_manifest_workflow_annotates_the_line_of_a_mistake(pull_request: Path) -> None:
    path = pull_request / "src" / "aiod" / "manifests" / "cellpose.json"
    text = path.read_text("utf-8")
    line = text[: text.index('"axes"')].count("\n") + 1
    path.write_text(text.replace('"axes": "CYX"', '"axes": "cyx"', 1), "utf-8")
    git(pull_request, "commit", "--quiet", "--all", "-m", "mistake")
    status, printed = run_steps(pull_request)
    assert status != 0
    assert f"::error file=src/aiod/manifests/cellpose.json,line={line}," in printed


def test_the_manifest_workflow_fails_on_a_stale_schema(pull_request: Path) -> None:
    (pull_request / "src" / "aiod" / "schema.json").write_text("{}\n")
    git(pull_request, "commit", "--quiet", "--all", "-m", "stale")
    assert run_steps(pull_request)[0] != 0


def test_the_test_workflow_runs_the_one_command() -> None:
    steps = workflow("tests.yml")["jobs"]["test"]["steps"]
    assert "make test" in [step.get("run") for step in steps]
    window = workflow("tests.yml")["jobs"]["window"]["steps"]
    assert "make test-napari" in [step.get("run") for step in window]
    gate = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    assert {"make test", "make test-napari"} <= set(gate)


def test_the_hooks_are_as_pre_commit_wants_them() -> None:
    for command, name in (
        ("validate-config", ".pre-commit-config.yaml"),
        ("validate-manifest", ".pre-commit-hooks.yaml"),
    ):
        subprocess.run([BIN / "pre-commit", command, str(ROOT / name)], check=True)


def test_the_citation_file_says_what_to_cite() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
