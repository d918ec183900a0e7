"""What tests of the pipeline share: one small environment, built once, for all toy models.

A test module takes it with ``pytest_plugins = "toys"``.
"""

from __future__ import annotations

import numpy as np
import pytest

from aiod.flow.models.environments import Environment, environment_for

TOY = f'''# /// script
# requires-python = ">=3.11"
# dependencies = ["appose>=0.12", "numpy=={np.__version__}"]
# ///
"""A toy."""
'''


@pytest.fixture(scope="session")
def toy_environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with numpy and appose, built for real in a cache of its own."""
    folder = tmp_path_factory.mktemp("toys")
    runner = folder / "toy.py"
    runner.write_text(TOY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIOD_CACHE", str(folder / "cache"))
        patch.delenv("AIOD_OFFLINE", raising=False)
        return environment_for(runner)
