"""What the environment and the config file say."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from aiod.errors import UsageError
from aiod.registry.settings import (
    cache_folder,
    config_file,
    configured_registries,
    offline,
    use_cache,
)


def _configure(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.toml").write_text(text)


def test_without_settings_there_are_no_further_layers() -> None:
    assert configured_registries() == []


def test_the_cache_and_the_config_file_lie_where_the_environment_says(tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / "cache"
    assert config_file() == tmp_path / "config.toml"


def test_without_the_environment_they_lie_where_the_system_keeps_such_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIOD_CACHE")
    monkeypatch.delenv("AIOD_CONFIG")
    assert cache_folder().is_absolute()
    assert "aiod" in str(cache_folder())
    assert config_file().name == "config.toml"
    assert "aiod" in str(config_file())


def test_a_tilde_in_a_setting_is_the_home_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AIOD_CACHE", "~/weights")
    monkeypatch.setenv("AIOD_REGISTRIES", "~/lab")
    assert cache_folder() == tmp_path / "weights"
    assert configured_registries() == [tmp_path / "lab"]


@pytest.mark.parametrize(
    ("setting", "read"),
    [
        ("AIOD_CACHE", cache_folder),
        ("AIOD_CONFIG", config_file),
        ("AIOD_REGISTRIES", configured_registries),
    ],
)
def test_the_home_of_nobody_is_a_usage_error(
    setting: str, read: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(setting, "~nobody-of-this-name/aiod")
    with pytest.raises(UsageError, match=f"{setting} names a home directory of nobody"):
        read()


@pytest.mark.parametrize("value", ["1", "true", "YES", " on "])
def test_aiod_offline_forbids_the_network(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOD_OFFLINE", value)
    assert offline()


@pytest.mark.parametrize("value", ["", "0", "false", "No", "off"])
def test_aiod_offline_can_be_off(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOD_OFFLINE", value)
    assert not offline()


def test_folders_in_the_config_file_are_relative_to_it(tmp_path: Path) -> None:
    _configure(tmp_path, f'registries = ["institute", "{tmp_path}/lab"]')
    assert configured_registries() == [tmp_path / "institute", tmp_path / "lab"]


def test_the_environment_lists_folders_as_path_does_after_those_of_the_config_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _configure(tmp_path, 'registries = ["institute"]')
    monkeypatch.setenv("AIOD_REGISTRIES", os.pathsep.join([f"{tmp_path}/a", "", f"{tmp_path}/b "]))
    assert configured_registries() == [tmp_path / "institute", tmp_path / "a", tmp_path / "b "]


def test_a_relative_folder_in_the_environment_is_relative_to_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIOD_REGISTRIES", "lab")
    assert configured_registries() == [tmp_path / "lab"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("registries = [", "cannot be read"),
        ('registries = "lab"', "is not a list of folders"),
        ("registries = [1]", "is not a list of folders"),
        ('registry = ["lab"]', "unknown setting: registry"),
        ('registries = ["a\\u0000b"]', "names a NUL character"),
        ("x = " + "[" * 5000, "cannot be read"),
    ],
)
def test_a_config_file_that_makes_no_sense_is_a_usage_error(
    tmp_path: Path, text: str, said: str
) -> None:
    _configure(tmp_path, text)
    with pytest.raises(UsageError, match=said) as caught:
        configured_registries()
    assert str(tmp_path / "config.toml") in caught.value.what
    assert caught.value.hint


def test_the_cache_is_that_of_the_environment_then_of_the_config_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _configure(tmp_path, 'cache = "shared"')
    monkeypatch.setenv("AIOD_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    use_cache("")
    assert cache_folder() == tmp_path / "shared"
    assert configured_registries() == []
    use_cache(f" {tmp_path}/new/of/mine ")
    assert cache_folder() == tmp_path / "new" / "of" / "mine"
    assert os.environ["AIOD_CACHE"] == str(cache_folder())


def test_a_cache_that_cannot_be_is_a_usage_error_and_the_last_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIOD_CACHE", str(tmp_path))
    (tmp_path / "file").write_text("")
    for text in (f"{tmp_path}/file", f"{tmp_path}/file/below"):
        with pytest.raises(UsageError, match="is no folder that you can read"):
            use_cache(text)
    assert cache_folder() == tmp_path
    monkeypatch.delenv("AIOD_CACHE")
    for text in ("cache = 3", 'cache = ""'):
        _configure(tmp_path, text)
        with pytest.raises(UsageError, match="is no folder"):
            cache_folder()


def test_a_config_file_that_is_no_text_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not UTF-8"):
        configured_registries()
    (tmp_path / "config.toml").unlink()
    (tmp_path / "config.toml").mkdir()
    with pytest.raises(UsageError, match="is not a file"):
        configured_registries()
