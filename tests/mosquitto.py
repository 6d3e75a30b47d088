"""A real Mosquitto for tests: private configuration, a free port, mTLS with a CA made on the spot.

Owns one broker process and the files below one directory. `Authority` issues the certificates;
`Mosquitto` starts, kills and restarts the broker; both are plain classes, so any room's conftest
may wrap them in fixtures of its own.
"""

from __future__ import annotations

import datetime
import getpass
import ipaddress
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_EXTRA_PLACES = ("/usr/sbin", "/usr/local/sbin")
_DAY = datetime.timedelta(days=1)


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        assert isinstance(port, int)
        return port


def mosquitto_path() -> str:
    """Where the broker is; Debian puts it outside a user's PATH."""
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path=":".join(_EXTRA_PLACES))
    assert found is not None, "mosquitto is not installed; `make setup` installs it"
    return found


@dataclass(frozen=True)
class Credentials:
    """Files of one identity, PEM."""

    certificate: Path
    key: Path
    ca: Path

    def context(self) -> ssl.SSLContext:
        """A client's TLS context."""
        context = ssl.create_default_context(cafile=str(self.ca))
        context.load_cert_chain(str(self.certificate), str(self.key))
        return context


class Authority:
    """A certificate authority whose key lives as long as the test."""

    def __init__(self, directory: Path, name: str = "test CA") -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._self_signed(name)
        self.path = directory / "ca.pem"
        self.path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    @property
    def pem(self) -> str:
        """The CA's certificate."""
        return self.path.read_text()

    def server(self, name: str = "server") -> Credentials:
        """For `localhost` and 127.0.0.1."""
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        return self._issue(name, ExtendedKeyUsageOID.SERVER_AUTH, names)

    def client(self, name: str) -> Credentials:
        """For a device or a hub of this name."""
        return self._issue(name, ExtendedKeyUsageOID.CLIENT_AUTH, [x509.DNSName(name)])

    def sign(self, public_key: ec.EllipticCurvePublicKey, name: str) -> x509.Certificate:
        """A client's certificate for a key that somebody else made."""
        return self._sign(public_key, name, ExtendedKeyUsageOID.CLIENT_AUTH, [x509.DNSName(name)])

    def _issue(
        self, name: str, usage: x509.ObjectIdentifier, names: list[x509.GeneralName]
    ) -> Credentials:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(key.public_key(), name, usage, names)
        paths = Credentials(
            self._directory / f"{name}.crt", self._directory / f"{name}.key", self.path
        )
        paths.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        paths.key.chmod(0o600)
        return paths

    def _sign(
        self,
        public_key: ec.EllipticCurvePublicKey,
        name: str,
        usage: x509.ObjectIdentifier,
        names: list[x509.GeneralName],
    ) -> x509.Certificate:
        builder = _builder(name, self.certificate.subject, public_key)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        builder = builder.add_extension(x509.BasicConstraints(False, None), critical=True)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = builder.add_extension(issuer, critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def _self_signed(self, name: str) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(name, subject, self.key.public_key())
        # What Python 3.13 demands of a CA: it checks as strictly as RFC 5280 does.
        builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
        own = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
        builder = builder.add_extension(own, critical=False)
        builder = builder.add_extension(_CA_USAGE, critical=True)
        return builder.sign(self.key, hashes.SHA256())


_CA_USAGE = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def _builder(
    name: str, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
    )


class Mosquitto:
    """One broker process. It keeps its port over restarts and loses its memory, as in the field."""

    def __init__(self, directory: Path, authority: Authority, extra: str = "") -> None:
        self.authority = authority
        self.port = free_port()
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._config = directory / "mosquitto.conf"
        self._log = directory / "mosquitto.log"
        self._extra = extra
        self._write_config([authority])
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the broker; returns once it accepts connections."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [mosquitto_path(), "-c", str(self._config)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 10
        while not self._answers():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, "mosquitto does not answer"
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL: nothing is said to anybody."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM; safe to call when it does not run."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Kill and start: every retained message and session is gone."""
        self.kill()
        self.start()

    def move_to(self, authority: Authority, also: Sequence[Authority] = ()) -> None:
        """Start again with a certificate of another CA, for clients of it and of `also`."""
        self.kill()
        self.authority = authority
        self._write_config([authority, *also])
        self.start()

    def _end(self, with_signal: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(with_signal)
            process.wait(10)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _write_config(self, trusted: Sequence[Authority]) -> None:
        server = self.authority.server("broker")
        clients = self._directory / "clients.pem"
        clients.write_text("".join(each.pem for each in trusted))
        lines = [
            f"listener {self.port} 127.0.0.1",
            f"cafile {clients}",
            f"certfile {server.certificate}",
            f"keyfile {server.key}",
            "require_certificate true",
            "use_identity_as_username true",
            "use_username_as_clientid true",
            "allow_anonymous false",
            "persistence false",
            "set_tcp_nodelay true",
            # Started by root it would become `mosquitto`, who may not read the test's files.
            f"user {getpass.getuser()}",
            "log_type error",
            "log_type warning",
            "log_type notice",
            self._extra,
        ]
        self._config.write_text("\n".join(lines) + "\n")
