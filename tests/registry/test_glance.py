"""One look: what it takes for a good manifest is one, and it is enough for nearly all of them."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiod.registry.entries import summarise
from aiod.registry.glance import good_at_a_glance
from aiod.registry.jsontext import IrregularJSON, parse
from aiod.registry.layers import NO_MANIFESTS, SHIPPED
from aiod.registry.schema import Manifest
from aiod.registry.tasks import TASK_NAMES
from families import DATA, family
from mutants import GOOD, mutated

VALID = sorted((DATA / "valid").glob("*.json"))
SHIPPED_ONES = sorted(
    path for path in SHIPPED.manifests.glob("*.json") if path.name not in NO_MANIFESTS
)
TOY = json.dumps(family())
ODD: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    0.0,
    1.0,
    1e308,
    2**70,
    math.inf,
    math.nan,
    "",
    " ",
    "1",
    "é",
]
ODD += ["\ud800", [], {}, [0], [1.0], [None], {"a": 1}]


def accepted(text: str) -> dict[str, Any] | None:
    """The document that the close look accepts; None where it refuses the text."""
    try:
        document = parse(text)
        Manifest.model_validate(document, context={"tasks": TASK_NAMES})
    except (IrregularJSON, ValueError):
        return None
    return dict(document)


def seen(text: str) -> dict[str, Any] | None:
    """What one look shows, which is None or what the close look accepts."""
    document = good_at_a_glance(text, TASK_NAMES)
    if document is not None:
        expected = accepted(text)
        assert expected is not None, text
        assert json.dumps(document, sort_keys=True) == json.dumps(expected, sort_keys=True)
        assert json.dumps(summarise(document)) == json.dumps(summarise(expected))
    return document


def changed(document: Any, odd: Any) -> Iterator[Any]:
    """The document with `odd` in the place of each of its parts in turn."""
    yield odd
    places = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in list(places) if isinstance(document, dict | list) else ():
        for inner in changed(value, odd) if isinstance(value, dict | list) else [odd]:
            other = copy.copy(document)
            other[key] = inner
            yield other


@pytest.mark.parametrize("path", [*VALID, *SHIPPED_ONES], ids=lambda path: path.stem)
def test_one_look_is_enough_for_a_good_manifest(path: Any) -> None:
    assert seen(path.read_text(encoding="utf-8")) is not None


@pytest.mark.parametrize("path", sorted((DATA / "invalid").glob("*.json")), ids=lambda p: p.stem)
def test_a_bad_manifest_is_not_seen_good(path: Any) -> None:
    seen(path.read_text(encoding="utf-8"))


@given(mutated(), st.sampled_from([None, 1]), st.booleans())
@settings(deadline=None, max_examples=400)
def test_a_mutated_manifest_is_seen_good_only_where_it_is(
    document: Any, indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_only)
    seen(text)


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_nothing_odd_anywhere_is_seen_good_unless_it_is(odd: Any) -> None:
    for document in GOOD:
        for other in changed(document, odd):
            seen(json.dumps(other))


@given(st.sampled_from([path.read_text(encoding="utf-8") for path in VALID]), st.data())
@settings(deadline=None, max_examples=400)
def test_a_text_of_which_a_part_stands_twice_is_seen_good_only_where_it_is(
    text: str, data: st.DataObject
) -> None:
    lines = text.splitlines(keepends=True)
    start = data.draw(st.integers(0, len(lines)))
    end = data.draw(st.integers(start, min(len(lines), start + 4)))
    at = data.draw(st.integers(0, len(lines)))
    seen("".join([*lines[:at], *lines[start:end], *lines[at:]]))


@pytest.mark.parametrize(
    ("good", "odd"),
    [
        ('"value": 3.5', '"value": NaN'),
        ('"value": 3.5', '"value": Infinity'),
        ('"value": 3.5', '"value": -1e999'),
        ('"value": 3.5', '"value": [1.5, NaN]'),
        ('"value": 3.5', f'"value": {"9" * 301}'),
        ('"value": 3.5', f'"value": 0.{"0" * 300}1'),
        ('"value": 3.5', f'"value": 1{"0" * 296}.5e-4'),
        ('"value": 3.5', '"value": 3.5, "value": 3.5'),
        ('"value": 3.5', '"value": 3.5, "unit": "a\\u003ab", "unit": "a\\u003Ab"'),
        ('"value": 3.5', '"unit": "\\u003a", "value": 3, "\\u0076alue": 3.5'),
        ('"axes": "YX"', '"axes": "YX", "axes" : "YX"'),
        ('"v1": {', '"v1": {"tasks": {}}, "v1": {'),
        ('"nuclei"', '"Nuclei"'),
    ],
)
def test_what_only_the_text_shows_to_be_wrong_is_not_overlooked(good: str, odd: str) -> None:
    assert seen(TOY) is not None
    text = TOY.replace(good, odd)
    assert text != TOY
    assert accepted(text) is None
    assert seen(text) is None


@pytest.mark.parametrize("place", range(0, 60, 7))
@pytest.mark.parametrize("digits", ["9" * 300, "9" * 301, f"-0.{'1' * 300}e-9"])
def test_a_number_that_is_too_long_is_noticed_wherever_it_stands(place: int, digits: str) -> None:
    seen(" " * place + TOY.replace("3.5", digits))


@pytest.mark.parametrize(
    ("good", "odd"),
    [
        ('"tooltip": "', '"tooltip": "\\ud800'),
        ('"tooltip": "', '"tooltip": "\\u003a '),
        ('"tooltip": "', f'"tooltip": "{"0" * 400}'),
    ],
)
def test_a_good_manifest_may_need_a_closer_look(good: str, odd: str) -> None:
    text = TOY.replace(good, odd)
    assert seen(text) is None
    assert accepted(text) is not None


def test_a_colon_in_a_text_is_no_key() -> None:
    text = json.dumps(family(usage_guide='Why: "a": b, see https://example.org:80/'))
    assert seen(text) is not None
