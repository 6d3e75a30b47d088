"""Asks for a passphrase: from a file, else at the terminal. Never from an argument or a variable,
which other users of the machine could read."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path

from outrider.errors import CommandFailed, PassphraseMissing

MIN_CHARS = 8
MAX_BYTES = 1_024


def read_passphrase(file: Path | None, what: str, *, confirm: bool = False) -> bytes:
    """The passphrase without its line end; `confirm` asks twice when it is a new one."""
    passphrase = _from_file(file) if file is not None else _from_terminal(what, confirm)
    if confirm and len(passphrase) < MIN_CHARS:
        raise CommandFailed(f"the passphrase is too short: at least {MIN_CHARS} characters")
    return passphrase.encode()


def _from_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise CommandFailed(f"passphrase file {path}: {error.strerror}") from error
    lines = data.decode(errors="replace").splitlines()
    if len(data) > MAX_BYTES or not lines or not lines[0]:
        raise CommandFailed(f"passphrase file {path}: its first line must hold the passphrase")
    return lines[0]


def _from_terminal(what: str, confirm: bool) -> str:
    if not sys.stdin.isatty():
        raise PassphraseMissing(
            f"{what}: no terminal to ask for the passphrase; name a file with --passphrase-file"
        )
    passphrase = getpass.getpass(f"Passphrase for {what}: ")
    if confirm and getpass.getpass("Again: ") != passphrase:
        raise CommandFailed("the two passphrases differ; nothing was written")
    return passphrase
