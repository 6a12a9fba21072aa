"""Runs over two nodes, and nodes that go down."""

import os
import signal

import pytest
from slurm_queue import LONG, assert_same, command, job_field, num_kept, processes, rows

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(300, func_only=True)]
NODES = ("trainer.num_nodes=2", "trainer.devices=1")


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_nodes_train_one_run(queue, uninterrupted, node_two, strategy):
    """With the weights of one process that has two ranks, after its job was requeued."""
    settings = (*LONG, *([] if strategy == "ddp" else [f"trainer.strategy={strategy}"]))
    queue.submit(*settings, *NODES, node="")
    run = queue.until_trained(7)
    job = queue.only().job
    assert queue.only().node in ("one,two", "[one,two]")
    command("scontrol", "requeue", job)
    queue.until_pending(job)
    before = rows(run)
    queue.until_ended("1 finished")
    assert len(before) < 60 and num_kept(before, run) == len(before)
    assert_same(run, uninterrupted(*settings, "trainer.devices=2"))


def test_a_killed_rank_of_two_nodes(queue, node_two):
    queue.submit(*LONG, *NODES, node="")
    queue.until_trained(7)
    os.kill(processes("python", "alps.launch.worker", cwd=queue.folder)[-1], signal.SIGKILL)
    assert queue.until_ended() == "1 failed"
    assert "was killed (SIGKILL)" in queue.only().reason


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_node_goes_down(queue, uninterrupted, node_two, nodes):
    """With its processes, and so with the locks that they held."""
    queue.submit(*LONG, *(NODES if nodes == 2 else ()), node="two" if nodes == 1 else "")
    run = queue.until_trained(7)
    job = queue.only().job
    node_two.kill("two")
    queue.until_pending(job)
    before = rows(run)
    if nodes == 1:  # it may go on elsewhere
        command("scontrol", "update", f"JobId={job}", "ReqNodeList=")
    if nodes == 2:
        node_two.repair()
    queue.until_ended("1 finished")
    assert len(before) < 60 and num_kept(before, run) == len(before) // 5 * 5
    if nodes == 1:
        assert job_field(job, "NodeList") == "one"
    assert_same(run, uninterrupted(*LONG, f"trainer.devices={nodes}"))


def test_names_of_nodes_that_do_not_resolve(queue, node_two):
    """A sentence in the time that nodes wait for each other."""
    setup = "hydra.launcher.setup=['export MASTER_ADDR=nowhere.invalid MASTER_PORT=15001']"
    queue.submit(*LONG, *NODES, "trainer.rendezvous_seconds=3", setup, node="")
    queue.until_ended("1 failed")
    assert "does not resolve" in queue.only().reason
