"""One CA in one folder: the four files of a root and its intermediate, made and read.

Which folder counts, and for what, is fleet.ca's to know.
"""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.x509.oid import NameOID

from fleet.errors import HubUnreadable
from fleet.files import write_whole
from fleet.issuing import Signer, ca_certificate, common_name, key_pem, pem

ROOT_DAYS = 7_300
INTERMEDIATE_DAYS = 3_650
PARTS = ("root.key", "root.crt", "intermediate.key", "intermediate.crt")
BRIDGE = "bridge.crt"
MAX_NAME = 47
"""Characters of the hub's name in its CA's: a common name holds 64."""


def make(folder: Path, name: str, number: str, now_ms: int) -> None:
    """A root and its intermediate."""
    root_key, signer_key = generate_private_key(SECP256R1()), generate_private_key(SECP256R1())
    name = name[:MAX_NAME]
    root_name = common_name(f"{name} root{number}")
    root = ca_certificate(root_name, root_key.public_key(), None, root_key, ROOT_DAYS, now_ms)
    signer_name = common_name(f"{name} intermediate{number}")
    signer = ca_certificate(
        signer_name, signer_key.public_key(), root, root_key, INTERMEDIATE_DAYS, now_ms
    )
    contents = (key_pem(root_key), pem(root), key_pem(signer_key), pem(signer))
    for part, data in zip(PARTS, contents, strict=True):
        write_whole(folder / part, data)


def make_bridge(folder: Path, former: Path, now_ms: int) -> None:
    """The root in `folder` as the root in `former` signs it, where that one's key is at hand."""
    if not (former / "root.key").exists():
        return
    root, over = load_certificate(folder / "root.crt"), load_certificate(former / "root.crt")
    key = load_key(folder / "root.key").public_key()
    old = load_key(former / "root.key")
    bridge = ca_certificate(root.subject, key, over, old, INTERMEDIATE_DAYS, now_ms)
    write_whole(folder / BRIDGE, pem(bridge))


def adopt(folder: Path, to: Path) -> None:
    """Put this CA's files in the place of another's; raises `HubUnreadable`, with all as it was."""
    for part in ("root.crt", "intermediate.crt"):
        load_certificate(folder / part)
    load_key(folder / "intermediate.key")
    for part in PARTS:
        if (folder / part).exists():
            write_whole(to / part, (folder / part).read_bytes())
        else:  # its root's key was moved away; the other's would be taken for it
            (to / part).unlink(missing_ok=True)


def number_of(root: x509.Certificate) -> int:
    """`hub root 3` -> 3; the first has none."""
    name = str(root.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
    last = name.rpartition(" ")[2]
    return int(last) if last.isascii() and last.isdecimal() and len(last) < 9 else 1


def signer_in(folder: Path) -> Signer:
    """The intermediate; raises `HubUnreadable`."""
    return Signer(
        load_certificate(folder / "intermediate.crt"), load_key(folder / "intermediate.key")
    )


def load_key(path: Path) -> EllipticCurvePrivateKey:
    """Raises `HubUnreadable`."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError) as error:
        raise HubUnreadable(f"{path}: {error}") from error
    if not isinstance(key, EllipticCurvePrivateKey):
        raise HubUnreadable(f"{path} is not an ECDSA key")
    return key


def load_certificate(path: Path) -> x509.Certificate:
    """Raises `HubUnreadable`."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise HubUnreadable(f"{path}: {error}") from error
