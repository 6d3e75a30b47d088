"""`hub init`: everything private, nothing half-made."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from cryptography import x509

from contract.trust import decode_hub_public_keys
from fleet import setup
from fleet.ca import DAY_MS, SERVER_DAYS, Authority
from fleet.config import CONFIG_FILE, encode_config, read_config
from fleet.errors import HubExists, HubNotFound, HubUnreadable, SetupFailed
from fleet.setup import HubInit, init_hub
from fleet.storage.database import open_storage
from fleet.tokens import check_token


@pytest.fixture
def made(tmp_path: Path) -> HubInit:
    return init_hub(tmp_path / "hub", ["hub.example", "10.0.0.7"], 0, 0)


def test_all_files_are_private(made: HubInit) -> None:
    for path in [made.directory, *made.directory.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o077 == 0, f"{path} has mode {mode:o}"


def test_the_configuration_is_what_was_asked_for(made: HubInit) -> None:
    config = read_config(made.directory)

    assert config == made.config
    assert config.hosts == ["hub.example", "10.0.0.7"]
    assert config.api_port != config.broker_port
    assert config.api_url == f"https://hub.example:{config.api_port}"


def test_the_first_token_works_and_is_nowhere_on_disk(made: HubInit) -> None:
    storage = open_storage(setup.database_url(made.directory))
    with storage.reading() as session:
        assert check_token(session, made.token) == "operator"
    storage.close()

    for path in made.directory.rglob("*"):
        assert path.is_dir() or made.token.encode() not in path.read_bytes()


def test_the_operators_configuration_says_where_who_and_whom_to_trust(made: HubInit) -> None:
    content = json.loads(made.operator_configuration())

    assert content["url"] == made.config.api_url
    assert content["token"] == made.token
    assert content["ca_pem"] == Authority(made.directory / "ca").root_pem()


def test_the_hubs_public_keys_are_written_for_the_key_ceremony(made: HubInit) -> None:
    keys = decode_hub_public_keys(made.hub_keys.read_bytes())

    assert len({keys.snapshot, keys.timestamp, keys.assignment}) == 3


@pytest.mark.parametrize("name", ["api", "broker"])
def test_servers_are_certified_for_the_given_and_the_local_names(made: HubInit, name: str) -> None:
    certificate, _ = Authority(made.directory / "ca").pair(name)
    leaf, between = x509.load_pem_x509_certificates(certificate.read_bytes())

    leaf.verify_directly_issued_by(between)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {"hub.example", "localhost"}
    addresses = {str(found) for found in names.get_values_for_type(x509.IPAddress)}
    assert addresses == {"10.0.0.7", "127.0.0.1", "::1"}


def test_own_certificates_are_due_after_two_thirds_of_their_time(made: HubInit) -> None:
    authority = Authority(made.directory / "ca")
    start = made.config.created_at_ms

    assert not authority.own_due(start + SERVER_DAYS * DAY_MS // 2)
    assert authority.own_due(start + SERVER_DAYS * DAY_MS * 3 // 4)


def test_a_directory_that_holds_something_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")

    with pytest.raises(HubExists, match="precious"):
        init_hub(tmp_path, ["localhost"], 0, 0)

    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hub").write_text("mine")

    with pytest.raises(HubExists):
        init_hub(tmp_path / "hub", ["localhost"], 0, 0)


def test_a_second_init_is_refused(made: HubInit) -> None:
    with pytest.raises(HubExists):
        init_hub(made.directory, ["localhost"], 0, 0)


def test_a_failure_in_the_middle_leaves_no_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(setup, "open_storage", full)

    with pytest.raises(SetupFailed, match="No space left"):
        init_hub(tmp_path / "hub", ["localhost"], 0, 0)

    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_a_directory_that_was_there_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(setup, "open_storage", interrupt)
    (tmp_path / "hub").mkdir()

    with pytest.raises(KeyboardInterrupt):
        init_hub(tmp_path / "hub", ["localhost"], 0, 0)

    assert list((tmp_path / "hub").iterdir()) == []


@pytest.mark.parametrize(
    ("hosts", "api_port", "broker_port", "name"),
    [
        (["not a host"], 0, 0, "hub"),
        (["localhost"], 70_000, 0, "hub"),
        (["localhost"], 9_000, 9_000, "hub"),
        (["localhost"], 0, 0, "My Hub"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(
    tmp_path: Path, hosts: list[str], api_port: int, broker_port: int, name: str
) -> None:
    with pytest.raises(SetupFailed):
        init_hub(tmp_path / "hub", hosts, api_port, broker_port, name=name)

    assert not (tmp_path / "hub").exists()


def test_without_host_names_the_local_ones_are_taken(tmp_path: Path) -> None:
    config = init_hub(tmp_path / "hub", [], 0, 0).config

    assert {"localhost", "127.0.0.1", "::1"} <= set(config.hosts)


def test_what_is_no_hub_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(HubNotFound, match="hub init"):
        read_config(tmp_path)


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"schema": 1}', b"\xff"])
def test_a_damaged_configuration_is_named(made: HubInit, content: bytes) -> None:
    (made.directory / CONFIG_FILE).write_bytes(content)

    with pytest.raises(HubUnreadable, match=r"hub\.json"):
        read_config(made.directory)


def test_a_configuration_of_another_schema_is_refused(made: HubInit) -> None:
    data = encode_config(made.config).replace(b'"schema": 1', b'"schema": 2')
    (made.directory / CONFIG_FILE).write_bytes(data)

    with pytest.raises(HubUnreadable, match="schema 2"):
        read_config(made.directory)


def test_a_hub_asks_an_operator_first_only_when_it_was_told_to(
    made: HubInit, tmp_path: Path
) -> None:
    assert not read_config(made.directory).approve
    asking = init_hub(tmp_path / "asking", ["hub.example"], 0, 0, approve=True)
    assert read_config(asking.directory).approve
