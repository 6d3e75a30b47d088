"""Carrying out what the hub asks at once: each command at most once, and each answered.

The id is written down before anything is done: power lost in between leaves a command undone and
unanswered, which its expiry tells the hub, and never done twice. Verification is not here
(agent.verification).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from agent.errors import DeviceError
from agent.outbox import Outbox
from agent.uplink import Uplink
from contract.deployments import Cause
from contract.messages import Command, Verb

_LOG = logging.getLogger(__name__)


class Obeys(Protocol):
    """agent.deployment.driver.Deployer, as far as commands reach it."""

    def rollback(self, family: str, cause: Cause = ..., detail: str = "") -> None:
        """Raises a `DeviceError` that says why there is nothing to do."""

    def release_hold(self, family: str) -> None:
        """Raises a `DeviceError` when there is none."""


class Commands:
    """Owned by the main loop."""

    def __init__(
        self,
        outbox: Outbox,
        uplink: Uplink,
        deployer: Obeys,
        report_now: Callable[[], None],
        renew_now: Callable[[], None],
    ) -> None:
        self._outbox = outbox
        self._uplink = uplink
        self._deployer = deployer
        self._report_now = report_now
        self._renew_now = renew_now

    def carry_out(self, command: Command) -> bool:
        """Do it and store the answer; False for one that was taken before."""
        if not self._outbox.claim(f"command {command.id}", command.expires_at_ms):
            return False
        try:
            detail = self._do(command)
            ok = True
        except DeviceError as error:
            ok, detail = False, str(error)
        _LOG.info("command %s, %s: %s", command.id, command.verb.value, detail)
        self._uplink.reply(command.id, ok, detail)
        return True

    def _do(self, command: Command) -> str:
        if command.verb is Verb.REPORT:
            self._report_now()
            return "reported"
        if command.verb is Verb.RENEW:
            self._renew_now()
            return "asking for the next certificate"
        if command.family is None:
            raise DeviceError(f"{command.verb.value} needs a family")
        if command.verb is Verb.ROLLBACK:
            self._deployer.rollback(command.family, Cause.OPERATOR, f"command {command.id}")
            return f"going back to the previous release of {command.family}"
        self._deployer.release_hold(command.family)
        return f"the hold on {command.family} is lifted"
