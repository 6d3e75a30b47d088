"""How a rollout reads: where it stands, and until when."""

from __future__ import annotations

from typing import Any

import pytest

from outrider.commands.rollout_text import progress_line, rollout_row, why_lines
from outrider.terminal import OUT, print_table, when

COUNTED = ("serving", "assigned", "failed", "timed_out", "unproven", "reverted", "untouched")
UNTIL_MS = 1_795_187_970_000


def rollout(soak_s: int = 600, until_ms: int | None = None) -> dict[str, Any]:
    """As the hub tells of one whose first device of two has succeeded."""
    return {
        "id": "r1",
        "kind": "rollout",
        "target": "digits/2",
        "selector": "all",
        "status": "running",
        "wave": 0,
        "created_at_ms": UNTIL_MS,
        "counts": dict.fromkeys(COUNTED, 0) | {"total": 2, "succeeded": 1, "untouched": 1},
        "timings": {"restored_s": None},
        "spec": {"waves": ["1", "2"], "soak_s": soak_s},
        "waves": [{"soak_until_ms": until_ms}, {"soak_until_ms": None}],
    }


def test_a_wave_that_soaks_says_until_when() -> None:
    line = progress_line(rollout(until_ms=UNTIL_MS))
    assert line == (
        "r1 digits/2: running, wave 1/2, 1 of 2 good, 1 untouched, soaking until "
        + when(UNTIL_MS).partition(" ")[2]
    )


def test_a_soak_of_days_is_told_with_its_date() -> None:
    assert when(UNTIL_MS) in progress_line(rollout(soak_s=86_400, until_ms=UNTIL_MS))


def test_no_soak_is_told_of_where_there_is_none_or_the_hub_is_older() -> None:
    assert "soaking" not in progress_line(rollout())
    older = rollout() | {"waves": [{"index": 0}]}
    assert "soaking" not in progress_line(older)
    assert rollout_row(older)[0] == "r1"


def test_a_list_of_rollouts_fits_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OUT, "_width", 80)
    row = rollout_row(rollout() | {"selector": "site=lyon", "status": "completed"})
    names = ("id", "kind", "release", "to", "status", "wave", "good", "failed", "started")
    print_table(names, [row], "none")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert max(len(line.rstrip()) for line in lines) <= 80


def test_why_ends_with_who_waits_and_for_what() -> None:
    head = {"id": "r1", "target": "digits/2", "status": "running"}
    waiting = [{"device": "cam-1", "cause": "metered", "detail": "it would cost 9 bytes"}]
    assert list(why_lines(head | {"waiting": waiting}, []))[-1] == (
        "now  cam-1 waits, metered: it would cost 9 bytes"
    )
    serving = [{"device": "cam-2", "cause": "inferences", "detail": "3 of 200 good ones"}]
    assert list(why_lines(head | {"waiting": serving}, []))[-1] == (
        "now  cam-2 waits, inferences: 3 of 200 good ones"
    )
    assert len(list(why_lines(head, []))) == 1  # as an older hub tells it
