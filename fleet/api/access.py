"""Who asks: the services that every route uses, the bearer of a token, and the audit.

Tokens are looked up by SHA-256 (fleet.tokens). Every change, and every attempt at one, is audited
with its actor; requests that only read are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import Depends, Request

from contract.errors import ContractError
from fleet.api.errors import code_of
from fleet.errors import FleetError, TokenRefused
from fleet.ports import HubServices
from fleet.storage.schema import AuditEntry
from fleet.tokens import check_token

_SCHEME = "bearer "


def services(request: Request) -> HubServices:
    """The hub behind this application."""
    hub = request.app.state.hub
    assert isinstance(hub, HubServices)  # noqa: S101 - narrows the type; create_app put it there
    return hub


Hub = Annotated[HubServices, Depends(services)]


def actor(request: Request, hub: Hub) -> str:
    """The name of the token; raises `TokenRefused`."""
    header = request.headers.get("authorization", "")
    if not header.lower().startswith(_SCHEME):
        raise TokenRefused("no API token was given: send `Authorization: Bearer TOKEN`")
    with hub.storage.reading() as session:
        return check_token(session, header[len(_SCHEME) :].strip())


Actor = Annotated[str, Depends(actor)]


@contextmanager
def audited(hub: HubServices, who: str, action: str, subject: str) -> Iterator[dict[str, Any]]:
    """Write down who did what to whom; the block may add to the detail that it is given."""
    detail: dict[str, Any] = {}
    try:
        yield detail
    except (FleetError, ContractError) as error:
        detail["refused"] = code_of(error)
        _write(hub, who, action, subject, detail)
        raise
    _write(hub, who, action, subject, detail)


def _write(hub: HubServices, who: str, action: str, subject: str, detail: dict[str, Any]) -> None:
    with hub.storage.session() as session:
        session.add(
            AuditEntry(
                at_ms=hub.clock(),
                actor=who[:63],
                action=action,
                subject=subject[:200],
                detail=detail,
            )
        )
