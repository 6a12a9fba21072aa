"""Several machines that train one run after the other together.

The first node resolves settings, holds locks and writes. The others connect to it when the command
starts and wait: for each training they receive the run's folder and the address of torchrun's own
rendezvous, start their workers, and report how these ended. The connection also shows that a node
is gone: its end ends the workers of all others, so nobody waits in a collective for a lost rank.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alps.launch.address import Address
from alps.runs.result import RunFailed
from alps.settings.infrastructure import Trainer

RETRY_SECONDS = 0.2


class Connection:
    """Messages, one JSON object a line, to and from another node."""

    def __init__(self, connection: socket.socket):
        """Wraps a connected socket."""
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, name):  # a machine without power says no goodbye
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        connection.settimeout(10)
        self._socket, self._buffer = connection, b""
        self.lost = False

    def send(self, message: Mapping[str, Any]) -> None:
        """Sends a message; a lost connection is noticed by `poll`."""
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self.lost = True

    def poll(self, seconds: float = 0.0) -> dict[str, Any] | None:
        """The next message, or None if there is none in this time or ever (`lost`)."""
        end = time.monotonic() + seconds
        while b"\n" not in self._buffer and not self.lost:
            self._socket.settimeout(max(end - time.monotonic(), 0.001))
            try:
                data = self._socket.recv(1 << 16)
                self.lost = not data
                self._buffer += data
            except TimeoutError:
                break
            except OSError:
                self.lost = True
        self._socket.settimeout(10)
        line, separator, rest = self._buffer.partition(b"\n")
        if not separator:
            return None
        self._buffer = rest
        return json.loads(line)

    def has_stop(self) -> bool:
        """Whether workers have to end: so the other node says, or it is gone."""
        message = self.poll()
        if message and "end" in message:  # `join` reads it again
            self._buffer = json.dumps(message).encode() + b"\n" + self._buffer
        return self.lost or (message is not None and ("stop" in message or "end" in message))

    def close(self) -> None:
        """Ends the connection."""
        self._socket.close()


@dataclass
class FirstNode:
    """Connections of the first node to all others.

    Attributes:
        address: Where they met.
        others: Node rank -> connection.
        exit_code: Exit code of the command, which the others share.
        error: Sentence of the last failure, for the others.
        failure: Sentence about a node that has failed in this training, or None.
        lost: Whether a node is gone.
        working: Nodes whose workers have not ended.
    """

    address: Address
    others: Mapping[int, Connection]
    exit_code: int = 1
    error: str | None = None
    failure: str | None = None
    lost: bool = False
    working: set[int] = field(default_factory=set)

    def start(self, folder: Path, arguments: Sequence[str], devices: int) -> list[str]:
        """Tells all nodes to start workers; returns torchrun's options for this one.

        Args:
            folder: The run's folder inside of `output_dir`.
            arguments: Further arguments of the workers.
            devices: Workers on each node.
        """
        self.failure, self.working = None, set(self.others)
        with socket.create_server((self.address.host, 0), family=_family(self.address)) as free:
            port = free.getsockname()[1]
        order = {"folder": str(folder), "arguments": list(arguments), "devices": devices}
        for rank, other in self.others.items():
            other.send({**order, "torchrun": self._torchrun(rank, port)})
        return self._torchrun(0, port)

    def _torchrun(self, rank: int, port: int) -> list[str]:
        return [
            f"--nnodes={len(self.others) + 1}",
            f"--node-rank={rank}",
            f"--master-addr={self.address.host}",
            f"--master-port={port}",
        ]

    def has_failed(self) -> bool:
        """Whether workers of another node have failed, or the node is gone; see `failure`."""
        for rank in sorted(self.working):
            other = self.others[rank]
            message = other.poll()
            if message is not None and "code" in message:
                self.working.discard(rank)
                if message["code"] and self.failure is None:
                    self.failure = f"the workers of node {rank} ended with an error"
            elif other.lost:
                self.working.discard(rank)
                self.lost = True
                self.failure = f"node {rank} of {len(self.others) + 1} was lost"
        return self.failure is not None

    def stop(self) -> None:
        """Tells all nodes to end their workers."""
        for rank in self.working:
            self.others[rank].send({"stop": True})

    def wait_until_idle(self, seconds: float) -> None:
        """Waits until all nodes have reported the end of their workers."""
        end = time.monotonic() + seconds
        while self.working and time.monotonic() < end:
            self.has_failed()
            time.sleep(0.02)


@contextmanager
def first_node(trainer: Trainer, address: Address) -> Iterator[FirstNode]:
    """Waits for all other nodes; tells them at the end whether the command succeeded.

    Raises:
        ValueError: If they do not come, or the address cannot be used; one sentence.
    """
    end = time.monotonic() + trainer.rendezvous_seconds
    others: dict[int, Connection] = {}
    with _listen(address, end) as listener:
        while len(others) < trainer.num_nodes - 1:
            listener.settimeout(max(end - time.monotonic(), 0.001))
            try:
                connection = Connection(listener.accept()[0])
            except TimeoutError:
                missing = sorted({*range(1, trainer.num_nodes)} - others.keys())
                raise ValueError(
                    f"node {', '.join(map(str, missing))} of {trainer.num_nodes} did not come to "
                    f"{address} in {trainer.rendezvous_seconds} s (trainer.rendezvous_seconds)"
                ) from None
            hello = connection.poll(5) or {}
            rank = hello.get("node_rank")
            if hello.get("num_nodes") == trainer.num_nodes and rank not in (0, None, *others):
                others[rank] = connection
                connection.send({"welcome": True})
            else:
                connection.send({"refused": f"node rank {rank} is taken, or num_nodes differs"})
                connection.close()
    nodes = FirstNode(address, dict(sorted(others.items())))
    try:
        yield nodes
    finally:
        for other in others.values():
            other.send({"end": nodes.exit_code, "error": nodes.error})
            other.close()


def join(
    trainer: Trainer, address: Address, work: Callable[[Mapping[str, Any], Connection], int]
) -> int:
    """Waits for the first node's orders until its command ends; returns the exit code.

    Args:
        trainer: Settings of the nodes.
        address: Where the first node listens.
        work: Runs the workers of an order; returns their exit code.

    Raises:
        ValueError: If the first node does not answer; one sentence.
        RunFailed: If it is lost later, or with the failure of the first node's command.
    """
    connection = _connect(trainer, address)
    while not connection.lost:
        message = connection.poll(60)
        if message and "end" in message:
            if message["end"] and message["error"]:
                raise RunFailed(message["error"])
            return int(message["end"])
        if message and "folder" in message:
            code = work(message, connection)
            connection.send({"code": code})
    raise RunFailed(f"the first node ({address}) was lost")


def _connect(trainer: Trainer, address: Address) -> Connection:
    end = time.monotonic() + trainer.rendezvous_seconds
    problem = "it does not answer"
    while time.monotonic() < end:
        try:
            timeout = max(end - time.monotonic(), 0.001)
            connection = Connection(socket.create_connection((address.host, address.port), timeout))
            connection.send({"node_rank": address.node_rank, "num_nodes": trainer.num_nodes})
            answer = connection.poll(max(end - time.monotonic(), 0.001))
            if answer and "welcome" in answer:
                return connection
            if answer and "refused" in answer:
                raise ValueError(f"the first node ({address}) refused: {answer['refused']}")
            connection.close()
        except socket.gaierror as error:
            problem = f"its name does not resolve ({error.strerror})"
        except OSError as error:
            problem = f"it does not answer ({error.strerror or error})"
        time.sleep(RETRY_SECONDS)
    raise ValueError(
        f"the first node ({address}) was not reached in {trainer.rendezvous_seconds} s "
        f"(trainer.rendezvous_seconds): {problem}"
    )


def _listen(address: Address, end: float) -> socket.socket:
    while True:
        try:
            family = _family(address)
            return socket.create_server((address.host, address.port), family=family)
        except socket.gaierror as error:
            problem = f"the name {address.host} does not resolve ({error.strerror})"
        except OSError as error:
            raise ValueError(
                f"trainer.rendezvous={address} cannot be used on the first node: {error.strerror}"
            ) from None
        if time.monotonic() > end:
            raise ValueError(f"trainer.rendezvous={address}: {problem}")
        time.sleep(RETRY_SECONDS)


def _family(address: Address) -> socket.AddressFamily:
    return socket.getaddrinfo(address.host, None, type=socket.SOCK_STREAM)[0][0]
