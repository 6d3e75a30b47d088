"""`outrider doctor`: it fails for what was set up and does not work, and for nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.lock import StateLock
from agent.status import AgentStatus, write_status
from outrider.__main__ import main
from tests.agent.serving import tiny_models as tiny

Verdicts = dict[str, tuple[str, str]]


@pytest.fixture(autouse=True)
def no_operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTRIDER_OPERATOR_CONFIG", str(tmp_path / "none" / "operator.json"))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Path]:
    """The state of an enrolled device whose daemon holds the lock and writes its status."""
    state = tmp_path / "state"
    (state / "identity").mkdir(parents=True)
    lock = StateLock(state)
    lock.acquire()
    tell(state, "running")
    yield state
    lock.release()


def tell(state: Path, server: str) -> None:
    status = AgentStatus(
        device="cam-1", agent="outrider", pid=1, at_ms=1, started_at_ms=1, clock_trusted=True,
        hub_url="https://hub", broker="hub:1", connected=True, server=server,
    )  # fmt: skip
    write_status(state, status)


def doctor(capsys: pytest.CaptureFixture[str], state: Path, *more: str) -> tuple[int, Verdicts]:
    code = main(["doctor", "--state", str(state), "--json", *more])
    found = json.loads(capsys.readouterr().out)
    return code, {each["name"]: (each["verdict"], each["detail"]) for each in found}


@pytest.mark.parametrize("told", ["running", "its own unit's"])
def test_a_daemon_whose_server_does_not_answer_is_a_failure(
    daemon: Path, capsys: pytest.CaptureFixture[str], told: str
) -> None:
    tell(daemon, told)
    code, found = doctor(capsys, daemon)
    assert (code, found["device"][0]) == (1, "ok")
    verdict, detail = found["inference"]
    assert verdict == "failed"
    assert "no inference server" in detail


def test_the_reason_that_the_daemon_knows_is_told(
    daemon: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tell(daemon, "down: killed by SIGKILL")
    assert "killed by SIGKILL" in doctor(capsys, daemon)[1]["inference"][1]


def test_a_server_that_answers_is_fine(daemon: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tiny.server(daemon):
        code, found = doctor(capsys, daemon)
    assert (code, found["inference"][0]) == (0, "ok")


def test_a_configuration_that_was_named_has_to_be_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = doctor(capsys, tmp_path / "no-device", "--config", str(tmp_path / "nope.json"))
    assert (code, found["hub"][0]) == (1, "failed")
    assert "nope.json" in found["hub"][1]
    code, found = doctor(capsys, tmp_path / "no-device")
    assert (code, found["hub"][0]) == (0, "absent")
