"""AI OnDemand: any segmentation model on any image, on any machine, in one line.

Nothing is imported here, so that ``import aiod`` and ``aiod --help`` stay light. Start from
:func:`aiod.registry.load` to find models.
"""

from __future__ import annotations


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version

        return version("aiod-hub")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
