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
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from aiod.registry import forms
from aiod.registry.rules import broken_rules
from aiod.registry.tasks import TASK_NAMES

MAX_MANIFEST_BYTES = 5_000_000

Scalar = str | int | float | bool
Url = Annotated[str, Field(pattern=forms.URL)]
Location = Annotated[
    str,
    AfterValidator(forms.check_location),
    Field(json_schema_extra={"minLength": 1, "pattern": forms.LOCATION_ECMA}),
]
Doi = Annotated[
    str, AfterValidator(forms.check_doi), Field(json_schema_extra={"pattern": forms.DOI})
]
Orcid = Annotated[
    str, AfterValidator(forms.check_orcid), Field(json_schema_extra={"pattern": forms.ORCID})
]
Licence = Annotated[str, AfterValidator(forms.check_licence)]
Axes = Annotated[
    str, AfterValidator(forms.check_axes), Field(json_schema_extra={"pattern": forms.AXES_ECMA})
]
Slug = Annotated[
    str,
    Field(max_length=50, json_schema_extra={"pattern": forms.VERSION_SLUG}),
    AfterValidator(forms.check_version_slug),
]
Name = Annotated[str, Field(min_length=1, max_length=50, pattern=forms.WORDS)]
VersionName = Annotated[str, Field(min_length=1, max_length=50, pattern=forms.VERSION_NAME)]
# Unions, so that 30 stays 30 and 30.0 stays 30.0 when a manifest is written again.
Number = Annotated[float | int, WithJsonSchema({"type": "number"})]
Positive = Annotated[
    Annotated[float, Field(gt=0)] | Annotated[int, Field(gt=0)],
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0}),
]
Fraction = Annotated[
    Annotated[float, Field(ge=0, le=1)] | Annotated[int, Field(ge=0, le=1)],
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": 1}),
]
# Not Literal[False], which 0 would be too.
NoWeights = Annotated[
    bool,
    AfterValidator(forms.check_no_weights),
    WithJsonSchema({"const": False, "type": "boolean"}),
]
Halo = Annotated[int, Field(ge=0, le=4096)]


class Strict(BaseModel):
    """Unknown keys are refused, types are not coerced, nothing is changed afterwards."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Author(Strict):
    """A person to thank and to cite."""

    name: Annotated[
        str,
        Field(min_length=1, description="Given name, then family name.", examples=["Ada Byron"]),
    ]
    affiliation: Annotated[
        str | None,
        Field(description="Institute and place.", examples=["Institute of Cells, Oslo"]),
    ] = None
    email: Annotated[
        str | None,
        Field(
            pattern=forms.EMAIL, description="Where users may ask.", examples=["ada@example.org"]
        ),
    ] = None
    url: Annotated[
        Url | None, Field(description="Home page.", examples=["https://example.org/ada"])
    ] = None
    github: Annotated[
        str | None,
        Field(pattern=forms.GITHUB, description="GitHub user name.", examples=["ada"]),
    ] = None
    orcid: Annotated[
        Orcid | None,
        Field(description="ORCID iD, bare.", examples=["0000-0002-1825-0097"]),
    ] = None


class Publication(Strict):
    """Something to cite: a paper, a preprint, a data set."""

    title: Annotated[
        str,
        Field(min_length=1, description="Title as published.", examples=["Cells, segmented"]),
    ]
    info: Annotated[
        str | None,
        Field(
            description="What it is to the model: the method, the training data, …",
            examples=["The paper that describes the model and its training data"],
        ),
    ] = None
    url: Annotated[
        Url | None,
        Field(description="Where to read it.", examples=["https://example.org/paper"]),
    ] = None
    year: Annotated[
        int | None, Field(ge=1900, le=2100, description="Year published.", examples=[2021])
    ] = None
    doi: Annotated[
        Doi | None,
        Field(description="Bare DOI. Never required.", examples=["10.1234/cells.2021"]),
    ] = None
    authors: Annotated[
        list[Author] | None, Field(description="Authors in the order of the paper.")
    ] = None


class License(Strict):
    """What users may do, as SPDX ids; code and weights often differ."""

    code: Annotated[
        Licence | None, Field(description="Licence of the code.", examples=["BSD-3-Clause"])
    ] = None
    weights: Annotated[
        Licence | None,
        Field(description="Licence of the trained weights.", examples=["CC-BY-4.0"]),
    ] = None


State = Literal["stable", "experimental", "deprecated"]


class Status(Strict):
    """How far the model may be relied on, and where to go when it may not."""

    state: Annotated[
        State, Field(description="How far users may rely on it.", examples=["deprecated"])
    ]
    reason: Annotated[
        str | None,
        Field(
            min_length=1,
            description="Why, in one sentence.",
            examples=["Trained on twelve images only."],
        ),
    ] = None
    successor: Annotated[
        str | None,
        Field(
            min_length=1, description="Id of the model to use instead.", examples=["unet/nuclei-2"]
        ),
    ] = None


class PixelSize(Strict):
    """The edge of a pixel in the images that the model expects."""

    value: Annotated[
        Positive | Annotated[list[Positive], Field(min_length=2, max_length=3)],
        Field(
            description="One number, or one for each spatial axis in the order of `axes`.",
            examples=[0.325],
        ),
    ]
    unit: Annotated[
        Literal["angstrom", "nanometer", "micrometer", "millimeter"],
        Field(description="Unit, spelled as in OME-Zarr.", examples=["micrometer"]),
    ]


class ModelTest(Strict):
    """An input and the result that the model must give for it."""

    input: Annotated[
        Location,
        Field(
            description="URL or path of an image; or of a tensor as the network takes it (.npy), "
            "for runners with a function `check`.",
            examples=["tests/nuclei.tif"],
        ),
    ]
    expected: Annotated[
        Location | Annotated[int, Field(ge=0)],
        Field(
            description="URL or path of the labels that are right, or the number of objects; for a "
            "tensor, that of the network's answer (.npy).",
            examples=["tests/nuclei_labels.tif"],
        ),
    ]
    tolerance: Annotated[
        Fraction | None,
        Field(
            examples=[0.05],
            description="How far the result may be off: 1 - F1 at IoU 0.5 for labels, "
            "the relative difference for a number of objects.",
        ),
    ] = None


class Card(Strict):
    """What a model learned from, how well it does, and what it is not for."""

    training_data: Annotated[
        str | None,
        Field(
            min_length=1,
            description="What it was trained on, and where that can be had.",
            examples=["400 drawn images and 30 of cultured cells."],
        ),
    ] = None
    performance: Annotated[
        str | None,
        Field(
            min_length=1,
            description="How well it does, on which images, and how that was measured.",
            examples=["F1 0.90 at IoU 0.5 on 15 unseen images."],
        ),
    ] = None
    not_for: Annotated[
        str | None,
        Field(
            min_length=1,
            description="Images and questions that it is not for.",
            examples=["Stained tissue, where nuclei are dark."],
        ),
    ] = None


class Verified(Strict):
    """What the people who keep this registry saw the model do."""

    by: Annotated[
        Literal["real weights", "own weights", "contract only"],
        Field(
            description="real weights: those that the locations name; own weights: trained or "
            "initialised in a test; contract only: the calls, not the network.",
            examples=["own weights"],
        ),
    ]
    how: Annotated[
        str,
        Field(
            min_length=1,
            description="What was run, on what, and why no more than that.",
            examples=["Trained on drawn cells in `make test-models`, on a CPU."],
        ),
    ]


class Metadata(Strict):
    """Who made the model, what it is for, how to cite it, what it expects.

    A field that a task does not give comes from its version, then from its family.
    """

    description: Annotated[
        str,
        Field(
            min_length=1,
            pattern=forms.WORDS,
            description="What it segments, in which images, in a sentence or two.",
            examples=["Nuclei in fluorescence images, also where they touch."],
        ),
    ]
    authors: Annotated[list[Author] | None, Field(description="Who made the model.")] = None
    pubs: Annotated[
        list[Publication] | None,
        Field(description="What to cite, the most important first."),
    ] = None
    url: Annotated[
        Url | None, Field(description="Home page.", examples=["https://example.org/model"])
    ] = None
    repo: Annotated[
        Url | None,
        Field(description="Source code.", examples=["https://example.org/model.git"]),
    ] = None
    license: Annotated[License | None, Field(description="Licences of code and of weights.")] = None
    keywords: Annotated[
        list[Annotated[str, Field(min_length=1)]] | None,
        Field(description="Words that users search for.", examples=[["nuclei", "DAPI"]]),
    ] = None
    status: Annotated[
        State | Status | None,
        Field(
            examples=["stable"],
            description="stable, experimental or deprecated; as an object with reason and "
            "successor where there are any.",
        ),
    ] = None
    output: Annotated[
        Literal["instance", "semantic"] | None,
        Field(
            examples=["instance"],
            description="instance: every object its own label; semantic: one label a class.",
        ),
    ] = None
    dtypes: Annotated[
        list[Literal["uint8", "uint16", "uint32", "int8", "int16", "int32", "float32"]] | None,
        Field(
            min_length=1,
            examples=[["uint8", "uint16"]],
            description="Types of pixels that the model takes; without it, any. Others are refused "
            "before the run. Floats of other widths reach a model as float32.",
        ),
    ] = None
    pixel_size: Annotated[
        PixelSize | None,
        Field(description="Pixel size of the images that the model was trained on."),
    ] = None
    object_diameter: Annotated[
        Positive | None,
        Field(
            examples=[30],
            description="Typical diameter, in pixels, of the objects that "
            "the model was trained on.",
        ),
    ] = None
    halo: Annotated[
        Halo | Annotated[list[Halo], Field(min_length=2, max_length=3)] | None,
        Field(
            examples=[32],
            description="Pixels around a tile that the model must see for the tile to come out "
            "right; one number, or one for each spatial axis in the order of `axes`.",
        ),
    ] = None
    rescale: Annotated[
        Literal["always", "asked"] | None,
        Field(
            examples=["always"],
            description="always: images are brought to `pixel_size` before the model sees them, "
            "or to `object_diameter` where the user gives a `diameter`, which is then not passed "
            "to the runner; asked (as without it): only with --rescale.",
        ),
    ] = None
    link_z: Annotated[
        bool | None,
        Field(
            examples=[True],
            description="true: where the model takes planes and gets a stack, what overlaps from "
            "plane to plane is one object, without --link-z too.",
        ),
    ] = None
    card: Annotated[
        Card | None, Field(description="Training data, performance, what it is not for.")
    ] = None
    verified: Annotated[
        Verified | None, Field(description="What of it was seen to work, and how.")
    ] = None
    test: Annotated[ModelTest | None, Field(description="An input with its expected result.")] = (
        None
    )


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
