"""The Open Inference Protocol's paths over HTTP: which path asks what of the data plane.

An ASGI app. `access` is None on the unix socket, whose file mode guards it.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

from agent.serving import oip
from agent.serving.access import Access
from agent.serving.dataplane import DataPlane
from agent.serving.errors import MalformedRequest, UnknownModel, WrongMethod
from agent.serving.http import (
    App,
    BodyReader,
    Receive,
    Reply,
    Scope,
    Send,
    answer_with,
    header,
    json_reply,
)
from agent.serving.served import Served

_HEADER_LENGTH = b"inference-header-content-length"


def inference_app(
    plane: DataPlane, bodies: BodyReader, access: Access | None, ready: Callable[[], bool]
) -> App:
    """The app for one listener."""

    async def reply_to(scope: Scope, receive: Receive) -> Reply:
        if access is not None:
            access.check(scope["headers"])
        parts = scope["path"].strip("/").split("/")
        if parts[0] != "v2":
            raise UnknownModel("the inference protocol is found under /v2")
        if parts[1:2] == ["models"]:
            return await _model(plane, bodies, scope, receive, parts[2:])
        _only("GET", scope)
        return _server(parts[1:], ready)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await answer_with(reply_to(scope, receive), send)

    return app


def _server(parts: list[str], ready: Callable[[], bool]) -> Reply:
    if not parts:
        about = {"name": "outrider", "version": _version(), "extensions": oip.EXTENSIONS}
        return json_reply(about)
    if parts == ["health", "live"]:
        return json_reply({"live": True})
    if parts == ["health", "ready"]:
        return json_reply({"ready": ready()}, 200 if ready() else 503)
    raise UnknownModel("no such path; see the Open Inference Protocol v2")


async def _model(
    plane: DataPlane, bodies: BodyReader, scope: Scope, receive: Receive, parts: list[str]
) -> Reply:
    family, release, verb = _model_path(parts)
    if verb == "infer":
        _only("POST", scope)
        return await _infer(plane, bodies, scope, receive, family, release)
    _only("GET", scope)
    served = plane.model(family, release)
    if verb == "ready":
        return json_reply({"name": family, "ready": True})
    return json_reply(oip.describe_model(served.installed.manifest, served.installed.variant))


def _model_path(parts: list[str]) -> tuple[str, str | None, str]:
    """`{m}[/versions/{v}][/ready|/infer]` -> model, version, verb (`` for metadata)."""
    family, rest = (parts[0] if parts else ""), parts[1:]
    release = None
    if rest[:1] == ["versions"] and len(rest) >= 2:
        release, rest = rest[1], rest[2:]
    if not family or len(rest) > 1 or (rest and rest[0] not in ("ready", "infer")):
        raise UnknownModel("no such path; see the Open Inference Protocol v2")
    return family, release, rest[0] if rest else ""


async def _infer(
    plane: DataPlane,
    bodies: BodyReader,
    scope: Scope,
    receive: Receive,
    family: str,
    release: str | None,
) -> Reply:
    plane.model(family, release)  # refused before its body is read
    length = header(scope["headers"], _HEADER_LENGTH)
    async with bodies.body(scope, receive) as body:
        # Decoding and encoding run beside the inference: long bodies must not hold up the loop.
        return await plane.run(family, release, lambda served: _answer(served, body, length))


def _answer(served: Served, body: bytes, header_length: bytes | None) -> Reply:
    manifest, variant = served.installed.manifest, served.installed.variant
    try:
        request = oip.decode_request(variant, body, header_length)
    except MalformedRequest as error:
        served.counters.refused(str(error))
        raise
    data, json_length = oip.encode_answer(manifest, request, served.infer(request.inputs))
    if json_length is None:
        return Reply(200, data)
    return Reply(
        200,
        data,
        [
            (b"content-type", b"application/octet-stream"),
            (_HEADER_LENGTH, b"%d" % json_length),
        ],
    )


def _only(method: str, scope: Scope) -> None:
    if scope["method"] != method:
        raise WrongMethod(f"{scope['path'][:80]} is asked for with {method}")


def _version() -> str:
    try:
        return version("outrider")
    except PackageNotFoundError:
        return "0"
