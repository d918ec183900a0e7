"""One look at the text of a manifest, which shows nearly every good one to be good.

Ten thousand manifests are judged when a layer is first loaded, and few of them are wrong. Here the
text goes through the schema in one pass, without models and without the JSON reader that finds
every irregularity. Whatever does not pass is not wrong yet: `jsontext` and `schema` decide.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from pydantic_core import CoreSchema, SchemaValidator, to_json

from aiod.registry.rules import broken_rules
from aiod.registry.schema import Manifest


def good_at_a_glance(text: str, tasks: Mapping[str, str]) -> dict[str, Any] | None:
    """The document of a manifest that is good beyond doubt; None where a closer look is needed.

    Whatever passes is accepted by `Manifest` too. The fields of an object come in the order of
    the schema, versions and tasks in that of the text.
    """
    try:
        document: dict[str, Any] = _FIELDS.validate_json(text)
    except ValueError:
        return None
    if _is_regular(text, document) and next(broken_rules(document, tasks), None) is None:
        return document
    return None


# A number of more than 300 characters takes six places in a row of every fiftieth character.
_MANY_DIGITS = re.compile(r"[-+.0-9Ee]{6}")


def _is_regular(text: str, document: dict[str, Any]) -> bool:
    """Whether one look shows what `jsontext.parse` demands beyond JSON.

    A colon stands in a text or behind a key: if none got lost, no key did that stood twice. Only
    a colon written as ``\\u003a`` could make up for a lost one. The rules look for NaN.
    """
    return (
        text.count(":") == to_json(document).count(b":")
        and ("\\" not in text or "\\u003" not in text)
        and not _MANY_DIGITS.search(text[::50])
    )


def _without_models(schema: Any) -> Any:
    """A schema of pydantic's that gives a dict where `schema` makes a model and keeps its rules."""
    match schema:
        case list():
            return [_without_models(item) for item in schema]
        case {"type": "function-wrap", "schema": {"type": "model"} as model}:
            return _without_models(model)
        case {"type": "model", "schema": {"fields": fields}, "config": config}:
            return {
                "type": "typed-dict",
                "fields": {
                    field.get("validation_alias", name): _dict_field(field["schema"])
                    for name, field in fields.items()
                },
                "config": config,
                **({"ref": schema["ref"]} if "ref" in schema else {}),
            }
        case dict():
            return {key: _without_models(value) for key, value in schema.items()}
    return schema


def _dict_field(schema: dict[str, Any]) -> dict[str, Any]:
    """A field of a dict, which stays absent where that of a model takes its default."""
    optional = schema["type"] == "default"
    inner = _without_models(schema["schema"] if optional else schema)
    return {"type": "typed-dict-field", "required": not optional, "schema": inner}


_FIELDS = SchemaValidator(cast(CoreSchema, _without_models(Manifest.__pydantic_core_schema__)))
