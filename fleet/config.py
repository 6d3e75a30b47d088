"""`hub.json`: what `hub init` fixed for one hub, read once into a frozen value.

Holds no secrets. Refuses a file of another schema rather than guess.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from contract.enrolment import Host, Port
from contract.ids import Id
from fleet.errors import HubNotFound, HubUnreadable

MAX_CONFIG_BYTES = 65_536
CONFIG_FILE = "hub.json"


Endpoint = Annotated[str, Meta(pattern=r"^https?://[A-Za-z0-9.:_\[\]-]{1,250}/?\Z")]
Prefix = Annotated[str, Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]{0,59}/){0,4}\Z")]


class BucketConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An S3-compatible bucket from which devices fetch large releases."""

    endpoint: Endpoint
    """With https unless the operator says otherwise."""
    bucket: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z")]
    region: Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,40}\Z")] = "us-east-1"
    prefix: Prefix = "outrider/"
    """Below it everything named like a pack is this hub's, and cleared by it."""
    above_bytes: Annotated[int, Meta(ge=0, le=1 << 40)] = 64 << 20
    """Releases with a larger bundle are put there."""
    address_seconds: Annotated[int, Meta(ge=1, le=3_600)] = 900
    """How long an address that a device is given is good for."""
    device_endpoint: Endpoint | None = None
    """Where devices find the store, when that is elsewhere than for the hub."""
    virtual_host: bool = False
    """Whether the bucket's name stands in the host name, not in the path."""
    ca_file: str | None = None
    """CAs that vouch for the endpoint to the hub, in PEM; otherwise botocore's do."""
    credentials_file: str | None = None
    """Read when the environment holds no keys; mode 0600."""


class HubConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One hub: its name, the host names in its certificates (first: the one to give devices)."""

    schema: int = 1
    name: Id = "hub"
    hosts: Annotated[list[Host], Meta(min_length=1, max_length=32)]
    api_host: Host = "0.0.0.0"  # noqa: S104 - devices and operators come from other machines
    api_port: Port
    broker_bind: Host = "0.0.0.0"  # noqa: S104 - devices come from other machines
    broker_port: Port
    created_at_ms: int
    approve: bool = False
    """Whether an operator is asked before a device gets its certificate."""
    retain_at_most_bytes: Annotated[int, Meta(ge=0, le=1 << 40)] = 256 << 20
    """Of a release with a larger bundle the broker holds the manifest only: devices fetch the rest
    over HTTPS. A broker's retained messages are memory."""
    bucket: BucketConfig | None = None
    """`outrider hub bucket` sets it."""
    outside_broker: Host | None = None
    """Where a broker is that others run, for hub and devices; `hub serve --external-broker`."""

    @property
    def api_url(self) -> str:
        """Where devices and operators find the API."""
        host = self.hosts[0]
        return f"https://{f'[{host}]' if ':' in host else host}:{self.api_port}"

    @property
    def broker_host(self) -> str:
        """Where devices find the broker."""
        return self.outside_broker or self.hosts[0]


def encode_config(config: HubConfig) -> bytes:
    """Readable JSON."""
    return msgspec.json.format(msgspec.json.encode(config), indent=1) + b"\n"


def read_config(directory: Path) -> HubConfig:
    """Raises `HubNotFound` when this is not a hub's directory, `HubUnreadable` when damaged."""
    path = directory / CONFIG_FILE
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise HubNotFound(
            f"{directory} is not a hub's directory ({error.strerror}): run `outrider hub init`"
        ) from error
    try:
        config = msgspec.json.decode(data, type=HubConfig)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise HubUnreadable(f"{path}: {str(error)[:200]}") from error
    if config.schema != 1:
        raise HubUnreadable(f"{path}: schema {config.schema}; this program reads 1")
    return config
