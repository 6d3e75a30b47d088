"""The hub's TUF repository: takes over what offline keys signed, signs freshness, hands out files.

Holds no state but its two directories, which it reads again at each call, so that the API's
threads, the engine and the command line may each have one. Writers exclude each other by a lock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract.errors import MalformedTrust
from contract.ids import digest_of
from contract.manifest import decode_manifest
from contract.messages import TufFile, TufIndex
from contract.targets import ReleaseCustom, custom_from_dict
from contract.trust import (
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    TIMESTAMP_FILE,
    HubPublicKeys,
    decode_trust,
    metadata_name,
)
from fleet.errors import ReleaseNotFound, TrustMissing
from fleet.trust import directory as tuf_directory
from fleet.trust import freshness, online
from fleet.trust.acceptance import adopt, merge, require_listed
from fleet.trust.directory import Trust, exclusive, read_fresh, read_trust
from fleet.trust.errors import OnlineKeysDamaged, TrustForAnotherHub, TrustRefused
from fleet.trust.verification import (
    named_keys,
    policy_roots,
    require_own_root,
    require_this_hub,
)


@dataclass(frozen=True)
class Accepted:
    """A release that offline keys vouch for."""

    target: str
    digest: str
    custom: ReleaseCustom
    version: int
    """Of the family's metadata in force afterwards."""


class Repository:
    """The TUF directory `tuf/` and, beside it unless said otherwise, the folder `keys/`."""

    def __init__(
        self,
        directory: Path,
        keys: Path | None = None,
        own_root: Callable[[], str] | None = None,
    ) -> None:
        """`own_root`: the TLS root that the hub's servers stand under now, where there are any."""
        self.directory = directory
        self._own_root = own_root
        self.keys = keys if keys is not None else directory.parent / "keys"

    def create_online_keys(self) -> list[str]:
        """Make the keys that are missing; returns their names."""
        with exclusive(self.directory):
            return online.create_keys(self.keys)

    def stage_online_keys(self, hub: str = "hub") -> HubPublicKeys:
        """Make the keys that shall follow the present ones; they wait until an imported trust.json
        names them. Called again before that, it returns the same ones."""
        with exclusive(self.directory):
            online.create_keys(self.keys / online.NEXT)
        return online.public_keys(self.keys / online.NEXT, hub)

    def new_keys_wait(self) -> bool:
        """Whether there are online keys that no imported trust.json has named yet."""
        return (self.keys / online.NEXT).exists()

    def hub_public_keys(self, hub: str = "hub") -> HubPublicKeys:
        """What `outrider keys init` needs; raises `OnlineKeysDamaged`."""
        return online.public_keys(self.keys, hub)

    def assignment_key(self) -> Ed25519PrivateKey:
        """The key that seals assignments and commands; raises `OnlineKeysDamaged`."""
        return online.load(self.keys, online.ASSIGNMENT)

    def import_trust(self, trust_json: bytes) -> dict[str, int]:
        """Take over a `trust.json`; returns the versions in force.

        The first one is trusted because an operator handed it over; each later one must follow from
        it by TUF's own rules. Raises `TrustRefused` or `VersionConflict`, and then nothing changed.
        """
        try:
            offered = decode_trust(trust_json)
        except MalformedTrust as error:
            raise TrustRefused(str(error)) from error
        with exclusive(self.directory):
            current = read_trust(self.directory)
            if current is not None:
                self._promote(current)
            trust = merge(current, offered)
            self._require_ours(trust)
            self._require_reachable(trust)
            tuf_directory.write_trust(self.directory, trust)
            self._promote(trust)
        return _versions(trust)

    def accept(self, trust_files: Mapping[str, bytes], manifest_bytes: bytes) -> Accepted:
        """Take over a signed bundle's metadata, when offline keys vouch for this very manifest.

        Raises `TrustMissing`, `TrustRefused`, `VersionConflict`, or `MalformedManifest`; then
        nothing changed. Accepting the same again changes nothing.
        """
        manifest = decode_manifest(manifest_bytes)
        with exclusive(self.directory):
            trust = adopt(self._trust(), trust_files, manifest, manifest_bytes)
            require_this_hub(trust.root, trust.targets.signed, self.hub_public_keys())
            self._require_reachable(trust)
            tuf_directory.write_trust(self.directory, trust)
        file = trust.families[manifest.family]
        custom = require_listed(file, manifest, manifest_bytes)
        digest = digest_of(manifest_bytes)
        return Accepted(manifest.target, digest, custom, file.signed.version)

    def sign_online(self, now_ms: int, seen: Mapping[str, int] | None = None) -> bool:
        """Sign snapshot and timestamp again when content changed or they are six hours old.

        `seen`: role -> the highest version that any device reports. A hub restored from a backup
        signs above it at once, since devices refuse what is older. Returns whether it signed; False
        also before there is any trust.
        """
        passing = freshness.number_to_pass(seen or {}, now_ms)
        with exclusive(self.directory):
            trust = read_trust(self.directory)
            if trust is None:
                return False
            last = read_fresh(self.directory, trust.root)
            if not freshness.is_due(trust, last, now_ms, passing):
                return False
            self._promote(trust)
            signers = {role: online.signer(self.keys, role) for role in (SNAPSHOT, TIMESTAMP)}
            for role, signer in signers.items():
                if trust.root.roles[role].keyids != [signer.public_key.keyid]:
                    raise OnlineKeysDamaged(f"{role}.pem is not the key that root.json names")
            on_disk = tuf_directory.highest_snapshot(self.directory, freshness.believable(now_ms))
            taken = max(on_disk, passing)
            fresh = freshness.sign(trust, last, signers, now_ms, taken)
            tuf_directory.write_fresh(self.directory, fresh)
            return True

    def files(self) -> dict[str, bytes]:
        """Every file to publish, as one consistent state: what the timestamp leads to.

        Before the first import: none. Before the first signature: what offline keys signed.
        """
        trust = read_trust(self.directory)
        if trust is None:
            return {}
        files = {metadata_name(ROOT, n): data for n, data in enumerate(trust.roots, start=1)}
        fresh = read_fresh(self.directory, trust.root)
        if fresh is None:
            return files | {f.name: f.data for f in (trust.targets, *trust.families.values())}
        for listed, meta in fresh.snapshot.meta.items():
            role = listed.removesuffix(".json")
            data = tuf_directory.read_version(self.directory, role, meta.version)
            files[metadata_name(role, meta.version)] = data
        files[metadata_name(SNAPSHOT, fresh.snapshot.version)] = fresh.snapshot_data
        files[TIMESTAMP_FILE] = fresh.timestamp_data
        return files

    def file(self, name: str) -> bytes | None:
        """One published file, by its name or, for the one in force, without a version."""
        files = self.files()
        if name in files:
            return files[name]
        matching = (found for found in sorted(files, key=_number) if found.endswith(f".{name}"))
        newest = list(matching)[-1:]
        return files[newest[0]] if newest else None

    def index(self, now_ms: int) -> TufIndex:
        """The unsigned hint of what is published."""
        listed = {n: TufFile(len(data), digest_of(data)) for n, data in self.files().items()}
        return TufIndex(files=listed, at_ms=now_ms)

    def release(self, target: str) -> tuple[str, ReleaseCustom]:
        """Digest and custom of a release in force; raises `ReleaseNotFound` or `TrustMissing`."""
        family = target.partition("/")[0]
        file = self._trust().families.get(family)
        found = file.signed.targets.get(target) if file else None
        if found is None:
            raise ReleaseNotFound(f"no trusted release {target[:130]}")
        return found.hashes["sha256"], custom_from_dict(ReleaseCustom, found.custom, target)

    def versions(self) -> dict[str, int]:
        """Role -> version in force; empty before the first import."""
        trust = read_trust(self.directory)
        if trust is None:
            return {}
        fresh = read_fresh(self.directory, trust.root)
        signed = {SNAPSHOT: fresh.snapshot, TIMESTAMP: fresh.timestamp} if fresh else {}
        return _versions(trust) | {role: metadata.version for role, metadata in signed.items()}

    def trusted_roots(self) -> tuple[int, frozenset[str] | None]:
        """The version of `targets` in force, and SHA-256 of each root that its `policy/ca` names;
        None where it names none. Version 0 before the first import."""
        trust = read_trust(self.directory)
        if trust is None:
            return 0, None
        return trust.targets.signed.version, policy_roots(trust.targets.signed)

    def expiries(self) -> dict[str, int]:
        """Role -> expiry in UTC milliseconds; empty before the first import."""
        trust = read_trust(self.directory)
        if trust is None:
            return {}
        found = {ROOT: trust.root.expires, TARGETS: trust.targets.signed.expires}
        found.update({name: file.signed.expires for name, file in trust.families.items()})
        fresh = read_fresh(self.directory, trust.root)
        if fresh is not None:
            found[SNAPSHOT] = fresh.snapshot.expires
            found[TIMESTAMP] = fresh.timestamp.expires
        return {role: int(expires.timestamp()) * 1000 for role, expires in found.items()}

    def _require_ours(self, trust: Trust) -> None:
        """Raises `TrustForAnotherHub` unless it names the present keys, or the ones that wait."""
        if self.new_keys_wait():
            next_keys = online.public_keys(self.keys / online.NEXT, "hub")
            with suppress(TrustForAnotherHub):
                return require_this_hub(trust.root, trust.targets.signed, next_keys)
        return require_this_hub(trust.root, trust.targets.signed, self.hub_public_keys())

    def _require_reachable(self, trust: Trust) -> None:
        """Raises `TrustRefused` when `policy/ca` would part every device from this hub."""
        if self._own_root is not None:
            require_own_root(trust.targets.signed, self._own_root().encode())

    def _promote(self, trust: Trust) -> None:
        if self.new_keys_wait():
            online.promote(self.keys, named_keys(trust.root, trust.targets.signed))

    def _trust(self) -> Trust:
        trust = read_trust(self.directory)
        if trust is None:
            raise TrustMissing(
                "the hub has no trust root yet: run `outrider keys init` and hand it trust.json"
            )
        return trust


def _versions(trust: Trust) -> dict[str, int]:
    families = {name: file.signed.version for name, file in trust.families.items()}
    return {ROOT: trust.root.version, TARGETS: trust.targets.signed.version, **families}


def _number(name: str) -> int:
    head = name.partition(".")[0]
    return int(head) if head.isascii() and head.isdecimal() else 0
