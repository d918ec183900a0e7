"""The forms of all steps, as doors show them: made from the signatures of their functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from aiod.flow.steps.after import AFTER
from aiod.flow.steps.before import STEPS
from aiod.flow.steps.calls import form_of

Form = dict[str, Any]


def forms() -> dict[str, dict[str, Form]]:
    """`--pre` and `--post` -> name of a step -> what it does and its parameters; plain JSON."""
    return {
        "--pre": {name: _form(step.function) for name, step in STEPS.items()},
        "--post": {name: _form(step.function) for name, step in AFTER.items()},
    }


def _form(function: Callable[..., Any]) -> Form:
    return {
        "does": (inspect.getdoc(function) or "").partition("\n")[0],
        "parameters": [
            {
                "name": entry.name,
                "type": entry.kind.__name__,
                "default": entry.default,
                "minimum": entry.bounds.minimum,
                "maximum": entry.bounds.maximum,
                "above": entry.bounds.above,
                "choices": list(entry.choices),
                "text": entry.text,
            }
            for entry in form_of(function)
        ],
    }
