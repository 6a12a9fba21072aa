"""UltraChat: dialogues with alternating turns of user and assistant."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from alps.data.example import Example
from alps.data.sources.table import InvalidRow, Row

VERSION = 1


def read(row: Row, turns: Literal["first", "all"] = "first") -> Iterator[Example]:
    """The first exchange, or one example for each answer of the assistant.

    With all turns, the instruction of a later answer is the conversation before it as text, so the
    loss sees every answer once, in context. All examples of a dialogue belong to the same split.

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
    """Pairs of question and answer, without an unanswered last question."""
    if not isinstance(messages, Sequence) or not all(isinstance(m, dict) for m in messages):
        raise InvalidRow("has a field 'messages' that is no list of messages")
    said = [(Row(m).text("role"), Row(m).text("content")) for m in messages]
    for i, (role, _) in enumerate(said):
        expected = ("user", "assistant")[i % 2]
        if role != expected:
            raise InvalidRow(f"has message {i + 1} from '{role}' where '{expected}' should speak")
    questions, answers = said[::2], said[1::2]
    yield from ((q, a) for (_, q), (_, a) in zip(questions, answers, strict=False))
