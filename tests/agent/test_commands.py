"""Commands: at most once each, over restarts too, and every one answered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from agent.commands import Commands
from agent.delivery import Delivery
from agent.errors import PolicyRefused
from agent.link.connection import Connection, Endpoint
from agent.outbox import Outbox
from agent.stamps import Stamper
from agent.uplink import Speaker, Uplink
from contract.deployments import Cause
from contract.envelope import key_id, open_sealed
from contract.messages import Command, Hardware, Reply, Verb

KEY = ec.generate_private_key(ec.SECP256R1())
BOOT = "b" * 32


class Deployer:
    """Notes what it is asked; refuses a family called `empty`."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def rollback(self, family: str, cause: Cause = Cause.OPERATOR, detail: str = "") -> None:
        if family == "empty":
            raise PolicyRefused("no earlier release")
        self.asked.append(("rollback", family))

    def release_hold(self, family: str) -> None:
        self.asked.append(("release", family))


class Device:
    def __init__(self, path: Path) -> None:
        self.outbox = Outbox(path)
        stamper = Stamper(BOOT, lambda: 5_000, lambda: 1_000, lambda: 7)
        self.speaker = Speaker("pi-1", "5" * 32, "0", KEY, Hardware(machine="x"), stamper)
        self.uplink = Uplink(self.speaker, unconnected(self.speaker), self.outbox, Delivery())
        self.deployer = Deployer()
        self.reports: list[int] = []
        self.renewals: list[int] = []
        self.commands = Commands(
            self.outbox,
            self.uplink,
            self.deployer,
            lambda: self.reports.append(1),
            lambda: self.renewals.append(1),
        )

    def replies(self) -> list[Reply]:
        public = KEY.public_key()
        found = [
            open_sealed((Reply,), row.payload, {key_id(public): public})
            for row in self.outbox.oldest(100)
        ]
        return [reply for reply in found if isinstance(reply, Reply)]


def unconnected(speaker: Speaker) -> Connection:
    def no_context() -> object:
        raise OSError("never started")

    end = Endpoint("localhost", 1, "pi-1", no_context, speaker.death())  # type: ignore[arg-type]  # never called
    return Connection(end, lambda _topic, _payload: None)


def command(
    name: str = "c-1", verb: Verb = Verb.ROLLBACK, family: str | None = "digits"
) -> Command:
    return Command(
        device="pi-1", id=name, verb=verb, family=family, issued_at_ms=0, expires_at_ms=10_000
    )


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path / "outbox.sqlite")


def test_a_command_is_done_and_answered_under_its_own_number(device: Device) -> None:
    assert device.commands.carry_out(command())
    assert device.deployer.asked == [("rollback", "digits")]
    (reply,) = device.replies()
    assert (reply.command, reply.ok, reply.seq, reply.stamp.boot) == ("c-1", True, 1, BOOT)


def test_the_same_command_again_does_nothing(device: Device) -> None:
    device.commands.carry_out(command())
    assert not device.commands.carry_out(command())
    assert len(device.deployer.asked) == 1
    assert len(device.replies()) == 1


def test_not_even_after_a_restart_and_an_ack(device: Device, tmp_path: Path) -> None:
    device.commands.carry_out(command())
    device.outbox.acknowledge(BOOT, [1])
    device.outbox.close()
    again = Device(tmp_path / "outbox.sqlite")
    assert not again.commands.carry_out(command())
    assert again.deployer.asked == []


def test_what_is_refused_is_answered_with_its_reason(device: Device) -> None:
    device.commands.carry_out(command(family="empty"))
    (reply,) = device.replies()
    assert (reply.ok, reply.detail) == (False, "no earlier release")


def test_a_command_that_lacks_its_family_is_answered(device: Device) -> None:
    device.commands.carry_out(command(family=None))
    assert "needs a family" in device.replies()[0].detail


@pytest.mark.parametrize(
    ("verb", "look"),
    [
        (Verb.RENEW, lambda d: d.renewals == [1]),
        (Verb.REPORT, lambda d: d.reports == [1]),
        (Verb.RELEASE_HOLD, lambda d: d.deployer.asked == [("release", "digits")]),
    ],
    ids=["renew", "report", "release-hold"],
)
def test_each_verb_reaches_its_part(
    device: Device, verb: Verb, look: Callable[[Device], bool]
) -> None:
    device.commands.carry_out(command(verb=verb))
    assert look(device)
    assert device.replies()[0].ok


def test_a_command_stays_taken_when_the_clock_ran_ahead_of_it_and_was_put_right(
    device: Device,
) -> None:
    """The broker may send what it has kept; its expiry alone is no protection then."""
    old = command("c-1")
    assert device.commands.carry_out(old)
    later = msgspec.structs.replace(command("c-2"), expires_at_ms=old.expires_at_ms + 86_400_000)
    assert device.commands.carry_out(later)
    assert not device.commands.carry_out(old)
