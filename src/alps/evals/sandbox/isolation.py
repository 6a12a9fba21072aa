"""Isolation from inside: what a process gives up before it runs a program it does not trust.

bubblewrap has made namespaces and a root of their own before. Linux only, and nothing but the
standard library: no other module of the package can be seen from inside.
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
CAPABILITIES_3 = 0x20080522
MOST_FILES = 64
MOST_PROCESSES = 64  # threads count, too

# Calls that a program which computes something never makes. Where the numbers are not known, the
# namespaces, the missing rights and the limits stand alone.
REFUSED: dict[str, tuple[int, Sequence[int]]] = {
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


def give_up_rights(user: int | None) -> None:
    """Gives up every capability, and root.

    Args:
        user: To become, of those who own nothing; None keeps the one there is.

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
    header, nothing = struct.pack("Ii", CAPABILITIES_3, 0), bytes(24)
    _done(libc.capset(header, nothing), "capset")
    _done(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def limit(memory: int | None, seconds: float) -> None:
    """Limits this process and its children for good.

    Args:
        memory: Bytes of address space of each, or None.
        seconds: Of the processor.
    """
    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: MOST_FILES,
        resource.RLIMIT_CPU: int(seconds) + 1,
    }
    if hasattr(resource, "RLIMIT_NPROC"):
        wanted[resource.RLIMIT_NPROC] = MOST_PROCESSES
    if memory is not None:
        for name in ("RLIMIT_AS", "RLIMIT_DATA", "RLIMIT_STACK"):
            wanted[getattr(resource, name)] = memory
    for which, most in wanted.items():
        _, hard = resource.getrlimit(which)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with suppress(ValueError, OSError):  # macOS knows no limit of memory
            resource.setrlimit(which, (most, most))


def refuse_calls() -> bool:
    """Has the kernel refuse new processes, sockets and the like; False where it can't be told how.

    Threads remain. Needs `give_up_rights` before.
    """
    machine = os.uname().machine
    if sys.platform != "linux" or machine not in REFUSED or sys.maxsize < 2**32:
        return False
    architecture, numbers = REFUSED[machine]
    allow, refuse, absent = 0x7FFF0000, 0x00050000 | EPERM, 0x00050000 | ENOSYS
    kill, load, equal, at_least, bits, answer = 0x80000000, 0x20, 0x15, 0x35, 0x45, 0x06
    program = [(load, 0, 0, 4), (equal, 1, 0, architecture), (answer, 0, 0, kill), (load, 0, 0, 0)]
    if machine == "x86_64":  # numbers of the x32 interface
        program += [(at_least, 0, 1, 0x40000000), (answer, 0, 0, refuse)]
    program += [(equal, 0, 1, CLONE3), (answer, 0, 0, absent)]  # its flags lie where no filter sees
    program += [(equal, 0, 4, CLONE[machine]), (load, 0, 0, 16), (bits, 0, 1, CLONE_THREAD)]
    program += [(answer, 0, 0, allow), (answer, 0, 0, refuse)]
    for number in numbers:
        program += [(equal, 0, 1, number), (answer, 0, 0, refuse)]
    program += [(answer, 0, 0, allow)]
    code = b"".join(struct.pack("HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    head = struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return libc.prctl(PR_SET_SECCOMP, 2, head, 0, 0) == 0


def _done(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
