"""Which release a device that joins the fleet receives: the current one of its group. Pure.

That is the release of the last completed rollout whose selector names the device, unless a later
rollback that names it, too, has left that release.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fleet.rollouts.selectors import Selector, Subject
from fleet.rollouts.views import Kind, ReleaseRef


@dataclass(frozen=True)
class Ended:
    """A rollout that completed, as far as newcomers are concerned."""

    id: str
    kind: Kind
    release: ReleaseRef
    """Of a rollback: the release that was left."""
    selector: Selector


def current(newest_first: Iterable[Ended], subject: Subject) -> Ended | None:
    """The rollout whose release the device should have; None when there is none."""
    left: set[str] = set()
    named: dict[str, bool] = {}  # many rollouts, few selectors
    for ended in newest_first:
        text = ended.selector.text
        if text not in named:
            named[text] = ended.selector.matches(subject)
        if not named[text]:
            continue
        if ended.kind is Kind.ROLLBACK:
            left.add(ended.release.digest)
        elif ended.release.digest not in left:
            return ended
    return None
