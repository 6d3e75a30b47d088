"""Snapshot and timestamp: what the hub itself signs, so that devices see what is current.

Pure: decides from what stands there and from the time whether to sign again, and builds the bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TypeVar

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Snapshot, Timestamp
from tuf.api.serialization.json import JSONSerializer

from contract.trust import ISSUED_AT, LIFETIME_MS, MAX_VERSION, SNAPSHOT, TIMESTAMP
from fleet.trust.directory import File, Fresh, Trust
from fleet.trust.errors import NumbersUsedUp

RESIGN_AFTER_MS = 6 * 3_600_000
MS_A_VERSION = 60_000
S = TypeVar("S", Snapshot, Timestamp)


def snapshot_meta(trust: Trust) -> dict[str, MetaFile]:
    """What the snapshot lists: targets and every family, with length and hash."""
    files = {"targets.json": trust.targets}
    files.update({f"{family}.json": file for family, file in trust.families.items()})
    return {name: _meta(file) for name, file in files.items()}


def is_due(trust: Trust, last: Fresh | None, now_ms: int, passing: int = 0) -> bool:
    """Whether content changed, the last signature is older than six hours, or its version is not
    above `passing`, which devices have seen."""
    if last is None or last.snapshot.meta != snapshot_meta(trust):
        return True
    return last.timestamp.version < passing or now_ms - issued_at_ms(last) >= RESIGN_AFTER_MS


def believable(now_ms: int) -> int:
    """The highest version that a device can truly have seen of this hub.

    More than one a minute since 1970 is not believed: an honest hub never comes near, and a lying
    device that pushes the hub there leaves it numbers for centuries.
    """
    return min(now_ms // MS_A_VERSION, MAX_VERSION // 2)


def number_to_pass(seen: Mapping[str, int], now_ms: int) -> int:
    """What a hub that was restored from a backup must sign above: the highest that was seen."""
    stated = (seen.get(role, 0) for role in (SNAPSHOT, TIMESTAMP))
    return max((version for version in stated if version <= believable(now_ms)), default=0)


def sign(
    trust: Trust,
    last: Fresh | None,
    signers: Mapping[str, CryptoSigner],
    now_ms: int,
    taken: int,
) -> Fresh:
    """The next snapshot and timestamp. `taken`: the highest version on disk, readable or not, or
    seen by devices.

    Both always get the same version. The time of issue never goes back, or devices that saw a
    later one would call this one expired. Raises `NumbersUsedUp`.
    """
    issued = max(now_ms, issued_at_ms(last) if last else 0)
    version = max(last.timestamp.version if last else 0, taken) + 1
    if version > MAX_VERSION:
        raise NumbersUsedUp(
            "the online keys have signed up to the last number: they were stolen; make new ones"
            " with `outrider hub new-keys` and `outrider keys rotate`"
        )
    snapshot = Snapshot(
        version=version,
        expires=_expiry(issued + LIFETIME_MS[SNAPSHOT]),
        meta=snapshot_meta(trust),
    )
    snapshot_data = _signed(snapshot, signers[SNAPSHOT])
    timestamp = Timestamp(
        version=version,
        expires=_expiry(issued + LIFETIME_MS[TIMESTAMP]),
        snapshot_meta=MetaFile.from_data(snapshot.version, snapshot_data, ["sha256"]),
        unrecognized_fields={ISSUED_AT: issued},
    )
    return Fresh(timestamp, _signed(timestamp, signers[TIMESTAMP]), snapshot, snapshot_data)


def issued_at_ms(fresh: Fresh) -> int:
    """When the timestamp was signed, as it says itself."""
    found = fresh.timestamp.unrecognized_fields.get(ISSUED_AT)
    return found if isinstance(found, int) else 0


def _meta(file: File) -> MetaFile:
    return MetaFile.from_data(file.signed.version, file.data, ["sha256"])


def _signed(signed: S, signer: CryptoSigner) -> bytes:
    metadata = Metadata(signed)
    metadata.sign(signer)
    return metadata.to_bytes(JSONSerializer(compact=True))


def _expiry(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms // 1000, timezone.utc)
