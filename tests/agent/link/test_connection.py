"""The link against a real broker: losses, strangers, floods, farewells."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import ssl
import threading
from pathlib import Path

import pytest

from agent.link.connection import Connection, Endpoint, Publication
from agent.link.router import longest
from agent.link.tls import trust_only
from contract.codec import decode
from contract.messages import Death
from contract.topics import Channel, blob_topic, device_topic
from tests.agent.wire import DEVICE, FAST, Hub, Link, eventually
from tests.mosquitto import Authority, Credentials, Mosquitto

PRESENCE = device_topic(DEVICE, Channel.PRESENCE)
ASSIGNMENT = device_topic(DEVICE, Channel.ASSIGNMENT)
COMMAND = device_topic(DEVICE, Channel.COMMAND)


def test_an_orderly_stop_says_farewell(hub: Hub, link: Link) -> None:
    link.connection.stop(Publication(PRESENCE, b"farewell", retain=True))
    eventually(lambda: hub.on(PRESENCE) == [b"farewell"])
    assert not link.connection.connected


def test_a_link_that_is_cut_off_leaves_its_will(hub: Hub, link: Link) -> None:
    link.connection._abandon.set()  # the thread leaves without a DISCONNECT, as a crash does
    link.connection._stopping.set()
    eventually(lambda: bool(hub.on(PRESENCE)))
    assert decode(Death, hub.on(PRESENCE)[0]).device == DEVICE


def test_the_link_comes_back_after_each_loss(link: Link, broker: Mosquitto) -> None:
    first = link.connection.generation
    broker.restart()
    eventually(lambda: link.connection.generation >= first + 1)
    broker.restart()
    eventually(lambda: link.connection.generation >= first + 2)
    eventually(lambda: link.connection.connected)


def test_a_broker_that_comes_up_late_is_found(
    tmp_path: Path, authority: Authority, device: Credentials
) -> None:
    broker = Mosquitto(tmp_path / "late", authority)
    link = Link(broker, device)
    link.connection.start()
    assert not link.connection.wait_connected(0.3)
    assert link.connection.last_error
    assert not link.connection.publish(Publication(PRESENCE, b"x"))
    broker.start()
    assert link.connection.wait_connected(10)
    link.connection.stop()
    broker.stop()


def test_a_broker_of_another_ca_is_refused(
    tmp_path: Path, broker: Mosquitto, device: Credentials
) -> None:
    stranger = Authority(tmp_path / "stranger")
    link = Link(broker, dataclasses.replace(device, ca=stranger.path))
    link.connection.start()
    eventually(lambda: "CERTIFICATE_VERIFY_FAILED" in link.connection.last_error)
    link.connection.stop()


def test_a_broker_of_another_name_is_refused(
    broker: Mosquitto, link: Link, device: Credentials
) -> None:
    end = Endpoint("127.0.0.2", broker.port, DEVICE, device.context, link.will, backoff=FAST)
    broker_elsewhere = Connection(end, lambda _topic, _payload: None)
    broker_elsewhere.start()
    eventually(lambda: bool(broker_elsewhere.last_error))
    assert not broker_elsewhere.connected
    broker_elsewhere.stop()


def test_a_clock_known_to_be_wrong_relaxes_dates_alone(authority: Authority) -> None:
    strict, lenient = trust_only(authority.pem, False), trust_only(authority.pem, True)
    assert lenient.verify_flags != strict.verify_flags
    assert lenient.check_hostname
    assert lenient.verify_mode == strict.verify_mode
    assert [c["subject"] for c in lenient.get_ca_certs()] == [
        c["subject"] for c in strict.get_ca_certs()
    ]


def test_the_device_id_is_the_client_id_of_its_certificate(
    hub: Hub, link: Link, broker: Mosquitto, authority: Authority
) -> None:
    other = Link(broker, authority.client("pi-2"), "pi-2").up()
    assert link.connection.connected, "another device must not take this one's place"
    assert other.connection.connected
    other.connection.stop()


def test_only_the_newest_assignment_waits_for_the_main_loop(hub: Hub, link: Link) -> None:
    link.listen([ASSIGNMENT, COMMAND], hub)
    for number in range(300):
        hub.send(ASSIGNMENT, b"%d" % number)
    hub.send(COMMAND, b"last")
    eventually(lambda: bool(link.inbox._messages))
    taken = {m.channel: m.payload for m in link.inbox.take(1)}
    assert taken == {Channel.ASSIGNMENT: b"299", Channel.COMMAND: b"last"}


def test_a_flood_of_strange_messages_is_counted_and_harmless(hub: Hub, link: Link) -> None:
    link.listen([f"outrider/v1/dev/{DEVICE}/#", "outrider/v1/blob/+", "stray/#"], hub)
    for number in range(200):
        hub.send(f"stray/{number}", b"\xff" * 100)
        hub.send(f"outrider/v1/dev/{DEVICE}/down/unknown", b"")
    hub.send(ASSIGNMENT, b"x" * (longest(Channel.ASSIGNMENT) + 1))
    hub.send(blob_topic("ab" * 32), b"nobody waits for this")
    hub.send(COMMAND, b"still here")
    eventually(lambda: bool(link.inbox._messages))
    assert [m.payload for m in link.inbox.take(1)] == [b"still here"]
    assert link.rejects.total() == 401
    assert len(link.rejects.counts()) <= 65
    assert link.connection.connected


def test_a_full_queue_drops_and_counts(hub: Hub, link: Link) -> None:
    link.listen([COMMAND], hub)
    link.inbox._limit = 5
    for number in range(9):
        hub.send(COMMAND, b"%d" % number)
    eventually(lambda: link.inbox.dropped == 4)
    assert link.rejects.counts() == {COMMAND: 4}
    assert [m.payload for m in link.inbox.take(1)] == [b"0", b"1", b"2", b"3", b"4"]


def test_the_main_loop_wakes_for_a_changed_connection(link: Link, broker: Mosquitto) -> None:
    link.inbox.take(0)
    woke = threading.Event()

    def wait() -> None:
        link.inbox.take(10)
        woke.set()

    threading.Thread(target=wait).start()
    broker.kill()
    assert woke.wait(10)


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x20\x03\x00\x00\x00" + b"\x30\x05\x00\xff\xff\xff\xff",
        b"\x20\x03\x00\x00\x00" + b"\x30\x06\x00\x02\xff\xfe\xff\xff",
        b"\x20\x02\x00\x99",
        b"\xff" * 64,
    ],
    ids=["short-publish", "bad-topic", "bad-connack", "noise"],
)
def test_a_broker_that_talks_nonsense_never_ends_the_link(
    nonsense: bytes, authority: Authority, device: Credentials
) -> None:
    server = authority.server("nonsense")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(server.certificate), str(server.key))
    visits: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk() -> None:
            while len(visits) < 3:
                raw, _ = listener.accept()
                with contextlib.suppress(OSError), context.wrap_socket(raw, server_side=True) as s:
                    s.recv(1000)
                    s.sendall(nonsense)
                visits.append(1)

        speaker = threading.Thread(target=talk)
        speaker.start()
        will = Publication(PRESENCE, b"")
        port = listener.getsockname()[1]
        end = Endpoint("localhost", port, DEVICE, device.context, will, backoff=FAST)
        connection = Connection(end, lambda _topic, _payload: None)
        connection.start()
        eventually(lambda: len(visits) == 3)
        assert connection._thread.is_alive()
        connection.stop()
        speaker.join(10)
