"""The operator's configuration: which hub, with which token, trusted by which CA.

Holds a secret, so the file is 0600 and is never printed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from model.whole_file import write_whole
from outrider.errors import CommandFailed, NotConfigured
from outrider.settings import read_environment

MAX_FILE_BYTES = 65_536


class OperatorConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach one hub as one operator."""

    url: Annotated[str, Meta(pattern=r"^https://[^\s]{1,250}\Z")]
    token: Annotated[str, Meta(min_length=16, max_length=256)]
    ca_pem: Annotated[str, Meta(max_length=32_768)]


def operator_path(given: Path | None) -> Path:
    """The file to use: the one given, else the account's own."""
    return given if given is not None else read_environment().operator_file


def read_operator(path: Path) -> OperatorConfig:
    """Raises `NotConfigured` with the way out."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise NotConfigured(
            f"no operator configuration at {path}: run `outrider hub init DIR` here, or copy that"
            " file from where it was run, or name one with --config"
        ) from error
    except OSError as error:
        raise NotConfigured(f"{path} cannot be read: {error.strerror}") from error
    try:
        return msgspec.json.decode(data, type=OperatorConfig)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise NotConfigured(
            f"{path} is not an operator configuration: {str(error)[:200]}"
        ) from error


def write_operator(path: Path, config: OperatorConfig) -> None:
    """Write it whole or not at all, readable for the owner alone."""
    data = msgspec.json.format(msgspec.json.encode(config), indent=1) + b"\n"
    write_private(path, data)


def write_private(path: Path, data: bytes) -> None:
    """Write a file that holds a secret: 0600 from its first byte, renamed into place when whole."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(path, data, 0o600)
    except OSError as error:
        raise CommandFailed(f"cannot write {path}: {error.strerror}") from error
