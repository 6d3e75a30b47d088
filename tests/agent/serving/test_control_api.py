"""Steering a real server over its control socket, with `ServerClient`."""

from __future__ import annotations

import os
import signal
import socket
import stat
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as triton

from agent.errors import Crashed, DeviceError, Incompatible, Malformed, Tampered
from agent.serving.client import ServerAbsent, ServerClient
from agent.serving.protocol import control_socket, inference_socket
from agent.serving.sockets import bind_unix
from tests.agent.serving import tiny_models as tiny
from tests.agent.serving.tiny_models import SAMPLES, WEIGHTS, Release, Running

SWAPS = 20


def load(client: ServerClient, release: Release) -> None:
    client.load(release.family, release.digest, release.directory, release.variant)


class Traffic:
    """Requests without a pause from several connections, each answer checked."""

    def __init__(self, running: Running, threads: int) -> None:
        self.answered = 0
        self.failures: list[str] = []
        self._running = running
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(threads)]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        client = triton.InferenceServerClient(self._running.url)
        given = triton.InferInput("x", [4, 4], "FP32")
        given.set_data_from_numpy(SAMPLES[:4])
        while not self._stop.is_set():
            try:
                answer = client.infer("tiny", [given])
                scale = float(answer.get_response()["model_version"])
                if not np.allclose(answer.as_numpy("y"), scale * SAMPLES[:4] @ WEIGHTS, rtol=1e-4):
                    self.failures.append(f"version {scale} gave another version's answer")
                self.answered += 1
            except Exception as error:  # noqa: BLE001 - whatever fails is what the test is about
                self.failures.append(repr(error))


def test_no_request_fails_through_twenty_swaps_under_load(state: Path) -> None:
    one, two = (tiny.install(state, v, tiny.scaled(float(v))) for v in ("1", "2"))
    tiny.serve_at_boot(state, one)
    with tiny.server(state) as running, Traffic(running, threads=4) as traffic:
        for swap in range(SWAPS):
            release = (two, one)[swap % 2]
            seen = traffic.answered
            load(running.client, release)
            activated = running.client.activate("tiny", release.digest)
            assert activated.changed
            deadline = time.monotonic() + 10
            while traffic.answered < seen + 10 and time.monotonic() < deadline:
                time.sleep(0.002)
    assert traffic.failures == []
    assert traffic.answered >= 10 * SWAPS


def test_status_tells_what_serves_and_what_waits(state: Path) -> None:
    one, two = (tiny.install(state, v, tiny.scaled(float(v))) for v in ("1", "2"))
    tiny.serve_at_boot(state, one)
    with tiny.server(state) as running:
        load(running.client, two)
        status = running.client.status()
    served = status.families["tiny"]
    assert (served.digest, served.target, served.variant) == (one.digest, "tiny/1", "onnx-fp32")
    assert (served.fallback, served.reason) == (False, "")
    assert [c.digest for c in status.candidates] == [two.digest]
    assert (status.pid, status.port) == (running.process.pid, running.port)
    assert status.rss_bytes > 1 << 20
    assert status.unserved == {}


def test_each_refusal_is_an_error_of_its_class(state: Path) -> None:
    good = tiny.install(state, "1", tiny.scaled(1))
    altered = tiny.install(state, "2", tiny.scaled(2))
    broken = tiny.install(state, "3", b"this is no onnx model")
    (altered.directory / "files" / "golden.bin").write_bytes(b"x")
    with tiny.server(state) as running:
        client = running.client
        with pytest.raises(Tampered, match=r"golden\.bin"):
            load(client, altered)
        with pytest.raises(DeviceError, match="onnxruntime"):
            load(client, broken)
        with pytest.raises(Tampered):
            client.load("tiny", "0" * 64, good.directory, good.variant)
        with pytest.raises(Malformed, match="no variant"):
            client.load("tiny", good.digest, good.directory, "tflite-int8")
        with pytest.raises(Malformed, match="missing"):
            client.load("tiny", good.digest, state / "absent", good.variant)
        with pytest.raises(Malformed, match="not absolute"):
            client.load("tiny", good.digest, Path("store"), good.variant)
        with pytest.raises(Malformed, match="LoadRequest"):
            client.load("TINY", good.digest, good.directory, good.variant)
        with pytest.raises(Malformed, match="not loaded"):
            client.activate("tiny", good.digest)
        with pytest.raises(DeviceError, match="no model"):
            client.probe("tiny")
        client.unload("tiny", good.digest)
        assert client.status().families == {}
    assert "Traceback" not in running.log.read_text()


def test_a_family_that_nobody_wants_any_more_is_not_missed(state: Path) -> None:
    broken = tiny.install(state, "1", b"this is no onnx model")
    tiny.serve_at_boot(state, broken)
    good = tiny.install(state, "2", tiny.scaled(2))
    with tiny.server(state) as running:
        assert list(running.client.status().unserved) == ["tiny"]
        load(running.client, good)
        running.client.unload("tiny", good.digest)
        assert list(running.client.status().unserved) == ["tiny"], "only a candidate went"
        running.client.unload("tiny", broken.digest)
        assert running.client.status().unserved == {}
        assert triton.InferenceServerClient(running.url).is_server_ready()


def test_counts_begin_anew_with_each_model_and_the_last_ones_are_kept(state: Path) -> None:
    one, two = (tiny.install(state, v, tiny.scaled(float(v))) for v in ("1", "2"))
    tiny.serve_at_boot(state, one)
    with tiny.server(state) as running:
        asker = triton.InferenceServerClient(running.url)
        given = triton.InferInput("x", list(SAMPLES.shape), "FP32")
        given.set_data_from_numpy(SAMPLES)
        for _ in range(3):
            asker.infer("tiny", [given])
        load(running.client, two)
        running.client.activate("tiny", two.digest)
        asker.infer("tiny", [given])
        probed = running.client.probe("tiny", 4)
        counters = running.client.counters()
    assert (counters.families["tiny"].digest, counters.retired["tiny"].digest) == (
        two.digest,
        one.digest,
    )
    assert (counters.families["tiny"].good, counters.retired["tiny"].good) == (1, 3)
    assert counters.families["tiny"].probes == probed.samples == 4
    drift = counters.retired["tiny"].drift
    assert drift is not None
    assert sum(drift.classes) == 3 * len(SAMPLES)


def test_the_sockets_are_private(state: Path) -> None:
    with tiny.server(state):
        assert stat.S_IMODE((state / "run").stat().st_mode) == 0o700
        for path in (control_socket(state), inference_socket(state)):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_control_verbs_are_not_on_the_port(running: Running) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=5) as connection:
        request = b"GET /status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        connection.sendall(request)
        assert connection.recv(100).startswith(b"HTTP/1.1 404")


def test_an_unknown_verb_is_a_device_error(running: Running) -> None:
    with pytest.raises(DeviceError, match="no GET /reboot"):
        running.client._call("GET", "/reboot", None, dict[str, str])


def test_a_server_that_is_not_there_is_absent(state: Path) -> None:
    with pytest.raises(ServerAbsent):
        ServerClient(control_socket(state)).status()


def test_a_server_that_does_not_answer_counts_as_crashed(state: Path) -> None:
    (state / "run").mkdir()
    with (
        bind_unix(control_socket(state)),
        pytest.raises(Crashed, match="no answer to /status"),
    ):
        ServerClient(control_socket(state)).status(timeout_s=0.05)


def test_a_server_that_dies_under_a_call_is_crashed(state: Path) -> None:
    slow = tiny.install(state, "1", tiny.slow())
    tiny.serve_at_boot(state, slow)
    with tiny.server(state) as running:
        killer = threading.Timer(0.2, os.kill, (running.process.pid, signal.SIGKILL))
        killer.start()
        with pytest.raises(Crashed) as died:
            running.client.probe("tiny", 32)
        killer.join()
    assert not isinstance(died.value, Incompatible)
