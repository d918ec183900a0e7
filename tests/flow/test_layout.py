"""Sizes of tiles and halos: what is asked for, else what the model states, else a rule."""

from __future__ import annotations

from typing import Any

import pytest

from aiod.errors import UsageError
from aiod.flow.tiles.layout import halo_for, parse_sizes, plan_for
from aiod.registry.metadata import Metadata


def metadata(**fields: Any) -> Metadata:
    return Metadata(description="Toys.", **fields)


@pytest.mark.parametrize(
    ("fields", "params", "halo"),
    [
        ({}, {}, (64, 64)),
        ({"object_diameter": 30}, {}, (45, 45)),
        ({"object_diameter": 30}, {"diameter": 100}, (150, 150)),
        ({"object_diameter": 30}, {"diameter": 0}, (45, 45)),
        ({"halo": 20}, {}, (20, 20)),
        ({"halo": 20, "object_diameter": 10}, {}, (20, 20)),
        ({"halo": 20, "object_diameter": 10}, {"diameter": 30}, (60, 60)),
        ({"halo": 20, "object_diameter": 10}, {"diameter": 5}, (20, 20)),
        ({"halo": [8, 16]}, {}, (8, 16)),
    ],
)
def test_the_halo_is_the_models_or_follows_from_the_diameter(
    fields: dict[str, Any], params: dict[str, Any], halo: tuple[int, ...]
) -> None:
    assert halo_for("YX", metadata(**fields), params) == halo


def test_a_stack_has_a_halo_along_z_too() -> None:
    assert halo_for("ZYX", metadata(), {}) == (16, 64, 64)
    assert halo_for("ZYX", metadata(halo=[4, 32, 32]), {}) == (4, 32, 32)


def test_an_image_not_much_larger_than_a_tile_is_one() -> None:
    assert len(plan_for((1200, 1000), "YX", metadata(), {})) == 1
    assert plan_for((1300, 1000), "YX", metadata(), {}).tile == (1024, 1000)


def test_what_is_asked_for_holds() -> None:
    plan = plan_for((3000, 3000), "YX", metadata(halo=20), {}, tile=(512,), halo=(8, 16))
    assert (plan.tile, plan.halo) == ((512, 512), (8, 16))
    assert plan_for((10, 10), "YX", metadata(), {}, tile=(512,)).halo == (10, 10)


def test_a_wrong_number_of_numbers_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--tile has 3 numbers[\s\S]*\(YX\)"):
        plan_for((10, 10), "YX", metadata(), {}, tile=(1, 2, 3))


@pytest.mark.parametrize(
    ("text", "sizes"), [("512", (512,)), ("16,512,512", (16, 512, 512)), ("64x32", (64, 32))]
)
def test_sizes_are_read(text: str, sizes: tuple[int, ...]) -> None:
    assert parse_sizes(text, "--tile") == sizes


@pytest.mark.parametrize("text", ["", "a", "0", "-4", "1,2,3,4", "1.5", "9999999999"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no size"):
        parse_sizes(text, "--tile")


def test_a_halo_may_be_nothing() -> None:
    assert parse_sizes("0", "--halo") == (0,)
