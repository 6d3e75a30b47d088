"""Runs a command within the limits of its unit that a process can set for itself.

`python sandbox.py UNIT COMMAND...` applies NoNewPrivileges=, UMask=, MemoryDenyWriteExecute= and
SystemCallFilter= as the unit file states them, and becomes the command. What only systemd can do
(namespaces, groups, cgroups) is left out, and so is what this kernel or this machine's libraries do
not know. A system call that a program needs and its unit forbids fails here as it would there.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.systemd.units import Unit, read_unit

PR_SET_NO_NEW_PRIVS, PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 38, 65, 1
LIBRARY = "libseccomp.so.2"
SCMP_ACT_ALLOW, SCMP_ACT_EPERM = 0x7FFF_0000, 0x0005_0001


def calls_of(group: str) -> set[str]:
    """The system calls of a group such as `@system-service`, by systemd's own list."""
    done = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager", group],
        capture_output=True,
        text=True,
        check=True,
    )
    found: set[str] = set()
    for line in done.stdout.splitlines()[1:]:
        name = line.partition("#")[0].strip()
        found |= calls_of(name) if name.startswith("@") else {name} - {""}
    return found


def allowed_calls(unit: Unit) -> set[str]:
    """What SystemCallFilter= leaves; `@default` is always allowed."""
    allowed = always = calls_of("@default")
    for value in unit.all("Service", "SystemCallFilter"):
        for group in value.removeprefix("~").split():
            if value.startswith("~"):
                allowed = allowed - calls_of(group)
            else:
                allowed = allowed | calls_of(group)
    return allowed | always


def can_filter() -> bool:
    """Whether systemd's lists and the library that applies them are on this machine."""
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    return shutil.which("systemd-analyze") is not None


def filter_calls(allowed: set[str]) -> None:
    """Let every other system call of this process and its children fail with EPERM."""
    library = ctypes.CDLL(LIBRARY)
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(SCMP_ACT_EPERM))
    for name in allowed:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # the others belong to other machines
            library.seccomp_rule_add(context, SCMP_ACT_ALLOW, number, 0)
    if library.seccomp_load(context) != 0:
        raise OSError(f"the kernel does not take the filter of {len(allowed)} system calls")


def enter(unit: Unit) -> None:
    """Take on the unit's limits."""
    libc = ctypes.CDLL(None)
    os.umask(int(unit.one("Service", "UMask"), 8))
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if unit.one("Service", "MemoryDenyWriteExecute") == "yes":
        libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)
    if can_filter():
        filter_calls(allowed_calls(unit))


if __name__ == "__main__":
    enter(read_unit(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - the tests' own command
