"""Settings: which source wins, and what is refused in words that name the source."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.settings import AgentSettings, BadSettings, read_settings


def test_defaults_need_no_source() -> None:
    found = read_settings({}, {})
    assert found == AgentSettings(state_dir=Path("/var/lib/outrider"))
    assert (found.http_host, found.http_port, found.server) == ("127.0.0.1", 8080, True)


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "agent.json").write_text(
        json.dumps({"http_port": 1, "report_seconds": 1, "heartbeat_seconds": 1})
    )
    environ = {"OUTRIDER_HTTP_PORT": "2", "OUTRIDER_REPORT_SECONDS": "2"}
    found = read_settings({"state_dir": tmp_path, "http_port": 3, "server": None}, environ)
    assert (found.http_port, found.report_seconds, found.heartbeat_seconds) == (3, 2.0, 1.0)
    assert found.state_dir == tmp_path


def test_the_environment_names_the_directory_in_which_the_file_lies(tmp_path: Path) -> None:
    (tmp_path / "agent.json").write_text('{"server": false, "http_token_file": "/t"}')
    found = read_settings({}, {"OUTRIDER_STATE_DIR": str(tmp_path)})
    assert not found.server
    assert found.http_token_file == Path("/t")


def test_a_relative_directory_becomes_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_settings({"state_dir": Path("state")}, {}).state_dir == tmp_path / "state"


def test_the_service_managers_socket_is_taken_from_its_own_variable() -> None:
    assert read_settings({}, {"NOTIFY_SOCKET": "@x"}).notify_socket == "@x"


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"OUTRIDER_HTTP_PORT": "http"}, "OUTRIDER_HTTP_PORT"),
        ({"OUTRIDER_HTTP_PORT": "70000"}, "OUTRIDER_HTTP_PORT"),
        ({"OUTRIDER_REPORT_SECONDS": "0"}, "OUTRIDER_REPORT_SECONDS"),
        ({"OUTRIDER_LOG_LEVEL": "loud"}, "OUTRIDER_LOG_LEVEL"),
    ],
)
def test_a_bad_value_names_its_variable(environ: dict[str, str], named: str) -> None:
    with pytest.raises(BadSettings, match=named):
        read_settings({}, environ)


@pytest.mark.parametrize("content", [b"\xff", b"[]", b'{"htttp_port": 1}', b" " * 70_000])
def test_a_bad_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "agent.json").write_bytes(content)
    with pytest.raises(BadSettings, match=r"agent\.json"):
        read_settings({"state_dir": tmp_path}, {})
