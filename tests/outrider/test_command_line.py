"""The command line as a whole: verbs, help, exit codes, one-line errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from outrider.__main__ import main

PROJECT = Path(__file__).parents[2]
VERBS = [
    "convert",
    "inspect",
    "bench",
    "keys init",
    "keys list",
    "keys add",
    "keys rotate",
    "keys renew",
    "keys revoke",
    "keys ca",
    "keys make",
    "keys export-request",
    "keys sign-request",
    "sign",
    "hub bucket",
    "hub follow",
    "hub init",
    "hub new-ca",
    "hub new-keys",
    "hub serve",
    "publish",
    "device add",
    "device approve",
    "device pending",
    "device list",
    "device show",
    "device remove",
    "agent enroll",
    "agent run",
    "agent status",
    "rollout start",
    "rollout list",
    "rollout show",
    "rollout watch",
    "rollout why",
    "rollout pause",
    "rollout resume",
    "rollout abort",
    "rollback",
    "demo",
    "doctor",
]
NO_DATA = {"hub serve", "agent enroll", "agent run", "demo"}
"""Verbs that print no data, so that there is nothing to print as JSON."""


@pytest.fixture(autouse=True)
def no_operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An account without a configuration."""
    monkeypatch.setenv("OUTRIDER_OPERATOR_CONFIG", str(tmp_path / "none" / "operator.json"))
    monkeypatch.setenv("OUTRIDER_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*verb.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Example:" in shown
    assert f"outrider {verb}" in shown
    assert ("--json" in shown) == (verb not in NO_DATA)


def test_exactly_these_verbs_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    listed = [
        line.split()[0]
        for line in capsys.readouterr().out.partition("Commands:")[2].splitlines()
        if line.startswith("  ") and line[2] != " "
    ]
    assert sorted(listed) == sorted({verb.split()[0] for verb in VERBS})


@pytest.mark.parametrize("group", ["", "keys", "hub", "device", "agent", "rollout"])
def test_each_verbs_summary_fits_a_terminal_of_80_columns(
    group: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*group.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert "..." not in shown.partition("Commands:")[2]
    assert max(len(line) for line in shown.splitlines()) <= 80


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["no-such-verb"],
        ["rollout"],
        ["rollout", "start"],
        ["rollout", "start", "digits:1", "--to", "all", "--soak", "ten minutes"],
        ["rollout", "start", "digits:1", "--to", "all", "--metered-budget", "little"],
        ["rollout", "start", "digits:1", "--to", "all", "--metered-budget", "0"],
        ["convert", "model.onnx"],
        ["keys", "init", "dir", "--family", "x"],
        ["demo", "--agents", "0"],
        ["demo", "--port", "70000"],
        ["device", "add", "cam-1", "--label", "no-equals-sign"],
        ["device", "list", "--no-such-option"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    assert main(arguments) == 2


ABSENT = [
    ["convert", "no.onnx", "--calib", "no.npz", "--family", "f", "--version", "1", "-o", "b"],
    ["inspect", "no.bundle"],
    ["bench", "no.bundle"],
    ["keys", "init", "dir", "--family", "f", "--hub-keys", "no.json", "--passphrase-file", "no"],
    ["sign", "no.bundle", "--keys", "dir", "--passphrase-file", "no"],
    ["hub", "serve", "no-dir"],
    ["publish", "no.bundle"],
    ["agent", "enroll", "no.json"],
    ["agent", "status"],
    ["device", "list"],
    ["device", "show", "cam-1"],
    ["device", "add", "cam-1"],
    ["rollout", "list"],
    ["rollout", "watch", "r-1"],
    ["rollback", "digits"],
]


@pytest.mark.parametrize("arguments", ABSENT, ids=" ".join)
def test_what_is_absent_is_one_line_and_exit_code_1(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert len(shown.err.strip().splitlines()) == 1
    assert "Traceback" not in shown.err
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04broken", b"{}", b"[1,2]"])
@pytest.mark.parametrize("verb", ["inspect", "bench", "publish", "sign", "convert", "agent enroll"])
def test_a_file_of_the_wrong_kind_is_one_line_and_stays_as_it_is(
    verb: str, content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    (tmp_path / "p").write_text("long enough\n")
    more = {
        "sign": ["--keys", "keys", "--passphrase-file", "p"],
        "convert": ["--calib", "p", "--family", "f", "--version", "1", "-o", "out.bundle"],
    }
    assert main([*verb.split(), "file", *more.get(verb, [])]) == 1
    shown = capsys.readouterr()
    assert len(shown.err.strip().splitlines()) == 1, shown.err
    assert file.read_bytes() == content
    assert not (tmp_path / "out.bundle").exists()


def test_an_unreachable_hub_is_named_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from fleet.setup import init_hub
    from outrider.operator import OperatorConfig, write_operator

    made = init_hub(tmp_path / "hub", ["localhost"], 0, 0, bind="127.0.0.1")
    config = tmp_path / "operator.json"
    write_operator(
        config, OperatorConfig(url=made.config.api_url, token=made.token, ca_pem=made.ca_pem)
    )
    assert main(["device", "list", "--config", str(config)]) == 1
    shown = capsys.readouterr().err
    assert "outrider hub serve" in shown
    assert made.token not in shown


def test_hub_init_prints_the_token_once_and_configures_the_operator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "conf" / "operator.json"
    arguments = ["hub", "init", "hub", "--host", "localhost", "--config", str(config)]
    assert main([*arguments, "--api-port", "0", "--broker-port", "0"]) == 0
    shown = capsys.readouterr()
    token = next(line.split()[1] for line in shown.out.splitlines() if line.startswith("token"))
    assert token in config.read_text()
    assert (tmp_path / "hub" / "hub-keys.json").exists()
    assert main([*arguments[:2], "other", *arguments[3:]]) == 1
    assert "another hub" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_hub_init_refuses_a_folder_that_holds_something(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "precious").write_text("x")
    assert main(["hub", "init", "hub", "--config", str(tmp_path / "o.json")]) == 1
    assert not (tmp_path / "o.json").exists()
    assert [p.name for p in (tmp_path / "hub").iterdir()] == ["precious"]


def test_the_version_is_printed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "outrider", "--version"],
        capture_output=True,
        text=True,
        check=True,
        cwd=PROJECT,
    )
    assert done.stdout.startswith("outrider ")


def test_doctor_says_what_is_absent_and_does_not_fail_for_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "no operator configuration" in shown
    assert "no identity" in shown


def test_doctor_goes_on_without_a_state_directory_that_it_cannot_look_into(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Too long a name stands for no permission, which root always has.
    monkeypatch.setenv("OUTRIDER_STATE_DIR", "/" + "x" * 300)
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "device: " in shown
    assert "python: " in shown
