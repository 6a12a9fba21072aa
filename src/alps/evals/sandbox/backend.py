"""The sandbox backend: bubblewrap, and the command that starts the runner in it.

There is only one, so that a verdict does not depend on the tools of a machine.
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
ROOT_LIBRARIES = ("/lib", "/lib32", "/lib64", "/libx32")  # links into /usr, or folders of their own
SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/alternatives", "/usr/share/zoneinfo")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
RUNTIME = "/runtime"
INSTALL = (
    "install bubblewrap (Debian, Ubuntu: `apt install bubblewrap`; Fedora: "
    "`dnf install bubblewrap`)"
)
FIRST_USER, NUM_USERS = 60600, 500
"""User ids for programs if the caller is root: they own nothing. Several, because the kernel counts
processes per user, and one program must not use up the processes of another."""

ENVIRONMENT = {"LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Backend:
    """A way to start the runner.

    Attributes:
        name: As recorded in results.
        program: Path of `bwrap`, or None for no protection.
        root: Whether `bwrap` runs as root; the program then runs as a user who owns nothing.
    """

    name: str
    program: str | None = None
    root: bool = False

    def command(self, runtime_dir: Path) -> list[str]:
        """Command line of the runner.

        Args:
            runtime_dir: Folder with the compiled runner.
        """
        if self.program is None:
            return _python(runtime_dir, {"isolated": False})
        return _bubblewrap(self.program, runtime_dir, self.root)


UNPROTECTED = Backend("none")


def installed_backend() -> Backend | None:
    """bubblewrap, if it is installed; whether it isolates is not checked here."""
    program = shutil.which("bwrap") if sys.platform == "linux" else None
    return Backend("bubblewrap", program, os.geteuid() == 0) if program else None


def readable_paths() -> list[str]:
    """Host paths that a program can read: Python, its packages, shared libraries."""
    python = os.path.realpath(sys.executable)
    homes = [os.path.join(sys.base_prefix, name) for name in ("lib", "lib64")]
    paths = [python, *homes, *package_dirs(), *SYSTEM_LIBRARIES, *SYSTEM_FILES]
    paths += [p for p in ROOT_LIBRARIES if not os.path.islink(p)]
    real = sorted({os.path.realpath(p) for p in paths if os.path.exists(p)})
    return [p for p in real if not any(p.startswith(f"{other}/") for other in real)]


def package_dirs() -> list[str]:
    """Folders of the packages that a program can import, as under EvalPlus."""
    own = sysconfig.get_paths()
    paths = {own["purelib"], own["platlib"]}
    paths |= {p for p in sys.path if os.path.basename(p) in ("site-packages", "dist-packages")}
    return sorted({os.path.realpath(p) for p in paths if os.path.isdir(p)})


def library_links() -> dict[str, str]:
    """Symbolic links to libraries in the root folder, with their targets."""
    return {p: os.readlink(p) for p in ROOT_LIBRARIES if os.path.islink(p)}


def _python(runtime_dir: Path | str, options: Mapping[str, Any]) -> list[str]:
    spec = json.dumps({"user": None, "packages": package_dirs(), **options})
    python = os.path.realpath(sys.executable)
    return [python, "-I", "-S", "-B", f"{runtime_dir}/sandbox_runner.pyc", spec]


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
    paths = readable_paths()
    parents = {str(p) for path in [*paths, *DEVICES] for p in Path(path).parents} - {"/"}
    for parent in sorted(parents):  # explicit, or they get the permissions of the host
        command += ["--perms", "0755", "--dir", parent]
    for path in paths:
        command += ["--ro-bind", path, path]
    for path in DEVICES:
        command += ["--dev-bind-try", path, path]
    for path, target in library_links().items():
        command += ["--symlink", target, path]
    command += ["--ro-bind", str(runtime_dir), RUNTIME, "--remount-ro", "/", "--chdir", "/", "--"]
    return command + _python(RUNTIME, {"isolated": True, "user": _user() if root else None})
