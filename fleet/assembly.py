"""Puts the hub's parts together: storage, broker, link, ingest and publisher, each with its owner.

The API and the rollout engine stand on top (fleet.service). Everything that is started here is
stopped here, last started first.
"""

from __future__ import annotations

import fcntl
import os
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleet.blobs import BlobStore
from fleet.broker import BrokerChild, local_address, write_broker_files
from fleet.bucket import Bucket, find_keys
from fleet.bucket_upkeep import BucketUpkeep
from fleet.ca import Authority
from fleet.config import HubConfig, read_config
from fleet.errors import HubRunning
from fleet.ingest import Ingest
from fleet.intake import Intake
from fleet.link import Link, LinkSettings
from fleet.own_certificates import OwnCertificates
from fleet.packs import Shelf
from fleet.ports import Clock, HubServices
from fleet.publisher import Publisher
from fleet.retention import Retention
from fleet.revocation import Revocation, refresh_list
from fleet.settings import read_bucket_keys
from fleet.setup import certificate_hosts, database_url
from fleet.storage.database import open_storage
from fleet.succession import Succession
from fleet.takeover import Broker
from fleet.trust.repository import Repository
from fleet.workers import Worker


@dataclass(frozen=True)
class RunningHub:
    """The parts that run."""

    services: HubServices
    workers: tuple[Worker, ...]
    broker: BrokerChild | None
    """None when the broker is a unit of its own."""


def system_clock() -> int:
    """UTC milliseconds now."""
    return time.time_ns() // 1_000_000


@contextmanager
def run_hub(
    directory: Path, *, external_broker: bool = False, clock: Clock = system_clock
) -> Iterator[RunningHub]:
    """The hub at `directory`, running, without API and engine; everything is stopped at the end.

    Raises `HubNotFound`, `HubRunning`, `BrokerMissing`, `PortInUse`, `BrokerFailed`, or a storage
    error; then nothing keeps running.
    """
    config = read_config(directory)
    with ExitStack() as stack:
        stack.enter_context(_only_one(directory))
        authority = Authority(directory / "ca")
        storage = open_storage(database_url(directory))
        stack.callback(storage.close)
        repository = Repository(directory / "tuf", own_root=authority.root_pem)
        Succession(authority, repository, storage).settle()
        if authority.own_due(clock()):
            authority.issue_own(certificate_hosts(config), clock())
        files = write_broker_files(directory, config)
        woken = threading.Event()
        link = Link(_link_settings(config, authority), woken, clock)
        bucket = _bucket(config)
        services = HubServices(
            directory=directory,
            config=config,
            storage=storage,
            repository=repository,
            blobs=BlobStore(directory / "blobs"),
            link=link,
            clock=clock,
            shelf=Shelf(bucket) if bucket is not None else None,
        )
        refresh_list(services, clock())
        broker = None if external_broker else BrokerChild(files)
        if broker is not None:
            stack.callback(broker.stop)
            broker.start()
        publisher = Publisher(services, link, woken)
        intake = Intake(link, Ingest(storage), publisher.want, clock)
        stopping = threading.Event()
        retention = Retention(storage, clock, stopping.wait)
        address = Broker(_broker_address(config), config.broker_port)
        revocation = Revocation(
            services,
            address,
            broker.reload if broker is not None else lambda: None,
            stopping.wait,
        )
        own = OwnCertificates(services, address, broker, link, revocation, stopping.wait)
        workers = (
            Worker("ingest", intake.step),
            Worker("publisher", publisher.step, woken.set),
            Worker("retention", retention.step, stopping.set),
            Worker("revocation", revocation.step, stopping.set),
            Worker("certificates", own.step, stopping.set),
        )
        stack.callback(link.stop)
        for worker in workers:
            stack.callback(worker.stop)
            worker.start()
        link.start()
        stack.enter_context(_tended(services, bucket))
        yield RunningHub(services, workers, broker)


def _bucket(config: HubConfig) -> Bucket | None:
    """Raises `BucketUnusable` rather than serve without what the operator asked for."""
    if config.bucket is None:
        return None
    return Bucket(config.bucket, find_keys(config.bucket, read_bucket_keys()))


@contextmanager
def _tended(services: HubServices, bucket: Bucket | None) -> Iterator[None]:
    """The bucket's thread. The watchdog does not look at it: an upload takes as long as it takes,
    and without it the hub serves the blobs itself."""
    if bucket is None or services.shelf is None:
        yield
        return
    stopping = threading.Event()
    parts = (services.storage, services.blobs, services.clock, stopping.wait)
    worker = Worker("bucket", BucketUpkeep(bucket, services.shelf, *parts).step, stopping.set)
    worker.start()
    try:
        yield
    finally:
        worker.stop()


@contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    """Two hubs in one directory would answer each other's devices; the kernel frees the lock."""
    handle = os.open(directory / "run" / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise HubRunning(f"a hub is running already in {directory}") from error
        yield
    finally:
        os.close(handle)


def _broker_address(config: HubConfig) -> str:
    """As seen from the hub."""
    return config.outside_broker or local_address(config.broker_bind)


def _link_settings(config: HubConfig, authority: Authority) -> LinkSettings:
    def context() -> ssl.SSLContext:
        made = ssl.create_default_context(cadata=authority.roots_pem())
        made.load_cert_chain(*authority.pair("hub"))
        return made

    return LinkSettings(_broker_address(config), config.broker_port, context)
