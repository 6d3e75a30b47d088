"""What a pause, resume, abort or rollback means for each device, in counts and in words. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fleet.rollouts.views import UNDER_WAY, UNTOUCHED, DeviceStatus, Progress
from fleet.rollouts.words import counted


class Part(msgspec.Struct, frozen=True):
    """Devices that are all told the same."""

    count: int
    words: str


class Effects(msgspec.Struct, frozen=True):
    """What happens to devices that are done, under way, and unaware."""

    done: Part
    under_way: Part
    unaware: Part
    words: str


_WORDS = {
    "pause": (
        "keep what they serve",
        "go on with what they were assigned, and are counted",
        "are assigned nothing until the rollout is resumed",
    ),
    "resume": (
        "keep what they serve",
        "go on",
        "follow wave by wave once the gate passes",
    ),
    "abort": (
        "keep what they serve; `outrider rollback` takes the release back",
        "keep the assignment that they have, and finish it",
        "stay untouched",
    ),
}


def effects(verb: str, devices: Sequence[Progress], extra: str = "") -> Effects:
    """The effects of `verb` on a rollout's devices."""
    under_way = UNDER_WAY | {DeviceStatus.REVERTING}
    counts = (
        sum(p.status not in under_way and p.status not in UNTOUCHED for p in devices),
        sum(p.status in under_way for p in devices),
        sum(p.status in UNTOUCHED for p in devices),
    )
    parts = [Part(n, words) for n, words in zip(counts, _WORDS[verb], strict=True)]
    names = ("done", "under way", "unaware")
    told = "; ".join(
        f"{counted(part.count, 'device')} {name}: {part.words}"
        for name, part in zip(names, parts, strict=True)
    )
    done, under_way_part, unaware = parts
    return Effects(done, under_way_part, unaware, words=f"{told}.{' ' + extra if extra else ''}")
