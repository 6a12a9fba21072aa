"""The harness's own loop, with ranks that come one after the other."""

import pytest
import torch
from lm_eval.api.model import LM

from alps.evals.harness import run as harness_run
from alps.evals.harness import task_config as harness_task_config

PROBLEMS = [{"question": f"Problem {n}?", "answer": f"Steps.\n#### {n}"} for n in range(3)]


class Rank(LM):
    """One of two ranks; what others gathered before is handed to rank 0."""

    def __init__(self, rank: int, gathered: list[list]):
        super().__init__()
        self._rank, self._world_size, self._device = rank, 2, "cpu"
        self.gathered, self.asked = gathered, 0

    def all_gather(self, number: torch.Tensor) -> torch.Tensor:
        return torch.tensor([2, 1])  # documents of each rank

    def gather_object(self, value, dst: int = 0):
        if self.rank:
            self.gathered.append(value)
            return None
        return [value, self.gathered.pop(0)]

    def barrier(self) -> None:
        pass

    def generate_until(self, requests, disable_tqdm=False):
        asked = [r.args[0].rpartition("Problem: ")[2].partition("\n")[0] for r in requests]
        self.asked = len(requests)
        return [f"{text} {number}" for number, text in enumerate(asked)]

    def loglikelihood(self, requests, disable_tqdm=False):
        raise NotImplementedError

    loglikelihood_rolling = loglikelihood


@pytest.mark.parametrize("repeats", [1, 2])
def test_a_rank_with_fewer_documents_has_no_more_answers(make_benchmark, monkeypatch, repeats):
    """The harness asks its last question again, so that all ranks ask as often."""
    load = harness_task_config.load_task_file
    changed = {"repeats": repeats}
    monkeypatch.setattr(
        harness_task_config, "load_task_file", lambda path: {**load(path), **changed}
    )
    benchmark = make_benchmark("gsm8k", "protocol=plain", test=PROBLEMS)
    gathered: list[list] = []
    second, first = Rank(1, gathered), Rank(0, gathered)
    assert harness_run.run_task(benchmark, {"test": PROBLEMS}, second) is None
    found = harness_run.run_task(benchmark, {"test": PROBLEMS}, first)
    assert found is not None and first.asked == second.asked == 2 * repeats
    samples = [s for s in found.samples if s["filter"] == "strict-match"]
    assert [s["doc_id"] for s in samples] == [0, 1, 2]
    numbers = [range(repeats), range(repeats), range(repeats, 2 * repeats)]
    assert [s["resps"] for s in samples] == [
        [[f"Problem {n}? {i}" for i in numbers[n]]] for n in range(3)
    ]
