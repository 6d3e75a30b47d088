"""The hub's certificate authority on disk: root, intermediate that signs, the hub's own leaves.

During a rotation (fleet.rotation) there are two of each, the next in `next/`, and `rotation.json`
says which issues and which are believed; it is read anew at every call, since the command line
writes it beside a running hub. A root's key is needed again only for a rotation and to renew the
intermediate. Decides nothing about who may have a certificate: that is fleet.enrolment.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from fleet.ca_folder import (
    BRIDGE,
    adopt,
    load_certificate,
    load_key,
    make,
    make_bridge,
    number_of,
    signer_in,
)
from fleet.errors import HubUnreadable
from fleet.files import write_whole
from fleet.issuing import (
    BACKDATE_MS,
    Issued,
    Signer,
    common_name,
    fingerprint,
    issue_leaf,
    key_pem,
)
from fleet.rotation import Rotation, Stage, both_believed, next_issues

DAY_MS = 86_400_000
SERVER_DAYS = 397
DEVICE_DAYS = 90
BRIEF_DAYS = (BACKDATE_MS + 300_000) / DAY_MS
"""Five minutes from now."""
HUB_USER = "hub"
WITNESS = "hub-witness"
OWN = ("api", "broker", "hub")
NEXT, ROTATION, FORMER, FORMER_EPOCH = "next", "rotation.json", "former", "former.epoch"
GIVEN_UP = "given-up"


class Authority:
    """The CA in one directory (`ca/`): names of files, and what is issued from it."""

    def __init__(self, directory: Path) -> None:
        """Reads nothing yet; files are read when they are needed."""
        self.directory = directory
        self.root_file = directory / "root.crt"
        self.trusted_file = directory / "trusted.crt"
        """Every root and intermediate that is believed, for a broker that others run."""

    # --- which CA it is -------------------------------------------------------------------------

    def rotation(self) -> Rotation | None:
        """None while there is one CA; raises `HubUnreadable`."""
        path = self.directory / ROTATION
        try:
            found = msgspec.json.decode(path.read_bytes(), type=Rotation)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            raise HubUnreadable(f"{path}: {str(error)[:200]}") from error
        if found.schema != 1:
            raise HubUnreadable(f"{path}: schema {found.schema}; this program reads 1")
        return found

    def stage(self) -> Stage | None:
        """None while there is one CA."""
        rotation = self.rotation()
        return rotation.stage if rotation is not None else None

    def root_pem(self) -> str:
        """The root under which the hub's servers stand."""
        return (self._issuing() / "root.crt").read_text()

    def roots_pem(self) -> str:
        """What a device or an operator trusts: every root that is believed."""
        return "".join((folder / "root.crt").read_text() for folder in self._believed())

    def trusted_pem(self) -> str:
        """Roots and intermediates, for checking clients that send their leaf alone."""
        names = ("root.crt", "intermediate.crt")
        return "".join((folder / n).read_text() for folder in self._believed() for n in names)

    def roots(self) -> tuple[str, str]:
        """SHA-256 of the old root and of the next; the same one twice without a rotation."""
        folders = self._believed()
        found = [fingerprint(load_certificate(folder / "root.crt")) for folder in folders]
        return found[0], found[-1]

    def is_bridged(self) -> bool:
        """Whether the servers, under the next CA, can be believed by who knows the old alone."""
        folder = self.directory / NEXT
        return (folder / BRIDGE).exists() and (folder / "root.key").exists()

    def ends_ms(self) -> int:
        """When the root or the intermediate that issues now ends, whichever is first."""
        found = [load_certificate(self._issuing() / n) for n in ("root.crt", "intermediate.crt")]
        return min(int(each.not_valid_after_utc.timestamp() * 1000) for each in found)

    # --- issuing --------------------------------------------------------------------------------

    def signer(self) -> Signer:
        """The intermediate that issues; raises `HubUnreadable`."""
        return signer_in(self._issuing())

    def signers(self) -> list[Signer]:
        """Every intermediate whose certificates are good, the old CA's first."""
        return [signer_in(folder) for folder in self._believed()]

    def issue_device(self, device: str, key: EllipticCurvePublicKey, now_ms: int) -> Issued:
        """A client certificate whose subject is the device's name, whatever the CSR said."""
        return self.issue_client(self.signer(), device, key, DEVICE_DAYS, now_ms)

    def issue_brief(self, name: str, key: EllipticCurvePublicKey, now_ms: int) -> Issued:
        """A client certificate in any name, for the hub's own use in the next minutes."""
        return self.issue_client(self.signer(), name, key, BRIEF_DAYS, now_ms)

    def issue_client(
        self, signer: Signer, name: str, key: EllipticCurvePublicKey, days: float, now_ms: int
    ) -> Issued:
        """By one of `signers`."""
        usage = ExtendedKeyUsageOID.CLIENT_AUTH
        return issue_leaf(signer, common_name(name), key, usage, (), days, now_ms)

    # --- the hub's own leaves -------------------------------------------------------------------

    def pair(self, name: str) -> tuple[Path, Path]:
        """Certificate chain and key file of `api`, `broker`, `hub`, or a witness."""
        return self.directory / f"{name}.crt", self.directory / f"{name}.key"

    def issue_own(self, hosts: Sequence[str], now_ms: int) -> None:
        """New certificates, with new keys, for the API, the broker and the hub's broker client."""
        for file in OWN:
            names = () if file == "hub" else hosts
            key = generate_private_key(SECP256R1())
            usage = ExtendedKeyUsageOID.SERVER_AUTH if names else ExtendedKeyUsageOID.CLIENT_AUTH
            # A common name holds 64 characters; servers are known by their alternative names alone.
            subject = common_name(hosts[0][:64] if names else HUB_USER)
            issued = issue_leaf(
                self._own_signer(file),
                subject,
                key.public_key(),
                usage,
                names,
                SERVER_DAYS,
                now_ms,
            )
            self.keep_pair(file, issued, key)

    def own_due(self, now_ms: int) -> bool:
        """Whether one of the hub's own certificates has lived two thirds of its time, is of another
        CA than the present, of a clock that ran ahead, or was cut off between its two files."""
        return any(self._is_due(file, now_ms) for file in OWN)

    def keep_pair(self, name: str, issued: Issued, key: EllipticCurvePrivateKey) -> None:
        """Write a leaf and its key, the leaf last: who waits for a new one finds its key there."""
        certificate, key_file = self.pair(name)
        write_whole(key_file, key_pem(key))
        write_whole(certificate, issued.chain_pem.encode())

    def _is_due(self, file: str, now_ms: int) -> bool:
        certificate, key_file = self.pair(file)
        try:
            leaf, *above = x509.load_pem_x509_certificates(certificate.read_bytes())
            key = serialization.load_pem_private_key(key_file.read_bytes(), None)
        except (OSError, ValueError):
            return True
        if above != [self._own_signer(file).certificate] or leaf.public_key() != key.public_key():
            return True
        begin, end = leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()
        return now_ms / 1000 < begin or end - now_ms / 1000 < (end - begin) / 3

    def _own_signer(self, file: str) -> Signer:
        """Servers that are bridged stand under the next root itself, shown as the old root signed
        it: so the chain ends at either, whichever of the two a client knows."""
        if file != "hub" and self.stage() is Stage.SWITCHED and self.is_bridged():
            folder = self.directory / NEXT
            return Signer(load_certificate(folder / BRIDGE), load_key(folder / "root.key"))
        return self.signer()

    # --- making and replacing -------------------------------------------------------------------

    def create(self, name: str, hosts: Sequence[str], now_ms: int) -> None:
        """Make the root, the intermediate and the hub's own leaves in the empty directory."""
        make(self.directory, name, "", now_ms)
        self.write_trusted()
        self.issue_own(hosts, now_ms)

    def make_next(self, name: str, now_ms: int) -> None:
        """Make the next root and intermediate, and the bridge where the root's key is at hand.

        Until a rotation is recorded nobody reads them, so what was cut off is made anew.
        """
        self.clear_next()
        folder = self.directory / NEXT
        folder.mkdir(mode=0o700)
        number = number_of(load_certificate(self.root_file)) + 1
        make(folder, name, f" {number}", now_ms)
        make_bridge(folder, self.directory, now_ms)

    def record(self, rotation: Rotation | None) -> None:
        """Where the rotation stands from now on: this one file decides."""
        path = self.directory / ROTATION
        if rotation is not None:
            write_whole(path, msgspec.json.encode(rotation))
            return
        path.unlink(missing_ok=True)
        _sync(self.directory)

    def keep_former(self, going: Signer, now_ms: int) -> None:
        """A certificate of the CA that is about to go, to find out who still believes it."""
        key = generate_private_key(SECP256R1())
        self.forget_former()
        issued = self.issue_client(going, WITNESS, key.public_key(), DEVICE_DAYS, now_ms)
        self.keep_pair(FORMER, issued, key)

    def forget_former(self) -> None:
        """Nobody believes it any more."""
        for path in (*self.pair(FORMER), self.directory / FORMER_EPOCH):
            path.unlink(missing_ok=True)

    def forget_unfounded_former(self) -> None:
        """An end was cut off before it was recorded: that CA is believed, and may stay for good."""
        path = self.pair(FORMER)[0]
        if path.exists():
            above = x509.load_pem_x509_certificates(path.read_bytes())[-1]
            if fingerprint(above) in {signer.fingerprint for signer in self.signers()}:
                self.forget_former()

    def note_given_up(self, root: str) -> None:
        """The root of the CA that is about to go: no policy should name it for long."""
        write_whole(self.directory / GIVEN_UP, root.encode() + b"\n")

    def given_up(self) -> str | None:
        """SHA-256 of the root that this hub left last."""
        path = self.directory / GIVEN_UP
        return path.read_text().strip() if path.exists() else None

    def adopt_next(self) -> None:
        """Put the next CA's files in the place of the former's. Meanwhile readers use `next/`.

        Raises `HubUnreadable`, and has changed nothing, where they are not all there.
        """
        adopt(self.directory / NEXT, self.directory)

    def clear_next(self) -> None:
        """Remove what is left of a rotation that is over, or was never recorded."""
        shutil.rmtree(self.directory / NEXT, ignore_errors=True)

    def write_trusted(self) -> None:
        """`trusted.crt`, as it should be now."""
        data = self.trusted_pem().encode()
        if not self.trusted_file.exists() or self.trusted_file.read_bytes() != data:
            write_whole(self.trusted_file, data)

    def _issuing(self) -> Path:
        return self.directory / NEXT if next_issues(self.stage()) else self.directory

    def _believed(self) -> list[Path]:
        if both_believed(self.stage()):
            return [self.directory, self.directory / NEXT]
        return [self._issuing()]


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
