"""What each change to keys and roles makes of the metadata in force: drafts, not yet signed. Pure.

One function a change. Each leaves what is in force alone and returns what shall follow it.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

from securesystemslib.signer import Key
from tuf.api.metadata import Metadata, Root, Targets

from contract.targets import (
    CA_TARGET,
    HUB_KEYS_TARGET,
    CaPolicy,
    FamilyPolicy,
    HubKeys,
    custom_from_dict,
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
)
from converter.trust.chain import SignedTrust
from converter.trust.drafts import Drafts, delegated, floor_of
from converter.trust.errors import FloorRefused, KeyUnknown
from converter.trust.metadata import delegate, expiry, new_family, public_key, set_policy

S = TypeVar("S", Root, Targets)


def replace_root_keys(base: SignedTrust, pairs: Iterable[tuple[str, Key]], now_ms: int) -> Drafts:
    """Old key id -> new key, in the root role."""
    root = _next(base.root, LIFETIME_MS[ROOT], now_ms)
    for old, new in pairs:
        root.revoke_key(old, ROOT)
        root.add_key(new, ROOT)
    return Drafts(Metadata(root))


def add_targets_key(base: SignedTrust, new: Key, now_ms: int) -> Drafts:
    """One more key that may sign targets.json, alone."""
    root = _next(base.root, LIFETIME_MS[ROOT], now_ms)
    root.add_key(new, TARGETS)
    return Drafts(Metadata(root))


def replace_targets_key(base: SignedTrust, old: str, new: Key | None, now_ms: int) -> Drafts:
    """Without the old key, which may be the one that signed the present targets.json: so that one
    is signed anew. `new` None: the others suffice."""
    root = _next(base.root, LIFETIME_MS[ROOT], now_ms)
    root.revoke_key(old, TARGETS)
    if new is not None:
        root.add_key(new, TARGETS)
    if not root.roles[TARGETS].keyids:
        raise KeyUnknown("this is the only targets key: add another one first")
    return Drafts(Metadata(root), Metadata(_next_targets(base, now_ms)))


def add_family(base: SignedTrust, family: str, key: Key, now_ms: int) -> Drafts:
    """A delegation to a new family, and its first metadata."""
    targets = _next_targets(base, now_ms)
    delegate(targets, family, key)
    first = Metadata(new_family(now_ms))
    return Drafts(targets=Metadata(targets), families={family: first})


def replace_family_key(
    base: SignedTrust,
    family: str,
    new: Key,
    current: Targets,
    withdrawn: Collection[str],
    now_ms: int,
) -> Drafts:
    """Another key for a family. `current`: its metadata to go on from, less what is `withdrawn`."""
    targets = _next_targets(base, now_ms)
    for keyid in list(delegated(targets)[family].keyids):
        targets.revoke_key(keyid, family)
    targets.add_key(new, family)
    signed = _next(current, FAMILY_LIFETIME_MS, now_ms)
    signed.version = base.families[family].version + 1
    unknown = set(withdrawn) - signed.targets.keys()
    if unknown:
        raise KeyUnknown(f"{', '.join(sorted(unknown))}: not among the releases of {family}")
    signed.targets = {name: t for name, t in signed.targets.items() if name not in withdrawn}
    return Drafts(targets=Metadata(targets), families={family: Metadata(signed)})


def replace_online_keys(base: SignedTrust, hub: HubPublicKeys, now_ms: int) -> Drafts:
    """Another hub, or the same with new keys: for snapshot, timestamp, assignments and commands."""
    root = _next(base.root, LIFETIME_MS[ROOT], now_ms)
    for role, public in ((SNAPSHOT, hub.snapshot), (TIMESTAMP, hub.timestamp)):
        for keyid in list(root.roles[role].keyids):
            root.revoke_key(keyid, role)
        root.add_key(public_key(public), role)
    targets = _next_targets(base, now_ms)
    set_policy(targets, HUB_KEYS_TARGET, HubKeys(keys=[hub.assignment]))
    return Drafts(Metadata(root), Metadata(targets))


def online_keys(base: SignedTrust) -> set[str]:
    """The hub's public keys that are trusted now, in hex."""
    named = custom_from_dict(HubKeys, base.targets.targets[HUB_KEYS_TARGET].custom, HUB_KEYS_TARGET)
    roles = (base.root.roles[role] for role in (SNAPSHOT, TIMESTAMP))
    keys = (base.root.keys[keyid] for role in roles for keyid in role.keyids)
    return {*named.keys, *(str(key.keyval["public"]) for key in keys)}


def replace_roots(base: SignedTrust, policy: CaPolicy, now_ms: int) -> Drafts:
    """Devices trust exactly these roots for TLS."""
    targets = _next_targets(base, now_ms)
    set_policy(targets, CA_TARGET, policy)
    return Drafts(targets=Metadata(targets))


def renew(
    base: SignedTrust,
    roles: Collection[str],
    current: Mapping[str, Targets],
    floors: Mapping[str, int],
    now_ms: int,
) -> Drafts:
    """The same again with a new term; and higher floors. `current`: the families' metadata to go on
    from, where another than the base's."""
    drafts = Drafts()
    if ROOT in roles:
        drafts.root = Metadata(_next(base.root, LIFETIME_MS[ROOT], now_ms))
    if TARGETS in roles or floors:
        targets = _next_targets(base, now_ms)
        for family, floor in floors.items():
            _raise_floor(base, targets, family, floor, current.get(family))
        drafts.targets = Metadata(targets)
    for family in [role for role in roles if role not in (ROOT, TARGETS)]:
        if family not in base.families:
            raise KeyUnknown(f"there is no family {family}")
        signed = _next(current.get(family, base.families[family]), FAMILY_LIFETIME_MS, now_ms)
        signed.version = base.families[family].version + 1
        drafts.families[family] = Metadata(signed)
    return drafts


def _raise_floor(
    base: SignedTrust, targets: Targets, family: str, floor: int, current: Targets | None
) -> None:
    if family not in base.families:
        raise KeyUnknown(f"there is no family {family}")
    before = floor_of(base.targets, family)
    counters = [_counter(t.custom) for t in (current or base.families[family]).targets.values()]
    if floor < before:
        raise FloorRefused(f"{family} has a floor of {before}, and devices never lower one")
    if floor > max(counters, default=0):
        raise FloorRefused(
            f"{family} has no release with counter {floor}: devices would refuse every one"
        )
    set_policy(targets, policy_target(family), FamilyPolicy(min_counter=floor))


def _counter(custom: object) -> int:
    found = custom.get("counter", 0) if isinstance(custom, dict) else 0
    return found if isinstance(found, int) else 0


def _next_targets(base: SignedTrust, now_ms: int) -> Targets:
    return _next(base.targets, LIFETIME_MS[TARGETS], now_ms)


def _next(signed: S, lifetime_ms: int, now_ms: int) -> S:
    following = copy.deepcopy(signed)
    following.version += 1
    following.expires = expiry(now_ms, lifetime_ms)
    return following
