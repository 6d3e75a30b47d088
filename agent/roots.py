"""Which root certificates this device trusts for TLS: `identity/ca.pem`, as `policy/ca` says.

The file is written from a verified view only, whole, by one rename, and never empty; every new
connection and every request to the hub reads it anew. A policy that names no root changes nothing:
a device without any could reach nobody, and nobody could help it.
"""

from __future__ import annotations

import logging

from agent.errors import DeviceError
from agent.identity import CA, Identity, IdentityError
from agent.store.durable import write_durably
from agent.trust.view import TrustedView
from contract.targets import CA_TARGET

_LOG = logging.getLogger(__name__)


def follow_policy(identity: Identity, view: TrustedView) -> bool:
    """Make `ca.pem` what the policy says; whether it was anything else. Raises `DiskFull`."""
    refusal = view.refused.get(CA_TARGET)
    if refusal is not None:
        _say_refused(refusal)
    wanted = "".join(view.ca_roots)
    if not wanted or _present(identity) == wanted:
        return False
    write_durably(identity.directory / CA, wanted.encode("ascii"), mode=0o644)
    _LOG.warning("%s: this device trusts %d root(s) from now on", CA_TARGET, len(view.ca_roots))
    return True


def _present(identity: Identity) -> str:
    try:
        return identity.ca_pem
    except IdentityError as error:
        _LOG.warning("%s", error)
        return ""


def _say_refused(refusal: DeviceError) -> None:
    _LOG.warning("%s; the roots stay as they are", refusal)
