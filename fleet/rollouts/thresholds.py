"""`abort_if`: how many failures are too many. Pure, and exact: no floating point.

`failed>10%`, `failed>=5%`, `failed>2`, `failed>=2`. A percentage is of the devices reached.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fleet.rollouts.errors import InvalidRollout

_FORM = re.compile(r"^failed\s*(>=|>)\s*(\d{1,7})(?:\.(\d{1,3}))?\s*(%?)\Z")
_WHOLE = 100_000


@dataclass(frozen=True)
class Threshold:
    """More failures than this fail a gate."""

    amount: int
    """Devices, or thousandths of a percent."""
    percent: bool
    inclusive: bool
    """`>=`."""
    text: str

    def exceeded(self, failed: int, reached: int) -> bool:
        """Whether `failed` of `reached` devices are too many; no failure never is."""
        if failed == 0:
            return False
        have, limit = (
            (failed * _WHOLE, self.amount * reached) if self.percent else (failed, self.amount)
        )
        return have >= limit if self.inclusive else have > limit

    def allowed(self, reached: int) -> int:
        """How many of `reached` devices may fail."""
        if self.percent:
            most, rest = divmod(self.amount * reached, _WHOLE)
        else:
            most, rest = self.amount, 0
        if self.inclusive and rest == 0:
            most -= 1
        return max(0, min(most, reached))


def parse_threshold(text: str) -> Threshold:
    """Raises `InvalidRollout` that says the form."""
    match = _FORM.match(text.strip()) if len(text) <= 40 else None
    if match is None:
        raise InvalidRollout(
            f"abort_if {text[:40]!r} is not understood: write failed>10%, failed>=5%, failed>2"
            " or failed>=2"
        )
    compare, whole, fraction, percent = match.groups()
    if fraction and not percent:
        raise InvalidRollout(f"abort_if {text[:40]!r}: a number of devices is a whole one")
    amount = int(whole)
    if percent:
        amount = amount * 1_000 + int((fraction or "0").ljust(3, "0"))
        if amount > _WHOLE:
            raise InvalidRollout(f"abort_if {text[:40]!r}: more than 100 % never fail")
    return Threshold(amount, bool(percent), compare == ">=", text.strip())
