"""Whether an assignment, a command or a release is for this device, now. Pure.

The hub's signature makes a message genuine, not fitting: it also has to name this device, be in
time, and not be older than what the device has seen.
"""

from __future__ import annotations

from typing import TypeVar

from agent.errors import (
    Incompatible,
    Malformed,
    PolicyRefused,
    RollbackDetected,
    Untrusted,
)
from agent.trust.view import TrustedRelease, TrustedView
from contract.envelope import open_sealed
from contract.errors import BadSignature, ContractError
from contract.messages import Assignment, Command, FamilyAssignment
from contract.variants import version_key

MAX_SEQ_LEAP = 1 << 20
"""A thief of the hub's key must not use up the numbers that the hub needs once it has a new one."""

M = TypeVar("M", Assignment, Command)


def check_assignment(data: bytes, view: TrustedView, device: str, known_seq: int) -> Assignment:
    """Open a sealed assignment. Raises `Untrusted`, `Malformed`, `PolicyRefused` (another device,
    expired, a seq too far ahead) or `RollbackDetected` (a seq below the known one; the same seq
    may come again).
    """
    assignment = _open(Assignment, data, view, device)
    if assignment.seq < known_seq:
        raise RollbackDetected(f"assignment {assignment.seq} is older than {known_seq}, which came")
    if assignment.seq > known_seq + MAX_SEQ_LEAP:
        raise PolicyRefused(f"assignment {assignment.seq} leaps too far ahead of {known_seq}")
    for family, wanted in assignment.families.items():
        if wanted.target.partition("/")[0] != family:
            raise Malformed(f"assignment: {wanted.target} stands under family {family}")
    return assignment


def check_command(data: bytes, view: TrustedView, device: str) -> Command:
    """Open a sealed command. Raises `Untrusted`, `Malformed` or `PolicyRefused`."""
    return _open(Command, data, view, device)


def admit(
    release: TrustedRelease,
    assigned: FamilyAssignment,
    device_class: str,
    min_counter: int,
    agent_version: str | None = None,
) -> None:
    """Whether this device may install a release that it was assigned.

    Raises `Untrusted` (signed under another digest than assigned), `PolicyRefused` (another device
    class, or below the family's floor) or `Incompatible` (needs a newer agent).
    """
    if (release.target, release.digest) != (assigned.target, assigned.digest):
        raise Untrusted(
            f"{assigned.target}: assigned as {assigned.digest[:16]}, but {release.target} is"
            f" signed as {release.digest[:16]}"
        )
    custom = release.custom
    if custom.device_classes and device_class not in custom.device_classes:
        raise PolicyRefused(
            f"{release.target} is for {', '.join(custom.device_classes)}; this is {device_class}"
        )
    if custom.counter < min_counter:
        raise PolicyRefused(
            f"{release.target} has counter {custom.counter}; the family's floor is {min_counter}"
        )
    if agent_version is not None and version_key(agent_version) < version_key(custom.min_agent):
        raise Incompatible(
            f"{release.target} needs agent {custom.min_agent}; this is {agent_version}"
        )


def _open(kind: type[M], data: bytes, view: TrustedView, device: str) -> M:
    name = kind.__name__.lower()
    try:
        message = open_sealed((kind,), data, view.hub_keys)
    except BadSignature as error:
        raise Untrusted(f"{name}: {error}") from error
    except ContractError as error:
        raise Malformed(f"{name}: {error}") from error
    assert isinstance(message, kind)  # noqa: S101 - narrows the type; open_sealed guarantees it
    if message.device != device:
        raise PolicyRefused(f"{name} is for {message.device}; this is {device}")
    if message.expires_at_ms <= view.now_ms:
        raise PolicyRefused(f"{name} expired at {message.expires_at_ms}; it is {view.now_ms}")
    return message
