"""A running hub renews its own certificates and follows a new CA, without a restart of its own."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPSConnection
from pathlib import Path
from subprocess import Popen

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from fleet.assembly import RunningHub, run_hub, system_clock
from fleet.broker import BrokerChild, write_broker_files
from fleet.broker_files import write_identity
from fleet.ca import DAY_MS, Authority
from fleet.config import read_config
from fleet.crl import crl_pem
from fleet.issuing import key_pem
from fleet.own_certificates import RESTART_AGAIN_MS, OwnCertificates
from fleet.ports import HubServices
from fleet.revocation import Revocation, refresh_list
from fleet.rotation import Step
from fleet.setup import certificate_hosts, succession_at
from fleet.takeover import Broker, is_refused
from tests.fleet.authorities import copied, make, name_roots
from tests.fleet.harness import Device, HubDirectory, connected, enrolled, until
from tests.fleet.test_service import ready, serving


def shown(authority: Authority, port: int) -> x509.Certificate:
    """The certificate that a server shows to a new connection, which is believed."""
    context = ssl.create_default_context(cadata=authority.roots_pem())
    with (
        socket.create_connection(("localhost", port), 5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        data = secured.getpeercert(binary_form=True)
    assert data is not None
    return x509.load_der_x509_certificate(data)


def age(directory: Path) -> None:
    """The hub's own certificates are 300 days old, of 397."""
    hosts = certificate_hosts(read_config(directory))
    Authority(directory / "ca").issue_own(hosts, system_clock() - 300 * DAY_MS)


def is_new(certificate: x509.Certificate) -> bool:
    return certificate.not_valid_before_utc.timestamp() * 1000 > system_clock() - DAY_MS


def take(directory: Path, step: Step) -> None:
    with succession_at(directory) as succession:
        succession.take(step, system_clock())


def connection(directory: Path) -> HTTPSConnection:
    roots = Authority(directory / "ca").roots_pem()
    context = ssl.create_default_context(cadata=roots)
    port = read_config(directory).api_port
    return HTTPSConnection("localhost", port, context=context, timeout=10)


def answers(open_connection: HTTPSConnection) -> bool:
    open_connection.request("GET", "/api/v1/healthz")
    answer = open_connection.getresponse()
    return answer.status == 200 and json.loads(answer.read()) == {"status": "ok"}


def test_api_and_broker_show_new_certificates_and_no_connection_is_dropped(
    hub_directory: HubDirectory,
) -> None:
    """One that is open when the certificate changes goes on, and new ones see the new one."""
    directory = hub_directory.hub
    authority, config = Authority(directory / "ca"), read_config(directory)
    with serving(directory) as process:
        ready(directory, process)
        kept = connection(directory)
        assert answers(kept)
        kept_socket = kept.sock
        with asking_all_the_time(directory) as failures:
            age(directory)
            before = authority.pair("api")[0].read_bytes()
            until(lambda: authority.pair("api")[0].read_bytes() != before)
            newest = x509.load_pem_x509_certificate(authority.pair("api")[0].read_bytes())
            until(lambda: shown(authority, config.api_port) == newest)
            until(lambda: is_new(shown(authority, config.broker_port)))
        assert failures == []
        assert is_new(newest)
        assert answers(kept)
        assert kept.sock is kept_socket
        kept.close()


@contextmanager
def asking_all_the_time(directory: Path) -> Iterator[list[str]]:
    """New connections to the API, one after the other; collects what went wrong."""
    failures: list[str] = []
    stopped = threading.Event()

    def ask() -> None:
        while not stopped.wait(0.01):
            one = connection(directory)
            try:
                if not answers(one):
                    failures.append("another answer")
            except OSError as error:
                failures.append(repr(error))
            finally:
                one.close()

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield failures
    finally:
        stopped.set()
        thread.join()


def test_the_link_connects_anew_with_the_hubs_new_certificate(running: RunningHub) -> None:
    hub = running.services
    before = hub.link.status()
    until(lambda: hub.link.status().connected)
    pid = running.broker.pid if running.broker is not None else None
    age(hub.directory)

    until(lambda: hub.link.status().connected_since_ms not in (None, before.connected_since_ms))

    assert running.broker is not None
    assert running.broker.pid == pid, "the broker was told, not started again"
    until(lambda: hub.link.status().epoch == before.epoch)


def test_a_device_stays_connected_through_every_stage_but_the_last(
    running: RunningHub, hub_directory: HubDirectory, tmp_path: Path
) -> None:
    hub = running.services
    device = enrolled(hub, "cam-1")
    with connected(hub, device, tmp_path) as session:
        until(session.client.is_connected)
        lost: list[int] = []
        session.client.on_disconnect = lambda *_: lost.append(1)
        through_the_switch(hub_directory, hub)
        assert lost == []


def through_the_switch(hub_directory: HubDirectory, hub: HubServices) -> None:
    """As an operator goes, waiting for the hub to find out that the broker believes."""
    with succession_at(hub.directory) as succession:
        succession.make("hub", system_clock())
        name_roots(hub_directory, "root.crt", "next/root.crt")
        until(lambda: succession.standing()["believed"])
        assert not Authority(hub.directory / "ca").own_due(system_clock())
        succession.take(Step.SWITCH, system_clock())
    until(lambda: not Authority(hub.directory / "ca").own_due(system_clock()))
    until(lambda: hub.link.status().connected)


def refuses(hub: HubServices, by: Authority) -> bool:
    """Whether the broker refuses a device's certificate of that CA."""
    at = Broker("localhost", hub.config.broker_port)
    key = generate_private_key(SECP256R1())
    issued = by.issue_device("cam-1", key.public_key(), system_clock())
    return is_refused(at, Authority(hub.directory / "ca"), issued.chain_pem.encode(), key_pem(key))


def test_a_certificate_of_the_former_ca_is_refused_at_the_end(
    running: RunningHub, hub_directory: HubDirectory
) -> None:
    hub = running.services
    thief = copied(Authority(hub.directory / "ca"))
    through_the_switch(hub_directory, hub)
    assert not refuses(hub, thief)
    take(hub.directory, Step.FINISH)
    until(lambda: not Authority(hub.directory / "ca").pair("former")[0].exists())
    until(lambda: not refuses(hub, Authority(hub.directory / "ca")))
    assert refuses(hub, thief)


def test_a_session_of_the_former_ca_does_not_outlive_it(
    running: RunningHub, hub_directory: HubDirectory, tmp_path: Path
) -> None:
    """Mosquitto would go on with it for as long as it lasts."""
    hub = running.services
    thief = copied(Authority(hub.directory / "ca"))
    device = Device("nobody-added-it")
    key = device.key.public_key()
    device.chain_pem = thief.issue_device(device.name, key, system_clock()).chain_pem
    with connected(hub, device, tmp_path) as session:
        until(session.client.is_connected)
        through_the_switch(hub_directory, hub)
        assert session.client.is_connected()
        take(hub.directory, Step.FINISH)
        until(lambda: not session.client.is_connected())
        until(lambda: not Authority(hub.directory / "ca").pair("former")[0].exists())
        assert not session.client.is_connected()
    until(lambda: hub.link.status().connected)


def test_a_session_of_the_former_ca_does_not_outlive_the_second_rotation_either(
    running: RunningHub,
    hub_directory: HubDirectory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That the broker was started again at the end of the first one says nothing of the next."""
    monkeypatch.setattr("fleet.own_certificates.PROBE_EVERY_MS", 1_000)
    hub = running.services
    former = Authority(hub.directory / "ca").pair("former")[0]
    through_the_switch(hub_directory, hub)
    take(hub.directory, Step.FINISH)
    until(lambda: not former.exists())
    device = enrolled(hub, "cam-1")
    with connected(hub, device, tmp_path) as session:
        until(session.client.is_connected)
        through_the_switch(hub_directory, hub)
        assert session.client.is_connected()
        with succession_at(hub.directory) as succession:
            succession.take(Step.FINISH, system_clock(), force=True)
        until(lambda: not former.exists())
        until(lambda: not session.client.is_connected(), 5)


def test_a_session_of_the_next_ca_does_not_outlive_its_undoing(
    running: RunningHub, hub_directory: HubDirectory, tmp_path: Path
) -> None:
    """Its key may be why it is taken back."""
    hub = running.services
    through_the_switch(hub_directory, hub)
    thief = copied(Authority(hub.directory / "ca"))
    device = Device("nobody-added-it")
    key = device.key.public_key()
    device.chain_pem = thief.issue_device(device.name, key, system_clock()).chain_pem
    with connected(hub, device, tmp_path) as session:
        until(session.client.is_connected)
        take(hub.directory, Step.UNDO)
        take(hub.directory, Step.UNDO)
        until(lambda: not session.client.is_connected(), 30)
        until(lambda: not Authority(hub.directory / "ca").pair("former")[0].exists(), 30)
    until(lambda: not refuses(hub, Authority(hub.directory / "ca")))
    assert refuses(hub, thief)


def test_a_step_that_is_taken_while_the_broker_starts_is_passed_on_to_it(
    hub_directory: HubDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has read its files by then; without news of others it would be started again for ever."""
    directory, start = hub_directory.hub, BrokerChild.start

    def meanwhile(self: BrokerChild) -> None:
        start(self)
        with succession_at(directory) as succession:
            succession.make("hub", system_clock())

    monkeypatch.setattr(BrokerChild, "start", meanwhile)
    with run_hub(directory), succession_at(directory) as succession:
        until(lambda: succession.standing()["believed"])


def test_a_broker_that_is_told_to_read_again_while_it_starts_does_so_and_lives(
    hub_directory: HubDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mosquitto listens a moment before it can bear a SIGHUP."""
    directory, waits = hub_directory.hub, BrokerChild._wait_until_it_answers
    authority, config = Authority(directory / "ca"), read_config(directory)

    def told(self: BrokerChild, child: Popen[bytes]) -> None:
        waits(self, child)
        authority.issue_own(certificate_hosts(config), system_clock())
        write_identity(directory / "mosquitto", authority)
        self.reload()

    monkeypatch.setattr(BrokerChild, "_wait_until_it_answers", told)
    broker = BrokerChild(write_broker_files(directory, config))
    broker.start()
    try:
        first = broker.pid
        newest = x509.load_pem_x509_certificate(authority.pair("broker")[0].read_bytes())
        until(lambda: shown(authority, config.broker_port) == newest)
        assert broker.pid == first
    finally:
        broker.stop()


class Counted:
    """A broker that is told to start again, and only counts."""

    def __init__(self, child: BrokerChild) -> None:
        self.reload = child.reload
        self.restarts = 0

    def restart(self) -> None:
        self.restarts += 1


def test_a_broker_that_no_restart_helps_is_not_started_again_and_again(
    hub_directory: HubDirectory,
) -> None:
    """The next CA was made by a clock that ran ahead: until its time nobody can believe it."""
    now = [system_clock()]
    directory = hub_directory.hub
    child = BrokerChild(write_broker_files(directory, read_config(directory)))
    child.start()
    try:
        with hub_directory.at_rest(lambda: now[0]) as hub:
            at = Broker("localhost", hub.config.broker_port)
            counted, revocation = Counted(child), Revocation(hub, at, child.reload, lambda _: None)
            own = OwnCertificates(hub, at, counted, Renewed(), revocation, lambda _: None)
            with succession_at(directory) as succession:
                succession.make("hub", now[0] + DAY_MS)
            refresh_list(hub, now[0])
            for _ in range(5):
                own.step()
                now[0] += 20_000
            assert counted.restarts == 1
            now[0] += RESTART_AGAIN_MS
            own.step()
            assert counted.restarts == 2
    finally:
        child.stop()


class Renewed:
    """A link that has nobody to connect to."""

    def renew(self) -> None:
        """Nothing is connected here."""


def test_a_broker_that_others_run_is_to_be_restarted_at_the_end(
    hub_directory: HubDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its memory's name tells that it was. Until then the status says what is missing."""
    monkeypatch.setattr("fleet.own_certificates.PROBE_EVERY_MS", 1_000)
    directory = hub_directory.hub
    child = BrokerChild(write_broker_files(directory, read_config(directory)))
    child.start()
    former = Authority(directory / "ca").pair("former")[0]
    try:
        with run_hub(directory, external_broker=True) as running:
            until(lambda: running.services.link.status().epoch)
            with reloading(directory, child):
                through_the_switch(hub_directory, running.services)
                take(directory, Step.FINISH)
                until((directory / "ca" / "former.epoch").exists, 30)
            assert former.exists()
        child.restart()
        with run_hub(directory, external_broker=True):
            until(lambda: not former.exists(), 60)
    finally:
        child.stop()
    assert not (directory / "ca" / "former.epoch").exists()


@contextmanager
def reloading(directory: Path, child: BrokerChild) -> Iterator[None]:
    """As the unit does that watches the broker's folder."""
    stopped = threading.Event()

    def seen() -> list[bytes]:
        folder = directory / "mosquitto"
        return [(folder / n).read_bytes() for n in ("revoked.crl", "trusted.crt", "server.pem")]

    def watch() -> None:
        last = seen()
        while not stopped.wait(0.1):
            now = seen()
            if now != last:
                child.reload()
            last = now

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def test_a_list_that_the_thief_makes_for_the_former_ca_does_not_bring_it_back(
    running: RunningHub, hub_directory: HubDirectory
) -> None:
    """He may hold the broker's folder for a moment, but not what it believes."""
    hub = running.services
    thief = copied(Authority(hub.directory / "ca"))
    through_the_switch(hub_directory, hub)
    take(hub.directory, Step.FINISH)
    until(lambda: not Authority(hub.directory / "ca").pair("former")[0].exists())
    path = hub.directory / "mosquitto" / "revoked.crl"
    path.write_bytes(path.read_bytes() + crl_pem(thief.signer(), (), system_clock()))
    assert running.broker is not None
    running.broker.reload()
    until(lambda: not refuses(hub, Authority(hub.directory / "ca")))
    assert refuses(hub, thief)


def test_a_broker_that_does_not_read_its_files_again_is_started_again(
    running: RunningHub, hub_directory: HubDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other versions may keep the CAs that they began with. What they believe is tried."""
    hub, broker = running.services, running.broker
    assert broker is not None
    thief = copied(Authority(hub.directory / "ca"))
    first = broker.pid
    monkeypatch.setattr(BrokerChild, "reload", lambda _self: None)
    monkeypatch.setattr("fleet.own_certificates.PROBE_EVERY_MS", 1_000)

    through_the_switch(hub_directory, hub)
    second = broker.pid
    assert second not in (None, first)
    take(hub.directory, Step.FINISH)

    until(lambda: not Authority(hub.directory / "ca").pair("former")[0].exists(), 30)
    assert refuses(hub, thief)
    assert broker.pid != second


def test_a_hub_that_was_off_for_a_step_takes_it_when_it_starts(
    hub_directory: HubDirectory,
) -> None:
    directory = hub_directory.hub
    make(hub_directory)
    take(directory, Step.SWITCH)
    authority = Authority(directory / "ca")
    thief = copied(authority)
    with run_hub(directory) as running:
        until(lambda: running.services.link.status().connected)
        assert not authority.own_due(system_clock())
    take(directory, Step.FINISH)
    (thief.directory / "rotation.json").unlink()
    with run_hub(directory) as running:
        until(lambda: running.services.link.status().connected)
        assert refuses(running.services, thief)
        until(lambda: not (directory / "ca" / "next").exists())
