"""The main loop in this process: how it looks at the server, and what its own end leaves behind."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.assembly import Parts, assemble
from agent.control import Control
from agent.deployment.driver import Deployer
from agent.identity import load_identity
from agent.journal import Journal
from agent.serve_only import ServeOnly
from agent.serving.client import ServerClient
from agent.serving.protocol import ServerCounters, control_socket
from agent.settings import AgentSettings
from tests.agent.daemon import Fleet, eventually


def settings(state: Path) -> AgentSettings:
    return AgentSettings(state_dir=state, http_port=0, tick_seconds=0.05)


@pytest.fixture
def parts(fleet: Fleet, state: Path) -> Parts:
    fleet.enrolled(state, f"pi-{state.parent.name}"[:60].rstrip("-_").replace("_", "-"))
    return make(state)


def make(state: Path) -> Parts:
    (state / "run").mkdir(exist_ok=True)
    journal = Journal(state / "journal.sqlite")
    return assemble(settings(state), load_identity(state), journal, time.monotonic())


@pytest.fixture
def left_behind(state: Path) -> Iterator[ServerClient]:
    """The server that may outlive its control process; gone afterwards."""
    client = ServerClient(control_socket(state))
    yield client
    if control_socket(state).exists():
        os.kill(client.status().pid, signal.SIGTERM)
        eventually(lambda: not control_socket(state).exists())


def test_the_loop_looks_at_the_server_with_little_patience(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[ServerClient] = []

    def counters(client: ServerClient) -> ServerCounters:
        asked.append(client)
        return ServerCounters(boot="0" * 32)

    monkeypatch.setattr(ServerClient, "counters", counters)
    parts.deployer.tick(0)
    parts.deployer.stop()
    assert asked == [parts.client]
    assert parts.client._timeout_s <= 3


def test_a_defect_ends_the_loop_and_leaves_the_server_serving(
    parts: Parts, state: Path, monkeypatch: pytest.MonkeyPatch, left_behind: ServerClient
) -> None:
    def defect(_deployer: Deployer) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(Deployer, "resume", defect)
    with pytest.raises(ZeroDivisionError):
        Control(parts).run()
    first = left_behind.status()
    monkeypatch.undo()
    again = make(state)
    control = Control(again)
    stop = threading.Timer(0.3, control.request_stop)
    stop.start()
    assert control.run() is False
    assert not control_socket(state).exists(), "an end in good order takes the server along"
    assert again.server is not None
    assert first.pid > 0


def test_what_may_pass_is_tried_again_with_the_same_server(
    parts: Parts, state: Path, left_behind: ServerClient
) -> None:
    parts.deployer.stop()
    identity = load_identity(state)
    assert ServeOnly(settings(state), identity, "no room", retry_s=0.1).run() is True
    first = left_behind.status()
    again = ServeOnly(settings(state), identity, "no room", retry_s=0.1)
    assert again.run() is True
    assert left_behind.status().boot == first.boot
    last = ServeOnly(settings(state), identity, "damaged")
    stop = threading.Timer(0.2, last.request_stop)
    stop.start()
    assert last.run() is False
    assert not control_socket(state).exists()
