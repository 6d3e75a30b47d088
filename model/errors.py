"""The errors of the model room: what can be wrong with a bundle, a model or a tensor.

A decoder in this room raises a `ModelError` or a `contract.errors.ContractError` and nothing
else, whatever it is fed. Errors of the operating system (a full disk, no permission) pass through.
"""

from __future__ import annotations


class ModelError(Exception):
    """A bundle, a model or a tensor is not what it has to be."""


class BrokenBundle(ModelError):
    """An archive or an installed release is damaged, incomplete, or holds what it should not."""


class TooLargeToChunk(ModelError):
    """A file cuts into more chunks than one chunk list can name."""


class RuntimeUnavailable(ModelError):
    """The runtime that a variant needs is not installed here, or cannot be imported."""


class ModelLoadFailed(ModelError):
    """The runtime refused the model, or the model's tensors are not those of the manifest."""


class InferenceFailed(ModelError):
    """The runtime failed while it ran a model that it had loaded."""


class InvalidInput(ModelError):
    """Tensors given to a model have other names, dtypes or shapes than it takes."""


class MalformedGolden(ModelError):
    """Golden samples cannot be decoded, or do not fit the model."""


class MalformedProfile(ModelError):
    """A reference profile cannot be decoded or built, or contradicts itself."""


class MalformedCounts(ModelError):
    """Counts do not fit the bins that they are said to count, or each other."""


class NoSuchVariant(ModelError):
    """A release was asked for a variant that it does not have."""


class InvalidBench(ModelError):
    """A measurement was asked for with too few or too many runs or threads."""
