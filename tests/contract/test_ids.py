"""Names and digests."""

from __future__ import annotations

import pytest

from contract import ids
from contract.errors import DigestMismatch, InvalidId


@pytest.mark.parametrize("text", ["a", "0", "cam-1", "a" * 63])
def test_ids_may_be_letters_digits_and_dashes(text: str) -> None:
    assert ids.check_id(text) == text


@pytest.mark.parametrize("text", ["", "-a", "A", "a_b", "a.b", "a/b", "a" * 64, "a\n", "é"])
def test_other_ids_are_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(InvalidId, match="use 1 to 63"):
        ids.check_id(text)


@pytest.mark.parametrize("text", ["hub", "hub-2", "hubert"])
def test_device_names_that_begin_like_the_hubs_are_reserved(text: str) -> None:
    with pytest.raises(InvalidId, match="reserved"):
        ids.check_device_id(text)


def test_versions_may_have_dots() -> None:
    assert ids.check_version("1.2.3-rc1") == "1.2.3-rc1"
    with pytest.raises(InvalidId):
        ids.check_version("1/2")


def test_releases_are_written_with_a_colon_and_targets_with_a_slash() -> None:
    assert ids.parse_release("digits:2") == ("digits", "2")
    assert ids.target_name("digits", "2") == "digits/2"
    assert ids.split_target("digits/2") == ("digits", "2")


@pytest.mark.parametrize("text", ["digits", "digits:", ":2", "digits/2", "a:b:c"])
def test_a_release_without_a_family_or_a_version_is_refused(text: str) -> None:
    with pytest.raises(InvalidId):
        ids.parse_release(text)


def test_a_target_without_a_slash_is_refused() -> None:
    with pytest.raises(InvalidId, match="family/version"):
        ids.split_target("digits")


def test_digests_are_lower_case_sha256() -> None:
    digest = ids.digest_of(b"abc")
    assert digest == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert ids.is_digest(digest)
    assert not ids.is_digest(digest.upper())
    assert not ids.is_digest(digest[:-1])


def test_other_bytes_than_asked_for_are_a_digest_mismatch_that_names_them() -> None:
    assert ids.require_digest(b"abc", ids.digest_of(b"abc"), "chunk") == b"abc"
    with pytest.raises(DigestMismatch, match="chunk"):
        ids.require_digest(b"abd", ids.digest_of(b"abc"), "chunk")
