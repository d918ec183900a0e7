"""What a manifest says of a model besides how it runs: authors, licences, sizes, card, test."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from aiod.registry import forms
from aiod.registry.fields import (
    Doi,
    Fraction,
    Halo,
    Licence,
    Location,
    Orcid,
    Positive,
    Strict,
    Url,
)


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
        Literal["real weights", "own weights", "contract only", "the algorithm"],
        Field(
            description="real weights: those that the locations name; own weights: trained or "
            "initialised in a test; contract only: the calls, not the network; the algorithm: "
            "all of it, as there are no weights.",
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
