"""What may stand in `policy/ca`: whole roots, each once, and nothing beside them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from contract.authorities import ca_policy, names_root, read_ca_policy, root_names
from contract.errors import ContractError, MalformedManifest, MalformedTrust
from contract.targets import MAX_ROOTS, custom_to_dict
from tests.mosquitto import Authority


@pytest.fixture
def old(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "old", "old root")


@pytest.fixture
def new(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "new", "new root")


def test_a_policy_is_read_as_it_was_written(old: Authority, new: Authority) -> None:
    policy = ca_policy([old.pem.encode(), new.pem.encode()])

    assert read_ca_policy(custom_to_dict(policy)) == policy
    assert policy.roots == [old.pem, new.pem]


def test_equal_roots_are_equal_however_their_files_are_laid_out(old: Authority) -> None:
    with_words = b"the root of our fleet\n" + old.pem.replace("\n", "\r\n").encode() + b"\n\n"

    assert ca_policy([with_words]) == ca_policy([old.pem.encode()])


def test_a_root_is_known_again_and_named_for_people(old: Authority, new: Authority) -> None:
    policy = ca_policy([old.pem.encode()])

    assert names_root(policy, old.pem.encode())
    assert not names_root(policy, new.pem.encode())
    assert [name.startswith("CN=old root, until ") for name in root_names(policy).values()] == [
        True
    ]


@pytest.mark.parametrize("count", [0, MAX_ROOTS + 1])
def test_there_are_one_to_four_roots(tmp_path: Path, count: int) -> None:
    roots = [Authority(tmp_path / str(n), f"root {n}").pem.encode() for n in range(count)]

    with pytest.raises(MalformedTrust, match="it names 1 to 4"):
        ca_policy(roots)
    with pytest.raises(MalformedManifest):
        read_ca_policy({"schema": 1, "roots": [root.decode() for root in roots]})


def test_a_leaf_is_no_root(old: Authority) -> None:
    leaf = old.client("cam-1").certificate.read_bytes()

    with pytest.raises(MalformedTrust, match="policy/ca"):
        ca_policy([leaf])


def test_two_certificates_in_one_place_are_refused(old: Authority, new: Authority) -> None:
    with pytest.raises(MalformedTrust, match="2 certificates"):
        ca_policy([(old.pem + new.pem).encode()])


def test_the_same_root_counts_once(old: Authority) -> None:
    with pytest.raises(MalformedTrust, match="twice"):
        ca_policy([old.pem.encode()] * 2)


def test_nothing_travels_beside_a_root(old: Authority) -> None:
    """What is signed is written to the device's file as it stands."""
    for beside in ("a comment\n", old.client("cam-1").key.read_text()):
        with pytest.raises(MalformedTrust, match="beside its certificate"):
            read_ca_policy({"schema": 1, "roots": [old.pem + beside]})


@pytest.mark.parametrize(
    "garbage", ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA", "x" * 9_999]
)
def test_garbage_is_refused_by_name(garbage: str) -> None:
    with pytest.raises(ContractError, match="policy/ca"):
        read_ca_policy({"schema": 1, "roots": [garbage]})


def test_a_later_schema_is_refused(old: Authority) -> None:
    policy = msgspec.structs.replace(ca_policy([old.pem.encode()]), schema=2)

    with pytest.raises(MalformedManifest, match="schema 2"):
        read_ca_policy(custom_to_dict(policy))
