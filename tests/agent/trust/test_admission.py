"""Assignments, commands and releases: genuine is not yet fitting."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.errors import (
    DeviceError,
    Incompatible,
    Malformed,
    PolicyRefused,
    RollbackDetected,
    Untrusted,
)
from agent.trust.admission import MAX_SEQ_LEAP, admit, check_assignment, check_command
from agent.trust.view import TrustedRelease, TrustedView
from contract.envelope import Envelope, PrivateKey, key_id, seal
from contract.messages import Assignment, Command, FamilyAssignment, Verb
from contract.targets import ReleaseCustom

HUB = Ed25519PrivateKey.generate()
NOW = 1_800_000_000_000
DIGEST = "ab" * 32
VIEW = TrustedView(
    hub_keys={key_id(HUB.public_key()): HUB.public_key()},
    releases={},
    counters={},
    versions={},
    now_ms=NOW,
)
WANTED = FamilyAssignment(target="digits/2", digest=DIGEST, rollout="r1")


def assignment(key: PrivateKey = HUB, **changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "device": "cam-1",
        "seq": 7,
        "issued_at_ms": NOW,
        "expires_at_ms": NOW + 1,
        "families": {"digits": WANTED},
    }
    return seal(Assignment(**fields | changes), key)


def command(key: PrivateKey = HUB, **changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "device": "cam-1",
        "id": "c1",
        "verb": Verb.REPORT,
        "issued_at_ms": NOW,
        "expires_at_ms": NOW + 1,
    }
    return seal(Command(**fields | changes), key)


def test_the_hub_s_assignment_for_this_device_is_opened() -> None:
    assert check_assignment(assignment(), VIEW, "cam-1", 6).families["digits"] == WANTED


def test_a_hub_that_was_restored_may_leap_ahead_a_little() -> None:
    leapt = assignment(seq=7 + MAX_SEQ_LEAP)
    assert check_assignment(leapt, VIEW, "cam-1", 7).seq == 7 + MAX_SEQ_LEAP


def test_the_same_assignment_may_come_again() -> None:
    assert check_assignment(assignment(), VIEW, "cam-1", 7).seq == 7


@pytest.mark.parametrize(
    ("data", "device", "known", "kind"),
    [
        (assignment(Ed25519PrivateKey.generate()), "cam-1", 0, Untrusted),
        (assignment(), "cam-2", 0, PolicyRefused),
        (assignment(expires_at_ms=NOW), "cam-1", 0, PolicyRefused),
        (assignment(), "cam-1", 8, RollbackDetected),
        (assignment(seq=8 + MAX_SEQ_LEAP), "cam-1", 7, PolicyRefused),
        (assignment(families={"words": WANTED}), "cam-1", 0, Malformed),
        (assignment().replace(b"payload", b"payl0ad"), "cam-1", 0, Malformed),
        (command(), "cam-1", 0, Malformed),
        (b"", "cam-1", 0, Malformed),
        (b"{" * 1_000_000, "cam-1", 0, Malformed),
    ],
    ids=[
        "forged",
        "foreign",
        "expired",
        "replayed",
        "leaping",
        "family-mismatch",
        "broken",
        "command-as-assignment",
        "empty",
        "bomb",
    ],
)
def test_an_assignment_is_refused_by_its_class(
    data: bytes, device: str, known: int, kind: type[DeviceError]
) -> None:
    with pytest.raises(kind) as caught:
        check_assignment(data, VIEW, device, known)
    assert caught.type is kind


def test_an_assignment_whose_signature_is_for_other_bytes_is_untrusted() -> None:
    ours = msgspec.json.decode(assignment(), type=Envelope)
    other = msgspec.json.decode(assignment(seq=9), type=Envelope)
    forged = msgspec.structs.replace(other, signatures=ours.signatures)

    with pytest.raises(Untrusted):
        check_assignment(msgspec.json.encode(forged), VIEW, "cam-1", 0)


def test_a_key_that_was_taken_back_assigns_nothing() -> None:
    empty = TrustedView(hub_keys={}, releases={}, counters={}, versions={}, now_ms=NOW)

    with pytest.raises(Untrusted):
        check_assignment(assignment(), empty, "cam-1", 0)


def test_the_hub_s_command_is_opened() -> None:
    assert check_command(command(), VIEW, "cam-1").verb is Verb.REPORT


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (command(Ed25519PrivateKey.generate()), Untrusted),
        (command(device="cam-2"), PolicyRefused),
        (command(expires_at_ms=NOW - 1), PolicyRefused),
        (assignment(), Malformed),
    ],
    ids=["forged", "foreign", "expired", "assignment-as-command"],
)
def test_a_command_is_refused_by_its_class(data: bytes, kind: type[DeviceError]) -> None:
    with pytest.raises(kind):
        check_command(data, VIEW, "cam-1")


def release(**changes: Any) -> TrustedRelease:
    fields: dict[str, Any] = {"family": "digits", "counter": 2} | changes
    return TrustedRelease("digits/2", DIGEST, 100, ReleaseCustom(**fields))


def test_a_release_for_every_class_is_admitted_everywhere() -> None:
    admit(release(), WANTED, "pi4", 2, "0.1.0")


def test_a_release_for_this_class_is_admitted() -> None:
    admit(release(device_classes=["orin", "pi4"]), WANTED, "pi4", 0)


@pytest.mark.parametrize(
    ("found", "floor", "kind", "words"),
    [
        (release(device_classes=["orin"]), 0, PolicyRefused, "is for orin; this is pi4"),
        (release(counter=2), 3, PolicyRefused, "counter 2; the family's floor is 3"),
        (release(min_agent="9.0"), 0, Incompatible, "needs agent 9.0"),
    ],
    ids=["class", "floor", "agent"],
)
def test_a_release_that_does_not_belong_here_says_why(
    found: TrustedRelease, floor: int, kind: type[DeviceError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        admit(found, WANTED, "pi4", floor, "0.1.0")


def test_an_assigned_digest_that_nobody_signed_is_untrusted() -> None:
    other = FamilyAssignment(target="digits/2", digest="cd" * 32, rollout="r1")

    with pytest.raises(Untrusted, match="assigned as cdcd"):
        admit(release(), other, "pi4", 0)
