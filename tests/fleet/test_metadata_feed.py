"""The feed of TUF files: files before their index, once, and gone a day after they left it."""

from __future__ import annotations

import pytest

from contract.codec import decode
from contract.ids import digest_of
from contract.messages import TufIndex
from contract.topics import tuf_index_topic, tuf_topic
from fleet.link import Outgoing
from fleet.metadata_feed import KEEP_MS, MetadataFeed
from fleet.ports import HubServices
from fleet.trust.repository import Repository
from tests.fleet.harness import HubDirectory

SIX_HOURS_MS = 6 * 3_600_000


@pytest.fixture
def feed(hub: HubServices) -> MetadataFeed:
    hub.repository.sign_online(hub.clock())
    return MetadataFeed(hub.repository)


def topics(messages: list[Outgoing]) -> list[str]:
    return [message.topic for message in messages]


def test_every_file_comes_before_the_index_that_lists_it(
    hub: HubServices, feed: MetadataFeed
) -> None:
    sent = list(feed.changes(5))

    assert topics(sent)[-1] == tuf_index_topic()
    files = {message.topic: message.payload for message in sent[:-1]}
    index = decode(TufIndex, sent[-1].payload)
    assert {tuf_topic(name) for name in index.files} == set(files)
    for name, file in index.files.items():
        assert file.digest == digest_of(files[tuf_topic(name)])
    assert all(message.retain for message in sent)


def test_what_has_not_changed_is_not_sent_again(feed: MetadataFeed) -> None:
    list(feed.changes(0))

    assert list(feed.changes(1)) == []


def test_only_what_was_signed_again_is_sent_again(hub: HubServices, feed: MetadataFeed) -> None:
    list(feed.changes(0))
    hub.repository.sign_online(hub.clock() + SIX_HOURS_MS + 1)

    sent = topics(list(feed.changes(1)))

    assert tuf_topic("timestamp.json") in sent
    assert sent[-1] == tuf_index_topic()
    assert not any("root" in topic for topic in sent)


def test_after_a_new_connection_everything_is_sent_again(feed: MetadataFeed) -> None:
    first = topics(list(feed.changes(0)))
    feed.forget()

    assert topics(list(feed.changes(1))) == first


def test_a_file_that_left_the_index_is_cleared_a_day_later(
    hub: HubServices, feed: MetadataFeed
) -> None:
    list(feed.changes(0))
    hub.repository.sign_online(hub.clock() + SIX_HOURS_MS + 1)
    list(feed.changes(1_000))

    assert list(feed.changes(KEEP_MS + 999)) == []
    (cleared,) = feed.changes(KEEP_MS + 1_000)

    assert cleared.payload == b""
    assert cleared.topic.endswith(".snapshot.json")
    assert list(feed.changes(KEEP_MS + 1_001)) == []


def test_a_hub_without_trust_sends_nothing(hub_directory: HubDirectory) -> None:
    empty = MetadataFeed(Repository(hub_directory.path / "nothing"))

    assert list(empty.changes(0)) == []
