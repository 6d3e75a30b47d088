"""The verbs over the offline keys, as typed: two holders, a hub that was broken into, a listing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fleet.setup import HUB_KEYS_FILE
from outrider.__main__ import main
from tests.mosquitto import Authority
from tests.trust.ceremony import PASSPHRASE, World, new_world


@pytest.fixture
def world(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> World:
    """A keys folder `keys`, one passphrase file a person, and no operator's configuration."""
    found = new_world(tmp_path, lambda: tmp_path_factory.mktemp("template"))
    (tmp_path / "ours").write_bytes(PASSPHRASE + b"\n")
    (tmp_path / "bens").write_text("ben's own horse\n")
    monkeypatch.setenv("OUTRIDER_OPERATOR_CONFIG", str(tmp_path / "none.json"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return found


def run(*arguments: str, who: str = "ours") -> None:
    assert main(["keys", *arguments, "--passphrase-file", who]) == 0


def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_two_holders_sign_one_after_the_other(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    run("make", "bens-keys", "root-ben", "--holder", "Ben", who="bens")
    run("rotate", "keys", "root", "--old", "root-2", "--public", "bens-keys/public/root-ben.json")
    for name in ("root-2", "root-3"):
        (world.keys / "private" / f"{name}.pem").unlink()
    capsys.readouterr()

    run("renew", "keys", "root")
    said = capsys.readouterr()
    assert re.search(r"missing +1 of root-3 \(\w{12}\), root-ben \(\w{12}\) on root", said.out)
    assert re.search(r"signed +root-1 \(\w{12}\)", said.out)
    assert "outrider keys export-request keys" in said.err

    assert main(["keys", "export-request", "keys", "request.json"]) == 0
    capsys.readouterr()
    assert main(["keys", "sign-request", "request.json", "--keys", "bens-keys", "--show"]) == 0
    assert "root 3, good until" in capsys.readouterr().out
    run("sign-request", "request.json", "--keys", "bens-keys", who="bens")
    assert main(["keys", "sign-request", "request.json", "--keys", "keys"]) == 0
    assert "outrider publish keys/trust.json" in capsys.readouterr().err
    world.import_trust()
    assert world.repository.versions()["root"] == 3


def test_a_dropped_change_locks_no_holder_out(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    sign = ["sign-request", "request.json", "--keys", "bens-keys"]
    run("make", "bens-keys", "root-ben", who="bens")
    run("rotate", "keys", "root", "--old", "root-2", "--public", "bens-keys/public/root-ben.json")
    for name in ("root-2", "root-3"):
        (world.keys / "private" / f"{name}.pem").unlink()
    run("renew", "keys", "root")
    assert main(["keys", "export-request", "keys", "request.json"]) == 0
    run(*sign, who="bens")
    capsys.readouterr()
    run(*sign, who="bens")
    assert "has signed this already; it is complete" in capsys.readouterr().err
    assert main(["keys", *sign, "--show"]) == 0
    assert "has signed this already; it is complete" in capsys.readouterr().err
    assert main(["keys", "export-request", "keys", "--discard"]) == 0
    run("add", "keys", "targets")
    assert main(["keys", "export-request", "keys", "request.json"]) == 0
    capsys.readouterr()

    assert main(["keys", *sign, "--passphrase-file", "bens"]) == 1
    assert "--replace-unpublished" in capsys.readouterr().err
    assert main(["keys", *sign, "--show"]) == 0
    said = capsys.readouterr()
    assert "gives way" in said.out
    assert "sign-request request.json --keys bens-keys --replace-unpublished" in said.err
    run(*sign, "--replace-unpublished", who="bens")
    said = capsys.readouterr()
    assert "gives way: this folder signed and holds root 3" in said.err
    assert main(["keys", "sign-request", "request.json", "--keys", "keys"]) == 0
    world.import_trust()
    assert world.repository.versions()["root"] == 3


def test_who_looks_is_told_to_sign_and_not_to_export(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    run("make", "bens-keys", "root-ben", who="bens")
    run("make", "dans-keys", "root-dan", who="bens")
    run("rotate", "keys", "root", "--old", "root-2", "--public", "bens-keys/public/root-ben.json")
    for name in ("root-2", "root-3"):
        (world.keys / "private" / f"{name}.pem").unlink()
    run("renew", "keys", "root")
    assert main(["keys", "export-request", "keys", "request.json"]) == 0
    request = ["keys", "sign-request", "request.json", "--keys"]
    capsys.readouterr()

    assert main([*request, "bens-keys", "--show"]) == 0
    said = capsys.readouterr().err
    assert "Next: outrider keys sign-request request.json --keys bens-keys" in said
    assert "export-request" not in said
    assert main([*request, "nowhere", "--show"]) == 1
    assert "nowhere is not there" in capsys.readouterr().err
    assert main([*request, "dans-keys", "--passphrase-file", "bens"]) == 1
    assert "nobody asked for a key of dans-keys" in capsys.readouterr().err


def test_the_listing_is_a_table_and_json(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "list", "keys"]) == 0
    said = capsys.readouterr().out
    assert "2 of 3" in said
    assert "root-1" in said
    assert "the hub" in said

    assert main(["keys", "list", "keys", "--json"]) == 0
    found = printed(capsys)
    assert [row["role"] for row in found["roles"]][:3] == ["root", "targets", "digits"]


def test_the_listing_warns_of_what_expires(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    later = world.now_ms + 80 * 86_400_000
    monkeypatch.setattr("outrider.commands.key_requests.now_ms", lambda: later)

    assert main(["keys", "list", "keys"]) == 0

    assert "warning: targets expires in 10 days: outrider keys renew" in capsys.readouterr().out


def test_a_family_and_a_targets_key_are_added(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    run("add", "keys", "plants", "--json")
    assert printed(capsys)["created"] == ["key-plants-1"]
    run("add", "keys", "targets", "--json")
    assert printed(capsys)["created"] == ["targets-3"]
    run("rotate", "keys", "targets", "--old", "targets-3", "--json")
    assert printed(capsys)["done"] is True
    run("revoke", "keys", "plants", "--json")
    assert printed(capsys)["created"] == ["key-plants-2"]


def test_a_floor_is_raised(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.publish("digits", "1")
    run("renew", "keys", "--min-counter", "digits=1")
    assert "below counter 1" in capsys.readouterr().out


def test_a_daily_renewal_ends_well_when_nothing_is_due(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outrider.commands.key_changes.now_ms", lambda: world.now_ms)
    before = (world.keys / "trust.json").read_bytes()

    assert main(["keys", "renew", "keys"]) == 0
    assert "nothing is due before 2" in capsys.readouterr().out
    assert main(["keys", "renew", "keys", "--json"]) == 0
    assert printed(capsys)["nothing_due_before_ms"] == world.now_ms + 69 * 86_400_000
    assert (world.keys / "trust.json").read_bytes() == before


def test_a_hub_gets_new_keys_by_three_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`publish` is the API's own way in; here the file is handed over without a server."""
    from fleet.setup import init_hub
    from fleet.trust.repository import Repository

    monkeypatch.setenv("OUTRIDER_OPERATOR_CONFIG", str(tmp_path / "none.json"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ours").write_bytes(PASSPHRASE + b"\n")
    init_hub(tmp_path / "hub", ["localhost"], 0, 0, bind="127.0.0.1")
    repository = Repository(tmp_path / "hub" / "tuf")
    public = f"hub/{HUB_KEYS_FILE}"
    run("init", "keys", "--hub-keys", public, "--family", "digits")
    repository.import_trust((tmp_path / "keys" / "trust.json").read_bytes())
    before = repository.hub_public_keys()

    assert main(["hub", "new-keys", "hub"]) == 0
    assert "outrider keys rotate" in capsys.readouterr().err
    run("rotate", "keys", "online", "--hub-keys", public)
    repository.import_trust((tmp_path / "keys" / "trust.json").read_bytes())

    assert repository.hub_public_keys().assignment != before.assignment
    assert repository.sign_online(1_900_000_000_000)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rotate", "keys", "online"], "--hub-keys"),
        (["rotate", "keys", "root"], "--old"),
        (["rotate", "keys", "digits", "--old", "root-1"], "--old"),
        (["rotate", "keys", "root", "--old", "root-1", "--withdraw", "1"], "--withdraw"),
        (["rotate", "keys", "targets", "--old", "a", "--old", "b"], "one key at a time"),
        (["rotate", "keys", "plants"], "outrider keys add"),
        (["add", "keys", "plants", "--public", "a", "--public", "b"], "one key at a time"),
        (["add", "keys", "root"], "a name that TUF"),
        (["add", "nowhere", "plants"], "outrider keys init"),
        (["renew", "keys", "--min-counter", "digits=9"], "counter 9"),
        (["revoke", "keys", "root-1"], "outrider keys rotate"),
        (["sign-request", "ours", "--keys", "keys"], "not a signing request"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_changes_nothing(
    world: World,
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("outrider.commands.key_changes.now_ms", lambda: world.now_ms)
    before = (world.keys / "trust.json").read_bytes()

    assert main(["keys", *arguments, "--passphrase-file", "ours"]) == 1

    said = capsys.readouterr()
    assert words in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert (world.keys / "trust.json").read_bytes() == before


def test_a_floor_of_the_wrong_form_is_wrong_usage(world: World) -> None:
    for text in ("digits", "digits=", "=3", "digits=-1", "digits=x", "digits=99999999999"):
        assert main(["keys", "renew", "keys", "--min-counter", text]) == 2


@pytest.mark.parametrize("arguments", [["keys"], ["keys", "request.json", "--discard"]])
def test_export_wants_a_file_or_to_drop(
    world: World, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", "export-request", *arguments]) == 1
    assert "--discard" in capsys.readouterr().err


def test_a_change_that_waits_can_be_dropped(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("root-2", "root-3"):
        (world.keys / "private" / f"{name}.pem").unlink()
    run("renew", "keys", "root")
    assert main(["keys", "export-request", "keys", "--discard"]) == 0
    assert "dropped: renew root" in capsys.readouterr().out


def test_roots_are_named_together_and_then_the_new_one_alone(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("old", "new"):
        Authority(tmp_path / name, f"{name} root")

    run("ca", "keys", "--root", "old/ca.pem", "--root", "new/ca.pem")
    said = capsys.readouterr()
    assert said.out.count("devices trust the root CN=") == 2
    assert "outrider publish" in said.err

    run("ca", "keys", "--root", "new/ca.pem")
    assert "no longer trust the root CN=old root" in capsys.readouterr().out
    assert main(["keys", "list", "keys"]) == 0
    listed = capsys.readouterr().out
    assert "devices trust the TLS root CN=new root" in listed
    assert "old root" not in listed
    world.import_trust()
    assert world.repository.versions()["targets"] == 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"-----BEGIN PRIVATE KEY-----\n", "holds a private key"),
        (b"x" * 20_000, "too long"),
        (b"no PEM", "not a PEM certificate"),
    ],
)
def test_a_file_that_is_no_root_is_refused_in_one_line(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, words: str
) -> None:
    (tmp_path / "root.crt").write_bytes(content)

    code = main(["keys", "ca", "keys", "--root", "root.crt", "--passphrase-file", "ours"])

    assert code == 1
    assert words in capsys.readouterr().err
    assert world.repository.versions()["targets"] == 1
