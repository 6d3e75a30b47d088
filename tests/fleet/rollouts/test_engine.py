"""The engine over a real database: the stories again, with what is stored of them."""

from __future__ import annotations

import pytest
from sqlalchemy import event

from fleet.rollouts.engine import tick
from fleet.rollouts.views import OnFailure
from tests.fleet.harness import SilentLink
from tests.fleet.rollouts.simulated_fleet import FAILS, ROLLS_BACK, SILENT
from tests.fleet.rollouts.stored_fleet import StoredFleet


def first_canary(stored: StoredFleet, rollout: str) -> str:
    return next(name for name, row in stored.rows(rollout).items() if row.position == 0)


def test_a_good_release_reaches_everybody_and_the_story_is_stored(six: StoredFleet) -> None:
    rollout = six.start("2", waves=["1", "3", "6"])
    assert six.run(rollout) == "completed"
    assert six.actions(rollout) == [
        "start",
        "assign",
        "advance",
        "assign",
        "advance",
        "assign",
        "complete",
    ]
    assert set(six.served().values()) == {"digits/2"}
    assert {row.previous_target for row in six.rows(rollout).values()} == {"digits/1"}


def test_a_bad_release_is_taken_back_from_the_canary_and_five_are_never_touched(
    six: StoredFleet,
) -> None:
    for device in six.devices.values():
        device.behaviour = ROLLS_BACK
    before = six.seqs()
    rollout = six.start("2", waves=["1", "3", "6"])
    assert six.run(rollout) == "reverted"
    canary = first_canary(six, rollout)
    assert [name for name, seq in six.seqs().items() if seq != before[name]] == [canary]
    assert set(six.assigned().values()) == {"digits/1"}
    row = six.rows(rollout)[canary]
    assert (row.status, row.outcome, row.cause) == ("reverted", "rolled-back", "class-collapse")
    assert six.actions(rollout) == ["start", "assign", "device-failed", "revert", "restored"]
    assert "97 % are class 3" in six.rollout(rollout).reason
    assert {r.status for n, r in six.rows(rollout).items() if n != canary} == {"skipped"}


def test_the_seconds_until_everything_is_restored_are_told(six: StoredFleet) -> None:
    for device in six.devices.values():
        device.behaviour = ROLLS_BACK
    started = six.clock()
    rollout = six.start("2", waves=["1"])
    six.run(rollout, after_s=2)
    last = six.decisions(rollout)[-1]
    assert last.evidence["restored_s"] == (six.clock() - started) / 1_000


def test_pausing_on_failure_takes_nothing_back(six: StoredFleet) -> None:
    for device in six.devices.values():
        device.behaviour = FAILS
    rollout = six.start("2", waves=["1", "6"], on_failure=OnFailure.PAUSE)
    assert six.run(rollout) == "paused"
    assert list(six.assigned().values()).count("digits/2") == 1


def test_nothing_new_means_no_new_assignments_and_no_new_decisions(six: StoredFleet) -> None:
    rollout = six.start("2", waves=["1", "6"])
    six.step()
    seqs, actions = six.seqs(), six.actions(rollout)
    for _ in range(5):
        tick(six.hub, six.clock())
    assert (six.seqs(), six.actions(rollout)) == (seqs, actions)


def test_the_link_is_woken_once_there_is_something_to_send(six: StoredFleet) -> None:
    link = six.hub.link
    assert isinstance(link, SilentLink)
    tick(six.hub, six.clock())
    before = link.woken
    six.start("2", waves=["1", "6"])
    tick(six.hub, six.clock())
    assert link.woken == before + 1
    tick(six.hub, six.clock())
    assert link.woken == before + 1


class Killed(BaseException):
    """The process is gone: nothing after this runs."""


@pytest.mark.parametrize("nth", range(1, 14))
def test_a_hub_killed_at_any_write_neither_repeats_nor_skips_an_assignment(
    six: StoredFleet, nth: int
) -> None:
    rollout = six.start("2", waves=["3", "6"])
    before = six.seqs()
    writes = 0

    def kill(_conn: object, _cursor: object, statement: str, *_: object) -> None:
        nonlocal writes
        if statement.startswith(("INSERT", "UPDATE", "DELETE")):
            writes += 1
            if writes == nth:
                raise Killed

    engine = six.hub.storage.engine
    event.listen(engine, "before_cursor_execute", kill)
    try:
        tick(six.hub, six.clock())
    except Killed:
        assert six.seqs() == before
    finally:
        event.remove(engine, "before_cursor_execute", kill)

    tick(six.hub, six.clock())
    changed = {name: seq - before[name] for name, seq in six.seqs().items()}
    assert sorted(changed.values()) == [0, 0, 0, 1, 1, 1]
    assert six.actions(rollout) == ["start", "assign"]
    assert six.run(rollout) == "completed"


def test_reports_are_counted_once_and_kept_with_the_device(six: StoredFleet) -> None:
    rollout = six.start("2", waves=["1", "6"])
    canary = first_canary(six, rollout)
    old = six.devices[canary].serving
    assert old is not None
    six.report(canary, old.digest, 70)
    six.step()
    six.clock.now_ms += 1_000
    six.report(canary, six.bad, 80)
    for _ in range(3):
        tick(six.hub, six.clock())
    evidence = six.rows(rollout)[canary].evidence
    assert evidence["previous"]["inferences"] == 70
    assert evidence["candidate"]["inferences"] == 80


def test_errors_on_live_traffic_fail_the_gate_of_a_wave_that_succeeded(six: StoredFleet) -> None:
    rollout = six.start("2", waves=["1", "6"], soak_s=60)
    canary = first_canary(six, rollout)
    served = six.devices[canary].serving
    assert served is not None
    six.report(canary, served.digest, 500)
    six.step()
    six.step()
    assert six.rows(rollout)[canary].outcome == "succeeded"
    six.report(canary, six.bad, 400, errors=100)
    assert six.run(rollout) == "reverted"
    revert = next(d for d in six.decisions(rollout) if d.action == "revert")
    comparison = revert.evidence["comparison"]
    assert comparison["against"] == "own-previous"
    assert "0 control devices with traffic, 10 needed" in comparison["words"]
    assert "error-rate 25.00%" in revert.reason


def test_the_first_release_ever_has_nothing_to_go_back_to(stored: StoredFleet) -> None:
    stored.bad = stored.publish("1")["1"].digest
    stored.enrol("cam-0", "cam-1")
    for device in stored.devices.values():
        device.behaviour = FAILS
    rollout = stored.start("1", waves=["1", "2"])
    assert stored.run(rollout) == "reverted"
    assert stored.assigned() == {}
    assert "no release before" in stored.rows(rollout)[first_canary(stored, rollout)].detail


def test_a_late_success_of_a_rollout_that_is_over_is_still_recorded(six: StoredFleet) -> None:
    silent = "cam-3"
    six.devices[silent].behaviour = SILENT
    rollout = six.start("2", waves=["100%"], abort_if="failed>1", soak_s=0)
    assert six.run(rollout, after_s=30) == "completed"
    assert six.rows(rollout)[silent].outcome == "timed-out"
    six.devices[silent].behaviour = "good"
    six.step()
    six.step()
    row = six.rows(rollout)[silent]
    assert (row.outcome, row.late_outcome) == ("timed-out", "succeeded")
    assert six.rollout(rollout).status == "completed"


def test_a_rollout_that_cannot_be_read_does_not_hold_up_the_others(six: StoredFleet) -> None:
    broken = six.start("2", selector="name=cam-0", waves=["1"])
    good = six.start("2", selector="name=cam-1", waves=["1"], soak_s=0)
    with six.hub.storage.session() as session:
        from fleet.storage.schema import Rollout

        session.get_one(Rollout, broken).spec = {"waves": []}
    with pytest.raises(Exception, match="waves"):
        six.step()
    assert six.actions(good) == ["start", "assign"]


def test_a_hub_that_was_down_beyond_the_deadline_takes_no_good_release_back(
    six: StoredFleet,
) -> None:
    rollout = six.start("2", waves=["100%"], soak_s=0)
    six.bad = ""
    tick(six.hub, six.clock())
    link = six.hub.link
    assert isinstance(link, SilentLink)
    six.clock.now_ms += 3_600_000
    link.connected_since_ms = None
    tick(six.hub, six.clock())
    link.connected_since_ms = six.clock()
    tick(six.hub, six.clock())
    assert six.run(rollout) == "completed"
    assert {row.outcome for row in six.rows(rollout).values()} == {"succeeded"}
