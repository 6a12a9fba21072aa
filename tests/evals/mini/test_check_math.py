import subprocess
import sys

import pytest

from alps.evals.mini.check_math import exact_match


@pytest.mark.parametrize(
    "completion",
    [
        "3 * 6 = 18\n#### 18",
        "####18",
        "#### 18.",
        "#### 18.0",
        "#### 18.00.",
        "#### $18",
        "#### 18 dollars",
        "#### 18, as asked",
        "#### 18\n\n### Instruction:\nAnother one",
        "#### 5\nNo, wait.\n#### 18",
        "##### 18",
    ],
)
def test_the_right_number_after_the_last_mark_counts(completion):
    assert exact_match(completion, {"answer": "18"})


@pytest.mark.parametrize(
    "completion",
    [
        "",
        "18",
        "The answer is 18.",
        "### 18",
        "####",
        "#### eighteen",
        "#### -18",
        "#### 18.5",
        "#### 181",
        "#### 1,8",
        "#### 18,0",
        "####\n18",
        "#### 18\n#### 5",
        "#### 18\n#### none",
    ],
)
def test_anything_else_is_wrong(completion):
    assert not exact_match(completion, {"answer": "18"})


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("#### 1,200", "1200"),
        ("#### $1,234,567.0", "1234567"),
        ("#### 1200", "1,200"),
        ("#### -3", "-3"),
        ("#### -$3", "-3"),
        ("#### $-3", "-3"),
        ("#### 2.50", "2.5"),
    ],
)
def test_commas_signs_and_decimals(completion, answer):
    assert exact_match(completion, {"answer": answer})


def test_scorers_do_not_import_torch():
    code = (
        "import sys, alps.evals.mini.check_math, alps.evals.mini.check_general\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
