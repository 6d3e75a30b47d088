"""Worker effects to calls: each ends in exactly one event, whatever happens.

The boundary at which exceptions become `Failed` with their class. Runs on the worker threads
and holds no state of its own.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

import msgspec

from agent.deployment import effects as do
from agent.deployment import events as on
from agent.deployment import switching
from agent.deployment.fetching import FetchCancelled, FetchParts, Tally, fetch_release
from agent.deployment.ports import Trial
from agent.deployment.results import attempt_of
from agent.deployment.state import Deployment
from agent.deployment.switching import SwitchParts, pins
from agent.deployment.trial_process import TrialCancelled, require_memory
from agent.errors import DeviceError
from agent.store.collection import collect, drop_staging
from agent.store.install import install, read_manifest, variant_of
from contract.deployments import Cause
from contract.manifest import Variant
from contract.messages import Figures
from model.errors import ModelError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tools:
    """What the effects work with."""

    fetch: FetchParts
    switch: SwitchParts
    trial: Trial
    available_memory: Callable[[], int]


@dataclass(frozen=True)
class Job:
    """One effect for one deployment, as it stood when the effect was asked for."""

    state: Deployment
    effect: do.Effect
    cancelled: Callable[[], bool]
    progressed: Callable[[], None]
    downloads: Collection[str] = field(default=())
    """Staging that other deployments still need."""


def perform(tools: Tools, job: Job) -> on.Event | None:
    """Carry out one effect; None when it has no answer, or nobody waits for it any more."""
    fetch = replace(tools.fetch, tally=Tally())
    try:
        return _perform(replace(tools, fetch=fetch), job)
    except (FetchCancelled, TrialCancelled):
        return None
    except DeviceError as error:
        return _failed(error.cause, str(error), _cost(job, fetch.tally))
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        cause = Cause.DISK_FULL if full else Cause.INTERNAL
        return _failed(cause, f"{type(error).__name__}: {error}", _cost(job, fetch.tally))
    except Exception as error:
        log.exception("%s of %s", type(job.effect).__name__, job.state.family)
        return _failed(Cause.INTERNAL, f"{type(error).__name__}: {error}", _cost(job, fetch.tally))


def _perform(tools: Tools, job: Job) -> on.Event | None:
    effect = job.effect
    if isinstance(effect, do.Fetch):
        return _fetch(tools, job)
    if isinstance(effect, do.Verify):
        return _verify(tools, job)
    if isinstance(effect, do.Admit):
        require_memory(_variant(tools, job.state), tools.available_memory())
        return on.Admitted()
    if isinstance(effect, do.Try):
        return _try(tools, job)
    if isinstance(effect, do.LoadBeside):
        switching.load_beside(tools.switch, job.state)
        return None
    if isinstance(effect, do.Activate):
        return switching.activate(tools.switch, job.state)
    if isinstance(effect, do.Restore):
        return switching.restore(tools.switch, job.state)
    _put_in_order(tools, job)
    return None


def _put_in_order(tools: Tools, job: Job) -> None:
    """This never fails a deployment: what was left undone is done at the next boot."""
    try:
        if isinstance(job.effect, do.Settle):
            switching.settle(tools.switch, job.state)
        else:
            drop_staging(tools.fetch.layout, job.downloads)
            collect(tools.fetch.layout, job.state.family, pins(job.state))
    except (DeviceError, OSError) as error:
        log.warning("%s: %s: %s", job.state.family, type(job.effect).__name__, error)


def _fetch(tools: Tools, job: Job) -> on.Event:
    wanted = attempt_of(job.state).wanted
    name = fetch_release(tools.fetch, wanted, pins(job.state), job.cancelled, job.progressed)
    return on.Fetched(variant=name, figures=tools.fetch.tally.figures())


def _verify(tools: Tools, job: Job) -> on.Event:
    state = job.state
    layout, digest = tools.fetch.layout, attempt_of(state).wanted.digest
    install(layout, state.family, digest, state.variant, tools.fetch.checkpoint)
    return on.Verified()


def _try(tools: Tools, job: Job) -> on.Event:
    state = job.state
    digest = attempt_of(state).wanted.digest
    directory = tools.fetch.layout.installed(state.family, digest)
    result = tools.trial(directory, state.variant, digest, job.cancelled)
    figures = {f"trial_{name}": float(value) for name, value in msgspec.to_builtins(result).items()}
    return on.TrialPassed(p95_ms=result.p95_ms, figures=figures)


def _variant(tools: Tools, state: Deployment) -> Variant:
    digest = attempt_of(state).wanted.digest
    manifest = read_manifest(tools.fetch.layout.installed(state.family, digest), digest)
    if manifest is None:
        raise ModelError(f"{state.family}: the release is not in the store")
    return variant_of(manifest, state.variant)


def _cost(job: Job, tally: Tally) -> Figures:
    return tally.figures() if isinstance(job.effect, do.Fetch) else {}


def _failed(cause: Cause, detail: str, figures: Figures) -> on.Failed:
    return on.Failed(cause=cause, detail=detail, figures=figures)
