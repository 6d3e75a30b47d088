"""Who holds which role: adds keys, replaces them, and takes them back.

Each function drafts one change and hands it to the ceremony. A key that is asked for and not given
is made here; one that was made elsewhere comes as its public file. Private keys that are no longer
trusted stay where they are, for their holder to destroy.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from securesystemslib.signer import Key

from contract.authorities import ca_policy
from contract.errors import MalformedTrust
from contract.ids import check_id
from contract.trust import ROOT, TARGETS, HubPublicKeys, check_family
from converter.trust import changes, folder
from converter.trust.ceremony import (
    ChangeSummary,
    carry_out,
    require_nothing_pending,
)
from converter.trust.chain import SignedTrust
from converter.trust.drafts import check, delegated, roots_of
from converter.trust.errors import KeyExists, KeyUnknown, NothingDue, RootsRefused, WrongPassphrase
from converter.trust.keyfiles import check_passphrase, load_key
from converter.trust.metadata import public_key
from converter.trust.named import NamedKey
from converter.trust.names import key_id_of, names_of, next_name
from converter.trust.public import keep, known_keys, make_named
from converter.trust.published import adopt
from converter.trust.request import Request
from converter.trust.signers import Passphrase


def make_key(directory: Path, name: str, holder: str, passphrase: Passphrase) -> NamedKey:
    """A key for somebody else's ceremony, in a folder of its holder's own, on their machine."""
    check_id(name, "key name")
    folder.prepare(directory)
    with folder.exclusive(directory):
        if folder.private_key(directory, name).exists():
            raise KeyExists(f"{directory} has a key {name} already: choose another name")
        check_passphrase(passphrase())
        keyid = make_named(directory, name, passphrase(), holder).public_key.keyid
        return known_keys(directory)[keyid]


def add_family(
    directory: Path, family: str, new: NamedKey | None, passphrase: Passphrase, now_ms: int
) -> ChangeSummary:
    """A new family, with a key made here or one that its team made."""
    check_family(family)
    with _change(directory) as trust:
        if family in trust.families:
            raise KeyExists(f"family {family} has a key: `outrider keys rotate` gives it another")
        key, created = _key(directory, trust, f"key-{family}", new, passphrase)
        drafts = changes.add_family(trust, family, key, now_ms)
        request = Request(f"add family {family}", trust, drafts)
        return carry_out(directory, request, passphrase, created)


def add_targets_key(
    directory: Path, new: NamedKey | None, passphrase: Passphrase, now_ms: int
) -> ChangeSummary:
    """One more key that may sign targets.json."""
    with _change(directory) as trust:
        _require_other(new, trust.root.roles[TARGETS].keyids, "a targets key")
        key, created = _key(directory, trust, TARGETS, new, passphrase)
        drafts = changes.add_targets_key(trust, key, now_ms)
        return carry_out(
            directory, Request("add a targets key", trust, drafts), passphrase, created
        )


def rotate_root(
    directory: Path,
    old: Sequence[str],
    new: Sequence[NamedKey],
    passphrase: Passphrase,
    now_ms: int,
) -> ChangeSummary:
    """Replace root keys, by name: the first of `old` by the first of `new`, and so on; those that
    have no counterpart by keys made here."""
    with _change(directory) as trust:
        if not old or len(new) > len(old) or len(set(old)) != len(old):
            raise KeyUnknown("name each root key that is to go once, and at most as many new ones")
        pairs: list[tuple[str, Key]] = []
        created: list[str] = []
        held = list(trust.root.roles[ROOT].keyids)
        for given in new:
            _require_other(given, held, "a root key")
            held.append(given.keyid)
        for number, name in enumerate(old):
            offered = new[number] if number < len(new) else None
            key, made = _key(directory, trust, ROOT, offered, passphrase)
            if created and made:
                raise KeyUnknown("one key is made here at a time: root is for several holders")
            pairs.append((key_id_of(directory, trust, ROOT, name), key))
            created += made
        drafts = changes.replace_root_keys(trust, pairs, now_ms)
        request = Request(f"replace {', '.join(old)}", trust, drafts)
        return carry_out(directory, request, passphrase, created)


def rotate_targets(
    directory: Path, old: str, new: NamedKey | None, passphrase: Passphrase, now_ms: int
) -> ChangeSummary:
    """Replace one targets key."""
    with _change(directory) as trust:
        gone = key_id_of(directory, trust, TARGETS, old)
        _require_other(new, trust.root.roles[TARGETS].keyids, "a targets key")
        key, created = _key(directory, trust, TARGETS, new, passphrase)
        drafts = changes.replace_targets_key(trust, gone, key, now_ms)
        return carry_out(directory, Request(f"replace {old}", trust, drafts), passphrase, created)


def rotate_family(
    directory: Path,
    family: str,
    new: NamedKey | None,
    withdrawn: Collection[str],
    published: bytes | None,
    passphrase: Passphrase,
    now_ms: int,
) -> ChangeSummary:
    """Replace a family's key; its releases stay, but those that are `withdrawn` (versions).

    `published`: the hub's current metadata of the family, gone on from where it knows more.
    """
    with _change(directory) as trust:
        trust, current = adopt(directory, trust, family, published)
        held = delegated(trust.targets)[family].keyids
        _require_other(new, held, f"the key of family {family}")
        key, created = _key(directory, trust, f"key-{family}", new, passphrase)
        names = [f"{family}/{version}" for version in withdrawn]
        drafts = changes.replace_family_key(trust, family, key, current, names, now_ms)
        request = Request(f"replace the key of family {family}", trust, drafts)
        return carry_out(directory, request, passphrase, created)


def rotate_online(
    directory: Path, hub: HubPublicKeys, passphrase: Passphrase, now_ms: int
) -> ChangeSummary:
    """Trust a hub's new keys instead of its old ones; raises `NothingDue` unless all are new."""
    with _change(directory) as trust:
        drafts = changes.replace_online_keys(trust, hub, now_ms)
        check(trust, drafts)
        kept = changes.online_keys(trust) & {hub.snapshot, hub.timestamp, hub.assignment}
        if kept:
            which = "these" if len(kept) == 3 else f"{len(kept)} of these"
            raise NothingDue(
                f"{which} are the hub's keys already; run `outrider hub new-keys` on the hub first"
            )
        request = Request("trust new online keys", trust, drafts)
        return carry_out(directory, request, passphrase)


def replace_roots(
    directory: Path, roots: Sequence[bytes], passphrase: Passphrase, now_ms: int
) -> ChangeSummary:
    """Let devices trust exactly these root certificates (PEM) for TLS."""
    try:
        policy = ca_policy(roots)
    except MalformedTrust as error:
        raise RootsRefused(str(error)) from error
    with _change(directory) as trust:
        if set(roots_of(trust.targets)) == set(policy.roots):
            raise NothingDue("policy/ca names exactly these roots already")
        drafts = changes.replace_roots(trust, policy, now_ms)
        request = Request(f"trust {len(policy.roots)} TLS root(s)", trust, drafts)
        return carry_out(directory, request, passphrase)


def revoke(
    directory: Path,
    name: str,
    passphrase: Passphrase,
    now_ms: int,
    published: Callable[[str], bytes | None] = lambda _family: None,
) -> ChangeSummary:
    """Trust a key no longer. A targets key: the others remain. A family's: a new one is made here,
    and everything that the old one signed is withdrawn. A root key can only be replaced.

    `published`: asked for the hub's metadata of the family, whose number must be passed. A thief
    has published what this folder does not know.
    """
    with _change(directory) as trust:
        names = names_of(directory, trust)
        if name in {names.get(keyid) for keyid in trust.root.roles[ROOT].keyids}:
            raise KeyUnknown(f"{name} is a root key: `outrider keys rotate` replaces it")
        for family, role in delegated(trust.targets).items():
            if name == family or name in {names.get(keyid) for keyid in role.keyids}:
                return _revoke_family(
                    directory, trust, family, published(family), passphrase, now_ms
                )
        gone = key_id_of(directory, trust, TARGETS, name)
        drafts = changes.replace_targets_key(trust, gone, None, now_ms)
        return carry_out(directory, Request(f"revoke {name}", trust, drafts), passphrase)


def _revoke_family(
    directory: Path,
    trust: SignedTrust,
    family: str,
    published: bytes | None,
    passphrase: Passphrase,
    now_ms: int,
) -> ChangeSummary:
    trust, current = adopt(directory, trust, family, published)
    key, created = _key(directory, trust, f"key-{family}", None, passphrase)
    drafts = changes.replace_family_key(trust, family, key, current, list(current.targets), now_ms)
    request = Request(f"revoke the key of family {family}", trust, drafts)
    return carry_out(directory, request, passphrase, created)


@contextmanager
def _change(directory: Path) -> Iterator[SignedTrust]:
    """What is in force, while nobody else changes it."""
    with folder.exclusive(directory):
        require_nothing_pending(directory)
        yield folder.read_trust(directory)


def _key(
    directory: Path, trust: SignedTrust, stem: str, given: NamedKey | None, passphrase: Passphrase
) -> tuple[Key, list[str]]:
    """The key that was given, or one made here, and the names of those that were made."""
    if given is not None:
        keep(directory, given)
        return public_key(given.public), []
    check_passphrase(passphrase())
    _require_familiar(directory, trust, passphrase())
    name = next_name(directory, trust, stem)
    return make_named(directory, name, passphrase()).public_key, [name]


def _require_other(given: NamedKey | None, held: Collection[str], what: str) -> None:
    """Raises `KeyExists` for a key that has the role: in place of another it leaves one less."""
    if given is not None and given.keyid in held:
        raise KeyExists(
            f"{given.name} ({given.keyid[:12]}) is {what} already: have another one made for this"
        )


def _require_familiar(directory: Path, trust: SignedTrust, passphrase: bytes) -> None:
    """Raises `WrongPassphrase` when it opens none of the keys that are here: a new key under a
    mistyped one would be lost as soon as it is made."""
    paths = [folder.private_key(directory, name) for name in names_of(directory, trust).values()]
    wrong: WrongPassphrase | None = None
    for path in filter(Path.exists, paths):
        try:
            load_key(path, passphrase)
        except WrongPassphrase as error:
            wrong = error
        else:
            return
    if wrong is not None:
        raise wrong
