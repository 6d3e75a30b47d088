"""What a family's next metadata goes on from: the folder's own, or what the hub has published.

Several workstations may sign for one family, and only the hub sees all of them. What it says is
taken only when the family's own key signed it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tuf.api.metadata import Targets

from contract.trust import MAX_TARGETS_BYTES, metadata_name
from converter.trust import folder
from converter.trust.chain import SignedTrust
from converter.trust.errors import BaseRefused, FamilyUnknown, MetadataDamaged
from converter.trust.metadata import parse, verify


@dataclass(frozen=True)
class Current:
    """A family's metadata to build on, and the highest version that is taken."""

    signed: Targets
    data: bytes
    highest: int


def adopt(
    directory: Path, trust: SignedTrust, family: str, published: bytes | None
) -> tuple[SignedTrust, Targets]:
    """The folder's trust, which now knows of what the hub published, and the content to go on from.

    Raises `FamilyUnknown` or `BaseRefused`. The caller holds the folder's lock.
    """
    if family not in trust.families:
        raise FamilyUnknown(f"there is no family {family}: `outrider keys add` makes one")
    if published is not None:
        hub = _read_base(trust.targets, family, published)
        if hub.version > trust.families[family].version:
            folder.store(directory, family, hub.version, published)
            trust = folder.read_trust(directory)
    return trust, published_or_own(trust, family, published).signed


def published_or_own(trust: SignedTrust, family: str, base: bytes | None) -> Current:
    """Whichever of the folder's and the hub's metadata holds all that the other does.

    Where neither does, the hub's: what stands there alone was published, the folder's was not.
    """
    local = trust.families[family]
    local_data = trust.files[metadata_name(family, local.version)]
    if base is None:
        return Current(local, local_data, local.version)
    hub = _read_base(trust.targets, family, base)
    if local.version >= hub.version and hub.targets.items() <= local.targets.items():
        return Current(local, local_data, local.version)
    return Current(hub, base, max(local.version, hub.version))


def _read_base(targets: Targets, family: str, base: bytes) -> Targets:
    if len(base) > MAX_TARGETS_BYTES:
        raise BaseRefused(f"the hub's {family}.json is too long; do not build on it")
    try:
        return verify(targets, family, parse(Targets, base, f"{family}.json"), f"{family}.json")
    except MetadataDamaged as error:
        raise BaseRefused(f"the hub's metadata cannot be built upon: {error}") from error
