"""The canonical form of a manifest: what `aiod fmt` writes, and every command that writes one.

Two spaces, UTF-8 as it is, fields in the order of the schema, a newline at the end. Versions,
tasks, parameters and locations keep the order they were given, which carries meaning.
"""

from __future__ import annotations

import json
from typing import Any

from aiod.registry.jsontext import Path
from aiod.registry.shape import fields_of, model_at


def canonical(value: Any, path: Path = ()) -> Any:
    """The same document, its fields in the order of the schema; unknown ones come last."""
    if isinstance(value, dict):
        model = model_at(path)
        order = {name: index for index, name in enumerate(fields_of(model))} if model else {}
        names = sorted(value, key=lambda name: order.get(name, len(order)))
        return {name: canonical(value[name], (*path, name)) for name in names}
    if isinstance(value, list):
        return [canonical(item, (*path, index)) for index, item in enumerate(value)]
    return value


def to_text(document: dict[str, Any]) -> str:
    """A manifest as text in canonical form."""
    return as_json(canonical(document))


def as_json(value: Any) -> str:
    """JSON as all our files have it; lone surrogates, which are no text, stay escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2, allow_nan=False)
    return text + "\n"
