"""A fresh world a test: hub, keys folder, published trust."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trust.ceremony import World, new_world


@pytest.fixture
def world(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    return new_world(tmp_path / "world", lambda: tmp_path_factory.mktemp("template"))
