"""The keys of a folder and what they sign of a change: opened only where their signature counts.

Knows nothing of requests' files or of what is in force; refuses a key that was named and is not
wanted, and a folder that nobody asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from securesystemslib.signer import CryptoSigner

from converter.trust import folder
from converter.trust.drafts import is_complete, may_sign, needs, sign
from converter.trust.errors import KeyNotAsked, KeyUnknown, WrongPassphrase
from converter.trust.keyfiles import load_key
from converter.trust.names import names_of
from converter.trust.request import Request

Passphrase = Callable[[], bytes]
"""Asked for only when a key is opened."""


def sign_here(
    directory: Path, request: Request, passphrase: Passphrase, only: Sequence[str] = ()
) -> list[str]:
    """Names of the keys that signed; nothing is written."""
    base, drafts = request.base, request.drafts
    names = names_of(directory, base)
    signers = _open(directory, may_sign(base, drafts), names, passphrase, only)
    return [names[keyid] for keyid in sign(base, drafts, signers)]


def able_to_sign(directory: Path, request: Request) -> list[str]:
    """Names of the keys here whose signature the change still lacks."""
    names = names_of(directory, request.base)
    wanted = may_sign(request.base, request.drafts) & names.keys()
    return sorted(names[k] for k in wanted if folder.private_key(directory, names[k]).exists())


def require_asked(directory: Path, request: Request) -> None:
    """Raises `KeyNotAsked` where no key of the folder has a say in a change that is incomplete."""
    if is_complete(request.base, request.drafts):
        return
    names = names_of(directory, request.base)
    asked = {
        keyid
        for need in needs(request.base, request.drafts)
        for keyid in need.signed.keys() | need.unsigned.keys()
    }
    if not any(folder.private_key(directory, names[k]).exists() for k in asked & names.keys()):
        raise KeyNotAsked(f"nobody asked for a key of {directory}: this change needs others")


def _open(
    directory: Path,
    wanted: set[str],
    names: dict[str, str],
    passphrase: Passphrase,
    only: Sequence[str],
) -> list[CryptoSigner]:
    """Those of the wanted keys that are here and that the passphrase opens."""
    here = {
        names[keyid]: keyid
        for keyid in wanted
        if keyid in names and folder.private_key(directory, names[keyid]).exists()
    }
    for name in only:
        if name not in here:
            raise KeyUnknown(f"{name}: not here, or this change does not need it")
    opened: list[CryptoSigner] = []
    shut: WrongPassphrase | None = None
    for name in sorted(only or here):
        try:
            signer = load_key(folder.private_key(directory, name), passphrase())
        except WrongPassphrase as error:
            shut = error
        else:
            opened += [signer] if signer.public_key.keyid == here[name] else []
    if shut is not None and not opened:
        raise shut
    return opened
