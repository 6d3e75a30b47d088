"""What the hub checks before it takes over signed metadata: TUF's rules and a few of our own.

Pure: bytes in, typed metadata or `TrustRefused` out. Every device checks again; the hub checks so
that a wrong file is refused at once, to the person who sent it, instead of by a fleet at night.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from securesystemslib.signer import Key
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    DelegatedRole,
    Metadata,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError

from contract.authorities import names_root, read_ca_policy, root_names
from contract.errors import ContractError
from contract.targets import (
    CA_TARGET,
    HUB_KEYS_TARGET,
    FamilyPolicy,
    HubKeys,
    ReleaseCustom,
    custom_from_dict,
    policy_target,
)
from contract.trust import (
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    HubPublicKeys,
    check_family,
    check_role_keys,
    metadata_name,
)
from fleet.trust.errors import TrustForAnotherHub, TrustRefused
from fleet.trust.online import ASSIGNMENT

MIN_ROOT_THRESHOLD = 2
S = TypeVar("S", Root, Targets, Snapshot, Timestamp)


def read_signed(kind: type[S], delegator: Root | Targets, role: str, name: str, data: bytes) -> S:
    """Parse one file; verify that enough of the role's keys signed it, and its name with it."""
    metadata = _parse(kind, name, data)
    _verify(delegator, role, metadata, name)
    if name != metadata_name(role, metadata.signed.version):
        raise TrustRefused(f"{name} says version {metadata.signed.version}")
    return metadata.signed


def read_roots(roots: Sequence[bytes]) -> Root:
    """The last of a chain that starts at version 1, each signed by its predecessor and itself."""
    trusted: Root | None = None
    for version, data in enumerate(roots, start=1):
        name = metadata_name(ROOT, version)
        metadata = _parse(Root, name, data)
        if metadata.signed.version != version:
            raise TrustRefused(f"{name} says version {metadata.signed.version}")
        _check_root(metadata.signed, name)
        for delegator in (trusted, metadata.signed):
            if delegator is not None:
                _verify(delegator, ROOT, metadata, name)
        trusted = metadata.signed
    if trusted is None:
        raise TrustRefused("no root.json, so nothing says which keys to trust")
    return trusted


def read_targets(root: Root, name: str, data: bytes) -> Targets:
    """The top role: signed by root's keys; delegations and policies of the form we know."""
    targets = read_signed(Targets, root, TARGETS, name, data)
    roles = families_of(targets)
    keys = targets.delegations.keys if targets.delegations else {}
    for family, role in roles.items():
        _check_delegation(family, role, keys, name)
    if keys:
        _check_keys(f"{name}, families", 1, keys, list(keys))
    try:
        custom_from_dict(HubKeys, _target(targets, HUB_KEYS_TARGET, name).custom, HUB_KEYS_TARGET)
        for policy in map(policy_target, roles):
            custom_from_dict(FamilyPolicy, _target(targets, policy, name).custom, policy)
        if CA_TARGET in targets.targets:
            read_ca_policy(targets.targets[CA_TARGET].custom)
    except ContractError as error:
        raise TrustRefused(f"{name}: {error}") from error
    return targets


def read_family(targets: Targets, family: str, name: str, data: bytes) -> Targets:
    """One family's role: signed by its own key, and only about its own releases."""
    signed = read_signed(Targets, targets, family, name, data)
    if signed.delegations is not None:
        raise TrustRefused(f"{name}: a family delegates to nobody")
    for path, target in signed.targets.items():
        try:
            custom = custom_from_dict(ReleaseCustom, target.custom, path)
        except ContractError as error:
            raise TrustRefused(f"{name}: {error}") from error
        if not path.startswith(f"{family}/") or custom.family != family:
            raise TrustRefused(f"{name}: {path[:80]} does not belong to family {family}")
        if "sha256" not in target.hashes:
            raise TrustRefused(f"{name}: {path[:80]} has no SHA-256")
    return signed


def families_of(targets: Targets) -> dict[str, DelegatedRole]:
    """Family -> its delegation."""
    if targets.delegations is None:
        return {}
    if targets.delegations.roles is None:
        raise TrustRefused("targets.json delegates to bins, not to families")
    return targets.delegations.roles


def named_keys(root: Root, targets: Targets) -> dict[str, list[str]]:
    """The hub's keys as signed metadata names them: role, or `assignment` -> public keys in hex."""
    found = {
        role: [str(root.keys[keyid].keyval.get("public")) for keyid in root.roles[role].keyids]
        for role in (SNAPSHOT, TIMESTAMP)
    }
    policy = custom_from_dict(HubKeys, targets.targets[HUB_KEYS_TARGET].custom, HUB_KEYS_TARGET)
    return found | {ASSIGNMENT: policy.keys}


def require_this_hub(root: Root, targets: Targets, hub: HubPublicKeys) -> None:
    """Raises `TrustForAnotherHub` unless exactly this hub's keys sign snapshot and timestamp."""
    named = named_keys(root, targets)
    for role, public in ((SNAPSHOT, hub.snapshot), (TIMESTAMP, hub.timestamp)):
        if named[role] != [public]:
            raise TrustForAnotherHub(
                f"root.json names another {role} key than this hub's: run `outrider keys init`,"
                " or for a hub with new keys `outrider keys rotate`, with this hub's hub-keys.json"
            )
    if hub.assignment not in named[ASSIGNMENT]:
        raise TrustForAnotherHub("policy/hub-keys does not list this hub's assignment key")


def require_own_root(targets: Targets, root_pem: bytes) -> None:
    """Raises `TrustRefused` when devices would no longer trust the root that this hub serves under:
    every device would be cut off, and could not even be told."""
    if CA_TARGET not in targets.targets:
        return
    try:
        named = names_root(read_ca_policy(targets.targets[CA_TARGET].custom), root_pem)
    except ContractError as error:
        raise TrustRefused(str(error)) from error
    if not named:
        raise TrustRefused(
            f"{CA_TARGET} does not name the root of this hub, so every device would leave it: run"
            " `outrider keys ca` with this hub's root.crt too"
        )


def policy_roots(targets: Targets) -> frozenset[str] | None:
    """SHA-256 of each root that `policy/ca` lets devices trust; None where it names none."""
    if CA_TARGET not in targets.targets:
        return None
    return frozenset(root_names(read_ca_policy(targets.targets[CA_TARGET].custom)))


def _parse(kind: type[S], name: str, data: bytes) -> Metadata[S]:
    try:
        metadata = Metadata[S].from_bytes(data)
    except DeserializationError as error:
        raise TrustRefused(f"{name}: not TUF metadata") from error
    if not isinstance(metadata.signed, kind):
        raise TrustRefused(f"{name}: holds {metadata.signed.type}, not {kind.type}")
    return metadata


def _verify(delegator: Root | Targets, role: str, metadata: Metadata[S], name: str) -> None:
    try:
        delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except RepositoryError as error:
        raise TrustRefused(f"{name}: too few of the keys that may sign it did: {error}") from error
    except ValueError as error:
        raise TrustRefused(f"{name}: no trusted role vouches for {role}") from error


def _check_root(root: Root, name: str) -> None:
    if not root.consistent_snapshot:
        raise TrustRefused(f"{name}: consistent snapshots must be on")
    if root.roles[ROOT].threshold < MIN_ROOT_THRESHOLD:
        raise TrustRefused(f"{name}: one root key alone may not change the root")
    for role, keys in root.roles.items():
        _check_keys(f"{name}, {role}", keys.threshold, root.keys, keys.keyids)
    everybody = [keyid for role in root.roles.values() for keyid in role.keyids]
    _check_keys(f"{name}, all roles", 1, root.keys, everybody)


def _check_keys(what: str, threshold: int, keys: Mapping[str, Key], keyids: list[str]) -> None:
    try:
        chosen = [keys[keyid] for keyid in keyids]
        described = [(key.keytype, key.scheme, key.keyval.get("public")) for key in chosen]
        check_role_keys(what, threshold, described)
    except KeyError as error:
        raise TrustRefused(f"{what}: names a key that it does not hold") from error
    except ContractError as error:
        raise TrustRefused(str(error)) from error


def _check_delegation(family: str, role: DelegatedRole, keys: Mapping[str, Key], name: str) -> None:
    try:
        check_family(family)
    except ContractError as error:
        raise TrustRefused(f"{name}: {error}") from error
    if role.paths != [f"{family}/*"] or not role.terminating:
        raise TrustRefused(f"{name}: {family} must be terminating and restricted to {family}/*")
    _check_keys(f"{name}, {family}", role.threshold, keys, role.keyids)


def _target(targets: Targets, path: str, name: str) -> TargetFile:
    if path not in targets.targets:
        raise TrustRefused(f"{name}: {path} is missing")
    return targets.targets[path]
