"""What the environment and the config file say: where the cache lies, which layers there are.

========================  ====================================================================
``AIOD_CACHE``            folder for weights, hashes and indexes; may be shared by a lab
``AIOD_CONFIG``           the config file; else ``config.toml`` where the system keeps settings
``AIOD_OFFLINE``          ``1`` never touches the network
``AIOD_REGISTRIES``       folders of layers, separated as in ``PATH``
========================  ====================================================================
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from aiod.errors import AiodError, UsageError
from aiod.files import read_text
from aiod.words import printable

_MAX_CONFIG_BYTES = 1_000_000


def cache_folder() -> Path:
    """Where weights, remembered hashes and indexes are kept."""
    given = os.environ.get("AIOD_CACHE")
    if given:
        return _folder(given, "AIOD_CACHE")
    from platformdirs import user_cache_path

    return user_cache_path("aiod", appauthor=False)


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
    folders = _from_config(config_file())
    listed = os.environ.get("AIOD_REGISTRIES", "")
    return folders + [
        _folder(item, "AIOD_REGISTRIES") for item in listed.split(os.pathsep) if item.strip()
    ]


def _from_config(path: Path) -> list[Path]:
    if not os.path.lexists(path):
        return []
    hint = 'write it as: registries = ["/path/to/a/layer"]'
    try:
        settings = tomllib.loads(read_text(path, limit=_MAX_CONFIG_BYTES))
    except (AiodError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"The config file {path} cannot be read: {error}", hint=hint) from error
    unknown = sorted(set(settings) - {"registries"})
    if unknown:
        raise UsageError(f"The config file {path} has an unknown setting: {unknown[0]}.", hint=hint)
    registries = settings.get("registries", [])
    if not isinstance(registries, list) or not all(isinstance(item, str) for item in registries):
        raise UsageError(f"registries in {path} is not a list of folders.", hint=hint)
    return [_folder(item, f"registries in {path}", path.parent) for item in registries]


def _folder(text: str, setting: str, base: Path = Path()) -> Path:
    """A path that a setting names, absolute; `~` is a home directory. Raises UsageError."""
    try:
        if "\0" not in text:
            return (base / Path(text).expanduser()).absolute()
        why = "a NUL character"
    except RuntimeError:
        why = "a home directory of nobody"
    raise UsageError(f"{setting} names {why}: {printable(text)}", hint="write the whole path")
