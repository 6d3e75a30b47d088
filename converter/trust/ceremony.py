"""Carries a change out: signs with the keys that are here, and waits for those that are not.

A change that lacks signatures stands in `pending.json` and travels as a request; every key holder
adds what they can, in any order, and whoever's folder sees the last one puts it in force. Refuses
to sign what would weaken a role, and what does not follow from the root that a folder knows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from securesystemslib.signer import CryptoSigner

from contract.trust import ROOT, TARGETS
from converter.trust import folder
from converter.trust.chain import SignedTrust, trust_of
from converter.trust.describe import describe
from converter.trust.drafts import Drafts, check, is_complete, may_sign, needs, sign
from converter.trust.errors import (
    ChangePending,
    KeyUnknown,
    NothingPending,
    RequestOutdated,
    RequestRefused,
    WrongPassphrase,
)
from converter.trust.keyfiles import load_key, write_durably
from converter.trust.names import names_of
from converter.trust.request import (
    MAX_REQUEST_BYTES,
    Request,
    decode_request,
    encode_request,
    join,
)

PENDING = "pending.json"
Passphrase = Callable[[], bytes]
"""Asked for only when a key is opened."""


class Missing(msgspec.Struct, frozen=True):
    """Signatures that a role still lacks, and the keys that could give them."""

    role: str
    signatures: int
    keys: list[str]


class ChangeSummary(msgspec.Struct, frozen=True, kw_only=True):
    """How far a change has come."""

    purpose: str
    changes: list[str]
    """What it does, one line each."""
    created: list[str] = []
    """Private keys that were made for it here."""
    signed: list[str]
    """Keys that signed just now."""
    missing: list[Missing]
    done: bool
    """In force in this folder; the hub still has to be told."""
    trust_file: Path | None = None


def carry_out(
    directory: Path,
    request: Request,
    passphrase: Passphrase,
    created: Sequence[str] = (),
    only: Sequence[str] = (),
) -> ChangeSummary:
    """Sign with the keys that are here (or of these, `only`), then put it in force or let it wait.

    The caller holds the folder's lock.
    """
    base, drafts = request.base, request.drafts
    check(base, drafts)
    names = names_of(directory, base)
    changes = describe(base, drafts, names)
    signers = _open(directory, may_sign(base, drafts), names, passphrase, only)
    signed = [names[keyid] for keyid in sign(base, drafts, signers)]
    done = is_complete(base, drafts)
    if done:
        trust_of({**base.files, **drafts.files()})
        folder.install(directory, drafts.files())
        (directory / PENDING).unlink(missing_ok=True)
    else:
        write_durably(directory / PENDING, encode_request(request))
    return ChangeSummary(
        purpose=request.purpose,
        changes=changes,
        created=list(created),
        signed=signed,
        missing=_missing(base, drafts, names),
        done=done,
        trust_file=folder.export(directory) if done else None,
    )


def sign_request(
    file: Path, directory: Path, passphrase: Passphrase, only: Sequence[str] = ()
) -> ChangeSummary:
    """Add this folder's signatures to a request, in place; raises the `SigningError` family.

    A folder that knows a root takes only what follows from it; one that knows none, since it holds
    keys alone, learns it here.
    """
    request = decode_request(_read(file))
    with folder.exclusive(directory):
        base = _agree(directory, request.base)
        pending = read_pending(directory)
        if pending is not None:
            join(request.drafts, pending.drafts)
        request = Request(request.purpose, base, request.drafts)
        summary = carry_out(directory, request, passphrase, only=only)
    write_durably(file, encode_request(request))
    return summary


def look_at_request(file: Path, directory: Path) -> ChangeSummary:
    """What a request would do and lacks; signs nothing and writes nothing."""
    request = decode_request(_read(file))
    check(request.base, request.drafts)
    names = names_of(directory, request.base)
    return ChangeSummary(
        purpose=request.purpose,
        changes=describe(request.base, request.drafts, names),
        signed=[],
        missing=_missing(request.base, request.drafts, names),
        done=False,
    )


def export_request(directory: Path, file: Path) -> ChangeSummary:
    """Write the change that waits to a file, for the next key holder."""
    with folder.exclusive(directory):
        pending = read_pending(directory)
    if pending is None:
        raise NothingPending(f"no change waits for signatures in {directory}")
    write_durably(file, encode_request(pending))
    return look_at_request(file, directory)


def discard(directory: Path) -> str:
    """Drop the change that waits; returns what it was for. Keys that were made for it stay."""
    with folder.exclusive(directory):
        pending = read_pending(directory)
        if pending is None:
            raise NothingPending(f"no change waits for signatures in {directory}")
        (directory / PENDING).unlink()
    return pending.purpose


def read_pending(directory: Path) -> Request | None:
    """The change that waits for signatures here."""
    path = directory / PENDING
    return decode_request(_read(path)) if path.exists() else None


def require_nothing_pending(directory: Path) -> None:
    """Two changes at once would give two metadata files one version."""
    pending = read_pending(directory)
    if pending is not None:
        raise ChangePending(
            f"a change waits for signatures ({pending.purpose}): finish it with `outrider keys"
            " sign-request`, or drop it with `outrider keys export-request --discard`"
        )


def _agree(directory: Path, offered: SignedTrust) -> SignedTrust:
    """What is in force, by this folder and the request together; the folder learns what is new."""
    if folder.has_trust(directory):
        known = folder.read_trust(directory)
        roots = [name for name in known.files if name.endswith(f".{ROOT}.json")]
        if any(offered.files.get(name, known.files[name]) != known.files[name] for name in roots):
            raise RequestRefused("the request starts from another root than this folder knows")
        for role in (ROOT, TARGETS):
            if offered.versions()[role] < known.versions()[role]:
                raise RequestOutdated(f"this folder knows a newer {role}: start the change again")
    folder.prepare(directory)
    folder.install(directory, offered.files)
    return folder.read_trust(directory)


def _open(
    directory: Path,
    wanted: set[str],
    names: dict[str, str],
    passphrase: Passphrase,
    only: Sequence[str],
) -> list[CryptoSigner]:
    """Those of the wanted keys that are here and that the passphrase opens."""
    here = {
        names[keyid]: keyid
        for keyid in wanted
        if keyid in names and folder.private_key(directory, names[keyid]).exists()
    }
    for name in only:
        if name not in here:
            raise KeyUnknown(f"{name}: not here, or this change does not need it")
    opened: list[CryptoSigner] = []
    shut: WrongPassphrase | None = None
    for name in sorted(only or here):
        try:
            signer = load_key(folder.private_key(directory, name), passphrase())
        except WrongPassphrase as error:
            shut = error
        else:
            opened += [signer] if signer.public_key.keyid == here[name] else []
    if shut is not None and not opened:
        raise shut
    return opened


def _missing(base: SignedTrust, drafts: Drafts, names: dict[str, str]) -> list[Missing]:
    found = []
    for need in needs(base, drafts):
        if need.missing:
            keys = sorted(names.get(keyid, keyid[:12]) for keyid in need.unsigned)
            found.append(Missing(need.role, need.missing, keys))
    return found


def _read(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(MAX_REQUEST_BYTES + 1)
