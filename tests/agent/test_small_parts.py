"""The parts around the loop: lock, notifications, stamps, status, hardware, resources."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agent.hardware import read_hardware
from agent.link.rejects import OTHERS, Rejects
from agent.lock import AlreadyRunning, StateLock, is_held, lock_file
from agent.notify import READY, WATCHDOG, Notifier
from agent.resources import Resources, free_bytes, is_throttled
from agent.stamps import Stamper, kernel_boot, monotonic_ms
from agent.status import AgentStatus, NotRunning, read_status, remove_status, write_status
from contract.codec import encode
from contract.messages import Birth


def test_the_lock_is_exclusive_and_names_its_holder(tmp_path: Path) -> None:
    lock = StateLock(tmp_path)
    lock.acquire()
    assert is_held(tmp_path)
    with pytest.raises(AlreadyRunning, match=f"process {os.getpid()}"):
        StateLock(tmp_path).acquire()
    lock.release()
    lock.release()
    assert not is_held(tmp_path)
    StateLock(tmp_path).acquire()


def test_a_look_at_the_lock_keeps_no_agent_from_starting(tmp_path: Path) -> None:
    lock = StateLock(tmp_path)
    lock.acquire()
    lock.release()
    looking = os.open(lock_file(tmp_path), os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    gone = threading.Timer(0.1, os.close, (looking,))
    gone.start()
    lock.acquire()
    gone.join()


def test_a_full_disk_keeps_no_agent_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    StateLock(tmp_path).acquire()
    assert is_held(tmp_path)


def test_the_lock_dies_with_its_holder(tmp_path: Path) -> None:
    program = (
        "import sys, os, signal; from pathlib import Path; from agent.lock import StateLock\n"
        "StateLock(Path(sys.argv[1])).acquire()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert not is_held(tmp_path)


@pytest.mark.parametrize("abstract", [False, True])
def test_notifications_are_one_datagram_each(tmp_path: Path, abstract: bool) -> None:
    name = f"@outrider-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if abstract else name)
        manager.settimeout(5)
        Notifier(name).tell(READY, "STATUS=connected")
        Notifier(name).tell(WATCHDOG)
        assert manager.recv(100) == b"READY=1\nSTATUS=connected"
        assert manager.recv(100) == b"WATCHDOG=1"


def test_without_a_manager_nothing_happens(tmp_path: Path) -> None:
    Notifier("").tell(READY)
    Notifier(str(tmp_path / "gone")).tell(READY)


def test_a_clock_below_the_floor_is_not_trusted() -> None:
    times = iter([1_000, 3_000])
    stamper = Stamper("a" * 32, lambda: next(times), lambda: 2_000)
    first, second = stamper.now(), stamper.now()
    assert (first.clock_trusted, second.clock_trusted) == (False, True)
    assert first.mono_ms <= second.mono_ms


def test_the_boot_id_is_the_kernels_and_else_a_new_one(tmp_path: Path) -> None:
    assert kernel_boot() == kernel_boot()
    missing = tmp_path / "none"
    assert kernel_boot(missing) != kernel_boot(missing)
    assert len(kernel_boot(missing)) == 32
    assert monotonic_ms() > 0


def status() -> AgentStatus:
    return AgentStatus(
        device="pi-1",
        agent="0",
        pid=1,
        at_ms=2,
        started_at_ms=1,
        clock_trusted=True,
        hub_url="https://hub:1",
        broker="hub:2",
        connected=True,
    )


def test_a_status_is_readable_while_the_agent_runs_and_then_no_more(tmp_path: Path) -> None:
    lock = StateLock(tmp_path)
    with pytest.raises(NotRunning, match="no agent runs"):
        read_status(tmp_path)
    lock.acquire()
    with pytest.raises(NotRunning, match="still starting"):
        read_status(tmp_path)
    write_status(tmp_path, status())
    assert read_status(tmp_path)["device"] == "pi-1"
    lock.release()
    with pytest.raises(NotRunning, match="no agent runs"):
        read_status(tmp_path)  # a stale file of a killed agent says nothing
    remove_status(tmp_path)
    remove_status(tmp_path)


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="nowhere"):
        read_status(tmp_path / "nowhere")


def test_the_hardware_can_be_said_in_a_birth() -> None:
    hardware = read_hardware("raspberry-pi-5")
    assert hardware.device_class == "raspberry-pi-5"
    assert hardware.memory_bytes > 0
    assert "onnxruntime" in hardware.runtimes
    stamp = Stamper("a" * 32, lambda: 1, lambda: 0).now()
    encode(Birth(device="d", session="0" * 32, agent="0", wire=[1], hardware=hardware, stamp=stamp))


def test_resources_are_measured(tmp_path: Path) -> None:
    window = Resources(tmp_path).window(server_rss_bytes=7)
    assert window.rss_server_bytes == 7
    assert window.rss_control_bytes > 1_000_000
    assert window.disk_free_bytes == pytest.approx(free_bytes(tmp_path), rel=0.5)
    assert free_bytes(tmp_path / "nowhere") == 0


@pytest.mark.parametrize(
    ("firmware", "throttled"),
    [("0\n", False), ("50000\n", False), ("50005\n", True), ("8\n", True), ("junk", False)],
)
def test_the_boards_firmware_tells_whether_it_slows_down_now(
    tmp_path: Path, firmware: str, throttled: bool
) -> None:
    path = tmp_path / "get_throttled"
    path.write_text(firmware)
    assert is_throttled(path) is throttled
    assert not is_throttled(tmp_path / "none")


def test_refused_messages_are_logged_once_a_topic_and_interval(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [0.0]
    rejects = Rejects(log_every_s=60.0, monotonic=lambda: now[0])
    for _ in range(100):
        rejects.count("a", "garbage")
    rejects.count("b", "garbage")
    assert len(caplog.records) == 2
    now[0] = 61.0
    rejects.count("a", "garbage")
    assert len(caplog.records) == 3
    assert "101 so far" in caplog.records[-1].message


def test_strange_topics_do_not_fill_the_memory() -> None:
    rejects = Rejects()
    for number in range(10_000):
        rejects.count(f"{number}\n\x00" + "x" * 500, "garbage")
    assert len(rejects.counts()) <= 65
    assert rejects.counts()[OTHERS] == 10_000 - 64
    assert max(len(topic) for topic in rejects.counts()) <= 120
    assert all(topic.isprintable() for topic in rejects.counts())
