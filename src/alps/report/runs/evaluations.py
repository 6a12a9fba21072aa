"""The evaluations of one model on the terminal: protocol, documents, scores and uncertainty."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from alps.report.style import DASH
from alps.report.text_tables import terminal, terminal_table
from alps.runs.completion import EvaluationFolder
from alps.runs.evaluation import Evaluation, read_evaluation

HEADINGS = (
    "benchmark", "protocol", "n", "metric", "score", "95 % interval", "stderr", "seconds",
    "tokens/s",
)  # fmt: skip
LEFT = ("benchmark", "protocol", "metric")


def print_evaluations(places: Sequence[EvaluationFolder]) -> None:
    """Prints a line for each metric of each benchmark, and the folders of the samples."""
    asked = [(place.folder, b) for place in places for b in place.evals.allowed]
    found = [read_evaluation(folder, b.name, b.protocol) for folder, b in asked]
    rows = [line for evaluation in found if evaluation for line in lines(evaluation)]
    console = terminal(120)
    console.print(terminal_table(HEADINGS, LEFT, rows))
    folders = ", ".join(str(place.folder.path / "evals") for place in places)
    console.print(f"scores, samples and answers: {folders or 'none'}", soft_wrap=True)


def lines(evaluation: Evaluation) -> Iterator[list[str]]:
    """A line for each metric; the first also has what all metrics share."""
    speed = evaluation.generation.get("tokens_per_second")
    naming = [evaluation.name, evaluation.protocol, str(evaluation.num_documents)]
    costs = [f"{evaluation.seconds:.0f}", f"{speed:.0f}" if speed else DASH]
    for metric, value in evaluation.metrics.items():
        found = evaluation.uncertainty.get(metric)
        interval = f"{found['low']:.3f} to {found['high']:.3f}" if found else DASH
        stderr = f"{found['stderr']:.3f}" if found else DASH
        yield [*naming, metric, f"{value:.3f}", interval, stderr, *costs]
        naming, costs = ["", "", ""], ["", ""]
