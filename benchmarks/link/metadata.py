"""What signed metadata costs a device in bytes, read through the guard over the real broker."""

from __future__ import annotations

from pathlib import Path

from benchmarks.link.delta import FAMILY, Receiver
from contract.ids import digest_of
from contract.targets import ReleaseCustom
from contract.topics import Channel
from contract.trust import decode_hub_public_keys
from converter.trust import folder
from converter.trust.keyfiles import load_key
from converter.trust.keys import init_keys
from converter.trust.metadata import add_release, signed_bytes
from fleet.assembly import system_clock
from fleet.trust.repository import Repository
from tests.trust.ceremony import PASSPHRASE

FAMILIES = (FAMILY, "words", *(f"family-{n}" for n in range(8)))
RELEASES = 100


def release_much(directory: Path) -> None:
    """1,000 releases in 10 families, as signing them one by one would leave them."""
    keys = directory / "keys"
    hub = decode_hub_public_keys((directory / "hub" / "hub-keys.json").read_bytes())
    init_keys(keys, list(FAMILIES), hub, PASSPHRASE, system_clock())
    trust = folder.read_trust(keys)
    for family in FAMILIES:
        signed = trust.families[family]
        for number in range(1, RELEASES + 1):
            target = f"{family}/1.{number}"
            custom = ReleaseCustom(family=family, counter=number)
            manifest = digest_of(target.encode()).encode() * 32
            add_release(signed, target, manifest, custom)
        signed.version += 1
        signer = load_key(folder.private_key(keys, f"family-{family}"), PASSPHRASE)
        folder.store(keys, family, signed.version, signed_bytes(signed, [signer]))
    folder.export(keys)
    repository = Repository(directory / "hub" / "tuf")
    repository.import_trust((keys / "trust.json").read_bytes())


def refreshed(device: Receiver, target: str) -> tuple[int, int]:
    """Bytes of metadata beside the index, and of the index, that one refresh takes."""
    device.wire.forget()
    device.guard.refresh([target])
    return device.wire.received[Channel.TUF_FILE], device.wire.received[Channel.TUF_INDEX]
