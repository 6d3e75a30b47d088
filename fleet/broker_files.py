"""The configuration of the hub's private Mosquitto: who may connect, and who may say what where.

Every client shows a certificate of the hub's CA; its common name is its user and its client id, so
no client can take another's session. Mosquitto's own files are never touched.

All that Mosquitto reads lies in one folder. At SIGHUP it reads the CAs, its certificate and the
lists again, as long as it has a list to read (2.0.11; without one, it keeps the CAs that it knows).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from contract.codec import MAX_BYTES
from contract.topics import ROOT
from contract.trust import MAX_TARGETS_BYTES
from fleet.ca import HUB_USER, Authority
from fleet.files import write_whole

MAX_PACKET_BYTES = max(*MAX_BYTES.values(), MAX_TARGETS_BYTES) + 4_096
"""The longest that the hub may have to send, with its topic. Mosquitto ends the connection of
whoever sends more: the hub would connect and lose it again, for ever."""
MAX_QUEUED_MESSAGES = 100_000
"""The default of 1,000 silently drops what a hub with many devices is sent at its start."""
MAX_QUEUED_BYTES = 64 * 1024 * 1024
MAX_INFLIGHT = 64
DIRECTORY, REVOKED, SERVER, TRUSTED = "mosquitto", "revoked.crl", "server.pem", "trusted.crt"


@dataclass(frozen=True)
class BrokerFiles:
    """Where the generated files stand, and what they say."""

    directory: Path
    bind: str
    port: int
    user: str
    """Mosquitto that is started as root changes to this user; it must read the CA's files."""

    @property
    def configuration(self) -> Path:
        """Given to `mosquitto -c`."""
        return self.directory / "mosquitto.conf"

    @property
    def acl(self) -> Path:
        """Named in the configuration."""
        return self.directory / "acl"

    @property
    def revoked(self) -> Path:
        """The certificate revocation list; read anew at SIGHUP."""
        return self.directory / REVOKED

    @property
    def server(self) -> Path:
        """The broker's key and its certificate chain, in one file so that they always fit."""
        return self.directory / SERVER

    @property
    def trusted(self) -> Path:
        """The CAs whose clients may come."""
        return self.directory / TRUSTED

    @property
    def log(self) -> Path:
        """Mosquitto's own words."""
        return self.directory / "mosquitto.log"


def revocation_file(hub: Path) -> Path:
    """Where the list of the hub in this directory is."""
    return hub / DIRECTORY / REVOKED


def write_identity(broker: Path, authority: Authority) -> None:
    """Who the broker is and whom it believes, as the authority says now, in the broker's folder."""
    for path, data in _identity(broker, authority).items():
        if not _holds(path, data):
            write_whole(path, data)


def shows_identity(broker: Path, authority: Authority) -> bool:
    """Whether that is what is written there."""
    return all(_holds(path, data) for path, data in _identity(broker, authority).items())


def _identity(broker: Path, authority: Authority) -> dict[Path, bytes]:
    certificate, key = authority.pair("broker")
    return {
        broker / TRUSTED: authority.trusted_pem().encode(),
        broker / SERVER: key.read_bytes() + certificate.read_bytes(),
    }


def _holds(path: Path, data: bytes) -> bool:
    return path.exists() and path.read_bytes() == data


def configuration(files: BrokerFiles) -> str:
    """The text of mosquitto.conf."""
    return f"""# Written by the hub at every start: changes are lost.
user {files.user}
per_listener_settings false
persistence false
allow_anonymous false
acl_file {files.acl}
log_dest stderr
log_type error
log_type warning
log_type notice
connection_messages false
max_packet_size {MAX_PACKET_BYTES}
max_inflight_messages {MAX_INFLIGHT}
max_queued_messages {MAX_QUEUED_MESSAGES}
max_queued_bytes {MAX_QUEUED_BYTES}
max_keepalive 600
set_tcp_nodelay true

listener {files.port} {files.bind}
protocol mqtt
cafile {files.trusted}
crlfile {files.revoked}
certfile {files.server}
keyfile {files.server}
tls_version tlsv1.2
require_certificate true
use_identity_as_username true
use_username_as_clientid true
"""


def access_rules() -> str:
    """The text of the ACL: the hub everything below the root, a device its own topics."""
    rules = [f"user {HUB_USER}", f"topic readwrite {ROOT}/#", ""]
    rules += [f"pattern write {ROOT}/dev/%u/up/#", f"pattern read {ROOT}/dev/%u/down/#"]
    rules += [f"pattern read {ROOT}/{tail}" for tail in ("tuf/#", "blob/#", "hub/epoch")]
    return "\n".join(rules) + "\n"
