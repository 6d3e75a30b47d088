"""Why a request to the inference server was not answered, with the HTTP status that says so.

The adapters turn these into `{"error": message}`; nothing else reaches a client.
"""

from __future__ import annotations

from typing import ClassVar


class RequestRefused(Exception):
    """A request was not answered; the message is for the client."""

    status: ClassVar[int] = 500


class MalformedRequest(RequestRefused):
    """The request is not what the protocol or the model's inputs prescribe."""

    status = 400


class Unauthorised(RequestRefused):
    """The bearer token is missing or wrong."""

    status = 401


class ForeignOrigin(RequestRefused):
    """A page or a host name from elsewhere reached the loopback port (DNS rebinding)."""

    status = 403


class UnknownModel(RequestRefused):
    """No such path, model or version is served here."""

    status = 404


class WrongMethod(RequestRefused):
    """The path exists, and is not asked for this way."""

    status = 405


class TooSlow(RequestRefused):
    """The body did not come in time."""

    status = 408


class BodyTooLong(RequestRefused):
    """The body is longer than this server takes."""

    status = 413


class UnknownEncoding(RequestRefused):
    """The body is compressed in a way that this server does not read."""

    status = 415


class InferenceBroke(RequestRefused):
    """The runtime failed on a request that was well formed."""

    status = 500


class Busy(RequestRefused):
    """Too much waits already; the client should come again in a moment."""

    status = 503
