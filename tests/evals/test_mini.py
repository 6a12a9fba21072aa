from itertools import islice

import pytest

from alps.evals.mini import MiniCode, MiniGeneral, MiniMath


@pytest.mark.parametrize("benchmark", [MiniMath, MiniGeneral, MiniCode])
def test_reference_answers_are_right_and_nonsense_is_not(benchmark):
    mini = benchmark(name="mini", protocol="alpaca")
    for document in islice(mini.documents(), 5):
        assert set(mini.judge(document.answer, document.check).values()) == {1.0}
        assert 0.0 in mini.judge("#### -77777", document.check).values()


def test_only_code_asks_for_consent():
    flags = [b(name="m", protocol="p").runs_generated_code for b in (MiniMath, MiniGeneral)]
    assert flags == [False, False] and MiniCode(name="m", protocol="p").runs_generated_code
