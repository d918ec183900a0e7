"""What is generated from the schema: schema.json for editors, docs/schema.md for people."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Any

from pydantic import BaseModel

from aiod.registry.canonical import as_json
from aiod.registry.forms import VERSION_NAME
from aiod.registry.metadata import (
    Author,
    Card,
    License,
    Metadata,
    ModelTest,
    PixelSize,
    Publication,
    Status,
    Verified,
)
from aiod.registry.schema import LocationEntry, Manifest, Parameter, TaskEntry, Version
from aiod.registry.shape import example_of
from aiod.registry.tasks import TASK_NAMES

_ORDER: tuple[tuple[str, type[BaseModel]], ...] = (
    ("Family", Manifest),
    ("Version", Version),
    ("Task", TaskEntry),
    ("Location", LocationEntry),
    ("Parameter", Parameter),
    ("Metadata", Metadata),
    ("Author", Author),
    ("Publication", Publication),
    ("Licence", License),
    ("Status", Status),
    ("Pixel size", PixelSize),
    ("Card", Card),
    ("Verified", Verified),
    ("Test", ModelTest),
)

# A small manifest, and what each of its lines says. Lines without words need none.
# fmt: off
EXAMPLE: tuple[tuple[str, str], ...] = (
    ("{", ""),
    ('  "$schema": "../schema.json",', "Editors complete fields and show mistakes while you type."),
    ('  "name": "Tiny Nuclei",', "The family's name, as people say it."),
    ('  "short_name": "tiny_nuclei",', "Its name in ids and file names: `tiny_nuclei.json`, `tiny_nuclei.py`."),
    ('  "metadata": {', "What holds for all versions below."),
    ('    "description": "Nuclei stained with DAPI in cultured cells, also where they touch.",', "What it segments, in which images. The one thing that is never optional."),
    ('    "authors": [{"name": "Ada Byron", "orcid": "0000-0002-1825-0097"}],', "Who made it."),
    ('    "pubs": [{"title": "Cells, segmented", "year": 2021, "url": "https://example.org/paper"}],', "What users cite; `aiod cite` writes the reference."),
    ('    "license": {"code": "BSD-3-Clause", "weights": "CC-BY-4.0"},', "SPDX ids. Without them nobody knows whether they may use it."),
    ('    "output": "instance",', "Every nucleus gets its own label."),
    ('    "pixel_size": {"value": 0.325, "unit": "micrometer"},', "What a pixel measured in the images that it was trained on."),
    ('    "object_diameter": 30', "And how wide a nucleus was there, in pixels."),
    ("  },", ""),
    ('  "versions": {', "Versions by name; the one to recommend comes first."),
    ('    "2D v1": {', "Its id is `tiny_nuclei/2d_v1`: the slug follows from the name."),
    ('      "axes": "YX",', "The network takes one plane with one channel at a time."),
    ('      "tasks": {', ""),
    ('        "nuclei": {', "A short name from `tasks.json`; `aiod tasks` lists them."),
    ('          "locations": [', "The first location that a user can reach is used."),
    ("            {", ""),
    ('              "location": "https://example.org/weights/tiny_nuclei.pth",', "A URL, or a path; relative paths start at the manifest."),
    ('              "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",', "A download that differs is refused. `aiod new location` computes it."),
    ('              "size": 812034', "In bytes."),
    ("            },", ""),
    ('            {"location": "/shared/models/tiny_nuclei.pth"}', "A second place, for those who can read that folder."),
    ("          ]", ""),
    ("        }", ""),
    ("      }", ""),
    ("    }", ""),
    ("  },", ""),
    ('  "params": [', "The knobs: fields of the form, keywords of the runner."),
    ("    {", ""),
    ('      "name": "Threshold",', "The label in the form."),
    ('      "arg_name": "threshold",', "The keyword that `predict` in the runner takes."),
    ('      "value": 0.5,', "The default."),
    ('      "minimum": 0,', "The form offers nothing below"),
    ('      "maximum": 1,', "or above."),
    ('      "tooltip": "Lower it when dim nuclei are missed."', "What turning the knob does to the result."),
    ("    }", ""),
    ("  ]", ""),
    ("}", ""),
)
# fmt: on


def json_schema(tasks: Mapping[str, str] = TASK_NAMES) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a manifest; editors complete fields and tasks from it."""
    schema = Manifest.model_json_schema(by_alias=True)
    _without_noise(schema)
    entry = {"$ref": "#/$defs/TaskEntry"}
    schema["$defs"]["Version"]["properties"]["tasks"] = {
        "description": Version.model_fields["tasks"].description,
        "type": "object",
        "minProperties": 1,
        "properties": {task: {"description": name, **entry} for task, name in tasks.items()},
        "additionalProperties": False,
    }
    schema["properties"]["versions"] = {
        "description": Manifest.model_fields["versions"].description,
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"maxLength": 50, "pattern": VERSION_NAME},
        "additionalProperties": {"$ref": "#/$defs/Version"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "AIoD manifest",
        **{key: value for key, value in schema.items() if key != "title"},
    }


def schema_text(tasks: Mapping[str, str] = TASK_NAMES) -> str:
    """The text of schema.json."""
    return as_json(json_schema(tasks))


def example_text() -> str:
    """The manifest that the documentation explains."""
    return "\n".join(line for line, _ in EXAMPLE) + "\n"


def schema_page() -> str:
    """The text of docs/schema.md."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    yield from (
        "# The fields of a manifest",
        "",
        "<!-- Generated by `make generated` from the descriptions in schema.py and metadata.py; edit those. -->",
        "",
        "A manifest describes one model family: its versions, the tasks of each, where the weights",
        "lie, which parameters there are, who made it. `aiod new family` writes one by asking;",
        "`aiod validate` checks one.",
        "",
        "## A whole small manifest",
        "",
        "```json",
        *(line for line, _ in EXAMPLE),
        "```",
        "",
        "Line by line:",
        "",
        "| line | says |",
        "|---|---|",
    )
    for line, words in EXAMPLE:
        if words:
            yield f"| `{_cell(line.strip())}` | {words} |"
    yield from (
        "",
        "What a family gives in `metadata`, `params` and `config` holds for every version and task",
        "that does not give its own: parameters as a whole list, metadata field by field.",
        "",
        "## Tasks",
        "",
        "| short name | what it segments |",
        "|---|---|",
        *(f"| `{task}` | {name} |" for task, name in TASK_NAMES.items()),
    )
    for title, model in _ORDER:
        yield from (
            "",
            f"## {title}",
            "",
            str(model.__doc__).strip().split("\n", maxsplit=1)[0],
            "",
        )
        yield from ("| field | type | what it is | example |", "|---|---|---|---|")
        for name, field in model.model_fields.items():
            needed = " **(needed)**" if field.is_required() else ""
            example = field.examples[0] if field.examples else example_of(field.annotation)
            shown = f"`{_cell(json.dumps(example, ensure_ascii=False))}`"
            yield (
                f"| `{field.alias or name}` | {_type_in_words(field.annotation)} |"
                f" {_cell(field.description or '')}{needed} | {shown} |"
            )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _type_in_words(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _type_in_words(arguments[0])
    if origin in (UnionType, typing.Union):
        parts = [_type_in_words(part) for part in arguments if part is not type(None)]
        if "number" in parts:  # a whole number is one
            parts = [part for part in parts if part != "whole number"]
        return " or ".join(dict.fromkeys(parts))
    if origin is typing.Literal:
        return " or ".join(f"`{json.dumps(value)}`" for value in arguments)
    if origin is list:
        return f"list of {_type_in_words(arguments[0])}"
    if origin is dict:
        return f"table of {_type_in_words(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        title = next(title for title, model in _ORDER if model is annotation)
        return f"[{title.lower()}](#{title.lower().replace(' ', '-')})"
    return _PLAIN_TYPES[annotation]


_PLAIN_TYPES: Mapping[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "`true` or `false`",
    Any: "text, number, `true`, `false`, `null`, or a list of choices",
}


def _without_noise(schema: Any) -> None:
    """Without pydantic's titles, which repeat the names of fields in editors' tooltips."""
    if isinstance(schema, dict):
        if isinstance(schema.get("title"), str):
            del schema["title"]
        if "default" in schema and schema["default"] is None:
            del schema["default"]
        for key, value in schema.items():
            if key == "properties":
                for item in value.values():
                    _without_noise(item)
            elif key != "examples":
                _without_noise(value)
    elif isinstance(schema, list):
        for item in schema:
            _without_noise(item)
