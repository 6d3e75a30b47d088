"""The fleet's devices: adds one, finds them, revokes one.

Refuses names and labels that cannot stand in a topic, a certificate or a selector. What a device
reports about itself is written by fleet.ingest alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from contract.enrolment import EnrolmentFile
from contract.errors import InvalidId
from contract.ids import check_device_id, check_id
from fleet.ca import Authority
from fleet.certificates import revoke_certificates
from fleet.enrolment import LIFETIME_MS, open_enrolment
from fleet.errors import DeviceExists, DeviceNotFound, InvalidDevice, TrustMissing
from fleet.ports import HubServices
from fleet.storage.schema import AssignedFamily, Device, Enrolment, OutgoingCommand

MAX_LABELS = 32
_LABEL = re.compile(r"^[a-z0-9][a-z0-9_.-]{0,62}\Z")
_VALUE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")
_ROOT = re.compile(r"^(\d{1,9})\.root\.json\Z")
_RESERVED_LABELS = frozenset({"all", "class", "name"})
"""Words of the selector language."""


def add_device(
    hub: HubServices,
    name: str,
    device_class: str,
    labels: Mapping[str, str],
    valid_ms: int = LIFETIME_MS,
) -> EnrolmentFile:
    """Expect a device and return its enrolment file, which holds the only copy of the secret.

    A device that never enrolled, or was removed, may be added again; the older file is then void.
    """
    _check(name, device_class, labels)
    root_json = trust_root(hub)
    with hub.storage.session() as session:
        _expect(session, name, device_class, labels, hub.clock())
        session.flush()
        return _file(hub, session, name, device_class, root_json, valid_ms)


def replace_device(
    hub: HubServices,
    name: str,
    device_class: str | None,
    labels: Mapping[str, str] | None,
    valid_ms: int = LIFETIME_MS,
) -> EnrolmentFile:
    """Expect another machine, or the same one with a new disk, in the place of a known device.

    The old certificate is revoked. History and assignments stay: the new one gets what the old one
    was to have. Class and labels stay where none are given.
    """
    root_json = trust_root(hub)
    with hub.storage.session() as session:
        device = find_device(session, name)
        _check(name, device_class or device.device_class, labels or {})
        device.device_class = device_class or device.device_class
        device.labels = dict(device.labels if labels is None else labels)
        if device.status == "enrolled":
            revoke_certificates(session, device, hub.clock())
            _forget_reports(device)
        device.status, device.online, device.published_epoch = "expected", False, None
        session.execute(delete(OutgoingCommand).where(OutgoingCommand.device == name))
        file = _file(hub, session, name, device.device_class, root_json, valid_ms)
    hub.link.wake()
    return file


def remove_device(hub: HubServices, name: str) -> None:
    """Revoke a device: its messages are ignored from now on, and its topics are cleared.

    Its events and reports stay; they are the fleet's history.
    """
    with hub.storage.session() as session:
        device = find_device(session, name)
        device.status = "revoked"
        device.online = False
        device.published_epoch = None
        revoke_certificates(session, device, hub.clock())
        for table in (AssignedFamily, Enrolment, OutgoingCommand):
            session.execute(delete(table).where(table.device == name))
    hub.link.wake()


def find_device(session: Session, name: str) -> Device:
    """A device that has not been removed; raises `DeviceNotFound`."""
    found = session.get(Device, name)
    if found is None or found.status == "revoked":
        raise DeviceNotFound(f"there is no device named {name!r}")
    return found


def list_devices(session: Session) -> list[Device]:
    """Every device that has not been removed, by name."""
    wanted = select(Device).where(Device.status != "revoked").order_by(Device.name)
    return list(session.scalars(wanted))


def trust_root(hub: HubServices) -> str:
    """The newest root.json that the hub holds; raises `TrustMissing`."""
    found = [
        (int(m[1]), data) for f, data in hub.repository.files().items() if (m := _ROOT.match(f))
    ]
    if not found:
        raise TrustMissing(
            "the hub has no trust root yet: run `outrider keys init` and hand its trust.json over"
        )
    return max(found)[1].decode()


def _file(
    hub: HubServices,
    session: Session,
    name: str,
    device_class: str,
    root_json: str,
    valid_ms: int,
) -> EnrolmentFile:
    now_ms = hub.clock()
    enrolment = open_enrolment(session, name, now_ms, valid_ms)
    assert enrolment.secret is not None  # noqa: S101 - narrows the type; just made
    return EnrolmentFile(
        device=name,
        device_class=device_class,
        hub_url=hub.config.api_url,
        ca_pem=Authority(hub.directory / "ca").roots_pem(),
        broker_host=hub.config.broker_host,
        broker_port=hub.config.broker_port,
        root_json=root_json,
        floor_ms=now_ms,
        secret=enrolment.secret,
        expires_at_ms=enrolment.expires_at_ms,
    )


def _expect(
    session: Session, name: str, device_class: str, labels: Mapping[str, str], now_ms: int
) -> None:
    found = session.get(Device, name)
    if found is None:
        found = Device(name=name, created_at_ms=now_ms)
        session.add(found)
    elif found.status == "enrolled":
        raise DeviceExists(
            f"device {name} is enrolled already: give --replace for another machine in its place"
        )
    if found.status == "revoked":
        _forget_reports(found)
    found.status = "expected"
    found.device_class = device_class
    found.labels = dict(labels)


def _forget_reports(device: Device) -> None:
    """Another machine may come under this name: what the former one reported says nothing of it.

    The number of the last assignment stays, so that no number is given twice.
    """
    device.reported_seq = 0
    device.families, device.hardware, device.tuf_versions = {}, {}, {}
    device.session = device.state_boot = device.state_at_ms = device.last_seen_ms = None
    device.past_boots, device.state_mono_ms = [], 0
    device.outbox_pending = device.outbox_dropped = device.free_bytes = 0


def _check(name: str, device_class: str, labels: Mapping[str, str]) -> None:
    try:
        check_device_id(name)
        check_id(device_class, "device class")
    except InvalidId as error:
        raise InvalidDevice(str(error)) from error
    if len(labels) > MAX_LABELS:
        raise InvalidDevice(f"{len(labels)} labels; at most {MAX_LABELS}")
    for label, value in labels.items():
        if not _LABEL.match(label) or label in _RESERVED_LABELS:
            raise InvalidDevice(f"label {label[:80]!r} is not valid: use a-z, 0-9, '_', '.', '-'")
        if not _VALUE.match(value):
            raise InvalidDevice(f"label {label}: value {value[:80]!r} is not valid")
