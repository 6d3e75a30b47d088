"""Which offered metadata may take the place of what is in force. Pure.

TUF itself lets a newer version drop what an older one listed. Here that would lose a release that
another signer published in between, so a version that skips some must hold all that is listed now.
"""

from __future__ import annotations

from collections.abc import Mapping

from tuf.api.metadata import Root

from contract.errors import MalformedTrust
from contract.ids import digest_of
from contract.manifest import Manifest
from contract.targets import ReleaseCustom, custom_from_dict
from contract.trust import ROOT, TARGETS, check_metadata_file, metadata_name
from fleet.trust.directory import File, Trust
from fleet.trust.errors import TrustRefused, VersionConflict
from fleet.trust.verification import families_of, read_family, read_roots, read_targets

MAX_LEAP = 10_000
"""Versions that a family may skip: what a stolen key runs up here is lost to its owner as well."""


def merge(trust: Trust | None, offered: Mapping[str, bytes]) -> Trust:
    """The state after taking over a `trust.json`; raises `TrustRefused` or `VersionConflict`."""
    roots = _merge_roots(trust.roots if trust else [], offered)
    root = read_roots(roots)
    newest = newest_files(offered)
    if TARGETS not in newest and trust is None:
        raise TrustRefused("trust.json holds no targets.json")
    targets = _newer_targets(root, trust, newest.get(TARGETS))
    families = {}
    for family in families_of(targets.signed):
        current = trust.families.get(family) if trust else None
        families[family] = _newer_family(targets, family, current, newest.get(family))
    return Trust(roots, root, targets, families)


def adopt(trust: Trust, offered: Mapping[str, bytes], manifest: Manifest, data: bytes) -> Trust:
    """The state after publishing a signed bundle; the same one when it is in force already."""
    family = manifest.family
    newest = newest_files(offered)
    stray = set(newest) - {TARGETS, family}
    if stray:
        raise TrustRefused(f"the bundle carries metadata of {', '.join(sorted(stray))[:200]}")
    if family not in newest:
        raise TrustRefused(f"the bundle is not signed for family {family}: run `outrider sign`")
    targets = _newer_targets(trust.root, trust, newest.get(TARGETS))
    absent = set(families_of(targets.signed)) - set(trust.families) - {family}
    if absent:
        raise TrustRefused(
            f"the hub does not know family {', '.join(sorted(absent))} yet: hand it trust.json"
        )
    if family not in families_of(targets.signed):
        raise TrustRefused(f"no trusted key may sign for family {family}: hand trust.json over")
    name, content = newest[family]
    file = File(name, content, read_family(targets.signed, family, name, content))
    require_listed(file, manifest, data)
    current = trust.families.get(family)
    return Trust(
        trust.roots,
        trust.root,
        targets,
        {**trust.families, family: _successor(current, file, manifest, data)},
    )


def require_listed(file: File, manifest: Manifest, data: bytes) -> ReleaseCustom:
    """Raises `TrustRefused` unless the metadata lists exactly this manifest."""
    target = file.signed.targets.get(manifest.target)
    if target is None:
        raise TrustRefused(f"{file.name} does not list {manifest.target}: sign the bundle again")
    if target.length != len(data) or target.hashes["sha256"] != digest_of(data):
        raise TrustRefused(f"{manifest.target}: the manifest is not the one that was signed")
    custom = custom_from_dict(ReleaseCustom, target.custom, manifest.target)
    if sorted(custom.device_classes) != sorted(manifest.device_classes):
        raise TrustRefused(f"{manifest.target}: manifest and signature name other device classes")
    return custom


def newest_files(offered: Mapping[str, bytes]) -> dict[str, tuple[str, bytes]]:
    """Role -> name and bytes of its highest version; raises `TrustRefused`."""
    found: dict[str, tuple[int, str, bytes]] = {}
    for name, data in offered.items():
        try:
            role, version = check_metadata_file(name, data)
        except MalformedTrust as error:
            raise TrustRefused(str(error)) from error
        found[role] = max(found.get(role, (0, "", b"")), (version, name, data))
    return {role: (name, data) for role, (_, name, data) in found.items()}


def _merge_roots(known: list[bytes], offered: Mapping[str, bytes]) -> list[bytes]:
    roots = list(known)
    version = 1
    while (data := offered.get(metadata_name(ROOT, version))) is not None:
        if version <= len(known) and known[version - 1] != data:
            raise TrustRefused(f"{version}.root.json is not the one that this hub trusts")
        if version > len(known):
            roots.append(data)
        version += 1
    return roots


def _newer_targets(root: Root, trust: Trust | None, offered: tuple[str, bytes] | None) -> File:
    current = trust.targets if trust else None
    if offered is not None:
        name, data = offered
        file = File(name, data, read_targets(root, name, data))
        if current is None or file.signed.version > current.signed.version:
            return file
        if file.signed.version == current.signed.version and data != current.data:
            raise VersionConflict(f"another {name} came first: start again from the hub's trust")
    assert current is not None  # noqa: S101 - merge refuses a first import without targets
    read_targets(root, current.name, current.data)
    return current


def _newer_family(
    targets: File, family: str, current: File | None, offered: tuple[str, bytes] | None
) -> File:
    """An import carries families that are new or renewed; it never takes back a release, but where
    targets.json gave the family another key."""
    before = current
    if current is not None:
        current = _still_signed(targets, family, current)
    if offered is None:
        if current is None:
            raise TrustRefused(f"trust.json holds no metadata of family {family} that verifies")
        return current
    name, data = offered
    file = File(name, data, read_family(targets.signed, family, name, data))
    _require_near(before, file)
    if before is not None and current is None and file.signed.version <= before.signed.version:
        # Devices have seen that number, and one name would stand for two files.
        raise VersionConflict(
            f"{name} does not follow {before.name}, which was published before: sign {family} again"
            " (`outrider keys renew`) until its number is higher, and hand trust.json over anew"
        )
    if current is None or (file.signed.version > current.signed.version and _holds(file, current)):
        return file
    return current


def _still_signed(targets: File, family: str, current: File) -> File | None:
    """None when newer targets gave the family another key."""
    try:
        read_family(targets.signed, family, current.name, current.data)
    except TrustRefused:
        return None
    return current


def _successor(current: File | None, file: File, manifest: Manifest, data: bytes) -> File:
    if current is None:
        return file
    _require_near(current, file)
    step = file.signed.version - current.signed.version
    known = current.signed.targets.get(manifest.target)
    if known is not None and known.hashes["sha256"] != digest_of(data):
        raise VersionConflict(
            f"{manifest.target} is signed already, with other content: give it a new version"
        )
    if step == 1 or (step > 1 and _holds(file, current)):
        return file
    if known is not None:
        return current
    raise VersionConflict(
        f"{file.name} does not follow {current.name}, which came first:"
        " sign the bundle again on top of the hub's metadata"
    )


def _require_near(current: File | None, file: File) -> None:
    before = current.signed.version if current is not None else 0
    if file.signed.version > before + MAX_LEAP:
        raise TrustRefused(
            f"{file.name} leaps too far ahead of version {before}: was the family's key stolen?"
            " `outrider keys rotate` gives it another"
        )


def _holds(file: File, current: File) -> bool:
    return current.signed.targets.items() <= file.signed.targets.items()
