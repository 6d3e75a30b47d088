"""A state folder and a running server, shared by the tests of one file that leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.serving import tiny_models as tiny


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tiny.Running]:
    """A server that serves tiny/1 (y = x @ WEIGHTS), small limits."""
    state = tmp_path_factory.mktemp("state")
    tiny.serve_at_boot(state, tiny.install(state, "1", tiny.scaled(1)))
    with tiny.server(state, "--max-body", "65536") as server:
        yield server


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """An empty state folder."""
    return tmp_path
