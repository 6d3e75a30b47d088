"""Topics: what one end builds the other parses, and nothing else parses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import topics
from contract.errors import InvalidId, InvalidTopic
from contract.topics import Channel, Topic, parse_topic

DIGEST = "ab" * 32
DEVICE_CHANNELS = [c for c in Channel if c.value in topics.DEVICE_CHANNELS]


@pytest.mark.parametrize("channel", DEVICE_CHANNELS)
def test_device_topics_round_trip(channel: Channel) -> None:
    assert parse_topic(topics.device_topic("cam-1", channel)) == Topic(channel, "cam-1")


def test_the_other_topics_round_trip() -> None:
    assert parse_topic(topics.tuf_topic("3.digits.json")) == Topic(
        Channel.TUF_FILE, "3.digits.json"
    )
    assert parse_topic(topics.tuf_index_topic()) == Topic(Channel.TUF_INDEX)
    assert parse_topic(topics.blob_topic(DIGEST)) == Topic(Channel.BLOB, DIGEST)
    assert parse_topic(topics.epoch_topic()) == Topic(Channel.EPOCH)


def test_the_names_on_the_wire_are_those_of_the_design() -> None:
    assert topics.device_topic("cam-1", Channel.REPORT) == "outrider/v1/dev/cam-1/up/report"
    assert topics.every_device(Channel.EVENT) == "outrider/v1/dev/+/up/event"
    assert topics.tuf_index_topic() == "outrider/v1/tuf/index"
    assert topics.epoch_topic() == "outrider/v1/hub/epoch"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "outrider/v1",
        "outrider/v1/",
        "outrider/v2/tuf/index",
        "outrider/v1/dev/cam-1",
        "outrider/v1/dev/cam-1/up",
        "outrider/v1/dev/cam-1/up/unknown",
        "outrider/v1/dev/Cam/up/state",
        "outrider/v1/dev//up/state",
        "outrider/v1/dev/+/up/state",
        "outrider/v1/dev/cam-1/up/state/more",
        "outrider/v1/blob/" + "a" * 63,
        "outrider/v1/blob/" + "A" * 64,
        "outrider/v1/tuf/../../etc/passwd",
        "outrider/v1/tuf/no-suffix",
        "outrider/v1/hub/other",
        "outrider/v1/dev/" + "a" * 300 + "/up/state",
    ],
)
def test_what_the_wire_does_not_know_is_refused(text: str) -> None:
    with pytest.raises(InvalidTopic):
        parse_topic(text)


@pytest.mark.parametrize("device", ["", "+", "#", "a/b", "Ä", "cam-1\n", "-a"])
def test_a_device_that_is_no_id_gets_no_topic(device: str) -> None:
    with pytest.raises(InvalidId):
        topics.device_topic(device, Channel.STATE)


@pytest.mark.parametrize("name", ["", "index", "../x.json", "a/b.json", "x.json\n", "+.json"])
def test_a_metadata_file_with_another_kind_of_name_gets_no_topic(name: str) -> None:
    with pytest.raises(InvalidTopic):
        topics.tuf_topic(name)


def test_channels_that_are_not_a_devices_cannot_be_asked_for_as_such() -> None:
    with pytest.raises(InvalidTopic):
        topics.device_topic("cam-1", Channel.BLOB)
    with pytest.raises(InvalidTopic):
        topics.every_device(Channel.EPOCH)
    with pytest.raises(InvalidTopic):
        topics.blob_topic("not-a-digest")


@given(st.text(max_size=250))
def test_arbitrary_text_raises_nothing_but_invalid_topic(text: str) -> None:
    for candidate in (text, "outrider/v1/" + text, "outrider/v1/dev/" + text):
        try:
            parse_topic(candidate)
        except InvalidTopic:
            continue
