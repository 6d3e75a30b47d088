"""The key ceremony: makes the offline keys and signs the first trust, or adds families to it.

Can be run again at any point, also after it was cut short: it makes what is missing. It never makes
a key anew that signed metadata already names, since that one may merely be kept elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Root, Targets

from contract.targets import HUB_KEYS_TARGET, HubKeys, custom_from_dict
from contract.trust import (
    LIFETIME_MS,
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    HubPublicKeys,
    check_family,
)
from converter.trust import folder
from converter.trust.ceremony import require_nothing_pending
from converter.trust.errors import KeyMissing, OtherHub
from converter.trust.keyfiles import check_passphrase, load_key
from converter.trust.metadata import (
    delegate,
    expiry,
    new_family,
    new_root,
    new_targets,
    public_key,
    signed_bytes,
)
from converter.trust.public import make_named

ROOT_KEYS = ("root-1", "root-2", "root-3")
TARGETS_KEYS = ("targets-1", "targets-2")


class KeysSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What the ceremony left behind."""

    directory: Path
    trust_file: Path
    """For the hub: `outrider publish` or POST /trust."""
    created: list[str]
    """Names of the private keys that this run made."""
    families: list[str]
    versions: dict[str, int]
    expires_at_ms: dict[str, int]


def init_keys(
    directory: Path,
    families: list[str],
    hub_keys: HubPublicKeys,
    passphrase: bytes,
    now_ms: int,
) -> KeysSummary:
    """Root (2 of 3), targets (1 of 2) and one key a family; raises the `SigningError` family.

    On an existing folder, families that are new get a key, a delegation and a first metadata file,
    and targets.json its next version; everything else stays as it is, byte for byte.
    """
    for family in families:
        check_family(family)
    check_passphrase(passphrase)
    folder.prepare(directory)
    created: list[str] = []
    with folder.exclusive(directory):
        if not folder.has_trust(directory):
            _first_trust(directory, families, hub_keys, passphrase, now_ms, created)
        trust = folder.read_trust(directory)
        _require_hub(trust.root, trust.targets, hub_keys)
        added = [family for family in dict.fromkeys(families) if family not in trust.families]
        if added:
            require_nothing_pending(directory)
            _add_families(directory, trust.targets, added, passphrase, now_ms, created)
        return _summary(directory, created)


def _first_trust(
    directory: Path,
    families: list[str],
    hub_keys: HubPublicKeys,
    passphrase: bytes,
    now_ms: int,
    created: list[str],
) -> None:
    """Root is written last: until it is there, the ceremony has not begun."""
    roots = [_key(directory, name, passphrase, created) for name in ROOT_KEYS]
    targets_keys = [_key(directory, name, passphrase, created) for name in TARGETS_KEYS]
    publics = [signer.public_key for signer in roots], [s.public_key for s in targets_keys]
    root = new_root([*publics[0]], [*publics[1]], hub_keys, now_ms)
    targets = new_targets(hub_keys, now_ms)
    for family in dict.fromkeys(families):
        _delegate(directory, targets, family, passphrase, now_ms, created)
    folder.store(directory, TARGETS, 1, signed_bytes(targets, targets_keys))
    folder.store(directory, ROOT, 1, signed_bytes(root, roots))


def _add_families(
    directory: Path,
    targets: Targets,
    families: Iterable[str],
    passphrase: bytes,
    now_ms: int,
    created: list[str],
) -> None:
    """The families' files come before the targets.json that delegates to them."""
    signer = _any_key(directory, TARGETS_KEYS, passphrase)
    for family in families:
        _delegate(directory, targets, family, passphrase, now_ms, created)
    targets.version += 1
    targets.expires = expiry(now_ms, LIFETIME_MS[TARGETS])
    folder.store(directory, TARGETS, targets.version, signed_bytes(targets, [signer]))


def _delegate(
    directory: Path,
    targets: Targets,
    family: str,
    passphrase: bytes,
    now_ms: int,
    created: list[str],
) -> None:
    signer = _key(directory, f"family-{family}", passphrase, created)
    delegate(targets, family, signer.public_key)
    folder.store(directory, family, 1, signed_bytes(new_family(now_ms), [signer]))


def _key(directory: Path, name: str, passphrase: bytes, created: list[str]) -> CryptoSigner:
    if not folder.private_key(directory, name).exists():
        created.append(name)
    return make_named(directory, name, passphrase)


def _any_key(directory: Path, names: Iterable[str], passphrase: bytes) -> CryptoSigner:
    for name in names:
        if folder.private_key(directory, name).exists():
            return load_key(folder.private_key(directory, name), passphrase)
    raise KeyMissing(f"none of {', '.join(names)} is in {directory}: a new family needs one")


def _require_hub(root: Root, targets: Targets, hub: HubPublicKeys) -> None:
    named = custom_from_dict(HubKeys, targets.targets[HUB_KEYS_TARGET].custom, HUB_KEYS_TARGET)
    wanted = ((SNAPSHOT, hub.snapshot), (TIMESTAMP, hub.timestamp))
    same = all(root.roles[role].keyids == [public_key(key).keyid] for role, key in wanted)
    if not same or hub.assignment not in named.keys:
        raise OtherHub("these keys belong to another hub: use its hub-keys.json or a new folder")


def _summary(directory: Path, created: list[str]) -> KeysSummary:
    trust_file = folder.export(directory)
    trust = folder.read_trust(directory)
    signed = {ROOT: trust.root, TARGETS: trust.targets, **trust.families}
    return KeysSummary(
        directory=directory,
        trust_file=trust_file,
        created=created,
        families=sorted(trust.families),
        versions=trust.versions(),
        expires_at_ms={r: int(s.expires.timestamp()) * 1000 for r, s in signed.items()},
    )
