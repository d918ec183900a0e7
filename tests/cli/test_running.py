"""aiod run and its sisters as a person types them, with the model that is shipped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from aiod.flow.tiles.journal import Journal, Record

ROOT = Path(__file__).parents[2]
AIOD = str(Path(sys.executable).with_name("aiod"))
NUCLEI = ROOT / "src" / "aiod" / "samples" / "nuclei_2d.ome.tif"
CLASSICAL = "classical/otsu-watershed/nuclei"
TRUTH = ROOT / "src" / "aiod" / "samples" / "nuclei_2d_truth.ome.tif"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def world(cache: Path, tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "AIOD_CACHE": str(cache), "COLUMNS": "160"}


@pytest.fixture
def aiod(world: dict[str, str], tmp_path: Path) -> Any:
    def aiod(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [AIOD, *map(str, words)], env=world, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == code, done.stderr + done.stdout
        assert "Traceback" not in done.stderr
        return done

    return aiod


def test_from_an_image_to_masks_to_their_score(aiod: Any, tmp_path: Path) -> None:
    done = aiod("run", "--task", "nuclei", NUCLEI, "-o", "out", "--export", "csv", "--tile", "200")
    assert "nuclei_2d: 9/9 tiles" in done.stderr
    for words in ("Objects", "out/nuclei_2d_nuclei.png", "run.json", "aiod view out"):
        assert words in done.stdout
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["model"]["id"] == "unet/nuclei-mini/nuclei"
    scores = json.loads(aiod("eval", "out/nuclei_2d.ome.zarr", TRUTH, "--json").stdout)
    first = json.dumps(scores)
    assert "0.8" in first
    again = aiod("run", "--task", "nuclei", NUCLEI, "-o", "out", "--export", "csv", "--tile", "200")
    assert "finished before" in again.stdout


@pytest.mark.parametrize("columns", [40, 80, 100])
def test_no_table_loses_a_letter(world: dict[str, str], tmp_path: Path, columns: int) -> None:
    """At any width the letters of all cells are there, and of paths what can be copied."""
    world["COLUMNS"] = str(columns)

    def told(*words: object) -> str:
        command = [AIOD, *map(str, words)]
        done = subprocess.run(command, env=world, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert all(len(line.rstrip()) <= columns for line in done.stdout.splitlines()[:6])
        return done.stdout

    out = "results/of/the/experiment/of/monday/out"
    run = told("run", "--task", "nuclei", NUCLEI, "-o", out)
    if columns > 40:
        assert "nuclei_2d.ome.zarr/labels/nuclei" in run
        assert f"Folder:   {out}" in run
    plan = told("run", "--task", "nuclei", NUCLEI, "--pre", "quite-long-a-name=none", "--dry-run")
    scores = told("eval", out, TRUTH)
    for text, pieces in ((plan, "nuclei_2d 512×512 393.2"), (scores, "IoUmatched 0.500 0.95")):
        letters = "".join(text.split())
        for piece in pieces.split():
            assert sum(map(letters.count, piece)) >= len(piece)
    words = plan.split()
    assert columns == 40 or {"nuclei_2d", "512", "MB"} <= set(words)
    assert columns == 40 or {"0.50", "0.95", "matched"} <= set(scores.split())


def test_what_was_found_is_said_in_words(aiod: Any, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "black.tif", np.zeros((90, 90), np.uint8))
    assert "no object was found" in aiod("run", "--task", "nuclei", "black.tif", "-o", "a").stderr
    done = aiod(
        *("run", CLASSICAL, NUCLEI, "-o", "b", "--certify", "2", "--tile", "256"),
        *("--export", "csv", "--export", "geojson"),
    )
    assert "(2) beside the result: F1 at IoU 0.9 1.000" in done.stderr
    assert "Table:    b/nuclei_2d_nuclei.csv" in done.stdout
    assert "Outlines: b/nuclei_2d_nuclei.geojson" in done.stdout
    for name in ("cut", "short"):
        (tmp_path / f"{name}.tif").write_bytes((tmp_path / "black.tif").read_bytes()[:2000])
    done = aiod("run", "--task", "nuclei", "cut.tif", "short.tif", "-o", "c", code=1)
    assert "aiod view" not in done.stdout
    assert "Record:   c/run.json" in done.stdout


def test_a_halo_of_nothing_is_warned_of(aiod: Any) -> None:
    dry = ("run", "--task", "nuclei", NUCLEI, "--tile", "128", "--dry-run", "--halo")
    assert "counted on both sides" in aiod(*dry, "0").stderr
    assert "counted on both sides" in aiod(*dry, "0,64").stderr
    assert "counted on both sides" not in aiod(*dry, "64").stderr


def test_the_folder_of_a_run_stands_for_its_labels(aiod: Any, tmp_path: Path) -> None:
    pixels = tifffile.imread(NUCLEI).reshape(512, 512)[:100, :100]
    for name in "ab":
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels)
    aiod("run", "--task", "nuclei", "a.tif", "-o", "one")
    aiod("run", "--task", "nuclei", "a.tif", "b.tif", "-o", "two")
    assert json.loads(aiod("eval", "one", "one", "--json").stdout)["mean_ap"] == 1
    error = aiod("eval", "one", "two", code=1).stderr
    assert "a.ome.zarr and b.ome.zarr" in error
    assert "two/a.ome.zarr" in error


def test_json_for_scripts(aiod: Any) -> None:
    done = aiod("run", CLASSICAL, NUCLEI, "-o", "out", "--json")
    record = json.loads(done.stdout)
    assert record["images"][0]["objects"] > 100
    assert done.stderr == ""


def test_a_task_without_a_model_is_told(aiod: Any) -> None:
    assert "no model for the task" in aiod("run", "--task", "ne", NUCLEI, code=1).stderr
    assert "aiod list --task drop" in aiod("run", "--task", "drop", NUCLEI, code=1).stderr


def test_a_dry_run_shows_the_tiles_and_runs_nothing(aiod: Any, tmp_path: Path) -> None:
    done = aiod("run", "--task", "nuclei", NUCLEI, "--tile", "128", "--halo", "40", "--dry-run")
    assert "on 1 image: 16 tiles." in done.stdout
    assert "40 × 40" in done.stdout
    for words in ("Tile (px)", "128 × 128", "nuclei_2d", "512 × 512"):
        assert words in done.stdout
    sets = ("--pre", "raw=none", "--pre", "soft=gaussian:sigma=2")
    done = aiod("run", "--task", "nuclei", NUCLEI, *sets, "--dry-run")
    assert "on 1 image, 2 sets of steps each: 2 tiles." in done.stdout
    plan = json.loads(
        aiod("run", "--task", "nuclei", NUCLEI, "--tile", "128", "--dry-run", "--json").stdout
    )
    assert plan["rows"][0]["tiles"] == 16
    assert plan["rows"][0]["memory"] > 0
    assert list(tmp_path.glob("*out*")) == []


def test_a_run_is_repeated_and_verified(aiod: Any, tmp_path: Path) -> None:
    aiod("run", "--task", "nuclei", NUCLEI, "-o", "out", "--post", "min_size:50", "--tile", "200")
    aiod("rerun", "out/run.json", "-o", "again")
    assert "same" in aiod("verify", "again").stdout
    aiod("run", "--task", "nuclei", NUCLEI, "-o", "other", "--post", "min_size:500")
    assert "objects instead of" in aiod("verify", "other", "out/run.json", code=1).stdout
    aiod("rerun", "out/run.json", "-o", "out", code=1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run"], "Which model, and which images?"),
        (["run", "classical/otsu-watershed/nuclei"], "Which images?"),
        (["run", "--task", "nucleus", NUCLEI], 'did you mean "nuclei"?'),
        (["run", "--task", "er", NUCLEI], "no default model for the task"),
        (["run", NUCLEI], "Which model?"),
        (["run", NUCLEI, TRUTH], "aiod run --task nuclei"),
        (["run", "--task", "nuclei", "classical/ridge", NUCLEI], "leave one of the two out"),
        (["run", "--task", "nuclei", "clasical/ridge", NUCLEI], "does not exist"),
        (["run", "--task", "nuclei", NUCLEI, "--post", "min_size=50"], "STEP:50"),
        (["run", "--task", "nuclei", NUCLEI, "--post", "median"], "`aiod steps` lists"),
        (["run", "--task", "nuclei", "--samplesheet", "no.csv"], "look for a mistake in its name"),
        (["run", "clasical/otsu-watershed", NUCLEI], "did you mean classical?"),
        (["run", "sam/vit_h", NUCLEI], "sam"),
        (["run", "--task", "nuclei", "nothing.tif"], "nothing.tif does not exist"),
        (["run", "--task", "nuclei", NUCLEI, "--param", "diametre=3"], "did you mean diameter?"),
        (["run", "--task", "nuclei", NUCLEI, "--param", "diameter"], "--param diameter=30"),
        (["run", "--task", "nuclei", NUCLEI, "--pre", "clahee"], "did you mean clahe?"),
        (["run", "--task", "nuclei", NUCLEI, "--tile", "big"], "--tile big is no size"),
        (["run", "--task", "nuclei", NUCLEI, "--tile", "1,2,3"], "--tile has 3 numbers"),
        (["run", "--task", "nuclei", NUCLEI, "--profile", "moon"], "one of local"),
        (["run", "--task", "nuclei", NUCLEI, "--device", "tpu"], "is no device"),
        (["run", "--task", "nuclei", NUCLEI, "--pixel-size", "wide"], "wide"),
        (["run", "--task", "nuclei", NUCLEI, "-o", "/proc/out"], "cannot be written"),
        (["rerun", "nothing.json"], "nothing.json"),
        (["verify", "nothing.json"], "nothing.json"),
        (["view", "nothing.json"], "nothing.json"),
    ],
)
def test_a_mistake_is_a_sentence(aiod: Any, words: list[object], said: str) -> None:
    done = aiod(*words, code=1)
    assert said in done.stderr
    assert done.stdout == ""


def test_one_bad_image_of_a_batch_is_told_and_the_others_are_done(
    aiod: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "plate"
    folder.mkdir()
    pixels = tifffile.imread(NUCLEI)
    for number in range(3):
        tifffile.imwrite(folder / f"w{number}.tif", pixels[:100, 100 * number : 100 * number + 90])
    content = (folder / "w1.tif").read_bytes()
    (folder / "w1.tif").write_bytes(content[: len(content) // 3])
    done = aiod("run", "--task", "nuclei", folder, "-o", "out", code=1)
    assert "w1" in done.stderr
    assert sorted(p.name for p in (tmp_path / "out").glob("*.png")) == [
        "w0_nuclei.png",
        "w2_nuclei.png",
    ]


def test_a_samplesheet_names_images_and_their_channels(aiod: Any, tmp_path: Path) -> None:
    pixels = tifffile.imread(NUCLEI).reshape(512, 512)
    two = np.stack([np.zeros_like(pixels), pixels])
    tifffile.imwrite(tmp_path / "two.tif", two, metadata={"axes": "CYX"}, imagej=True)
    (tmp_path / "samples.csv").write_text(
        "sample,image,channel,pixel_size\nempty,two.tif,1,0.5\nfull,two.tif,2,0.5\n"
    )
    done = aiod("run", "--task", "nuclei", "--samplesheet", "samples.csv", "-o", "out", "--json")
    images = {image["sample"]: image for image in json.loads(done.stdout)["images"]}
    assert images["empty"]["objects"] == 0
    assert images["full"]["objects"] > 100
    assert images["full"]["pixel_size"] == {"Y": 0.5, "X": 0.5}


LAST_WORDS = """
import logging

from aiod.cli import main
from distributed import LocalCluster

closed = LocalCluster.close

def close(self, *words, **more):
    closed(self, *words, **more)
    logging.getLogger("distributed.batched").info("last words")

LocalCluster.close = close
main()
"""


def test_what_dask_logs_is_not_shown_even_while_it_ends(
    world: dict[str, str], tmp_path: Path
) -> None:
    command = [sys.executable, "-c", LAST_WORDS, "run", "--task", "nuclei", str(NUCLEI)]
    done = subprocess.run(command, env=world, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "last words" not in done.stderr


def kept_in(folder: Path) -> dict[tuple[int, int], tuple[Record, ...]]:
    """The finished tiles of a run under way, and where each is kept."""
    journal = Journal(folder)
    journal.look()
    return {key: journal.records(key) for key in journal}


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is another thing on Windows")
def test_ctrl_c_leaves_a_run_that_goes_on_where_it_was(
    aiod: Any, world: dict[str, str], tmp_path: Path
) -> None:
    words = ("run", "--task", "nuclei", str(NUCLEI), "-o", "out", "--tile", "16", "--workers", "1")
    aiod("run", "--task", "nuclei", NUCLEI, "-o", "warm")  # builds the environment
    process = subprocess.Popen(
        [AIOD, *words], env=world, cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    tiles = tmp_path / "out" / ".aiod" / "nuclei_2d" / "nuclei" / "tiles"
    deadline = time.monotonic() + 60
    while len(kept_in(tiles)) < 20 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "The same command goes on where it was." in said
    assert "Traceback" not in said
    kept = kept_in(tiles)
    assert 20 <= len(kept) < 1024
    second = subprocess.Popen([AIOD, *words], env=world, cwd=tmp_path, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(now := kept_in(tiles)) == len(kept) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert now.items() > kept.items()  # those of before were not done again: one record a tile
    second.send_signal(signal.SIGINT)
    second.wait(timeout=30)


def test_view_without_a_window_system_says_how_to_get_it(
    aiod: Any, world: dict[str, str], tmp_path: Path
) -> None:
    aiod("run", "--task", "nuclei", NUCLEI, "-o", "out")
    (tmp_path / "qtpy.py").write_text("raise ImportError('no Qt here')")
    done = subprocess.run(
        [AIOD, "view", "out"],
        env={**world, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert 'pip install "napari[all]"' in done.stderr
    assert "nuclei_2d_nuclei.png" in done.stderr
