"""What can go wrong at the hub. Each message says what was wrong and what to do.

The API translates these to statuses in one place; the command line prints them as one line.
"""

from __future__ import annotations


class FleetError(Exception):
    """Something asked of the hub cannot be done."""


class HubNotFound(FleetError):
    """The directory is not one that `hub init` made."""


class HubUnreadable(FleetError):
    """A file of the hub's directory is damaged."""


class HubExists(FleetError):
    """`hub init` was given a directory that is not empty."""


class HubOfAnotherUser(FleetError):
    """The hub's directory belongs to another account than the one that runs this command."""


class HubRunning(FleetError):
    """Another process runs this hub."""


class SetupFailed(FleetError):
    """`hub init` could not finish; nothing of it remains."""


class RotationUnderWay(FleetError):
    """A second CA is there already, and the way to it has not ended."""


class RotationRefused(FleetError):
    """A step of the way to another CA cannot be taken now, or would cost devices."""


class StorageBusy(FleetError):
    """The database could not be written in time."""


class StorageTooNew(FleetError):
    """The database was migrated by a newer program than this one."""


class BrokerMissing(FleetError):
    """Mosquitto is not installed."""


class BrokerFailed(FleetError):
    """The broker does not start."""


class PortInUse(FleetError):
    """Something else listens on a port that the hub needs."""


class DeviceExists(FleetError):
    """A device of that name is there already."""


class DeviceNotFound(FleetError):
    """No such device."""


class InvalidDevice(FleetError):
    """A device's name, class or labels cannot be taken."""


class TrustMissing(FleetError):
    """The hub has no trust root yet, so no device can be enrolled."""


class EnrolmentRefused(FleetError):
    """An enrolment request is not genuine, too late, or used up; says no more than it must."""


class NothingPending(FleetError):
    """No enrolment of that device and key waits for approval."""


class CsrRefused(EnrolmentRefused):
    """A certificate signing request is broken, or for a key of another kind."""


class RenewalRefused(FleetError):
    """A device may not have another certificate for this key."""


class ClockDiffers(FleetError):
    """A signed request is not of this moment; `now_ms` is the time to sign it with."""

    def __init__(self, message: str, now_ms: int) -> None:
        super().__init__(message)
        self.now_ms = now_ms


class BlobsRefused(FleetError):
    """A request for blobs is not by a device of this hub, or for none that it may have."""


class ReleaseNotFound(FleetError):
    """No such release."""


class ReleaseConflict(FleetError):
    """Another bundle was published under that name, or a newer version came first."""


class BundleRefused(FleetError):
    """A bundle is broken, unsigned, or signed by somebody who may not."""


class BlobMissing(FleetError):
    """A blob that a release needs is not in the store, or is damaged."""


class BucketUnusable(FleetError):
    """The object store is not set up so that it could be asked."""


class BucketFailed(FleetError):
    """The object store could not be reached, or refused."""


class TokenRefused(FleetError):
    """The API token is absent, unknown or revoked."""


class TokenExists(FleetError):
    """A token of that name is there already."""
