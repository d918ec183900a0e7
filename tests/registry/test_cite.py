"""Citing: exact references in three styles, whatever the names look like."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aiod.errors import AiodError, UsageError
from aiod.registry import load
from aiod.registry.cite import STYLES, citation
from families import family

MakeLayer = Callable[..., Path]
Cite = Callable[..., str]


@pytest.fixture
def cite(make_layer: MakeLayer) -> Cite:
    """The citation of a model with these publications, in a style."""

    def write(*pubs: dict[str, Any], style: str = "apa", **metadata: Any) -> str:
        given = {"description": "Toys.", **metadata}
        if pubs:
            given["pubs"] = list(pubs)
        return citation(load([make_layer("lab", family(metadata=given))]), "toy/v1", style)

    return write


def _pub(*authors: str, **more: Any) -> dict[str, Any]:
    base = {"title": "On toys", "year": 2021, "doi": "10.1234/toys"}
    return {**base, "authors": [{"name": name} for name in authors], **more}


def test_one_author_in_apa(cite: Cite) -> None:
    assert cite(_pub("Ada Byron")) == "Byron, A. (2021). On toys. https://doi.org/10.1234/toys"


@pytest.mark.parametrize(
    ("name", "apa"),
    [
        ("Ada Lovelace Byron", "Byron, A. L."),
        ("A. L. Byron", "Byron, A. L."),
        ("A.L. Byron", "Byron, A. L."),
        ("Jean-Pierre Serre", "Serre, J.-P."),
        ("J.-P. Serre", "Serre, J.-P."),
        ("Marie Skłodowska-Curie", "Skłodowska-Curie, M."),
        ("Stéfan van der Walt", "van der Walt, S."),
        ("Ludwig von Mises", "von Mises, L."),
        ("Van Nguyen", "Nguyen, V."),
        ("Byron, Ada Lovelace", "Byron, A. L."),
        ("de la Cruz, Juana", "de la Cruz, J."),
        ("Østergård, Øyvind", "Østergård, Ø."),
        ("山田 太郎", "太郎, 山."),
        ("Plato", "Plato"),
        ("The Toy Consortium", "The Toy Consortium"),
        ("Allen Institute for Toys", "Allen Institute for Toys"),
    ],
)
def test_names_in_apa(cite: Cite, name: str, apa: str) -> None:
    assert cite(_pub(name)) == f"{apa} (2021). On toys. https://doi.org/10.1234/toys"


def test_two_and_three_authors_in_apa(cite: Cite) -> None:
    assert cite(_pub("Ada Byron", "Alan Turing")).startswith("Byron, A., & Turing, A. (2021).")
    assert cite(_pub("A B", "C D", "E F")).startswith("B, A., D, C., & F, E. (2021).")


def test_twenty_authors_are_all_named_and_of_more_the_first_nineteen_and_the_last(
    cite: Cite,
) -> None:
    people = [f"Ada Author{letter}" for letter in "ABCDEFGHIJKLMNOPQRSTUV"]
    twenty = cite(_pub(*people[:20]))
    assert twenty.count("Author") == 20
    assert "AuthorS, A., & AuthorT, A. (2021)" in twenty
    more = cite(_pub(*people))
    assert more.count("Author") == 20
    assert "AuthorS, A., … AuthorV, A. (2021)" in more


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("On toys.", "On toys."),
        ("What is a toy?", "What is a toy?"),
        ("Toys!", "Toys!"),
        ("On\n  toys", "On toys."),
    ],
)
def test_a_title_ends_with_one_mark_in_apa(cite: Cite, title: str, shown: str) -> None:
    assert cite(_pub("Ada Byron", title=title)).startswith(f"Byron, A. (2021). {shown} https")


def test_what_is_missing_is_left_out_in_apa(cite: Cite) -> None:
    assert cite({"title": "On toys"}) == "On toys. (n.d.)."
    url = {"title": "On toys", "url": "https://example.org/toys"}
    assert cite(url) == "On toys. (n.d.). https://example.org/toys"


def test_several_publications_come_in_their_order(cite: Cite) -> None:
    text = cite(_pub("Ada Byron"), _pub("Alan Turing", title="More toys", doi="10.1234/more"))
    assert [block.split(",")[0] for block in text.split("\n\n")] == ["Byron", "Turing"]


def test_without_a_publication_the_software_and_its_authors_are_cited(cite: Cite) -> None:
    text = cite(authors=[{"name": "Ada Byron"}], repo="https://example.org/toys.git")
    expected = "Byron, A. (n.d.). Toy (v1) [Computer software]. https://example.org/toys.git"
    assert text == expected
    csl = json.loads(cite(authors=[{"name": "Ada Byron"}], style="csl"))
    assert csl[0]["type"] == "software"


def test_a_manifest_that_names_nothing_to_cite_is_an_error(cite: Cite) -> None:
    with pytest.raises(AiodError, match="toy/v1/nuclei names nothing to cite") as caught:
        cite()
    assert "metadata.pubs" in str(caught.value.hint)


def test_bibtex_of_one_paper(cite: Cite) -> None:
    pub = _pub("Ada Byron", "The Toy Team", "Stéfan van der Walt", info="The method")
    assert cite(pub, style="bibtex") == (
        "@misc{byron2021toys,\n"
        "  title = {{On toys}},\n"
        "  author = {Byron, Ada and {The Toy Team} and van der Walt, Stéfan},\n"
        "  year = {2021},\n"
        "  doi = {10.1234/toys},\n"
        "  url = {https://doi.org/10.1234/toys},\n"
        "  note = {The method},\n"
        "}"
    )


def test_what_latex_would_obey_is_escaped_in_bibtex(cite: Cite) -> None:
    pub = _pub("Ada {B}yron", title="50 % of $x_1 & #2 ~ ^ \\input{evil} }", doi="10.1234/a}b{c")
    text = cite(pub, style="bibtex")
    assert (
        r"title = {{50 \% of \$x\_1 \& \#2 \textasciitilde{} \textasciicircum{} "
        r"\textbackslash{}input\textbraceleft{}evil\textbraceright{} \textbraceright{}}}," in text
    )
    assert "doi = {10.1234/a%7Db%7Bc}," in text
    assert text.count("{") == text.count("}")


def test_keys_are_unique_and_plain(cite: Cite) -> None:
    pub = _pub("Ada Byron")
    text = cite(pub, pub, pub, {"title": "玩具"}, {"title": "玩具"}, style="bibtex")
    keys = re.findall(r"@misc\{(.*),", text)
    assert keys == ["byron2021toys", "byron2021toys2", "byron2021toys3", "reference", "reference2"]


def test_csl_of_one_paper(cite: Cite) -> None:
    text = cite(_pub("Stéfan van der Walt", "Plato", info="The method"), style="csl")
    assert json.loads(text) == [
        {
            "id": "vanderwalt2021toys",
            "type": "article",
            "title": "On toys",
            "author": [{"family": "van der Walt", "given": "Stéfan"}, {"literal": "Plato"}],
            "issued": {"date-parts": [[2021]]},
            "DOI": "10.1234/toys",
            "URL": "https://doi.org/10.1234/toys",
            "note": "The method",
        }
    ]


def test_every_shipped_model_can_be_cited_in_every_style() -> None:
    registry = load()
    for model in registry:
        for style in STYLES:
            assert citation(registry, model, style)
        for item in json.loads(citation(registry, model, "csl")):
            assert item["id"]
            assert item["type"] in ("article", "software")
            assert item["title"]


def test_an_unknown_style_lists_those_there_are(cite: Cite) -> None:
    with pytest.raises(UsageError, match='no citation style "mla"') as caught:
        cite(_pub("Ada Byron"), style="mla")
    assert caught.value.hint == "one of apa, bibtex or csl"


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    name=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    title=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
)
@example(name=" ", title="\r")
@example(name="a,", title="{")
def test_any_name_and_title_can_be_cited(cite: Cite, name: str, title: str) -> None:
    pub = {"title": title, "authors": [{"name": name}], "year": 2021}
    assert "(2021)" in cite(pub)
    bibtex = cite(pub, style="bibtex")
    assert bibtex.count("{") == bibtex.count("}")
    (item,) = json.loads(cite(pub, style="csl"))
    assert item["id"].isascii()
