"""Which of the device's error classes each of python-tuf's errors is. Nothing else translates."""

from __future__ import annotations

import errno

from tuf.api import exceptions as tuf
from tuf.api.serialization import DeserializationError

from agent.errors import (
    DeviceError,
    DiskFull,
    Malformed,
    RollbackDetected,
    StaleMetadata,
    Tampered,
    TransportFailed,
    Untrusted,
)

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}

# In order: the first class that an error is an instance of decides.
_CLASSES: tuple[tuple[type[Exception], type[DeviceError]], ...] = (
    (tuf.ExpiredMetadataError, StaleMetadata),
    (tuf.BadVersionNumberError, RollbackDetected),
    (tuf.UnsignedMetadataError, Untrusted),
    (tuf.LengthOrHashMismatchError, Tampered),
    (tuf.DownloadLengthMismatchError, Tampered),
    (tuf.DownloadError, TransportFailed),
    (DeserializationError, Malformed),
    # What is left: metadata of another role, or that contradicts itself.
    (tuf.RepositoryError, Malformed),
    (ValueError, Malformed),
)

_REMOVED = "New snapshot is missing info for"


def as_device_error(error: Exception) -> DeviceError:
    """The device's error for one that came out of python-tuf; the caller raises it `from` that."""
    if isinstance(error, DeviceError):
        return error
    if isinstance(error, tuf.DownloadError) and isinstance(error.__cause__, DeviceError):
        return error.__cause__
    if isinstance(error, OSError):
        return _from_disk(error)
    if str(error).startswith(_REMOVED):
        return RollbackDetected(_text(error))
    for kind, mapped in _CLASSES:
        if isinstance(error, kind):
            return mapped(_text(error))
    return DeviceError(_text(error))


def _from_disk(error: OSError) -> DeviceError:
    if error.errno in _NO_SPACE:
        return DiskFull(f"no room for metadata: {error.strerror}")
    return DeviceError(f"metadata could not be kept: {error.strerror}")


def _text(error: Exception) -> str:
    return f"{str(error)[:300] or type(error).__name__}"
