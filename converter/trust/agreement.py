"""What a folder and a request agree is in force, and what of the folder's gives way for that. Pure.

Who gives the last signature completes a change that may be dropped instead of published. Until a
later request builds on it, it may give way to another; what is known to be published never does.
Decides; asks nobody and writes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tuf.api.metadata import Root, Targets

from contract.trust import ROOT, TARGETS, metadata_name, parse_metadata_name
from converter.trust.chain import SignedTrust, trust_of
from converter.trust.drafts import Drafts
from converter.trust.errors import RequestOutdated, RequestRefused
from converter.trust.metadata import parse
from converter.trust.request import Request


@dataclass(frozen=True)
class Agreement:
    """What is in force by folder and request together."""

    base: SignedTrust
    replaced: tuple[str, ...] = ()
    """Metadata files of the folder that give way: all of a change that was completed here."""


def agree(found: Mapping[str, bytes], unpublished: Collection[str], request: Request) -> Agreement:
    """Raises `RequestOutdated` or `RequestRefused` when the request starts from below what is known
    to be published, or from somewhere else.

    `found`: the folder's metadata, name -> bytes. `unpublished`: names of those that were completed
    in the folder and that nothing has built on since.
    """
    offered = request.base
    if metadata_name(ROOT, 1) not in found:
        return Agreement(trust_of({**found, **offered.files}))
    known, left = trust_of(found), dict(found)
    if any(_is_passed_over(name, known, request) for name in unpublished):
        left = {name: data for name, data in found.items() if not _rests_on(name, unpublished)}
        known = trust_of(left)
    _require_follows(known, offered)
    replaced = sorted(found.keys() - left.keys())
    return Agreement(trust_of({**left, **offered.files}), tuple(replaced))


def holds(found: Mapping[str, bytes], drafts: Drafts) -> bool:
    """Whether these drafts are in the folder's metadata already, whoever signed them."""
    return all(
        _says(found, metadata_name(role, metadata.signed.version)) == metadata.signed_bytes
        for role, metadata in drafts.roles().items()
    )


def competes(pending: Drafts, drafts: Drafts) -> str | None:
    """`root 4` where both would give that number to different metadata; None where neither does."""
    mine, theirs = pending.roles(), drafts.roles()
    for role in mine.keys() & theirs.keys():
        number = mine[role].signed.version
        if number == theirs[role].signed.version and (
            mine[role].signed_bytes != theirs[role].signed_bytes
        ):
            return f"{role} {number}"
    return None


def unsettled(unpublished: Collection[str], built_on: Mapping[str, int]) -> set[str]:
    """Those that may still give way once a change starts from these versions."""
    split = {name: parse_metadata_name(name) for name in unpublished}
    return {name for name, (role, number) in split.items() if built_on.get(role, 0) < number}


def _is_passed_over(name: str, known: SignedTrust, request: Request) -> bool:
    """Whether the request starts from before this file, or gives its number to another."""
    if name not in known.files:
        return False
    role, number = parse_metadata_name(name)
    mine, offered = _says(known.files, name), request.base
    if role == TARGETS and offered.targets.version > number:
        return False
    if role in (ROOT, TARGETS):
        return _says(offered.files, name) != mine
    draft = request.drafts.families.get(role)
    return draft is not None and draft.signed.version == number and draft.signed_bytes != mine


def _rests_on(name: str, unpublished: Collection[str]) -> bool:
    """Whether it is one of these or came after it: also releases that were signed on top."""
    role, number = parse_metadata_name(name)
    return any(
        role == other and number >= first for other, first in map(parse_metadata_name, unpublished)
    )


def _require_follows(known: SignedTrust, offered: SignedTrust) -> None:
    """Compares what is signed: others may have completed it with other signatures."""
    roots = [name for name in known.files if parse_metadata_name(name)[0] == ROOT]
    for name in roots:
        if name in offered.files and _says(offered.files, name) != _says(known.files, name):
            raise RequestRefused("the request starts from another root than this folder knows")
    for role in (ROOT, TARGETS):
        if offered.versions()[role] < known.versions()[role]:
            raise RequestOutdated(f"this folder knows a newer {role}: start the change again")


def _says(files: Mapping[str, bytes], name: str) -> bytes | None:
    """What is signed in a file, without the signatures; None where there is no such file."""
    if name not in files:
        return None
    if parse_metadata_name(name)[0] == ROOT:
        return parse(Root, files[name], name).signed_bytes
    return parse(Targets, files[name], name).signed_bytes
