"""The errors of the command line: each one line, what was wrong and what to do."""

from __future__ import annotations


class CommandFailed(Exception):
    """The command could not do what it was asked; exit code 1."""


class NotConfigured(CommandFailed):
    """This account has no operator configuration, or a broken one."""


class HubUnreachable(CommandFailed):
    """No hub answers where the configuration says."""


class HubRefused(CommandFailed):
    """The hub answered, and said no. `code` is its machine-readable reason."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class PassphraseMissing(CommandFailed):
    """A passphrase is needed, and there is neither a terminal nor a file to read it from."""


class PartNotInstalled(CommandFailed):
    """The command needs an extra that is not installed here."""
