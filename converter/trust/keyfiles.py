"""Private keys on the workstation: encrypted PKCS#8 PEM, one file each, 0600.

Refuses to write over a key, to store one unencrypted, and to go on with a wrong passphrase.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner

from converter.trust.errors import KeyDamaged, KeyMissing, WeakPassphrase, WrongPassphrase
from model.whole_file import write_whole

MIN_PASSPHRASE_BYTES = 8
MAX_KEY_BYTES = 16_384


def check_passphrase(passphrase: bytes) -> None:
    """Raises `WeakPassphrase`; called before the first key is made."""
    if len(passphrase) < MIN_PASSPHRASE_BYTES:
        raise WeakPassphrase(f"the passphrase needs at least {MIN_PASSPHRASE_BYTES} characters")


def private_folder(directory: Path) -> Path:
    """`directory`, made if it is absent, readable by its owner alone."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    return directory


def make_key(path: Path, passphrase: bytes) -> CryptoSigner:
    """Generate an Ed25519 key and store it encrypted."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase))
    write_durably(path, pem, 0o600)
    return CryptoSigner(key)


def load_key(path: Path, passphrase: bytes) -> CryptoSigner:
    """Raises `KeyMissing`, `WrongPassphrase` or `KeyDamaged`, each naming the file."""
    key = _decrypt(path, _read(path), passphrase)
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyDamaged(f"{path.name}: not an Ed25519 key; restore it from its backup")
    return CryptoSigner(key)


def write_durably(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file so that it is either whole or as it was, also after a power cut."""
    write_whole(path, data, mode)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_KEY_BYTES)
    except FileNotFoundError as error:
        raise KeyMissing(f"{path} is not there: bring the key back to sign with it") from error
    except OSError as error:
        raise KeyMissing(f"{path} cannot be read: {error.strerror}") from error


def _is_whole(pem: bytes) -> bool:
    """Whether the file is one DER sequence from end to end, as far as can be seen from outside.

    About one wrong passphrase in 256 decrypts to something that is padded right and is no key; in a
    whole file that is the passphrase's fault, not the file's.
    """
    try:
        data = base64.b64decode(b"".join(pem.split(b"-----")[2].split()), validate=True)
    except (IndexError, binascii.Error):
        return False
    if len(data) < 4 or data[0] != 0x30:
        return False
    size = data[1] & 0x7F if data[1] & 0x80 else 0
    length = int.from_bytes(data[2 : 2 + size], "big") if size else data[1]
    return len(data) == 2 + size + length


def _decrypt(path: Path, pem: bytes, passphrase: bytes) -> object:
    if b"ENCRYPTED PRIVATE KEY" not in pem:
        raise KeyDamaged(f"{path.name}: not an encrypted PKCS#8 key; restore it from its backup")
    try:
        return load_pem_private_key(pem, passphrase)
    except ValueError as error:
        if "password" in str(error).lower() or _is_whole(pem):
            raise WrongPassphrase(f"{path.name}: the passphrase does not open this key") from error
        raise KeyDamaged(f"{path.name}: damaged; restore it from its backup") from error
    except (TypeError, UnsupportedAlgorithm) as error:
        raise KeyDamaged(f"{path.name}: not a key that we know; restore its backup") from error
