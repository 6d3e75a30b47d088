"""Which devices may speak, and with which keys: an in-memory view of two tables.

Read again for every batch, so that a revoked device is ignored from the next batch on.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from sqlalchemy import select

from contract.envelope import PublicKey, key_id
from fleet.storage.database import Storage
from fleet.storage.schema import Certificate, Device


@dataclass(frozen=True)
class Identity:
    """A device's standing and the keys (by id) of its certificates that were not revoked."""

    status: str
    keys: dict[str, PublicKey]


class Identities:
    """Owned by one thread. Parsed keys are kept, by their PEM, between reads."""

    def __init__(self, storage: Storage) -> None:
        """Empty until `refresh`."""
        self._storage = storage
        self._found: dict[str, Identity] = {}
        self._parsed: dict[str, tuple[str, PublicKey]] = {}

    def refresh(self, names: Collection[str]) -> None:
        """Take the database's present view of these devices, and of no others."""
        with self._storage.reading() as session:
            devices = session.execute(
                select(Device.name, Device.status).where(Device.name.in_(names))
            ).all()
            certificates = session.execute(
                select(Certificate.device, Certificate.public_key_pem)
                .where(Certificate.device.in_(names))
                .where(Certificate.revoked_at_ms.is_(None))
            ).all()
        keys: dict[str, dict[str, PublicKey]] = {}
        for device, pem in certificates:
            name, key = self._key(pem)
            keys.setdefault(device, {})[name] = key
        self._found = {name: Identity(status, keys.get(name, {})) for name, status in devices}

    def find(self, device: str) -> Identity | None:
        """None when the device was never added, or was not asked for in the last `refresh`."""
        return self._found.get(device)

    def _key(self, pem: str) -> tuple[str, PublicKey]:
        known = self._parsed.get(pem)
        if known is None:
            key = load_pem_public_key(pem.encode())
            assert isinstance(key, EllipticCurvePublicKey)  # noqa: S101 - fleet.ca issues no other
            known = self._parsed[pem] = (key_id(key), key)
        return known
