"""Public keys by name: `public/NAME.json`, which may travel; `private/NAME.pem` beside it stays.

A file of a key that was made on another machine carries a signature by that very key, so that a
mistyped or borrowed public key is found before it gets a say. Knows names and holders; which key
may sign what is in signed metadata alone.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from securesystemslib.signer import CryptoSigner

from contract.targets import TARGET_SCHEMA
from converter.trust import folder
from converter.trust.errors import KeyDamaged, KeyExists
from converter.trust.keyfiles import load_key, make_key, write_durably
from converter.trust.named import NamedKey, require_vouched, statement

MAX_PUBLIC_BYTES = 4_096


def make_named(directory: Path, name: str, passphrase: bytes, holder: str = "") -> CryptoSigner:
    """Make a key, or open the one of this name; its public file says who holds it."""
    path = folder.private_key(directory, name)
    signer = load_key(path, passphrase) if path.exists() else make_key(path, passphrase)
    if not public_file(directory, name).exists():
        keep(directory, _describe(signer, name, holder))
    return signer


def public_file(directory: Path, name: str) -> Path:
    """Where a public key is kept."""
    return directory / "public" / f"{name}.json"


def keep(directory: Path, key: NamedKey) -> None:
    """Remember a key; raises `KeyExists` when another one has its name."""
    path = public_file(directory, key.name)
    if path.exists() and read_named(path).public != key.public:
        raise KeyExists(
            f"another key is called {key.name} here: have this one made under a new name"
        )
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_durably(path, msgspec.json.format(msgspec.json.encode(key), indent=1) + b"\n")


def known_keys(directory: Path) -> dict[str, NamedKey]:
    """Key id -> key, of all that are remembered here."""
    found = [read_named(path) for path in sorted((directory / "public").glob("*.json"))]
    return {key.keyid: key for key in found}


def read_named(path: Path) -> NamedKey:
    """Raises `KeyDamaged` unless the key itself vouches for the file, or `OSError`."""
    with path.open("rb") as file:
        data = file.read(MAX_PUBLIC_BYTES + 1)
    try:
        if len(data) > MAX_PUBLIC_BYTES:
            raise ValueError(f"more than {MAX_PUBLIC_BYTES} bytes")
        key = msgspec.json.decode(data, type=NamedKey)
        if key.schema != TARGET_SCHEMA:
            raise ValueError(f"schema {key.schema}; this program reads {TARGET_SCHEMA}")
        require_vouched(key, path.name)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise KeyDamaged(f"{path.name}: not a public key file ({str(error)[:200]})") from error
    return key


def _describe(signer: CryptoSigner, name: str, holder: str) -> NamedKey:
    public = str(signer.public_key.keyval["public"])
    proof = signer.sign(statement(name, holder, public)).signature
    return NamedKey(name=name, holder=holder, public=public, proof=proof)
