"""The host is told by what it is, in words that are the same in every process and bounded."""

from __future__ import annotations

import platform
import socket
from pathlib import Path

from converter.host import describe_host


def test_it_is_the_same_twice_and_names_no_machine() -> None:
    told = describe_host()
    assert told == describe_host()
    assert told.startswith(platform.machine())
    assert "CPU" in told
    assert socket.gethostname() not in told


def test_a_board_goes_before_a_processor(tmp_path: Path) -> None:
    board, cpuinfo = tmp_path / "model", tmp_path / "cpuinfo"
    board.write_bytes(b"Raspberry Pi 5 Model B Rev 1.0\0")
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Some CPU @ 2.20GHz\n")
    assert ", Raspberry Pi 5 Model B Rev 1.0, " in describe_host(board, cpuinfo)
    assert ", Some CPU @ 2.20GHz, " in describe_host(tmp_path / "none", cpuinfo)


def test_a_host_that_tells_nothing_is_still_told(tmp_path: Path) -> None:
    told = describe_host(tmp_path / "none", tmp_path / "neither")
    assert told.startswith(f"{platform.machine()}, ")


def test_what_the_kernel_says_is_bounded_and_printable(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_bytes(b"model name: \x1b[31mred\xff" + b"x" * (1 << 20))
    told = describe_host(tmp_path / "none", cpuinfo)
    assert len(told) <= 200
    assert told.isprintable()
