"""`python -m agent.serving`: reads the command line, starts the server, and says why it did not."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from agent.serving.dataplane import Limits
from agent.serving.server import run
from agent.serving.settings import (
    MAX_BODY_BYTES,
    BadServingSettings,
    ServingSettings,
    notify_socket,
)


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 stopped in good order, 1 could not start, 2 usage."""
    settings = _parse(argv)
    logging.basicConfig(
        level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    # uvicorn narrates its own start and stop, and logs each malformed request.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    try:
        run(settings)
    except (BadServingSettings, OSError) as error:
        sys.stderr.write(f"inference server: {error}\n")
        return 1
    return 0


def _parse(argv: list[str] | None) -> ServingSettings:
    parser = argparse.ArgumentParser(
        prog="python -m agent.serving",
        description="Serves the models of serving.json over the Open Inference Protocol.",
    )
    parser.add_argument("--state", type=Path, required=True, help="the device's state folder")
    parser.add_argument("--port", type=_port, default=8080, help="TCP port; 0: any free one")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--token-file", type=Path, help="bearer token; needed off loopback")
    parser.add_argument("--workers", type=_count, default=2, help="inferences at once")
    parser.add_argument("--waiting", type=_count, default=64, help="requests that may wait")
    parser.add_argument("--threads", type=_count, default=1, help="threads of one inference")
    parser.add_argument("--max-body", type=_count, default=MAX_BODY_BYTES, help="bytes")
    parser.add_argument(
        "--no-notify", action="store_true", help="a child of the agent does not speak to systemd"
    )
    chosen = parser.parse_args(argv)
    return ServingSettings(
        state_dir=chosen.state.absolute(),
        host=chosen.host,
        port=chosen.port,
        token_file=chosen.token_file,
        limits=Limits(chosen.workers, chosen.waiting, chosen.threads),
        max_body_bytes=chosen.max_body,
        notify_socket="" if chosen.no_notify else notify_socket(),
    )


def _port(text: str) -> int:
    return _between(text, 0, 65_535)


def _count(text: str) -> int:
    return _between(text, 1, 1 << 30)


def _between(text: str, low: int, high: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {low} to {high}")
    return number


if __name__ == "__main__":
    sys.exit(main())
