"""aiod test as a person types it, with models that are shipped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

AIOD = str(Path(sys.executable).with_name("aiod"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def aiod(cache: Path, tmp_path: Path) -> Any:
    def aiod(*words: str, code: int = 0, **world: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [AIOD, "test", *words],
            env={**os.environ, "AIOD_CACHE": str(cache), **world},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stderr + done.stdout
        assert "Traceback" not in done.stderr
        return done

    return aiod


def test_the_default_for_nuclei_keeps_its_promises(aiod: Any) -> None:
    (trial,) = json.loads(aiod("unet/nuclei-mini", "--json").stdout)
    assert trial["model"] == "unet/nuclei-mini/nuclei"
    assert trial["passed"]
    assert [check["state"] for check in trial["checks"]] == ["passed"] * 5
    assert trial["seconds"] > 0
    assert trial["memory"] > 10e6


def test_one_line_a_model_and_what_fails_below_it(aiod: Any) -> None:
    aiod("classical/ridge")  # builds its environment
    done = aiod("classical/ridge", "cellpose/cyto3", code=1, AIOD_OFFLINE="1")
    good, bad, about, *_ = done.stdout.splitlines()
    assert good.startswith("passed  classical/ridge/mito  classes on Y 512 × X 512")
    assert "the same pixels in 4 tiles" in good
    assert bad.startswith("FAILED  cellpose/cyto3/cyto")
    assert about.strip().startswith("weights: The weights of cellpose/cyto3/cyto cannot be had")
    assert done.stdout.endswith("2 models tried, 1 failed.\n")


def test_models_that_are_not_here_can_be_passed_over(aiod: Any) -> None:
    done = aiod("cellpose", "sam", "--available")
    assert done.stdout == "0 models tried, 0 failed.\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "Which models?"),
        (["nosuch"], 'no model family "nosuch"'),
        (["cellpose/cyto9"], 'has no version "cyto9"'),
        (["--task", "nucleus"], 'did you mean "nuclei"?'),
    ],
)
def test_what_is_wrong_is_one_sentence(aiod: Any, words: list[str], told: str) -> None:
    done = subprocess.run([AIOD, "test", *words], capture_output=True, text=True)
    assert done.returncode in (1, 2)
    assert told in done.stderr
    assert "Traceback" not in done.stderr
