"""Which model of the schema stands at which path of a manifest."""

from __future__ import annotations

import typing
from functools import cache
from types import UnionType
from typing import Annotated, Any

from pydantic import BaseModel

from aiod.registry.jsontext import Path
from aiod.registry.metadata import License
from aiod.registry.schema import LocationEntry, Manifest, TaskEntry


@cache
def fields_of(model: type[BaseModel]) -> dict[str, str]:
    """The keys that an object of this model may have, in their canonical order -> description."""
    return {
        field.alias or name: field.description or "" for name, field in model.model_fields.items()
    }


def model_at(path: Path) -> type[BaseModel] | None:
    """The model of the object at `path`; None where there is a list, a table by name, a value."""
    annotation: Any = Manifest
    for step in path:
        annotation = _below(annotation, step)
    return annotation if _is_model(annotation) else None


def example_of(annotation: Any) -> Any:
    """A small value of a type, made of the examples of the fields below it that are needed."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Annotated, UnionType, typing.Union):
        return example_of(arguments[0])
    if origin is list:
        return [example_of(arguments[0])]
    if origin is dict:
        key = "nuclei" if arguments[1] is TaskEntry else "v1"
        return {key: example_of(arguments[1])}
    if annotation is TaskEntry:
        return {"location": _first_example(LocationEntry, "location")}
    if annotation is License:
        return {name: _first_example(License, name) for name in License.model_fields}
    fields = annotation.model_fields.items()
    return {
        field.alias or name: field.examples[0] if field.examples else example_of(field.annotation)
        for name, field in fields
        if field.is_required()
    }


def _first_example(model: type[BaseModel], field: str) -> Any:
    examples = model.model_fields[field].examples
    return examples[0] if examples else None


def _below(annotation: Any, step: str | int) -> Any:
    if _is_model(annotation):
        for name, field in annotation.model_fields.items():
            if (field.alias or name) == step:
                return _core(field.annotation)
        return None
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (list, dict) and isinstance(step, int) == (origin is list):
        return _core(arguments[-1])
    return None


def _core(annotation: Any) -> Any:
    """Without Annotated and Optional; of a union, the part that has a shape of its own."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _core(arguments[0])
    if origin in (UnionType, typing.Union):
        parts = [_core(part) for part in arguments]
        return next((part for part in parts if _has_shape(part)), None)
    return annotation


def _has_shape(annotation: Any) -> bool:
    return _is_model(annotation) or typing.get_origin(annotation) in (list, dict)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
