"""What a change would do, in words, so that whoever signs knows what is signed. Pure.

Compares drafts with what is in force instead of believing a request's own words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from tuf.api.metadata import Root, Targets

from contract.targets import CA_TARGET, HUB_KEYS_TARGET
from contract.trust import ROOT, SNAPSHOT, TARGETS, TIMESTAMP
from converter.trust.chain import SignedTrust
from converter.trust.drafts import Drafts, delegated, floor_of, named_roots


def describe(base: SignedTrust, drafts: Drafts, names: Mapping[str, str]) -> list[str]:
    """One line a difference. `names`: key id -> the name that it has here."""
    lines: list[str] = []
    for role, metadata in drafts.roles().items():
        signed = metadata.signed
        lines.append(f"{role} {signed.version}, good until {_day(signed.expires)}")
        lines += [f"{role}: {line}" for line in _differences(base, role, signed, names)]
    return lines


def _differences(
    base: SignedTrust, role: str, signed: Root | Targets, names: Mapping[str, str]
) -> Iterator[str]:
    if isinstance(signed, Root):
        yield from _root(base.root, signed, names)
    elif role == TARGETS:
        yield from _targets(base.targets, signed, names)
    else:
        before = base.families.get(role)
        yield from _listed(before.targets if before else {}, signed)


def _root(before: Root, after: Root, names: Mapping[str, str]) -> Iterator[str]:
    for role in (ROOT, TARGETS, SNAPSHOT, TIMESTAMP):
        old, new = before.roles[role], after.roles[role]
        yield from _keys(f"{role} key", old.keyids, new.keyids, names)
        if old.threshold != new.threshold:
            yield f"{role} needs {new.threshold} signatures instead of {old.threshold}"


def _targets(before: Targets, after: Targets, names: Mapping[str, str]) -> Iterator[str]:
    old, new = delegated(before), delegated(after)
    for family, role in new.items():
        known = old[family].keyids if family in old else []
        if family not in old:
            yield f"a new family {family}"
        yield from _keys(f"key of family {family}", known, role.keyids, names)
        floors = floor_of(before, family), floor_of(after, family)
        if floors[0] != floors[1]:
            yield f"releases of {family} below counter {floors[1]} may not be installed again"
    if _custom(before, HUB_KEYS_TARGET) != _custom(after, HUB_KEYS_TARGET):
        yield "another key may sign assignments and commands"
    yield from _roots(before, after)
    policies = {f"policy/{family}" for family in new} | {HUB_KEYS_TARGET, CA_TARGET}
    for name in (before.targets.keys() | after.targets.keys()) - policies:
        if _custom(before, name) != _custom(after, name):
            yield f"{name} changes"


def _roots(before: Targets, after: Targets) -> Iterator[str]:
    old, new = named_roots(before), named_roots(after)
    if new and not old:
        yield (
            "warning: no policy/ca names the root that devices trust now, so nothing is compared:"
            " it must be among these, or the hub refuses them"
        )
    for digest in old.keys() - new.keys():
        yield f"devices no longer trust the root {old[digest]} (SHA-256 {digest})"
    for digest in new.keys() - old.keys():
        yield f"devices trust the root {new[digest]} (SHA-256 {digest})"


def _listed(before: Mapping[str, object], after: Targets) -> Iterator[str]:
    for name in sorted(before.keys() - after.targets.keys()):
        yield f"{name} is withdrawn"
    for name in sorted(after.targets.keys() - before.keys()):
        yield f"{name} is released"
    for name in sorted(before.keys() & after.targets.keys()):
        if before[name] != after.targets[name]:
            yield f"{name} is another one under the same name"


def _keys(
    what: str, before: Iterable[str], after: Iterable[str], names: Mapping[str, str]
) -> Iterator[str]:
    old, new = list(before), list(after)
    for verb, keyids in (
        ("goes", [k for k in old if k not in new]),
        ("comes", [k for k in new if k not in old]),
    ):
        for keyid in keyids:
            yield f"{what} {names.get(keyid, 'without a name here')} ({keyid[:12]}) {verb}"


def _custom(targets: Targets, name: str) -> object:
    return targets.targets[name].custom if name in targets.targets else None


def _day(at: datetime) -> str:
    return at.strftime("%Y-%m-%d")
