"""Whatever is wrong with a file, the message names the one that the person gave."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.ca import Authority
from outrider.__main__ import main
from outrider.demo import DemoOptions, run
from outrider.errors import CommandFailed
from outrider.operator import OperatorConfig, write_operator
from tests.fleet.conftest import hub_directory, hub_template
from tests.fleet.harness import HubDirectory, over_https

__all__ = ["hub_directory", "hub_template"]


@pytest.fixture
def hub(
    hub_directory: HubDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[HubDirectory]:
    """A hub, an operator of it, and an empty folder to work in."""
    with hub_directory.at_rest() as services, over_https(services):
        ca_pem = Authority(services.directory / "ca").root_pem()
        url = services.config.api_url
        operator = tmp_path / "operator.json"
        write_operator(operator, OperatorConfig(url=url, token=hub_directory.token, ca_pem=ca_pem))
        monkeypatch.setenv("OUTRIDER_OPERATOR_CONFIG", str(operator))
        work = tmp_path / "work"
        work.mkdir()
        monkeypatch.chdir(work)
        yield hub_directory


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main([*arguments]) == 1
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1
    return said


def test_a_bundle_that_was_cut_short_is_named_once(
    hub: HubDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = hub.signed("digits", "1", b"x" * 5_000).read_bytes()
    Path("trunc.bundle").write_bytes(whole[:-40])
    (Path.cwd() / "p").write_text("long enough\n")
    for verb in (
        ["publish", "trunc.bundle"],
        ["inspect", "trunc.bundle"],
        ["bench", "trunc.bundle"],
        ["sign", "trunc.bundle", "--keys", "keys", "--passphrase-file", "p"],
    ):
        said = refused(capsys, *verb)
        assert said.startswith("error: trunc.bundle is not a bundle, or it was cut short")
        assert said.count("trunc.bundle") == 1


def test_a_bundle_that_was_damaged_is_named_once(
    hub: HubDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    data = hub.signed("digits", "1", bytes(range(256)) * 20).read_bytes()
    Path("bad.bundle").write_bytes(data.replace(bytes(range(256)), bytes(256), 1))
    said = refused(capsys, "publish", "bad.bundle")
    assert said.startswith("error: bad.bundle: ")
    assert said.count("bad.bundle") == 1


def test_a_trust_file_is_named_as_it_was_given(
    hub: HubDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("x.json").write_text('{"a": 1}')
    said = refused(capsys, "publish", "x.json")
    assert said.startswith("error: x.json: ")
    assert "trust.json" not in said


@pytest.mark.parametrize("content", ['{"a": 1}', "", "[" * 5_000])
def test_the_hubs_public_keys_are_named_as_they_were_given(
    content: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.json").write_text(content)
    Path("p").write_text("long enough\n")
    said = refused(
        capsys, "keys", "init", "k", "--hub-keys", "x.json", "--family", "f",
        "--passphrase-file", "p",
    )  # fmt: skip
    assert said.startswith("error: x.json is no hub-keys.json: ")
    assert not Path("k").exists()


def test_a_report_that_cannot_be_written_is_said_before_the_demo_begins() -> None:
    # Nobody can make a file there, root neither.
    with pytest.raises(CommandFailed, match="/proc/report"):
        run(DemoOptions(agents=3, keep=False, port=0, report=Path("/proc/report")))
