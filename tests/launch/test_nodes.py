"""Several nodes: two command lines on this machine, with own folders and one output_dir."""

import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from alps.launch.address import Address, find_address, first_host
from alps.launch.nodes import first_node, join
from alps.runs.folder import RunFolder
from alps.runs.result import RunFailed
from alps.settings.infrastructure import Trainer

SMALL = ("model=tiny", "evals=none", "trainer.progress=off", "trainer.accelerator=cpu")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def two_nodes(preloaded, preloaded_ranks, tmp_path):
    """Starts the same command on two nodes."""
    started = []

    def start(*settings: str):
        for rank in (0, 1):
            folder = tmp_path / f"node{rank}"
            folder.mkdir()
            process = preloaded.start(
                "-m", "alps.cli", "train", *SMALL, *settings, "trainer.num_nodes=2",
                f"trainer.rendezvous=127.0.0.1:{port}", "trainer.rendezvous_seconds=120",
                f"output_dir={tmp_path}/outputs",
                cwd=folder, env={**os.environ, "NODE_RANK": str(rank)}, joined=True,
            )  # fmt: skip
            started.append(process)
        return started

    port = free_port()
    yield start
    for process in started:
        if process.poll() is None:
            process.kill()


def wait_for(condition, seconds: float = 120):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def ranks(folder: Path) -> dict[int, int]:
    """Node -> process of its worker, of those on this folder's runs."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command = (place / "cmdline").read_bytes().split(b"\0")
            variables = (place / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(folder).encode() in b" ".join(command) and b"alps.launch.worker" in command:
            node = next((v for v in variables if v.startswith(b"GROUP_RANK=")), None)
            if node:
                found[int(node.split(b"=")[1])] = int(place.name)
    return found


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_nodes_end_where_one_rank_does(two_nodes, alps, tmp_path, strategy):
    settings = ("method=random", "data.max_examples=17", "optim.lr=0.01", "optim.precision=32",
                f"trainer.strategy={strategy}", "trainer.micro_batch_size=2")  # fmt: skip
    nodes = two_nodes(*settings)
    alps("train", *SMALL, *settings, "output_dir=one", check=0)
    ends = [(node.wait(240), node.communicate()[0]) for node in nodes]
    assert [code for code, _ in ends] == [0, 0], ends
    (two,), (one,) = (sorted((tmp_path / n / "runs").iterdir()) for n in ("outputs", "one"))
    assert two.name == one.name
    a, b = (load_file(RunFolder(folder).weights_path) for folder in (one, two))
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(b[name], a[name], rtol=0, atol=1e-4)
    assert RunFolder(two).read_run().trainer.num_nodes == 2
    assert "random" in ends[0][1] and "files: " not in ends[1][1]  # only the first one tells
    assert list((tmp_path / "node1").rglob("*")) == []


LONG = ("method=full", "data.max_examples=24", "optim.epochs=100000")


@pytest.mark.parametrize("end", ["rank 0", "rank 1", "first node", "second node"])
def test_whoever_dies_all_end_with_its_error(two_nodes, tmp_path, end):
    nodes, runs = two_nodes(*LONG), tmp_path / "outputs" / "runs"
    wait_for(lambda: [p for p in runs.glob("*/metrics.csv") if p.stat().st_size > 500])
    workers = ranks(runs)
    assert set(workers) == {0, 1}
    victims = {"first node": nodes[0].pid, "second node": nodes[1].pid}
    victims |= {f"rank {rank}": pid for rank, pid in workers.items()}
    os.kill(victims[end], signal.SIGKILL)
    codes = [node.wait(90) for node in nodes]
    said = [node.communicate()[0] for node in nodes]
    wait_for(lambda: not ranks(runs), 45)
    (folder,) = runs.iterdir()
    if end.startswith("rank"):
        assert codes == [1, 1]
        assert RunFolder(folder).status()["reason"] == f"{end} was killed (SIGKILL)"
        assert all(f"{end} was killed (SIGKILL)" in text for text in said)
    elif end == "second node":
        assert codes == [1, -signal.SIGKILL] and "node 1 of 2 was lost" in said[0]
        assert RunFolder(folder).status()["reason"] == "node 1 of 2 was lost"
    else:
        assert codes == [-signal.SIGKILL, 1] and "error: the first node (127.0.0.1:" in said[1]
        assert RunFolder(folder).status()["state"] == "stopped"


def trainer(**settings) -> Trainer:
    return Trainer(num_nodes=2, **{"rendezvous_seconds": 1, **settings})


def test_a_node_that_never_comes_is_a_sentence_after_a_bounded_time():
    address = Address("127.0.0.1", free_port(), 0)
    wanted = f"node 1 of 2 did not come to {address} in 1 s"
    with pytest.raises(ValueError, match=wanted), first_node(trainer(), address):
        pass
    with pytest.raises(ValueError, match=f"the first node .{address}. was not reached in 1 s"):
        join(trainer(), address, lambda order, connection: 0)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_name_that_does_not_resolve_is_a_sentence(rank):
    address = Address("no-such-host.invalid", free_port(), rank)
    with pytest.raises(ValueError, match="does not resolve"):
        if rank:
            join(trainer(), address, lambda order, connection: 0)
        else:
            first_node(trainer(), address).__enter__()


def test_a_taken_port_is_a_sentence():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = Address("127.0.0.1", server.getsockname()[1], 0)
        with pytest.raises(ValueError, match=r"cannot be used on the first node: .*in use"):
            first_node(trainer(), address).__enter__()


def test_a_second_node_of_the_same_number_is_refused_and_the_others_share_the_end():
    address, codes = Address("127.0.0.1", free_port(), 0), []
    settings = Trainer(num_nodes=3, rendezvous_seconds=10)

    def follow(rank: int) -> None:
        try:
            codes.append(join(settings, Address(address.host, address.port, rank), lambda *_: 0))
        except (ValueError, RunFailed) as error:
            codes.append(str(error))

    threads = [threading.Thread(target=follow, args=(1,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    last = threading.Thread(target=follow, args=(2,))
    with threading_start_later(last), first_node(settings, address) as nodes:
        nodes.exit_code = 0
    for thread in (*threads, last):
        thread.join(20)
    assert sorted(map(str, codes)) == ["0", "0", next(c for c in codes if "taken" in str(c))]


class threading_start_later:
    """Starts a thread when the first two have been answered."""

    def __init__(self, thread: threading.Thread):
        self.timer = threading.Timer(1.0, thread.start)

    def __enter__(self):
        self.timer.start()

    def __exit__(self, *_):
        self.timer.join()


@pytest.mark.parametrize(
    ("settings", "environment", "found"),
    [
        ({"rendezvous": "a:5", "node_rank": 1}, {"NODE_RANK": "0"}, Address("a", 5, 1)),
        ({"rendezvous": "[::1]:5"}, {"NODE_RANK": "1"}, Address("::1", 5, 1)),
        ({}, {"NODE_RANK": "0", "MASTER_ADDR": "b", "MASTER_PORT": "7"}, Address("b", 7, 0)),
        ({}, {"SLURM_NODEID": "1", "SLURM_JOB_NODELIST": "n[03-04]", "SLURM_JOB_ID": "123456"},
         Address("n03", 18456, 1)),
    ],
)  # fmt: skip
def test_address_and_number_of_a_node(monkeypatch, settings, environment, found):
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert find_address(trainer(**settings), environment) == found


@pytest.mark.parametrize(
    ("settings", "environment", "said"),
    [
        ({"rendezvous": "a:5"}, {}, "this node has no number: set NODE_RANK"),
        ({"rendezvous": "a:5"}, {"NODE_RANK": "2"}, "node rank 2 is no number of 2 nodes"),
        ({}, {"NODE_RANK": "0"}, "no address of the first node: set trainer.rendezvous=host:port"),
        ({}, {"SLURM_NODEID": "0", "SLURM_NTASKS_PER_NODE": "2"}, "one task per node"),
    ],
)
def test_what_is_missing_is_a_sentence(settings, environment, said):
    with pytest.raises(ValueError, match=said):
        find_address(trainer(**settings), environment)


@pytest.mark.parametrize(
    ("nodelist", "host"),
    [("n1", "n1"), ("n[1-4,7]", "n1"), ("gpu-[007-009],x1", "gpu-007"), ("a,b", "a")],
)
def test_first_host_without_scontrol(monkeypatch, nodelist, host):
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert first_host(nodelist) == host


def test_first_host_is_asked_of_scontrol(monkeypatch, tmp_path):
    (tmp_path / "scontrol").write_text('#!/bin/sh\necho "first of $3"; echo second\n')
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert first_host("x") == "first"


def test_settings_of_nodes_are_checked():
    (problem,) = Trainer(num_nodes=2, node_rank=2).problems()
    assert "trainer.node_rank=2 is no number of 2 nodes" in problem
    for text in ("host", "host:", ":5", "host:x", "host:70000"):
        (problem,) = Trainer(rendezvous=text).problems()
        assert problem == f"trainer.rendezvous={text} is no address: write host:port"


def test_several_nodes_are_for_trainings(alps):
    done = alps("evaluate", "model=tiny", "evals=mini", "trainer.num_nodes=2", check=2)
    assert "trainer.num_nodes is for trainings: evaluate on one node" in done.stderr
