"""Other programs and slow calls, with a limit of time."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from typing import Any


class CommandFailed(Exception):
    """A program is not installed, fails or does not answer; the message says which."""


def output_of(command: Sequence[str], seconds: float = 10.0) -> str:
    """What a program prints.

    Raises:
        CommandFailed: One phrase.
    """
    name = command[0]
    if shutil.which(name) is None:
        raise CommandFailed(f"{name} is not installed")
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"{name} does not answer within {seconds:g} s") from None
    except OSError as error:
        raise CommandFailed(f"{name} does not start: {error.strerror}") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).partition("\n")[0][:200]
        raise CommandFailed(f"{name} fails: {said or f'exit code {done.returncode}'}")
    return done.stdout


def within(seconds: float, call: Callable[[], Any]) -> Any:
    """Result of a call that may hang where no timeout reaches, as looking up a name does.

    Raises:
        TimeoutError: If it takes longer; its thread is abandoned.
        Exception: That of the call.
    """
    results: list[Any] = []
    errors: list[Exception] = []

    def work() -> None:
        try:
            results.append(call())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return results[0]
