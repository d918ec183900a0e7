"""Random JSON, and manifests of which random parts were changed."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

from families import DATA

GOOD = [
    json.loads(path.read_text())
    for folder in ("valid", "old")
    for path in sorted((DATA / folder).glob("*.json"))
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)
KEYS = sorted({key for document in GOOD for key in (*document, *document.get("metadata", ()))})
FIELDS = st.sampled_from(
    [
        *KEYS,
        *("locations", "location", "weights", "tasks", "axes", "slug", "value", "default"),
        *("dtype", "minimum", "param_type", "channel_start", "arg_name", "type", "location_type"),
    ]
)
ODD = JSON | st.sampled_from(
    ["", " ", "YX", "nuclei", "float", 0, -1, 1e308, [], {}, [[]], [{}], {"a": []}, "\ud800", "1e9"]
)


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A good or an older manifest of which some parts are deleted, replaced, doubled or renamed."""
    document = copy.deepcopy(draw(st.sampled_from(GOOD)))
    for _ in range(draw(st.integers(1, 4))):
        here: Any = document
        while True:
            keys = list(here) if isinstance(here, dict) else list(range(len(here)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(here[key], dict | list) and draw(st.integers(0, 4)):
                here = here[key]
                continue
            how = draw(st.sampled_from(["delete", "replace", "double", "rename"]))
            if how == "delete":
                del here[key]
            elif how == "replace":
                here[key] = copy.deepcopy(draw(ODD))
            elif isinstance(here, list):
                here.append(copy.deepcopy(here[key]))
            else:
                here[draw(FIELDS | st.text(max_size=5))] = copy.deepcopy(here[key])
                if how == "rename":
                    here.pop(key)
            break
    return document
