"""The one place that builds and parses MQTT topics.

Root `outrider/v1`; see docs/architecture.md for who writes what.
"""

from __future__ import annotations

import enum
import re

import msgspec

from contract.errors import InvalidId, InvalidTopic
from contract.ids import check_id, is_digest

ROOT = "outrider/v1"
_TUF_FILE = re.compile(r"^[0-9a-z][0-9a-z.-]{0,120}\.json\Z")
MAX_TOPIC_CHARS = 200


class Channel(enum.Enum):
    """What travels on a topic; the value is the topic's tail below its owner."""

    PRESENCE = "up/presence"
    STATE = "up/state"
    EVENT = "up/event"
    REPORT = "up/report"
    WANT = "up/want"
    ASSIGNMENT = "down/assignment"
    COMMAND = "down/command"
    ACK = "down/ack"
    TUF_INDEX = "tuf/index"
    TUF_FILE = "tuf"
    BLOB = "blob"
    EPOCH = "hub/epoch"


DEVICE_CHANNELS = {c.value: c for c in Channel if c.value.startswith(("up/", "down/"))}


class Topic(msgspec.Struct, frozen=True):
    """A parsed topic. `name` is the device id, the TUF file or the blob's digest; else empty."""

    channel: Channel
    name: str = ""


def device_topic(device: str, channel: Channel) -> str:
    """`outrider/v1/dev/{device}/{channel}`; raises `InvalidId` or `InvalidTopic`."""
    if channel.value not in DEVICE_CHANNELS:
        raise InvalidTopic(f"{channel.name} is not a device's channel")
    return f"{ROOT}/dev/{check_id(device, 'device')}/{channel.value}"


def tuf_topic(file: str) -> str:
    """The retained topic of one TUF metadata file, e.g. `3.digits.json`."""
    if not _TUF_FILE.match(file):
        raise InvalidTopic(f"{file[:80]!r} is not the name of a TUF metadata file")
    return f"{ROOT}/tuf/{file}"


def tuf_index_topic() -> str:
    """The retained, unsigned list of the TUF files that the hub publishes."""
    return f"{ROOT}/tuf/index"


def blob_topic(digest: str) -> str:
    """The retained topic of one content-addressed chunk."""
    if not is_digest(digest):
        raise InvalidTopic(f"{digest[:80]!r} is not a SHA-256 in lower-case hex")
    return f"{ROOT}/blob/{digest}"


def epoch_topic() -> str:
    """Retained; says whose memory the broker holds."""
    return f"{ROOT}/hub/epoch"


def every_device(channel: Channel) -> str:
    """The hub's subscription filter over all devices for one of their channels."""
    if channel.value not in DEVICE_CHANNELS:
        raise InvalidTopic(f"{channel.name} is not a device's channel")
    return f"{ROOT}/dev/+/{channel.value}"


def parse_topic(text: str) -> Topic:
    """Parse a received topic; raises `InvalidTopic` for anything that the wire does not know."""
    if len(text) > MAX_TOPIC_CHARS or not text.startswith(ROOT + "/"):
        raise InvalidTopic(f"topic {text[:80]!r} is not under {ROOT}/")
    room, _, rest = text[len(ROOT) + 1 :].partition("/")
    if room == "dev":
        return _parse_device_topic(text, rest)
    if room == "blob" and is_digest(rest):
        return Topic(Channel.BLOB, rest)
    if room == "tuf" and rest == "index":
        return Topic(Channel.TUF_INDEX)
    if room == "tuf" and _TUF_FILE.match(rest):
        return Topic(Channel.TUF_FILE, rest)
    if room == "hub" and rest == "epoch":
        return Topic(Channel.EPOCH)
    raise InvalidTopic(f"topic {text[:80]!r} is not one of the wire's")


def _parse_device_topic(text: str, rest: str) -> Topic:
    device, _, tail = rest.partition("/")
    channel = DEVICE_CHANNELS.get(tail)
    if channel is None:
        raise InvalidTopic(f"topic {text[:80]!r} is not one of the wire's")
    try:
        return Topic(channel, check_id(device, "device"))
    except InvalidId as error:
        raise InvalidTopic(f"topic {text[:80]!r}: {error}") from error
