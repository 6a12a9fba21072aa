import pytest

from alps.data.generators import mini_general
from alps.evals.mini import check_general
from alps.evals.mini.check_general import constraint_results

# Kind, parameters, a text that passes, and texts that fail.
CASES = [
    (
        "num_bullets",
        {"count": 2},
        "Two:\n- one\n* two",
        ["- one", "- a\n- b\n- c", "one - two - x"],
    ),
    ("num_numbered", {"count": 2}, "1. one\n2. two", ["1. one", "1. a\n3. b", "1. a\n2. b\n3. c"]),
    ("num_sentences", {"count": 2}, 'Is it? "Yes."', ["One.", "One. Two. Three.", "one two"]),
    ("num_paragraphs", {"count": 2}, "One.\n\nTwo.\nMore.", ["One.\nTwo.", "One.\n\nTwo.\n\nSix."]),
    (
        "json_keys",
        {"keys": ["fact", "note"]},
        '{"note": "x", "fact": 1}',
        [
            '{"fact": 1}',
            '{"fact": 1, "note": 2, "more": 3}',
            '["fact", "note"]',
            "fact note",
            "[" * 9999,
        ],
    ),
    ("lowercase", {}, "all is low. 3 times!", ["All is low.", "123"]),
    ("uppercase", {}, "ALL IS HIGH. 3 TIMES!", ["ALL IS HIGh.", "123"]),
    ("quoted", {}, '"All of it."', ['"Not" all', 'All of it."', '"One." "Two."', '"', '""']),
    ("starts_with", {"phrase": "In short:"}, "IN SHORT: yes", ["Well, in short: yes", "In short:"]),
    (
        "ends_with",
        {"phrase": "The end."},
        "Yes.\nthe end.",
        ["The end. Yes.", "The end.", "the end"],
    ),
    ("no_commas", {}, "One and two.", ["One, two."]),
    (
        "postscript",
        {},
        "Yes.\nP.S. No.",
        ["P.S. No.", "Yes. P.S. No.", "Yes.\nP.S.", "Yes.\nP.S. No.\nMore.", "Yes.\nPS No."],
    ),
    ("use_word", {"word": "tea", "count": 2}, "Tea is tea. Teapots!", ["Tea.", "tea tea tea"]),
    ("avoid_word", {"word": "tea"}, "Teapots are nice.", ["A cup of Tea."]),
    ("max_words", {"count": 3}, "One two three.", ["One two three four."]),
    ("min_words", {"count": 3}, "One two three.", ["One two."]),
]
FAILING = [(kind, params, text) for kind, params, _, texts in CASES for text in texts]


def judge(text, kind, params):
    (result,) = constraint_results(text, {"constraints": [{"kind": kind, **params}]})
    return result


@pytest.mark.parametrize(("kind", "params", "text", "_"), CASES, ids=[case[0] for case in CASES])
def test_a_text_that_obeys_passes(kind, params, text, _):
    assert judge(text, kind, params) is True


@pytest.mark.parametrize(("kind", "params", "text"), FAILING)
def test_a_text_that_does_not_obey_fails(kind, params, text):
    assert judge(text, kind, params) is False


@pytest.mark.parametrize("kind_and_params", [case[:2] for case in CASES], ids=str)
def test_a_blank_text_obeys_nothing(kind_and_params):
    assert judge(" \n", *kind_and_params) is False


def test_every_kind_is_tested_here_and_drawn_by_the_data():
    kinds = {case[0] for case in CASES}
    assert kinds == set(check_general.CHECKS) == set(mini_general.KINDS)


def test_one_result_for_each_constraint_in_their_order():
    constraints = [{"kind": "no_commas"}, {"kind": "lowercase"}, {"kind": "max_words", "count": 9}]
    assert constraint_results("\nNo capitals \n", {"constraints": constraints}) == [
        True,
        False,
        True,
    ]


def test_an_unknown_kind_is_an_error():
    with pytest.raises(KeyError, match="no_such_kind"):
        judge("text", "no_such_kind", {})
