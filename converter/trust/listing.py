"""`outrider keys list`: roles, their keys and who holds them, and what will expire.

Reads public files only; asks for no passphrase and says nothing that is secret.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from contract.targets import HUB_KEYS_TARGET, HubKeys, custom_from_dict
from contract.trust import ROOT, SNAPSHOT, TARGETS, TIMESTAMP
from converter.trust import folder
from converter.trust.ceremony import read_pending
from converter.trust.chain import SignedTrust
from converter.trust.drafts import delegated, floor_of, named_roots, needs
from converter.trust.metadata import public_key
from converter.trust.names import names_of
from converter.trust.public import known_keys
from converter.trust.renewal import due, expiries


class KeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """One key. `name` is empty where nobody told this folder of it, as for a hub's."""

    name: str
    keyid: str
    holder: str
    here: bool
    """Whether its private half is in this folder."""


class RoleRow(msgspec.Struct, frozen=True, kw_only=True):
    """One role: how many of which keys sign it, and until when."""

    role: str
    threshold: int
    version: int | None
    expires_at_ms: int | None
    """None for what the hub signs, which it does by itself."""
    due: bool
    keys: list[KeyRow]
    floor: int | None = None
    """A family's `min_counter`."""
    releases: int | None = None


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What a keys folder holds."""

    roles: list[RoleRow]
    unused: list[str]
    """Private keys that are here and that nobody trusts: destroy them, or finish the change that
    they were made for."""
    pending: str | None
    warnings: list[str]
    roots: dict[str, str]
    """SHA-256 of each TLS root that `policy/ca` names -> whose it is."""


def list_keys(directory: Path, now_ms: int) -> Listing:
    """Raises `KeysNotFound` or `MetadataDamaged`."""
    with folder.exclusive(directory):
        trust = folder.read_trust(directory)
        pending = read_pending(directory)
    rows = list(_rows(directory, trust, now_ms))
    trusted = {key.name for row in rows for key in row.keys}
    private = {path.stem for path in (directory / "private").glob("*.pem")}
    wanted = {
        names_of(directory, trust).get(keyid, "")
        for need in (needs(pending.base, pending.drafts) if pending else [])
        for keyid in need.unsigned.keys() | need.signed.keys()
    }
    unused = sorted(private - trusted - wanted)
    return Listing(
        roles=rows,
        unused=unused,
        pending=pending.purpose if pending else None,
        warnings=[*_warnings(rows, now_ms, directory)],
        roots=named_roots(trust.targets),
    )


def _rows(directory: Path, trust: SignedTrust, now_ms: int) -> Iterator[RoleRow]:
    ends, soon, versions = expiries(trust), due(trust, now_ms), trust.versions()
    for role in (ROOT, TARGETS):
        yield RoleRow(
            role=role,
            threshold=trust.root.roles[role].threshold,
            version=versions[role],
            expires_at_ms=ends[role],
            due=role in soon,
            keys=_keys(directory, trust, trust.root.roles[role].keyids),
        )
    for family, delegation in delegated(trust.targets).items():
        yield RoleRow(
            role=family,
            threshold=delegation.threshold,
            version=versions[family],
            expires_at_ms=ends[family],
            due=family in soon,
            keys=_keys(directory, trust, delegation.keyids),
            floor=floor_of(trust.targets, family),
            releases=len(trust.families[family].targets),
        )
    hub = custom_from_dict(HubKeys, trust.targets.targets[HUB_KEYS_TARGET].custom, HUB_KEYS_TARGET)
    online = {role: list(trust.root.roles[role].keyids) for role in (SNAPSHOT, TIMESTAMP)}
    online["assignment"] = [public_key(key).keyid for key in hub.keys]
    for role, keyids in online.items():
        yield RoleRow(
            role=role,
            threshold=1,
            version=None,
            expires_at_ms=None,
            due=False,
            keys=[KeyRow(name="", keyid=keyid, holder="the hub", here=False) for keyid in keyids],
        )


def _keys(directory: Path, trust: SignedTrust, keyids: list[str]) -> list[KeyRow]:
    names, known = names_of(directory, trust), known_keys(directory)
    return [
        KeyRow(
            name=names.get(keyid, ""),
            keyid=keyid,
            holder=known[keyid].holder if keyid in known else "",
            here=keyid in names and folder.private_key(directory, names[keyid]).exists(),
        )
        for keyid in keyids
    ]


def _warnings(rows: list[RoleRow], now_ms: int, directory: Path) -> Iterator[str]:
    for row in rows:
        if not row.due or row.expires_at_ms is None:
            continue
        days = (row.expires_at_ms - now_ms) // 86_400_000
        when = f"expires in {days} days" if days >= 0 else "has expired"
        yield f"{row.role} {when}: outrider keys renew {directory} {row.role}"
    for row in rows:
        if row.role == TARGETS and len(row.keys) == row.threshold:
            add = f"outrider keys add {directory} targets"
            yield f"targets has one key; lost, it takes two root keys to replace: {add}"
