"""What imports cost and where they point: speed and structure as properties."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {
    "numpy",
    "dask",
    "qtpy",
    "PyQt5",
    "PyQt6",
    "PySide6",
    "requests",
    "pooch",
    "zarr",
    "napari",
}
WEB = {"fastapi", "flask", "starlette", "django", "aiohttp", "tornado", "uvicorn"}


def _loaded(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after running `code`."""
    program = f"{code}\nimport sys; print(*sorted({{n.partition('.')[0] for n in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(done.stdout.splitlines()[-1].split())


def _help(*words: str) -> str:
    """Code that runs the command `aiod` in its own process."""
    return (
        f"import sys; sys.argv = {['aiod', *words]!r}\n"
        "from aiod.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
    )


def _third_party(modules: set[str]) -> set[str]:
    """Modules beyond the standard library, our own, and what an interpreter starts with."""
    started = _loaded("")
    return {name for name in modules - started if name not in sys.stdlib_module_names} - {"aiod"}


def test_importing_aiod_loads_no_third_party_module() -> None:
    assert _third_party(_loaded("import aiod")) == set()


def test_importing_the_registry_loads_no_third_party_module() -> None:
    assert _third_party(_loaded("import aiod.registry")) == set()


def test_loading_the_registry_loads_nothing_heavy_and_no_web_framework() -> None:
    loaded = _loaded("from aiod.registry import load; load()")
    assert "pydantic" in loaded  # the index is cold: manifests are judged
    assert not loaded & (HEAVY | WEB | {"rich", "click"})


def test_with_a_warm_index_loading_does_not_import_pydantic() -> None:
    use = "from aiod.registry import load; assert len(load()) > 40"
    _loaded(use)
    assert "pydantic" not in _loaded(use)


@pytest.mark.parametrize("words", [("--help",), ("list", "--help"), ("new", "--help")])
def test_help_loads_no_pydantic_no_rich_and_nothing_heavy(words: tuple[str, ...]) -> None:
    loaded = _loaded(_help(*words))
    assert not loaded & (HEAVY | WEB | {"pydantic", "rich"})
    assert _third_party(loaded) <= {"click"}


def test_listing_models_a_second_time_loads_no_pydantic() -> None:
    _loaded(_help("list"))
    assert not _loaded(_help("list")) & (HEAVY | WEB | {"pydantic"})


def test_every_public_name_of_the_registry_can_be_imported() -> None:
    import aiod.registry as registry

    assert all(getattr(registry, name) is not None for name in registry.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = registry.nothing
    assert set(registry.__all__) == set(registry._HOMES)


def test_the_version_is_the_distributions() -> None:
    from importlib.metadata import version

    import aiod

    assert aiod.__version__ == version("aiod-hub")
    with pytest.raises(AttributeError):
        _ = aiod.nothing


def test_imports_point_down() -> None:
    """The contracts of pyproject.toml hold."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout
