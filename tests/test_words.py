"""Names and sentences."""

from __future__ import annotations

import doctest
import json
import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from aiod import words
from aiod.registry.forms import check_version_slug

# What a terminal obeys: controls but tab and line break, formats that reorder, surrogates.
BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(words).failed == 0


@given(st.text(st.characters()))
@settings(deadline=None)
def test_nothing_printable_is_obeyed_by_a_terminal(text: str) -> None:
    for letter in words.printable(text):
        assert letter in "\t\n" or unicodedata.category(letter) not in ("Cc", "Cs", "Zl", "Zp")
        assert unicodedata.bidirectional(letter) not in BIDI
        assert letter not in "\u200e\u200f\u061c"


def test_what_was_left_out_can_be_read() -> None:
    assert words.printable("\x1b]0;evil\x07") == "\\u001b]0;evil\\u0007"
    assert words.printable("safe\u202egnp.exe") == "safe\\u202egnp.exe"
    assert words.printable("Zellkörper 細胞 🔬\tµm\n") == "Zellkörper 細胞 🔬\tµm\n"


@given(st.text(max_size=50) | st.sampled_from(["con", "COM1.txt", "a..b", "-x-", "Ⅷ", "\n"]))
@settings(deadline=None)
def test_a_derived_slug_is_safe_as_a_folder_or_there_is_none(name: str) -> None:
    slug = words.version_slug(name)
    assert slug == "" or check_version_slug(slug) == slug


def test_slugs_of_versions() -> None:
    assert words.version_slug("MitoNet Mini v1") == "mitonet_mini_v1"
    assert words.version_slug("2D_versatile_fluo") == "2d_versatile_fluo"
    assert words.version_slug("Größe 1.0") == "groe_1.0"
    assert words.version_slug("40 µm") == "40_um"
    assert words.version_slug("../../evil") == "evil"
    assert words.version_slug("a/../b") == ""
    assert words.version_slug("..") == ""
    assert words.version_slug("NUL") == ""


@given(st.text(max_size=50))
@settings(deadline=None)
def test_a_family_slug_stays_as_it_is_when_it_is_made_again(name: str) -> None:
    slug = words.family_slug(name)
    assert set(slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789_")
    assert words.family_slug(slug) == slug


def test_the_nearest_word_is_found_whatever_its_letter_case() -> None:
    assert words.nearest("NUCLIE", ["cyto", "nuclei"]) == ["nuclei"]
    assert words.nearest("cyto", ["Cyto2", "CYTO", "mito"], count=2) == ["CYTO", "Cyto2"]
    assert words.nearest("organoid", ["cyto", "nuclei"]) == []


def test_words_are_listed_as_people_do() -> None:
    assert words.listing([]) == "nothing"
    assert words.listing(["a"]) == "a"
    assert words.listing(["a", "b"], "and") == "a and b"
    assert words.listing(["a", "b", "c"]) == "a, b or c"


def test_numbers_have_their_nouns_and_units() -> None:
    assert words.counted(1, "entry", "entries") == "1 entry"
    assert words.counted(1200, "file") == "1,200 files"
    assert [words.ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 112)] == [
        *("1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "112th")
    ]
    assert [words.byte_size(n) for n in (0, 999, 1000, 26_600_000, 10**12)] == [
        *("0 B", "999 B", "1.0 kB", "26.6 MB", "1.0 TB")
    ]
    assert words.byte_size(999_999) == "1.0 MB"


def test_a_value_is_shown_as_it_stands_in_the_file() -> None:
    assert words.shown(None) == "null"
    assert words.shown(True) == "true"
    assert words.shown(0.5) == "0.5"
    assert words.shown('say "a"\n') == r'"say \"a\"\n"'
    assert words.shown([]) == "an empty list"
    assert words.shown({"a": 1}) == "an object"


@given(st.text(max_size=200) | st.integers() | st.floats() | st.none() | st.booleans())
@settings(deadline=None)
def test_whatever_is_shown_takes_one_short_line(value: object) -> None:
    shown = words.shown(value)
    assert "\n" not in shown
    assert len(shown) <= 70
    if not shown.endswith(("…", '…"')):
        assert json.loads(shown) == value or value != value
