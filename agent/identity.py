"""Who this device is: its name, its key and certificate, its CA, and where its hub is.

Owns the layout of `S/identity/`, which agent.enrol fills. The key was made on this device and never
leaves it.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from agent.errors import DeviceError
from agent.link import tls
from contract.enrolment import Host, Port
from contract.ids import Id, TimeMs

DIRECTORY = "identity"
REPLACED = "identity.replaced"
"""Where an old identity stands for the moment between the two renames of a new enrolment."""
KEY, CERTIFICATE, CA, RECORD = "device.key", "device.crt", "ca.pem", "enrolment.json"
_MAX_BYTES = 262_144


class IdentityError(DeviceError):
    """The device cannot say who it is; the message says what to do."""


class NotEnrolled(IdentityError):
    """There is no identity yet."""


class AgentIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """`enrolment.json`: what enrolment settled, without secrets."""

    schema: int = 1
    device: Id
    device_class: Id
    hub_url: str
    broker_host: Host
    broker_port: Port
    floor_ms: TimeMs
    """The hub's time at enrolment: the device's clock is never taken to be earlier."""


@dataclass(frozen=True)
class Identity:
    """What `S/identity/` holds."""

    directory: Path
    record: AgentIdentity
    key: EllipticCurvePrivateKey

    @property
    def device(self) -> str:
        """The device's name: its certificate's subject, its MQTT client id, its topics."""
        return self.record.device

    @property
    def ca_pem(self) -> str:
        """The roots trusted now, which `policy/ca` may change at any time (agent.roots).

        Raises `IdentityError`.
        """
        return _read(self.directory / CA).decode("ascii", "replace")

    def tls_context(self, clock_is_wrong: bool) -> ssl.SSLContext:
        """For the broker. Reads certificate and roots anew, so that new ones are used at once."""
        directory = self.directory
        return tls.mutual(
            self.ca_pem, directory / CERTIFICATE, directory / KEY, clock_is_wrong=clock_is_wrong
        )


def load_identity(state_dir: Path) -> Identity:
    """Raises `NotEnrolled`, or `IdentityError` when what is there cannot be used."""
    directory = state_dir / DIRECTORY
    undo_cut_off_replacement(state_dir)
    if not (directory / RECORD).exists():
        raise NotEnrolled(
            f"this device is not enrolled: {state_dir} holds no identity;"
            " run `outrider agent enroll FILE` with the file that `outrider device add` wrote"
        )
    record = _record(_read(directory / RECORD))
    key = _key(_read(directory / KEY), directory / KEY)
    _read(directory / CA)
    return Identity(directory, record, key)


def undo_cut_off_replacement(state_dir: Path) -> None:
    """Bring the old identity back when power went between the two renames."""
    if (state_dir / REPLACED).exists() and not (state_dir / DIRECTORY).exists():
        (state_dir / REPLACED).rename(state_dir / DIRECTORY)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES)
    except OSError as error:
        raise IdentityError(f"cannot read {path}: {error.strerror}; {_AGAIN}") from error


def _record(data: bytes) -> AgentIdentity:
    try:
        record = msgspec.json.decode(data, type=AgentIdentity)
    except (msgspec.MsgspecError, ValueError) as error:
        raise IdentityError(f"{RECORD} is damaged ({error}); {_AGAIN}") from error
    if record.schema != 1:
        raise IdentityError(f"{RECORD} has schema {record.schema}; this agent reads 1")
    return record


def _key(data: bytes, path: Path) -> EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError) as error:
        raise IdentityError(f"{path} is no private key; {_AGAIN}") from error
    if not isinstance(key, EllipticCurvePrivateKey):
        raise IdentityError(f"{path} is not an ECDSA key; {_AGAIN}")
    return key


_AGAIN = "enrol the device again with `outrider agent enroll --force FILE`"
