"""What can be wrong with a rollout that somebody asks for. Each message says what to do."""

from __future__ import annotations

from fleet.errors import FleetError


class InvalidSelector(FleetError):
    """A selector is not `all` or conditions `key=pattern` joined by commas."""


class InvalidRollout(FleetError):
    """A rollout's waves, threshold or times cannot be taken."""


class EmptyCohort(FleetError):
    """No device can be reached by what was asked."""


class RolloutOpen(FleetError):
    """Another rollout of the family is open on one of the devices."""


class RolloutNotFound(FleetError):
    """No such rollout."""


class RolloutState(FleetError):
    """The rollout is not in a state in which this can be done."""


class NothingToRollBack(FleetError):
    """No device has a release of the family with another one before it."""
