"""Signed metadata that verifies from the first root on: what is in force, as one value. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tuf.api.metadata import Metadata, Root, Targets

from contract.errors import MalformedTrust
from contract.trust import ROOT, TARGETS, check_metadata_file, metadata_name
from converter.trust.errors import MetadataDamaged
from converter.trust.metadata import parse, verify


@dataclass(frozen=True)
class SignedTrust:
    """Verified metadata: every root, the newest targets, and the newest of each family."""

    root: Root
    targets: Targets
    families: dict[str, Targets]
    files: dict[str, bytes]
    """Name -> bytes: what `trust.json` holds."""

    def versions(self) -> dict[str, int]:
        """Role -> version."""
        families = {name: family.version for name, family in self.families.items()}
        return {ROOT: self.root.version, TARGETS: self.targets.version, **families}


def trust_of(found: Mapping[str, bytes]) -> SignedTrust:
    """What these files say, by name; raises `MetadataDamaged` when they do not verify."""
    newest, roots = _newest(found)
    root = _root_chain(roots)
    files = {metadata_name(ROOT, number + 1): data for number, data in enumerate(roots)}
    targets = verify(root, TARGETS, *_load(newest, TARGETS, files))
    families = {}
    for name in _delegated(targets):
        families[name] = verify(targets, name, *_load(newest, name, files))
    return SignedTrust(root, targets, families, files)


def _newest(found: Mapping[str, bytes]) -> tuple[dict[str, tuple[int, bytes]], list[bytes]]:
    """Role -> its highest version; and the roots in order."""
    newest: dict[str, tuple[int, bytes]] = {}
    roots: dict[int, bytes] = {}
    for name, data in found.items():
        try:
            role, version = check_metadata_file(name, data)
        except MalformedTrust as error:
            raise MetadataDamaged(f"{name}: {error}; remove it") from error
        if role == ROOT:
            roots[version] = data
        if version > newest.get(role, (0, b""))[0]:
            newest[role] = (version, data)
    return newest, [roots[version] for version in sorted(roots)]


def _root_chain(roots: list[bytes]) -> Root:
    """The last root, each signed by its predecessor's keys and by its own."""
    trusted: Root | None = None
    for number, data in enumerate(roots, start=1):
        name = metadata_name(ROOT, number)
        metadata = parse(Root, data, name)
        for delegator in (trusted, metadata.signed):
            if delegator is not None:
                verify(delegator, ROOT, metadata, name)
        if metadata.signed.version != number:
            raise MetadataDamaged(f"{name}: says version {metadata.signed.version}")
        trusted = metadata.signed
    if trusted is None:
        raise MetadataDamaged("no root.json, so nothing says which keys to trust")
    return trusted


def _load(
    newest: dict[str, tuple[int, bytes]], role: str, files: dict[str, bytes]
) -> tuple[Metadata[Targets], str]:
    if role not in newest:
        raise MetadataDamaged(f"metadata of {role} is not there; restore it from a backup")
    version, data = newest[role]
    name = metadata_name(role, version)
    metadata = parse(Targets, data, name)
    if metadata.signed.version != version:
        raise MetadataDamaged(f"{name}: says version {metadata.signed.version}")
    files[name] = data
    return metadata, name


def _delegated(targets: Targets) -> list[str]:
    if targets.delegations is None or targets.delegations.roles is None:
        raise MetadataDamaged("targets.json delegates to no family; restore it from a backup")
    return list(targets.delegations.roles)
