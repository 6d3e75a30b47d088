"""Where each received message goes. Runs on the network thread: looks at topic and length only.

Refuses what is not for this device, what no topic of the wire explains, and what is too long to be
of its kind; all of it is counted, and none of it is parsed here.
"""

from __future__ import annotations

from agent.link.collector import Collectors
from agent.link.inbox import Inbox, Received
from agent.link.rejects import Rejects
from contract.codec import CHANNEL_KINDS, MAX_BYTES
from contract.errors import InvalidTopic
from contract.manifest import MAX_CHUNK_BYTES
from contract.topics import Channel, Topic, parse_topic

MAX_METADATA_BYTES = 1 << 20
_FRAME_BYTES = 16
_SIGNED = frozenset({Channel.ASSIGNMENT, Channel.COMMAND})
_OURS = frozenset({Channel.ASSIGNMENT, Channel.COMMAND, Channel.ACK})
_FETCHED = frozenset({Channel.BLOB, Channel.TUF_FILE, Channel.TUF_INDEX})


def longest(channel: Channel) -> int:
    """The longest payload that can be one of the channel's kinds, in bytes."""
    if channel is Channel.BLOB:
        return MAX_CHUNK_BYTES + _FRAME_BYTES
    if channel is Channel.TUF_FILE:
        return MAX_METADATA_BYTES
    limit = max(MAX_BYTES[kind] for kind in CHANNEL_KINDS[channel])
    return 2 * limit + 4_096 if channel in _SIGNED else limit


class Router:
    """From the network thread to the main loop's inbox or to a worker's collector."""

    def __init__(self, device: str, inbox: Inbox, collectors: Collectors, rejects: Rejects) -> None:
        self._device = device
        self._inbox = inbox
        self._collectors = collectors
        self._rejects = rejects

    def route(self, text: str, payload: bytes) -> None:
        """Never raises and never blocks: whatever arrives, the connection goes on."""
        try:
            topic = parse_topic(text)
        except InvalidTopic as error:
            self._rejects.count(text, str(error))
            return
        if len(payload) > longest(topic.channel):
            self._rejects.count(text, f"{len(payload)} bytes; at most {longest(topic.channel)}")
        elif topic.channel in _FETCHED:
            # One that nobody waits for is a repeat of what came meanwhile, and no error.
            self._collectors.deliver(text, payload)
        elif topic.channel in _OURS and topic.name == self._device:
            self._for_the_loop(topic, text, payload)
        else:
            self._rejects.count(text, "not for this device")

    def _for_the_loop(self, topic: Topic, text: str, payload: bytes) -> None:
        if not payload:
            return  # a cleared retained message: no change (design: level-triggered)
        message = Received(topic.channel, payload)
        if topic.channel is Channel.ASSIGNMENT:
            self._inbox.replace(message)
        elif not self._inbox.offer(message):
            self._rejects.count(text, "the queue is full; dropped")
