"""The metadata that the device keeps in `S/tuf`: made durable, and cleared of what is torn.

python-tuf writes by rename but never syncs, and silently passes over local metadata that it cannot
read: after a power cut, an empty timestamp.json would be no protection against an older one. The
guard compares versions with the journal; here the directory itself is looked after.
"""

from __future__ import annotations

import logging
from pathlib import Path

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root
from tuf.api.serialization import DeserializationError

from agent.errors import Malformed, Untrusted
from agent.store.durable import sync_directory, sync_file, write_durably
from contract.errors import ContractError
from contract.trust import MAX_ROOT_BYTES, ROOT, check_role_keys

ANCHOR = "anchor.json"
ROOT_HISTORY = "root_history"

log = logging.getLogger(__name__)


def install_root(directory: Path, root_json: bytes) -> None:
    """Keep the root that the enrolment file brought: what all trust on this device starts from.

    Replaces what an earlier enrolment left. Raises `Malformed` or `Untrusted`, and then changes
    nothing.
    """
    _check_anchor(root_json)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    clear(directory)
    write_durably(directory / ANCHOR, root_json)


def read_anchor(directory: Path) -> bytes:
    """Raises `Untrusted` when the device was never enrolled here, or a disk has lost it since."""
    try:
        data = (directory / ANCHOR).read_bytes()
        Metadata[Root].from_bytes(data)
    except OSError as error:
        raise Untrusted(f"no trust root in {directory}: enrol this device") from error
    except DeserializationError as error:
        # Nothing that came from the hub is malformed, and no other root is believed in its place.
        raise Untrusted(
            f"the trust root in {directory} is torn: enrol this device again"
        ) from error
    return data


def clear(directory: Path) -> None:
    """Forget all metadata but the anchor; the next refresh fetches it again."""
    for path in [*directory.glob("*"), *(directory / ROOT_HISTORY).glob("*")]:
        if path.is_symlink() or (path.is_file() and path.name != ANCHOR):
            path.unlink()


def discard_unusable(directory: Path) -> list[str]:
    """Remove local metadata that cannot be read, so that it is fetched again; returns its names."""
    gone = []
    for path in [*directory.glob("*.json"), *(directory / ROOT_HISTORY).glob("*.json")]:
        if path.name not in (ANCHOR, "root.json") and not _is_metadata(path):
            log.warning("%s is torn: removed, to be fetched again", path)
            path.unlink()
            gone.append(path.name)
    for path in directory.glob("tmp*"):
        path.unlink()
    return gone


def sync(directory: Path) -> None:
    """Make everything durable: each file, then the folders that name them."""
    history = directory / ROOT_HISTORY
    for path in [*directory.glob("*.json"), *history.glob("*.json")]:
        if not path.is_symlink():
            sync_file(path)
    for folder in (history, directory, directory.parent):
        sync_directory(folder)


def local_root(directory: Path, version: int) -> Root | None:
    """A root of the history, which the refresh has verified; None when it is not there."""
    try:
        data = (directory / ROOT_HISTORY / f"{version}.root.json").read_bytes()
        return Metadata[Root].from_bytes(data).signed
    except (OSError, DeserializationError):
        return None


def _check_anchor(data: bytes) -> None:
    if len(data) > MAX_ROOT_BYTES:
        raise Malformed(f"root.json of {len(data)} bytes; at most {MAX_ROOT_BYTES}")
    try:
        metadata = Metadata[Root].from_bytes(data)
        root = metadata.signed
        if not isinstance(root, Root):
            raise Malformed("the enrolment's root.json holds no root")
        for name, role in root.roles.items():
            keys = [root.keys[keyid] for keyid in role.keyids]
            described = [(key.keytype, key.scheme, key.keyval.get("public")) for key in keys]
            check_role_keys(name, role.threshold, described)
        root.verify_delegate(ROOT, metadata.signed_bytes, metadata.signatures)
    except (DeserializationError, KeyError, ValueError) as error:
        raise Malformed(f"the enrolment's root.json is not TUF metadata: {error}") from error
    except (ContractError, RepositoryError) as error:
        raise Untrusted(f"the enrolment's root.json: {error}") from error


def _is_metadata(path: Path) -> bool:
    try:
        Metadata.from_bytes(path.read_bytes())
    except (OSError, DeserializationError):
        return False
    return True
