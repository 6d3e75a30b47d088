"""The device follows `policy/ca` to another CA: over a real broker that moves, with power cuts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.identity import CA, load_identity
from agent.roots import follow_policy
from agent.trust.guard import TrustedView
from contract.ids import digest_of
from converter.trust.custody import replace_roots
from tests.agent.daemon import Daemon, Fleet, eventually
from tests.agent.wire import Hub
from tests.mosquitto import Authority
from tests.trust.ceremony import PASSPHRASE

OFTEN = {"OUTRIDER_REFRESH_SECONDS": "0.5"}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """One of its own for each test: its broker moves."""
    found = Fleet(tmp_path / "fleet")
    yield found
    found.close()


@pytest.fixture
def new(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "new", "new root")


@pytest.fixture
def started() -> Iterator[list[Daemon]]:
    daemons: list[Daemon] = []
    yield daemons
    for daemon in daemons:
        if daemon.process.poll() is None:
            daemon.kill()


def start(started: list[Daemon], state: Path, **environment: str) -> Daemon:
    daemon = Daemon(state, "--no-server", **(environment or OFTEN))
    started.append(daemon)
    return daemon


def trust(fleet: Fleet, *authorities: Authority) -> None:
    """Offline keys name these roots, and the hub publishes that."""
    roots = [each.pem.encode() for each in authorities]
    replace_roots(fleet.world.keys, roots, lambda: PASSPHRASE, int(time.time() * 1000))
    fleet.world.import_trust()
    fleet.publish_trust()


def move(fleet: Fleet, to: Authority, *also: Authority) -> None:
    """The broker and the hub show certificates of this CA from now on."""
    fleet.hub.close()
    fleet.broker.move_to(to, also)
    fleet.hub = Hub(fleet.broker, to.client("hub"))
    fleet.publish_trust()


def trusted(state: Path) -> str:
    return (state / "identity" / CA).read_text()


def view(*roots: str) -> TrustedView:
    return TrustedView(hub_keys={}, releases={}, counters={}, versions={}, now_ms=0, ca_roots=roots)


def test_a_device_follows_its_fleet_from_one_ca_to_another(
    fleet: Fleet, state: Path, new: Authority, started: list[Daemon]
) -> None:
    old = fleet.authority
    fleet.enrolled(state, "pi-1")
    daemon = start(started, state)
    eventually(daemon.connected, 30)

    trust(fleet, old, new)
    eventually(lambda: trusted(state) == old.pem + new.pem, 30)
    eventually(lambda: daemon.status().get("connections", 0) >= 2, 30)
    eventually(daemon.connected, 30)

    move(fleet, new, old)
    eventually(daemon.connected, 30)

    trust(fleet, new)
    eventually(lambda: trusted(state) == new.pem, 30)
    eventually(daemon.connected, 30)
    assert daemon.stop() == 0


def test_a_refresh_that_an_assignment_causes_is_followed_like_any_other(
    fleet: Fleet, state: Path, new: Authority, started: list[Daemon]
) -> None:
    """The routine refresh may be hours away."""
    old = fleet.authority
    by = fleet.enrolled(state, "pi-10")
    release = fleet.publish(0)
    daemon = start(started, state, OUTRIDER_REFRESH_SECONDS="3600")
    eventually(lambda: any(each.tuf_versions for each in fleet.states("pi-10", by)), 30)

    trust(fleet, old, new)
    fleet.assign("pi-10", release)

    eventually(lambda: trusted(state) == old.pem + new.pem, 30)
    eventually(lambda: daemon.status().get("connections", 0) >= 2, 30)
    eventually(lambda: fleet.states("pi-10", by)[-1].tuf_versions.get("targets") == 2, 30)


def test_the_old_ca_is_no_longer_believed_once_the_policy_drops_it(
    fleet: Fleet, state: Path, new: Authority, started: list[Daemon]
) -> None:
    old = fleet.authority
    fleet.enrolled(state, "pi-2")
    follow_policy(load_identity(state), view(new.pem))

    daemon = start(started, state)

    eventually(lambda: "verify failed" in daemon.status().get("connection_error", ""), 30)
    move(fleet, new, old)
    eventually(daemon.connected, 30)


def test_a_device_that_was_off_follows_while_the_old_ca_is_still_served(
    fleet: Fleet, state: Path, new: Authority, started: list[Daemon]
) -> None:
    old = fleet.authority
    fleet.enrolled(state, "pi-3")
    trust(fleet, old, new)

    daemon = start(started, state)

    eventually(lambda: trusted(state) == old.pem + new.pem, 30)
    move(fleet, new, old)
    eventually(daemon.connected, 30)


def test_a_device_that_was_off_for_the_whole_window_is_out_until_the_old_ca_is_served_again(
    fleet: Fleet, state: Path, new: Authority, started: list[Daemon]
) -> None:
    old = fleet.authority
    fleet.enrolled(state, "pi-4")
    trust(fleet, old, new)
    move(fleet, new, old)

    daemon = start(started, state)
    eventually(lambda: "verify failed" in daemon.status().get("connection_error", ""), 30)
    assert trusted(state) == old.pem

    move(fleet, old, new)
    eventually(lambda: trusted(state) == old.pem + new.pem, 30)
    move(fleet, new, old)
    eventually(daemon.connected, 30)


@pytest.mark.parametrize("torn", [b"", b"-----BEGIN CERTIFICATE-----\nMIIB"])
def test_roots_that_a_power_cut_tore_are_written_again_without_the_network(
    fleet: Fleet, state: Path, new: Authority, started: list[Daemon], torn: bytes
) -> None:
    """With them torn, no network could be had."""
    old = fleet.authority
    fleet.enrolled(state, "pi-5")
    trust(fleet, old, new)
    first = start(started, state)
    eventually(lambda: trusted(state) == old.pem + new.pem, 30)
    first.kill()
    (state / "identity" / CA).write_bytes(torn)

    again = start(started, state)

    eventually(again.connected, 30)
    assert trusted(state) == old.pem + new.pem


def test_a_power_cut_between_the_view_and_the_roots_loses_nothing(
    fleet: Fleet, state: Path, new: Authority, started: list[Daemon]
) -> None:
    old = fleet.authority
    fleet.enrolled(state, "pi-6")
    trust(fleet, old, new)
    first = start(started, state)
    eventually(lambda: trusted(state) == old.pem + new.pem, 30)
    first.kill()
    # As it was before the rename, with what the cut left beside it.
    (state / "identity" / CA).write_text(old.pem)
    (state / "identity" / f"{CA}.new").write_text(new.pem[:100])
    move(fleet, new, old)

    eventually(start(started, state).connected, 30)
    assert trusted(state) == old.pem + new.pem


def test_a_policy_that_names_no_root_leaves_the_ones_that_are_there(
    fleet: Fleet, state: Path
) -> None:
    fleet.enrolled(state, "pi-7")
    before = trusted(state)

    assert not follow_policy(load_identity(state), view())

    assert trusted(state) == before


def test_the_same_roots_are_not_written_again(fleet: Fleet, state: Path) -> None:
    fleet.enrolled(state, "pi-8")
    file = state / "identity" / CA
    before = file.stat().st_ino

    assert not follow_policy(load_identity(state), view(trusted(state)))

    assert (file.stat().st_ino, digest_of(file.read_bytes())) == (
        before,
        digest_of(fleet.authority.pem.encode()),
    )


def test_an_identity_that_was_read_before_sees_the_new_roots(
    fleet: Fleet, state: Path, new: Authority
) -> None:
    """The link and the renewal hold one for the whole life of the process."""
    fleet.enrolled(state, "pi-9")
    identity = load_identity(state)

    assert follow_policy(identity, view(fleet.authority.pem, new.pem))

    assert identity.ca_pem == fleet.authority.pem + new.pem
    loaded = identity.tls_context(clock_is_wrong=False).get_ca_certs()
    assert len(loaded) == 2
