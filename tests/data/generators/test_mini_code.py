import ast
import copy
import json
import random
from contextlib import suppress

import pytest

from alps.data.generators import mini_code

SPLITS = ("train", "test")
EXAMPLES = {split: list(mini_code.examples(split)) for split in SPLITS}
SAMPLE = EXAMPLES["train"][:1500] + EXAMPLES["test"]


def fails(code, check):
    """Runs a function on all tests of an example; says whether one of them fails."""
    namespace = {}
    exec(code, namespace)
    for arguments, expected in check["tests"]:
        got = namespace[check["entry_point"]](*copy.deepcopy(arguments))
        if json.dumps(got) != json.dumps(expected):
            return True
    return False


def function(example):
    assert example.answer.startswith("```python\n") and example.answer.endswith("\n```")
    return example.answer.removeprefix("```python\n").removesuffix("\n```")


def test_every_reference_answer_passes_its_tests():
    for example in SAMPLE:
        assert not fails(function(example), example.check), example


def test_reference_answers_pass_through_the_scorer_and_another_examples_fail():
    examples = EXAMPLES["test"][:20]
    for example, other in zip(examples, examples[1:] + examples[:1], strict=True):
        assert not fails(function(example), example.check), example
        name = other.check["entry_point"]
        renamed = function(other).replace(f"def {name}(", f"def {example.check['entry_point']}(")
        with suppress(TypeError, KeyError, AttributeError, IndexError, ValueError):
            assert fails(renamed, example.check), example


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
    for example in EXAMPLES["test"]:
        tree = ast.parse(function(example))
        joined = any(isinstance(node, ast.BoolOp) for node in ast.walk(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare) and not joined:
                node.ops[0] = flipped[type(node.ops[0])]()
            elif isinstance(node, ast.BoolOp):
                node.values.pop(rng.randrange(2))
            else:
                continue
            mutants += 1
            if not fails(ast.unparse(tree), example.check):
                survived.append(ast.unparse(tree))
            break
    assert mutants > 200
    assert len(survived) <= 0.02 * mutants, survived


@pytest.mark.parametrize("body", ["return x", "return None", "return []", "return 0", "return ''"])
def test_an_empty_answer_fails(body):
    for example in EXAMPLES["test"]:
        assert fails(f"def {example.check['entry_point']}(x):\n    {body}", example.check), example


def test_the_instruction_asks_for_the_function_of_the_answer():
    for example in SAMPLE:
        _, head, docstring = example.instruction.rsplit("\n", 2)
        assert head == function(example).splitlines()[0]
        assert head.startswith(f"def {example.check['entry_point']}(")
        said = ast.get_docstring(ast.parse(f"{head}\n{docstring}").body[0])
        assert said.endswith(".") and "return" in said.lower()
        assert len(example.instruction) <= 260 and len(example.answer) <= 180


def test_every_template_is_drawn_in_both_splits():
    for split in SPLITS:
        names = {example.check["entry_point"] for example in EXAMPLES[split]}
        for template in mini_code._TEMPLATES:
            assert names & set(template.request.split("(")[0].split("|"))
