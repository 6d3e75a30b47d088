"""The control process's way to the inference server: blocking calls over the control socket.

One connection a call, so a server that was restarted in between is no special case. Every failure
is a `DeviceError`: what the server refused, by its cause; a server that is not there or died under
the call, `Crashed`.
"""

from __future__ import annotations

import http.client
from pathlib import Path
from typing import TypeVar

import msgspec

from agent import errors
from agent.serving import protocol as p
from agent.serving.sockets import connect_unix
from contract.deployments import Cause

T = TypeVar("T")

_ERRORS: dict[Cause, type[errors.DeviceError]] = {
    kind.cause: kind
    for kind in (
        errors.DiskFull,
        errors.Incompatible,
        errors.Malformed,
        errors.OutOfMemory,
        errors.PolicyRefused,
        errors.Tampered,
        errors.TrialFailed,
    )
}


class ServerAbsent(errors.Crashed):
    """Nothing listens on the control socket: the server is not up, or no longer."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path
        self._timeout_s = timeout_s

    def connect(self) -> None:
        self.sock = connect_unix(self._path, self._timeout_s)


class ServerClient:
    """Steers one inference server. Safe to share between threads: it holds no connection."""

    def __init__(
        self, socket_path: Path, timeout_s: float = 10.0, load_timeout_s: float = 120.0
    ) -> None:
        self._path = socket_path
        self._timeout_s = timeout_s
        self._load_timeout_s = load_timeout_s

    def status(self, timeout_s: float | None = None) -> p.ServerStatus:
        """What is served, by which process."""
        return self._call("GET", "/status", None, p.ServerStatus, timeout_s)

    def counters(self) -> p.ServerCounters:
        """Cumulative counts of each served model."""
        return self._call("GET", "/counters", None, p.ServerCounters)

    def load(self, family: str, digest: str, directory: Path, variant: str) -> p.Candidate:
        """Load a model beside the serving one; every digest is checked again.

        Raises `Tampered`, `Malformed`, `Incompatible`, `TrialFailed`, `OutOfMemory` or `Crashed`.
        """
        request = p.LoadRequest(
            family=family, digest=digest, directory=str(directory), variant=variant
        )
        return self._call("POST", "/load", request, p.Candidate, self._load_timeout_s)

    def activate(self, family: str, digest: str) -> p.Activated:
        """Let a loaded candidate serve. No request fails; activating what serves is no change."""
        request = p.ModelRequest(family=family, digest=digest)
        return self._call("POST", "/activate", request, p.Activated)

    def unload(self, family: str, digest: str) -> None:
        """Forget a candidate (no error when there is none), or stop serving this digest."""
        request = p.ModelRequest(family=family, digest=digest)
        self._call("POST", "/unload", request, dict[str, str])

    def probe(self, family: str, samples: int = 16) -> p.Probed:
        """Run golden samples through the serving model; counted apart from inferences."""
        request = p.ProbeRequest(family=family, samples=samples)
        return self._call("POST", "/probe", request, p.Probed, self._load_timeout_s)

    def _call(
        self,
        method: str,
        path: str,
        request: msgspec.Struct | None,
        answer: type[T],
        timeout_s: float | None = None,
    ) -> T:
        body = b"" if request is None else msgspec.json.encode(request)
        status, data = self._exchange(method, path, body, timeout_s or self._timeout_s)
        try:
            if status != 200:
                raise _refusal(msgspec.json.decode(data, type=p.ControlError))
            return msgspec.json.decode(data, type=answer)
        except (msgspec.MsgspecError, ValueError) as error:
            raise errors.DeviceError(f"inference server answered {status}: {error}") from error

    def _exchange(self, method: str, path: str, body: bytes, timeout_s: float) -> tuple[int, bytes]:
        connection = _UnixConnection(self._path, timeout_s)
        try:
            try:
                connection.connect()
            except OSError as error:
                raise ServerAbsent(f"no inference server at {self._path}: {error}") from error
            connection.request(method, path, body, {"Connection": "close"})
            response = connection.getresponse()
            return response.status, response.read(p.MAX_ANSWER_BYTES)
        except TimeoutError as error:
            raise errors.Crashed(f"no answer to {path} within {timeout_s:.0f} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise errors.Crashed(f"inference server died during {path}: {error!r}") from error
        finally:
            connection.close()


def _refusal(error: p.ControlError) -> errors.DeviceError:
    return _ERRORS.get(error.cause, errors.DeviceError)(error.detail)
