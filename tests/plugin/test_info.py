"""What a manifest says of a model can be read, cited and followed in the plugin."""

from __future__ import annotations

from typing import Any

import pytest
from qtpy.QtGui import QDesktopServices, QGuiApplication

from aiod.napari.info import ModelInfo
from aiod.registry import load
from aiod.registry.cite import citation

REGISTRY = load()


@pytest.fixture
def info(qtbot: Any) -> ModelInfo:
    made = ModelInfo(REGISTRY)
    qtbot.addWidget(made)
    return made


@pytest.mark.parametrize("model", list(REGISTRY), ids=lambda model: model.id)
def test_of_every_model_it_says_what_the_manifest_says(info: ModelInfo, model: Any) -> None:
    info.show_model(model)
    metadata = REGISTRY.metadata_for(model)
    assert metadata.verified is not None
    assert metadata.license is not None
    facts = [
        model.description,
        f"Verified: {metadata.verified.by}. {metadata.verified.how}",
        f"licence of the code: {metadata.license.code}",
        f"id {model.id}",
    ]
    if model.needs_weights:
        facts.append(f"licence of the weights: {metadata.license.weights or 'not stated'}")
    assert [fact for fact in facts if fact not in info.text] == []
    addresses = set(info.links.values())
    assert {url for url in (metadata.url, metadata.repo) if url} <= addresses
    assert {f"https://doi.org/{pub.doi}" for pub in metadata.pubs or () if pub.doi} <= addresses


def test_links_open_and_the_citation_is_copied(
    info: ModelInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toString()))
    model = REGISTRY.get("unet/nuclei-mini/nuclei")
    info.show_model(model)
    for action in info.menu.actions():
        action.trigger()
    assert opened == list(info.links.values())
    assert "https://doi.org/10.1007/978-3-319-24574-4_28" in opened
    info.cite_button.click()
    assert QGuiApplication.clipboard().text() == citation(REGISTRY, model)


def test_without_a_model_there_is_nothing_to_follow(info: ModelInfo) -> None:
    info.show_model(None)
    assert info.text == "No model is chosen."
    assert not info.links
    assert not info.cite_button.isEnabled()
