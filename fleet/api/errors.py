"""Errors as answers: every refusal becomes `{"error": {"code", "message"}}`, in this one place.

No answer holds a stack trace; what nobody foresaw is logged under a reference, which it names.
"""

from __future__ import annotations

import logging
import re
import secrets
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from contract.errors import ContractError
from fleet import errors as fleet
from fleet.rollouts import errors as rollouts
from fleet.trust import errors as trust

_LOG = logging.getLogger(__name__)
MAX_MESSAGE_CHARS = 600

STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (fleet.TokenRefused, 401),
    (fleet.EnrolmentRefused, 403),
    (fleet.RenewalRefused, 403),
    (fleet.BlobsRefused, 403),
    (fleet.DeviceNotFound, 404),
    (fleet.NothingPending, 404),
    (fleet.ReleaseNotFound, 404),
    (rollouts.RolloutNotFound, 404),
    (fleet.DeviceExists, 409),
    (fleet.ReleaseConflict, 409),
    (fleet.TrustMissing, 409),
    (trust.VersionConflict, 409),
    (rollouts.RolloutOpen, 409),
    (rollouts.RolloutState, 409),
    (rollouts.NothingToRollBack, 409),
    (fleet.BundleRefused, 422),
    (fleet.InvalidDevice, 422),
    (trust.TrustRefused, 422),
    (rollouts.InvalidSelector, 422),
    (rollouts.InvalidRollout, 422),
    (rollouts.EmptyCohort, 422),
    (fleet.StorageBusy, 503),
    (ContractError, 400),
    (fleet.FleetError, 500),
)
"""The first class that fits counts."""


class Refused(Exception):
    """A request that is refused before it reaches the fleet."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        retry_after_s: int = 0,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.headers = dict(headers or {})
        if retry_after_s:
            self.headers["Retry-After"] = str(retry_after_s)


def add_handlers(app: FastAPI) -> None:
    """Every error that a request can meet."""
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(fleet.FleetError, _known)
    app.add_exception_handler(ContractError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unforeseen)


def answer(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Any:
    """The form that every error has."""
    body = {"error": {"code": code, "message": message[:MAX_MESSAGE_CHARS]}}
    return JSONResponse(body, status_code=status, headers=headers)


def code_of(error: Exception) -> str:
    """`RolloutOpen` -> `rollout-open`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", type(error).__name__).lower()


def status_of(error: Exception) -> int:
    """The HTTP status for an error of the fleet."""
    return next(status for kind, status in STATUSES if isinstance(error, kind))


async def _refused(_request: Request, error: Exception) -> Any:
    assert isinstance(error, Refused)  # noqa: S101 - narrows the type; registered for it alone
    return answer(error.status, error.code, error.message, error.headers or None)


async def _known(_request: Request, error: Exception) -> Any:
    status = status_of(error)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    if status >= 500:
        _LOG.error("%s: %s", type(error).__name__, error)
    return answer(status, code_of(error), str(error), headers)


async def _invalid(_request: Request, error: Exception) -> Any:
    """Where and what, without repeating what was sent."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - narrows; registered for it alone
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
    if first["type"] == "json_invalid":
        return answer(400, "malformed", "the body is not JSON")
    return answer(422, "invalid", f"{where or 'the body'}: {first['msg']}"[:300])


async def _http(_request: Request, error: Exception) -> Any:
    assert isinstance(error, HTTPException)  # noqa: S101 - narrows; registered for it alone
    codes = {413: "too-large", 404: "not-found", 405: "method-not-allowed", 400: "malformed"}
    code = codes.get(error.status_code, "http")
    return answer(error.status_code, code, str(error.detail), dict(error.headers or {}) or None)


async def _unforeseen(request: Request, error: Exception) -> Any:
    reference = secrets.token_hex(4)
    _LOG.error(
        "%s %s failed, reference %s", request.method, request.url.path, reference, exc_info=error
    )
    message = f"the hub failed on this request; its log says why under reference {reference}"
    return answer(500, "internal", message)
