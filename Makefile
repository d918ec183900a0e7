# `make demo` shows what aiod does; `make test` runs everything that guards it.
# Both make what they need: a virtual environment in .venv. PYTHON names another interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-napari test-models bench generated format clean

demo: $(VENV)/demo.stamp
	rm -rf demo
	$(BIN)/aiod run --task nuclei src/aiod/samples/nuclei_2d.ome.tif --out demo
	$(BIN)/aiod eval demo/nuclei_2d.ome.zarr src/aiod/samples/nuclei_2d_truth.ome.tif

test: $(VENV)/dev.stamp
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest

# The plugin in a real window: on a virtual screen where there is no other.
SCREEN = $(if $(DISPLAY),,xvfb-run --auto-servernum --server-args="-screen 0 1280x800x24")
test-napari: $(VENV)/dev.stamp
	QT_QPA_PLATFORM=xcb $(SCREEN) $(BIN)/python -m pytest -c tests/plugin/pytest.ini tests/plugin

# Trains small checkpoints of the deep families and runs them for real; brings gigabytes.
test-models: $(VENV)/dev.stamp
	$(BIN)/python -m pytest tests/models

bench: $(VENV)/dev.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	QT_QPA_PLATFORM=xcb $(SCREEN) $(BIN)/python benchmarks/write.py docs/benchmarks.md

# What is written by programs: schema.json for editors, docs/schema.md and pictures for people.
generated: $(VENV)/dev.stamp
	$(BIN)/aiod schema --to src/aiod/schema.json
	$(BIN)/python -c "from aiod.registry.reference import schema_page; print(schema_page(), end='')" > docs/schema.md
	$(BIN)/python docs/images/make.py
	$(SCREEN) $(BIN)/python docs/images/make_plugin.py

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/aiod fmt src/aiod

clean:
	rm -rf $(VENV) demo

$(VENV)/demo.stamp: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[run]'
	touch $@

$(VENV)/dev.stamp: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@ $(VENV)/demo.stamp
