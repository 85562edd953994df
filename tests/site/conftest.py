from __future__ import annotations

from pathlib import Path

import pytest
import specimen


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The specimen project, one per test module."""
    return specimen.project(tmp_path_factory.mktemp("specimen"))
