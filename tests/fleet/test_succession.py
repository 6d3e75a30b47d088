"""The steps from one CA to the next on a real hub's files: what they need, and cut off anywhere."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from fleet.assembly import system_clock
from fleet.ca import Authority
from fleet.certificates import remember_certificate
from fleet.errors import HubNotFound, HubOfAnotherUser, RotationRefused, RotationUnderWay
from fleet.ports import HubServices
from fleet.rotation import Stage, Step
from fleet.setup import succession_at
from fleet.storage.schema import Certificate, Device
from fleet.succession import Outcome, Succession, newest_issuers
from fleet.trust.errors import TrustRefused
from tests.fleet.authorities import make, name_roots, trust_file
from tests.fleet.harness import HubDirectory, enrolled
from tests.mosquitto import Authority as Stranger


@pytest.fixture
def succession(hub_directory: HubDirectory) -> Iterator[Succession]:
    with succession_at(hub_directory.hub) as found:
        yield found


def says(succession: Succession, device: str, **versions: int) -> None:
    """The device reports that it follows these versions of signed metadata."""
    with succession.storage.session() as session:
        session.get_one(Device, device).tuf_versions = versions


def renewed(succession: Succession, device: str) -> None:
    """It has a certificate of whoever issues now."""
    key = generate_private_key(SECP256R1()).public_key()
    issued = succession.authority.issue_device(device, key, system_clock() + 5_000)
    with succession.storage.session() as session:
        remember_certificate(session, device, issued)


def test_a_second_call_is_refused_and_says_what_comes_next(
    hub_directory: HubDirectory, succession: Succession
) -> None:
    assert "keys ca" in succession.make("hub", system_clock()).next
    before = succession.authority.roots_pem()
    with pytest.raises(RotationUnderWay, match=r"made: name both roots"):
        succession.make("hub", system_clock())
    assert succession.authority.roots_pem() == before


@pytest.mark.parametrize("step", list(Step))
def test_without_a_rotation_there_is_nothing_to_take(succession: Succession, step: Step) -> None:
    with pytest.raises(RotationRefused, match="new-ca DIR"):
        succession.take(step, system_clock())


def test_a_directory_that_is_no_hub_is_named(tmp_path: Path) -> None:
    with pytest.raises(HubNotFound), succession_at(tmp_path):
        pass


def test_another_account_than_the_hub_s_changes_nothing(
    hub_directory: HubDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root could, and the hub would not be able to read its CA any more."""
    before = sorted(hub_directory.hub.rglob("*"))
    somebody = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: somebody)
    with (
        pytest.raises(HubOfAnotherUser, match="as its owner, `sudo -u '"),
        succession_at(hub_directory.hub),
    ):
        pass
    assert sorted(hub_directory.hub.rglob("*")) == before


def test_from_one_ca_to_the_next(hub_directory: HubDirectory, succession: Succession) -> None:
    old = succession.authority.root_pem()
    make(hub_directory)
    assert succession.take(Step.SWITCH, system_clock()).stage is Stage.SWITCHED
    new = succession.authority.root_pem()
    assert succession.take(Step.FINISH, system_clock()).stage is None
    assert succession.authority.roots_pem() == new != old
    assert succession.authority.trusted_file.read_text() == succession.authority.trusted_pem()
    succession.settle()
    assert not (succession.authority.directory / "next").exists()
    assert make(hub_directory).stage is Stage.MADE, "the next one follows in the same way"


def test_both_roots_have_to_be_named_before_the_switch(
    hub_directory: HubDirectory, succession: Succession
) -> None:
    succession.make("hub", system_clock())
    succession.note_believed()
    name_roots(hub_directory, "root.crt")
    with pytest.raises(RotationRefused, match="both roots"):
        succession.take(Step.SWITCH, system_clock(), force=True)


def test_the_broker_has_to_believe_the_next_ca_before_the_switch(
    hub_directory: HubDirectory, succession: Succession
) -> None:
    succession.make("hub", system_clock())
    name_roots(hub_directory, "root.crt", "next/root.crt")
    with pytest.raises(RotationRefused, match="broker"):
        succession.take(Step.SWITCH, system_clock(), force=True)


def test_a_policy_that_a_stranger_signed_leads_nowhere(
    hub_directory: HubDirectory, succession: Succession
) -> None:
    """A thief of the hub can write `rotation.json` and sign online, but name no root."""
    succession.make("hub", system_clock())
    succession.note_believed()
    offered = trust_file(hub_directory, "root.crt", "next/root.crt")
    with pytest.raises(TrustRefused):
        succession.repository.import_trust(_signed_by_a_stranger(offered))
    with pytest.raises(RotationRefused, match="both roots"):
        succession.take(Step.SWITCH, system_clock(), force=True)


def _signed_by_a_stranger(trust_json: bytes) -> bytes:
    """The newest targets.json with other signatures: they are not by the keys that they name."""
    whole = json.loads(trust_json)
    name = max(name for name in whole["files"] if name.endswith("targets.json"))
    metadata = json.loads(base64.b64decode(whole["files"][name]))
    for signature in metadata["signatures"]:
        signature["sig"] = "00" * 64
    whole["files"][name] = base64.b64encode(json.dumps(metadata).encode()).decode()
    return json.dumps(whole).encode()


def test_the_hub_takes_no_policy_without_the_root_that_it_serves_under(
    hub_directory: HubDirectory, succession: Succession
) -> None:
    """Before the switch that is the old one, after it the next."""
    make(hub_directory)
    only_new = trust_file(hub_directory, "next/root.crt")
    with pytest.raises(TrustRefused, match="root of this hub"):
        succession.repository.import_trust(only_new)
    succession.take(Step.SWITCH, system_clock())
    succession.repository.import_trust(only_new)
    with pytest.raises(RotationRefused, match="no longer names the old root"):
        succession.take(Step.UNDO, system_clock(), force=True)


def test_devices_that_do_not_know_the_next_root_are_named_where_nothing_bridges(
    hub_directory: HubDirectory, hub: HubServices, succession: Succession
) -> None:
    (succession.authority.directory / "root.key").unlink()
    for name in ("cam-1", "cam-2"):
        enrolled(hub, name)
    make(hub_directory)
    says(succession, "cam-1", targets=2)
    with pytest.raises(RotationRefused, match=r"cut off cam-2: wait for them, or give --force"):
        succession.take(Step.SWITCH, system_clock())
    assert succession.take(Step.SWITCH, system_clock(), force=True).cut_off == ("cam-2",)


def test_the_former_ca_stays_while_a_device_hangs_on_it(
    hub_directory: HubDirectory, hub: HubServices, succession: Succession
) -> None:
    for name in ("cam-1", "cam-2", "cam-3"):
        enrolled(hub, name)
    make(hub_directory)
    succession.take(Step.SWITCH, system_clock())
    for name in ("cam-1", "cam-2"):
        says(succession, name, targets=2)
    renewed(succession, "cam-1")
    with pytest.raises(RotationRefused, match=r"cut off cam-2, cam-3: wait"):
        succession.take(Step.FINISH, system_clock())
    assert "wait for cam-2, cam-3" in succession.standing()["next"]
    outcome = succession.take(Step.FINISH, system_clock(), force=True)
    assert (outcome.stage, outcome.cut_off) == (None, ("cam-2", "cam-3"))


def test_a_removed_device_holds_nothing_up(
    hub_directory: HubDirectory, hub: HubServices, succession: Succession
) -> None:
    enrolled(hub, "cam-1")
    make(hub_directory)
    succession.take(Step.SWITCH, system_clock())
    with succession.storage.session() as session:
        session.get_one(Device, "cam-1").status = "revoked"
    assert succession.take(Step.FINISH, system_clock()).cut_off == ()


def test_both_steps_can_be_taken_back(
    hub_directory: HubDirectory, hub: HubServices, succession: Succession
) -> None:
    enrolled(hub, "cam-1")
    old = succession.authority.root_pem()
    make(hub_directory)
    succession.take(Step.SWITCH, system_clock())
    renewed(succession, "cam-1")
    assert succession.take(Step.UNDO, system_clock()).stage is Stage.MADE
    assert succession.authority.root_pem() == old
    with pytest.raises(RotationRefused, match="cam-1"):
        succession.take(Step.UNDO, system_clock())
    renewed(succession, "cam-1")
    assert succession.take(Step.UNDO, system_clock()).stage is None
    assert succession.authority.roots_pem() == old
    succession.settle()
    assert not (succession.authority.directory / "next").exists()


def test_an_end_that_was_cut_off_and_then_taken_back_leaves_no_former_ca(
    hub_directory: HubDirectory, succession: Succession
) -> None:
    """Its witness is of the CA that stays: the broker would be restarted for ever on its account"""
    make(hub_directory)
    succession.take(Step.SWITCH, system_clock())
    authority = succession.authority
    authority.keep_former(authority.signers()[0], system_clock())  # and the machine is gone
    succession.take(Step.UNDO, system_clock())
    assert not succession.standing()["former_believed"]


def test_a_former_ca_that_a_broker_has_not_given_up_is_remembered_on_the_way_to_the_next(
    hub_directory: HubDirectory, succession: Succession
) -> None:
    make(hub_directory)
    succession.take(Step.SWITCH, system_clock())
    succession.take(Step.FINISH, system_clock())
    make(hub_directory)
    succession.take(Step.SWITCH, system_clock())
    assert succession.standing()["former_believed"]


def test_a_next_ca_that_was_taken_back_is_one_to_be_given_up_too(
    hub_directory: HubDirectory, succession: Succession
) -> None:
    make(hub_directory)
    assert succession.take(Step.UNDO, system_clock()).stage is None
    assert succession.standing()["former_believed"]


def test_a_root_that_was_given_up_is_told_of_until_no_policy_names_it(
    hub_directory: HubDirectory, succession: Succession
) -> None:
    make(hub_directory)
    succession.take(Step.SWITCH, system_clock())
    assert not succession.standing()["former_named"]
    succession.take(Step.FINISH, system_clock())
    assert succession.standing()["former_named"]
    name_roots(hub_directory, "root.crt")
    assert not succession.standing()["former_named"]


def test_so_is_the_next_root_that_was_taken_back(
    hub_directory: HubDirectory, succession: Succession
) -> None:
    make(hub_directory)
    succession.take(Step.UNDO, system_clock())
    assert succession.standing()["former_named"]
    name_roots(hub_directory, "root.crt")
    assert not succession.standing()["former_named"]


def test_certificates_that_a_hub_of_before_gave_meanwhile_are_the_first_ca_s(
    hub_directory: HubDirectory, hub: HubServices, succession: Succession
) -> None:
    """Its program was replaced, and it runs on: it notes no issuer."""
    make(hub_directory)
    enrolled(hub, "cam-1")
    with succession.storage.session() as session:
        session.query(Certificate).update({"issuer": None})
    says(succession, "cam-1", targets=2)
    assert succession.standing()["on_old"] == 1
    first = succession.authority.signer().fingerprint
    succession.take(Step.SWITCH, system_clock())
    with succession.storage.reading() as session:
        assert newest_issuers(session) == {"cam-1": first}
    with pytest.raises(RotationRefused, match="cut off cam-1"):
        succession.take(Step.FINISH, system_clock())


def test_certificates_from_before_hubs_noted_their_issuer_are_the_first_ones(
    hub_directory: HubDirectory, hub: HubServices, succession: Succession
) -> None:
    enrolled(hub, "cam-1")
    with succession.storage.session() as session:
        session.query(Certificate).update({"issuer": None})
    first = succession.authority.signer().fingerprint
    make(hub_directory)
    with succession.storage.reading() as session:
        assert newest_issuers(session) == {"cam-1": first}


def test_where_it_stands_is_told(hub_directory: HubDirectory, succession: Succession) -> None:
    assert succession.standing()["stage"] is None
    make(hub_directory)
    told = succession.standing()
    assert (told["stage"], told["believed"], len(told["roots"])) == ("made", True, 2)
    assert told["next"] == "`outrider hub new-ca DIR --switch`"


class PowerCut(BaseException):
    """The machine is gone: nothing after this happens, no handler of errors included."""


@contextmanager
def cut_before(number: int) -> Iterator[list[str]]:
    """Power goes just before the change of the disk of that number; collects what was done."""
    done: list[str] = []
    names = ("replace", "unlink", "rmdir", "mkdir")
    real: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in names}

    def counted(name: str) -> Callable[..., Any]:
        def change(path: Any, *more: Any, **options: Any) -> Any:
            where = str(more[0] if name == "replace" else path)
            if "/ca/" not in where and "next" not in where and ".part-" not in where:
                return real[name](path, *more, **options)
            if len(done) == number:
                raise PowerCut
            done.append(f"{name} {where}")
            return real[name](path, *more, **options)

        return change

    with pytest.MonkeyPatch.context() as patch:
        for name in real:
            patch.setattr(os, name, counted(name))
        yield done


STEPS: dict[str, tuple[tuple[Step, ...], Callable[[Succession], Outcome], Stage | None]] = {
    "make": ((), lambda s: s.make("hub", system_clock()), Stage.MADE),
    "switch": ((), lambda s: s.take(Step.SWITCH, system_clock()), Stage.SWITCHED),
    "undo-switch": ((Step.SWITCH,), lambda s: s.take(Step.UNDO, system_clock()), Stage.MADE),
    "undo-make": ((), lambda s: s.take(Step.UNDO, system_clock()), None),
    "finish": ((Step.SWITCH,), lambda s: s.take(Step.FINISH, system_clock()), None),
}


@pytest.mark.parametrize("name", STEPS)
def test_power_may_go_at_every_change_of_the_disk(hub_directory: HubDirectory, name: str) -> None:
    """After each cut the hub has a whole CA, and the step taken again leads to where it should."""
    before, step, stage = STEPS[name]
    with succession_at(hub_directory.hub) as succession:
        if name != "make":
            make(hub_directory)
        for earlier in before:
            succession.take(earlier, system_clock())
        ends = _ends(succession.authority, name)
        for number in range(60):
            if _cut_off_at(succession, step, number):
                assert number > 0, "nothing was cut off"
                break
            succession.authority.signer()
            succession.settle()
            assert succession.authority.trusted_file.read_text() == (
                succession.authority.trusted_pem()
            )
            if succession.authority.stage() is stage and _ended(succession.authority, ends):
                return
        assert succession.authority.stage() is stage
        assert _ended(succession.authority, ends)


def _cut_off_at(succession: Succession, step: Callable[[Succession], Outcome], at: int) -> bool:
    """Whether the step came to its end."""
    try:
        with cut_before(at):
            step(succession)
    except PowerCut:
        return False
    return True


def _ends(authority: Authority, name: str) -> str:
    """The root that is to be served under afterwards; empty: any."""
    if name == "make":
        return authority.root_pem()
    following = name in ("switch", "finish")
    folder = authority.directory / "next" if following else authority.directory
    return (folder / "root.crt").read_text()


def _ended(authority: Authority, root: str) -> bool:
    return authority.root_pem() == root


def test_a_stranger_s_root_beside_the_policy_is_no_root_of_this_hub(
    hub_directory: HubDirectory, succession: Succession, tmp_path: Path
) -> None:
    """A hub whose files were replaced shows a third root: nothing that offline keys named."""
    make(hub_directory)
    third = Stranger(tmp_path / "third", "third root")
    (succession.authority.directory / "next" / "root.crt").write_text(third.pem)
    with pytest.raises(RotationRefused, match="both roots"):
        succession.take(Step.SWITCH, system_clock(), force=True)
