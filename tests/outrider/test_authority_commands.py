"""`outrider hub new-ca` and `hub follow`: what they say, refuse and write, over the real API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.settings import AgentSettings
from fleet.ca import Authority
from fleet.rotation import DEVICES_FOLLOW
from outrider.__main__ import main
from outrider.operator import OperatorConfig, read_operator, write_operator
from tests.fleet.authorities import make
from tests.fleet.conftest import hub_directory, hub_template
from tests.fleet.harness import HubDirectory, enrolled, over_https

__all__ = ["hub_directory", "hub_template"]


@pytest.fixture
def hub(
    hub_directory: HubDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[HubDirectory]:
    """A hub whose API answers, and an operator of it."""
    with hub_directory.at_rest() as services, over_https(services):
        ca_pem = Authority(services.directory / "ca").roots_pem()
        operator = tmp_path / "operator.json"
        write_operator(
            operator,
            OperatorConfig(url=services.config.api_url, token=hub_directory.token, ca_pem=ca_pem),
        )
        monkeypatch.setenv("OUTRIDER_OPERATOR_CONFIG", str(operator))
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.chdir(tmp_path)
        yield hub_directory


def ok(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    capsys.readouterr()
    assert main(["hub", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert main(["hub", *map(str, words)]) == 1
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1
    return said


def roots_of(tmp_path: Path, name: str = "operator.json") -> str:
    return read_operator(tmp_path / name).ca_pem


def test_making_it_tells_the_next_step_with_this_hub_s_directory(
    hub: HubDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["hub", "new-ca", str(hub.hub)]) == 0
    shown = capsys.readouterr()
    assert "the hub stands under the present one" in shown.out
    assert f"--root {hub.hub}/ca/root.crt --root {hub.hub}/ca/next/root.crt" in shown.err
    assert "outrider hub follow" in shown.err
    assert f"When: {DEVICES_FOLLOW}." in " ".join(shown.err.split())
    assert roots_of(tmp_path) == Authority(hub.hub / "ca").roots_pem()


def test_devices_follow_as_soon_as_is_said() -> None:
    """A routine refresh comes after 0.75 to 1.25 times what is set (agent.verification)."""
    settings = AgentSettings()
    assert 3.5 * 3600 < settings.refresh_seconds * 1.25 <= 4 * 3600
    assert settings.refresh_spread_seconds == 10 * 60
    assert "within four hours" in DEVICES_FOLLOW
    assert "within ten minutes" in DEVICES_FOLLOW


def test_what_cannot_be_done_is_one_line(
    hub: HubDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "outrider hub init" in refused(capsys, "new-ca", tmp_path / "nowhere")
    assert "begins one" in refused(capsys, "new-ca", hub.hub, "--finish")
    ok(capsys, "new-ca", hub.hub)
    assert "under way already, made" in refused(capsys, "new-ca", hub.hub)
    assert "both roots" in refused(capsys, "new-ca", hub.hub, "--switch", "--force")


def test_two_steps_at_once_are_wrong_usage(
    hub: HubDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["hub", "new-ca", str(hub.hub), "--switch", "--finish"]) == 2
    assert "give one" in capsys.readouterr().err


def test_devices_that_are_left_behind_are_named(
    hub: HubDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    with hub.at_rest() as services:
        enrolled(services, "cam-1")
    make(hub)
    assert ok(capsys, "new-ca", hub.hub, "--switch")["cut_off"] == []
    assert "cut off cam-1" in refused(capsys, "new-ca", hub.hub, "--finish")
    assert main(["hub", "new-ca", str(hub.hub), "--finish", "--force"]) == 0
    said = capsys.readouterr().err
    assert "Left behind, to be enrolled again: cam-1" in said
    assert f"keys ca KEYS --root {hub.hub}/ca/root.crt" in said


def test_an_operator_elsewhere_follows(
    hub: HubDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The hub still stands under a root that this configuration knows."""
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_bytes((tmp_path / "operator.json").read_bytes())
    make(hub)
    found = ok(capsys, "follow", "--config", elsewhere)
    assert (found["changed"], found["stage"], len(found["roots"])) == (True, "made", 2)
    assert roots_of(tmp_path, "elsewhere.json") == Authority(hub.hub / "ca").roots_pem()
    assert elsewhere.stat().st_mode & 0o777 == 0o600
    assert ok(capsys, "follow", "--config", elsewhere)["changed"] is False
    assert main(["hub", "follow", "--config", str(elsewhere)]) == 0
    assert "holds the hub's roots already" in capsys.readouterr().out


def test_another_hub_s_configuration_is_left_alone(
    hub: HubDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "operator.json"
    other = OperatorConfig(url="https://other:1", token="t" * 20, ca_pem="x")
    write_operator(path, other)
    ok(capsys, "new-ca", hub.hub)
    assert read_operator(path) == other
