"""Profiles: one TOML file a compute site, found in layers."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiod.errors import UsageError
from aiod.flow import profiles
from aiod.flow.profiles import find_profile
from aiod.registry.layers import SHIPPED, Layer


@pytest.fixture
def site(tmp_path: Path) -> Layer:
    (tmp_path / "profiles").mkdir()
    return Layer("site", tmp_path)


def test_the_shipped_profile_is_this_computer() -> None:
    profile = find_profile("local", [SHIPPED])
    assert profile.cluster == "local"
    assert profile.worker_count("cuda:0") == 1
    assert profile.worker_count("cpu", given=7) == 7


@pytest.mark.parametrize(("cores", "workers", "threads"), [(1, 1, 1), (2, 2, 1), (16, 4, 4)])
def test_workers_share_the_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, workers: int, threads: int
) -> None:
    monkeypatch.setattr(profiles, "_cores", lambda: cores)
    profile = find_profile("local", [SHIPPED])
    assert profile.worker_count("cpu") == workers
    assert profile.threads(workers) == threads


def test_a_later_layer_has_the_last_word(site: Layer) -> None:
    text = 'description = "Ours"\ncluster = "local"\nworkers = 3\n'
    (site.folder / "profiles" / "local.toml").write_text(text)
    profile = find_profile("local", [SHIPPED, site])
    assert (profile.description, profile.worker_count("cpu")) == ("Ours", 3)


def test_a_profile_may_be_a_file(site: Layer) -> None:
    path = site.folder / "mine.toml"
    path.write_text('description = "Mine"\ncluster = "local"\nattempts = 5\n')
    assert find_profile(str(path), [SHIPPED]).attempts == 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('cluster = "local"', "description"),
        ('description = "a"\ncluster = "moon"', "cluster"),
        ('description = "a"\ncluster = "local"\nworkers = 0', "workers"),
        ('description = "a"\ncluster = "local"\ncolour = 1', "colour"),
        ("no toml at all", "cannot be read"),
    ],
)
def test_a_wrong_profile_is_refused_with_what_is_wrong(site: Layer, text: str, words: str) -> None:
    path = site.folder / "profiles" / "odd.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=words):
        find_profile("odd", [SHIPPED, site])


def test_an_unknown_profile_lists_those_there_are() -> None:
    with pytest.raises(UsageError, match="one of local"):
        find_profile("moon", [SHIPPED])
