"""What the fields of a manifest are made of: strict models, and the types of their values."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from aiod.registry import forms

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
