"""A hub with a real broker and real signed metadata, and a state directory for a device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.daemon import Fleet
from tests.agent.disks import small_disk

__all__ = ["fleet", "small_disk", "state"]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path_factory.mktemp("fleet"))
    yield fleet
    fleet.close()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"
