"""Tokens: shown once, kept as a digest, refused once revoked."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from contract.errors import InvalidId
from fleet.errors import TokenExists, TokenRefused
from fleet.ports import HubServices
from fleet.storage.schema import Token
from fleet.tokens import MAX_TOKEN_CHARS, check_token, new_token, revoke_token


def test_a_new_token_names_its_owner(hub: HubServices) -> None:
    with hub.storage.session() as session:
        token = new_token(session, "ci", 1)

    with hub.storage.reading() as session:
        assert check_token(session, token) == "ci"


def test_the_database_does_not_hold_the_token(hub: HubServices) -> None:
    with hub.storage.session() as session:
        token = new_token(session, "ci", 1)

    with hub.storage.reading() as session:
        rows = session.scalars(select(Token)).all()
    assert all(token not in (row.digest, row.name) and token[4:] != row.digest for row in rows)


def test_two_tokens_differ(hub: HubServices) -> None:
    with hub.storage.session() as session:
        assert new_token(session, "a", 1) != new_token(session, "b", 1)


def test_a_revoked_token_is_refused(hub: HubServices) -> None:
    with hub.storage.session() as session:
        token = new_token(session, "ci", 1)
        revoke_token(session, "ci", 2)

    with hub.storage.reading() as session, pytest.raises(TokenRefused, match="revoked"):
        check_token(session, token)


@pytest.mark.parametrize("token", ["", "x", "ort_" + "0" * 64, "a" * (MAX_TOKEN_CHARS + 1), "é"])
def test_an_unknown_token_is_refused(hub: HubServices, token: str) -> None:
    with hub.storage.reading() as session, pytest.raises(TokenRefused):
        check_token(session, token)


def test_a_name_is_taken_once(hub: HubServices) -> None:
    with hub.storage.session() as session:
        new_token(session, "ci", 1)
        with pytest.raises(TokenExists, match="'ci'"):
            new_token(session, "ci", 1)


def test_a_name_must_be_an_id(hub: HubServices) -> None:
    with hub.storage.session() as session, pytest.raises(InvalidId):
        new_token(session, "my token", 1)


def test_revoking_what_is_not_there_names_it(hub: HubServices) -> None:
    with hub.storage.session() as session, pytest.raises(TokenRefused, match="'nobody'"):
        revoke_token(session, "nobody", 1)
