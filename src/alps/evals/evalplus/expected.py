"""Expected results and run times: computed once from the reference solutions and cached.

EvalPlus keeps them as one pickle of up to 800 MB. Here each problem has its own zlib-compressed
file of lines from `sandbox.values`; reading it executes no code. Reference solutions run in the
sandbox too, since a file of problems may come from anywhere.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from alps.base.atomic import replacing
from alps.evals.evalplus.problems import Problem
from alps.evals.evalplus.rules import SUITES, Rules
from alps.evals.sandbox.process import CallBatch, LimitExceeded, Request, Sandbox

REFERENCE_SECONDS = 900.0
MAX_OUTPUT_BYTES = 4 << 30


@dataclass(frozen=True)
class ExpectedResults:
    """Results of the reference solution on one suite.

    Attributes:
        lines: Encoded result of each call (`sandbox.values.encode`).
        seconds: Run time of each call.
    """

    lines: Sequence[bytes]
    seconds: Sequence[float]


def compute_expected(sandbox: Sandbox, dataset: str, problem: Problem, path: Path) -> None:
    """Computes the expected results of a problem and writes them to `path` atomically.

    Raises:
        ValueError: If the reference solution fails; one sentence.
    """
    batches = [
        CallBatch(
            name=name,
            inputs=problem[f"{name}_input"],
            call_timeouts=[0.0] * len(problem[f"{name}_input"]),
            timeout=REFERENCE_SECONDS,
        )
        for name in SUITES
    ]
    request = Request(
        code=problem["prompt"] + problem["canonical_solution"],
        entry_point=problem["entry_point"],
        batches=batches,
        view=Rules.of(dataset, problem).view(reference=True),
        memory=None,
        timed=True,
    )
    results: list[ExpectedResults] = []
    lines: list[bytes] = []
    failure = ""
    try:
        with sandbox.start(request, MAX_OUTPUT_BYTES) as process:
            for line in process.lines():
                if line[:1] == b"v":
                    lines.append(line[1:])
                elif line[:1] == b"s":
                    results.append(ExpectedResults(lines, json.loads(line[1:])))
                    lines = []
                elif line[:1] in (b"e", b"x"):
                    failure = line[1:80].decode("ascii", "replace") or "cannot be read"
    except LimitExceeded as error:
        failure = type(error).__name__
    if [len(r.lines) for r in results] != [len(b.inputs) for b in batches]:
        raise ValueError(
            f"the reference solution of {problem['task_id']} fails ({failure or 'it ends'}): the "
            "problems are damaged"
        )
    _write(path, dict(zip(SUITES, results, strict=True)))


def read_expected(path: Path) -> dict[str, ExpectedResults]:
    """Expected results of each suite, as written by `compute_expected`."""
    head, *lines = zlib.decompress(path.read_bytes()).split(b"\n")
    results, begin = {}, 0
    for name, seconds in json.loads(head).items():
        results[name] = ExpectedResults(lines[begin : begin + len(seconds)], seconds)
        begin += len(seconds)
    return results


def _write(path: Path, suites: Mapping[str, ExpectedResults]) -> None:
    head = json.dumps({name: list(results.seconds) for name, results in suites.items()}).encode()
    lines = [line for results in suites.values() for line in results.lines]
    with replacing(path) as temporary:
        temporary.write_bytes(zlib.compress(b"\n".join([head, *lines]), 1))
