"""Where to run: a profile is one TOML file a compute site, in `profiles/` of a layer."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aiod.errors import AiodError, UsageError
from aiod.files import read_text
from aiod.registry.layers import Layer
from aiod.words import listing

DEFAULT_PROFILE = "local"
_MAX_BYTES = 100_000
_MOST_CPU_WORKERS = 4

Seconds = Annotated[float, Field(gt=0, le=7 * 24 * 3600)]


class Profile(BaseModel):
    """How one site runs tiles. Unknown settings are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    description: str
    cluster: Literal["local"]
    workers: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)] = "auto"
    predict_seconds: Seconds = 600.0
    load_seconds: Seconds = 600.0
    attempts: Annotated[int, Field(ge=1, le=10)] = 2

    def worker_count(self, device: str, given: int | None = None) -> int:
        """Model processes to start for a device: what was asked for, else by the profile."""
        if given is not None:
            return given
        if self.workers != "auto":
            return self.workers
        return min(_cores(), _MOST_CPU_WORKERS) if device == "cpu" else 1

    def threads(self, workers: int) -> int:
        """Threads each model process may use, so that together they use the machine once."""
        return max(1, _cores() // workers)


def profile_files(layers: Iterable[Layer]) -> dict[str, Path]:
    """Name -> file of every profile; of two of one name that of the later layer."""
    return {
        path.stem: path
        for layer in layers
        for path in sorted((layer.folder / "profiles").glob("*.toml"))
    }


def find_profile(name: str, layers: Iterable[Layer]) -> Profile:
    """The profile called `name` in the last layer that has it, or the file of that path.

    Raises UsageError, which lists the profiles there are.
    """
    files = profile_files(layers)
    path = Path(name) if name.endswith(".toml") else files.get(name)
    if path is None:
        raise UsageError(f'There is no profile "{name}".', hint=f"one of {listing(sorted(files))}")
    try:
        return Profile.model_validate(tomllib.loads(read_text(path, limit=_MAX_BYTES)))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"][:1])) or "the file"
        raise UsageError(
            f"The profile {path} cannot be used: {where}: {first['msg']}.",
            hint=f"its settings are {listing(sorted(Profile.model_fields))}",
        ) from error
    except (AiodError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"The profile {path} cannot be read: {error}") from error


def _cores() -> int:
    """Cores that this process may use, which a scheduler may have made fewer."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
