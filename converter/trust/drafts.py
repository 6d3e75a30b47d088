"""Metadata that shall follow what is in force, and the signatures that it has and lacks. Pure.

Holds the rules that every change keeps to, whoever drafted it: versions follow each other, no role
gets weaker, no key counts twice. Reads and writes no file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from securesystemslib.signer import CryptoSigner, Key
from tuf.api.metadata import DelegatedRole, Metadata, Root, Targets
from tuf.api.serialization.json import JSONSerializer

from contract.authorities import read_ca_policy, root_names
from contract.errors import ContractError
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
    MAX_ROOT_BYTES,
    MAX_TARGETS_BYTES,
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    check_family,
    metadata_name,
)
from converter.trust.chain import SignedTrust
from converter.trust.errors import RequestOutdated, RequestRefused
from converter.trust.metadata import ROOT_THRESHOLD, public_key, require_distinct


@dataclass
class Drafts:
    """What shall be in force next; signatures are added in place."""

    root: Metadata[Root] | None = None
    targets: Metadata[Targets] | None = None
    families: dict[str, Metadata[Targets]] = field(default_factory=dict)

    def roles(self) -> dict[str, Metadata[Root] | Metadata[Targets]]:
        """Role -> metadata, in the order of TUF."""
        found: dict[str, Metadata[Root] | Metadata[Targets]] = {}
        if self.root is not None:
            found[ROOT] = self.root
        if self.targets is not None:
            found[TARGETS] = self.targets
        return found | self.families

    def files(self) -> dict[str, bytes]:
        """Name -> bytes, with the signatures that are there."""
        write = JSONSerializer(compact=True)
        return {
            metadata_name(role, metadata.signed.version): metadata.to_bytes(write)
            for role, metadata in self.roles().items()
        }


@dataclass(frozen=True)
class Need:
    """Some of these keys must sign this role."""

    role: str
    threshold: int
    signed: dict[str, Key]
    unsigned: dict[str, Key]

    @property
    def missing(self) -> int:
        """How many signatures more."""
        return max(0, self.threshold - len(self.signed))


def needs(base: SignedTrust, drafts: Drafts) -> list[Need]:
    """Every threshold that must be reached. A new root has two: the old root's and its own."""
    root = drafts.root.signed if drafts.root else base.root
    targets = drafts.targets.signed if drafts.targets else base.targets
    found = []
    for role, metadata in drafts.roles().items():
        for delegator in _delegators(role, base, root, targets):
            result = delegator.get_verification_result(
                role, metadata.signed_bytes, metadata.signatures
            )
            found.append(Need(role, result.threshold, result.signed, result.unsigned))
    return found


def is_complete(base: SignedTrust, drafts: Drafts) -> bool:
    """Whether every role has the signatures that it needs."""
    return not any(need.missing for need in needs(base, drafts))


def concerned(base: SignedTrust, drafts: Drafts) -> set[str]:
    """Ids of the offline keys that a change is about: those that sign it, and those of root."""
    roots = [base.root, *([drafts.root.signed] if drafts.root else [])]
    asked = {k for need in needs(base, drafts) for k in need.signed.keys() | need.unsigned.keys()}
    return asked.union(*(root.roles[role].keyids for root in roots for role in (ROOT, TARGETS)))


def may_sign(base: SignedTrust, drafts: Drafts) -> set[str]:
    """Ids of the keys whose signature still counts."""
    return {keyid for need in needs(base, drafts) if need.missing for keyid in need.unsigned}


def sign(base: SignedTrust, drafts: Drafts, signers: Iterable[CryptoSigner]) -> list[str]:
    """Sign whatever each key may sign and has not; returns the ids of the keys that signed."""
    used = []
    for signer in signers:
        keyid = signer.public_key.keyid
        roles = {need.role for need in needs(base, drafts) if keyid in need.unsigned}
        for role, metadata in drafts.roles().items():
            if role in roles:
                metadata.sign(signer, append=True)
        used += [keyid] if roles else []
    return used


def check(base: SignedTrust, drafts: Drafts) -> None:
    """Raises `RequestOutdated`, `RequestRefused` or `DuplicateKey`: nobody should sign this."""
    _check_versions(base, drafts)
    root = drafts.root.signed if drafts.root else base.root
    targets = drafts.targets.signed if drafts.targets else base.targets
    try:
        _check_root(root, base.root)
        _check_targets(targets, base)
        hub = custom_from_dict(HubKeys, targets.targets[HUB_KEYS_TARGET].custom, HUB_KEYS_TARGET)
        require_distinct("all roles", 1, [*_keys(root, targets), *map(public_key, hub.keys)])
    except (ContractError, KeyError) as error:
        raise RequestRefused(f"not the metadata that we know: {error}") from error
    strange = drafts.families.keys() - delegated(targets).keys()
    if strange:
        raise RequestRefused(f"targets.json delegates to no family {', '.join(sorted(strange))}")
    for name, data in drafts.files().items():
        if len(data) > (MAX_ROOT_BYTES if name.endswith(".root.json") else MAX_TARGETS_BYTES):
            raise RequestRefused(f"{name} would be longer than a device may fetch")


def delegated(targets: Targets) -> dict[str, DelegatedRole]:
    """Family -> its delegation."""
    return dict(targets.delegations.roles or {}) if targets.delegations else {}


def floor_of(targets: Targets, family: str) -> int:
    """A family's `min_counter`; 0 where it has no policy."""
    name = policy_target(family)
    if name not in targets.targets:
        return 0
    return custom_from_dict(FamilyPolicy, targets.targets[name].custom, name).min_counter


def roots_of(targets: Targets) -> list[str]:
    """The TLS roots that `policy/ca` names; none where there is no such policy."""
    if CA_TARGET not in targets.targets:
        return []
    return read_ca_policy(targets.targets[CA_TARGET].custom).roots


def named_roots(targets: Targets) -> dict[str, str]:
    """The same for people: SHA-256 of each -> its name and end."""
    roots = roots_of(targets)
    return root_names(CaPolicy(roots=roots)) if roots else {}


def _delegators(
    role: str, base: SignedTrust, root: Root, targets: Targets
) -> list[Root] | list[Root | Targets]:
    if role == ROOT:
        return [base.root, root]
    return [root if role == TARGETS else targets]


def _check_versions(base: SignedTrust, drafts: Drafts) -> None:
    current = base.versions()
    for role, metadata in drafts.roles().items():
        if metadata.signed.version != current.get(role, 0) + 1:
            raise RequestOutdated(
                f"{role}: version {metadata.signed.version} does not follow"
                f" {current.get(role, 0)}, which is in force: drop this change and start it again"
            )


def _check_root(root: Root, before: Root) -> None:
    if not root.consistent_snapshot:
        raise RequestRefused("root.json: consistent snapshots must stay on")
    for role in (ROOT, TARGETS, SNAPSHOT, TIMESTAMP):
        ids, threshold = root.roles[role].keyids, root.roles[role].threshold
        least = max(ROOT_THRESHOLD, before.roles[ROOT].threshold) if role == ROOT else 1
        if threshold < least:
            raise RequestRefused(f"root.json: {role} would need {threshold} keys, not {least}")
        require_distinct(role, threshold, [root.keys[keyid] for keyid in ids])
        had = len(before.roles[role].keyids)
        if role == ROOT and len(ids) < had:
            raise RequestRefused(f"root.json: root would have {len(ids)} keys instead of {had}")


def _check_targets(targets: Targets, base: SignedTrust) -> None:
    roles = delegated(targets)
    gone = base.families.keys() - roles.keys()
    if gone:
        # Devices take a snapshot that no longer lists a family for an attack.
        raise RequestRefused(f"targets.json: family {', '.join(sorted(gone))} would be gone")
    strange = [name for name in targets.targets if not name.startswith("policy/")]
    if strange:
        raise RequestRefused(f"targets.json: {strange[0][:80]} belongs into a family's metadata")
    _check_roots(roots_of(base.targets), roots_of(targets))
    for family, role in roles.items():
        check_family(family)
        if role.paths != [f"{family}/*"] or not role.terminating:
            raise RequestRefused(
                f"targets.json: {family} must be terminating, for {family}/* alone"
            )
        if not 1 <= role.threshold <= len(role.keyids):
            raise RequestRefused(f"targets.json: {family} has fewer keys than it needs")
        if floor_of(targets, family) < floor_of(base.targets, family):
            raise RequestRefused(f"targets.json: the floor of {family} would fall")


def _check_roots(before: list[str], after: list[str]) -> None:
    """One root at least stays: a device that leaves all it trusts at once finds nobody there."""
    if before and not after:
        raise RequestRefused("targets.json: policy/ca would be gone")
    if before and not set(before) & set(after):
        raise RequestRefused(
            "targets.json: no root of policy/ca would stay: name the old one and the new one first,"
            " and the new one alone when every device has followed"
        )


def _keys(root: Root, targets: Targets) -> Iterator[Key]:
    for role in root.roles.values():
        yield from (root.keys[keyid] for keyid in role.keyids)
    if targets.delegations is not None:
        for family in delegated(targets).values():
            yield from (targets.delegations.keys[keyid] for keyid in family.keyids)
