"""Links: what has become of every URL of the registry."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiod.errors import UsageError
from aiod.registry import links, load, servers, urls
from aiod.registry.cache import cached_files
from aiod.registry.links import Answer, Link, check, links_of
from aiod.registry.pull import pull
from families import family
from server import (
    PATIENCE,
    Act,
    Server,
    by_method,
    drip,
    endless,
    file,
    late,
    raw,
    redirect,
    silent,
    status,
    truncated,
    zipped,
)

MakeLayer = Callable[..., Path]
DATA = os.urandom(100_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


def asked(url: str, *, kind: str = "weights", hash_: bool = False, **known: Any) -> Answer:
    (answer,) = check([Link(url, kind, ("toy",), **known)], with_hash=hash_, seconds=0.5)
    return answer


GOOD = file(DATA)


@pytest.mark.parametrize(
    ("act", "state", "note"),
    [
        (GOOD, "reachable", ""),
        (by_method(HEAD=status(405), GET=GOOD), "reachable", ""),
        (by_method(HEAD=status(403), GET=GOOD), "reachable", ""),
        (by_method(HEAD=status(404), GET=GOOD), "reachable", ""),
        (redirect("/good", 302), "reachable", ""),
        (redirect("/good", 307), "reachable", ""),
        (redirect("/good", 301), "moved", "for good, to http://127.0.0.1:"),
        (redirect("/good", 308), "moved", "for good, to http://127.0.0.1:"),
        (status(404), "gone", "the server says 404"),
        (status(410), "gone", "the server says 410"),
        (redirect("/nowhere", 301), "gone", "the server says 404"),
        (status(401), "failed", "the server says 401"),
        (status(403), "failed", "the server says 403"),
        (status(500), "failed", "the server says 500"),
        (status(503), "failed", "the server says 503"),
        (status(204), "failed", "the server says 204"),
        (status(304), "failed", "the server says 304"),
        (silent(), "failed", "the server stopped answering"),
        (redirect("/x"), "failed", "it redirects in circles"),
        (redirect("file:///etc/passwd"), "failed", "a redirect to something other than a website"),
        (raw(b"nonsense"), "failed", ""),
    ],
)
def test_each_state_of_a_link(act: Act, state: str, note: str, server: Server) -> None:
    server.put("/good", GOOD)
    answer = asked(server.put("/x", act))
    assert (answer.state, answer.note[: len(note)]) == (state, note)
    assert answer.good == (state in ("reachable", "moved"))


def test_where_a_link_has_moved_is_told_as_far_as_it_is_for_good(server: Server) -> None:
    server.put("/c", GOOD)
    server.put("/b", redirect("/c", 302))
    answer = asked(server.put("/a", redirect("/b", 301)))
    assert answer.note == f"for good, to {server.url('/b')}"


def test_nobody_there(server: Server) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        answer = asked(f"http://127.0.0.1:{taken.getsockname()[1]}/x")
    assert (answer.state, answer.note) == ("failed", "the server cannot be reached")
    assert asked("http://127.0.0.1:99999/x").note == "not a URL that can be fetched"


def test_a_page_may_refuse_programs(server: Server) -> None:
    answer = asked(server.put("/page", status(403)), kind="page")
    assert (answer.state, answer.good) == ("refused", True)
    assert asked(server.put("/page", status(202)), kind="page").good


def test_a_size_that_differs(server: Server) -> None:
    url = server.put("/x", GOOD)
    assert asked(url, size=len(DATA)).state == "reachable"
    answer = asked(url, size=5)
    assert (answer.state, answer.note) == ("size differs", "100,000 bytes instead of 5")
    assert asked(server.put("/z", zipped(DATA)), size=len(DATA)).state == "reachable"
    assert asked(url, size=5, hash_=True).state == "size differs"


def test_a_hash_that_differs_is_found_by_downloading(server: Server) -> None:
    url = server.put("/x", GOOD)
    assert asked(url, sha256="0" * 64).state == "reachable"  # nobody has looked
    answer = asked(url, sha256="0" * 64, hash_=True)
    assert (answer.state, answer.note) == (
        "hash differs",
        f"sha256 {SHA256} instead of {'0' * 64}",
    )
    assert asked(url, sha256=SHA256, size=len(DATA), hash_=True).state == "reachable"
    assert cached_files() == []


def test_a_hash_that_the_server_tells_itself(server: Server) -> None:
    """The Hugging Face hub names the SHA-256 of a large file in the answer that redirects."""
    server.put("/cdn", GOOD)
    url = server.put("/x", redirect("/cdn", 302, X_Linked_Etag=f'"{SHA256}"'))
    assert asked(url, sha256=SHA256).state == "reachable"
    assert asked(url, sha256="0" * 64).state == "hash differs"
    assert asked(
        server.put("/y", redirect("/cdn", 302, X_Linked_Etag='"git"')), sha256="0" * 64
    ).good


def test_a_server_that_lies_is_found_out(server: Server) -> None:
    url = server.put("/x", truncated(b"few", len(DATA)))
    assert asked(url, size=len(DATA)).state == "reachable"
    answer = asked(url, size=len(DATA), hash_=True)
    assert (answer.state, answer.note) == ("failed", "the connection broke before the end")
    url = server.put("/e", endless())
    assert asked(url, size=len(DATA), hash_=True).state == "size differs"
    url = server.put("/s", file(DATA, pause_at=50_000))
    assert asked(url, hash_=True).note == "the server stopped answering"
    assert asked(server.put("/404", status(404)), hash_=True).state == "gone"


def test_links_are_asked_all_at_once(server: Server) -> None:
    links = [
        Link(server.put(f"/{number}", late(0.5, GOOD)), "weights", ("toy",)) for number in range(20)
    ]
    begin = time.monotonic()
    answers = check(links, seconds=PATIENCE)
    assert time.monotonic() - begin < 5
    assert [answer.link for answer in answers] == links
    assert {answer.state for answer in answers} == {"reachable"}


def test_silent_servers_do_not_hold_up_the_others(server: Server) -> None:
    urls = [server.put(f"/{number}", silent()) for number in range(10)]
    urls.append(server.put("/good", GOOD))
    begin = time.monotonic()
    answers = check([Link(url, "weights", ()) for url in urls], seconds=0.5)
    assert time.monotonic() - begin < 5
    assert [answer.state for answer in answers] == ["failed"] * 10 + ["reachable"]


def test_a_server_that_drags_its_answer_out_is_given_up(server: Server) -> None:
    """A byte within each time-out: silent it is never, and yet nothing comes."""
    begin = time.monotonic()
    answer = asked(server.put("/x", drip(b"HTTP/1.1 200 OK\r\nX: ")))
    assert (answer.state, answer.note) == ("failed", "no answer within 1.5 s")
    assert time.monotonic() - begin < 5


def test_all_answers_to_a_link_share_one_deadline(server: Server) -> None:
    slow = drip(b"HTTP/1.1 200 OK\r\nX: ")
    answer = asked(server.put("/x", by_method(HEAD=late(0.4, status(405)), GET=slow)))
    assert answer.note.startswith("no answer within 1.")
    server.put("/b", redirect("/a"))
    assert asked(server.put("/a", late(0.4, redirect("/b")))).note == "no answer within 1.5 s"


def test_a_file_that_drips_is_not_read_to_its_end(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "SLOW_SECONDS", 0.5)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
    answer = asked(server.put("/x", drip(head)), hash_=True)
    assert (answer.state, answer.note[:18]) == ("failed", "it sends less than")


def test_a_file_has_an_hour_to_come(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "FILE_SECONDS", 0.3)
    answer = asked(server.put("/x", drip(b"HTTP/1.1 200 OK\r\n\r\n")), hash_=True)
    assert answer.note == "not all of it came within 0.3 s"


def test_offline_asks_nobody(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOD_OFFLINE", "1")
    with pytest.raises(UsageError, match="AIOD_OFFLINE forbids the network"):
        check([Link(server.put("/x", GOOD), "weights", ())])
    assert not server.asked


def lab(server: Server, make_layer: MakeLayer, **known: Any) -> Path:
    entry = {"location": server.put("/x.pth", GOOD), **known}
    config = {"location": server.url("/x.pth"), "config_path": server.put("/x.json", b"{}")}
    document = family(
        versions={
            "v1": {
                "axes": "YX",
                "tasks": {
                    "nuclei": {"locations": [entry]},
                    "cyto": {"locations": [config, {"location": "/disk/x.pth"}]},
                },
            }
        }
    )
    document["metadata"]["url"] = server.put("/page", GOOD)
    document["metadata"]["pubs"] = [{"title": "On toys"}]
    return make_layer("lab", document)


def test_every_url_of_the_registry_is_asked_once(server: Server, make_layer: MakeLayer) -> None:
    links = links_of(load([lab(server, make_layer, sha256=SHA256, size=len(DATA))]), ["toy"])
    assert [(link.kind, link.url, link.used_by) for link in links] == [
        ("weights", server.url("/x.pth"), ("toy/v1/nuclei", "toy/v1/cyto")),
        ("config", server.url("/x.json"), ("toy/v1/cyto",)),
        ("page", server.url("/page"), ("toy",)),
    ]
    assert (links[0].sha256, links[0].size) == (SHA256, len(DATA))
    (one, _) = links_of(load([lab(server, make_layer)]), ["toy/v1/nuclei"])
    assert one.used_by == ("toy/v1/nuclei",)
    shipped = links_of(load())
    assert len({(link.url, link.kind) for link in shipped}) == len(shipped) > 40


def test_dois_are_asked_as_pages(
    server: Server, make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(urls, "DOI_RESOLVER", server.url("/doi/"))
    server.put("/doi/10.1234/good", redirect("/paper"))
    server.put("/paper", status(403))  # as publishers answer to programs
    server.put("/doi/10.1234/odd%23(1)%3C2%3E", redirect("/good"))
    server.put("/good", GOOD)
    document = family()
    dois = ("10.1234/good", "10.1234/odd#(1)<2>", "10.1234/typo")
    document["metadata"]["pubs"] = [{"title": doi, "doi": doi} for doi in dois]
    document["metadata"]["pubs"][0]["url"] = server.url("/doi/10.1234/good")  # asked once
    _, *pages = links_of(load([make_layer("lab", document)]), ["toy"])
    assert [(link.kind, link.used_by) for link in pages] == [("page", ("toy",))] * 3
    answers = check(pages, seconds=5)
    assert [(item.state, item.note) for item in answers] == [
        ("refused", "the server says 403, as many do to programs"),
        ("reachable", ""),
        ("gone", "the server says 404"),
    ]


def test_the_doi_of_a_paper_leads_to_the_resolver_of_all_dois(make_layer: MakeLayer) -> None:
    *_, page = links_of(load([make_layer("lab", family())]), ["toy"])
    assert (page.kind, page.url) == ("page", "https://doi.org/10.1234/toys")


def test_the_remembered_hash_is_compared_where_the_manifest_has_none(
    server: Server, make_layer: MakeLayer
) -> None:
    registry = load([lab(server, make_layer)])
    pull(registry, "toy/v1/cyto")
    weights, config, _ = links_of(registry, ["toy"])
    assert weights.sha256 == SHA256
    assert config.sha256 == hashlib.sha256(b"{}").hexdigest()
    server.put("/x.json", b"[]")
    states = [item.state for item in check([weights, config], with_hash=True, seconds=5)]
    assert states == ["reachable", "hash differs"]


def test_an_answer_is_plain_data_for_scripts(server: Server) -> None:
    url = server.put("/x", status(404))
    assert asked(url).as_dict() == {
        "url": url,
        "kind": "weights",
        "used_by": ["toy"],
        "state": "gone",
        "note": "the server says 404",
        "good": False,
    }
