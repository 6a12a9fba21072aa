import signal
import threading

import pytest

from alps.evals.harness.math_answers import (
    last_boxed,
    normalized,
    process_results,
    reference,
    same_answer,
)

ROWS = [
    {"problem": "A half?", "solution": r"First $\boxed{2}$, so $\boxed{\frac{1}{2}}$."},
    {"problem": "Solve.", "solution": r"Hence $x=\boxed{5}$."},
]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("1/2", "0.5"),
        (r"\frac12", r"\dfrac{1}{2}"),
        (r"(3,\pi/2)", r"\left(3,\frac{\pi}{2}\right)"),
        (r"6\sqrt7", r"2\sqrt{63}"),
        ("x^2+2x+1", "(x+1)^2"),
        (r"\text{Evelyn}", "Evelyn"),
        ("x=5", "5"),
        ("1,000", "1000"),
        (r"11,\! 111", "11111"),
        (r"90^\circ", "90"),
        (r"\$ 3.50", "3.50"),
        (r"-\frac{1}{2}", r"\frac{-1}{2}"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
        ("2516_8", "2516_{8}"),
        ("2516", "2516_8"),  # the problem names the base
        (r"2516_{\text{eight}}", "2516_8"),
        (r"(2516)_{8}", "2516_8"),
        (r"2516 \text{ (base 8)}", "2516_8"),
        ("0.00110_2", "0.0011_{2}"),
        ("-221", "-221_3"),
        ("152A", "152A_{11}"),
        ("338_{10}", "338"),  # without a base it is decimal
        (r"\log_2 8", "3"),
        ("t 4", "4t"),
        ("9", r"9\text{ a.m.}"),
        ("9 am", r"9\text{ a.m.}"),
        ("5 dm", r"5\text{ dm}"),
        ("5 cm", r"5\text{ cm}"),
        ("5", r"5\text{ cm}"),
        (r"5\text{ cm}", r"5\text{ in}"),  # MATH's own grader ignores units
        (r"\{1,2\}", "2,1"),
        ("50", r"50\%"),
    ],
)
def test_same_answers(given, wanted):
    assert same_answer(given, wanted)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("5", "6"),
        ("", "0"),
        (" ", ""),
        ("(1,2)", "(2,1)"),
        ("1,2", "12"),
        ("[0,1)", "[0,1]"),
        ("-5", "5"),
        ("garbage {{{", "5"),
        ("x+1", "x-1"),
        ("2516_7", "2516_8"),
        ("2516_{7}", "2516_8"),
        ("2516_{10}", "2516_8"),
        (r"2516_{\text{seven}}", "2516_8"),
        (r"2516 \text{ (base 7)}", "2516_8"),
        (r"(2516)_{7}", "2516_8"),
        ("2517", "2516_8"),
        ("152A_{11}", "152A_{12}"),
        ("10_2", "10"),
        ("10_2, 11_3", "10_3, 11_2"),
        ("4", "4t"),
        ("4s", "4t"),
        ("x", "x t"),
        ("2", "2ab"),
        (r"9\text{ p.m.}", r"9\text{ a.m.}"),
        (r"\{1,2\}", "(1,2)"),
        ("[1,2]", r"\{1,2\}"),
        ("50", r"0.5"),
    ],
)
def test_different_answers(given, wanted):
    assert not same_answer(given, wanted)


def test_normalizing_needs_no_algebra():
    assert normalized(r"\left( 3, \tfrac{1}{2} \right)") == r"(3,\frac{1}{2})"
    assert normalized("y = 2x + 1") == "2x+1" and normalized("a=b=c") == "a=b=c"
    assert normalized("1,234,567") == "1234567" and normalized("1,2") == "1,2"


@pytest.mark.parametrize(
    ("text", "boxed"),
    [
        (r"\boxed{1} and \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed 5$", "5"),
        (r"\fbox{7}", "7"),
        (r"\boxed{}", ""),
        (r"\boxed{1} and \boxed{2", None),  # cut short: what it would have said is not known
        ("5", None),
    ],
)
def test_last_box(text, boxed):
    assert last_boxed(text) == boxed


def test_an_answer_counts_only_in_a_box():
    assert process_results(ROWS[1], ["It is 5."]) == {"exact_match": 0.0}
    assert process_results(ROWS[1], [r"\boxed{4}, no: \boxed{5}"]) == {"exact_match": 1.0}
    assert process_results(ROWS[1], [r"\boxed{5}, no: \boxed{4}"]) == {"exact_match": 0.0}


def test_a_reference_without_a_box_is_refused():
    with pytest.raises(ValueError, match=r"the solution of 'P' has no \\boxed: get the file again"):
        reference({"problem": "P", "solution": "5"})


def test_outside_of_the_main_thread_answers_are_judged_alike():
    """math-verify's time limit is an alarm, which raises there; that must not become a zero."""
    found = []
    thread = threading.Thread(target=lambda: found.append(same_answer("1/2", "0.5")))
    thread.start()
    thread.join()
    assert found == [True]


def test_what_math_verify_refuses_is_no_silent_zero(monkeypatch):
    def refuse(*_, **__):
        raise ValueError("Math-Verify doesn't support this")

    monkeypatch.setattr("math_verify.verify", refuse)
    with pytest.raises(ValueError, match="doesn't support this"):
        same_answer("1/2", "0.5")


def test_the_alarm_of_others_is_given_back():
    before = signal.getsignal(signal.SIGALRM)
    same_answer("1/2", "0.5")
    assert signal.getsignal(signal.SIGALRM) is before


@pytest.mark.parametrize("name", ["math", "math500"])
def test_benchmark(make_benchmark, ask, name):
    benchmark = make_benchmark(name, test=ROWS)
    said = {"A half?": r"It is $\boxed{0.5}$", "Solve.": r"$x = 5$"}
    asked = ask(benchmark, lambda r: next(said[q] for q in said if q in r.args[0]))
    assert asked.card.metrics == {"exact_match": 0.5}
    prompt, options = asked.requests[0].args
    text = "Solve the following problem. Write the final answer in \\boxed{}.\n\nProblem: A half?"
    assert prompt.endswith(f"### Instruction:\n{text}\n\nSolution:\n\n### Response:\n")
    assert options["until"] == ["Problem:"] and options["max_gen_toks"] == 1024
    from alps.evals.harness.samples import rescore

    assert rescore(benchmark, asked.folder) == asked.card.metrics


def test_sets_of_another_size_have_another_name(make_benchmark):
    sizes = {n: make_benchmark(n).splits["test"].num_rows for n in ("math", "math500")}
    assert sizes == {"math": 5000, "math500": 500}


def test_documents_without_a_box_are_refused_before_anything_is_asked(make_benchmark, ask):
    benchmark = make_benchmark("math", test=[ROWS[0], {"problem": "P", "solution": "5"}])
    with pytest.raises(ValueError, match="has no"):
        ask(benchmark, lambda request: pytest.fail("was asked"))
