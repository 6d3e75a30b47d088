"""API tokens: 256 random bits, shown once; the hub keeps only their SHA-256.

A token this long needs no salt and no slow hash: it cannot be guessed or found in a table.
"""

from __future__ import annotations

import secrets

from sqlalchemy import select
from sqlalchemy.orm import Session

from contract.ids import check_id, digest_of
from fleet.errors import TokenExists, TokenRefused
from fleet.storage.schema import Token

PREFIX = "ort_"
MAX_TOKEN_CHARS = 128


def new_token(session: Session, name: str, now_ms: int) -> str:
    """Store a new token under `name` and return it; it cannot be read again."""
    check_id(name, "token name")
    if session.scalar(select(Token).where(Token.name == name)) is not None:
        raise TokenExists(f"there is a token named {name!r} already")
    token = PREFIX + secrets.token_hex(32)
    session.add(Token(digest=digest_of(token.encode()), name=name, created_at_ms=now_ms))
    return token


def check_token(session: Session, token: str) -> str:
    """The name of a good token; raises `TokenRefused`.

    Looked up by digest: how long the comparison takes says nothing about the token.
    """
    if not 0 < len(token) <= MAX_TOKEN_CHARS:
        raise TokenRefused("no API token was given: send `Authorization: Bearer TOKEN`")
    found = session.get(Token, digest_of(token.encode()))
    if found is None or found.revoked_at_ms is not None:
        raise TokenRefused("the API token is not known to this hub, or was revoked")
    return found.name


def revoke_token(session: Session, name: str, now_ms: int) -> None:
    """From the commit on, the token is refused; raises `TokenRefused` when there is none."""
    found = session.scalar(select(Token).where(Token.name == name))
    if found is None:
        raise TokenRefused(f"there is no token named {name!r}")
    found.revoked_at_ms = now_ms
