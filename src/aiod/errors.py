"""The one family of errors that leaves this package on a user's mistake.

Every message says what is wrong, where, what was found, what was expected and what to do next.
Doors print ``str(error)`` and exit with 1; anything that is not an :class:`AiodError` is a defect
of ours and keeps its traceback.
"""

from __future__ import annotations


class AiodError(Exception):
    """What went wrong, in words for the person in front of the screen.

    Parameters
    ----------
    what
        One sentence that says what is wrong, naming its subject.
    details
        Further lines: where, what was found, what was expected, each attempt and its reason.
    hint
        The next step to take, usually a command to type.
    """

    def __init__(self, what: str, *, details: list[str] | None = None, hint: str | None = None):
        super().__init__(what)
        self.what = what
        self.details = tuple(details or ())
        self.hint = hint

    def __str__(self) -> str:
        lines = [self.what, *(f"  {line}" for line in self.details)]
        if self.hint:
            lines.append(f"Next: {self.hint}")
        return "\n".join(lines)


class ManifestError(AiodError):
    """A manifest, a task list or a layer that cannot be used as it is."""


class UnknownModelError(AiodError, KeyError):
    """No model has the id that was asked for."""

    __str__ = AiodError.__str__


class LocationError(AiodError):
    """Weights or a config file that cannot be had from any of their locations."""


class CacheError(AiodError):
    """The cache folder cannot be read, written or trusted."""


class UsageError(AiodError):
    """A command, option or setting that does not fit together."""
