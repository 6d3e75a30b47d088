"""Reads out of a good refresh what the device acts on: hub keys, roots, floors, releases.

All lookups of one view go through the one Updater of its refresh, so that they see one consistent
state. What is wrong with one family is kept beside that family and stops no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.api.metadata import TargetFile, Targets
from tuf.ngclient import Updater

from agent.errors import DeviceError, Malformed, RollbackDetected, Untrusted
from agent.trust.failures import as_device_error
from agent.trust.tuf_internals import verified_roles
from agent.trust.view import TrustedRelease
from contract.authorities import read_ca_policy
from contract.errors import ContractError
from contract.ids import is_digest
from contract.manifest import MAX_MANIFEST_BYTES
from contract.targets import (
    CA_TARGET,
    HUB_KEYS_TARGET,
    FamilyPolicy,
    HubKeys,
    ReleaseCustom,
    custom_from_dict,
    policy_target,
)
from contract.trust import MAX_VERSION, TARGETS

_NO_RELEASE = "-"
"""Not a version: looking it up loads a family's metadata and finds nothing."""


@dataclass(frozen=True)
class Found:
    """What the lookups brought. `families` are those whose metadata is good."""

    hub_keys: HubKeys
    counters: dict[str, int]
    releases: list[TrustedRelease]
    families: list[str]
    refused: dict[str, DeviceError]
    ca_roots: list[str]
    """What `policy/ca` names; empty where there is none that can be used."""


def look_up(updater: Updater, targets: Sequence[str], known: Mapping[str, int]) -> Found:
    """The families of `targets`, or all; `known` are the versions that the journal has seen."""
    top = verified_roles(updater, ())[TARGETS]
    assert isinstance(top, Targets)  # noqa: S101 - python-tuf loaded it as the role of that name
    delegated = list(top.delegations.roles or {}) if top.delegations else []
    found = Found(_hub_keys(top), _counters(top, delegated), [], [], {}, [])
    _look_up_roots(top, found)
    asked = dict.fromkeys(target.partition("/")[0] for target in targets)
    for family in asked or delegated:
        try:
            _look_up_family(updater, family, known.get(family, 0), found)
        except DeviceError as error:
            found.refused[family] = error
        except (RepositoryError, DownloadError, OSError, ValueError) as error:
            found.refused[family] = as_device_error(error)
    return found


def _look_up_roots(top: Targets, found: Found) -> None:
    """A policy that cannot be read changes no root, and stops no release."""
    target = top.targets.get(CA_TARGET)
    if target is None:
        return
    try:
        found.ca_roots.extend(read_ca_policy(target.custom).roots)
    except ContractError as error:
        found.refused[CA_TARGET] = Malformed(str(error))


def _look_up_family(updater: Updater, family: str, known: int, found: Found) -> None:
    updater.get_targetinfo(f"{family}/{_NO_RELEASE}")
    signed = verified_roles(updater, [family]).get(family)
    if not isinstance(signed, Targets):
        raise Untrusted(f"no key may sign for family {family}")
    require_sane_versions({family: signed.version})
    if signed.version < known:
        raise RollbackDetected(f"{family}.json: version {signed.version}, after {known} was seen")
    found.families.append(family)
    for path in signed.targets:
        target = updater.get_targetinfo(path)
        if target is None or not path.startswith(f"{family}/"):
            continue
        try:
            found.releases.append(_release(path, family, target))
        except Malformed as error:
            found.refused[path] = error


def require_sane_versions(versions: Mapping[str, int]) -> None:
    """A version that no file name can carry would overflow the journal; raises `Malformed`."""
    for role, version in versions.items():
        if version > MAX_VERSION:
            raise Malformed(f"{role}.json: a version above {MAX_VERSION}")


def _release(path: str, family: str, target: TargetFile) -> TrustedRelease:
    digest = target.hashes.get("sha256", "")
    try:
        custom = custom_from_dict(ReleaseCustom, target.custom, path)
    except ContractError as error:
        raise Malformed(str(error)) from error
    if not 0 < target.length <= MAX_MANIFEST_BYTES:
        raise Malformed(f"{path}: a manifest of {target.length} bytes")
    if not is_digest(digest) or custom.family != family:
        raise Malformed(f"{path}: no SHA-256, or signed for family {custom.family}")
    return TrustedRelease(path, digest, target.length, custom)


def _hub_keys(top: Targets) -> HubKeys:
    target = top.targets.get(HUB_KEYS_TARGET)
    if target is None:
        raise Malformed(f"{HUB_KEYS_TARGET} is missing, so nobody may assign anything")
    try:
        keys = custom_from_dict(HubKeys, target.custom, HUB_KEYS_TARGET)
        keys.by_id()
    except (ContractError, ValueError) as error:
        raise Malformed(f"{HUB_KEYS_TARGET}: {error}") from error
    return keys


def _counters(top: Targets, families: Iterable[str]) -> dict[str, int]:
    # A family whose policy is gone stays in, so that the journal's own floor holds on.
    counters = dict.fromkeys(families, 0)
    for family in counters:
        try:
            name = policy_target(family)
            if name in top.targets:
                policy = custom_from_dict(FamilyPolicy, top.targets[name].custom, name)
                counters[family] = policy.min_counter
        except ContractError as error:
            raise Malformed(str(error)) from error
    return counters
