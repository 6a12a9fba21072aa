"""Python processes that start at once: a server imports the heavy packages, then forks.

`python preloaded.py SOCKET` serves `Preloaded.start`. A process it starts is like one of its own
(folder, environment, output, signals, exit code), but for variables that a package reads when it is
imported: a test that sets such a one starts a process itself. Who can only name an interpreter, as
torchrun for its ranks, names `Preloaded.interpreter`.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

HEAVY = (
    "torch", "pytorch_lightning", "transformers", "datasets", "peft", "scipy.stats", "rich.table",
    "matplotlib.figure", "hydra", "lm_eval.evaluator", "lm_eval.models.huggingface",
    "transformers.models.llama.modeling_llama", "scipy.io", "datasets.io.generator", "jaxtyping",
)  # fmt: skip
"""None of them is the project's own: a test process imports that anew."""


class Process:
    """What the tests need of `subprocess.Popen`."""

    def __init__(self, connection: socket.socket, output: IO[str], errors: IO[str] | None):
        self._connection, self._output, self._errors = connection, output, errors
        self._answers = connection.makefile("r")
        self.pid = int(self._answers.readline())
        self.returncode: int | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        self.returncode = int(self._answers.readline() or -signal.SIGKILL)
        self._connection.close()
        self._ended.set()

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired("a preloaded process", timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Standard output and errors; joined in the first where they were joined at the start."""
        self.wait(timeout)
        texts = []
        for file in (self._output, self._errors):
            if file is not None:
                file.seek(0)
            texts.append(file.read() if file is not None else "")
        return texts[0], texts[1]


class Preloaded:
    """The server of a test session, started when it is first asked."""

    def __init__(self, folder: Path):
        self._path = str(folder / "preloaded")
        self._server: subprocess.Popen[bytes] | None = None

    def start(
        self,
        *arguments: str,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        joined: bool = False,
    ) -> Process:
        """Starts `python ARGUMENTS`: `-m MODULE ...`, `-c CODE ...` or a file and its arguments.

        Args:
            arguments: As Python's.
            cwd: Working folder.
            env: Whole environment, by default this process's.
            joined: Whether errors go where the output goes.
        """
        connection = self._connect()
        output = tempfile.TemporaryFile("w+")  # noqa: SIM115 - the process keeps it
        errors = None if joined else tempfile.TemporaryFile("w+")  # noqa: SIM115
        request = {"arguments": arguments, "cwd": str(cwd), "env": dict(env or os.environ)}
        descriptors = [output.fileno(), (errors or output).fileno()]
        socket.send_fds(connection, [(json.dumps(request) + "\n").encode()], descriptors)
        return Process(connection, output, errors)

    def run(self, *arguments: str, timeout: float = 240, **options: Any) -> Any:
        """As `subprocess.run` with captured text."""
        process = self.start(*arguments, **options)
        try:
            out, err = process.communicate(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert process.returncode is not None
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def interpreter(self) -> Path:
        """A program that is started like Python and has the server start the process.

        It lives as long as that process, forwards signals to it and ends as it does. If it is
        killed, the parent of the process ends: who wants to die with its parent does.
        """
        self._connect().close()
        path = Path(f"{self._path}-python")
        path.write_text(
            f"#!{sys.executable} -IS\nimport sys\nsys.path.append({str(Path(__file__).parent)!r})\n"
            f"from preloaded import stand_in\nstand_in({self._path!r})\n"
        )
        path.chmod(0o755)
        return path

    def _connect(self) -> socket.socket:
        if self._server is None:
            self._server = subprocess.Popen([sys.executable, __file__, self._path])
        connection = socket.socket(socket.AF_UNIX)
        for _ in range(3000):
            try:
                connection.connect(self._path)
                return connection
            except OSError:
                assert self._server.poll() is None, "the server of preloaded processes has died"
                time.sleep(0.05)
        raise TimeoutError("the server of preloaded processes does not answer")

    def stop(self) -> None:
        """Ends the server."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()


def stand_in(path: str) -> None:
    """Has the server at `path` start a process with this one's arguments, and lives as it does."""
    with contextlib.suppress(OSError, AttributeError):  # not Linux
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    request = {"arguments": sys.argv[1:], "cwd": os.getcwd(), "env": dict(os.environ)}
    socket.send_fds(connection, [(json.dumps(request) + "\n").encode()], [1, 2])
    answers = connection.makefile("r")
    pid = int(answers.readline())

    def forward(number: int, _: Any) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, forward)
    code = int(answers.readline() or -signal.SIGKILL)
    if code < 0:
        with contextlib.suppress(OSError):  # of SIGKILL and SIGSTOP
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def serve(path: str) -> None:
    """Forks a process for each connection; the children return from here with their arguments."""
    for module in HEAVY:
        __import__(module)
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    get_checkpoint_conversion_mapping("llama")  # compiles a thousand expressions, once a process
    gc.collect()
    gc.freeze()  # the processes do not collect what is loaded here
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    while True:
        connection, _ = listener.accept()
        data, descriptors, _, _ = socket.recv_fds(connection, 1 << 16, 2)
        while data and not data.endswith(b"\n"):
            data += connection.recv(1 << 16)
        if not data:  # somebody only asked whether the server is there
            connection.close()
            continue
        pid = os.fork()
        if pid == 0:
            listener.close()
            watch(connection, descriptors, json.loads(data))
            return
        connection.close()
        for descriptor in descriptors:
            os.close(descriptor)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def watch(
    connection: socket.socket, descriptors: Sequence[int], request: Mapping[str, Any]
) -> None:
    """Forks once more: this process reports the number and the end of the other, which returns.

    It ends with who asked.
    """
    pid = os.fork()
    if pid:
        connection.sendall(f"{pid}\n".encode())
        threading.Thread(target=lambda: connection.recv(1) or os._exit(0), daemon=True).start()
        _, status = os.waitpid(pid, 0)
        with contextlib.suppress(OSError):
            connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
        os._exit(0)
    connection.close()
    for number, descriptor in enumerate(descriptors, 1):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = ["", *request["arguments"]]


def become() -> None:
    """What Python does with its arguments."""
    option, *rest = sys.argv[1:]
    sys.path[0] = ""
    if option == "-u":
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(write_through=True)
        option, *rest = rest
    if option == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif option == "-c":
        code, *arguments = rest
        sys.argv = ["-c", *arguments]
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = [option, *rest]
        runpy.run_path(option, run_name="__main__")


if __name__ == "__main__":
    serve(sys.argv[1])
    become()
