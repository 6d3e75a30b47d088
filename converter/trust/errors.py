"""What can go wrong with keys and signatures. Each message is one line that says what to do."""

from __future__ import annotations


class SigningError(Exception):
    """A key could not be used, or a release could not be signed."""


class WrongPassphrase(SigningError):
    """The passphrase does not open a private key."""


class WeakPassphrase(SigningError):
    """The passphrase is too short to protect a key."""


class KeyMissing(SigningError):
    """A private key that is needed is not in the folder."""


class KeyDamaged(SigningError):
    """A private key file is not what it should be."""


class DuplicateKey(SigningError):
    """One key would stand under two names, and so count twice."""


class KeysNotFound(SigningError):
    """The folder holds no trust: no `keys init` was run in it."""


class MetadataDamaged(SigningError):
    """Signed metadata in the folder is unreadable or not signed by its own keys."""


class OtherHub(SigningError):
    """The folder's root names the online keys of another hub."""


class FamilyUnknown(SigningError):
    """No key was made for this model family."""


class BaseRefused(SigningError):
    """The hub's metadata that should be built upon is not signed by this family's key."""


class FamilyFull(SigningError):
    """The family's metadata would be too long for a device to fetch."""


class ReleaseSigned(SigningError):
    """This version was signed before, with other content."""


class KeyExists(SigningError):
    """Another key has this name already."""


class KeyUnknown(SigningError):
    """No key of this name, or none that may be used so."""


class ChangePending(SigningError):
    """An earlier change still waits for signatures."""


class NothingPending(SigningError):
    """No change waits for signatures."""


class RequestRefused(SigningError):
    """A signing request is malformed, or would do what nobody should sign."""


class RequestOutdated(SigningError):
    """What is in force has moved on since the request was made."""


class AnotherSigned(RequestOutdated):
    """The folder has signed other metadata under the number that a request would give away."""


class KeyNotAsked(SigningError):
    """No key in the folder has a say in what a request would change."""


class FloorRefused(SigningError):
    """A family's floor cannot be what was asked for."""


class RootsRefused(SigningError):
    """What shall be trusted for TLS is no root certificate, or too many of them."""


class NothingDue(SigningError):
    """There is nothing to renew."""
