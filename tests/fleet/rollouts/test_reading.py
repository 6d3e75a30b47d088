"""Reports are counted in bounded pieces, and those of other devices do not pile up before them."""

from __future__ import annotations

import pytest

from fleet.rollouts import reading
from fleet.rollouts.engine import tick
from fleet.rollouts.reading import uncounted
from fleet.rollouts.starting import LOOK_BACK_MS, look_back
from tests.fleet.rollouts.stored_fleet import StoredFleet


def is_uncounted(fleet: StoredFleet, rollout: str) -> bool:
    with fleet.hub.storage.reading() as session:
        return uncounted(session, fleet.rollout(rollout))


def test_the_reports_of_other_devices_are_passed_over(
    six: StoredFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BATCH", 3)
    rollout = six.start("2", selector="name=cam-0", waves=["1"])
    for _ in range(10):
        six.report("cam-1", "1" * 64)
    assert is_uncounted(six, rollout)
    for _ in range(3):
        tick(six.hub, six.clock())
    assert six.rollout(rollout).report_cursor == 9
    assert not is_uncounted(six, rollout)  # one is left, and it is nobody's of this rollout


def test_a_backlog_is_counted_piece_by_piece_and_no_wave_passes_before(
    six: StoredFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BATCH", 3)
    rollout = six.start("2", selector="name=cam-0", waves=["1"])
    tick(six.hub, six.clock())
    six.clock.now_ms += 1
    for _ in range(7):
        six.report("cam-0", six.bad, 10)
    counted = []
    for _ in range(3):
        tick(six.hub, six.clock())
        counted.append(six.rows(rollout)["cam-0"].evidence["candidate"]["inferences"])
    assert counted == [30, 60, 70]
    assert not is_uncounted(six, rollout)


def test_a_rollout_looks_back_over_one_day_of_reports(six: StoredFleet) -> None:
    six.report("cam-0", six.bad)
    six.report("cam-1", six.bad)
    with six.hub.storage.reading() as session:
        assert look_back(session, six.clock() + LOOK_BACK_MS) == 0
        assert look_back(session, six.clock() + LOOK_BACK_MS + 1) == 2
