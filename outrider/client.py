"""The hub's REST API as the command line sees it: one method, bounded answers, plain errors.

Knows HTTP and the hub's error form; what the answers mean is the commands' business.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from outrider.errors import CommandFailed, HubRefused, HubUnreachable, NotConfigured
from outrider.operator import OperatorConfig
from outrider.tls_failures import explain

TIMEOUT_S = 30.0
UPLOAD_CHUNK = 1 << 20


class HubClient:
    """One operator's connection to one hub; use it as a context manager."""

    def __init__(self, config: OperatorConfig, timeout_s: float = TIMEOUT_S) -> None:
        self._http = httpx.Client(
            base_url=f"{config.url.rstrip('/')}/api/v1/",
            headers={"Authorization": f"Bearer {config.token}"},
            verify=_trust_only(config.ca_pem),
            timeout=timeout_s,
            trust_env=False,
        )
        parts = urlsplit(config.url)
        self._where = parts.netloc

    def __enter__(self) -> HubClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, **query: str | int | None) -> Any:
        """GET; the decoded answer."""
        return self._call("GET", path, params={k: v for k, v in query.items() if v is not None})

    def post(self, path: str, body: object = None) -> Any:
        """POST a JSON document."""
        return self._call("POST", path, json=body if body is not None else {})

    def delete(self, path: str) -> Any:
        """DELETE."""
        return self._call("DELETE", path)

    def upload(self, path: str, file: Path, media_type: str) -> Any:
        """POST a file as it is, streamed."""
        try:
            length = file.stat().st_size
            headers = {"Content-Type": media_type, "Content-Length": str(length)}
            return self._call("POST", path, content=_pieces(file), headers=headers, timeout=300.0)
        except OSError as error:
            raise CommandFailed(f"{file}: {error.strerror}") from error

    def _call(self, method: str, path: str, **options: Any) -> Any:
        try:
            answer = self._http.request(method, path.lstrip("/"), **options)
        except (httpx.ConnectError, httpx.TimeoutException) as error:
            raise HubUnreachable(_unreachable(error, self._where)) from error
        except httpx.HTTPError as error:
            raise HubUnreachable(f"the hub at {self._where}: {_reason(error)}") from error
        if answer.is_success:
            return _decoded(answer)
        raise _refusal(answer)


def _trust_only(ca_pem: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cadata=ca_pem)
    except ssl.SSLError as error:
        raise NotConfigured("the operator configuration holds no usable CA certificate") from error


def _pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while piece := opened.read(UPLOAD_CHUNK):
            yield piece


def _unreachable(error: httpx.HTTPError, where: str) -> str:
    return explain(error, where) or (
        f"no hub answers at {where} ({_reason(error)}): is `outrider hub serve` running there?"
    )


def _reason(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "timed out"
    return str(error)[:200] or type(error).__name__


def _decoded(answer: httpx.Response) -> Any:
    try:
        return answer.json() if answer.content else None
    except json.JSONDecodeError as error:
        raise HubUnreachable("what answers there is not an Outrider hub") from error


def _refusal(answer: httpx.Response) -> HubRefused:
    try:
        error = answer.json()["error"]
        return HubRefused(answer.status_code, str(error["code"]), str(error["message"]))
    except (json.JSONDecodeError, KeyError, TypeError):
        return HubRefused(answer.status_code, "http", f"the hub answered {answer.status_code}")
