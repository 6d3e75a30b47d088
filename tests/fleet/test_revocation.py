"""Revocation at a real Mosquitto: kept out, put out, and never everybody."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from contract.topics import Channel
from fleet import revocation
from fleet.api.problems import REVOCATION_LOW_MS
from fleet.assembly import RunningHub, run_hub, system_clock
from fleet.broker import BrokerChild, write_broker_files
from fleet.broker_files import BrokerFiles, revocation_file
from fleet.ca import DAY_MS, Authority
from fleet.config import read_config
from fleet.crl import CRL_DAYS, crl_pem, issuer_of, read_crl, read_lists
from fleet.devices import remove_device
from fleet.files import write_whole
from fleet.issuing import key_pem
from fleet.ports import HubServices
from fleet.revocation import STANDING_FILE, Revocation, covers, refresh_list, standing
from fleet.rotation import Step
from fleet.setup import succession_at
from fleet.storage.schema import Certificate, Device
from fleet.takeover import Broker, TakeoverFailed, end_session, is_refused
from tests.fleet.authorities import make
from tests.fleet.harness import Device as Voice
from tests.fleet.harness import HubDirectory, connected, enrolled, until
from tests.mosquitto import free_port


def at(hub: HubServices) -> Broker:
    return Broker(hub.config.broker_host, hub.config.broker_port)


def kept_out(hub: HubServices, device: Voice) -> bool:
    authority = Authority(hub.directory / "ca")
    return is_refused(at(hub), authority, device.chain_pem.encode(), key_pem(device.key))


def says(hub: HubServices) -> dict[str, object]:
    with hub.storage.reading() as session:
        return standing(hub, session)


def serial(hub: HubServices, name: str) -> str:
    with hub.storage.reading() as session:
        return session.query(Certificate).filter_by(device=name).one().serial


def test_a_live_session_of_a_removed_device_ends_and_does_not_come_back(
    running: RunningHub, tmp_path: Path
) -> None:
    hub = running.services
    removed, good = enrolled(hub, "cam-1"), enrolled(hub, "cam-2")
    with connected(hub, removed, tmp_path) as gone, connected(hub, good, tmp_path) as other:
        until(lambda: gone.client.is_connected() and other.client.is_connected())
        lost: list[str] = []
        other.client.on_disconnect = lambda *_: lost.append("cam-2")

        remove_device(hub, "cam-1")

        until(lambda: not gone.client.is_connected())
        until(lambda: says(hub)["sessions_since_ms"] is None)
        assert kept_out(hub, removed)
        assert not kept_out(hub, good)
        assert other.client.is_connected()
        assert lost == []
    assert serial(hub, "cam-1") in read_crl(revocation_file(hub.directory).read_bytes()).serials


def test_the_will_of_a_removed_device_is_cleared_from_the_broker(
    running: RunningHub, tmp_path: Path
) -> None:
    hub = running.services
    removed, other = enrolled(hub, "cam-1"), enrolled(hub, "cam-2")
    with connected(hub, removed, tmp_path) as gone:
        gone.say(Channel.PRESENCE, removed.birth(), retain=True)
        remove_device(hub, "cam-1")
        until(lambda: says(hub)["sessions_since_ms"] is None)

    def settled() -> bool:
        with hub.storage.reading() as session:
            return session.get_one(Device, "cam-1").published_epoch is not None

    until(settled)
    assert not kept_out(hub, other)


def test_the_broker_of_a_running_hub_is_known_to_heed_the_list(running: RunningHub) -> None:
    hub = running.services
    until(lambda: says(hub)["enforced"] is True)
    assert says(hub)["revoked"] == 0


def test_the_hubs_own_connection_outlives_every_reload(running: RunningHub) -> None:
    hub = running.services
    since = hub.link.status().connected_since_ms
    for name in ("cam-1", "cam-2"):
        enrolled(hub, name)
        remove_device(hub, name)
        until(lambda: says(hub)["sessions_since_ms"] is None)
    assert hub.link.status().connected_since_ms == since


def test_an_expired_list_would_lock_good_devices_out_so_it_is_never_left_to_expire(
    running: RunningHub,
) -> None:
    """Both halves: what Mosquitto does with an old list, and that the hub replaces one."""
    hub = running.services
    good = enrolled(hub, "cam-1")
    assert running.broker is not None
    authority = Authority(hub.directory / "ca")
    old = crl_pem(authority.signer(), (), system_clock() - (CRL_DAYS + 1) * DAY_MS)
    write_whole(revocation_file(hub.directory), old)
    running.broker.reload()
    until(lambda: kept_out(hub, good))

    assert refresh_list(hub, system_clock())
    running.broker.reload()
    until(lambda: not kept_out(hub, good))


@pytest.fixture
def files(hub: HubServices) -> BrokerFiles:
    return write_broker_files(hub.directory, hub.config)


def test_the_list_is_made_anew_each_day_long_before_it_ends(hub: HubServices) -> None:
    now_ms = system_clock()
    assert refresh_list(hub, now_ms)
    assert not refresh_list(hub, now_ms + DAY_MS - 1)
    assert refresh_list(hub, now_ms + DAY_MS)
    ends_ms = says(hub)["ends_ms"]
    assert isinstance(ends_ms, int)
    assert ends_ms > now_ms + REVOCATION_LOW_MS + 7 * DAY_MS, "the alarm comes long after that"


def test_a_clock_that_was_put_back_makes_the_list_anew(hub: HubServices) -> None:
    now_ms = system_clock()
    assert refresh_list(hub, now_ms + 30 * DAY_MS)
    assert refresh_list(hub, now_ms)


@pytest.mark.parametrize("content", [b"", b"no list", b"-----BEGIN X509 CRL-----\nAAAA\n"])
def test_a_damaged_list_is_made_anew(hub: HubServices, content: bytes) -> None:
    refresh_list(hub, system_clock())
    revocation_file(hub.directory).write_bytes(content)
    assert says(hub)["ends_ms"] is None
    assert refresh_list(hub, system_clock())
    assert says(hub)["ends_ms"] is not None


def test_a_witness_that_is_not_on_the_list_is_replaced(hub: HubServices) -> None:
    """Power went between the two files."""
    refresh_list(hub, system_clock())
    before = revocation_file(hub.directory).read_bytes()
    refresh_list(hub, system_clock() + DAY_MS)
    write_whole(revocation_file(hub.directory), before)
    assert refresh_list(hub, system_clock())


def test_ended_certificates_leave_the_list(hub: HubServices) -> None:
    enrolled(hub, "cam-1")
    remove_device(hub, "cam-1")
    now_ms = system_clock()
    refresh_list(hub, now_ms)
    assert says(hub)["revoked"] == 1
    refresh_list(hub, now_ms + 92 * DAY_MS)
    assert says(hub)["revoked"] == 0


def test_list_and_witness_are_private(hub: HubServices) -> None:
    refresh_list(hub, system_clock())
    certificate, key = Authority(hub.directory / "ca").pair("witness")
    for path in (revocation_file(hub.directory), certificate, key):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


class Waits:
    """Counts the waiting and does none."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, _seconds: float) -> None:
        self.count += 1


@pytest.fixture
def deaf(hub: HubServices, files: BrokerFiles) -> Iterator[tuple[HubServices, BrokerChild]]:
    """A broker of its own, which nobody tells to read anything again."""
    refresh_list(hub, hub.clock())
    child = BrokerChild(files)
    child.start()
    yield hub, child
    child.stop()


def test_a_broker_that_does_not_reload_is_found_out_and_the_end_stays_owed(
    deaf: tuple[HubServices, BrokerChild], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub, child = deaf
    monkeypatch.setattr("fleet.takeover.REFUSAL_WAIT_S", 0.3)
    device = enrolled(hub, "cam-1")
    worker = Revocation(hub, at(hub), lambda: None, Waits())
    with connected(hub, device, tmp_path) as session:
        until(session.client.is_connected)
        cut: list[int] = []
        session.client.on_disconnect = lambda *_: cut.append(1)
        remove_device(hub, "cam-1")
        worker.step()
        assert says(hub)["enforced"] is False
        assert says(hub)["sessions_since_ms"] is not None
        until(lambda: bool(cut))  # ended all the same

    child.reload()
    until(lambda: kept_out(hub, device))
    worker._next_ms = 0
    worker.step()
    assert (says(hub)["enforced"], says(hub)["sessions_since_ms"]) == (True, None)


def test_a_broker_that_is_away_is_asked_again_later(hub: HubServices) -> None:
    enrolled(hub, "cam-1")
    remove_device(hub, "cam-1")
    Revocation(hub, Broker("localhost", free_port()), lambda: None, Waits()).step()
    assert says(hub)["sessions_since_ms"] is not None
    assert not (hub.directory / "run" / STANDING_FILE).exists()


def test_what_nobody_can_read_of_the_standing_is_unknown(hub: HubServices) -> None:
    (hub.directory / "run" / STANDING_FILE).write_bytes(b"{")
    assert says(hub)["enforced"] is None
    good = revocation.Standing(enforced=True, checked_at_ms=1)
    (hub.directory / "run" / STANDING_FILE).write_bytes(msgspec.json.encode(good))
    assert says(hub)["enforced"] is True


def test_nobody_but_the_hubs_ca_takes_a_session_over(
    running: RunningHub, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    hub = running.services
    device = enrolled(hub, "cam-1")
    stranger = Authority(tmp_path_factory.mktemp("stranger"))
    stranger.create("stranger", ["localhost"], system_clock())
    # It trusts this hub's broker, and shows a certificate of its own CA.
    stranger.root_file.write_text(Authority(hub.directory / "ca").root_pem())
    with connected(hub, device, tmp_path) as session:
        until(session.client.is_connected)
        with pytest.raises(TakeoverFailed):
            end_session(at(hub), stranger, "cam-1", system_clock())
        assert session.client.is_connected()


def test_a_list_reads_back(hub: HubServices) -> None:
    authority = Authority(hub.directory / "ca")
    now_ms = system_clock()
    issued = authority.issue_device("x", generate_private_key(SECP256R1()).public_key(), now_ms)
    found = read_crl(crl_pem(authority.signer(), [(issued.serial, now_ms)], now_ms))
    assert found.serials == {issued.serial}
    assert found.made_ms == now_ms


def test_a_broker_that_others_run_is_used_by_hub_and_devices(
    hub_directory: HubDirectory, tmp_path: Path
) -> None:
    """The hub's own address for a broker leads nowhere here."""
    path = hub_directory.hub / "hub.json"
    child = BrokerChild(write_broker_files(hub_directory.hub, read_config(hub_directory.hub)))
    child.start()
    change = {"broker_bind": "192.0.2.1", "outside_broker": "localhost"}
    path.write_bytes(msgspec.json.encode(msgspec.json.decode(path.read_bytes()) | change))
    try:
        with run_hub(hub_directory.hub, external_broker=True) as running:
            hub = running.services
            assert running.broker is None
            device = enrolled(hub, "cam-1")
            with connected(hub, device, tmp_path) as session:
                until(session.client.is_connected)
                until(lambda: hub.link.status().connected)
    finally:
        child.stop()


def take(hub: HubServices, step: Step) -> None:
    with succession_at(hub.directory) as succession:
        succession.take(step, system_clock(), force=True)


def test_with_two_cas_there_is_a_list_of_each(
    hub_directory: HubDirectory, hub: HubServices
) -> None:
    authority = Authority(hub.directory / "ca")
    enrolled(hub, "cam-1")
    refresh_list(hub, system_clock())
    make(hub_directory)
    assert not covers(hub.directory, authority)
    assert says(hub)["ends_ms"] is None, "one intermediate without a list is one to worry about"

    assert refresh_list(hub, system_clock())
    assert not refresh_list(hub, system_clock())
    take(hub, Step.SWITCH)
    enrolled(hub, "cam-2")
    for name in ("cam-1", "cam-2"):
        remove_device(hub, name)
    assert refresh_list(hub, system_clock())

    old, new = (issuer_of(signer) for signer in authority.signers())
    lists = read_lists(revocation_file(hub.directory).read_bytes())
    assert serial(hub, "cam-1") in lists[old].serials - lists[new].serials
    assert serial(hub, "cam-2") in lists[new].serials - lists[old].serials
    assert says(hub)["revoked"] == 2
    assert covers(hub.directory, authority)


def test_one_list_of_two_that_ends_makes_both_anew(
    hub_directory: HubDirectory, hub: HubServices
) -> None:
    """Each in turn: an expired one would lock out all whom that intermediate certified."""
    make(hub_directory)
    now_ms = system_clock()
    signers = Authority(hub.directory / "ca").signers()
    for aged in range(2):
        refresh_list(hub, now_ms)
        found = revocation_file(hub.directory).read_bytes()
        fresh = [
            part + b"-----END X509 CRL-----\n" for part in found.split(b"-----END X509 CRL-----\n")
        ]
        fresh[aged] = crl_pem(signers[aged], (), now_ms - (CRL_DAYS - 1) * DAY_MS)
        write_whole(revocation_file(hub.directory), b"".join(fresh[:2]))
        ends_ms = says(hub)["ends_ms"]
        assert isinstance(ends_ms, int)
        assert ends_ms < now_ms + 2 * DAY_MS, "the one that ends first counts"
        assert refresh_list(hub, now_ms)


def test_after_the_former_ca_is_gone_its_list_goes(
    hub_directory: HubDirectory, hub: HubServices
) -> None:
    make(hub_directory)
    refresh_list(hub, system_clock())
    take(hub, Step.SWITCH)
    take(hub, Step.FINISH)
    assert refresh_list(hub, system_clock())
    (only,) = read_lists(revocation_file(hub.directory).read_bytes())
    assert only == issuer_of(Authority(hub.directory / "ca").signer())


def test_a_revoked_certificate_of_either_ca_is_kept_out_before_and_after_the_switch(
    hub_directory: HubDirectory, running: RunningHub
) -> None:
    hub = running.services
    first, good = enrolled(hub, "cam-1"), enrolled(hub, "cam-2")
    remove_device(hub, "cam-1")
    until(lambda: kept_out(hub, first))
    make(hub_directory)
    until(lambda: covers(hub.directory, Authority(hub.directory / "ca")))
    assert kept_out(hub, first)
    take(hub, Step.SWITCH)
    second, also_good = enrolled(hub, "cam-3"), enrolled(hub, "cam-4")
    until(lambda: not kept_out(hub, also_good))
    remove_device(hub, "cam-3")
    until(lambda: kept_out(hub, second))
    assert kept_out(hub, first)
    assert not kept_out(hub, good)
    until(lambda: says(hub)["sessions_since_ms"] is None)
    assert says(hub)["enforced"] is True


@pytest.mark.parametrize("data", [b"", b"no list", b"-----BEGIN X509 CRL-----\nAAAA\n"])
def test_a_file_with_anything_but_whole_lists_is_refused(hub: HubServices, data: bytes) -> None:
    signer = Authority(hub.directory / "ca").signer()
    good = crl_pem(signer, (), system_clock())
    assert list(read_lists(good)) == [issuer_of(signer)]
    for spoiled in (data, good + data + b"x", good + good[:-30]):
        with pytest.raises(ValueError, match=r"."):
            read_lists(spoiled)
