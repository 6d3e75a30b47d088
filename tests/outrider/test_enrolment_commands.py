"""`outrider device add|pending|approve` against a real hub: one file, a folder of them, a word."""

from __future__ import annotations

import io
import json
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from agent.enrol import enroll, read_file
from agent.identity import load_identity
from contract.enrolment import EnrolmentPending
from fleet.ca import Authority
from fleet.devices import find_device
from fleet.enrolment import enrol
from fleet.ports import HubServices
from outrider.__main__ import main
from outrider.operator import OperatorConfig, write_operator
from tests.fleet.conftest import hub_directory, hub_template
from tests.fleet.harness import HubDirectory, enrolment_request, over_https, until

__all__ = ["hub_directory", "hub_template"]


@pytest.fixture
def hub(
    hub_directory: HubDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[HubServices]:
    """A hub that asks first, and an operator of it in an empty folder."""
    path = hub_directory.hub / "hub.json"
    path.write_bytes(
        msgspec.json.encode(msgspec.json.decode(path.read_bytes()) | {"approve": True})
    )
    with hub_directory.at_rest() as services, over_https(services):
        ca_pem = Authority(services.directory / "ca").root_pem()
        url = services.config.api_url
        operator = tmp_path / "operator.json"
        write_operator(operator, OperatorConfig(url=url, token=hub_directory.token, ca_pem=ca_pem))
        monkeypatch.setenv("OUTRIDER_OPERATOR_CONFIG", str(operator))
        monkeypatch.setenv("COLUMNS", "250")
        work = tmp_path / "work"
        work.mkdir()
        monkeypatch.chdir(work)
        yield services


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main([*arguments, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main([*arguments]) != 0
    return capsys.readouterr().err


def names(hub: HubServices) -> list[str]:
    from fleet.devices import list_devices

    with hub.storage.reading() as session:
        return [row.name for row in list_devices(session)]


def test_a_row_of_devices_is_added_with_a_private_file_each(
    hub: HubServices, capsys: pytest.CaptureFixture[str]
) -> None:
    done = run(
        capsys, "device", "add", "--count", "11", "--prefix", "cam-", "--class", "pi-5",
        "--valid", "7d", "--label", "site=lyon",
    )  # fmt: skip
    assert names(hub) == [f"cam-{n:02d}" for n in range(1, 12)]
    assert len({each["file"] for each in done}) == 11
    assert stat.S_IMODE(Path("enrolments").stat().st_mode) == 0o700
    secrets = set()
    for each in done:
        path = Path(each["file"])
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        file = read_file(path)
        assert (file.device, file.device_class) == (each["device"], "pi-5")
        assert file.expires_at_ms - file.floor_ms == 7 * 86_400_000
        secrets.add(file.secret)
    assert len(secrets) == 11


def test_a_table_of_devices_is_added_with_its_classes_and_labels(
    hub: HubServices, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("d.csv").write_text("name,class,labels\ncam-a,pi-5,site=lyon;floor=2\ncam-b,,\n")
    run(capsys, "device", "add", "--csv", "d.csv", "--class", "pi-4", "-o", "files")
    with hub.storage.reading() as session:
        first, second = (find_device(session, name) for name in ("cam-a", "cam-b"))
        assert (first.device_class, first.labels) == ("pi-5", {"site": "lyon", "floor": "2"})
        assert (second.device_class, second.labels) == ("pi-4", {})
    assert sorted(path.name for path in Path("files").iterdir()) == [
        "cam-a.enrol.json",
        "cam-b.enrol.json",
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "first line"),
        ("host\nx\n", "first line"),
        ("name\n", "no devices"),
        ("name\ncam-1\ncam-1\n", "stands twice"),
        ("name\n,\n", "line 2"),
        ("name\n../x\n", "nothing was added"),
        ("name,class\ncam-1,pi,more\n", "line 2"),
        ("name,labels\ncam-1,a=b\ncam-2,site\n", "d.csv line 3: labels: 'site' is not KEY=VALUE"),
    ],
)
def test_a_table_that_cannot_be_meant_adds_nothing(
    hub: HubServices, capsys: pytest.CaptureFixture[str], content: str, words: str
) -> None:
    Path("d.csv").write_text(content)
    assert words in refused(capsys, "device", "add", "--csv", "d.csv")
    assert names(hub) == []


def test_files_that_are_there_are_not_overwritten_and_nothing_is_added(
    hub: HubServices, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("enrolments").mkdir()
    Path("enrolments/cam-2.enrol.json").write_text("old")
    said = refused(capsys, "device", "add", "--count", "3", "--prefix", "cam-")
    assert "exists already" in said
    assert names(hub) == []


def test_a_folder_that_cannot_be_written_to_adds_nothing(
    hub: HubServices, capsys: pytest.CaptureFixture[str]
) -> None:
    # Nobody can make a file there, root neither.
    said = refused(capsys, "device", "add", "cam-1", "-o", "/proc/cam-1.enrol.json")
    assert "cannot write to /proc" in said
    assert "nothing was added" in said
    assert names(hub) == []


def test_a_device_is_removed_only_after_a_word(
    hub: HubServices, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(capsys, "device", "add", "cam-1")
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    said = refused(capsys, "device", "remove", "cam-1")
    assert "--yes" in said
    assert len(said.splitlines()) == 1
    assert "--yes" not in refused(capsys, "device", "remove", "cam-2")
    assert names(hub) == ["cam-1"]
    assert run(capsys, "device", "remove", "cam-1", "--yes")["status"] == "revoked"


def test_what_was_added_before_a_refusal_is_said_and_kept(
    hub: HubServices, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("d.csv").write_text("name\ncam-1\nCAM\n")
    assert "1 of 2 devices added" in refused(capsys, "device", "add", "--csv", "d.csv")
    assert names(hub) == ["cam-1"]
    assert read_file(Path("enrolments/cam-1.enrol.json")).device == "cam-1"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["cam-1", "--count", "2"],
        ["--count", "2"],
        ["cam-1", "--valid", "soon"],
        ["cam-1", "--label", "site"],
    ],
)
def test_a_command_that_says_two_things_adds_nothing(
    hub: HubServices, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert refused(capsys, "device", "add", *arguments)
    assert names(hub) == []


@pytest.mark.parametrize(
    ("valid", "words"),
    [("60d", "longer than 30 days"), ("2592001s", "longer than 30 days"), ("59s", "a minute")],
)
def test_how_long_a_file_is_good_has_one_bound_and_one_message(
    hub: HubServices, capsys: pytest.CaptureFixture[str], valid: str, words: str
) -> None:
    said = refused(capsys, "device", "add", "cam-1", "--valid", valid)
    assert "--valid" in said
    assert words in said
    assert names(hub) == []


def test_the_longest_and_the_shortest_file_are_taken(
    hub: HubServices, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "device", "add", "cam-1", "--valid", "30d")
    run(capsys, "device", "add", "cam-2", "--valid", "1m")
    assert names(hub) == ["cam-1", "cam-2"]


def test_a_label_that_the_hub_refuses_is_told_with_its_file_and_line(
    hub: HubServices, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("d.csv").write_text("name,labels\ncam-1,site=lyon\ncam-2,Bad Key=x\n")
    said = refused(capsys, "device", "add", "--csv", "d.csv")
    assert "d.csv line 3: label 'Bad Key' is not valid" in said


def test_a_machine_waits_for_the_operators_word_and_comes_in(
    hub: HubServices, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path(run(capsys, "device", "add", "cam-1")["file"])
    shown: list[str] = []
    approved = threading.Event()
    device = threading.Thread(
        target=lambda: enroll(
            file,
            tmp_path / "state",
            waiting=lambda pending: shown.append(pending.key_id),
            sleep=lambda _s: (approved.wait(20), None)[1],
        )
    )
    device.start()
    until(lambda: bool(shown))
    [waiting] = run(capsys, "device", "pending")
    assert (waiting["device"], waiting["key_id"]) == ("cam-1", shown[0])
    assert waiting["claims"]["host"]
    assert main(["device", "pending"]) == 0
    assert f"{shown[0]}  cam-1" in capsys.readouterr().out.splitlines()
    [said] = run(capsys, "device", "approve", "cam-1")
    assert said["approved"] is True
    approved.set()
    device.join(20)
    assert load_identity(tmp_path / "state").device == "cam-1"
    assert run(capsys, "device", "pending") == []


@pytest.mark.parametrize("columns", ["30", "80", "250"])
def test_a_fingerprint_is_shown_whole_however_narrow_the_terminal(
    hub: HubServices,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    columns: str,
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    name = "a-camera-with-a-long-name-at-the-far-end-of-the-third-hall"
    file = read_file(Path(run(capsys, "device", "add", name)["file"]))
    request = enrolment_request(file, generate_private_key(SECP256R1()))
    authority = Authority(hub.directory / "ca")
    waiting = enrol(hub.storage, authority, request, hub.clock(), ask_first=True)
    assert isinstance(waiting, EnrolmentPending)
    assert main(["device", "pending"]) == 0
    assert f"{waiting.key_id}  {name}" in capsys.readouterr().out.splitlines()


def test_approving_nobody_says_so(hub: HubServices, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no request to enrol cam-1 waits" in refused(capsys, "device", "approve", "cam-1")
    assert refused(capsys, "device", "approve")
    assert run(capsys, "device", "approve", "--all") == []


def test_a_new_disk_comes_back_under_the_old_name(
    hub: HubServices, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = hub.directory / "hub.json"
    assert b"approve" in path.read_bytes()
    object.__setattr__(hub, "config", msgspec.structs.replace(hub.config, approve=False))
    first = Path(run(capsys, "device", "add", "cam-1", "--label", "site=lyon")["file"])
    enroll(first, tmp_path / "old")
    assert "--replace" in refused(capsys, "device", "add", "cam-1", "-o", "again.json")
    again = run(capsys, "device", "add", "cam-1", "--replace", "-o", "again.json")
    enroll(Path(again["file"]), tmp_path / "new")
    assert load_identity(tmp_path / "new").device == "cam-1"
    with hub.storage.reading() as session:
        row = find_device(session, "cam-1")
        assert (row.status, row.labels) == ("enrolled", {"site": "lyon"})
