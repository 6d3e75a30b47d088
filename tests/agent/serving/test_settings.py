"""What the server is told at its start, and what it refuses to start with."""

from __future__ import annotations

import http.client
import subprocess
import sys
from pathlib import Path

import pytest

from agent.serving.settings import BadServingSettings, ServingSettings, read_token
from tests.agent.serving import tiny_models as tiny

TOKEN = "t0ken-t0ken-t0ken"
FORBIDDEN = ("fastapi", "httpx", "matplotlib", "onnx", "pydantic", "rich", "sqlalchemy", "typer")


def token_file(state: Path, text: str = TOKEN, mode: int = 0o600) -> Path:
    path = state / "token"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_off_loopback_a_token_is_needed(state: Path) -> None:
    with pytest.raises(BadServingSettings, match="--token-file"):
        ServingSettings(state, host="192.168.1.7").access()
    access = ServingSettings(state, host="192.168.1.7", token_file=token_file(state)).access()
    assert (access.token, access.any_host) == (TOKEN, True)


def test_on_loopback_no_token_is_needed_and_the_host_is_checked(state: Path) -> None:
    access = ServingSettings(state).access()
    assert (access.token, access.any_host) == (None, False)


def test_a_token_that_others_may_read_is_refused(state: Path) -> None:
    with pytest.raises(BadServingSettings, match="chmod 600"):
        read_token(token_file(state, mode=0o644))


@pytest.mark.parametrize("text", ["", "short", "ümlaut-" * 5, "two\nlines-two-lines"])
def test_a_token_that_is_none_is_refused(state: Path, text: str) -> None:
    with pytest.raises(BadServingSettings):
        read_token(token_file(state, text))


def test_a_token_file_that_is_missing_is_named(state: Path) -> None:
    with pytest.raises(BadServingSettings, match="No such file"):
        read_token(state / "absent")


def test_with_a_token_nobody_asks_without_it(state: Path) -> None:
    with tiny.server(state, "--token-file", str(token_file(state))) as running:
        for headers, status in (({}, 401), ({"Authorization": f"Bearer {TOKEN}"}, 200)):
            connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=5)
            connection.request("GET", "/v2/health/live", headers=headers)
            assert connection.getresponse().status == status
            connection.close()
        assert running.client.status().families == {}  # the control socket needs none


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--host", "192.168.1.7"], 1, "--token-file"),
        (["--port", "99999"], 2, "not a number from 0 to 65535"),
        (["--workers", "none"], 2, "not a number"),
        (["--token-file", "/absent"], 1, "cannot read the token file"),
    ],
)
def test_a_bad_start_says_why_in_one_line(
    state: Path, arguments: list[str], code: int, says: str
) -> None:
    command = [sys.executable, "-m", "agent.serving", "--state", str(state), *arguments]
    ended = subprocess.run(
        command, cwd=tiny.ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == code
    assert says in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


def test_the_server_imports_nothing_of_the_hub_or_the_terminal() -> None:
    check = (
        "import sys, agent.serving.server, agent.serving.process;"
        f"print([m for m in {FORBIDDEN!r} if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", check], cwd=tiny.ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
