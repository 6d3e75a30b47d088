"""How each offline role's metadata is built, signed and parsed.

Pure: time and keys are passed in, bytes come out. Reads and writes no file.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.signer import CryptoSigner, Key, SSlibKey
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    Root,
    TargetFile,
    Targets,
)
from tuf.api.serialization import DeserializationError, SerializationError
from tuf.api.serialization.json import JSONSerializer

from contract.errors import MalformedTrust
from contract.targets import (
    HUB_KEYS_TARGET,
    FamilyPolicy,
    HubKeys,
    Policy,
    ReleaseCustom,
    custom_to_dict,
    encode_custom,
    policy_target,
)
from contract.trust import (
    FAMILY_LIFETIME_MS,
    LIFETIME_MS,
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    HubPublicKeys,
    check_role_keys,
)
from converter.trust.errors import DuplicateKey, MetadataDamaged

ROOT_THRESHOLD = 2
S = TypeVar("S", Root, Targets)


def public_key(public_hex: str) -> Key:
    """A TUF key from a raw Ed25519 public key."""
    return SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_hex)))


def new_root(
    root_keys: list[Key], targets_keys: list[Key], hub: HubPublicKeys, now_ms: int
) -> Root:
    """Version 1 of root.json: two of the root keys must sign, one of the targets keys may."""
    online = [public_key(hub.snapshot), public_key(hub.timestamp)]
    require_distinct("root", ROOT_THRESHOLD, root_keys)
    require_distinct("all roles", 1, [*root_keys, *targets_keys, *online])
    root = Root(version=1, expires=expiry(now_ms, LIFETIME_MS[ROOT]), consistent_snapshot=True)
    for key in root_keys:
        root.add_key(key, ROOT)
    for key in targets_keys:
        root.add_key(key, TARGETS)
    for role, key in zip((SNAPSHOT, TIMESTAMP), online, strict=True):
        root.add_key(key, role)
    root.roles[ROOT].threshold = ROOT_THRESHOLD
    return root


def new_targets(hub: HubPublicKeys, now_ms: int) -> Targets:
    """Version 1 of targets.json, with no family yet: it says who may sign assignments."""
    targets = Targets(version=1, expires=expiry(now_ms, LIFETIME_MS[TARGETS]))
    targets.delegations = Delegations({}, {})
    set_policy(targets, HUB_KEYS_TARGET, HubKeys(keys=[hub.assignment]))
    return targets


def delegate(targets: Targets, family: str, key: Key) -> None:
    """Let `key` sign what stands under `{family}/`, and nothing else; with a floor of 0."""
    assert targets.delegations is not None  # noqa: S101 - new_targets and the reader set it
    assert targets.delegations.roles is not None  # noqa: S101 - likewise
    require_distinct("families", 1, [*targets.delegations.keys.values(), key])
    targets.delegations.roles[family] = DelegatedRole(
        family, [], threshold=1, terminating=True, paths=[f"{family}/*"]
    )
    targets.add_key(key, family)
    set_policy(targets, policy_target(family), FamilyPolicy(min_counter=0))


def set_policy(targets: Targets, name: str, policy: Policy) -> None:
    """A policy is a target whose bytes are its own `custom`, so no device has to fetch it."""
    targets.targets[name] = _target(name, encode_custom(policy), custom_to_dict(policy))


def new_family(now_ms: int) -> Targets:
    """Version 1 of a family's metadata, without a release."""
    return Targets(version=1, expires=expiry(now_ms, FAMILY_LIFETIME_MS))


def add_release(family: Targets, target: str, manifest: bytes, custom: ReleaseCustom) -> None:
    """List one release: its manifest's length and SHA-256, and what the signer vouches for."""
    family.targets[target] = _target(target, manifest, custom_to_dict(custom))


def signed_bytes(signed: S, signers: Iterable[CryptoSigner]) -> bytes:
    """The metadata file, signed by all of `signers`, compact."""
    metadata = Metadata(signed)
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes(JSONSerializer(compact=True))


def parse(kind: type[S], data: bytes, name: str) -> Metadata[S]:
    """Raises `MetadataDamaged` that names the file; verifies no signature."""
    try:
        metadata = Metadata[S].from_bytes(data)
        _ = metadata.signed_bytes  # some JSON has no canonical form, so that nobody can sign it
    except (DeserializationError, SerializationError) as error:
        raise MetadataDamaged(f"{name}: not TUF metadata; restore it from a backup") from error
    if not isinstance(metadata.signed, kind):
        raise MetadataDamaged(f"{name}: holds {metadata.signed.type}, not {kind.type}")
    return metadata


def verify(delegator: Root | Targets, role: str, metadata: Metadata[S], name: str) -> S:
    """Raises `MetadataDamaged` when too few of the role's keys signed; returns what is signed."""
    try:
        delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except (RepositoryError, ValueError) as error:
        raise MetadataDamaged(f"{name}: not signed by its own keys ({error})") from error
    return metadata.signed


def require_distinct(role: str, threshold: int, keys: Iterable[Key]) -> None:
    """Raises `DuplicateKey` when one key stands there twice, whatever its key ids."""
    try:
        described = [(key.keytype, key.scheme, key.keyval.get("public")) for key in keys]
        check_role_keys(role, threshold, described)
    except MalformedTrust as error:
        raise DuplicateKey(f"{error}; make a new key for one of them") from error


def expiry(now_ms: int, lifetime_ms: int) -> datetime:
    """TUF's whole seconds, UTC."""
    return datetime.fromtimestamp((now_ms + lifetime_ms) // 1000, timezone.utc)


def _target(name: str, data: bytes, custom: dict[str, object]) -> TargetFile:
    target = TargetFile.from_data(name, data, ["sha256"])
    target.unrecognized_fields["custom"] = custom
    return target
