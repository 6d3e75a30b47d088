"""The CA on disk: who is believed at each stage, what is issued by whom, and what is due."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from fleet.assembly import system_clock
from fleet.ca import DAY_MS, OWN, SERVER_DAYS, Authority
from fleet.ca_folder import INTERMEDIATE_DAYS, load_certificate
from fleet.errors import HubUnreadable
from fleet.issuing import BACKDATE_MS, fingerprint
from fleet.rotation import Rotation, Stage
from tests.fleet.authorities import believes

HOSTS = ["localhost"]
NOW = system_clock()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    (tmp_path / "ca").mkdir()
    made = Authority(tmp_path / "ca")
    made.create("hub", HOSTS, NOW)
    return made


def go(authority: Authority, stage: Stage) -> None:
    authority.record(Rotation(stage=stage, began_ms=NOW))


def root(authority: Authority, folder: str = "") -> str:
    return (authority.directory / folder / "root.crt").read_text()


def test_before_it_is_recorded_nobody_believes_the_next_ca(authority: Authority) -> None:
    authority.make_next("hub", NOW)
    assert authority.roots_pem() == authority.root_pem() == root(authority)
    assert len(authority.signers()) == 1


@pytest.mark.parametrize("stage", [Stage.MADE, Stage.SWITCHED])
def test_on_the_way_both_are_believed(authority: Authority, stage: Stage) -> None:
    authority.make_next("hub", NOW)
    go(authority, stage)
    assert authority.roots_pem() == root(authority) + root(authority, "next")
    assert authority.trusted_pem().count("BEGIN CERTIFICATE") == 4
    assert len({signer.fingerprint for signer in authority.signers()}) == 2
    issues = authority.signers()[stage is Stage.SWITCHED].fingerprint
    key = generate_private_key(SECP256R1()).public_key()
    assert authority.issue_device("cam-1", key, NOW).issuer == issues


def test_at_the_end_the_next_ca_stands_where_the_former_stood(authority: Authority) -> None:
    former = root(authority)
    authority.make_next("hub", NOW)
    following = root(authority, "next")
    go(authority, Stage.FINISHING)
    assert authority.roots_pem() == authority.root_pem() == following

    authority.adopt_next()
    authority.record(None)
    authority.clear_next()

    assert authority.root_pem() == following != former
    assert authority.signer().certificate.issuer == load_certificate(authority.root_file).subject


def test_it_ends_with_its_intermediate_and_the_next_one_s_counts_from_the_switch(
    authority: Authority,
) -> None:
    first_ms = authority.ends_ms()
    assert first_ms // DAY_MS == NOW // DAY_MS + INTERMEDIATE_DAYS - (NOW % DAY_MS < BACKDATE_MS)
    authority.make_next("hub", NOW + 100 * DAY_MS)
    go(authority, Stage.MADE)
    assert authority.ends_ms() == first_ms
    go(authority, Stage.SWITCHED)
    assert authority.ends_ms() - first_ms == 100 * DAY_MS


def test_each_root_has_a_name_of_its_own(authority: Authority) -> None:
    names = []
    for _ in range(3):
        names.append(load_certificate(authority.root_file).subject.rfc4514_string())
        authority.make_next("hub", NOW)
        authority.adopt_next()
    assert names == ["CN=hub root", "CN=hub root 2", "CN=hub root 3"]


def test_servers_on_the_way_are_believed_by_who_knows_either_root(authority: Authority) -> None:
    authority.make_next("hub", NOW)
    old, new = root(authority), root(authority, "next")
    go(authority, Stage.SWITCHED)
    authority.issue_own(HOSTS, NOW)

    for name in ("api", "broker"):
        pair = authority.pair(name)
        assert all(believes(roots, *pair) for roots in (old, new, old + new, new + old))


def test_a_stranger_s_root_of_the_same_name_is_believed_by_nobody_here(
    authority: Authority, tmp_path: Path
) -> None:
    authority.make_next("hub", NOW)
    go(authority, Stage.SWITCHED)
    authority.issue_own(HOSTS, NOW)
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other")
    stranger.create("hub", HOSTS, NOW)
    assert not believes(stranger.root_pem(), *authority.pair("api"))


@pytest.mark.parametrize("missing", ["root.key", "next/root.key"])
def test_without_a_root_s_key_there_is_no_bridge(authority: Authority, missing: str) -> None:
    if missing == "root.key":
        (authority.directory / missing).unlink()
    authority.make_next("hub", NOW)
    (authority.directory / missing).unlink(missing_ok=True)
    old, new = root(authority), root(authority, "next")
    go(authority, Stage.SWITCHED)
    assert not authority.is_bridged()

    authority.issue_own(HOSTS, NOW)

    assert believes(new, *authority.pair("api"))
    assert not believes(old, *authority.pair("api"))


def test_after_the_end_the_servers_stand_under_the_new_intermediate(authority: Authority) -> None:
    authority.make_next("hub", NOW)
    old, new = root(authority), root(authority, "next")
    go(authority, Stage.SWITCHED)
    authority.issue_own(HOSTS, NOW)
    go(authority, Stage.FINISHING)
    assert authority.own_due(NOW)

    authority.issue_own(HOSTS, NOW)

    assert not authority.own_due(NOW)
    assert believes(new, *authority.pair("api"))
    assert not believes(old, *authority.pair("api"))


def test_a_root_key_that_was_moved_away_is_not_replaced_by_the_former_one(
    authority: Authority,
) -> None:
    authority.make_next("hub", NOW)
    (authority.directory / "next" / "root.key").unlink()
    authority.adopt_next()
    assert not (authority.directory / "root.key").exists()


def test_every_stage_makes_the_hubs_own_certificates_due_once(authority: Authority) -> None:
    authority.make_next("hub", NOW)
    assert not authority.own_due(NOW)
    for stage, due in ((Stage.MADE, False), (Stage.SWITCHED, True), (Stage.MADE, True)):
        go(authority, stage)
        assert authority.own_due(NOW) is due
        authority.issue_own(HOSTS, NOW)
        assert not authority.own_due(NOW)


@pytest.mark.parametrize("name", OWN)
def test_one_that_was_cut_off_between_its_two_files_is_due(authority: Authority, name: str) -> None:
    _, key = authority.pair(name)
    before = key.read_bytes()
    authority.issue_own(HOSTS, NOW)
    key.write_bytes(before)
    assert authority.own_due(NOW)


@pytest.mark.parametrize("name", OWN)
def test_one_that_is_missing_or_torn_is_due(authority: Authority, name: str) -> None:
    certificate, _ = authority.pair(name)
    certificate.write_bytes(certificate.read_bytes()[:40])
    assert authority.own_due(NOW)
    certificate.unlink()
    assert authority.own_due(NOW)


def test_they_are_due_at_two_thirds_of_their_life(authority: Authority) -> None:
    assert not authority.own_due(NOW + int(SERVER_DAYS * DAY_MS * 0.65))
    assert authority.own_due(NOW + int(SERVER_DAYS * DAY_MS * 0.68))


def test_one_of_a_clock_that_ran_ahead_is_due(authority: Authority) -> None:
    """Nobody believes it before its time."""
    authority.issue_own(HOSTS, NOW + DAY_MS)
    assert authority.own_due(NOW)


def test_without_the_next_ca_s_files_the_present_ones_stay(authority: Authority) -> None:
    """A torn backup: better a hub that does not start than one that has removed its CA."""
    authority.make_next("hub", NOW)
    (authority.directory / "next" / "intermediate.key").unlink()
    before = {p.name: p.read_bytes() for p in authority.directory.iterdir() if p.is_file()}
    with pytest.raises(HubUnreadable, match=r"next/intermediate\.key"):
        authority.adopt_next()
    after = {p.name: p.read_bytes() for p in authority.directory.iterdir() if p.is_file()}
    assert after == before


def test_the_certificate_that_finds_out_who_still_believes_is_of_the_former_ca(
    authority: Authority,
) -> None:
    authority.make_next("hub", NOW)
    go(authority, Stage.SWITCHED)
    authority.keep_former(authority.signers()[0], NOW)
    _, above = x509.load_pem_x509_certificates(authority.pair("former")[0].read_bytes())
    assert fingerprint(above) == authority.signers()[0].fingerprint
    authority.forget_former()
    authority.forget_former()
    assert not any(path.exists() for path in authority.pair("former"))


@pytest.mark.parametrize("data", [b"", b"{", b'{"schema":2,"stage":"made","began_ms":1}'])
def test_a_record_that_cannot_be_read_is_no_guess(authority: Authority, data: bytes) -> None:
    (authority.directory / "rotation.json").write_bytes(data)
    with pytest.raises(HubUnreadable, match=r"rotation\.json"):
        authority.signer()


def test_all_of_the_next_ca_is_private(authority: Authority) -> None:
    authority.make_next("hub", NOW)
    folder = authority.directory / "next"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    names = {path.name for path in folder.iterdir()}
    assert names == {"root.key", "root.crt", "intermediate.key", "intermediate.crt", "bridge.crt"}
