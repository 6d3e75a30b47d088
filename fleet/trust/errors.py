"""What the repository refuses. Each message says what was wrong and what to do."""

from __future__ import annotations

from fleet.errors import FleetError


class TrustRefused(FleetError):
    """Signed metadata is broken, contradicts itself, or is signed by somebody who may not."""


class TrustForAnotherHub(TrustRefused):
    """The root or the policy names the online keys of another hub."""


class VersionConflict(FleetError):
    """Another version of the same metadata came first; the release must be signed again."""


class OnlineKeysDamaged(FleetError):
    """An online key of the hub is missing, unreadable or not the one that root.json names."""


class NumbersUsedUp(FleetError):
    """Somebody signed with the online keys up to the last version that a file may have."""


class MetadataDamaged(FleetError):
    """The hub's own TUF directory does not verify."""
