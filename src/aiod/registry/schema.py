"""The schema of a manifest: family -> version -> task.

Field names are those of AIoD's format, so that its manifests are read unchanged. The models are
strict and frozen and never fill anything in: what a family gives for all its versions is derived
in `catalogue`, not written here. Rules that tie several fields together are in `rules`; validating
a :class:`Manifest` applies both.

Every field carries the description that the documentation, the forms, the questions of `aiod new`
and the error messages show.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from aiod.registry import forms
from aiod.registry.fields import (
    Axes,
    Location,
    Name,
    NoWeights,
    Number,
    Positive,
    Scalar,
    Slug,
    Strict,
    VersionName,
)
from aiod.registry.metadata import Metadata
from aiod.registry.rules import broken_rules
from aiod.registry.tasks import TASK_NAMES

MAX_MANIFEST_BYTES = 5_000_000


class Parameter(Strict):
    """One knob of the model: a field of the form and a keyword of the runner."""

    name: Annotated[
        Name, Field(description="Label in forms (1-50 characters).", examples=["Diameter"])
    ]
    arg_name: Annotated[
        str | None,
        Field(
            pattern=forms.ARG_NAME,
            examples=["diameter"],
            description="Keyword of the runner's `predict`; without it `name` is the keyword. "
            "Unique in its list.",
        ),
    ] = None
    value: Annotated[
        Any,
        Field(
            description="Default value. A list means choices, all of one type. Null where the "
            "model finds a value by itself; `dtype` is needed then.",
            examples=[30.0],
        ),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": ["string", "number", "boolean", "null"]},
                    {
                        "type": "array",
                        "minItems": 1,
                        "uniqueItems": True,
                        "items": {"type": ["string", "number", "boolean"]},
                    },
                ]
            }
        ),
    ]
    default: Annotated[
        Scalar | None,
        Field(
            description="Which of the choices is chosen at first; without it the first.",
            examples=["average"],
        ),
    ] = None
    dtype: Annotated[
        Literal["str", "int", "float", "bool", "list", "tuple"] | None,
        Field(
            examples=["float"],
            description="Type of the value; needed where `value` is null, and in agreement with "
            "it elsewhere.",
        ),
    ] = None
    minimum: Annotated[
        Number | None, Field(description="Smallest value allowed.", examples=[0])
    ] = None
    maximum: Annotated[
        Number | None, Field(description="Largest value allowed.", examples=[500])
    ] = None
    step: Annotated[
        Positive | None,
        Field(description="Step of the arrows in a form.", examples=[0.5]),
    ] = None
    unit: Annotated[
        str | None,
        Field(description="Unit of the value.", examples=["pixels"]),
    ] = None
    advanced: Annotated[
        bool | None,
        Field(description="true folds it away from beginners.", examples=[True]),
    ] = None
    tooltip: Annotated[
        str | None,
        Field(
            description="What turning the knob does to the result.",
            examples=["About the width of a cell. Too small cuts cells in pieces."],
        ),
    ] = None
    param_type: Annotated[
        Literal["channel"] | None,
        Field(
            examples=["channel"], description="channel: the form offers the channels of the image."
        ),
    ] = None
    channel_start: Annotated[
        int | None,
        Field(
            ge=-1,
            le=0,
            examples=[0],
            description="Number of the first entry offered: -1 is the image as it is and "
            "channels count from 0; 0 has a meaning of the model's own and channels count "
            "from 1. Only for channels; -1 without it.",
        ),
    ] = None
    channel_start_label: Annotated[
        str | None,
        Field(
            min_length=1,
            examples=["Grayscale"],
            description='Words for that first entry. Only for channels; "original" without it.',
        ),
    ] = None


class LocationEntry(Strict):
    """One place where the weights lie."""

    location: Annotated[
        Location,
        Field(
            description="URL, absolute path, or path relative to the manifest.",
            examples=["https://example.org/weights/nuclei.pth"],
        ),
    ]
    config_path: Annotated[
        Location | None,
        Field(
            description="URL or path of a config file that belongs to these weights.",
            examples=["https://example.org/weights/nuclei.yaml"],
        ),
    ] = None
    sha256: Annotated[
        str | None,
        Field(
            pattern=forms.SHA256,
            examples=["0" * 64],
            description="Hash of the file; `aiod new location` computes it.",
        ),
    ] = None
    size: Annotated[
        int | None, Field(ge=0, description="Size of the file in bytes.", examples=[26570000])
    ] = None


class TaskEntry(Strict):
    """A version used for one task: its weights, and what differs from the family."""

    locations: Annotated[
        list[LocationEntry] | None,
        Field(
            min_length=1,
            description="Where the weights lie; the first that this user can reach is used.",
        ),
    ] = None
    location: Annotated[
        Location | None,
        Field(
            description="Short form for a list of one location.",
            examples=["https://example.org/weights/nuclei.pth"],
        ),
    ] = None
    config_path: Annotated[
        Location | None,
        Field(
            description="Config file that goes with the short form `location`.",
            examples=["nuclei.yaml"],
        ),
    ] = None
    weights: Annotated[
        NoWeights | None,
        Field(description="false for an algorithm that needs no weights.", examples=[False]),
    ] = None
    params: Annotated[
        list[Parameter] | None,
        Field(description="All its parameters, where they differ from the family's."),
    ] = None
    metadata: Annotated[
        Metadata | None, Field(description="Fields that differ from the version's.")
    ] = None


class Version(Strict):
    """One trained model (or one algorithm) of the family."""

    slug: Annotated[
        Slug | None,
        Field(
            description="Short form of the version's name in ids and folder names; "
            "derived from the name if absent.",
            examples=["mitonet_v1"],
        ),
    ] = None
    axes: Annotated[
        Axes | None,
        Field(
            examples=["ZYX"],
            description="Axes of the array that the model takes in one call: letters of TCZYX, "
            "each at most once, Y and X among them. C only if the network itself takes several "
            "channels.",
        ),
    ] = None
    weights: Annotated[
        NoWeights | None,
        Field(
            description="false for an algorithm that needs no weights, in any task.",
            examples=[False],
        ),
    ] = None
    metadata: Annotated[
        Metadata | None, Field(description="Fields that differ from the family's.")
    ] = None
    tasks: Annotated[
        dict[str, TaskEntry],
        Field(min_length=1, description="What it segments: short names of tasks.json."),
    ]


class Manifest(Strict):
    """A model family: one JSON file in `manifests/`, one script in `runners/`."""

    schema_: Annotated[
        str | None,
        Field(
            alias="$schema",
            examples=["../schema.json"],
            description="Path or URL of schema.json, for editors that complete fields.",
        ),
    ] = None
    name: Annotated[
        Name,
        Field(
            description="Name of the family as people know it (1-50 characters).",
            examples=["Cellpose"],
        ),
    ]
    short_name: Annotated[
        str | None,
        Field(
            max_length=50,
            pattern=forms.FAMILY_SLUG,
            examples=["cellpose"],
            description="Short name in ids; names the manifest and the runner. Derived from "
            "the name if absent.",
        ),
    ] = None
    metadata: Annotated[
        Metadata, Field(description="What holds for every version that does not say otherwise.")
    ]
    usage_guide: Annotated[
        str | None,
        Field(
            description="Advice for users: text, or a URL.",
            examples=["Try it on one plane first, then on the stack."],
        ),
    ] = None
    config: Annotated[
        Location | None,
        Field(
            description="Config file for versions without their own.", examples=["cellpose.yaml"]
        ),
    ] = None
    config_path: Annotated[
        Location | None,
        Field(description="The same as `config`; give one of the two.", examples=["cellpose.yaml"]),
    ] = None
    versions: Annotated[
        dict[VersionName, Version],
        Field(min_length=1, description="Versions by name, the recommended one first."),
    ]
    params: Annotated[
        list[Parameter] | None,
        Field(description="Parameters of every task that does not give its own."),
    ] = None

    @model_validator(mode="wrap")
    @classmethod
    def _keep_the_rules(
        cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> Manifest:
        manifest: Manifest = handler(value)
        document = (
            value
            if isinstance(value, dict)
            else manifest.model_dump(exclude_unset=True, by_alias=True)
        )
        tasks = (info.context or {}).get("tasks", TASK_NAMES)
        for broken in broken_rules(document, tasks):
            raise PydanticCustomError(
                "rule",
                "{where}: {found}; expected {expected}",
                {"where": broken.path, "found": broken.found, "expected": broken.expected},
            )
        return manifest
