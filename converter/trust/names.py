"""Which key id has which name in a keys folder, and which name a new key gets.

Names are this folder's own: signed metadata knows key ids only. A folder from before public files
were kept is named by the order in which the first ceremony made its keys.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from contract.trust import ROOT, TARGETS
from converter.trust import folder
from converter.trust.chain import SignedTrust
from converter.trust.drafts import delegated
from converter.trust.errors import KeyUnknown
from converter.trust.named import NamedKey
from converter.trust.public import keep, known_keys


def names_of(
    directory: Path, trust: SignedTrust, offered: Iterable[NamedKey] = ()
) -> dict[str, str]:
    """Key id -> name, of every offline key that is known here. `offered`: what others call keys
    that have no name here yet."""
    names = {keyid: key.name for keyid, key in known_keys(directory).items()}
    for key in offered:
        if _is_new(directory, trust, key, names):
            names[key.keyid] = key.name
    for name, keyid in _by_order(trust):
        if keyid not in names and name not in names.values():
            names[keyid] = name
    return names


def learn(directory: Path, trust: SignedTrust, offered: Iterable[NamedKey]) -> None:
    """Remember what others call their keys; a name that is taken here stays as it is."""
    for key in offered:
        names = {keyid: known.name for keyid, known in known_keys(directory).items()}
        if _is_new(directory, trust, key, names):
            keep(directory, key)


def names_to_tell(directory: Path, keyids: Collection[str]) -> tuple[NamedKey, ...]:
    """What this folder calls these keys, for the next holder."""
    known = known_keys(directory)
    return tuple(known[keyid] for keyid in sorted(known.keys() & set(keyids)))


def short_ids(names: Mapping[str, str]) -> dict[str, str]:
    """Name -> the first twelve characters of its key's id, by which holders know it is one key."""
    return {name: keyid[:12] for keyid, name in names.items()}


def key_id_of(directory: Path, trust: SignedTrust, role: str, name: str) -> str:
    """The id of a key of this role, by its name or the start of its id; raises `KeyUnknown`."""
    names = names_of(directory, trust)
    for keyid in trust.root.roles[role].keyids:
        if names.get(keyid) == name or (len(name) >= 8 and keyid.startswith(name)):
            return keyid
    known = ", ".join(
        f"{names[keyid]} ({keyid[:12]})" if keyid in names else keyid[:12]
        for keyid in trust.root.roles[role].keyids
    )
    raise KeyUnknown(f"{name} is no {role} key; these are: {known}")


def next_name(directory: Path, trust: SignedTrust, stem: str) -> str:
    """`root-4` after `root-3`: a name that no key ever had here, or the one of a key that was made
    for a change that did not come to pass."""
    signed = b"".join(path.read_bytes() for path in (directory / "metadata").glob("*.json"))
    unused = {
        key.name for keyid, key in known_keys(directory).items() if keyid.encode() not in signed
    }
    known = {key.name for key in known_keys(directory).values()}
    taken = (known | set(names_of(directory, trust).values())) - unused
    number = 1
    while (name := f"{stem}-{number}") in taken or (
        name not in unused and folder.private_key(directory, name).exists()
    ):
        number += 1
    return name


def _is_new(directory: Path, trust: SignedTrust, key: NamedKey, names: Mapping[str, str]) -> bool:
    """Whether the label may be taken: it can be printed, and neither moves a name that is known
    here nor the private key of an old folder, which is found by its place in the order."""
    if key.keyid in names or key.name in names.values() or not key.holder.isprintable():
        return False
    ordered = {keyid: name for name, keyid in _by_order(trust)}
    taken = (key.name, ordered.get(key.keyid, key.name))
    return not any(folder.private_key(directory, name).exists() for name in taken)


def _by_order(trust: SignedTrust) -> Iterator[tuple[str, str]]:
    for role in (ROOT, TARGETS):
        for number, keyid in enumerate(trust.root.roles[role].keyids, start=1):
            yield f"{role}-{number}", keyid
    for family, delegation in delegated(trust.targets).items():
        for keyid in delegation.keyids:
            yield f"family-{family}", keyid
