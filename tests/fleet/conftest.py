"""Hubs for the tests of the fleet: a directory, its services at rest, and the whole, running."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.assembly import RunningHub, run_hub
from fleet.ports import HubServices
from tests.fleet.harness import HubDirectory, copy_hub, make_template, until


@pytest.fixture(scope="session")
def hub_template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A hub with its trust root, never changed, and its API token."""
    directory = tmp_path_factory.mktemp("hub-template")
    return directory, make_template(directory).token


@pytest.fixture
def hub_directory(hub_template: tuple[Path, str], tmp_path: Path) -> HubDirectory:
    """A hub of the test's own, on free ports."""
    return copy_hub(hub_template[0], tmp_path / "world", hub_template[1])


@pytest.fixture
def hub(hub_directory: HubDirectory) -> Iterator[HubServices]:
    """The hub's services, with nothing running."""
    with hub_directory.at_rest() as services:
        yield services


@pytest.fixture
def running(hub_directory: HubDirectory) -> Iterator[RunningHub]:
    """The hub with its broker and threads; the broker's memory is filled."""
    with run_hub(hub_directory.hub) as hub:
        until((hub_directory.hub / "run" / "epoch").exists)
        yield hub
