"""The line that one would type asks for the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aiod.cli.run import _request
from aiod.cli.run import run as run_command
from aiod.flow.command import command_of
from aiod.flow.images.inputs import Sample
from aiod.flow.request import Request


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"params": {"diameter": 30.5, "name": "a b", "on": True, "none": None, "list": [1, 2]}},
        {"before": ("raw=none", "soft=gaussian:sigma=2"), "after": ("min_size:50",)},
        {"axes": "ZYX", "pixel_size": {"Z": 2.0, "Y": 0.325, "X": 0.1}, "channels": ("DAPI", "2")},
        {"pixel_size": {"Y": 0.325, "X": 0.325}, "rescale": True, "link_z": False},
        {"tile": (16, 512, 512), "halo": (8,), "exports": ("csv", "tiff"), "certify": 3},
        {"device": "cuda:1", "workers": 2, "profile": "slurm", "timeout": 2.5, "rescale": False},
        {"out": Path("my results")},
        {"inputs": (), "samplesheet": Path("samples.csv")},
        {"model": None, "task": "nuclei"},
    ],
)
def test_the_line_asks_for_the_same(options: dict[str, Any]) -> None:
    asked = Request(
        **{"model": "unet/nuclei-mini/nuclei", "inputs": ("a b.tif", "c.tif"), **options}
    )
    program, command, *words = command_of(asked)
    assert (program, command) == ("aiod", "run")
    given = dict(run_command.make_context("run", words).params)
    del given["dry_run"], given["as_json"]
    found = _request(given.pop("targets"), given)
    for field in Request.__dataclass_fields__:
        expected = getattr(asked, field)
        if field == "params":  # text, as it is typed, is read by the parameter's type
            expected = {
                key: {True: "true", None: "null"}.get(value, str(value))
                for key, value in expected.items()
                if not isinstance(value, list)
            } | {key: "[1, 2]" for key, value in expected.items() if isinstance(value, list)}
        assert getattr(found, field) == expected, field


def test_samples_have_no_line() -> None:
    with pytest.raises(ValueError, match="samples"):
        command_of(Request(model="a/b", samples=[Sample("a", Path("a.tif"))]))
