"""The Deployer over a real store and journal: the way forward, and every way back."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from agent.deployment import events as on
from agent.deployment.drafts import EventDraft
from agent.deployment.state import Stage
from agent.deployment.worker import WorkerResult
from agent.errors import (
    Crashed,
    DiskFull,
    OutOfMemory,
    PolicyRefused,
    StaleMetadata,
    Tampered,
    TransportFailed,
    TrialFailed,
)
from agent.journal import JournalBroken
from contract.deployments import Cause, Evidence, Mode, Outcome, Phase
from contract.messages import (
    MAX_FAMILIES,
    Assignment,
    FamilyAssignment,
    ProbationPolicy,
    Waiting,
)
from model.installed import open_installed
from tests.agent.deployment.device import FAMILY, Device
from tests.agent.deployment.releases import VARIANT, Released, make_release
from tests.agent.deployment.simulators import SimulatedHub


def test_a_release_goes_all_the_way_to_committed(device: Device, v1: Released) -> None:
    device.serve(v1, seq=1)
    phases = [event.phase for event in device.events]
    assert phases == [
        Phase.FETCHING,
        Phase.VERIFYING,
        Phase.STAGED,
        Phase.TRIAL,
        Phase.ACTIVATING,
        Phase.PROBATION,
        Phase.COMMITTED,
    ]
    assert device.outcomes() == [("digits/1", "succeeded", None)]
    figures = device.events[-1].figures
    assert figures["bytes_fetched"] > 0
    assert figures["bytes_full"] == sum(
        ref.length for ref in (v1.variant.model, v1.variant.golden, v1.variant.profile)
    )
    assert figures["trial_p95_ms"] == 1.0
    assert figures["swap_ms"] == 1.5
    assert figures["good_inferences"] == 100
    reported = device.deployer.family_states()[FAMILY]
    assert (reported.serving, reported.target, reported.variant) == (v1.digest, "digits/1", VARIANT)
    assert reported.good_inferences == 100
    assert reported.last is not None
    assert reported.last.outcome is Outcome.SUCCEEDED


def test_serving_json_names_the_candidate_on_probation_and_what_stands_behind_it(
    device: Device, v1: Released, v2: Released
) -> None:
    device.serve(v1, seq=1)
    device.assign(v2, seq=2)
    device.work_until(Stage.PROBATION)
    entry = device.entry
    assert entry is not None
    assert (entry.digest, entry.probation) == (v2.digest, True)
    assert entry.previous is not None
    assert entry.previous.digest == v1.digest
    device.model.answer(100)
    device.tick()
    entry = device.entry
    assert entry is not None
    assert not entry.probation
    open_installed(Path(entry.directory), entry.variant, entry.digest)


def test_an_update_fetches_only_the_chunks_that_changed(
    device: Device, v1: Released, v2: Released
) -> None:
    device.serve(v1, seq=1)
    device.hub.asked.clear()
    device.serve(v2, seq=2)
    figures = device.events[-1].figures
    assert figures["chunks_reused"] > 0
    assert figures["bytes_fetched"] < figures["bytes_full"] / 2
    assert not set(device.hub.asked) & set(v1.blobs)


def test_a_cut_transfer_goes_on_at_the_chunk(device: Device, v1: Released) -> None:
    device.hub.deliver_at_most = 6
    device.assign(v1, seq=1)
    device.settle()
    assert device.state().stage is Stage.FETCHING
    assert device.state().waits_for is Cause.TRANSPORT
    device.hub.deliver_at_most = None
    before = list(device.hub.asked)
    device.tick(after_ms=3_000)
    device.work_until(Stage.PROBATION)
    assert len(device.hub.asked) == len(set(device.hub.asked)), "no blob came twice"
    assert len(before) == 6
    assert device.state().figures["chunks_resumed"] > 0


def test_no_network_is_told_once_and_retried_until_the_deadline(
    device: Device, v1: Released
) -> None:
    device.hub.refresh_error = TransportFailed("no broker")
    device.assign(v1, seq=1, deadline_ms=device.now_ms + 60_000)
    device.settle()
    for _ in range(5):
        device.tick(after_ms=10_000)
    told = [e for e in device.events if e.cause is Cause.TRANSPORT]
    assert len(told) == 1
    device.tick(after_ms=30_000)
    assert device.outcomes() == [("digits/1", "failed-unchanged", "deadline")]
    assert "transport" in device.events[-1].detail


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(Tampered("bad bytes"), "rejected"), (DiskFull("full"), "failed-unchanged")],
)
def test_a_refused_fetch_leaves_the_serving_release_alone(
    device: Device, v1: Released, v2: Released, error: Tampered, outcome: str
) -> None:
    device.serve(v1, seq=1)
    device.hub.fetch_error = error
    device.assign(v2, seq=2)
    device.settle()
    assert device.outcomes()[-1] == ("digits/2", outcome, error.cause.value)
    assert device.model.digest == v1.digest
    assert not any((device.state_dir / "staging").iterdir())


def test_a_release_that_nobody_signed_is_rejected(device: Device, v1: Released) -> None:
    del device.hub.releases["digits/1"]
    device.assign(v1, seq=1)
    device.settle()
    assert device.outcomes() == [("digits/1", "rejected", "untrusted")]


def test_a_release_for_another_device_class_is_rejected(device: Device, v1: Released) -> None:
    device.hub.publish(v1, device_classes=["jetson"])
    device.assign(v1, seq=1)
    device.settle()
    assert device.outcomes() == [("digits/1", "rejected", "policy")]


def test_a_release_below_the_floor_is_rejected(device: Device, v1: Released) -> None:
    device.hub.floors[FAMILY] = 2
    device.assign(v1, seq=1)
    device.settle()
    assert device.outcomes() == [("digits/1", "rejected", "policy")]


def test_expired_metadata_blocks_a_new_release_but_not_the_way_back(
    device: Device, v1: Released, v2: Released, v3: Released
) -> None:
    device.serve(v1, seq=1)
    device.serve(v2, seq=2)
    device.hub.refresh_error = StaleMetadata("expired")
    device.hub.fetch_error = TransportFailed("nothing may be fetched")
    device.serve(v1, seq=3)
    assert device.outcomes()[-1] == ("digits/1", "succeeded", None)
    device.assign(v3, seq=4)
    device.settle()
    assert device.state().stage is Stage.FETCHING
    assert device.state().waits_for is Cause.STALE


def test_a_floor_that_was_raised_blocks_the_offline_way_back_too(
    device: Device, v1: Released, v2: Released
) -> None:
    device.serve(v1, seq=1)
    device.serve(v2, seq=2)
    device.hub.refresh_error = StaleMetadata("expired")
    device.journal.save_trust(0, {}, {FAMILY: 2})
    device.assign(v1, seq=3)
    device.settle()
    assert device.state().waits_for is Cause.STALE


def test_a_failed_trial_leaves_the_serving_release_alone(
    device: Device, v1: Released, v2: Released
) -> None:
    device.serve(v1, seq=1)
    device.trial.errors[v2.digest] = TrialFailed("75.0% of the golden samples agree")
    device.assign(v2, seq=2)
    device.settle()
    assert device.outcomes()[-1] == ("digits/2", "failed-unchanged", "trial-failed")
    assert device.model.digest == v1.digest
    assert not device.state().hold


def test_too_little_memory_for_a_trial_is_said_with_figures(device: Device, v1: Released) -> None:
    device.memory = 1024
    device.assign(v1, seq=1)
    device.settle()
    assert device.outcomes() == [("digits/1", "failed-unchanged", "out-of-memory")]
    assert "1 KiB" in device.events[-1].detail
    assert device.trial.ran == []


def test_a_candidate_that_cannot_be_loaded_is_rolled_back(
    device: Device, v1: Released, v2: Released
) -> None:
    device.serve(v1, seq=1)
    device.server.refuses[v2.digest] = OutOfMemory("no memory")
    device.assign(v2, seq=2)
    device.settle()
    assert device.outcomes()[-1] == ("digits/2", "rolled-back", "out-of-memory")
    assert device.model.digest == v1.digest


def test_a_collapse_on_live_traffic_goes_back_without_the_network(
    device: Device, v1: Released, v2: Released
) -> None:
    device.serve(v1, seq=1)
    device.assign(v2, seq=2)
    device.work_until(Stage.PROBATION)
    device.hub.refresh_error = TransportFailed("no network")
    device.hub.fetch_error = TransportFailed("no network")
    device.model.answer(55, classes=(0, 0, 1))
    device.model.classes = [0, 1, 54]
    device.tick()
    assert device.outcomes()[-1] == ("digits/2", "rolled-back", "class-collapse")
    assert "class 2 gets 98.2 % of 55 answers" in device.events[-1].detail
    entry = device.entry
    assert entry is not None
    assert (entry.digest, entry.probation) == (v1.digest, False)
    assert device.model.digest == v1.digest
    reported = device.deployer.family_states()[FAMILY]
    assert reported.hold
    assert reported.phase is Phase.ROLLED_BACK


def test_the_baseline_is_the_previous_release_on_this_device(
    device: Device, v1: Released, v2: Released
) -> None:
    device.serve(v1, seq=1)
    device.assign(v2, seq=2)
    device.work_until(Stage.PROBATION)
    baseline = device.state().baseline
    assert (baseline.source, baseline.answers) == ("previous", 100)


def test_the_baseline_of_a_first_release_is_its_reference(device: Device, v1: Released) -> None:
    device.assign(v1, seq=1)
    device.work_until(Stage.PROBATION)
    assert device.state().baseline.source == "reference"
    assert device.state().baseline.answers == 64


def test_a_first_release_that_fails_leaves_nothing_serving_and_says_so(
    device: Device, v1: Released
) -> None:
    device.assign(v1, seq=1)
    device.work_until(Stage.PROBATION)
    device.model.answer(0, errors=10)
    device.tick()
    assert device.outcomes() == [("digits/1", "rolled-back", "inference-errors")]
    assert "no release before this one" in device.events[-1].detail
    assert device.entry is None
    assert FAMILY not in device.server.models


def test_no_new_try_before_a_new_seq(device: Device, v1: Released, v2: Released) -> None:
    device.serve(v1, seq=1)
    device.trial.errors[v2.digest] = TrialFailed("no")
    device.assign(v2, seq=2)
    device.settle()
    told = len(device.events)
    device.assign(v2, seq=2)
    device.reboot()
    device.assign(v2, seq=2)
    device.settle()
    assert len(device.events) == told
    device.trial.errors.clear()
    device.serve(v2, seq=3)


def test_the_same_release_under_a_newer_seq_succeeds_at_once(device: Device, v1: Released) -> None:
    device.serve(v1, seq=1)
    device.assign(v1, seq=2)
    assert device.outcomes()[-1] == ("digits/1", "succeeded", None)
    assert device.events[-1].assignment_seq == 2
    assert device.events[-1].rollout == "r2"


def test_a_newer_release_supersedes_the_one_under_way(
    device: Device, v1: Released, v2: Released
) -> None:
    device.assign(v1, seq=1)
    device.work_until(Stage.TRIAL)
    device.assign(v2, seq=2)
    device.work_until(Stage.PROBATION)
    assert device.outcomes() == [("digits/1", "superseded", None)]
    assert device.model.digest == v2.digest
    assert device.trial.ran == [v1.digest, v2.digest]


def test_superseded_on_probation_goes_back_first(
    device: Device, v1: Released, v2: Released, v3: Released
) -> None:
    device.serve(v1, seq=1)
    device.assign(v2, seq=2)
    device.work_until(Stage.PROBATION)
    device.assign(v3, seq=3)
    device.work_until(Stage.FETCHING)
    assert device.model.digest == v1.digest
    device.work_until(Stage.PROBATION)
    fallbacks = device.state().fallbacks
    assert [s.digest for s in fallbacks] == [v1.digest]
    assert device.outcomes()[-1] == ("digits/2", "superseded", None)


def test_a_shadow_runs_beside_and_serves_only_when_asked(
    device: Device, v1: Released, v2: Released
) -> None:
    device.serve(v1, seq=1)
    device.assign(v2, seq=2, mode=Mode.SHADOW)
    device.settle()
    assert device.state().stage is Stage.SHADOW
    assert device.server.candidates[FAMILY].digest == v2.digest
    assert device.model.digest == v1.digest
    device.assign(v2, seq=3)
    device.work_until(Stage.PROBATION)
    assert device.model.digest == v2.digest


def test_without_traffic_the_outcome_is_unproven_and_it_stays(device: Device, v1: Released) -> None:
    device.assign(v1, seq=1)
    device.work_until(Stage.PROBATION)
    device.tick(after_ms=601_000)
    assert device.outcomes() == [("digits/1", "unproven", "no-evidence")]
    assert device.model.digest == v1.digest
    device.assign(v1, seq=2)
    assert device.state().stage is Stage.PROBATION
    device.model.answer(100)
    device.tick()
    assert device.outcomes()[-1] == ("digits/1", "succeeded", None)


@pytest.mark.parametrize(
    ("passes", "end"),
    [(True, ("digits/1", "succeeded", None)), (False, ("digits/1", "rolled-back", "trial-failed"))],
)
def test_where_policy_says_so_probes_decide(
    device: Device, v1: Released, passes: bool, end: tuple[str, str, str | None]
) -> None:
    device.server.probe_passes = passes
    policy = ProbationPolicy(min_inferences=60, window_s=10, evidence=Evidence.PROBE)
    device.assign(v1, seq=1, policy=policy)
    device.work_until(Stage.PROBATION)
    device.tick(after_ms=11_000)
    device.tick()
    assert device.outcomes() == [end]


def test_a_server_that_dies_twice_on_probation_condemns_the_candidate(
    device: Device, v1: Released, v2: Released
) -> None:
    device.serve(v1, seq=1)
    device.assign(v2, seq=2)
    device.work_until(Stage.PROBATION)
    for _ in range(2):
        device.tick()
        device.server.die()
        device.server.start()
    device.tick()
    assert device.outcomes()[-1] == ("digits/2", "rolled-back", "crashed")
    assert device.model.digest == v1.digest


def test_a_server_that_falls_back_by_itself_is_a_rollback(
    device: Device, v1: Released, v2: Released
) -> None:
    device.serve(v1, seq=1)
    device.assign(v2, seq=2)
    device.work_until(Stage.PROBATION)
    device.tick()
    device.server.refuses[v2.digest] = Crashed("it crashed while loading")
    device.server.die()
    device.server.start()
    device.tick()
    device.tick()
    assert device.outcomes()[-1] == ("digits/2", "rolled-back", "crashed")
    assert "fell back by itself" in device.events[-1].detail


def test_a_server_that_stays_silent_is_dead_and_the_file_is_put_back(
    device: Device, v1: Released, v2: Released
) -> None:
    device.serve(v1, seq=1)
    device.assign(v2, seq=2)
    device.work_until(Stage.PROBATION)
    device.server.die()
    for _ in range(6):
        device.tick(after_ms=10_000)
    assert device.outcomes()[-1] == ("digits/2", "rollback-failed", "crashed")
    entry = device.entry
    assert entry is not None
    assert entry.digest == v1.digest, "the server's next boot serves the right release"
    assert device.deployer.family_states()[FAMILY].serving is None


def test_an_operator_goes_back_by_one_release(device: Device, v1: Released, v2: Released) -> None:
    device.serve(v1, seq=1)
    device.serve(v2, seq=2)
    device.deployer.rollback(FAMILY, detail="asked for by ada")
    device.settle()
    assert device.outcomes()[-1] == ("digits/2", "rolled-back", "operator")
    assert device.model.digest == v1.digest
    assert device.deployer.family_states()[FAMILY].hold
    device.deployer.release_hold(FAMILY)
    assert not device.deployer.family_states()[FAMILY].hold


def test_there_is_no_way_back_from_a_first_release(device: Device, v1: Released) -> None:
    with pytest.raises(PolicyRefused, match="ever deployed"):
        device.deployer.rollback(FAMILY)
    device.serve(v1, seq=1)
    with pytest.raises(PolicyRefused, match="no earlier release"):
        device.deployer.rollback(FAMILY)
    with pytest.raises(PolicyRefused, match="not held"):
        device.deployer.release_hold(FAMILY)
    assert device.model.digest == v1.digest


def test_an_absent_family_and_an_empty_assignment_change_nothing(
    device: Device, v1: Released
) -> None:
    device.serve(v1, seq=1)
    told = len(device.events)
    device.deployer.assigned(
        # An assignment without families, as an emptied retained topic never is but a hub may send.
        _empty_assignment(seq=9)
    )
    assert len(device.events) == told
    assert device.journal.assignment_seq() == 9
    device.assign(v1, seq=9)
    assert device.state().seq == 9


def test_old_releases_go_and_the_way_back_stays(
    device: Device, v1: Released, v2: Released, v3: Released
) -> None:
    for seq, released in enumerate((v1, v2, v3, v1, v2), start=1):
        device.serve(released, seq)
    device.settle()
    installed = {path.name for path in (device.state_dir / "store" / FAMILY).iterdir()}
    assert {s.digest for s in device.state().fallbacks} <= installed
    assert v2.digest in installed


def test_an_outbox_that_is_full_gets_every_event_later_and_in_order(
    tmp_path: Path, hub: SimulatedHub, v1: Released
) -> None:
    taken: list[EventDraft] = []
    full = [True]

    def emit(draft: EventDraft) -> None:
        if full[0]:
            raise DiskFull("no room")
        taken.append(draft)

    device = Device(tmp_path, hub, emit=emit)
    device.serve(v1, seq=1)
    assert taken == []
    full[0] = False
    device.tick()
    assert [draft.phase for draft in taken][-1] is Phase.COMMITTED
    assert len({draft.key for draft in taken}) == len(taken) == 7


def test_a_lost_journal_leaves_the_device_serving_and_able_to_go_back(
    device: Device, v1: Released, v2: Released
) -> None:
    device.serve(v1, seq=1)
    device.journal.close()
    for path in device.state_dir.glob("journal.sqlite*"):
        path.unlink()
    device.boot()
    device.tick()
    assert device.deployer.family_states()[FAMILY].serving == v1.digest
    device.assign(v2, seq=2)
    device.work_until(Stage.PROBATION)
    assert [s.digest for s in device.state().fallbacks] == [v1.digest]


def test_a_lost_serving_file_is_written_from_the_journal(device: Device, v1: Released) -> None:
    device.serve(v1, seq=1)
    (device.state_dir / "serving.json").write_bytes(b"{torn")
    device.server.die()
    device.journal.close()
    (device.state_dir / "serving.json").unlink()
    device.boot()
    entry = device.entry
    assert entry is not None
    assert entry.digest == v1.digest


def test_good_inferences_add_up_over_lives_of_the_server(device: Device, v1: Released) -> None:
    device.serve(v1, seq=1)
    device.server.die()
    device.server.start()
    device.model.answer(5)
    device.tick()
    assert device.deployer.family_states()[FAMILY].good_inferences == 105
    device.reboot()
    device.tick()
    assert device.deployer.family_states()[FAMILY].good_inferences >= 100


def test_probation_goes_on_after_a_boot_and_ends_after_too_many(
    device: Device, v1: Released, v2: Released
) -> None:
    device.serve(v1, seq=1)
    device.assign(v2, seq=2)
    device.work_until(Stage.PROBATION)
    for _ in range(3):
        device.reboot()
        assert device.state().stage is Stage.PROBATION
        assert device.model.digest == v2.digest
    device.reboot()
    device.settle()
    assert device.outcomes()[-1] == ("digits/2", "rolled-back", "crash-loop")
    assert device.model.digest == v1.digest


def test_a_trial_that_takes_the_device_down_ends_as_a_crash_loop(
    device: Device, v1: Released
) -> None:
    device.assign(v1, seq=1)
    device.work_until(Stage.TRIAL)
    for _ in range(4):
        device.reboot()
    assert device.outcomes() == [("digits/1", "failed-unchanged", "crash-loop")]


def _empty_assignment(seq: int) -> Assignment:
    return Assignment(device="cam-1", seq=seq, issued_at_ms=0, expires_at_ms=1 << 50)


def test_a_journal_without_room_postpones_a_step_and_loses_nothing(
    device: Device, v1: Released
) -> None:
    device.assign(v1, seq=1)
    device.work_until(Stage.PROBATION)
    device.model.answer(100)
    fill(device)
    device.tick()
    assert device.state().stage is Stage.PROBATION
    device.journal._db.execute("PRAGMA max_page_count = 1000000")
    device.tick()
    assert device.outcomes() == [("digits/1", "succeeded", None)]


def test_a_disk_that_stays_full_costs_no_memory(device: Device, v1: Released) -> None:
    device.assign(v1, seq=1)
    device.work_until(Stage.PROBATION)
    device.model.answer(0, errors=10)
    device.journal._db.execute("PRAGMA query_only = 1")
    for _ in range(20):
        device.tick()
    assert len(device.deployer._postponed) == 1
    assert device.state().stage is Stage.PROBATION
    device.journal._db.execute("PRAGMA query_only = 0")
    device.tick()
    assert device.outcomes() == [("digits/1", "rolled-back", "inference-errors")]


def test_a_journal_that_fails_in_another_way_postpones_a_step_too(
    device: Device, v1: Released
) -> None:
    device.assign(v1, seq=1)
    device.work_until(Stage.PROBATION)
    device.model.answer(100)
    device.journal._db.execute("PRAGMA query_only = 1")
    device.tick()
    assert device.state().stage is Stage.PROBATION
    device.journal._db.execute("PRAGMA query_only = 0")
    device.tick()
    assert device.outcomes() == [("digits/1", "succeeded", None)]


def test_a_postponed_result_is_not_taken_for_that_of_a_newer_assignment(
    device: Device, v1: Released, v2: Released
) -> None:
    device.assign(v1, seq=1)
    device.runner.run_one()
    device.journal._db.execute("PRAGMA query_only = 1")
    device.work_one()
    device.journal._db.execute("PRAGMA query_only = 0")
    device.assign(v2, seq=2)
    device.work_until(Stage.PROBATION)
    assert device.model.digest == v2.digest
    assert device.outcomes() == [("digits/1", "superseded", None)]


def fill(device: Device) -> None:
    """No page of the journal is left over."""
    pages = device.journal._db.execute("PRAGMA page_count").fetchone()[0]
    device.journal._db.execute(f"PRAGMA max_page_count = {pages}")
    filler = 0
    while True:
        try:
            device.journal.save_deployment(f"filler-{filler}", b"x" * 900, [])
        except DiskFull:
            return
        filler += 1


def test_families_do_not_touch_each_other(
    device: Device, v1: Released, v2: Released, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = make_release(tmp_path_factory.mktemp("kws"), "1", family="kws")
    device.hub.publish(other)
    device.serve(v1, seq=1)
    device.assign(other, seq=2)
    device.work_until(Stage.PROBATION, family="kws")
    device.assign(v2, seq=3)
    device.trial.errors[v2.digest] = TrialFailed("no")
    device.settle()
    device.server.models["kws"].answer(0, errors=10)
    device.tick()
    states = device.deployer.family_states()
    assert (states["digits"].phase, states["digits"].serving) == (Phase.FAILED, v1.digest)
    assert (states["kws"].phase, states["kws"].serving) == (Phase.ROLLED_BACK, None)
    assert not states["digits"].hold
    assert states["kws"].hold


def test_a_release_over_its_budget_waits_says_so_and_goes_on_once_it_may(
    device: Device, v1: Released, v2: Released
) -> None:
    device.serve(v1, seq=1)
    device.assign(v2, seq=2, metered_bytes=40)
    device.settle()
    waiting = device.deployer.family_states()[FAMILY]
    assert (waiting.phase, waiting.serving) == (Phase.FETCHING, v1.digest)
    assert isinstance(waiting.waits, Waiting)
    assert waiting.waits.cause is Cause.METERED
    assert "allowed are 40 (the budget of rollout r2)" in waiting.waits.detail
    told = [event for event in device.events if event.cause is Cause.METERED]
    assert [(event.phase, event.outcome) for event in told] == [(Phase.FETCHING, None)]
    device.assign(v2, seq=3, metered_bytes=1 << 30)
    device.work_until(Stage.PROBATION)
    assert device.deployer.family_states()[FAMILY].waits is msgspec.UNSET


def test_a_family_too_many_is_not_taken_up(device: Device, v1: Released) -> None:
    wanted = FamilyAssignment(target="digits/1", digest=v1.digest, rollout="r")
    for n in range(MAX_FAMILIES + 2):
        families = {f"family-{n}": wanted}
        device.deployer.assigned(msgspec.structs.replace(_empty_assignment(n), families=families))
        device.deployer.assigned(
            msgspec.structs.replace(_empty_assignment(n + 1), families=families)
        )
    assert len(device.journal.deployments()) == MAX_FAMILIES


def test_a_family_that_came_to_nothing_makes_room(device: Device, v1: Released) -> None:
    device.serve(v1, seq=1)
    for n in range(MAX_FAMILIES):
        family = f"family-{n}"
        wanted = FamilyAssignment(target=f"{family}/1", digest=v1.digest, rollout="r")
        families = {family: wanted}
        device.deployer.assigned(
            msgspec.structs.replace(_empty_assignment(n + 2), families=families)
        )
        device.settle()
        assert device.state(family).stage is Stage.REJECTED
    known = device.journal.deployments()
    assert len(known) == MAX_FAMILIES
    assert "family-0" not in known
    assert FAMILY in known, "what serves is never forgotten"


def test_the_number_of_an_assignment_that_was_cut_is_told_all_the_same(
    device: Device, v1: Released
) -> None:
    device.assign(v1, seq=5)
    device.journal._db.execute("UPDATE numbers SET value = 4 WHERE name = 'assignment_seq'")
    device.reboot()
    assert device.journal.assignment_seq() == 5


def test_a_damaged_release_is_no_success_and_is_made_whole(device: Device, v1: Released) -> None:
    device.serve(v1, seq=1)
    damaged = device.state_dir / "store" / FAMILY / v1.digest / "files" / v1.variant.model.path
    damaged.write_bytes(b"rot")
    device.server.refuses[v1.digest] = Tampered("bad digest")
    device.server.start()
    device.tick()
    device.server.refuses.clear()
    device.assign(v1, seq=2)
    assert device.outcomes() == [("digits/1", "succeeded", None)], "of seq 1"
    device.work_until(Stage.PROBATION)
    device.model.answer(100)
    device.tick()
    assert [o for _, o, _ in device.outcomes()] == ["succeeded", "succeeded"]
    assert device.model.digest == v1.digest


def test_a_journal_row_of_another_program_is_refused(device: Device) -> None:
    device.journal.save_deployment("digits", b'{"family": 5}', [])
    device.journal.close()
    with pytest.raises(JournalBroken, match="digits"):
        device.boot()


def test_a_stopped_deployer_takes_no_more_results(device: Device, v1: Released) -> None:
    device.assign(v1, seq=1)
    assert device.deployer.is_busy()
    result = WorkerResult(
        family=FAMILY, run=device.state().run, event=on.Failed(cause=Cause.TRANSPORT)
    )
    device.deployer.stop()
    device.deployer.post(result)
    assert device.state().waits_for is None
    device.reboot()
    device.work_until(Stage.PROBATION)


def test_a_result_of_an_earlier_run_is_dropped(device: Device, v1: Released) -> None:
    device.assign(v1, seq=1)
    before = device.state()
    stale = WorkerResult(family=FAMILY, run=before.run - 1, event=on.Fetched(variant="v"))
    device.deployer.post(stale)
    device.deployer.post(msgspec.structs.replace(stale, family="absent"))
    assert device.state() == before


def test_a_defect_in_an_effect_is_a_failure_and_not_the_end(device: Device, v1: Released) -> None:
    device.trial.errors[v1.digest] = ZeroDivisionError("a defect")  # type: ignore[assignment] # the point: it is none that is foreseen
    device.assign(v1, seq=1)
    device.settle()
    assert device.outcomes() == [("digits/1", "failed-unchanged", "internal")]
    assert "ZeroDivisionError: a defect" in device.events[-1].detail


def test_a_tick_on_a_busy_machine_finds_no_retry_where_there_is_none(
    tmp_path: Path, hub: SimulatedHub, v1: Released
) -> None:
    """Between two looks at the clock a process may be off the processor for long."""
    busy = Device(tmp_path, hub, ms_per_look=2)
    busy.serve(v1, seq=1)
    busy.tick()
    assert busy.state(FAMILY).stage is Stage.COMMITTED
