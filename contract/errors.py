"""The errors of the contract: what can be wrong with bytes that came from somebody else.

Every decoder in this room raises a `ContractError` and nothing else, whatever it is fed.
"""

from __future__ import annotations


class ContractError(Exception):
    """Something received does not keep to the contract."""


class InvalidId(ContractError):
    """A name is not `[a-z0-9][a-z0-9-]{0,62}`, or is reserved."""


class InvalidTopic(ContractError):
    """A topic is not one of those that the wire knows."""


class MessageTooLong(ContractError):
    """A payload is longer than its kind allows; it was not parsed."""


class MalformedMessage(ContractError):
    """A payload is not the JSON that its kind prescribes."""


class UnknownKind(ContractError):
    """A message names a kind that does not belong on its topic."""


class UnsupportedVersion(ContractError):
    """A message has a schema version that this program does not speak."""


class MalformedManifest(ContractError):
    """A manifest is not valid, or contradicts itself."""


class MalformedBlob(ContractError):
    """A blob's framing is broken, or it unpacks to another length than announced."""


class DigestMismatch(ContractError):
    """Bytes do not have the digest under which they were asked for."""


class MalformedTrust(ContractError):
    """A file of public keys or signed metadata is broken, or gives one key two voices."""


class BadSignature(ContractError):
    """No trusted key signed these bytes."""


class NoVariantFits(ContractError):
    """No variant of a release can run on this hardware; the message gives a reason for each."""
