"""The sandbox's backend: bubblewrap, and the command line that starts the runner under it.

There is one, so that a verdict does not depend on which tools a machine has.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SYSTEM_LIBRARIES = ("/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libx32")
MORE_LIBRARIES = ("/lib", "/lib32", "/lib64", "/libx32")  # links into /usr, or folders of their own
SMALL_FILES = ("/etc/ld.so.cache", "/etc/alternatives", "/usr/share/zoneinfo")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
RUNTIME = "/runtime"
INSTALL = (
    "install bubblewrap (Debian, Ubuntu: `apt install bubblewrap`; Fedora: "
    "`dnf install bubblewrap`)"
)
FIRST_USER, NUM_USERS = 60600, 500
"""Users as whom programs run if we are root: they own nothing. Several, because the kernel counts a
user's processes, and one program must not use up what another may start."""

ENVIRONMENT = {"LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Backend:
    """A way to start the runner.

    Attributes:
        name: As results tell it.
        program: Path of `bwrap`, or None for no protection at all.
        root: Whether that runs as root, and the program as a user who owns nothing.
    """

    name: str
    program: str | None = None
    root: bool = False

    def command(self, runtime_dir: Path) -> list[str]:
        """What to execute.

        Args:
            runtime_dir: Folder with the compiled runner.
        """
        if self.program is None:
            return _python(runtime_dir, {"isolated": False})
        return _bubblewrap(self.program, runtime_dir, self.root)


UNPROTECTED = Backend("none")


def installed() -> Backend | None:
    """bubblewrap, if this machine has it; whether it holds is still to be tried."""
    program = shutil.which("bwrap") if sys.platform == "linux" else None
    return Backend("bubblewrap", program, os.geteuid() == 0) if program else None


def shown() -> list[str]:
    """What of this machine's files a program can read: Python, its packages, shared libraries."""
    python = os.path.realpath(sys.executable)
    homes = [os.path.join(sys.base_prefix, name) for name in ("lib", "lib64")]
    paths = [python, *homes, *packages(), *SYSTEM_LIBRARIES, *SMALL_FILES]
    paths += [p for p in MORE_LIBRARIES if not os.path.islink(p)]
    real = sorted({os.path.realpath(p) for p in paths if os.path.exists(p)})
    return [p for p in real if not any(p.startswith(f"{other}/") for other in real)]


def packages() -> list[str]:
    """Where the packages are that a program may import, as under EvalPlus."""
    own = sysconfig.get_paths()
    paths = {own["purelib"], own["platlib"]}
    paths |= {p for p in sys.path if os.path.basename(p) in ("site-packages", "dist-packages")}
    return sorted({os.path.realpath(p) for p in paths if os.path.isdir(p)})


def links() -> dict[str, str]:
    """Links to libraries in the root."""
    return {p: os.readlink(p) for p in MORE_LIBRARIES if os.path.islink(p)}


def _python(runtime_dir: Path | str, spec: Mapping[str, Any]) -> list[str]:
    whole = json.dumps({"user": None, "packages": packages(), **spec})
    python = os.path.realpath(sys.executable)
    return [python, "-I", "-S", "-B", f"{runtime_dir}/sandbox_runner.pyc", whole]


def _user() -> int:
    return FIRST_USER + os.getpid() % NUM_USERS


def _bubblewrap(bwrap: str, runtime_dir: Path, root: bool) -> list[str]:
    """As root without a user namespace: mapped from root, a program would count as root."""
    command = [bwrap, "--unshare-net", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    command += ["--unshare-cgroup-try", "--die-with-parent", "--new-session", "--clearenv"]
    command += ["--hostname", "sandbox", "--cap-drop", "ALL"]
    if root:
        command += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        command += ["--unshare-user", "--uid", "65534", "--gid", "65534"]
    for name, value in ENVIRONMENT.items():
        command += ["--setenv", name, value]
    paths = shown()
    parents = {str(p) for path in [*paths, *DEVICES] for p in Path(path).parents} - {"/"}
    for parent in sorted(parents):  # else they are as closed as on the host
        command += ["--perms", "0755", "--dir", parent]
    for path in paths:
        command += ["--ro-bind", path, path]
    for path in DEVICES:
        command += ["--dev-bind-try", path, path]
    for place, target in links().items():
        command += ["--symlink", target, place]
    command += ["--ro-bind", str(runtime_dir), RUNTIME, "--remount-ro", "/", "--chdir", "/", "--"]
    return command + _python(RUNTIME, {"isolated": True, "user": _user() if root else None})
