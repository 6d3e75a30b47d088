"""A hub that lost its last rollouts gives their names again: its devices must answer all the same.

What the hub sends is put before the device's own machine.
"""

from __future__ import annotations

from sqlalchemy import delete

from agent.deployment import events as on
from agent.deployment.machine import step
from agent.deployment.state import Attempt, Deployment, Stage
from contract.deployments import Cause
from contract.messages import FamilyAssignment
from fleet.assignments import message
from fleet.rollouts.execution import figures_of
from fleet.storage.schema import Decision, Device, Rollout, RolloutDevice, StoredEvent
from tests.fleet.rollouts.stored_fleet import FAMILY, StoredFleet

DEVICE = "cam-1"


def wish(fleet: StoredFleet) -> FamilyAssignment:
    with fleet.hub.storage.reading() as session:
        return message(session, session.get_one(Device, DEVICE)).families[FAMILY]


def lose(fleet: StoredFleet, rollout: str) -> None:
    """As if the backup were older than this rollout."""
    with fleet.hub.storage.session() as session:
        for table, column in (
            (Decision, Decision.rollout),
            (RolloutDevice, RolloutDevice.rollout),
            (Rollout, Rollout.id),
        ):
            session.execute(delete(table).where(column == rollout))


def test_a_rollout_under_a_name_that_was_given_before_is_taken_up(six: StoredFleet) -> None:
    first = six.start("2", waves=["100%"])
    six.step()
    before = wish(six)
    device, _ = step(Deployment(family=FAMILY), on.Assigned(attempt=Attempt(7, before)))
    device, _ = step(device, on.RollbackAsked(cause=Cause.OPERATOR))
    assert device.stage is Stage.FAILED

    lose(six, first)
    six.clock.now_ms += 60_000
    second = six.start("2", waves=["100%"])
    six.step()
    after = wish(six)
    assert (second, after.rollout, after.digest) == (first, before.rollout, before.digest)
    device, _ = step(device, on.Assigned(attempt=Attempt(8, after)))
    assert device.stage is Stage.FETCHING


def test_a_number_that_grew_for_another_familys_sake_leaves_the_wish_as_it_was(
    six: StoredFleet,
) -> None:
    six.start("2", waves=["100%"])
    six.step()
    before = wish(six)
    with six.hub.storage.session() as session:
        session.get_one(Device, DEVICE).assignment_seq += 1
    six.clock.now_ms += 60_000
    six.step()
    assert wish(six) == before


def test_figures_of_an_older_assignment_are_no_evidence(six: StoredFleet) -> None:
    """The device had them in its outbox when the hub was restored."""
    rollout = six.start("2", waves=["100%"])
    six.step()
    with six.hub.storage.session() as session:
        row = session.get_one(RolloutDevice, (rollout, DEVICE))
        assert row.assigned_seq is not None
        for number, seq in enumerate((row.assigned_seq - 1, row.assigned_seq)):
            old = StoredEvent(
                kind="event", device=DEVICE, boot="b", seq=number, mono_ms=0, at_ms=0,
                clock_trusted=True, received_at_ms=0, rollout=rollout, assignment_seq=seq,
                outcome="rolled-back", figures={"swap_ms": float(seq)},
            )  # fmt: skip
            session.add(old)
            session.flush()
            expected = {} if seq < row.assigned_seq else {"swap_ms": float(seq)}
            assert figures_of(session, row) == expected
