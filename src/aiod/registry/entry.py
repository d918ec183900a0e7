"""An entry of an index: one manifest file in brief."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiod.registry.problems import Problem

Signature = tuple[int, int, int, int]
NEVER: Signature = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Entry:
    """One manifest file: what it was like when read, its family, and its summary as UTF-8 JSON.

    `family` is None for a file that cannot be used; its summary is then a list of problems.
    """

    file: str
    signature: Signature
    family: str | None
    body: bytes

    @property
    def path(self) -> Path:
        return Path(self.file)

    def summary(self) -> dict[str, Any]:
        """Name, description and versions of the family: see `entries.summarise`."""
        summary: dict[str, Any] = json.loads(self.body)
        return summary

    def problems(self) -> list[Problem]:
        """Why the file cannot be used; empty for a good one."""
        return (
            [] if self.family is not None else [Problem(**item) for item in json.loads(self.body)]
        )
