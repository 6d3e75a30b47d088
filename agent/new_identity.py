"""From a certificate that was checked to the identity of this device, in one rename.

Whenever power goes, the device is who it was or who it shall be, and the enrolment can be repeated
as it was: the hub answers no other request once the secret is spent. Checks nothing itself.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from agent.errors import DeviceError
from agent.identity import CA, CERTIFICATE, DIRECTORY, RECORD, REPLACED, AgentIdentity
from agent.journal import Journal
from agent.store.durable import sync_directory, write_durably
from agent.trust.local import install_root, read_anchor
from contract.enrolment import EnrolmentFile

PENDING = "identity.pending"
"""Where the next identity is put together."""
REQUEST = "request.json"


def put_in_place(found: EnrolmentFile, certificate: str, state_dir: Path) -> AgentIdentity:
    """Make it so, in the folder that holds the key; the caller has the agent's lock.

    Raises `DeviceError`, `JournalUnusable` or `OSError`; the device is then who it was, and the
    same again goes on from there.
    """
    record = AgentIdentity(
        device=found.device,
        device_class=found.device_class,
        hub_url=found.hub_url,
        broker_host=found.broker_host,
        broker_port=found.broker_port,
        floor_ms=found.floor_ms,
    )
    pending = state_dir / PENDING
    write_durably(pending / CERTIFICATE, certificate.encode(), mode=0o644)
    write_durably(pending / CA, found.ca_pem.encode(), mode=0o644)
    write_durably(pending / RECORD, msgspec.json.format(msgspec.json.encode(record)) + b"\n")
    _trust(state_dir, found.root_json.encode())
    current, replaced = state_dir / DIRECTORY, state_dir / REPLACED
    shutil.rmtree(replaced, ignore_errors=True)
    if current.exists():
        current.rename(replaced)
    # With the request: were power lost before this rename, only the same one is answered again.
    pending.rename(current)
    sync_directory(state_dir)
    (current / REQUEST).unlink(missing_ok=True)
    shutil.rmtree(replaced, ignore_errors=True)
    return record


def _trust(state_dir: Path, root_json: bytes) -> None:
    """Another hub's metadata has other version numbers: what was known of the old one's is void.

    The new root comes last. Were it there while the old numbers still are, a second try would take
    them for this hub's, and the device would refuse all that this hub ever signs.
    """
    directory = state_dir / "tuf"
    try:
        same = read_anchor(directory) == root_json
    except DeviceError:
        same = False
    if not same:
        _forget_versions(state_dir / "journal.sqlite")
    install_root(directory, root_json)


def _forget_versions(path: Path) -> None:
    if not path.exists():
        return
    journal = Journal(path)
    journal.save_trust(0, dict.fromkeys(journal.trust_versions(), 0), {})
    journal.close()
