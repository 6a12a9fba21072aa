from alps.data.describe import QUANTILES, Description
from alps.report.runs.data_summary import print_data


def test_numbers_and_samples_are_printed(capsys):
    found = Description(
        name="rows", fingerprint="f" * 64, template="alpaca", max_length=512, num_rows=1000,
        num_tokens=123456, num_truncated=25, left_out={"empty answer": 3, "too long": 1},
        lengths=[9, 20, 30, 40, 50, 60, 70, 512], answers=[1, 2, 3, 4, 5, 6, 7, 8],
        samples=[("[bold]a question\n", "[/x] an answer</s>")],
    )  # fmt: skip
    print_data(found, QUANTILES)
    shown = capsys.readouterr().out
    for text in ("1,000 rows", "123,456 tokens", "cut: 25 rows (2.5%)", "3 empty answer", "512"):
        assert text in shown
    assert "[bold]a question" in shown and "[/x] an answer</s>" in shown, "rows are no markup"
