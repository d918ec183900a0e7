"""The commands in the documentation run, and print what the documentation shows."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import tifffile

from aiod.cli import cli

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
AIOD = Path(sys.executable).with_name("aiod")
# Commands that ask servers elsewhere: here it is checked that they are understood.
NETWORK = ("pull", "check-links", "import")
RUNNING = ("run", "rerun", "verify", "eval", "env", "steps", "test")
SAMPLE = ROOT / "src" / "aiod" / "samples" / "nuclei_2d.ome.tif"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.S | re.M)


def commands() -> list[tuple[str, str]]:
    """Every `$ aiod …` line, continued lines joined, with the page it stands on."""
    found = []
    for page in PAGES:
        for block in blocks(page, "console"):
            lines = block.replace("\\\n", " ").splitlines()
            found += [(page.name, line[2:]) for line in lines if line.startswith("$ ")]
    return [(page, line) for page, line in found if re.match(r"(\w+=\S+ )*(\S*/)?aiod ", line)]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in which the environments of models are built once for all commands."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where somebody who reads the pages sits: images of the names that the pages use."""
    folder = tmp_path_factory.mktemp("desk")
    nuclei = tifffile.imread(SAMPLE).reshape(512, 512)[:200, :200]
    two = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}}
    tifffile.imwrite(folder / "slide.ome.tif", np.stack([nuclei, nuclei // 2]), metadata=two)
    tifffile.imwrite(folder / "stack.tif", np.stack([nuclei] * 3), photometric="minisblack")
    (folder / "plate").mkdir()
    for well in ("a1", "a2"):
        tifffile.imwrite(folder / "plate" / f"{well}.tif", nuclei)
    return folder


@pytest.mark.parametrize(("page", "line"), commands())
def test_a_command_of_the_documentation_runs(
    page: str, line: str, tmp_path: Path, models: Path, desk: Path
) -> None:
    lab = tmp_path / "lab"
    (lab / "manifests").mkdir(parents=True)
    (lab / "weights").mkdir()
    (lab / "weights" / "embryo").write_bytes(b"weights")
    for stands_for, folder in (("/shared/lab", lab), ("/media/disk/aiod", lab)):
        line = line.replace(stands_for, str(folder))
    words = shlex.split(line)
    world = dict(os.environ)
    while "=" in words[0]:
        name, value = words.pop(0).split("=", 1)
        world[name] = value
    arguments = words[1:]
    running = arguments[0] in RUNNING
    if running:
        world["AIOD_CACHE"] = str(models)
        place = desk / page
        if not place.exists():  # one desk a page: its commands go on from each other
            shutil.copytree(desk, place, ignore=shutil.ignore_patterns("*.md"))
        arguments = [found for word in arguments for found in sorted(unfolded(word, place))]
        if arguments[0] == "run" and "--task" not in arguments and "--dry-run" not in arguments:
            arguments.append("--dry-run")  # its weights lie elsewhere
    is_elsewhere = arguments[0] == "test" and "unet/nuclei-mini" not in arguments
    if arguments[0] in NETWORK or is_elsewhere:
        context = click.Context(cli)
        command = cli.get_command(context, arguments[0])
        assert command is not None
        command.make_context(arguments[0], arguments[1:], parent=context)
        return
    if arguments[0] == "new" and "--to" not in arguments:
        arguments += ["--help"]  # it would ask, and write to this checkout
    done = subprocess.run(
        [AIOD, *arguments],
        input="y\n" * 5,
        env=world,
        cwd=place if running else ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert running or not done.stderr or "Remove" in done.stderr


def unfolded(word: str, folder: Path) -> list[str]:
    """The files that a shell puts in the place of a pattern."""
    found = [str(path.relative_to(folder)) for path in folder.glob(word)] if "*" in word else []
    return found or [word]


def test_the_readme_shows_what_make_demo_prints(tmp_path: Path, models: Path) -> None:
    recipe = subprocess.run(
        ["make", "--dry-run", "--silent", "demo"], cwd=ROOT, capture_output=True, text=True
    ).stdout
    lines = [line for line in recipe.splitlines() if "/aiod " in line]
    assert len(lines) == 2
    (tmp_path / "src").symlink_to(ROOT / "src")
    printed = ""
    for line in lines:
        done = subprocess.run(
            [AIOD, *shlex.split(line)[1:]],
            env={**os.environ, "COLUMNS": "100", "AIOD_CACHE": str(models)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        printed += done.stdout
    shown = next(block for block in blocks(ROOT / "README.md", "console") if "make demo" in block)
    for line in shown.splitlines():
        if line.strip() not in ("$ make demo", "…", ""):
            words = (re.escape(word) for word in line.split())
            pattern = r"\s+".join(words).replace("…", ".*")
            assert re.search(rf"^\s*{pattern}\s*$", printed, re.M), line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    (tmp_path / "lab" / "manifests").mkdir(parents=True)
    (tmp_path / "lab" / "weights").mkdir()
    (tmp_path / "lab" / "weights" / "embryo").write_bytes(b"weights")
    for block in blocks(page, "python"):
        program = block.replace("/shared/lab", str(tmp_path / "lab"))
        subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_json_of_a_page_is_json(page: Path) -> None:
    for block in blocks(page, "json"):
        json.loads(block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_to_a_file_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_picture_of_a_list_shows_the_models_of_today() -> None:
    text = (ROOT / "docs" / "images" / "list.svg").read_text("utf-8").replace("&#160;", " ")
    done = subprocess.run(
        [AIOD, "list", "--task", "nuclei"],
        env={**os.environ, "COLUMNS": "100"},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    for line in done.stdout.splitlines():
        assert line.strip().split("  ")[0] in text, "run `python docs/images/make.py`"
