"""A logger's work on a thread of its own: neither its errors nor its waits reach the training."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import Empty, Full, Queue
from time import monotonic
from typing import Any

log = logging.getLogger(__name__)

CAPACITY = 10_000
"""Actions that may wait; those of later steps are left out."""

PATIENCE = 60.0
"""Longest wait in seconds for the remaining actions at the end of a training."""


class Background:
    """Performs actions in order; `submit` returns at once, whatever the logger does.

    The first error is reported and ends the logging; final actions run nevertheless.

    Attributes:
        broken: Whether an action failed.
        num_dropped: Actions that were left out because too many were waiting.
    """

    def __init__(self, name: str, capacity: int = CAPACITY, patience: float = PATIENCE):
        """Starts the thread.

        Args:
            name: Name of the logger, for messages.
            capacity: Actions that may wait.
            patience: Longest wait of `close` in seconds.
        """
        self.name, self.patience = name, patience
        self.broken, self.num_dropped = False, 0
        self._queue: Queue[tuple[Callable[[], Any], bool]] = Queue(capacity)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"logger {name}", daemon=True)
        self._thread.start()

    def submit(self, action: Callable[[], Any]) -> None:
        """Has an action performed later, unless an earlier one failed."""
        if self.broken:
            return
        try:
            self._queue.put_nowait((action, False))
        except Full:
            if not self.num_dropped:
                log.warning("%s logging is too slow: steps are left out", _title(self.name))
            self.num_dropped += 1

    def close(self, action: Callable[[], Any]) -> bool:
        """Waits for all actions and a final one, which runs even after an error.

        Returns:
            Whether everything was logged.
        """
        end = monotonic() + self.patience
        try:
            self._queue.put((action, True), timeout=self.patience)
        except Full:
            self.num_dropped += 1
        self._closing.set()
        self._thread.join(max(0.0, end - monotonic()))
        if self._thread.is_alive():
            log.warning(
                "%s logging did not end within %.0f s; it goes on in the background, and files are "
                "complete", _title(self.name), self.patience,
            )  # fmt: skip
            return False
        return not self.broken and not self.num_dropped

    def _work(self) -> None:
        while True:
            try:
                action, final = self._queue.get(timeout=0.2)
            except Empty:
                if self._closing.is_set():
                    return
                continue
            if not self.broken or final:
                try:
                    action()
                except BaseException as error:  # no logger may stop the training, nor exit
                    if not self.broken:
                        more = "; `alps sync` adds what is missing" if self.name == "wandb" else ""
                        says = isinstance(error, Exception) and str(error)  # not an exit's code
                        text = says or type(error).__name__
                        log.warning("%s logging stopped: %s%s", _title(self.name), text, more)
                    self.broken = True
            if final:
                return


def _title(name: str) -> str:
    return {"wandb": "W&B", "tensorboard": "TensorBoard"}.get(name, name)
