"""A dataset on the terminal: sizes and lengths, then samples in the prompt template."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from alps.report.text_tables import terminal_table

if TYPE_CHECKING:
    from alps.data.describe import Description


def print_data(found: Description, quantiles: tuple[float, ...]) -> None:
    """Prints sizes, lengths, omitted examples, and samples with their answers in bold."""
    console = Console()
    console.print(Text(f"{found.name} ({found.fingerprint[:60]})", style="bold"))
    console.print(
        f"{found.num_rows:,} rows, {found.num_tokens:,} tokens, template {found.template}, at most "
        f"{found.max_length} tokens a row",
        highlight=False,
    )
    share = found.num_truncated / found.num_rows
    console.print(f"cut: {found.num_truncated:,} rows ({share:.1%})", highlight=False)
    left_out = ", ".join(f"{n:,} {why}" for why, n in found.left_out.items()) or "none"
    console.print(f"left out: {left_out}\n", highlight=False)
    lengths = [["row", *map(str, found.lengths)], ["answer", *map(str, found.answers)]]
    console.print(terminal_table(["tokens", *map(_name, quantiles)], ("tokens",), lengths))
    for prompt, answer in found.samples:
        console.rule(style="dim")
        console.print(Text.assemble(prompt, (answer, "bold green")))


def _name(share: float) -> str:
    words = {0.0: "least", 0.5: "median", 1.0: "most"}
    return words.get(share, f"{share:.0%}")
