"""Signs a release: the family's next metadata, written into the bundle.

Starts from the newest metadata that is known, so that no earlier release is lost. Signing the same
bundle twice changes nothing; another content under the same version is refused.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Targets

from contract.ids import digest_of
from contract.manifest import Manifest
from contract.targets import ReleaseCustom, custom_from_dict
from contract.trust import FAMILY_LIFETIME_MS, MAX_TARGETS_BYTES, TARGETS, metadata_name
from converter.trust import folder
from converter.trust.chain import SignedTrust
from converter.trust.drafts import delegated, floor_of
from converter.trust.errors import (
    FamilyFull,
    FamilyUnknown,
    KeyDamaged,
    ReleaseSigned,
)
from converter.trust.keyfiles import load_key
from converter.trust.metadata import add_release, expiry, signed_bytes
from converter.trust.names import names_of
from converter.trust.published import published_or_own
from model.archive import open_bundle, with_trust


class SignedSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What was signed."""

    target: str
    digest: str
    """Of the manifest: the target's bytes."""
    counter: int
    version: int
    """Of the family's metadata that now lists the release."""
    expires_at_ms: int
    fresh: bool
    """False when it had been signed before; the bundle then carries that signature."""


def sign_bundle(
    bundle: Path,
    keys: Path,
    passphrase: bytes,
    base: bytes | None = None,
    *,
    now_ms: int,
) -> SignedSummary:
    """Sign the bundle's manifest with its family's key; raises the `SigningError` family.

    `base` is the hub's current metadata of the family (`GET /trust/{family}.json`), built upon when
    it lists something that this folder does not know. The folder is written before the bundle, so
    that a run that was cut short is simply repeated.
    """
    with open_bundle(bundle) as opened:
        opened.check()
        manifest, manifest_bytes = opened.manifest, opened.manifest_bytes
    with folder.exclusive(keys):
        members, summary = _sign(manifest, manifest_bytes, keys, passphrase, base, now_ms)
    with_trust(bundle, bundle, members)
    return summary


def _sign(
    manifest: Manifest,
    manifest_bytes: bytes,
    keys: Path,
    passphrase: bytes,
    base: bytes | None,
    now_ms: int,
) -> tuple[dict[str, bytes], SignedSummary]:
    """The bundle's trust members; the folder holds them too when this returns."""
    trust = folder.read_trust(keys)
    if manifest.family not in trust.families:
        raise FamilyUnknown(
            f"no key for family {manifest.family}: run `outrider keys add {keys} {manifest.family}`"
            " first"
        )
    signer = _signer(keys, trust, manifest.family, passphrase)
    current = published_or_own(trust, manifest.family, base)
    fresh = not _lists(current.signed, manifest.target, manifest_bytes)
    family = current.signed
    if fresh:
        floor = floor_of(trust.targets, manifest.family)
        _extend(family, current.highest, floor, manifest, manifest_bytes, now_ms)
        data = signed_bytes(family, [signer])
        if len(data) > MAX_TARGETS_BYTES:
            raise FamilyFull(
                f"{manifest.family} has {len(family.targets)} releases, more than its metadata can"
                " list: start a new family"
            )
        folder.store(keys, manifest.family, family.version, data)
        folder.export(keys)
    else:
        data = current.data
    members = {metadata_name(manifest.family, family.version): data}
    targets_name = metadata_name(TARGETS, trust.targets.version)
    members[targets_name] = trust.files[targets_name]
    return members, _summary(family, manifest.target, manifest_bytes, fresh)


def _signer(keys: Path, trust: SignedTrust, family: str, passphrase: bytes) -> CryptoSigner:
    """The family's key that is here; raises `KeyMissing` when none is."""
    names = names_of(keys, trust)
    trusted = delegated(trust.targets)[family].keyids
    named = [names[keyid] for keyid in trusted if keyid in names]
    here = [name for name in named if folder.private_key(keys, name).exists()]
    path = folder.private_key(keys, (here or named or [f"family-{family}"])[0])
    signer = load_key(path, passphrase)
    if signer.public_key.keyid not in trusted:
        raise KeyDamaged(f"{path.name} is not the key of {family}: restore it from its backup")
    return signer


def _lists(family: Targets, target: str, manifest: bytes) -> bool:
    known = family.targets.get(target)
    if known is None:
        return False
    if known.hashes.get("sha256") != digest_of(manifest):
        raise ReleaseSigned(
            f"{target} was signed before with other content: give this one a new version"
        )
    return True


def _extend(
    family: Targets,
    highest: int,
    floor: int,
    manifest: Manifest,
    manifest_bytes: bytes,
    now_ms: int,
) -> None:
    """The counter is never below the floor, also when earlier releases were withdrawn."""
    customs = [custom_from_dict(ReleaseCustom, t.custom, n) for n, t in family.targets.items()]
    custom = ReleaseCustom(
        family=manifest.family,
        counter=max(max((c.counter for c in customs), default=0) + 1, floor),
        device_classes=manifest.device_classes,
    )
    add_release(family, manifest.target, manifest_bytes, custom)
    family.version = highest + 1
    family.expires = expiry(now_ms, FAMILY_LIFETIME_MS)


def _summary(family: Targets, target: str, manifest: bytes, fresh: bool) -> SignedSummary:
    custom = custom_from_dict(ReleaseCustom, family.targets[target].custom, target)
    return SignedSummary(
        target=target,
        digest=digest_of(manifest),
        counter=custom.counter,
        version=family.version,
        expires_at_ms=int(family.expires.timestamp()) * 1000,
        fresh=fresh,
    )
