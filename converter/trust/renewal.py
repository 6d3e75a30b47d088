"""Signs again what would expire, and raises families' floors."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from tuf.api.metadata import Targets

from contract.trust import ROOT, TARGETS, warn_before_ms
from converter.trust import changes, folder
from converter.trust.ceremony import (
    ChangeSummary,
    carry_out,
    require_nothing_pending,
)
from converter.trust.chain import SignedTrust
from converter.trust.errors import NothingDue
from converter.trust.published import adopt
from converter.trust.request import Request
from converter.trust.signers import Passphrase


def due(trust: SignedTrust, now_ms: int) -> list[str]:
    """Roles that expire soon enough for the hub to warn of them, and those that have."""
    return [
        role
        for role, expires_ms in expiries(trust).items()
        if expires_ms - now_ms <= warn_before_ms(role)
    ]


def due_now(directory: Path, now_ms: int) -> list[str]:
    """The roles that `renew` signs when none is named."""
    with folder.exclusive(directory):
        return due(folder.read_trust(directory), now_ms)


def next_due_ms(directory: Path) -> int:
    """When the first role will be due, in UTC milliseconds."""
    with folder.exclusive(directory):
        ends = expiries(folder.read_trust(directory))
    return min(end_ms - warn_before_ms(role) for role, end_ms in ends.items())


def expiries(trust: SignedTrust) -> dict[str, int]:
    """Role -> expiry in UTC milliseconds."""
    signed = {ROOT: trust.root, TARGETS: trust.targets, **trust.families}
    return {role: int(each.expires.timestamp()) * 1000 for role, each in signed.items()}


def renew(
    directory: Path,
    roles: Collection[str],
    floors: Mapping[str, int],
    published: Mapping[str, bytes],
    passphrase: Passphrase,
    now_ms: int,
) -> ChangeSummary:
    """Sign these roles for another term; without any, those that are due. Raise these floors.

    `published`: family -> the hub's current metadata, gone on from where it knows more.
    """
    with folder.exclusive(directory):
        require_nothing_pending(directory)
        trust = folder.read_trust(directory)
        chosen = list(dict.fromkeys(roles)) or ([] if floors else due(trust, now_ms))
        if not chosen and not floors:
            raise NothingDue("nothing expires soon: name the roles to renew all the same")
        current: dict[str, Targets] = {}
        for family in {*chosen, *floors} - {ROOT, TARGETS}:
            trust, current[family] = adopt(directory, trust, family, published.get(family))
        drafts = changes.renew(trust, chosen, current, floors, now_ms)
        return carry_out(directory, Request(_purpose(chosen, floors), trust, drafts), passphrase)


def _purpose(roles: Collection[str], floors: Mapping[str, int]) -> str:
    parts = [f"renew {', '.join(roles)}"] if roles else []
    parts += [f"raise the floor of {family} to {floor}" for family, floor in floors.items()]
    return "; ".join(parts)[:400]
