"""Rows of UltraChat: dialogues of a user and an assistant, who take turns."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from alps.data.example import Example
from alps.data.sources.table import Row, UnusableRow

VERSION = 1


def read(row: Row, turns: Literal["first", "all"] = "first") -> Iterator[Example]:
    """The first exchange, or one example for each answer of the assistant.

    An example has one instruction. With all turns, that of a later answer is the conversation
    before it, written plainly, so every answer is learned once and in its context. All examples
    of a dialogue lie in the same split.

    Args:
        row: One row.
        turns: `first` or `all`.
    """
    before: list[str] = []
    for asked, answered in _exchanges(row["messages"]):
        instruction = asked if not before else "\n\n".join([*before, f"User: {asked}"])
        yield Example(instruction=instruction, answer=answered)
        if turns == "first":
            return
        before += [f"User: {asked}", f"Assistant: {answered}"]


def _exchanges(messages: Any) -> Iterator[tuple[str, str]]:
    """Pairs of question and answer; a question at the end that nobody answers is left out."""
    if not isinstance(messages, Sequence) or not all(isinstance(m, dict) for m in messages):
        raise UnusableRow("has a field 'messages' that is no list of messages")
    said = [(Row(m).text("role"), Row(m).text("content")) for m in messages]
    for i, (role, _) in enumerate(said):
        expected = ("user", "assistant")[i % 2]
        if role != expected:
            raise UnusableRow(f"has message {i + 1} from '{role}' where '{expected}' should speak")
    questions, answers = said[::2], said[1::2]
    yield from ((q, a) for (_, q), (_, a) in zip(questions, answers, strict=False))
