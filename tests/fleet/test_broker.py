"""The hub's broker: starts or says why not, comes back when it dies, lets nobody say too much."""

from __future__ import annotations

import os
import resource
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from contract.codec import MAX_BYTES
from contract.topics import Channel, device_topic, epoch_topic, tuf_topic
from contract.trust import MAX_ROOT_BYTES, MAX_SNAPSHOT_BYTES, MAX_TARGETS_BYTES
from fleet import broker
from fleet.assembly import RunningHub
from fleet.broker import (
    BrokerChild,
    bound_log,
    local_address,
    require_free_port,
    write_broker_files,
)
from fleet.broker_files import BrokerFiles
from fleet.config import read_config
from fleet.errors import BrokerFailed, BrokerMissing, PortInUse
from fleet.link import Link, LinkDown, Outgoing
from tests.fleet.harness import Device, HubDirectory, connected, enrolled, until

ROOM = Path(__file__).parents[2]


@pytest.fixture
def files(hub_directory: HubDirectory) -> BrokerFiles:
    return write_broker_files(hub_directory.hub, read_config(hub_directory.hub))


def test_it_answers_once_started_and_is_gone_once_stopped(files: BrokerFiles) -> None:
    child = BrokerChild(files)
    child.start()
    pid = child.pid
    assert pid is not None
    socket.create_connection(("127.0.0.1", files.port), timeout=5).close()

    child.stop()

    assert child.pid is None
    assert not psutil.pid_exists(pid)


def test_a_busy_port_is_one_clear_line(files: BrokerFiles) -> None:
    with (
        socket.create_server(("127.0.0.1", files.port)),
        pytest.raises(PortInUse, match=f"port {files.port}") as caught,
    ):
        BrokerChild(files).start()

    assert "\n" not in str(caught.value)


def test_a_machine_without_mosquitto_is_told_the_package(
    files: BrokerFiles, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(broker, "_SEARCH", (str(tmp_path),))

    with pytest.raises(BrokerMissing, match="apt-get install mosquitto"):
        BrokerChild(files).start()


def test_a_broker_that_ends_at_once_is_reported_with_its_last_words(files: BrokerFiles) -> None:
    files.configuration.write_text("nonsense true\n")

    with pytest.raises(BrokerFailed, match="nonsense"):
        BrokerChild(files).start()


def test_it_is_started_again_when_it_was_killed(files: BrokerFiles) -> None:
    child = BrokerChild(files)
    child.start()
    try:
        first = child.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)

        until(lambda: child.pid not in (None, first))
    finally:
        child.stop()


def test_it_does_not_outlive_a_hub_that_was_killed(hub_directory: HubDirectory) -> None:
    write_broker_files(hub_directory.hub, read_config(hub_directory.hub))
    program = (
        "import sys, time; from pathlib import Path;"
        "from fleet.broker import BrokerChild, write_broker_files;"
        "from fleet.config import read_config;"
        "hub = Path(sys.argv[1]); child = BrokerChild(write_broker_files(hub, read_config(hub)));"
        "child.start(); print(child.pid, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(hub_directory.hub)]
    with subprocess.Popen(command, cwd=ROOM, stdout=subprocess.PIPE, text=True) as hub:
        assert hub.stdout is not None
        pid = int(hub.stdout.readline())
        assert psutil.pid_exists(pid)
        hub.kill()

    until(lambda: not psutil.pid_exists(pid) or _is_zombie(pid))


def _is_zombie(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_nothing_of_it_is_readable_by_others(files: BrokerFiles) -> None:
    for path in files.directory.iterdir():
        assert path.stat().st_mode & 0o077 == 0


def test_it_remembers_nothing_on_disk_and_knows_no_anonymous(files: BrokerFiles) -> None:
    lines = files.configuration.read_text().splitlines()

    for line in (
        "persistence false",
        "allow_anonymous false",
        "require_certificate true",
        "use_identity_as_username true",
        "use_username_as_clientid true",
    ):
        assert line in lines


def test_a_client_without_certificate_is_refused(running: RunningHub) -> None:
    config = running.services.config
    context = ssl.create_default_context(cafile=running.services.directory / "ca" / "root.crt")

    def greet() -> None:
        with (
            socket.create_connection(("127.0.0.1", config.broker_port), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as tls,
        ):
            tls.sendall(b"\x10\x00")
            # TLS 1.3 tells the client only when it reads.
            if tls.recv(1) == b"":
                raise ConnectionError("closed")

    with pytest.raises((ssl.SSLError, ConnectionError)):
        greet()


def test_a_device_hears_nothing_of_other_devices(running: RunningHub, tmp_path: Path) -> None:
    hub = running.services
    spy, victim = enrolled(hub, "spy"), enrolled(hub, "victim")
    with connected(hub, spy, tmp_path) as ears, connected(hub, victim, tmp_path) as voice:
        ears.subscribe(
            "outrider/v1/dev/#", device_topic("victim", Channel.STATE), "outrider/v1/dev/+/down/#"
        )
        voice.say(Channel.STATE, victim.state(), retain=True)
        ears.subscribe(epoch_topic())

        # The retained epoch is what comes next: nothing of the victim's came before it.
        assert ears.next().topic == epoch_topic()


def test_a_device_cannot_speak_as_another_or_as_the_hub(
    running: RunningHub, tmp_path: Path
) -> None:
    hub = running.services
    spy, victim = enrolled(hub, "spy"), enrolled(hub, "victim")
    with connected(hub, spy, tmp_path) as forger, connected(hub, victim, tmp_path) as ears:
        ears.subscribe(device_topic("victim", Channel.COMMAND), epoch_topic())
        assert ears.next().topic == epoch_topic()
        for topic in (
            device_topic("victim", Channel.EVENT),
            device_topic("victim", Channel.COMMAND),
            epoch_topic(),
        ):
            forger.client.publish(topic, b"forged", qos=1).wait_for_publish(5)
        forger.say(Channel.REPORT, spy.report(1))
        forger.subscribe(device_topic("spy", Channel.ACK))
        forger.say(Channel.REPORT, spy.report(1))
        assert forger.acked()

        assert ears.inbox.empty()


def test_a_certificate_decides_the_client_id(running: RunningHub, tmp_path: Path) -> None:
    hub = running.services
    spy, victim = enrolled(hub, "spy"), enrolled(hub, "victim")
    with connected(hub, victim, tmp_path) as alive:
        alive.subscribe(epoch_topic())
        assert alive.next().topic == epoch_topic()
        # A connection that calls itself `victim`, with the certificate of `spy`.
        disguised = Device("victim", spy.key, spy.chain_pem)
        (tmp_path / "other").mkdir()
        with connected(hub, disguised, tmp_path / "other") as other:
            other.subscribe(epoch_topic())
            assert other.next().topic == epoch_topic()

            assert alive.client.is_connected()


@pytest.mark.parametrize(("bind", "reached"), [("::", "::1"), ("10.1.1.1", "10.1.1.1")])
def test_the_hub_reaches_its_own_broker(bind: str, reached: str) -> None:
    assert local_address(bind) == reached


def test_a_free_port_is_no_error() -> None:
    require_free_port("127.0.0.1", 0, "the test")


def test_the_broker_may_open_as_many_files_as_the_system_allows(files: BrokerFiles) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    child = BrokerChild(files)
    child.start()
    try:
        assert child.pid is not None
        assert resource.prlimit(child.pid, resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        child.stop()


def test_a_log_that_cannot_be_written_is_an_error_and_no_endless_wait(files: BrokerFiles) -> None:
    files.log.mkdir()

    with pytest.raises(BrokerFailed, match=r"mosquitto\.log"):
        BrokerChild(files).start()


def test_a_log_that_has_grown_long_is_moved_aside(
    files: BrokerFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "MAX_LOG_BYTES", 10)
    files.log.write_bytes(b"short")
    bound_log(files.log)
    assert files.log.read_bytes() == b"short"

    files.log.write_bytes(b"rather long words")
    bound_log(files.log)

    assert files.log.read_bytes() == b""
    assert files.log.with_name("mosquitto.log.1").read_bytes() == b"rather long words"


def test_it_takes_the_longest_message_of_the_hub(running: RunningHub) -> None:
    """Were it longer than the broker takes, the hub's connection would end, again and again."""
    link = running.services.link
    assert isinstance(link, Link)
    until(lambda: link.connected)
    longest = max(*MAX_BYTES.values(), MAX_TARGETS_BYTES, MAX_ROOT_BYTES, MAX_SNAPSHOT_BYTES)
    topic = tuf_topic("1.targets.json")
    sent = [Outgoing(topic, b"x" * longest, retain=True), Outgoing(topic, b"", retain=True)]
    until(lambda: taken(link, sent))


def taken(link: Link, messages: list[Outgoing]) -> bool:
    """Whether the broker took them; a link that is lost for another reason may try again."""
    try:
        link.send(messages)
    except LinkDown:
        return False
    return True
