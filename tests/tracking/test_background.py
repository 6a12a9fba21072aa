"""A logger's thread: order, errors, a full queue, and an end that doesn't wait for ever."""

import sys
import threading
import time

import pytest

from alps.tracking.background import Background


def test_actions_run_in_order_on_another_thread():
    done = []
    worker = Background("wandb")
    for number in range(100):
        worker.submit(lambda n=number: done.append((n, threading.current_thread().name)))
    assert worker.close(lambda: done.append((100, threading.current_thread().name)))
    assert done == [(n, "logger wandb") for n in range(101)]


def test_the_first_error_is_reported_once_and_the_last_action_runs(caplog):
    def fail():
        raise OSError("no space")

    done, worker = [], Background("tensorboard")
    for _ in range(5):
        worker.submit(fail)
    worker.submit(lambda: done.append("logged"))
    assert not worker.close(lambda: done.append("closed"))
    assert done == ["closed"]
    assert caplog.text.count("TensorBoard logging stopped: no space") == 1


@pytest.mark.parametrize("code", [None, 0, 3])
def test_a_logger_that_exits_is_broken(caplog, code):
    worker = Background("wandb")
    worker.submit(lambda: sys.exit(code))
    assert not worker.close(lambda: None), "nothing was logged"
    assert "W&B logging stopped: SystemExit; `alps sync` adds" in caplog.text


def test_a_full_queue_leaves_steps_out_and_never_blocks(caplog):
    gate, done = threading.Event(), []
    worker = Background("trackio", capacity=3)
    worker.submit(gate.wait)
    while worker._queue.qsize():
        time.sleep(0.01)  # until the thread waits for the gate
    for number in range(10):
        worker.submit(lambda n=number: done.append(n))
    assert worker.num_dropped == 7
    gate.set()
    assert not worker.close(lambda: None), "not everything was logged"
    assert done == [0, 1, 2]
    assert caplog.text.count("trackio logging is too slow") == 1


@pytest.mark.parametrize("capacity", [1, 10])
def test_the_end_waits_for_a_while_only(caplog, capacity):
    gate = threading.Event()
    worker = Background("wandb", capacity=capacity, patience=0.2)
    worker.submit(gate.wait)
    worker.submit(lambda: None)
    start = time.monotonic()
    assert not worker.close(lambda: None)
    assert time.monotonic() - start < 30
    assert "W&B logging did not end within 0 s" in caplog.text
    gate.set()
