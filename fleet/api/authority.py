"""`GET /authority`: the roots that this hub and its broker are to be believed by, for operators."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from fleet.api.access import Actor, Hub
from fleet.ca import Authority
from fleet.succession import Succession

router = APIRouter(tags=["status"])


@router.get("/authority")
def authority(hub: Hub, who: Actor) -> dict[str, Any]:
    """The roots as PEM, and where a rotation stands."""
    ca = Authority(hub.directory / "ca")
    standing = Succession(ca, hub.repository, hub.storage).standing()
    return {"ca_pem": ca.roots_pem(), **standing}
