"""Workers: a failing step is tried again, a stuck one is seen, a stopped one is joined."""

from __future__ import annotations

import threading

import pytest

from fleet import workers
from fleet.workers import Worker
from tests.fleet.harness import until


@pytest.fixture(autouse=True)
def _short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PAUSE_S", (0.01, 0.02))


def test_a_step_that_fails_is_logged_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    tries: list[int] = []

    def step() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise RuntimeError("not yet")
        threading.Event().wait(0.01)

    worker = Worker("shaky", step)
    worker.start()
    until(lambda: len(tries) > 4)
    assert worker.healthy(60)
    worker.stop()

    assert "shaky failed" in caplog.text


def test_a_stopped_worker_is_gone_and_not_healthy() -> None:
    woken = threading.Event()

    def step() -> None:
        woken.wait(60)

    worker = Worker("calm", step, woken.set)
    worker.start()
    assert not worker.stopping()

    worker.stop()

    assert worker.stopping()
    assert not worker.healthy(60)


def test_a_stuck_step_is_seen_by_the_watchdog() -> None:
    free, entered = threading.Event(), threading.Event()

    def step() -> None:
        entered.set()
        free.wait(10)

    worker = Worker("stuck", step, free.set)
    worker.start()
    entered.wait(10)
    assert not worker.healthy(0.0)

    worker.stop()


def test_a_worker_that_never_started_can_be_stopped() -> None:
    Worker("idle", lambda: None).stop()
