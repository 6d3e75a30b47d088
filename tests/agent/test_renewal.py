"""Renewal by the device, against the real hub over HTTPS: by itself, in time, and long after it."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509

from agent.certificates import key_pem, lifetime, new_key
from agent.enrol import enroll
from agent.errors import TransportFailed, Untrusted
from agent.hub_https import AnotherHub, NotAnAddress, post
from agent.identity import Identity, load_identity
from agent.link.tls import trust_only
from agent.renewal import LOST_S, Asker, Life, Renewal, RenewalFailed, Renewed
from contract.enrolment import encode_enrolment
from fleet.assembly import RunningHub, run_hub, system_clock
from fleet.ca import DAY_MS, Authority
from fleet.certificates import remember_certificate
from fleet.devices import add_device, remove_device
from fleet.ports import HubServices
from fleet.rotation import Step
from fleet.setup import certificate_hosts, succession_at
from fleet.storage.schema import Certificate
from tests.agent.daemon import Daemon, eventually
from tests.fleet.authorities import make
from tests.fleet.conftest import hub_directory, hub_template
from tests.fleet.harness import HubDirectory, over_https, until
from tests.mosquitto import Authority as OtherAuthority
from tests.mosquitto import free_port

__all__ = ["hub_directory", "hub_template"]


@dataclass
class World:
    """A hub and a device of it, both at a time that the test sets."""

    hub: HubServices
    now: list[int]
    state: Path

    def identity(self) -> Identity:
        return load_identity(self.state)

    def asker(self, clock_is_wrong: bool = False, off_ms: int = 0) -> Asker:
        return Asker(self.identity(), lambda: self.now[0] + off_ms, lambda: clock_is_wrong)

    def days(self, count: float) -> None:
        self.now[0] += int(count * DAY_MS)

    def certificate(self) -> bytes:
        return (self.state / "identity" / "device.crt").read_bytes()


@pytest.fixture
def world(hub_directory: HubDirectory, tmp_path: Path) -> Iterator[World]:
    now = [system_clock()]
    with hub_directory.at_rest(lambda: now[0]) as hub, over_https(hub):
        enrol_here(hub, tmp_path, now[0])
        yield World(hub, now, tmp_path / "state")


def enrol_here(hub: HubServices, directory: Path, now_ms: int) -> None:
    file = directory / "cam-1.json"
    file.write_bytes(encode_enrolment(add_device(hub, "cam-1", "generic", {})))
    file.chmod(0o600)
    enroll(file, directory / "state", clock=lambda: now_ms)


def test_a_due_certificate_is_replaced_by_a_newer_one_of_the_same_key(world: World) -> None:
    key = (world.state / "identity" / "device.key").read_bytes()
    _, before_ms = lifetime(world.certificate().decode())
    world.days(61)
    assert world.asker().renew()
    _, after_ms = lifetime(world.certificate().decode())
    assert after_ms - before_ms == 61 * DAY_MS
    assert (world.state / "identity" / "device.key").read_bytes() == key
    names = {path.name for path in (world.state / "identity").iterdir()}
    assert names == {"device.key", "device.crt", "ca.pem", "enrolment.json"}
    mode = (world.state / "identity" / "device.key").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


def test_before_that_the_hub_gives_the_same_one_and_nothing_is_written(world: World) -> None:
    before = world.certificate()
    world.days(10)
    assert not world.asker().renew()
    assert world.certificate() == before


def test_an_expired_certificate_is_renewed_after_months_off(world: World) -> None:
    world.days(90 + 120)
    assert world.asker().renew()
    _, end_ms = lifetime(world.certificate().decode())
    assert end_ms > world.now[0]


def test_a_clock_that_stands_at_the_floor_renews_with_the_hubs_time(world: World) -> None:
    """A board without a battery, off for months, thinks that it was switched off just now."""
    world.days(120)
    assert world.asker(clock_is_wrong=True, off_ms=-120 * DAY_MS).renew()


def test_a_removed_device_is_told_and_keeps_its_files(world: World) -> None:
    remove_device(world.hub, "cam-1")
    before = world.certificate()
    world.days(61)
    with pytest.raises(RenewalFailed, match="no certificate for this key"):
        world.asker().renew()
    assert world.certificate() == before


def test_a_hub_of_another_ca_is_not_asked(world: World, tmp_path: Path) -> None:
    other = OtherAuthority(tmp_path / "other")
    (world.state / "identity" / "ca.pem").write_text(other.pem)
    for clock_is_wrong in (False, True):
        with pytest.raises(AnotherHub):
            world.asker(clock_is_wrong).renew()


def test_a_damaged_certificate_file_is_replaced(world: World) -> None:
    (world.state / "identity" / "device.crt").write_bytes(b"")
    asker = world.asker()
    assert renewal(asker, []).ends_ms is None
    assert asker.renew()
    assert lifetime(world.certificate().decode())


def test_a_hub_that_gives_a_certificate_for_another_key_is_refused(world: World) -> None:
    """The file of the key was put in place from elsewhere: the two would not go together."""
    world.days(61)
    other = new_key()
    authority = Authority(world.hub.directory / "ca")
    with world.hub.storage.session() as session:
        row = session.query(Certificate).one()
        row.chain_pem = authority.issue_device("cam-1", other.public_key(), 0).chain_pem
        row.not_after_ms = world.now[0] + 80 * DAY_MS
    before = world.certificate()
    with pytest.raises(Untrusted, match="another key"):
        world.asker().renew()
    assert world.certificate() == before


def test_neither_key_nor_secret_is_in_what_is_sent_or_said(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    world.days(61)
    world.asker().renew()
    pem = key_pem(world.identity().key).decode()
    assert pem.splitlines()[1] not in caplog.text
    assert "PRIVATE" not in caplog.text


def test_nobody_answering_is_worth_another_try(world: World) -> None:
    context = trust_only(world.identity().ca_pem, clock_is_wrong=False)
    with pytest.raises(TransportFailed):
        post(f"https://localhost:{free_port()}", "/x", context, b"")
    with pytest.raises(NotAnAddress):
        post("https://localhost:none", "/x", context, b"")


@pytest.mark.parametrize(
    ("day", "chance", "due"),
    [(59, 0.0, False), (60, 0.0, True), (60, 0.99, False), (63, 0.99, True), (400, 0.5, True)],
)
def test_it_is_due_from_two_thirds_of_its_life_on_spread_over_days(
    day: int, chance: float, due: bool
) -> None:
    life = Life(0, 90 * DAY_MS)
    assert life.is_due(day * DAY_MS, chance) is due


class Fixed(Asker):
    """An asker whose certificate's life the test sets, and which only counts."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self.asked = 0

    def life(self) -> Life:
        return self._life

    def renew(self) -> bool:
        self.asked += 1
        raise TransportFailed("nobody there")


def renewal(asker: Asker, posted: list[Renewed], spread_s: float = 0.0) -> Renewal:
    return Renewal(asker, posted.append, now_s=0.0, spread_s=spread_s, chance=lambda: 0.5)


def test_failures_back_off_and_are_told() -> None:
    asker, posted = Fixed(Life(0, 100)), list[Renewed]()
    it = renewal(asker, posted)
    now_s, waits = 0.0, []
    for count in range(1, 6):
        it.tick(now_s, 1_000, connected=True)
        it.stop()
        assert asker.asked == count
        assert not it.renewed(posted[-1], now_s)
        started = now_s
        while it._not_before_s > now_s:
            it.tick(now_s, 1_000, connected=True)
            now_s += 15
        waits.append(now_s - started)
    assert it.last_error == "nobody there"
    assert waits == [45, 90, 180, 360, 720]


def test_a_long_loss_of_the_connection_is_a_reason_to_ask() -> None:
    """Without a clock, a device cannot know that its certificate has ended."""
    asker, posted = Fixed(Life(0, 90 * DAY_MS)), list[Renewed]()
    it = renewal(asker, posted)
    it.tick(10.0, 0, connected=True)
    it.tick(10.0 + LOST_S - 1, 0, connected=False)
    assert asker.asked == 0
    it.tick(10.0 + LOST_S, 0, connected=False)
    it.stop()
    assert asker.asked == 1


def test_a_fleet_that_got_its_power_back_does_not_ask_at_once() -> None:
    asker = Fixed(Life(0, 100))
    it = renewal(asker, [], spread_s=600.0)
    it.tick(299.0, 1_000, connected=False)
    assert asker.asked == 0
    it.tick(300.0, 1_000, connected=False)
    it.stop()
    assert asker.asked == 1


def test_the_hub_s_word_makes_it_due_until_the_hub_has_answered() -> None:
    asker, posted = Fixed(Life(0, 90 * DAY_MS)), list[Renewed]()
    it = renewal(asker, posted)
    it.ask()
    it.tick(1.0, 0, connected=True)
    it.stop()
    assert asker.asked == 1
    it.renewed(posted[-1], 1.0)
    it.tick(2.0, 0, connected=True)
    assert asker.asked == 1, "it failed, and tries again later"
    it.tick(100.0, 0, connected=True)
    it.stop()
    assert asker.asked == 2
    it.renewed(Renewed(newer=False), 100.0)
    it.tick(100_000.0, 0, connected=True)
    assert asker.asked == 2


def test_a_certificate_of_the_next_ca_is_taken_though_it_ends_no_later(
    world: World, hub_directory: HubDirectory
) -> None:
    """Enrolled in the very second of the switch."""
    make(hub_directory)
    before = world.certificate()
    roots = Authority(world.hub.directory / "ca").roots_pem()
    (world.state / "identity" / "ca.pem").write_text(roots)
    with succession_at(world.hub.directory) as succession:
        succession.take(Step.SWITCH, world.now[0])
    assert world.asker().renew()
    assert lifetime(world.certificate().decode()) == lifetime(before.decode())
    assert world.certificate() != before
    assert not world.asker().renew(), "and then it is there"


def test_it_is_taken_also_when_the_clock_of_the_hub_ran_ahead_before(
    world: World, hub_directory: HubDirectory
) -> None:
    """The certificate of the former CA ends later: with it the device would be left behind."""
    make(hub_directory)
    world.days(61)
    assert world.asker().renew()
    _, late_ms = lifetime(world.certificate().decode())
    world.days(-61)
    roots = Authority(world.hub.directory / "ca").roots_pem()
    (world.state / "identity" / "ca.pem").write_text(roots)
    with succession_at(world.hub.directory) as succession:
        succession.take(Step.SWITCH, world.now[0])
    assert world.asker().renew()
    _, end_ms = lifetime(world.certificate().decode())
    assert end_ms < late_ms


def test_a_device_that_knows_the_new_root_fetches_its_certificate_after_the_end_too(
    hub_directory: HubDirectory, tmp_path: Path
) -> None:
    """The broker refuses its old one; a request for another needs none."""
    now = [system_clock()]
    with hub_directory.at_rest(lambda: now[0]) as hub:
        make(hub_directory)
        with over_https(hub):
            enrol_here(hub, tmp_path, now[0])
        world = World(hub, now, tmp_path / "state")
        with succession_at(hub.directory) as succession:
            succession.take(Step.SWITCH, now[0])
            assert succession.take(Step.FINISH, now[0], force=True).cut_off == ("cam-1",)
            authority = succession.authority
            authority.issue_own(certificate_hosts(hub.config), now[0])
        with over_https(hub):
            assert world.asker().renew()
        leaf = x509.load_pem_x509_certificate(world.certificate())
        assert leaf.issuer == authority.signer().certificate.subject


def test_one_of_a_root_that_this_device_does_not_know_is_refused(
    world: World, hub_directory: HubDirectory
) -> None:
    """It hears the hub over the bridge, but believes what policy/ca says alone."""
    make(hub_directory)
    before = world.certificate()
    with succession_at(world.hub.directory) as succession:
        succession.take(Step.SWITCH, world.now[0])
    with pytest.raises(Untrusted, match="does not lead to a CA"):
        world.asker().renew()
    assert world.certificate() == before


def outdated(hub: HubServices, state: Path) -> None:
    """The device's only certificate ended weeks ago."""
    authority = Authority(hub.directory / "ca")
    key = load_identity(state).key.public_key()
    issued = authority.issue_device("cam-1", key, system_clock() - 120 * DAY_MS)
    with hub.storage.session() as session:
        session.query(Certificate).delete()
        remember_certificate(session, "cam-1", issued)
    (state / "identity" / "device.crt").write_text(issued.chain_pem)


@pytest.fixture
def running(hub_directory: HubDirectory) -> Iterator[RunningHub]:
    with run_hub(hub_directory.hub) as hub, over_https(hub.services):
        until((hub_directory.hub / "run" / "epoch").exists)
        yield hub


def test_a_daemon_that_was_off_for_months_comes_back_by_itself(
    running: RunningHub, tmp_path: Path
) -> None:
    hub = running.services
    enrol_here(hub, tmp_path, system_clock())
    state = tmp_path / "state"
    outdated(hub, state)
    daemon = Daemon(state, "--no-server")
    try:
        eventually(daemon.connected, 30)
        status = daemon.status()
        assert status["certificate_ends_ms"] > system_clock() + 89 * DAY_MS
        leaf = x509.load_pem_x509_certificates((state / "identity" / "device.crt").read_bytes())[0]
        with hub.storage.reading() as session:
            serials = {row.serial for row in session.query(Certificate)}
        assert f"{leaf.serial_number:x}" in serials
    finally:
        daemon.stop()


def test_a_connected_daemon_renews_and_connects_anew_with_it(
    running: RunningHub, tmp_path: Path
) -> None:
    hub = running.services
    enrol_here(hub, tmp_path, system_clock())
    state = tmp_path / "state"
    authority = Authority(hub.directory / "ca")
    key = load_identity(state).key.public_key()
    issued = authority.issue_device("cam-1", key, system_clock() - 70 * DAY_MS)
    with hub.storage.session() as session:
        session.query(Certificate).delete()
        remember_certificate(session, "cam-1", issued)
    (state / "identity" / "device.crt").write_text(issued.chain_pem)
    daemon = Daemon(state, "--no-server", OUTRIDER_REFRESH_SPREAD_SECONDS="1.5")
    try:
        eventually(daemon.connected, 30)
        eventually(
            lambda: (
                daemon.connected()
                and daemon.status()["certificate_ends_ms"] > system_clock() + 89 * DAY_MS
                and daemon.status()["connections"] >= 2
            ),
            30,
        )
    finally:
        daemon.stop()
