"""What the environment and the config file say: where the cache lies, which layers there are.

========================  ====================================================================
``AIOD_CACHE``            folder for weights, environments and indexes; a lab may share one
``AIOD_CONFIG``           the config file; else ``config.toml`` where the system keeps settings
``AIOD_OFFLINE``          ``1`` never touches the network
``AIOD_REGISTRIES``       folders of layers, separated as in ``PATH``
========================  ====================================================================
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from aiod.errors import AiodError, UsageError
from aiod.files import read_text
from aiod.words import printable

_MAX_CONFIG_BYTES = 1_000_000
_SETTINGS = {"cache", "registries"}
_HINT = 'write it as: registries = ["/path/to/a/layer"], cache = "/path/to/a/folder"'


def cache_folder() -> Path:
    """Where weights, environments and indexes are kept. Raises UsageError.

    That of `AIOD_CACHE`, else of the config file, else the folder for it that a system has.
    """
    given = os.environ.get("AIOD_CACHE")
    if given:
        return _folder(given, "AIOD_CACHE")
    path = config_file()
    given = _from_config(path).get("cache")
    if given is not None:
        if not isinstance(given, str) or not given:
            raise UsageError(f"cache in {path} is no folder.", hint='write it as: cache = "/path"')
        return _folder(given, f"cache in {path}", path.parent)
    from platformdirs import user_cache_path

    return user_cache_path("aiod", appauthor=False)


def use_cache(folder: str) -> None:
    """Have this process, and those that it starts from now on, use a folder as `AIOD_CACHE`.

    An empty text stands for that of the config file or of the system. Raises UsageError for what
    is no folder and cannot become one.
    """
    if not folder.strip():
        os.environ.pop("AIOD_CACHE", None)
        return
    path = _folder(folder.strip(), "The cache")
    nearest = next(each for each in (path, *path.parents) if os.path.lexists(each))
    if not nearest.is_dir() or not os.access(nearest, os.R_OK | os.X_OK):
        raise UsageError(
            f"The cache cannot be {path}: {nearest} is no folder that you can read.",
            hint="choose another, or leave the field empty for the usual one",
        )
    os.environ["AIOD_CACHE"] = str(path)


def config_file() -> Path:
    """The file with a user's own settings; it need not exist."""
    given = os.environ.get("AIOD_CONFIG")
    if given:
        return _folder(given, "AIOD_CONFIG")
    from platformdirs import user_config_path

    return user_config_path("aiod", appauthor=False) / "config.toml"


def offline() -> bool:
    """Whether `AIOD_OFFLINE` forbids the network."""
    return os.environ.get("AIOD_OFFLINE", "").strip().lower() not in ("", "0", "no", "false", "off")


def configured_registries() -> list[Path]:
    """Layer folders of the config file, then those of `AIOD_REGISTRIES`. Raises UsageError."""
    path = config_file()
    folders = _from_config(path).get("registries", [])
    if not isinstance(folders, list) or not all(isinstance(item, str) for item in folders):
        raise UsageError(f"registries in {path} is not a list of folders.", hint=_HINT)
    listed = os.environ.get("AIOD_REGISTRIES", "")
    return [_folder(item, f"registries in {path}", path.parent) for item in folders] + [
        _folder(item, "AIOD_REGISTRIES") for item in listed.split(os.pathsep) if item.strip()
    ]


def _from_config(path: Path) -> dict[str, Any]:
    """The settings of a config file, of which only the names are known; none without a file."""
    if not os.path.lexists(path):
        return {}
    try:
        settings = tomllib.loads(read_text(path, limit=_MAX_CONFIG_BYTES))
    except (AiodError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"The config file {path} cannot be read: {error}", hint=_HINT) from error
    unknown = sorted(set(settings) - _SETTINGS)
    if unknown:
        raise UsageError(
            f"The config file {path} has an unknown setting: {unknown[0]}.", hint=_HINT
        )
    return settings


def _folder(text: str, setting: str, base: Path = Path()) -> Path:
    """A path that a setting names, absolute; `~` is a home directory. Raises UsageError."""
    try:
        if "\0" not in text:
            return (base / Path(text).expanduser()).absolute()
        why = "a NUL character"
    except RuntimeError:
        why = "a home directory of nobody"
    raise UsageError(f"{setting} names {why}: {printable(text)}", hint="write the whole path")
