"""What benchmarks said of one model: protocol, documents, scores and how sure they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from alps.report.style import DASH
from alps.runs.completion import EvaluationFolder
from alps.runs.evaluation import Evaluation, read_evaluation


def print_evaluations(places: Sequence[EvaluationFolder]) -> None:
    """Prints one line for each metric of the benchmarks, and where their samples are."""
    from rich.console import Console
    from rich.table import Table

    grid = Table(show_edge=False, pad_edge=False)
    for name, justify in COLUMNS.items():
        grid.add_column(name, justify="right" if justify else "left", no_wrap=True)
    asked = [(place.folder, b) for place in places for b in place.evals.allowed]
    found = [read_evaluation(folder, b.name, b.protocol) for folder, b in asked]
    for line in (line for evaluation in found if evaluation for line in lines(evaluation)):
        grid.add_row(*line)
    console = Console()
    console.width = max(console.width, 120) if not console.is_terminal else console.width
    console.print(grid)
    where = ", ".join(str(place.folder.path / "evals") for place in places)
    console.print(f"scores, samples and answers: {where or 'none'}", soft_wrap=True)


COLUMNS = {
    "benchmark": False, "protocol": False, "n": True, "metric": False, "score": True,
    "95 % interval": True, "stderr": True, "seconds": True, "tokens/s": True,
}  # fmt: skip
"""Name -> whether it holds numbers."""


def lines(evaluation: Evaluation) -> Iterator[list[str]]:
    """One for each metric; what belongs to all of them stands in the first."""
    speed = evaluation.generation.get("tokens_per_second")
    naming = [evaluation.name, evaluation.protocol, str(evaluation.num_documents)]
    costs = [f"{evaluation.seconds:.0f}", f"{speed:.0f}" if speed else DASH]
    for metric, value in evaluation.metrics.items():
        sure = evaluation.uncertainty.get(metric)
        interval = f"{sure['low']:.3f} to {sure['high']:.3f}" if sure else DASH
        stderr = f"{sure['stderr']:.3f}" if sure else DASH
        yield [*naming, metric, f"{value:.3f}", interval, stderr, *costs]
        naming, costs = ["", "", ""], ["", ""]
