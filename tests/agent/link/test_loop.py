"""The network loop on a real broker: nothing is left lying, and any thread may publish."""

from __future__ import annotations

import threading
import time

import pytest

from agent.link.connection import Publication
from agent.link.stream import READ_BYTES
from contract.topics import Channel, blob_topic, device_topic
from tests.agent.wire import DEVICE, Hub, Link, eventually

EVENT = device_topic(DEVICE, Channel.EVENT)


@pytest.mark.parametrize("qos", [0, 1])
def test_more_messages_than_a_turn_takes_all_arrive(hub: Hub, link: Link, qos: int) -> None:
    topics = [blob_topic(f"{n:064x}") for n in range(96)]
    for topic in topics:
        hub.post(topic, topic.encode() + bytes(READ_BYTES // 32))
    collector = link.collectors.open()
    collector.expect(topics)
    link.connection.subscribe(topics, qos)
    taken = [collector.take(5.0) for _ in topics]
    assert {found[0] for found in taken if found} == set(topics)


def test_a_publication_ends_the_wait_at_once(hub: Hub, link: Link) -> None:
    time.sleep(0.2)  # so that the loop waits
    worker = threading.Thread(target=lambda: _publish(link, b"one"))
    worker.start()
    worker.join()
    eventually(lambda: hub.on(EVENT) == [b"one"])


def test_what_is_published_while_chunks_flow_goes_out_among_them(hub: Hub, link: Link) -> None:
    topics = [blob_topic(f"{n:064x}") for n in range(64)]
    for topic in topics:
        hub.post(topic, bytes(READ_BYTES // 4))
    collector = link.collectors.open()
    for number, topic in enumerate(topics):
        collector.expect([topic])
        link.connection.subscribe([topic], 0)
        _publish(link, b"%d" % number)
    taken = [collector.take(5.0) for _ in topics]
    assert {found[0] for found in taken if found} == set(topics)
    eventually(lambda: hub.on(EVENT) == [b"%d" % number for number in range(64)])


def _publish(link: Link, payload: bytes) -> None:
    assert link.connection.publish(Publication(EVENT, payload))


def test_large_publications_go_out_whole_though_the_socket_fills_up(hub: Hub, link: Link) -> None:
    payloads = [bytes([n]) * 200_000 for n in range(12)]
    for payload in payloads:
        _publish(link, payload)
    eventually(lambda: hub.on(EVENT) == payloads)
