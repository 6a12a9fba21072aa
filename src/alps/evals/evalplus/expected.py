"""What reference solutions return, and how long they take: computed once, kept in our own cache.

EvalPlus keeps them as one pickle of up to 800 MB. Here each problem has a file of its own, lines of
`sandbox_values` behind zlib: reading it runs no code. The references run in the sandbox, too: a
file of problems may come from anywhere.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alps.base.atomic import replacing
from alps.evals.evalplus.rules import Rules
from alps.evals.sandbox.sandbox import Part, Request, Sandbox, TooMuch, TooSlow

REFERENCE_SECONDS = 900.0
MOST_BYTES = 4 << 30


@dataclass(frozen=True)
class Expected:
    """What the reference gave for one part of the tests.

    Attributes:
        lines: One for each call, as `sandbox_values.encode` writes them.
        seconds: Of each call.
    """

    lines: Sequence[bytes]
    seconds: Sequence[float]


def rules_of(dataset: str, problem: Mapping[str, Any]) -> Rules:
    """EvalPlus' rules for a problem."""
    return Rules(dataset, problem["entry_point"], problem["atol"])


def expect(box: Sandbox, dataset: str, problem: Mapping[str, Any], path: Path) -> None:
    """Computes a problem's expected values and writes them to `path`, whole or not at all.

    Raises:
        ValueError: If the reference solution itself fails; one sentence.
    """
    names = ("base", "plus")
    parts = [
        Part(
            name=name,
            inputs=problem[f"{name}_input"],
            limits=[0.0] * len(problem[f"{name}_input"]),
            seconds=REFERENCE_SECONDS,
        )
        for name in names
    ]
    request = Request(
        code=problem["prompt"] + problem["canonical_solution"],
        entry_point=problem["entry_point"],
        parts=parts,
        view=rules_of(dataset, problem).view(reference=True),
        memory=None,
        timed=True,
    )
    found: list[Expected] = []
    lines: list[bytes] = []
    failure = ""
    try:
        with box.started(request, MOST_BYTES) as conversation:
            for line in conversation.lines():
                if line[:1] == b"v":
                    lines.append(line[1:])
                elif line[:1] == b"s":
                    found.append(Expected(lines, json.loads(line[1:])))
                    lines = []
                elif line[:1] in (b"e", b"x"):
                    failure = line[1:80].decode("ascii", "replace") or "cannot be read"
    except (TooSlow, TooMuch) as error:
        failure = type(error).__name__
    if [len(e.lines) for e in found] != [len(p.inputs) for p in parts]:
        raise ValueError(
            f"the reference solution of {problem['task_id']} fails ({failure or 'it ends'}): the "
            "problems are damaged"
        )
    _write(path, dict(zip(names, found, strict=True)))


def read_expected(path: Path) -> dict[str, Expected]:
    """What `expect` wrote: `base` and `plus`."""
    head, *lines = zlib.decompress(path.read_bytes()).split(b"\n")
    found, begin = {}, 0
    for name, seconds in json.loads(head).items():
        found[name] = Expected(lines[begin : begin + len(seconds)], seconds)
        begin += len(seconds)
    return found


def _write(path: Path, parts: Mapping[str, Expected]) -> None:
    head = json.dumps({name: list(part.seconds) for name, part in parts.items()}).encode()
    packed = zlib.compress(b"\n".join([head, *(x for p in parts.values() for x in p.lines)]), 1)
    with replacing(path) as temporary:
        temporary.write_bytes(packed)
