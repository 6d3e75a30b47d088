"""What the verbs over the offline keys read: the hub's keys, public keys, published metadata."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from outrider.commands.options import connect
from outrider.errors import CommandFailed, HubUnreachable
from outrider.operator import operator_path
from outrider.passphrase import read_passphrase
from outrider.terminal import note, print_fields, print_json, say

if TYPE_CHECKING:
    from contract.trust import HubPublicKeys
    from converter.trust.ceremony import ChangeSummary
    from converter.trust.named import NamedKey

MAX_PUBLIC_KEYS_BYTES = 65_536
MAX_ROOT_FILE_BYTES = 16_384


def now_ms() -> int:
    """This machine's time: an offline one's clock should be looked at first."""
    return time.time_ns() // 1_000_000


def asked_once(file: Path | None, directory: Path, *, new: bool) -> Callable[[], bytes]:
    """A passphrase that is asked for when the first key needs it, and then kept."""
    return cache(lambda: read_passphrase(file, f"the keys in {directory}", confirm=new))


def read_hub_keys(path: Path) -> HubPublicKeys:
    """`hub-keys.json`, which is never long; an error names the file that was given."""
    from contract.errors import MalformedTrust
    from contract.trust import decode_hub_public_keys

    with path.open("rb") as file:
        data = file.read(MAX_PUBLIC_KEYS_BYTES + 1)
    if len(data) > MAX_PUBLIC_KEYS_BYTES:
        raise CommandFailed(f"{path} is too long to be hub-keys.json")
    try:
        return decode_hub_public_keys(data)
    except MalformedTrust as error:
        said = str(error).removeprefix("hub-keys.json").removeprefix(":").strip()
        raise CommandFailed(f"{path} is no hub-keys.json: {said}") from error


def read_roots(paths: list[Path]) -> list[bytes]:
    """Root certificates; a private key in one of the files would end up at every device."""
    found = []
    for path in paths:
        with path.open("rb") as file:
            data = file.read(MAX_ROOT_FILE_BYTES + 1)
        if len(data) > MAX_ROOT_FILE_BYTES:
            raise CommandFailed(f"{path} is too long to be a root certificate")
        if b"PRIVATE KEY" in data:
            raise CommandFailed(f"{path} holds a private key: give the certificate alone")
        found.append(data)
    return found


def read_public(paths: list[Path] | None) -> list[NamedKey]:
    """Public files that key holders sent."""
    from converter.trust.public import read_named

    return [read_named(path) for path in paths or []]


def published(family: str, config: Path | None) -> bytes | None:
    """The hub's current metadata of a family; None where there is no hub to ask."""
    if config is None and not operator_path(None).exists():
        return None
    try:
        with connect(config) as hub:
            version = hub.get("status")["tuf"]["versions"].get(family)
            if version is None:
                return None
            found: Any = hub.get(f"trust/{version}.{family}.json")
    except HubUnreachable as error:
        note(f"{error}; signing on what the keys' folder holds")
        return None
    return msgspec.json.encode(found)


def show_change(
    change: ChangeSummary, directory: Path, json: bool, request: Path | None = None
) -> None:
    """How far a change has come, and what to do next. `request`: the file it came in."""
    if json:
        print_json(msgspec.to_builtins(change, enc_hook=str))
        return
    say(change.purpose)
    for line in change.changes:
        say(f"  {line}")
    missing = [f"{m.signatures} of {_named(change, m.keys)} on {m.role}" for m in change.missing]
    print_fields(
        {
            "made": _named(change, change.created),
            "signed": _named(change, change.signed),
            "missing": "; ".join(missing),
            "trust file": change.trust_file,
            "gives way": "; ".join(change.replaces),
        }
    )
    for line in _next_steps(change, directory, request):
        note(line)


def _named(change: ChangeSummary, keys: list[str]) -> str:
    """Names with ids, since other holders may call the same key otherwise."""
    return ", ".join(f"{k} ({change.ids[k]})" if k in change.ids else k for k in keys)


def _next_steps(change: ChangeSummary, directory: Path, request: Path | None) -> Iterator[str]:
    if change.before:
        yield "This folder has signed this already; it is complete."
    if change.done:
        yield f"In force here. Next: outrider publish {change.trust_file}"
    elif change.yours and request is not None:
        flag = " --replace-unpublished" if change.replaces else ""
        if flag:
            yield "Only if what gives way was dropped for good, and nobody will publish it:"
        yield f"Next: outrider keys sign-request {request} --keys {directory}{flag}"
    elif change.missing and request is not None:
        yield f"Next: send {request} on, to the next holder or back to whoever started the change"
    elif change.missing:
        yield f"Next: outrider keys export-request {directory} request.json, for the next holder"
