"""TUF metadata over a real broker: the index rules what exists, and everything has a limit."""

from __future__ import annotations

import pytest

from agent.errors import Malformed, NotListed, TransportFailed
from contract.codec import encode
from contract.ids import digest_of
from contract.messages import TufFile, TufIndex
from contract.topics import tuf_index_topic, tuf_topic
from tests.agent.wire import Hub, Link, eventually
from tests.mosquitto import Mosquitto

FILES = {"1.root.json": b'{"root": 1}', "timestamp.json": b'{"timestamp": 1}'}


def publish(hub: Hub, files: dict[str, bytes], listed: dict[str, bytes] | None = None) -> TufIndex:
    """Files first, index last, as the hub does."""
    for name, data in files.items():
        hub.retain(tuf_topic(name), data)
    entries = {n: TufFile(len(d), digest_of(d)) for n, d in (listed or files).items()}
    index = TufIndex(files=entries, at_ms=1)
    hub.retain(tuf_index_topic(), encode(index))
    return index


def test_the_index_and_each_file_are_fetched(hub: Hub, link: Link) -> None:
    index = publish(hub, FILES)
    assert link.metadata.index() == index
    assert {n: link.metadata.file(n, 1000) for n in FILES} == FILES


def test_a_file_without_an_index_fetches_the_index_first(hub: Hub, link: Link) -> None:
    publish(hub, FILES)
    assert link.metadata.file("timestamp.json", 1000) == FILES["timestamp.json"]


@pytest.mark.parametrize("name", ["2.root.json", "../secret", "9.digits.json"])
def test_what_is_not_listed_is_not_asked_for(hub: Hub, link: Link, name: str) -> None:
    publish(hub, FILES)
    with pytest.raises(NotListed):
        link.metadata.file(name, 1000)


def test_a_listed_name_that_no_topic_can_carry_is_not_listed(hub: Hub, link: Link) -> None:
    publish(hub, FILES, {"../etc": b""})
    with pytest.raises(NotListed):
        link.metadata.file("../etc", 1000)


def test_no_index_is_a_transport_failure(link: Link) -> None:
    with pytest.raises(TransportFailed, match="did not send"):
        link.metadata.index()


def test_a_listed_file_that_is_not_held_is_a_transport_failure(hub: Hub, link: Link) -> None:
    publish(hub, {}, FILES)
    with pytest.raises(TransportFailed, match=r"did not send timestamp\.json"):
        link.metadata.file("timestamp.json", 1000)


def test_a_longer_file_than_allowed_is_malformed(hub: Hub, link: Link) -> None:
    publish(hub, FILES)
    with pytest.raises(Malformed, match="at most 5"):
        link.metadata.file("timestamp.json", 5)


def test_an_index_that_is_no_index_is_malformed(hub: Hub, link: Link) -> None:
    hub.retain(tuf_index_topic(), b'{"kind": "epoch", "v": 1}')
    with pytest.raises(Malformed):
        link.metadata.index()


def test_without_a_broker_it_fails_in_time(link: Link, broker: Mosquitto) -> None:
    broker.kill()
    eventually(lambda: not link.connection.connected)
    link.metadata._reconnect_s = 0.2
    with pytest.raises(TransportFailed, match="no connection"):
        link.metadata.index()
