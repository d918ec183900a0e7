"""The runners that are shipped: each has a manifest, an environment that is pinned, and no tie."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from aiod.flow.models.header import read_header
from aiod.registry import load
from aiod.registry.layers import SHIPPED
from aiod.registry.parameter_rules import HOST_DIAMETER
from aiod.registry.runners import read_runner

RUNNERS = sorted(SHIPPED.runners.glob("*.py"))


def test_every_runner_has_a_manifest() -> None:
    families = load().families
    assert [path.stem for path in RUNNERS if path.stem not in families] == []


@pytest.mark.parametrize("runner", RUNNERS, ids=lambda path: path.stem)
def test_a_runner_takes_what_its_manifest_sets(runner: Path) -> None:
    registry = load()
    read = read_runner(runner)
    for model in registry.family(runner.stem).models:
        keywords = registry.default_config(model)
        if registry.metadata_for(model).rescale == "always":
            keywords.pop(HOST_DIAMETER, None)  # by which the host zooms
        assert [name for name in keywords if read.refuses(name)] == [], model.id
        needed = set(read.accepted) - set(keywords) - read.surveyed
        assert needed <= _with_default(runner), model.id


@pytest.mark.parametrize("runner", RUNNERS, ids=lambda path: path.stem)
def test_a_runner_says_what_was_verified_of_it(runner: Path) -> None:
    told = ast.get_docstring(ast.parse(runner.read_text())) or ""
    _, _, verified = told.partition("\n\nverified: ")
    assert "CPU" in verified
    registry = load()
    models = [model for model in registry if model.family == runner.stem]
    said = [registry.metadata_for(model).verified for model in models]
    assert all(each is not None and "CPU" in each.how for each in said)
    assert all(each is not None and each.by in " ".join(verified.split()) for each in said)


@pytest.mark.parametrize("runner", RUNNERS, ids=lambda path: path.stem)
def test_a_runner_imports_nothing_of_ours_and_is_imported_by_nobody(runner: Path) -> None:
    tree = ast.parse(runner.read_text())
    imported = [
        name
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    ]
    assert not [name for name in imported if name.split(".")[0] == "aiod"]
    for file in (SHIPPED.folder).rglob("*.py"):
        assert f"aiod.runners.{runner.stem}" not in file.read_text()


@pytest.mark.parametrize("runner", RUNNERS, ids=lambda path: path.stem)
def test_an_environment_is_pinned_for_every_machine(runner: Path) -> None:
    header = read_header(runner)
    assert header.listed is not None
    listed = header.list_file.read_text()
    assert "://" not in listed
    assert not re.search(r"^\s*-", listed.replace("    --hash=", ""), re.M)
    packages = re.findall(r"^([A-Za-z0-9._-]+)==", listed, re.M)
    assert {"numpy", "appose"} <= set(packages)
    for dependency in header.dependencies:
        name = re.split(r"[=<>\[; ]", dependency)[0]
        assert name.lower().replace("_", "-") in {p.lower().replace("_", "-") for p in packages}
    free = {p for p in packages if not re.search(rf"^{re.escape(p)}==\S+[^\n]*\\\n", listed, re.M)}
    assert free <= {"torch", "torchvision"}, "each package has its hashes"


def _with_default(runner: Path) -> set[str]:
    """Keywords of `predict` and `survey` that may be left out."""
    found = set()
    for node in ast.parse(runner.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            found |= {argument.arg for argument, default in pairs if default is not None}
    return found
