"""A root of trust as an enrolment file carries it, made with python-tuf."""

from __future__ import annotations

import datetime
import functools

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root


@functools.cache
def root_json() -> bytes:
    """The same one in the whole test run."""
    return new_root_json()


def new_root_json() -> bytes:
    """1.root.json: three root keys of which two must sign, and one key for each other role."""
    expires = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=365)
    root = Root(version=1, expires=expires, consistent_snapshot=True)
    signers = [CryptoSigner.generate_ed25519() for _ in range(3)]
    for signer in signers:
        root.add_key(signer.public_key, "root")
    root.roles["root"].threshold = 2
    for role in ("targets", "snapshot", "timestamp"):
        root.add_key(CryptoSigner.generate_ed25519().public_key, role)
    metadata = Metadata(root)
    for signer in signers[:2]:
        metadata.sign(signer, append=True)
    return metadata.to_bytes()
