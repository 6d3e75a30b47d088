"""Messages to bytes and back, with a size limit and a version check per kind.

Nothing outside this file parses JSON from the wire.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from contract import messages as m
from contract.errors import MalformedMessage, MessageTooLong, UnknownKind, UnsupportedVersion
from contract.topics import Channel

SUPPORTED_VERSIONS = frozenset({m.WIRE_VERSION})

MAX_BYTES: dict[type[m.Message], int] = {
    m.Birth: 8_192,
    m.Death: 512,
    m.State: 65_536,
    m.Event: 8_192,
    m.Reply: 4_096,
    m.Report: 131_072,
    m.Want: 16_384,
    m.Assignment: 65_536,
    m.Command: 4_096,
    m.Ack: 65_536,
    m.Epoch: 512,
    m.TufIndex: 524_288,
}

CHANNEL_KINDS: dict[Channel, tuple[type[m.Message], ...]] = {
    Channel.PRESENCE: (m.Birth, m.Death),
    Channel.STATE: (m.State,),
    Channel.EVENT: (m.Event, m.Reply),
    Channel.REPORT: (m.Report,),
    Channel.WANT: (m.Want,),
    Channel.ASSIGNMENT: (m.Assignment,),
    Channel.COMMAND: (m.Command,),
    Channel.ACK: (m.Ack,),
    Channel.TUF_INDEX: (m.TufIndex,),
    Channel.EPOCH: (m.Epoch,),
}
"""Which kinds may stand on which channel. STATE, EVENT, ASSIGNMENT and COMMAND are signed: their
payload is an envelope (contract.envelope), and these are the kinds inside."""

M = TypeVar("M", bound=m.Message)


class _Header(msgspec.Struct):
    kind: str
    v: int


_HEADER = msgspec.json.Decoder(_Header)
_ENCODER = msgspec.json.Encoder()
_DECODERS = {kind: msgspec.json.Decoder(kind) for kind in MAX_BYTES}


def encode(message: m.Message) -> bytes:
    """The message as JSON; raises `MessageTooLong` rather than send what the peer would refuse."""
    data = _ENCODER.encode(message)
    limit = MAX_BYTES[type(message)]
    if len(data) > limit:
        raise MessageTooLong(f"{kind_of(type(message))} of {len(data)} bytes; at most {limit}")
    return data


def decode(kind: type[M], payload: bytes) -> M:
    """Parse `payload` as exactly one kind; raises a `ContractError` for anything else."""
    found = decode_any((kind,), payload)
    assert isinstance(found, kind)  # noqa: S101 - narrows the type; decode_any guarantees it
    return found


def decode_any(kinds: tuple[type[m.Message], ...], payload: bytes) -> m.Message:
    """Parse `payload` as one of `kinds`; raises a `ContractError` for anything else."""
    limit = max(MAX_BYTES[kind] for kind in kinds)
    if len(payload) > limit:
        raise MessageTooLong(f"payload of {len(payload)} bytes; at most {limit}")
    header = _decode_header(payload)
    kind = next((k for k in kinds if kind_of(k) == header.kind), None)
    if kind is None:
        raise UnknownKind(f"kind {header.kind[:40]!r} does not belong here")
    if header.v not in SUPPORTED_VERSIONS:
        version = str(header.v)[:20]
        raise UnsupportedVersion(f"{header.kind} has version {version}; this program speaks 1")
    if len(payload) > MAX_BYTES[kind]:
        raise MessageTooLong(f"{header.kind} of {len(payload)} bytes; at most {MAX_BYTES[kind]}")
    try:
        return _DECODERS[kind].decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedMessage(f"{header.kind}: {str(error)[:200]}") from error


def decode_on(channel: Channel, payload: bytes) -> m.Message:
    """Parse a message by the channel on which it came (for signed ones: the envelope's payload)."""
    return decode_any(CHANNEL_KINDS[channel], payload)


def kind_of(kind: type[m.Message]) -> str:
    """The tag that stands in a message's `kind` field."""
    return str(kind.__struct_config__.tag)


def _decode_header(payload: bytes) -> _Header:
    try:
        return _HEADER.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedMessage(f"not a message: {str(error)[:200]}") from error
