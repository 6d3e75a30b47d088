"""Two CAs of one hub in a test: the policy that names them, and who believes whom over real TLS."""

from __future__ import annotations

import contextlib
import shutil
import ssl
import tempfile
from pathlib import Path

from converter.trust.custody import replace_roots
from fleet.assembly import system_clock
from fleet.ca import Authority
from fleet.setup import succession_at
from fleet.succession import Outcome
from tests.fleet.harness import HubDirectory
from tests.trust.ceremony import PASSPHRASE


def trust_file(world: HubDirectory, *roots: str) -> bytes:
    """Offline keys name these files of `ca/`: trust.json."""
    named = [(world.hub / "ca" / root).read_bytes() for root in roots]
    replace_roots(world.path / "keys", named, lambda: PASSPHRASE, system_clock())
    return (world.path / "keys" / "trust.json").read_bytes()


def name_roots(world: HubDirectory, *roots: str) -> None:
    """The same, in force at the hub."""
    offered = trust_file(world, *roots)
    with succession_at(world.hub) as succession:
        succession.repository.import_trust(offered)


def make(world: HubDirectory) -> Outcome:
    """The next CA, named and believed by the broker."""
    with succession_at(world.hub) as succession:
        outcome = succession.make("hub", system_clock())
        name_roots(world, "root.crt", "next/root.crt")
        succession.note_believed()
        return outcome


def believes(roots_pem: str, certificate: Path, key: Path) -> bool:
    """Whether a client that knows these roots believes a server that shows this, strictly."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    client = ssl.create_default_context(cadata=roots_pem)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(10):
        try:
            asking.do_handshake()
        except ssl.SSLWantReadError:
            with contextlib.suppress(ssl.SSLWantReadError):
                answering.do_handshake()
        except ssl.SSLCertVerificationError:
            return False
        else:
            return True
    raise AssertionError("the handshake does not end")


def copied(authority: Authority) -> Authority:
    """As a thief has it, who was there before."""
    folder = Path(tempfile.mkdtemp(dir=authority.directory.parents[1])) / "ca"
    shutil.copytree(authority.directory, folder)
    return Authority(folder)
