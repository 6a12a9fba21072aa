import json
import math
from collections import Counter, OrderedDict, namedtuple
from contextlib import suppress

import numpy as np
import pytest

from alps.evals.sandbox.values import MAX_DEPTH, OpaqueObject, build_set, decode, encode

Point = namedtuple("Point", "x y")


class Everything(int):
    def __eq__(self, other):
        return True

    def __hash__(self):
        return 0

    def __iter__(self):
        raise AssertionError("asked")

    __int__ = __index__ = __float__ = __add__ = __repr__ = __iter__


class Anything:
    def __eq__(self, other):
        return True

    __hash__ = None


PLAIN = [
    None, True, False, 0, -7, 2**70, 7**9000, -(7**9000), 0.1, -0.0, math.inf, 1e-320, 3 + 4j,
    "", "ü\ud800\n\x00", b"\x00\xff", [], [1, [2, ["3"]]], (), (1, (2, "a")), {1, 2}, set(),
    frozenset({(1, 2)}), {}, {1: "a", (2, 3): [4], "k": {5: None}}, [True, 1, 1.0], [[]] * 3,
    [2**5000, 1], {"dict": [[1, 2]]}, {"int": "0x5"}, [{"other": "x"}],
]  # fmt: skip


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: str(type(value)))
def test_built_in_values_come_back_with_their_types(value):
    def typed(v):
        if isinstance(v, list | tuple):
            return type(v), [typed(x) for x in v]
        if isinstance(v, dict):
            return dict, [(typed(k), typed(x)) for k, x in v.items()]
        return type(v), v

    line = encode(value)
    assert b"\n" not in line and typed(decode(line)) == typed(value)
    assert math.copysign(1, decode(encode(-0.0))) == -1


def test_not_a_number_stays_one():
    assert math.isnan(decode(encode([1.0, math.nan]))[1])


def test_children_keep_their_value_and_lose_their_methods():
    for value in (Counter("aab"), OrderedDict(a=1), Point(1, 2), np.float64(0.5), np.str_("a")):
        found = decode(encode(value))
        assert found == value and type(found) is not type(value)
        assert type(found).__mro__[1] in (dict, tuple, float, str)
    evil = decode(encode(Everything(5)))
    assert evil == 5 and evil != 6 and type(evil) is not int


@pytest.mark.parametrize("value", [np.int64(3), np.bool_(True), np.float32(0.5)])
def test_scalars_of_numpy_are_equal_to_their_values_and_of_another_type(value):
    found = decode(encode(value))
    assert found == value.item() and type(found) is not type(value.item())


@pytest.mark.parametrize(
    "value", [Anything(), object(), len, (x for x in ()), np.zeros(3), range(3)]
)
def test_objects_of_other_classes_are_equal_to_nothing(value):
    found = decode(encode([value]))[0]
    assert isinstance(found, OpaqueObject) and found != 1 and found != [0, 1, 2]


def test_what_contains_itself_or_is_too_deep_does_not_leave():
    loop = []
    loop.append(loop)
    deep = []
    for _ in range(MAX_DEPTH + 5):
        deep = [deep]
    for value in (loop, deep):
        with pytest.raises(RecursionError):
            encode(value)


HOSTILE = [
    b"", b"[1", b"{}", b'{"int": 5}', b'{"int": "zz"}', b'{"a": 1}', b'{"int": "1", "str": "a"}',
    b'{"set": [[1]]}', b'{"set": 5}', b'{"dict": [1]}', b'{"dict": [[[1], 2]]}', b'{"dict": 7}',
    b'{"complex": ["a", 1]}', b'{"complex": [{"child": ["x", 1.0]}, 1.0]}', b'{"bytes": "\\u0100"}',
    b'{"bytes": [1]}', b'{"child": 5}', b'{"child": ["x", null]}', b'{"child": [1, 2]}',
    b'{"child": ["x", {"other": "y"}]}', b'{"other": {}}', b"[" * 5000 + b"]" * 5000,
    b'{"tuple":' * 300 + b"[]" + b"}" * 300, b"\xff\xfe", b"1" * 5000, b'{"tuple": {"dict": []}}',
]  # fmt: skip


@pytest.mark.parametrize("line", HOSTILE, ids=lambda line: repr(line[:20]))
def test_lines_that_make_no_sense_are_refused(line):
    with pytest.raises(ValueError):
        decode(line)


def test_any_byte_changed_is_a_value_or_refused():
    line = encode({1: (2, {3.5}), "a": [b"b", 4j, None, 2**3000]})
    for place in range(len(line)):
        for byte in (b'"', b"[", b"0", b"}"):
            with suppress(ValueError):
                decode(line[:place] + byte + line[place + 1 :])


def test_lists_of_small_values_are_not_walked():
    """Speed of the common case: the list itself is handed to JSON."""
    values = list(range(1000))
    assert json.loads(encode(values)) == values
    assert build_set(values) == set(values)
