"""What can go wrong on the device, as the classes that travel to the hub.

Each error carries its `Cause`; whatever is raised in an update, inference goes on.
"""

from __future__ import annotations

from typing import ClassVar

from contract.deployments import Cause


class DeviceError(Exception):
    """An update or a command could not be carried out; `cause` is its class on the wire."""

    cause: ClassVar[Cause] = Cause.INTERNAL


class TransportFailed(DeviceError):
    """The broker or the hub could not be reached, or did not answer in time: worth a retry."""

    cause = Cause.TRANSPORT


class NotListed(TransportFailed):
    """A TUF file that the broker's index does not list: python-tuf is told 404."""


class StaleMetadata(DeviceError):
    """Signed metadata has expired, as the trusted clock sees it."""

    cause = Cause.STALE


class RollbackDetected(DeviceError):
    """Something older than what this device has already accepted was offered."""

    cause = Cause.ROLLBACK


class Untrusted(DeviceError):
    """No key that is trusted for it signed this."""

    cause = Cause.UNTRUSTED


class Tampered(DeviceError):
    """Bytes do not have the digest by which they are known."""

    cause = Cause.TAMPERED


class Malformed(DeviceError):
    """Something received does not keep to the contract."""

    cause = Cause.MALFORMED


class PolicyRefused(DeviceError):
    """Genuine, but not allowed here: device class, release floor, hold, expiry."""

    cause = Cause.POLICY


class OverBudget(PolicyRefused):
    """It would cost more than a metered link may: worth a retry, since what is on the disk may
    change, and the bound too."""

    cause = Cause.METERED


class DiskFull(DeviceError):
    """There is not enough room for the release; nothing was written over."""

    cause = Cause.DISK_FULL


class DiskFailed(DiskFull):
    """The disk takes nothing, for another reason than want of room: the same has to be done."""


class Incompatible(DeviceError):
    """No variant runs on this hardware or with these runtimes."""

    cause = Cause.INCOMPATIBLE


class TrialFailed(DeviceError):
    """The candidate did not pass its golden samples on this device."""

    cause = Cause.TRIAL_FAILED


class OutOfMemory(DeviceError):
    """The candidate needs more memory than this device can give it."""

    cause = Cause.OUT_OF_MEMORY


class Crashed(DeviceError):
    """A process died while it ran the candidate."""

    cause = Cause.CRASHED
