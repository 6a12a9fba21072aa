"""A headless chromium, driven through its debugging pipe."""

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

LAUNCH = """
import fcntl, os, sys
reads, writes = (fcntl.fcntl(int(fd), fcntl.F_DUPFD, 5) for fd in sys.argv[1:3])
os.dup2(reads, 3), os.dup2(writes, 4)  # where a browser looks for its debugging pipe
os.execv(sys.argv[3], sys.argv[3:])
"""


class Tab:
    """A page in a headless browser, driven through its debugging pipe."""

    def __init__(self, requests: int, answers: int):
        self.requests, self.answers = requests, os.fdopen(answers, "rb")
        self.session, self.sent = {}, 0
        self.events: list[dict[str, Any]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.session = {"sessionId": session}
        for domain in ("Network", "Runtime", "Log", "Page"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        self.sent += 1
        message = {"id": self.sent, "method": method, "params": params, **self.session}
        os.write(self.requests, json.dumps(message).encode() + b"\0")
        while (answer := self.next()).get("id") != self.sent:
            self.events.append(answer)
        assert "result" in answer, answer
        return answer["result"]

    def next(self) -> dict[str, Any]:
        text = bytearray()
        while (byte := self.answers.read(1)) != b"\0":
            assert byte, "the browser is gone"
            text += byte
        return json.loads(text)

    def wait_for(self, expression: str) -> Any:
        """The expression's value once it is true; a page that is only beginning may lack all."""
        wanted = {"awaitPromise": True, "returnByValue": True}
        end = time.monotonic() + 60
        while True:
            found = self.ask("Runtime.evaluate", expression=expression, **wanted)
            if "exceptionDetails" not in found and (value := found["result"].get("value")):
                return value
            assert time.monotonic() < end, (expression, found)
            time.sleep(0.05)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression, or of the promise that it is."""
        wanted = {"awaitPromise": True, "returnByValue": True}
        found = self.ask("Runtime.evaluate", expression=expression, **wanted)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def open(self, address: str, width: int = 1280, height: int = 800, dark: bool = False) -> None:
        """Opens a page in a window of that size and theme."""
        self.resize(width, height)
        theme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.ask("Emulation.setEmulatedMedia", features=theme)
        self.ask("Page.navigate", url=address)

    def resize(self, width: int, height: int) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", **size)

    def move(self, x: float, y: float) -> None:
        """Moves the mouse, as plotly needs it for its hover texts."""
        for step in (3, 0):
            self.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x + step, y=y + step)

    def mouse(self, kind: str, x: float, y: float) -> None:
        """An event of the left button."""
        press = {"button": "left", "clickCount": 1, "buttons": int(kind != "mouseReleased")}
        self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, **press)

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
            code = {"ArrowDown": 40, "ArrowUp": 38, "Enter": 13, " ": 32}.get(key, 0)
            press = {"key": key, "windowsVirtualKeyCode": code, **text}
            self.ask("Input.dispatchKeyEvent", type=kind, **press)

    def screenshot(self, path: Path) -> None:
        """The visible part of the page as PNG."""
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot")["data"]))

    def errors(self) -> list[dict[str, Any]]:
        """Exceptions, and errors of the console and of the network."""
        found = self.params_of("Runtime.exceptionThrown")
        found += [e for e in self.params_of("Log.entryAdded") if e["entry"]["level"] == "error"]
        return found + [
            e for e in self.params_of("Runtime.consoleAPICalled") if e["type"] == "error"
        ]

    def requested(self) -> list[str]:
        """Addresses that were asked for."""
        return [e["request"]["url"] for e in self.params_of("Network.requestWillBeSent")]

    def params_of(self, method: str) -> list[dict[str, Any]]:
        return [e["params"] for e in self.events if e.get("method") == method]


@contextmanager
def browser(folder: Path) -> Iterator[Tab]:
    """A tab of a browser whose profile is in the folder; skips a test where none is installed."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f"none of {', '.join(names)} is installed")
    (from_us, to_it), (from_it, to_us) = os.pipe(), os.pipe()
    flags = [
        "--headless", "--no-sandbox", "--remote-debugging-pipe", "--disable-dev-shm-usage",
        "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
        f"--user-data-dir={folder / 'profile'}",
    ]  # fmt: skip
    command = [sys.executable, "-c", LAUNCH, str(from_us), str(to_us), program, *flags]
    process = subprocess.Popen(
        command, pass_fds=(from_us, to_us), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    os.close(from_us), os.close(to_us)
    try:
        yield Tab(to_it, from_it)
    finally:
        process.kill()
        process.wait()
        os.close(to_it)
