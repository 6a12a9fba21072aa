import ast
import copy
import json
import random
from contextlib import suppress

import pytest

from alps.data.generators import mini_code

SPLITS = ("train", "test")
ROWS = {split: list(mini_code.examples(split)) for split in SPLITS}
SAMPLE = ROWS["train"][:1500] + ROWS["test"]


def fails(code, check):
    """Runs a function on all tests of a row; says whether one of them fails."""
    namespace = {}
    exec(code, namespace)
    for arguments, expected in check["tests"]:
        got = namespace[check["entry_point"]](*copy.deepcopy(arguments))
        if json.dumps(got) != json.dumps(expected):
            return True
    return False


def function(row):
    assert row.answer.startswith("```python\n") and row.answer.endswith("\n```")
    return row.answer.removeprefix("```python\n").removesuffix("\n```")


def test_every_reference_answer_passes_its_tests():
    for row in SAMPLE:
        assert not fails(function(row), row.check), row


def test_reference_answers_pass_through_the_scorer_and_another_rows_fail():
    rows = ROWS["test"][:20]
    for row, other in zip(rows, rows[1:] + rows[:1], strict=True):
        assert not fails(function(row), row.check), row
        name = other.check["entry_point"]
        renamed = function(other).replace(f"def {name}(", f"def {row.check['entry_point']}(")
        with suppress(TypeError, KeyError, AttributeError, IndexError, ValueError):
            assert fails(renamed, row.check), row


def test_the_tests_tell_a_condition_from_its_neighbour_and_from_one_side_of_it():
    flipped = {
        ast.Gt: ast.GtE,
        ast.GtE: ast.Gt,
        ast.Lt: ast.LtE,
        ast.LtE: ast.Lt,
        ast.Eq: ast.NotEq,
        ast.NotEq: ast.Eq,
        ast.In: ast.NotIn,
        ast.NotIn: ast.In,
    }
    rng = random.Random(0)
    survived, mutants = [], 0
    for row in ROWS["test"]:
        tree = ast.parse(function(row))
        joined = any(isinstance(node, ast.BoolOp) for node in ast.walk(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare) and not joined:
                node.ops[0] = flipped[type(node.ops[0])]()
            elif isinstance(node, ast.BoolOp):
                node.values.pop(rng.randrange(2))
            else:
                continue
            mutants += 1
            if not fails(ast.unparse(tree), row.check):
                survived.append(ast.unparse(tree))
            break
    assert mutants > 200
    assert len(survived) <= 0.02 * mutants, survived


@pytest.mark.parametrize("body", ["return x", "return None", "return []", "return 0", "return ''"])
def test_an_empty_answer_fails(body):
    for row in ROWS["test"]:
        assert fails(f"def {row.check['entry_point']}(x):\n    {body}", row.check), row


def test_the_instruction_asks_for_the_function_of_the_answer():
    for row in SAMPLE:
        _, head, docstring = row.instruction.rsplit("\n", 2)
        assert head == function(row).splitlines()[0]
        assert head.startswith(f"def {row.check['entry_point']}(")
        said = ast.get_docstring(ast.parse(f"{head}\n{docstring}").body[0])
        assert said.endswith(".") and "return" in said.lower()
        assert len(row.instruction) <= 260 and len(row.answer) <= 180


def test_every_family_is_drawn_in_both_splits():
    for split in SPLITS:
        names = {row.check["entry_point"] for row in ROWS[split]}
        for family in mini_code._FAMILIES:
            assert names & set(family.request.split("(")[0].split("|"))
