"""Carries a change out: signs with the keys that are here, and waits for those that are not.

A change that lacks signatures stands in `pending.json` and travels as a request; every key holder
adds what they can, in any order, and whoever's folder sees the last one puts it in force. Refuses
to sign what would weaken a role, and what does not follow from the root that a folder knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from contract.trust import parse_metadata_name
from converter.trust import folder
from converter.trust.agreement import agree, competes, holds, unsettled
from converter.trust.chain import SignedTrust, trust_of
from converter.trust.describe import describe
from converter.trust.drafts import Drafts, check, concerned, is_complete, needs
from converter.trust.errors import (
    AnotherSigned,
    ChangePending,
    KeysNotFound,
    NothingPending,
    RequestOutdated,
)
from converter.trust.keyfiles import write_durably
from converter.trust.names import learn, names_of, names_to_tell, short_ids
from converter.trust.request import (
    MAX_REQUEST_BYTES,
    Request,
    decode_request,
    encode_request,
    join,
)
from converter.trust.signers import Passphrase, able_to_sign, require_asked, sign_here

PENDING = "pending.json"


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
    before: bool = False
    """It was complete and in force here already."""
    replaces: list[str] = []
    """What was signed here before and gives way, one line each."""
    yours: list[str] = []
    """Keys here that could sign it."""
    ids: dict[str, str] = {}
    """Name -> how the key's id begins. A name is this folder's own; the id is the same for all."""


def carry_out(
    directory: Path,
    request: Request,
    passphrase: Passphrase,
    created: Sequence[str] = (),
) -> ChangeSummary:
    """Sign with the keys that are here, then put it in force or let it wait.

    The caller holds the folder's lock.
    """
    check(request.base, request.drafts)
    signed = sign_here(directory, request, passphrase)
    return _conclude(directory, request, request.base, signed, created)


def sign_request(
    file: Path,
    directory: Path,
    passphrase: Passphrase,
    only: Sequence[str] = (),
    *,
    replace_unpublished: bool = False,
) -> ChangeSummary:
    """Add this folder's signatures (or those of `only`) to a request, in place.

    Raises the `SigningError` family. A folder that knows a root takes only what follows from it;
    one that knows none, since it holds keys alone, learns it here. `replace_unpublished`: its
    holder says that the other change of the same number, which was signed here, was dropped.
    """
    offered = decode_request(_read(file))
    with folder.exclusive(directory):
        if holds(folder.metadata(directory), offered.drafts):
            return _signed_before(directory, offered)
        found = _compare(directory, offered)
        if found.rivals and not replace_unpublished:
            raise AnotherSigned(
                f"{'; '.join(found.rivals)}: two of one number must never both be published. Where"
                " that one was dropped for good, repeat with --replace-unpublished"
            )
        signed = sign_here(directory, found.request, passphrase, only)
        if not found.waits_here:
            require_asked(directory, found.request)
        # The file first: whoever is cut short repeats it, and finds it complete.
        write_durably(file, encode_request(_with_names(directory, found.request)))
        folder.prepare(directory)
        learn(directory, found.request.base, offered.names)
        folder.withdraw(directory, found.replaced)
        folder.install(directory, offered.base.files)
        return _conclude(directory, found.request, offered.base, signed, replaces=found.rivals)


def look_at_request(file: Path, directory: Path) -> ChangeSummary:
    """What a request would do and lacks; signs nothing and writes nothing."""
    request = decode_request(_read(file))
    check(request.base, request.drafts)
    if not directory.is_dir():
        raise KeysNotFound(
            f"{directory} is not there: name the folder that `outrider keys make` or `outrider keys"
            " init` made"
        )
    before, rivals = holds(folder.metadata(directory), request.drafts), list[str]()
    if not before:
        found = _compare(directory, request)
        request, rivals = found.request, found.rivals
    names = names_of(directory, request.base, request.names)
    return ChangeSummary(
        purpose=request.purpose,
        changes=describe(request.base, request.drafts, names),
        signed=[],
        missing=_missing(request.base, request.drafts, names),
        done=False,
        before=before,
        replaces=rivals,
        yours=[] if before else able_to_sign(directory, request),
        ids=short_ids(names),
    )


def export_request(directory: Path, file: Path) -> ChangeSummary:
    """Write the change that waits to a file, for the next key holder."""
    with folder.exclusive(directory):
        pending = read_pending(directory)
    if pending is None:
        raise NothingPending(f"no change waits for signatures in {directory}")
    write_durably(file, encode_request(_with_names(directory, pending)))
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


@dataclass(frozen=True)
class _Compared:
    """A request, seen from a folder."""

    request: Request
    """Over what both agree is in force."""
    replaced: tuple[str, ...]
    rivals: list[str]
    """What was signed here and would give way, one line each."""
    waits_here: bool


def _compare(directory: Path, offered: Request) -> _Compared:
    """The folder learns nothing yet."""
    agreement = agree(folder.metadata(directory), folder.unpublished(directory), offered)
    check(agreement.base, offered.drafts)
    rivals, pending = [], read_pending(directory)
    if agreement.replaced:
        what = ", ".join("{} {}".format(*parse_metadata_name(n)) for n in agreement.replaced)
        rivals = [f"this folder signed and holds {what}, not known to be published"]
    same = pending is not None and join(offered.drafts, pending.drafts)
    if pending is not None and (number := competes(pending.drafts, offered.drafts)):
        rivals.append(f"this folder signed another {number} ({pending.purpose}), not complete yet")
    request = replace(offered, base=agreement.base)
    return _Compared(request, agreement.replaced, rivals, same)


def _with_names(directory: Path, request: Request) -> Request:
    """With what this folder calls the keys, ahead of what those before it said."""
    ours = names_to_tell(directory, concerned(request.base, request.drafts))
    known = {key.keyid for key in ours}
    theirs = tuple(key for key in request.names if key.keyid not in known)
    return replace(request, names=ours + theirs)


def _conclude(
    directory: Path,
    request: Request,
    built_on: SignedTrust,
    signed: list[str],
    created: Sequence[str] = (),
    replaces: Sequence[str] = (),
) -> ChangeSummary:
    """Put it in force here, or let it wait. `built_on`: what the change was started from."""
    base, drafts = request.base, request.drafts
    names = names_of(directory, base)
    changes = describe(base, drafts, names)
    open_ends = unsettled(folder.unpublished(directory), built_on.versions())
    done = is_complete(base, drafts)
    if done:
        trust_of({**base.files, **drafts.files()})
        folder.mark_unpublished(directory, open_ends | drafts.files().keys())
        folder.install(directory, drafts.files())
        (directory / PENDING).unlink(missing_ok=True)
    else:
        folder.mark_unpublished(directory, open_ends)
        write_durably(directory / PENDING, encode_request(request))
    return ChangeSummary(
        purpose=request.purpose,
        changes=changes,
        created=list(created),
        signed=signed,
        missing=_missing(base, drafts, names),
        done=done,
        trust_file=folder.export(directory) if done else None,
        replaces=list(replaces),
        ids=short_ids(names_of(directory, request.base)),
    )


def _signed_before(directory: Path, request: Request) -> ChangeSummary:
    """The change is in force here: the same request again, perhaps after a power cut."""
    if not is_complete(request.base, request.drafts):
        raise RequestOutdated(
            "this change is in force here already, with other signatures: nothing is left to sign"
        )
    pending = read_pending(directory)
    if pending is not None and join(pending.drafts, request.drafts):
        (directory / PENDING).unlink()
    return ChangeSummary(
        purpose=request.purpose,
        changes=[],
        signed=[],
        missing=[],
        done=True,
        before=True,
        trust_file=folder.export(directory),
    )


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
