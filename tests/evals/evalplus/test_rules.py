"""Our comparison against EvalPlus' own, on the same values."""

import json
import math

import pytest

from alps.evals.evalplus.rules import Comparison, Rules
from alps.evals.sandbox.runner import apply_view
from alps.evals.sandbox.values import encode

CASES = [
    # entry point, atol, what comes out, what is expected
    ("f", 0, [1, 2], [1, 2]),
    ("f", 0, [1, 3], [1, 2]),
    ("f", 0, [True, 2.0], [1, 2]),
    ("f", 0, [[1, 2]], [(1, 2)]),
    ("f", 0, ["a"], [b"a"]),
    ("f", 0, [0.1 + 0.2], [0.3]),
    ("f", 0, [[0.1 + 0.2, 1.0]], [[0.3, 1.0]]),
    ("f", 0, [[0.1 + 0.2, 1]], [[0.3, 1]]),
    ("f", 0, [[0.3]], [[0.3, 1.0]]),
    ("f", 0, [(0.1 + 0.2,)], [(0.3,)]),
    ("f", 0, [(0.1 + 0.2,)], [[0.3]]),
    ("f", 0, [0.5, 10**7 + 1], [0.5, 10**7]),  # a tolerance once set stays
    ("f", 0, [10**7 + 1, 0.5], [10**7, 0.5]),
    ("f", 0, [0.0000011], [0.0]),
    ("f", 0, [0.0000009], [0.0]),
    ("f", 1e-3, [5.0005, 4], [5, 4]),
    ("f", 1e-3, [5.0005, 4.0], [5.0, 4]),
    ("f", 1e-3, ["a"], ["b"]),
    ("f", 1e-3, [{"a": 1.0001}], [{"a": 1.0}]),
    ("f", 0, [math.nan], [math.nan]),
    ("f", 0, [[math.nan]], [[math.nan]]),
    ("f", 0, [math.inf, -0.0], [math.inf, 0.0]),
    ("f", 0, [None, {1, 2}, {1: (2,)}], [None, {2, 1}, {1: (2,)}]),
    ("f", 0, [3 + 0j], [3]),
    ("f", 0, [range(3)], [[0, 1, 2]]),
    ("f", 0, [10**4000], [10**4000]),
    ("f", 0, [], []),
    ("similar_elements", 0, [(3, 1), [1]], [(1, 3), (1,)]),
    ("similar_elements", 0, [(3, 1, 3)], [(1, 3)]),
    ("similar_elements", 0, [(3,)], [(1, 3)]),
    ("similar_elements", 0, [5], [(1, 3)]),
    ("Diff", 0, [[0.1 + 0.2]], [[0.3]]),
    ("are_equivalent", 0, [7], [True]),
    ("sum_div", 0, [0, 5], [7, 5]),
    ("sum_div", 0, [1], [7]),
    ("check_str", 0, [True, 5, None, False], [True, True, False, False]),
    ("check_str", 0, [None], [True]),
    ("check_str", 0, [False], [True]),
]


def theirs(dataset, entry_point, atol, out, expected, inputs):
    """EvalPlus' own verdict on a program that returns just these values."""
    from evalplus.eval import untrusted_check

    code = (
        "from math import inf, nan\n"
        f"values = {out!r}\n"
        f"def {entry_point}(*given):\n    return values.pop(0)"
    )
    times = [0.0] * len(expected)
    status, details = untrusted_check(
        dataset, code, inputs, entry_point, expected, atol, times, fast_check=True
    )
    return status, len(details)


def ours(dataset, entry_point, atol, out, expected, inputs):
    rules = Rules(dataset, entry_point, atol)
    comparison = Comparison(rules, inputs, [encode(value) for value in expected])
    for value in out:
        try:
            line = b"v" + encode(apply_view(value, rules.view()))
        except TypeError:  # as the runner has it
            line = b'e"TypeError"'
        if not comparison.add(line):
            break
    return comparison.verdicts("done")


@pytest.mark.parametrize("case", CASES, ids=map(str, range(len(CASES))))
@pytest.mark.parametrize("dataset", ["humaneval", "mbpp"])
def test_the_same_as_evalplus(dataset, case):
    entry_point, atol, out, expected = case
    inputs = [[1]] * len(expected)
    found = ours(dataset, entry_point, atol, out, expected, inputs)
    assert found["hardened"] == found["stock"]
    wanted = theirs(dataset, entry_point, atol, out, expected, inputs)
    assert (found["stock"], found["tested"]) == wanted


@pytest.mark.parametrize(
    ("entry_point", "atol", "given", "out"),
    [
        ("surface_Area", 1, [3, 4], 34),
        ("surface_Area", 1, [3, 4], 36),
        ("digit_distance_nums", 0, [23, 56], 6),
        ("digit_distance_nums", 0, [23, 56], 7),
        ("digit_distance_nums", 0, [1, 100], 2),
    ],
)
def test_oracles_of_mbpp(entry_point, atol, given, out):
    case = ("mbpp", entry_point, atol, [out], [-1], [given])
    found = ours(*case)
    assert (found["stock"], found["tested"]) == theirs(*case)


@pytest.mark.parametrize("out", [[-0.5, -2.0], [-0.5, 1.0], [1.0, -2.0], [-0.50001, -2.0], [-0.5]])
def test_find_zero(out):
    case = ("humaneval", "find_zero", 1e-4, out, [-0.5, -2.0], [[[1, 2]], [[2, 1]]])
    found = ours(*case)
    if len(out) == 2:
        assert (found["stock"], found["tested"]) == theirs(*case)
    right = out[:1] != [1.0] and out[1:] == [-2.0]
    assert (found["hardened"] == "pass") is right and found["stock"] != "pass"


def test_a_line_far_too_long_is_not_even_read(monkeypatch):
    line = b"v[" + b"[]," * 30_000 + b"[]]"
    comparison = Comparison(Rules("humaneval", "f", 0), [[1]], [b"1"])
    monkeypatch.setattr("alps.evals.evalplus.rules.decode", None)
    assert not comparison.add(line) and comparison.failed


@pytest.mark.parametrize(
    ("lines", "ended", "status", "tested"),
    [
        ([b"v1", b"v2"], "done", "pass", 2),
        ([b"v1", b"v2"], "died", "timeout", 2),
        ([b"v1", b"v2", b"v3"], "done", "fail", 2),
        ([b"v1"], "done", "timeout", 1),
        ([b"v2", b"v2"], "done", "fail", 1),
        ([b"v1", b"t"], "done", "fail", 2),
        ([b"v1", b'e"ValueError"'], "done", "fail", 2),
        ([b"x"], "done", "fail", 0),
        ([b"v1", b"nonsense"], "done", "fail", 2),
        ([b"v1", b"v"], "done", "fail", 2),
        ([b'v{"dict": [[[1], 2]]}'], "done", "fail", 1),
        ([], "too slow", "timeout", 0),
    ],
)
def test_lines_of_the_runner(lines, ended, status, tested):
    comparison = Comparison(Rules("humaneval", "f", 0), [[1], [2]], [b"1", b"2"])
    for line in lines:
        comparison.add(line)
    assert comparison.verdicts(ended) == {"stock": status, "hardened": status, "tested": tested}
    assert comparison.slow is (b"t" in lines)


def test_hashes_that_collide_take_no_longer_than_the_limit(monkeypatch):
    monkeypatch.setattr("alps.evals.evalplus.rules.COMPARISON_SECONDS", 0.2)
    colliding = [number * (2**61 - 1) for number in range(20_000)]
    line = b'v{"set":' + json.dumps(colliding).encode() + b"}"
    comparison = Comparison(Rules("humaneval", "f", 0), [[1]], [encode({1})])
    assert not comparison.add(line)
