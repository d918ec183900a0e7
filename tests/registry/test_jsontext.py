"""Strict JSON: what `parse` takes, what `examine` says where it refuses."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiod.registry.jsontext import MAX_DEPTH, IrregularJSON, examine, parse

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)
# Text that is nearly JSON: its marks, its words and some of what people write instead.
SCRAPS = st.lists(
    st.sampled_from(
        [
            *"{}[]:,\"\\/#'.-+0159eE \n\t\u00e9\ufeff",
            *('"a"', '"b"', "true", "null", "True", "NaN", "-Infinity", "1e999", "//", "\\u12"),
            *("[1, 2]", '{"a": 1}', '"\\ud800"', "0x1F", "9" * 400),
        ]
    ),
    max_size=16,
).map("".join)


@given(VALUES, st.sampled_from([None, 2, "\t"]), st.booleans())
@settings(deadline=None, max_examples=200)
def test_good_json_means_what_the_standard_library_reads(
    value: Any, indent: int | str | None, ascii_only: bool
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert parse(text) == json.loads(text) == value
    assert examine(text).faults == []


@given(SCRAPS | st.text(max_size=30))
@settings(deadline=None, max_examples=300)
def test_the_fast_and_the_slow_reader_agree(text: str) -> None:
    slow = examine(text)
    try:
        value = parse(text)
    except IrregularJSON:
        assert slow.faults
    else:
        assert slow.faults == []
        assert slow.value == value
        assert repr(slow.value) == repr(value)  # 1 is not 1.0, keys in their order


@given(SCRAPS | st.text(max_size=30))
@settings(deadline=None, max_examples=200)
def test_what_parse_takes_is_json_and_faults_lie_in_the_text(text: str) -> None:
    for fault in examine(text).faults:
        assert 0 <= fault.offset <= len(text)
        assert fault.width >= 1
    try:
        value = parse(text)
    except IrregularJSON:
        return
    assert json.loads(text) == value


@given(VALUES)
@settings(deadline=None)
def test_each_value_stands_where_its_span_says(value: Any) -> None:
    text = json.dumps(value, indent=2)
    for path, span in examine(text).spans.items():
        inner = value
        for step in path:
            inner = inner[step]
        assert json.loads(text[span.start : span.end]) == inner
        if span.key:
            assert json.loads(text[slice(*span.key)]) == path[-1]


@pytest.mark.parametrize("raw", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 301])
def test_a_number_that_is_none_is_refused_and_the_rest_is_read(raw: str) -> None:
    text = f'{{"a": {raw}, "b": 2}}'
    with pytest.raises(IrregularJSON):
        parse(text)
    seen = examine(text)
    assert [(fault.code, fault.path) for fault in seen.faults] == [("not-a-number", ("a",))]
    assert seen.value == {"a": None, "b": 2}


def test_great_and_small_numbers_are_numbers() -> None:
    assert parse("[1e308, -0, 123456789012345678901234567890]") == [
        *(1e308, 0, 123456789012345678901234567890)
    ]
    assert math.isclose(parse("5e-324"), 5e-324)


def test_a_second_key_is_found_with_the_line_of_the_first() -> None:
    text = '{\n  "a": 1,\n  "b": {"c": 1, "c": 2},\n  "a": 3\n}'
    with pytest.raises(IrregularJSON):
        parse(text)
    first, second = examine(text).faults
    assert (first.path, first.found) == (("b", "c"), 'a second "c" (the first is on line 3)')
    assert (second.path, second.found) == (("a",), 'a second "a" (the first is on line 2)')
    assert text[second.offset : second.offset + second.width] == '"a"'


def test_two_spellings_of_a_key_are_one_key() -> None:
    with pytest.raises(IrregularJSON):
        parse(r'{"a": 1, "\u0061": 2}')


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":'])
def test_nesting_ends_somewhere(opening: str) -> None:
    for levels in (MAX_DEPTH + 1, 5_000, 200_000):
        text = opening * levels
        with pytest.raises(IrregularJSON):
            parse(text)
        (fault,) = examine(text).faults
        assert fault.found == f"more than {MAX_DEPTH} levels of nesting"


def test_the_deepest_nesting_that_is_taken() -> None:
    deep = "[" * MAX_DEPTH + "1" + "]" * MAX_DEPTH
    assert parse(deep) == json.loads(deep) == examine(deep).value
    for deeper in (f"[{deep}]", f"[{deep.replace('1', '')}]"):
        assert examine(deeper).faults
    with pytest.raises(IrregularJSON):
        parse("[" * 100_000)


def test_only_the_white_space_of_json_is_white() -> None:
    assert parse(" \t\r\n1 \t\r\n") == 1
    for other in ("\u00a0", "\ufeff", "\u2028", "\v", "\f"):
        with pytest.raises(IrregularJSON):
            parse(f"{other}1")
        assert examine(f"{other}1").faults


def test_a_syntax_error_ends_the_reading_and_keeps_what_came_before() -> None:
    seen = examine('{"name": "A", "versions": {"v1": tru}}')
    assert [fault.code for fault in seen.faults] == ["json-syntax"]
    assert seen.value == {"name": "A"}
