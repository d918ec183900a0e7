"""What a family's runner accepts, read from its syntax tree: a runner is never imported here.

A runner has ``load(weights, *, config, device)``, ``predict(model, image, *, axes, …)`` and, where
it needs the whole image, ``survey(statistics, **params)``. The keywords of `predict` and `survey`
are the parameters of the manifest, and `model` what was loaded; what `survey` returns under a name
reaches `predict` too.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aiod.errors import AiodError
from aiod.files import read_text
from aiod.registry.parameter_rules import HOST_ARGUMENTS

MAX_RUNNER_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Runner:
    """The keywords that a manifest may set (name -> line) and whether any other is taken too.

    `surveys` says whether it has a function `survey`, `surveyed` which names that returns.
    """

    path: Path
    accepted: dict[str, int]
    surveys: bool
    surveyed: frozenset[str]
    takes_any: bool

    def refuses(self, argument: str) -> bool:
        """Whether a manifest's parameter would be an error for this runner."""
        return not self.takes_any and argument not in self.accepted


def read_runner(path: Path) -> Runner:
    """Read a runner's keywords. Raises AiodError for a file that is no runner."""
    text = read_text(path, limit=MAX_RUNNER_BYTES)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its escapes and literals are its own affair
            tree = ast.parse(text)
    except SyntaxError as error:
        raise AiodError(f"{path}:{error.lineno or 1}: not Python: {error.msg}.") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise AiodError(f"{path}: not Python: {error}.") from error
    functions = {item.name: item for item in tree.body if isinstance(item, ast.FunctionDef)}
    missing = [name for name in ("load", "predict") if name not in functions]
    if missing:
        raise AiodError(
            f"{path} has no function {' and no function '.join(missing)}.",
            hint="`aiod new family` writes a skeleton",
        )
    accepted: dict[str, int] = {}
    takes_any = False
    for name in ("predict", "survey"):
        if name in functions:
            accepted |= dict(_keywords(functions[name], skip=2 if name == "predict" else 1))
            takes_any |= functions[name].args.kwarg is not None and name == "predict"
    surveyed = frozenset(_returned(functions["survey"])) if "survey" in functions else frozenset()
    own = {name: line for name, line in accepted.items() if name not in HOST_ARGUMENTS}
    return Runner(path, own, "survey" in functions, surveyed, takes_any)


def _keywords(function: ast.FunctionDef, skip: int) -> Iterator[tuple[str, int]]:
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    for argument in [*positional[skip:], *arguments.kwonlyargs]:
        yield argument.arg, argument.lineno


def _returned(function: ast.FunctionDef) -> Iterator[str]:
    """Names of what `survey` returns, as far as they stand in the text."""
    for node in ast.walk(function):
        if not isinstance(node, ast.Return):
            continue
        value = node.value
        if isinstance(value, ast.Dict):
            for key in value.keys:
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    yield key.value
        elif isinstance(value, ast.Call) and getattr(value.func, "id", "") == "dict":
            yield from (item.arg for item in value.keywords if item.arg)
