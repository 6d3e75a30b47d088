"""The control process's parts, put together; each gets only what it needs.

Nothing runs yet when `assemble` returns, but for the deployment's worker, which waits. No rules.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from agent.delivery import Delivery
from agent.deployment.driver import Deployer
from agent.hardware import read_hardware
from agent.identity import Identity
from agent.journal import Journal
from agent.link.backoff import Backoff
from agent.link.blobs import MqttBlobSource
from agent.link.collector import Collectors
from agent.link.connection import Connection, Endpoint
from agent.link.fetch_plan import Patience
from agent.link.https_blobs import HttpsBlobSource
from agent.link.inbox import Inbox
from agent.link.metadata import MqttMetadataSource
from agent.link.rate import TokenBucket
from agent.link.rejects import Rejects
from agent.link.router import Router
from agent.link.sources import SizedBlobSource
from agent.link.tls import trust_only
from agent.object_store import StoreTrust
from agent.outbox import Outbox
from agent.renewal import Asker, Renewal
from agent.resources import Resources
from agent.serving.client import ServerClient
from agent.serving.process import Launch, ServerProcess
from agent.serving.protocol import control_socket
from agent.settings import AgentSettings
from agent.stamps import Stamper, kernel_boot, wall_clock_ms
from agent.trust.guard import TrustGuard
from agent.uplink import Speaker, Uplink
from agent.verification import Learned, OneAtATime, Timing, Verifier

_WANT_S = 30.0
"""How long the hub may take to give the broker what it lacks, before it is asked over HTTPS."""
_LOOK_TIMEOUT_S = 3.0
"""A server that hangs must not hold up the main loop for a mere look."""


@dataclass(frozen=True)
class Parts:
    """Everything that the main loop owns."""

    settings: AgentSettings
    identity: Identity
    speaker: Speaker
    inbox: Inbox
    rejects: Rejects
    connection: Connection
    metadata: MqttMetadataSource
    guard: TrustGuard
    journal: Journal
    outbox: Outbox
    uplink: Uplink
    verifier: Verifier
    deployer: Deployer
    resources: Resources
    renewal: Renewal
    client: ServerClient
    server: ServerProcess | None


def agent_version() -> str:
    """Of the installed distribution; `0` in a checkout that is not installed."""
    try:
        return version("outrider")
    except PackageNotFoundError:
        return "0"


def launch_of(settings: AgentSettings) -> Launch:
    """How the inference server is started."""
    return Launch(
        state_dir=settings.state_dir,
        port=settings.http_port,
        host=settings.http_host,
        token_file=settings.http_token_file,
    )


def assemble(settings: AgentSettings, identity: Identity, journal: Journal, now_s: float) -> Parts:
    """`now_s` is monotonic seconds."""
    state = settings.state_dir
    outbox = Outbox(state / "outbox.sqlite", settings.outbox_bytes)
    floor_ms = identity.record.floor_ms
    stamper = Stamper(
        outbox.boot_of(kernel_boot()),
        wall_clock_ms,
        lambda: max(journal.trust_floor_ms(), floor_ms),
    )
    hardware = read_hardware(identity.record.device_class)
    speaker = Speaker(
        device=identity.device,
        session=uuid.uuid4().hex,
        agent=agent_version(),
        key=identity.key,
        hardware=hardware,
        stamper=stamper,
    )
    inbox, collectors, rejects = Inbox(), Collectors(), Rejects()
    router = Router(identity.device, inbox, collectors, rejects)
    connection = Connection(_endpoint(identity, speaker), router.route, inbox.wake)
    metadata = MqttMetadataSource(connection, collectors)
    guard = TrustGuard(
        state / "tuf",
        journal,
        metadata,
        wall_clock_ms,
        floor_ms,
        learned=lambda view: inbox.post(Learned(view)),
    )
    shared = OneAtATime(guard)
    delivery = Delivery(Backoff(first_s=settings.ack_seconds, most_s=60 * settings.ack_seconds))
    uplink = Uplink(speaker, connection, outbox, delivery)
    quick = ServerClient(control_socket(state), timeout_s=_LOOK_TIMEOUT_S)
    deployer = Deployer(
        state_dir=state,
        journal=journal,
        guard=shared,
        blobs=_blobs(settings, identity, speaker, guard, connection, collectors),
        fetch_budget=settings.metered_bytes_per_release,
        server=ServerClient(control_socket(state)),
        observed=quick,
        hardware=hardware,
        emit=uplink.event,
        clock=guard.now_ms,
        inbox=inbox.post,
        agent_version=speaker.agent,
    )
    timing = Timing(settings.refresh_seconds, settings.refresh_spread_seconds)
    verifier = Verifier(shared, identity.device, journal.assignment_seq, inbox.post, timing, now_s)
    return Parts(
        settings=settings,
        identity=identity,
        speaker=speaker,
        inbox=inbox,
        rejects=rejects,
        connection=connection,
        metadata=metadata,
        guard=guard,
        journal=journal,
        outbox=outbox,
        uplink=uplink,
        verifier=verifier,
        deployer=deployer,
        resources=Resources(state),
        renewal=_renewal(settings, identity, speaker, guard, inbox, now_s),
        client=quick,
        server=ServerProcess(launch_of(settings)) if settings.server else None,
    )


def _blobs(
    settings: AgentSettings,
    identity: Identity,
    speaker: Speaker,
    guard: TrustGuard,
    connection: Connection,
    collectors: Collectors,
) -> SizedBlobSource:
    """Both ways share one rate."""
    rate = TokenBucket(float(settings.max_bytes_per_second))
    patience = Patience(want_limit_s=_WANT_S)
    broker = MqttBlobSource(connection, collectors, identity.device, patience, rate=rate)
    https = HttpsBlobSource(
        identity.record.hub_url,
        identity.device,
        identity.key,
        lambda: trust_only(identity.ca_pem, not speaker.stamper.now().clock_trusted),
        guard.now_ms,
        rate,
        store=StoreTrust(settings.object_store_ca_file, settings.object_store_plain),
    )
    return SizedBlobSource(broker, https, settings.https_above_bytes)


def _renewal(
    settings: AgentSettings,
    identity: Identity,
    speaker: Speaker,
    guard: TrustGuard,
    inbox: Inbox,
    now_s: float,
) -> Renewal:
    asker = Asker(identity, guard.now_ms, lambda: not speaker.stamper.now().clock_trusted)
    return Renewal(asker, inbox.post, now_s, settings.refresh_spread_seconds)


def _endpoint(identity: Identity, speaker: Speaker) -> Endpoint:
    return Endpoint(
        host=identity.record.broker_host,
        port=identity.record.broker_port,
        device=identity.device,
        context=lambda: identity.tls_context(not speaker.stamper.now().clock_trusted),
        will=speaker.death(),
    )
