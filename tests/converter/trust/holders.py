"""Key holders with folders of their own, as on machines of their own."""

from __future__ import annotations

import shutil
from pathlib import Path

from converter.trust.ceremony import ChangeSummary, export_request, sign_request
from converter.trust.custody import make_key, rotate_root
from converter.trust.folder import private_key
from converter.trust.named import NamedKey
from tests.trust.ceremony import PASSPHRASE, World

BEN = b"ben's own horse"
CY = b"cy's own battery"


def coordinator() -> bytes:
    return PASSPHRASE


def ben() -> bytes:
    return BEN


def cy() -> bytes:
    return CY


def never() -> bytes:
    raise AssertionError("no key has to be opened for this")


def folder_of(world: World, holder: str) -> Path:
    return world.directory / f"keys-of-{holder}"


def key_of(world: World, holder: str, passphrase: bytes) -> NamedKey:
    """A key that its holder made; only the public file leaves their folder."""
    return make_key(
        folder_of(world, holder), f"root-{holder}", f"{holder}, 3rd floor", lambda: passphrase
    )


def carry(world: World, holder: str, passphrase: bytes) -> ChangeSummary:
    """The request on a stick: out of the coordinator's folder, signed by the holder, and back."""
    stick = world.directory / "stick.json"
    export_request(world.keys, stick)
    sign_request(stick, folder_of(world, holder), lambda: passphrase)
    return sign_request(stick, world.keys, coordinator)


def spread(world: World) -> None:
    """Root keys of three people: one in the coordinator's folder, one of Ben's, one of Cy's."""
    new = [key_of(world, "ben", BEN), key_of(world, "cy", CY)]
    change = rotate_root(world.keys, ["root-2", "root-3"], new, coordinator, world.now_ms)
    assert not change.done
    assert carry(world, "ben", BEN).done
    for name in ("root-2", "root-3"):
        private_key(world.keys, name).unlink()


def copied(world: World, name: str) -> Path:
    """The coordinator's folder as it is now."""
    return shutil.copytree(world.keys, world.directory / name)
