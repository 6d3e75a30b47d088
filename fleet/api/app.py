"""Builds the application: routes under `/api/v1`, errors in one form, bounds on every body."""

from __future__ import annotations

from threading import BoundedSemaphore

from fastapi import APIRouter, FastAPI

from fleet.api import (
    approvals,
    authority,
    blobs,
    devices,
    history,
    identity,
    releases,
    rollouts,
    status,
)
from fleet.api.errors import add_handlers
from fleet.api.limits import BoundedBodies, RateLimit
from fleet.api.uploads import MAX_BUNDLE_BYTES, MAX_TRUST_BYTES, clear_uploads
from fleet.ports import HubServices

PREFIX = "/api/v1"


def create_app(hub: HubServices) -> FastAPI:
    """The API of one hub. What an earlier process left half uploaded is removed."""
    clear_uploads(hub.directory)
    app = FastAPI(
        title="Outrider hub",
        version=status.program_version(),
        summary="Devices, releases and rollouts of one fleet",
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # both pages load scripts from elsewhere
        redoc_url=None,
    )
    app.state.hub = hub
    app.state.enrolments = RateLimit(*identity.REQUESTS_A_MINUTE, hub.clock)
    app.state.renewals = RateLimit(*identity.REQUESTS_A_MINUTE, hub.clock)
    app.state.strangers = RateLimit(*identity.REQUESTS_A_MINUTE, hub.clock)
    app.state.blob_requests = RateLimit(*blobs.REQUESTS_A_MINUTE, hub.clock)
    app.state.blob_streams = BoundedSemaphore(blobs.MAX_STREAMS)
    api = APIRouter(prefix=PREFIX)
    rooms = (releases, devices, rollouts, history, status, authority, approvals, identity, blobs)
    for room in rooms:
        api.include_router(room.router)
    api.add_api_route("/healthz", healthz, methods=["GET"], tags=["status"])
    app.include_router(api)
    add_handlers(app)
    limits = {f"{PREFIX}/releases": MAX_BUNDLE_BYTES, f"{PREFIX}/trust": MAX_TRUST_BYTES}
    app.add_middleware(BoundedBodies, limits=limits)
    return app


def healthz() -> dict[str, str]:
    """The process answers; `GET /status` says more."""
    return {"status": "ok"}
