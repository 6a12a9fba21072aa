"""Isolation from inside: privileges, limits and system calls dropped before an untrusted program.

bubblewrap has set up the namespaces and the root folder. Linux only, and standard library only: no
other module of the package is visible inside.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress

PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 24, 38, 22
CAPABILITY_VERSION_3 = 0x20080522
MAX_OPEN_FILES = 64
MAX_PROCESSES = 64  # threads count, too

# System calls that a computation never needs. On machines whose numbers are not listed, protection
# rests on namespaces, dropped privileges and limits alone.
DENIED_CALLS: dict[str, tuple[int, Sequence[int]]] = {
    # machine: (AUDIT_ARCH, numbers)
    "x86_64": (0xC000003E, (
        29, 30, 31, 64, 65, 66, 68, 69, 70, 71,  # System V memory, semaphores, messages
        41, 42, 43, 49, 50,  # socket, connect, accept, bind, listen
        57, 58, 59, 322,  # fork, vfork, execve, execveat
        101, 155, 161, 165, 166, 167, 169, 175, 176, 246, 248, 249, 250, 272, 298, 303, 304, 308,
        310, 311, 313, 319, 320, 321, 323, 425, 426, 427, 428, 429, 430, 431, 432, 433, 434, 438,
        442, 447,
    )),
    "aarch64": (0xC00000B7, (
        186, 187, 188, 189, 190, 191, 192, 193, 194, 195, 196, 197,
        198, 200, 201, 202, 203, 242,
        221, 281,
        39, 40, 41, 51, 97, 104, 105, 106, 117, 142, 217, 218, 219, 224, 225, 241, 264, 265, 268,
        270, 271, 273, 279, 280, 282, 294, 425, 426, 427, 428, 429, 430, 431, 432, 433, 434, 438,
        442, 447,
    )),
}  # fmt: skip
CLONE = {"x86_64": 56, "aarch64": 220}
CLONE3 = 435
CLONE_THREAD = 0x10000
EPERM, ENOSYS = 1, 38


def drop_privileges(user: int | None) -> None:
    """Drops all capabilities, and root.

    Args:
        user: Id of a user who owns nothing, to switch to; None keeps the current user.

    Raises:
        OSError: If the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    number = 0
    while libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0) == 0:
        number += 1
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    header, no_capabilities = struct.pack("Ii", CAPABILITY_VERSION_3, 0), bytes(24)
    _check(libc.capset(header, no_capabilities), "capset")
    _check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def set_resource_limits(memory: int | None, seconds: float) -> None:
    """Sets resource limits of this process and its children; they cannot be raised again.

    Args:
        memory: Bytes of address space per process, or None.
        seconds: CPU time per process.
    """
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: MAX_OPEN_FILES,
        resource.RLIMIT_CPU: int(seconds) + 1,
    }
    if hasattr(resource, "RLIMIT_NPROC"):
        limits[resource.RLIMIT_NPROC] = MAX_PROCESSES
    if memory is not None:
        for name in ("RLIMIT_AS", "RLIMIT_DATA", "RLIMIT_STACK"):
            limits[getattr(resource, name)] = memory
    for which, limit in limits.items():
        _, hard = resource.getrlimit(which)
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        with suppress(ValueError, OSError):  # macOS has no memory limit
            resource.setrlimit(which, (limit, limit))


def install_syscall_filter() -> bool:
    """Installs a seccomp filter that denies new processes, sockets and the like.

    Threads are allowed. Call `drop_privileges` first.

    Returns:
        Whether it is active; False where the call numbers of the machine are not known.
    """
    machine = os.uname().machine
    if sys.platform != "linux" or machine not in DENIED_CALLS or sys.maxsize < 2**32:
        return False
    architecture, numbers = DENIED_CALLS[machine]
    allow, deny, absent = 0x7FFF0000, 0x00050000 | EPERM, 0x00050000 | ENOSYS
    kill, load, equal, at_least, bits, ret = 0x80000000, 0x20, 0x15, 0x35, 0x45, 0x06
    program = [(load, 0, 0, 4), (equal, 1, 0, architecture), (ret, 0, 0, kill), (load, 0, 0, 0)]
    if machine == "x86_64":  # call numbers of the x32 ABI
        program += [(at_least, 0, 1, 0x40000000), (ret, 0, 0, deny)]
    program += [(equal, 0, 1, CLONE3), (ret, 0, 0, absent)]  # its flags are in memory, out of reach
    program += [(equal, 0, 4, CLONE[machine]), (load, 0, 0, 16), (bits, 0, 1, CLONE_THREAD)]
    program += [(ret, 0, 0, allow), (ret, 0, 0, deny)]
    for number in numbers:
        program += [(equal, 0, 1, number), (ret, 0, 0, deny)]
    program += [(ret, 0, 0, allow)]
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    head = struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return libc.prctl(PR_SET_SECCOMP, 2, head, 0, 0) == 0


def _check(result: int, call: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
