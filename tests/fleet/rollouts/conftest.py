"""A fleet over a real database, with a clock that only tests move."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fleet.assembly import system_clock
from tests.fleet.harness import HubDirectory
from tests.fleet.rollouts.stored_fleet import HandClock, StoredFleet, names


@pytest.fixture
def stored(hub_directory: HubDirectory) -> Iterator[StoredFleet]:
    """A hub at rest: no releases, no devices."""
    clock = HandClock(system_clock())
    with hub_directory.at_rest(clock) as hub:
        yield StoredFleet(hub, hub_directory, clock)


@pytest.fixture
def six(stored: StoredFleet) -> StoredFleet:
    """Six devices that serve digits:1, and digits:2 published."""
    releases = stored.publish("1", "2")
    stored.bad = releases["2"].digest
    stored.enrol(*names(6))
    assert stored.run(stored.start("1", waves=["100%"], soak_s=0)) == "completed"
    return stored
