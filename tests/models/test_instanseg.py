"""InstanSeg from a network that was trained here to labels, as it gives them itself."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uv
from cells_instanseg import make_both
from scoring import f1, labels_of, save, seconds_of

from aiod.errors import AiodError
from aiod.flow.models.environments import Environment
from aiod.flow.request import Request
from aiod.flow.run import Done, run
from aiod.registry import load

pytest_plugins = ["training"]

HERE = Path(__file__).parent
LIBRARY = ["instanseg-torch==0.1.2", "edt==3.1.1", "pandas", "seaborn"]
"""InstanSeg, and what its training and its export import without its asking for it."""
IN_THE_ENVIRONMENT = "numpy\ntorch\n"

# Files that are not what InstanSeg exports: arrays alone, pickled Python, another program.
BROKEN = """
import sys, torch
torch.save(torch.nn.Linear(2, 3).state_dict(), sys.argv[1])
torch.save(torch.nn.Linear(2, 3), sys.argv[2])
torch.jit.script(torch.nn.Linear(2, 3)).save(sys.argv[3])
"""


@pytest.fixture(scope="session")
def library(
    environment: Callable[[str], Environment], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., str]:
    """Run a script of this folder where InstanSeg itself is beside the family's environment."""
    python = environment("instanseg").python
    beside = tmp_path_factory.mktemp("library")
    excluded = beside / "excluded.txt"
    excluded.write_text(IN_THE_ENVIRONMENT, "utf-8")
    install = [uv.find_uv_bin(), "pip", "install", "--quiet", "--target", str(beside)]
    install += ["--python", str(python), "--excludes", str(excluded), *LIBRARY]
    subprocess.run(install, check=True)

    def run_script(name: str, *words: str | Path) -> str:
        world = {**os.environ, "PYTHONPATH": str(beside), "PYTHONDONTWRITEBYTECODE": "1"}
        world["MPLCONFIGDIR"] = str(beside / "matplotlib")
        done = subprocess.run(
            [python, HERE / name, *words], env=world, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout

    return run_script


@pytest.fixture(scope="session")
def trained(
    library: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """The folder with the exported network, and the line that its training printed."""
    made = tmp_path_factory.mktemp("weights") / "both"
    return made, library("train_instanseg.py", made).strip().splitlines()[-1]


@pytest.fixture
def go(tmp_path: Path) -> Callable[..., Done]:
    def go(model: str, image: Path, out: str, **options: Any) -> Done:
        request = Request(model=model, inputs=[image], out=tmp_path / out, device="cpu", **options)
        return run(request, load())

    return go


def test_nuclei_and_cells_in_tiles_as_in_the_whole_and_as_instanseg_finds_them(
    trained: tuple[Path, str],
    library: Callable[..., str],
    lab: Callable[..., Path],
    go: Callable[..., Done],
    tmp_path: Path,
    tell: Callable[[str], None],
) -> None:
    folder, line = trained
    tell(line)
    # As it is published: a zip that holds other files too.
    shutil.copytree(folder, tmp_path / "both")
    (tmp_path / "both" / "rdf.yaml").write_text("type: model\n", "utf-8")
    archive = shutil.make_archive(str(tmp_path / "both"), "zip", tmp_path / "both")
    lab("instanseg", "both", "CYX", Path(archive))
    image, nuclei, cells = make_both(1001, (600, 700))
    path = save(tmp_path / "cells.ome.tif", image, "CYX")
    np.save(tmp_path / "image.npy", image)
    library(
        "oracle_instanseg.py",
        folder / "instanseg.pt",
        tmp_path / "image.npy",
        tmp_path / "own.npy",
    )
    own = np.load(tmp_path / "own.npy")
    for number, (target, truth) in enumerate((("nuclei", nuclei), ("cells", cells))):
        params = {"target": target}
        tiled = go("instanseg/both", path, f"{target}-tiled", tile=(320,), params=params)
        whole = go("instanseg/both", path, f"{target}-whole", tile=(2048,), params=params)
        labels, single = labels_of(tiled), labels_of(whole)
        right, alike, same = (
            f1(labels, truth),
            f1(labels, single, 0.9),
            f1(single, own[number], 0.9),
        )
        tell(
            f"instanseg CYX, {len(np.unique(truth)) - 1} {target} on 600 x 700: F1 at IoU 0.5 "
            f"{right:.3f} in 6 tiles, {f1(single, truth):.3f} in one; the two agree with F1 "
            f"{alike:.3f} at IoU 0.9, the whole and InstanSeg's own call with {same:.3f}; "
            f"{seconds_of(tiled)}"
        )
        (made,), (once,) = tiled.record.images, whole.record.images
        assert made.plan is not None
        assert (made.plan.tiles, made.plan.halo) == (6, (128, 128))
        percentiles = [np.percentile(channel, [0.1, 99.9]) for channel in image]
        assert np.allclose(np.array(made.survey["ranges"]), percentiles)
        assert made.survey == once.survey
        assert min(right, f1(single, truth)) >= 0.8
        assert alike >= 0.97
        assert same >= 0.99


def test_channels_in_any_order_a_pixel_size_and_settings(
    trained: tuple[Path, str], lab: Callable[..., Path], go: Callable[..., Done], tmp_path: Path
) -> None:
    lab("instanseg", "both", "CYX", trained[0] / "instanseg.pt")
    image, _, cells = make_both(1002, (200, 220))
    path = save(tmp_path / "cells.ome.tif", image, "CYX")
    once = labels_of(go("instanseg/both", path, "once", params={"target": "cells"}))
    turned = save(tmp_path / "turned.ome.tif", image[::-1], "CYX")
    other = labels_of(go("instanseg/both", turned, "turned", params={"target": "cells"}))
    assert f1(once, other, 0.9) >= 0.99
    # Twice as many pixels of half the size are brought to the network's, and the labels back.
    large = save(tmp_path / "large.ome.tif", image.repeat(2, 1).repeat(2, 2), "CYX")
    zoomed = go(
        "instanseg/both",
        large,
        "zoomed",
        pixel_size={"Y": 0.25, "X": 0.25},
        params={"target": "cells"},
    )
    assert labels_of(zoomed).shape == (400, 440)
    assert f1(labels_of(zoomed)[::2, ::2], cells) >= f1(once, cells) - 0.1
    strict = {"target": "cells", "seed_threshold": 0.95}
    assert labels_of(go("instanseg/both", path, "strict", params=strict)).max() < once.max()
    (made,) = go("instanseg/both", path, "narrow", tile=(7, 220), halo=(0,)).record.images
    assert made.status == "done"


def test_files_that_instanseg_did_not_export_are_said_to_be(
    environment: Callable[[str], Environment],
    lab: Callable[..., Path],
    go: Callable[..., Done],
    tmp_path: Path,
) -> None:
    python = environment("instanseg").python
    path = save(tmp_path / "small.tif", make_both(1003, (64, 64))[0], "CYX")
    files = [tmp_path / f"{name}.pt" for name in ("arrays", "pickled", "other", "text")]
    subprocess.run([python, "-c", BROKEN, *files[:3]], check=True)
    files[3].write_text("not a program")
    sentences = ("is no TorchScript file", "is no TorchScript file", "none that InstanSeg exported")
    for file, sentence in zip(files, (*sentences, "is no TorchScript file"), strict=True):
        lab("instanseg", file.stem, "CYX", file)
        with pytest.raises(AiodError, match=sentence):
            go(f"instanseg/{file.stem}", path, file.stem)
    (tmp_path / "empty").mkdir()
    lab("instanseg", "empty", "CYX", tmp_path / "empty")
    with pytest.raises(AiodError, match=r"0 files \*\.pt where one was expected"):
        go("instanseg/empty", path, "empty")
