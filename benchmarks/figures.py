"""A figure of a benchmark: a ratio, what it must not exceed, and what it comes from."""

from __future__ import annotations

from dataclasses import dataclass

HEAD = ("| what | ours | beside | ratio | at most | holds |", "|---|---|---|---|---|---|")


@dataclass(frozen=True)
class Figure:
    """A median, its limit (None where it is only to be known), and the absolute medians."""

    name: str
    ratio: float
    limit: float | None
    ours: str
    theirs: str

    def row(self) -> str:
        """A line of a table under `HEAD`."""
        verdict = "" if self.limit is None else "yes" if self.ratio <= self.limit else "**no**"
        limit = "" if self.limit is None else f"{self.limit:.2f}"
        cells = (self.name, self.ours, self.theirs, f"{self.ratio:.2f}", limit, verdict)
        return f"| {' | '.join(cells)} |"
